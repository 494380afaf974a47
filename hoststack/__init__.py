"""The host stack: connections, the chimney switch, and a Python API for hosts of one's own.

:class:`LiveHost` is the blocking API with sockets, :class:`Host` the one without a network;
:class:`NetHost` and :class:`HostDriver` are the same without I/O, for simulations and for people who have a
loop already. :mod:`hoststack.events` are what a host is told, :mod:`hoststack.synthetic` makes connections to
play with, :mod:`hoststack.sockets` has the sockets. Page "tcp-chimney-architecture.md".
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hoststack import events, synthetic
from hoststack.api import Host, HostTimeout
from hoststack.driver import HostDriver
from hoststack.life import State
from hoststack.objects import ConnectionState, Neighbor, Path, StateObject, Tcb
from hoststack.operation import Operation
from hoststack.runners import Runner, SimulationRunner

if TYPE_CHECKING:
    from hoststack.live import LiveHost
    from hoststack.nethost import NetHost

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
_LATER = {"LiveHost": "hoststack.live", "NetHost": "hoststack.nethost"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _LATER:
            return getattr(import_module(_LATER[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
