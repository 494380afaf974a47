"""The interfaces of what a loop waits with, and of what it waits for."""

from __future__ import annotations

from typing import Protocol

__all__ = ["HasFileno", "Poller"]


class HasFileno(Protocol):
    """An object with a descriptor, such as a socket or a file."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


class Poller(Protocol):
    """Waits for descriptors: ``select.poll``, or the event loop of the owner."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Watch a descriptor."""

    def unregister(self, fd: int, /) -> None:
        """Stop watching a descriptor."""

    def poll(self, timeout: float | None, /) -> list[tuple[int, int]]:
        """Return (descriptor, events) of the ready ones, after at most ``timeout`` milliseconds."""
