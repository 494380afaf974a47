"""Out-of-order data, kept until the gap before it is filled (RFC 9293 3.10.7.4), and its SACK blocks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

__all__ = ["MAX_PIECES", "OutOfOrder"]

MAX_PIECES: Final = 1024
"""Most separate payloads that are kept, however small. The remote end sends the others again."""

_RECENT: Final = 8
"""Number of latest arrivals that are kept for the order of SACK blocks."""


class OutOfOrder:
    """Payloads beyond RcvNxt. Where two overlap, the bytes that came first stay.

    Arguments and results are 32-bit sequence numbers. Inside, numbers are unrolled: they count on from RcvNxt
    without wrapping. Runs of bytes without a gap are kept together, each with its payloads.
    """

    __slots__ = ("_base", "_count", "_fin", "_left", "_payloads", "_recent", "_right")

    def __init__(self) -> None:
        self._base = 0  # RcvNxt of the last call, unrolled
        self._left: list[int] = []
        self._right: list[int] = []
        self._payloads: list[list[bytes]] = []
        self._count = 0  # payloads in all runs
        self._fin: int | None = None  # unrolled sequence number of the remote end's FIN
        self._recent: list[int] = []  # one byte number of each of the latest arrivals, the latest first

    def __bool__(self) -> bool:
        return bool(self._left) or self._fin is not None

    def __len__(self) -> int:
        """Number of bytes held."""
        return sum(self._right) - sum(self._left)

    def insert(self, seq: int, payload: bytes | memoryview, fin: bool, rcv_nxt: int, right_edge: int) -> int:
        """Keep the new bytes within ``rcv_nxt``..``right_edge``. Returns the number of bytes kept.

        ``fin``: a FIN follows the payload. It is kept only if it lies within the window too, and if no byte
        beyond it is held. Bytes beyond a FIN that is held are dropped.
        """
        base = self._advance(rcv_nxt)
        limit = base + ((right_edge - base) & 0xFFFFFFFF)
        start = base + ((seq - base + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        end = start + len(payload)
        if fin and self._fin is None and base <= end < limit and (not self._right or self._right[-1] <= end):
            self._fin = end
        a = start if start > base else base
        b = end if end < limit else limit
        if self._fin is not None and b > self._fin:
            b = self._fin
        if a >= b:
            return 0
        recent = self._recent
        recent.insert(0, a)
        if len(recent) > _RECENT:
            recent.pop()
        return self._store(a, b, payload[a - start : b - start])

    def take(self, rcv_nxt: int) -> tuple[list[bytes], bool]:
        """Remove the bytes that are in order now. Returns them, and whether the FIN follows directly.

        ``rcv_nxt``: the next byte expected. The caller moves it past the bytes (and the FIN) returned.
        """
        base = self._advance(rcv_nxt)
        lefts = self._left
        pieces: list[bytes] = []
        if lefts and lefts[0] == base:
            base = self._base = self._right[0]
            pieces = self._payloads[0]
            self._count -= len(pieces)
            del lefts[0], self._right[0], self._payloads[0]
            if not lefts:
                self._recent.clear()
        if self._fin is None or base < self._fin:
            return pieces, False
        self._fin = None
        return pieces, True

    def sack_blocks(self, limit: int) -> tuple[tuple[int, int], ...]:
        """Return at most ``limit`` SACK blocks (RFC 2018 4), the run of the latest arrival first."""
        lefts = self._left
        if not lefts:
            return ()
        rights = self._right
        order: list[int] = []
        for byte in self._recent:
            i = bisect_right(lefts, byte) - 1
            if i >= 0 and byte < rights[i] and i not in order:
                order.append(i)
                if len(order) == limit:
                    break
        if len(order) < limit and len(order) < len(lefts):
            order += [i for i in range(len(lefts)) if i not in order][: limit - len(order)]
        return tuple((lefts[i] & 0xFFFFFFFF, rights[i] & 0xFFFFFFFF) for i in order)

    def segments(self) -> list[tuple[int, bytes, bool]]:
        """Return all that is held as (sequence number, payload, FIN follows), ascending. It stays here."""
        result = []
        for left, payloads in zip(self._left, self._payloads, strict=True):
            seq = left
            for payload in payloads:
                result.append((seq & 0xFFFFFFFF, payload, False))
                seq += len(payload)
        if self._fin is not None:
            if result and self._right[-1] == self._fin:
                seq32, payload, _ = result.pop()
                result.append((seq32, payload, True))
            else:
                result.append((self._fin & 0xFFFFFFFF, b"", True))
        return result

    def clear(self) -> None:
        """Drop everything (R-TERM-16)."""
        self._left.clear()
        self._right.clear()
        self._payloads.clear()
        self._recent.clear()
        self._count = 0
        self._fin = None

    def _advance(self, rcv_nxt: int) -> int:
        base = self._base
        ahead = (rcv_nxt - base) & 0xFFFFFFFF
        if not ahead:
            return base
        base = self._base = base + ahead
        lefts = self._left
        while lefts and lefts[0] < base:
            self._cut(base)
        if not lefts:
            self._recent.clear()
        return base

    def _cut(self, base: int) -> None:
        """Drop the bytes of the first run that lie before ``base``: they came again, in order."""
        payloads = self._payloads[0]
        left = self._left[0]
        if self._right[0] <= base:
            self._count -= len(payloads)
            del self._left[0], self._right[0], self._payloads[0]
            return
        gone = 0
        while left + len(payloads[gone]) <= base:
            left += len(payloads[gone])
            gone += 1
        del payloads[:gone]
        self._count -= gone
        if left < base:
            payloads[0] = payloads[0][base - left :]
        self._left[0] = base

    def _store(self, a: int, b: int, payload: bytes | memoryview) -> int:
        lefts = self._left
        rights = self._right
        # The runs i..j-1 touch or overlap the payload.
        i = bisect_left(rights, a)
        j = bisect_right(lefts, b)
        if i < j and lefts[i] <= a and rights[i] >= b:
            return 0
        if self._count + (j - i) >= MAX_PIECES:
            return 0
        if i == j:
            lefts.insert(i, a)
            rights.insert(i, b)
            self._payloads.insert(i, [bytes(payload)])
            self._count += 1
            return b - a
        # Fill the gaps before, between and behind those runs.
        merged: list[bytes] = self._payloads[i] if lefts[i] <= a else []
        before = len(merged)
        at = a
        stored = 0
        for k in range(i, j):
            if at < lefts[k]:
                gap = lefts[k]
                merged.append(bytes(payload[at - a : gap - a]))
                stored += gap - at
                self._count += 1
            if not (k == i and before):
                merged += self._payloads[k]
            if rights[k] > at:
                at = rights[k]
        if at < b:
            merged.append(bytes(payload[at - a :]))
            stored += b - at
            self._count += 1
        lefts[i] = min(lefts[i], a)
        rights[i] = max(rights[j - 1], b)
        self._payloads[i] = merged
        del lefts[i + 1 : j], rights[i + 1 : j], self._payloads[i + 1 : j]
        return stored
