"""The host stack: connections, the chimney switch, and the Python API for hosts of one's own.

:class:`LiveHost` is a host with a network: it connects and listens, and moves connections to the adapter and
back. :class:`Host` offers the operations of the chimney on state objects that a program makes up.
:class:`NetHost` and :class:`HostDriver` are the drivers behind them, sans-I/O. ``events`` has what a host is
told, ``synthetic`` makes state objects to play with. DDI page tcp-chimney-architecture.
"""

from __future__ import annotations

from importlib import import_module

from ndisbus import __version__

# Type checkers take it for true. To import typing would take longer than all the rest of this module.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from hoststack.api.errors import HostClosed, HostForked, HostTimeout
    from hoststack.api.host import Host
    from hoststack.api.live import LiveHost
    from hoststack.api.runners import Runner, SimulationRunner
    from hoststack.api.sockets import SHUT_RD, SHUT_RDWR, SHUT_WR, Connection, Server
    from hoststack.chimney.driver import HostDriver
    from hoststack.live.nethost import NetHost
    from hoststack.model import events, synthetic
    from hoststack.model.life import State
    from hoststack.model.objects import ConnectionState, Neighbor, StateObject, Tcb
    from hoststack.model.operation import Operation
    from hoststack.net.errors import (
        AddressConflict,
        AddressInUse,
        BrokenPipe,
        ConnectionAborted,
        ConnectionRefused,
        ConnectionReset,
        ConnectionTimedOut,
        NotConnected,
        SocketError,
        SocketTimeout,
        Unreachable,
        WouldBlock,
    )
    from hoststack.net.options import SocketOptions
    from ndisbus.errors import BusUnavailable, ChimneyError, IllegalTransition, LocalProtocolError
    from ndisbus.runtime.outcomes import BugChecked, HelloRefused

__all__ = [
    "SHUT_RD",
    "SHUT_RDWR",
    "SHUT_WR",
    "AddressConflict",
    "AddressInUse",
    "BrokenPipe",
    "BugChecked",
    "BusUnavailable",
    "ChimneyError",
    "Connection",
    "ConnectionAborted",
    "ConnectionRefused",
    "ConnectionReset",
    "ConnectionState",
    "ConnectionTimedOut",
    "HelloRefused",
    "Host",
    "HostClosed",
    "HostDriver",
    "HostForked",
    "HostTimeout",
    "IllegalTransition",
    "LiveHost",
    "LocalProtocolError",
    "Neighbor",
    "NetHost",
    "NotConnected",
    "Operation",
    "Runner",
    "Server",
    "SimulationRunner",
    "SocketError",
    "SocketOptions",
    "SocketTimeout",
    "State",
    "StateObject",
    "Tcb",
    "Unreachable",
    "WouldBlock",
    "__version__",
    "events",
    "synthetic",
]

#: What is imported when it is asked for, by module. Importing the package takes no time, so an interrupt
#: while a command starts meets :mod:`ndisbus.cli.entry`, and nothing is loaded that a program does not use.
_EXPORTS = {
    "hoststack.api.errors": ("HostClosed", "HostForked", "HostTimeout"),
    "hoststack.api.host": ("Host",),
    "hoststack.api.live": ("LiveHost",),
    "hoststack.api.runners": ("Runner", "SimulationRunner"),
    "hoststack.api.sockets": ("SHUT_RD", "SHUT_RDWR", "SHUT_WR", "Connection", "Server"),
    "hoststack.chimney.driver": ("HostDriver",),
    "hoststack.live.nethost": ("NetHost",),
    "hoststack.model.life": ("State",),
    "hoststack.model.objects": ("ConnectionState", "Neighbor", "StateObject", "Tcb"),
    "hoststack.model.operation": ("Operation",),
    "hoststack.net.errors": (
        "AddressConflict",
        "AddressInUse",
        "BrokenPipe",
        "ConnectionAborted",
        "ConnectionRefused",
        "ConnectionReset",
        "ConnectionTimedOut",
        "NotConnected",
        "SocketError",
        "SocketTimeout",
        "Unreachable",
        "WouldBlock",
    ),
    "hoststack.net.options": ("SocketOptions",),
    "ndisbus.errors": ("BusUnavailable", "ChimneyError", "IllegalTransition", "LocalProtocolError"),
    "ndisbus.runtime.outcomes": ("BugChecked", "HelloRefused"),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}
_MODULES = {"events": "hoststack.model.events", "synthetic": "hoststack.model.synthetic"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(_MODULES[name])
        if name in _MODULE_OF:
            return getattr(import_module(_MODULE_OF[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
