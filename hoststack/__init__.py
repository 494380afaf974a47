"""The host stack: connections, the chimney switch, and a Python API for hosts of one's own.

:class:`LiveHost` is the blocking API with sockets, :class:`Host` the one without a network;
:class:`NetHost` and :class:`HostDriver` are the same without I/O, for simulations and for people who have a
loop already. :mod:`hoststack.events` are what a host is told, :mod:`hoststack.synthetic` makes connections to
play with, :mod:`hoststack.sockets` has the sockets. Page "tcp-chimney-architecture.md".
"""

from __future__ import annotations

from hoststack import events, synthetic
from hoststack.api import Host, HostTimeout
from hoststack.driver import HostDriver
from hoststack.life import State
from hoststack.live import LiveHost
from hoststack.nethost import NetHost
from hoststack.objects import ConnectionState, Neighbor, Path, StateObject, Tcb
from hoststack.operation import Operation
from hoststack.runners import Runner, SimulationRunner

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
