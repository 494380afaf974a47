"""The two queues of a connection: bytes not acknowledged, bytes not read. Empty ones use little memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

__all__ = ["ReceiveBuffer", "SendBuffer"]

_COMPACT: Final = 64
"""Number of used pieces at the front of a list before they are removed."""

_NOTHING: Final[list[bytes]] = []
_NOWHERE: Final[list[int]] = []
"""The lists of every empty buffer. They stay empty: the first piece gets a list of its own."""


class SendBuffer:
    """Bytes from SndUna on, in the pieces in which they were given. Each piece ends with a PSH."""

    __slots__ = ("_base", "_ends", "_first", "_pieces")

    def __init__(self, pieces: Iterable[bytes] = ()) -> None:
        self._pieces: list[bytes] = _NOTHING
        # The end of each piece, counted from the first byte ever appended. Ascending, so it can be searched.
        self._ends: list[int] = _NOWHERE
        self._first = 0  # index of the piece that holds SndUna
        self._base = 0  # position of SndUna, in the same count
        for piece in pieces:
            self.append(piece)

    def __len__(self) -> int:
        ends = self._ends
        return ends[-1] - self._base if ends else 0

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``. bytes are kept as they are, other buffers are copied."""
        size = len(data)
        if size:
            ends = self._ends
            if ends:
                ends.append(ends[-1] + size)
                self._pieces.append(bytes(data))
            else:
                self._ends = [self._base + size]
                self._pieces = [bytes(data)]

    def take(self, offset: int, size: int) -> tuple[bytes, bool]:
        """Return at most ``size`` bytes, ``offset`` bytes beyond SndUna. They stay queued until acked().

        The second value says whether a piece ends within them, so that they need PSH (R-SEND-05).
        """
        start = self._base + offset
        ends = self._ends
        i = bisect_right(ends, start, self._first)
        if i == len(ends) or size <= 0:
            return b"", False
        pieces = self._pieces
        piece = pieces[i]
        end = ends[i]
        at = start - end + len(piece)
        left = end - start
        if size <= left:
            return piece[at : at + size] if at or size < len(piece) else piece, size == left
        parts = [piece[at:] if at else piece]
        size -= left
        for i in range(i + 1, len(pieces)):  # noqa: B020
            piece = pieces[i]
            if size <= len(piece):
                parts.append(piece[:size])
                break
            parts.append(piece)
            size -= len(piece)
        return b"".join(parts), True

    def acked(self, n: int) -> None:
        """Drop ``n`` bytes from the front; ``n`` is 0..len(self)."""
        self._base = base = self._base + n
        ends = self._ends
        if not ends:
            return
        if base >= ends[-1]:
            self._ends = _NOWHERE
            self._pieces = _NOTHING
            self._first = 0
            return
        old = self._first
        first = self._first = bisect_right(ends, base, old)
        if first >= _COMPACT and 2 * first >= len(ends):
            del ends[:first]
            del self._pieces[:first]
            self._first = 0
            return
        pieces = self._pieces
        for i in range(old, first):
            pieces[i] = b""

    def pieces(self) -> list[bytes]:
        """Return all queued bytes in their pieces, without the bytes that are acknowledged."""
        result = self._pieces[self._first :]
        if result:
            gone = len(result[0]) - (self._ends[self._first] - self._base)
            if gone:
                result[0] = result[0][gone:]
        return result


class ReceiveBuffer:
    """Bytes received in order and not read yet."""

    __slots__ = ("_at", "_first", "_pieces", "_size")

    def __init__(self, pieces: Iterable[bytes] = ()) -> None:
        self._pieces: list[bytes] = _NOTHING
        self._first = 0  # index of the first piece with unread bytes
        self._at = 0  # position of the first unread byte in that piece
        self._size = 0
        for piece in pieces:
            self.append(piece)

    def __len__(self) -> int:
        return self._size

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``. bytes are kept as they are, other buffers are copied."""
        size = len(data)
        if size:
            if self._size:
                self._pieces.append(bytes(data))
            else:
                self._pieces = [bytes(data)]
            self._size += size

    def read(self, n: int | None = None) -> bytes:
        """Remove and return at most ``n`` bytes, or all."""
        size = self._size
        pieces = self._pieces
        if n is None or n >= size:
            if self._first or self._at:
                pieces = self.pieces()
                self._first = self._at = 0
            self._pieces = _NOTHING
            self._size = 0
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if n <= 0:
            return b""
        self._size = size - n
        first = self._first
        at = self._at
        parts = []
        while True:
            piece = pieces[first]
            left = len(piece) - at
            if n < left:
                parts.append(piece[at : at + n])
                at += n
                break
            parts.append(piece[at:] if at else piece)
            pieces[first] = b""
            first += 1
            at = 0
            n -= left
            if not n:
                break
        if first >= _COMPACT and 2 * first >= len(pieces):
            del pieces[:first]
            first = 0
        self._first = first
        self._at = at
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pieces(self) -> list[bytes]:
        """Return all unread bytes, without reading them."""
        result = self._pieces[self._first :]
        if self._at:
            result[0] = result[0][self._at :]
        return result
