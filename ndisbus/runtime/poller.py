"""What a loop waits with, and what it waits for."""

from __future__ import annotations

from typing import Protocol

__all__ = ["HasFileno", "Poller"]


class HasFileno(Protocol):
    """A socket, a file."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...


class Poller(Protocol):
    """What waits for descriptors: ``select.poll``, or the event loop of the owner."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Watch a descriptor."""

    def unregister(self, fd: int, /) -> None:
        """Stop watching it."""

    def poll(self, timeout: float | None, /) -> list[tuple[int, int]]:
        """The descriptors that are ready, and for what, after ``timeout`` milliseconds at most."""
