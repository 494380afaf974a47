"""What the processes of the bus and of the drivers are built with: signals, the collector, outcomes."""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
from types import TracebackType
from typing import Any, Final, Protocol, Self

from ndisbus.driver.base import Driver, MiniportDriver, ProtocolDriver
from ndisbus.errors import ChimneyError

__all__ = ["BugChecked", "HasFileno", "HelloRefused", "StopSignals", "kind_of", "tune_gc"]

_STOP: Final = (signal.SIGTERM, signal.SIGINT)


class HasFileno(Protocol):
    """A socket, a file."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...


class BugChecked(ChimneyError):
    """The bus cut this driver off: it broke a rule. ``report`` says where (BugCheck.to_wire)."""

    def __init__(self, report: dict[str, Any], text: str) -> None:
        super().__init__(text)
        self.report = report


class HelloRefused(ChimneyError):
    """The bus did not let this driver in: its name is taken, or the versions differ."""


class StopSignals:
    """SIGTERM and SIGINT as something to poll for; a context manager, for the main thread.

    A loop that polls :attr:`receiver` cannot miss a signal that arrives just before it waits.
    """

    def __init__(self) -> None:
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)

    def __enter__(self) -> Self:
        self._fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        self._before = {s: signal.signal(s, lambda *_: None) for s in _STOP}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for s, handler in self._before.items():
            signal.signal(s, handler)
        signal.set_wakeup_fd(self._fd)
        self.receiver.close()
        self._sender.close()

    def arrived(self) -> bool:
        """Whether a stop signal came since the last time."""
        with contextlib.suppress(BlockingIOError):
            return any(number in _STOP for number in self.receiver.recv(4096))
        return False


def tune_gc() -> None:
    """Make the collector of cycles rare, and keep what is loaded by now out of its way.

    Messages are trees: reference counts free them, and a list of 100,000 blocks is not walked again
    and again while it is being built.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def kind_of(driver: Driver) -> str:
    """Which edges a driver has, in the word that its hello and ``ndisbus ps`` use."""
    edges = isinstance(driver, MiniportDriver), isinstance(driver, ProtocolDriver)
    return {(True, True): "intermediate", (True, False): "miniport", (False, True): "protocol"}.get(
        edges, "none"
    )
