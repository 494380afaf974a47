"""A stack and what runs it: the calls of applications that begin a connection.

The same code runs on a remote host's loop, in the process of a host driver and in the simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from hoststack.api import socket_scripts as scripts
from hoststack.api.arguments import check_address, check_source
from hoststack.api.scripts import Script, drive, once, until
from hoststack.api.sockets import Connection, Server, check_timeout
from hoststack.net.options import DEFAULT_OPTIONS, SocketOptions

if TYPE_CHECKING:
    from hoststack.model.operation import Operation
    from hoststack.net.stack import NetStack

__all__ = ["DEFAULT", "DEFAULT_TIMEOUT", "Chimney", "Default", "Network", "PollingRunner", "SocketRunner"]

T = TypeVar("T")


class Default:
    """The type of :data:`DEFAULT`."""

    def __repr__(self) -> str:
        return "DEFAULT"


#: A timeout that was not given. ``None`` means to wait without limit, as in ``socket.create_connection``.
DEFAULT: Final = Default()
#: Seconds that a wait lasts at most, unless an application says otherwise.
DEFAULT_TIMEOUT: Final = 30.0


class SocketRunner(Protocol):
    """Runs scripts on a stack: :class:`hoststack.api.runners.Runner` does."""

    def run(self, script: Script[T]) -> T:
        """Run a script to its end and return its result."""
        ...

    def now(self) -> float:
        """The clock by which the stack is driven, in seconds."""
        ...


class PollingRunner:
    """A :class:`SocketRunner` for a loop that can run until a condition holds."""

    def run_until(self, done: Callable[[], object], timeout: float) -> bool:
        """Serve the stack until ``done()`` or for ``timeout`` seconds; whether it holds in the end."""
        raise NotImplementedError

    def run(self, script: Script[T]) -> T:
        """See :class:`SocketRunner`."""
        return drive(script, self.run_until)


class Chimney(Protocol):
    """What connections need to be offloaded: :class:`hoststack.api.live.LiveHost` has it."""

    def offload(
        self, connections: Sequence[Connection], *, wait: bool = True, timeout: float | None = None
    ) -> Operation: ...

    def upload(
        self, connections: Sequence[Connection], *, wait: bool = True, timeout: float | None = None
    ) -> Operation: ...

    def query(
        self, connections: Sequence[Connection], classes: str = "delegated", *, timeout: float | None = None
    ) -> Operation: ...


class Network:
    """A stack and what runs it. ``timeout``: seconds that waits last at most, unless told otherwise.

    ``chimney`` is what connections are offloaded by; a remote host has none.
    """

    def __init__(
        self,
        stack: NetStack,
        runner: SocketRunner,
        *,
        timeout: float | None = DEFAULT_TIMEOUT,
        chimney: Chimney | None = None,
    ) -> None:
        self.stack = stack
        self.runner = runner
        self.timeout = timeout
        self.chimney = chimney

    def run(self, script: Script[T]) -> T:
        """Run a script on the stack."""
        return self.runner.run(scripts.served(self.stack, self.runner.now, script))

    def act(self, action: Callable[[], T]) -> T:
        """Do something on the stack at once; what it sends goes out."""
        return self.run(once(action))

    def wait(self, done: Callable[[], object], timeout: float | None) -> bool:
        """Serve the stack until a condition holds or the time is over; whether it holds."""
        return self.run(until(done, timeout))

    def limit(self, timeout: float | Default | None) -> float | None:
        """The seconds that a given timeout means. Raises ValueError if they are below 0."""
        seconds = self.timeout if isinstance(timeout, Default) else timeout
        return check_timeout(seconds)

    def connect(
        self,
        address: tuple[str, int],
        *,
        source_address: tuple[str | None, int] | None = None,
        options: SocketOptions = DEFAULT_OPTIONS,
        timeout: float | Default | None = DEFAULT,
    ) -> Connection:
        """Connect to an address and port, as ``socket.create_connection`` does.

        Raises :class:`ConnectionRefused`, :class:`ConnectionTimedOut`, :class:`Unreachable`;
        :class:`SocketTimeout` after ``timeout`` seconds, when the attempt is given up; TypeError for an
        address that is not a tuple of host and port.
        """
        limit = self.limit(timeout)
        remote, local = check_address(address), check_source(source_address)
        socket = self.run(scripts.connect(self.stack, remote, local, options, limit))
        return Connection(self, socket, limit)

    def listen(
        self,
        address: tuple[str | None, int],
        *,
        backlog: int = 128,
        options: SocketOptions = DEFAULT_OPTIONS,
        timeout: float | Default | None = DEFAULT,
    ) -> Server:
        """Listen on an address and port, as ``socket.create_server`` does. Raises :class:`AddressInUse`.

        The address ``""`` or None means all addresses, ``0.0.0.0`` and ``::`` all of their family; port 0
        means any free one.
        """
        limit = self.limit(timeout)
        host, port = check_address(address)
        listener = self.act(lambda: self.stack.tcp_listen(host or None, port, backlog, options))
        return Server(self, listener, limit)

    def ping(self, destination: str, *, size: int = 56, timeout: float | Default | None = DEFAULT) -> float:
        """Round trip of one echo, in seconds. Raises :class:`Unreachable` or :class:`SocketTimeout`."""
        return self.run(scripts.ping(self.stack, destination, size, self.limit(timeout)))
