"""The sender's scoreboard: what the remote end holds beyond SndUna (RFC 2018), for recovery (RFC 6675)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final

__all__ = ["MAX_RANGES", "Scoreboard"]

MAX_RANGES: Final = 256
"""Most separate ranges that are kept. What is not on the board counts as not received."""


class Scoreboard:
    """Ranges that the remote end has reported, and how far this recovery has retransmitted.

    Arguments and results are 32-bit sequence numbers. Inside, numbers are unrolled: they count on from SndUna
    without wrapping, so that ranges can be sorted.
    """

    __slots__ = ("_high_rxt", "_left", "_point", "_rescue", "_right", "_una", "sacked")

    def __init__(self) -> None:
        self._una = 0  # SndUna of the last call, unrolled
        self._left: list[int] = []
        self._right: list[int] = []
        self._high_rxt = 0  # RFC 6675 HighRxt + 1: the first byte not retransmitted in this recovery
        self._rescue = -1  # RFC 6675 RescueRxt + 1; -1: undefined
        self._point = 0  # RFC 6675 RecoveryPoint + 1
        self.sacked = 0
        """Number of bytes reported beyond SndUna."""

    def __bool__(self) -> bool:
        return bool(self._left)

    def ranges(self) -> list[tuple[int, int]]:
        """Return what the remote end holds as (left, right), ascending from SndUna."""
        return [(a & 0xFFFFFFFF, b & 0xFFFFFFFF) for a, b in zip(self._left, self._right, strict=True)]

    def clear(self) -> None:
        """Forget everything: the remote end may have reneged (RFC 2018 8: after a retransmission timeout)."""
        self._left.clear()
        self._right.clear()
        self.sacked = 0
        self._rescue = -1
        self._high_rxt = self._una

    def update(self, blocks: Iterable[tuple[int, int]], snd_una: int, snd_max: int) -> int:
        """Enter an ACK: the current SndUna, and the blocks of its SACK option.

        Returns the number of new bytes. Blocks that are empty, reversed, or not within SndUna..SndMax are
        ignored (a D-SACK, RFC 2883, reports bytes below).
        """
        una = self._advance(snd_una)
        limit = una + ((snd_max - una) & 0xFFFFFFFF)
        new = 0
        for left, right in blocks:
            a = una + ((left - una) & 0xFFFFFFFF)
            b = a + ((right - left) & 0xFFFFFFFF)
            if a < b <= limit:
                new += self._insert(a, b)
        self.sacked += new
        return new

    def enter_recovery(self, snd_una: int, snd_max: int) -> None:
        """Begin a recovery: nothing has been retransmitted in it."""
        una = self._high_rxt = self._advance(snd_una)
        self._point = una + ((snd_max - una) & 0xFFFFFFFF)
        self._rescue = -1

    def fast_retransmitted(self, seq: int, size: int) -> None:
        """Record the first retransmission of a recovery, RFC 6675 5 (4.3).

        RescueRxt is set as well: the rescue must not come before this segment can be acknowledged.
        """
        self._high_rxt = self._rescue = self._unrolled(seq) + size

    def is_lost(self, seq: int, mss: int, threshold: int) -> bool:
        """IsLost: return whether enough arrived beyond ``seq``, which is missing, to count it as lost."""
        return self._unrolled(seq) < self._lost_edge(mss, threshold)

    def set_pipe(self, snd_una: int, snd_max: int, mss: int, threshold: int) -> int:
        """SetPipe: estimate and return the number of bytes that are in the network now."""
        una = self._advance(snd_una)
        limit = una + ((snd_max - una) & 0xFFFFFFFF)
        edge = self._lost_edge(mss, threshold)
        pipe = limit - edge - self._sacked_between(edge, limit)
        if self._high_rxt > una:
            pipe += self._high_rxt - una - self._sacked_between(una, self._high_rxt)
        return pipe

    def next_segment(
        self, snd_una: int, snd_max: int, mss: int, threshold: int, new_data: int
    ) -> tuple[int, int, int] | None:
        """NextSeg: return what to send next, or None.

        The result is (sequence number, most bytes, rule 1..4 of RFC 6675 4). ``new_data``: the bytes beyond
        SndMax that exist and that SndWnd allows. Rule 2 sends those, the others retransmit. Report what is
        sent to :meth:`retransmitted`.
        """
        una = self._advance(snd_una)
        limit = una + ((snd_max - una) & 0xFFFFFFFF)
        rights = self._right
        start, end = self._hole(self._high_rxt, limit)
        highest = rights[-1] if rights else una
        if start < highest:
            size = min(mss, end - start)
            if start < self._lost_edge(mss, threshold):
                return start & 0xFFFFFFFF, size, 1
            if new_data > 0:
                return snd_max, min(mss, new_data), 2
            return start & 0xFFFFFFFF, size, 3
        if new_data > 0:
            return snd_max, min(mss, new_data), 2
        if una <= self._rescue:
            return None
        # The last hole: everything beyond the highest SACK was never reported.
        end = limit
        floor = highest
        if rights and highest == limit:
            end = self._left[-1]
            floor = rights[-2] if len(rights) > 1 else una
        start = max(end - mss, floor)
        return (start & 0xFFFFFFFF, end - start, 4) if start < end else None

    def retransmitted(self, seq: int, size: int, rule: int = 1) -> None:
        """Record that ``size`` bytes from ``seq`` were sent again, by that rule of :meth:`next_segment`."""
        if rule == 4:
            self._rescue = self._point
        elif rule != 2:
            end = self._unrolled(seq) + size
            if end > self._high_rxt:
                self._high_rxt = end

    def hole(self, seq: int, snd_max: int) -> tuple[int, int]:
        """Return the first missing bytes from ``seq`` on as (sequence number, size)."""
        start = self._unrolled(seq)
        start, end = self._hole(start, start + ((snd_max - start) & 0xFFFFFFFF))
        return start & 0xFFFFFFFF, end - start

    def sacked_before(self, seq: int) -> int:
        """Return the number of reported bytes before ``seq``."""
        return self._sacked_between(self._una, self._unrolled(seq))

    def _unrolled(self, seq: int) -> int:
        una = self._una
        return una + ((seq - una + 0x80000000) & 0xFFFFFFFF) - 0x80000000

    def _advance(self, snd_una: int) -> int:
        una = self._una
        ahead = (snd_una - una) & 0xFFFFFFFF
        if not ahead:
            return una
        una = self._una = una + ahead
        if self._high_rxt < una:
            self._high_rxt = una
        lefts = self._left
        if lefts and lefts[0] < una:
            rights = self._right
            gone = bisect_right(rights, una)
            for i in range(gone):
                self.sacked -= rights[i] - lefts[i]
            del lefts[:gone], rights[:gone]
            if lefts and lefts[0] < una:
                self.sacked -= una - lefts[0]
                lefts[0] = una
        return una

    def _insert(self, a: int, b: int) -> int:
        lefts = self._left
        rights = self._right
        # The ranges i..j-1 touch or overlap the new one.
        i = bisect_left(rights, a)
        j = bisect_right(lefts, b)
        if i == j:
            if len(lefts) >= MAX_RANGES:
                return 0
            lefts.insert(i, a)
            rights.insert(i, b)
            return b - a
        old = rights[i] - lefts[i]
        if j - i > 1:
            for k in range(i + 1, j):
                old += rights[k] - lefts[k]
        if lefts[i] < a:
            a = lefts[i]
        if rights[j - 1] > b:
            b = rights[j - 1]
        lefts[i] = a
        rights[i] = b
        if j - i > 1:
            del lefts[i + 1 : j], rights[i + 1 : j]
        return b - a - old

    def _lost_edge(self, mss: int, threshold: int) -> int:
        """Return the edge before which every byte that is not on the board is lost; SndUna if none is."""
        lefts = self._left
        rights = self._right
        enough = (threshold - 1) * mss
        few = len(lefts) - threshold  # the range of this index begins the last ``threshold`` ranges
        size = 0
        for i in range(len(lefts) - 1, -1, -1):
            size += rights[i] - lefts[i]
            if i <= few or size > enough:
                return lefts[i]
        return self._una

    def _sacked_between(self, a: int, b: int) -> int:
        lefts = self._left
        rights = self._right
        size = 0
        for i in range(bisect_right(rights, a), bisect_left(lefts, b)):
            left = lefts[i]
            right = rights[i]
            size += (right if right < b else b) - (left if left > a else a)
        return size

    def _hole(self, start: int, limit: int) -> tuple[int, int]:
        lefts = self._left
        i = bisect_right(lefts, start)
        if i and self._right[i - 1] > start:
            start = self._right[i - 1]
        return start, (lefts[i] if i < len(lefts) else limit)
