"""Signals as something to poll for: the only way from a signal to a loop."""

from __future__ import annotations

import contextlib
import signal
import socket
from types import TracebackType
from typing import Final, Self

__all__ = ["STOP", "SignalPipe"]

#: The signals that ask a process to stop.
STOP: Final = (signal.SIGTERM, signal.SIGINT)


class SignalPipe:
    """Receives the signals ``wanted``. A context manager, for the main thread only.

    A loop that polls :attr:`receiver` cannot miss a signal that arrives just before it waits.
    """

    def __init__(self, *wanted: signal.Signals) -> None:
        self._wanted = wanted or STOP
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)

    def __enter__(self) -> Self:
        # A full socket wakes the loop as well, so no warning is needed.
        self._fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        self._before = {s: signal.signal(s, lambda *_: None) for s in self._wanted}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for s, handler in self._before.items():
            signal.signal(s, handler)
        signal.set_wakeup_fd(self._fd)
        self.receiver.close()
        self._sender.close()

    def arrived(self) -> list[signal.Signals]:
        """Return the wanted signals that arrived since the last call, in order."""
        with contextlib.suppress(BlockingIOError):
            return [s for n in self.receiver.recv(4096) if (s := signal.Signals(n)) in self._wanted]
        return []
