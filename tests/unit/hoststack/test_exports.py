"""What ``from hoststack import ...`` offers, and what ``import *`` must not do."""

from __future__ import annotations

import builtins
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files

import pytest

import hoststack
import ndisbus

#: Modules whose names people have in scope without a prefix.
COMMON = ("dataclasses", "enum", "io", "pathlib", "selectors", "socket", "threading", "typing")

NAMES = [
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


def test_the_public_names_are_these_and_exist() -> None:
    assert hoststack.__all__ == NAMES
    assert {n for n in NAMES if not hasattr(hoststack, n)} == set()
    assert set(NAMES) <= set(dir(hoststack))


def test_importing_everything_shadows_nothing_of_the_standard_library() -> None:
    # The three constants have the values of socket's.
    mine = set(hoststack.__all__) - {"SHUT_RD", "SHUT_WR", "SHUT_RDWR", "__version__"}
    assert mine & set(dir(builtins)) == set()
    assert mine & sys.stdlib_module_names == set()
    for module in COMMON:
        assert mine & set(dir(__import__(module))) == set(), module


def test_names_that_do_not_exist_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="Path"):
        hoststack.Path  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_one() -> None:
    assert hoststack.__version__ == ndisbus.__version__ == version("tcp-chimney")


@pytest.mark.parametrize("package", ["hoststack", "imdriver", "ndisbus", "target"])
def test_the_packages_are_typed(package: str) -> None:
    assert files(package).joinpath("py.typed").is_file()


def test_importing_hoststack_loads_neither_the_network_stack_nor_zeromq() -> None:
    code = "import sys, hoststack; print(*(m for m in ('zmq', 'hoststack.net.stack') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_errors_are_also_the_ones_that_socket_raises() -> None:
    for ours, theirs, number in (
        (hoststack.ConnectionRefused, ConnectionRefusedError, "ECONNREFUSED"),
        (hoststack.ConnectionReset, ConnectionResetError, "ECONNRESET"),
        (hoststack.ConnectionAborted, ConnectionAbortedError, "ECONNABORTED"),
        (hoststack.BrokenPipe, BrokenPipeError, "EPIPE"),
        (hoststack.ConnectionTimedOut, TimeoutError, "ETIMEDOUT"),
        (hoststack.SocketTimeout, TimeoutError, "ETIMEDOUT"),
        (hoststack.WouldBlock, BlockingIOError, "EAGAIN"),
        (hoststack.AddressConflict, OSError, "EADDRNOTAVAIL"),
        (hoststack.AddressInUse, OSError, "EADDRINUSE"),
        (hoststack.NotConnected, OSError, "ENOTCONN"),
        (hoststack.Unreachable, OSError, "EHOSTUNREACH"),
    ):
        error = ours("what went wrong")
        assert isinstance(error, theirs)
        assert isinstance(error, hoststack.SocketError)
        assert isinstance(error, hoststack.ChimneyError)
        assert error.errno == getattr(__import__("errno"), number)
        assert str(error) == "what went wrong"
    assert issubclass(hoststack.HostTimeout, TimeoutError)
