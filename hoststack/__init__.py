"""The host stack: connections, the chimney switch, and a Python API for hosts of one's own.

:class:`LiveHost` is the blocking API with sockets, :class:`Host` the one without a network;
:class:`NetHost` and :class:`HostDriver` are the same without I/O, for simulations and for people who have a
loop already. :mod:`hoststack.model.events` are what a host is told, :mod:`hoststack.model.synthetic` makes
connections to play with, :mod:`hoststack.api.sockets` has the sockets. Page "tcp-chimney-architecture.md".
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hoststack.api.host import Host, HostTimeout
from hoststack.api.runners import Runner, SimulationRunner
from hoststack.chimney.driver import HostDriver
from hoststack.model import events, synthetic
from hoststack.model.life import State
from hoststack.model.objects import ConnectionState, Neighbor, Path, StateObject, Tcb
from hoststack.model.operation import Operation

if TYPE_CHECKING:
    from hoststack.api.live import LiveHost
    from hoststack.live.nethost import NetHost

__all__ = [
    "ConnectionState",
    "Host",
    "HostDriver",
    "HostTimeout",
    "LiveHost",
    "Neighbor",
    "NetHost",
    "Operation",
    "Path",
    "Runner",
    "SimulationRunner",
    "State",
    "StateObject",
    "Tcb",
    "events",
    "synthetic",
]

#: Hosts with a network stack, which takes as long to import as all the rest: only for those who ask.
_LATER = {"LiveHost": "hoststack.api.live", "NetHost": "hoststack.live.nethost"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _LATER:
            return getattr(import_module(_LATER[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
