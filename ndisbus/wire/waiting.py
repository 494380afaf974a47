"""Senders that wait because a link takes no more frames for a station.

They keep what they have to send, instead of having it dropped. Each station has a line of its own. When the
link takes frames for it again, its senders have their turns, first come first served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["WaitingSenders"]

T = TypeVar("T")


class WaitingSenders(Generic[T]):
    """The senders by the station address that their frames are for. Each is in a line once."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[bytes, dict[T, None]] = {}

    def __len__(self) -> int:
        """Number of waiting senders."""
        return sum(map(len, self._lines.values()))

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, mac: bytes, sender: T) -> None:
        """Let a sender wait for a station. One that waits for it already keeps its place."""
        self._lines.setdefault(mac, {})[sender] = None

    def ready(self, takes: Callable[[bytes], bool]) -> bool:
        """Return whether a sender could have its turn."""
        return any(takes(mac) for mac in self._lines)

    def take(self, takes: Callable[[bytes], bool], limit: int) -> Iterator[T]:
        """Remove and return up to ``limit`` senders for whose stations the link ``takes`` frames.

        The link is asked before each. The stations come in turn. A sender that was returned may wait again.
        """
        left = limit
        open_lines = list(self._lines)
        while open_lines and left > 0:
            for mac in tuple(open_lines):
                line = self._lines.get(mac)
                if line is None or not takes(mac):
                    open_lines.remove(mac)
                    continue
                sender = next(iter(line))
                del line[sender]
                if not line:
                    del self._lines[mac]
                yield sender
                left -= 1
                if left <= 0:
                    return

    def clear(self) -> None:
        """Forget all senders."""
        self._lines.clear()
