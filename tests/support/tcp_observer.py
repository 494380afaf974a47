"""Check what the remote end, or a listener on the wire, sees of one end against what it may see.

The observer knows the byte stream that the end is to send, and every segment that reached it. A machine that
is torn out and replaced has to keep all of this true: for the observer nothing happened.
"""

from __future__ import annotations

from ndisbus.net.segment import ACK, FIN, RST, SYN, Segment

__all__ = ["Observer", "Violation"]

_M: int = 0xFFFFFFFF


class Violation(AssertionError):
    """An end did what a remote end must never see."""


def _unroll(near: int, seq: int) -> int:
    return near + ((seq - near + 0x80000000) & _M) - 0x80000000


class Observer:
    """Checks the segments that one end sends. Inside, sequence numbers are unrolled."""

    __slots__ = (
        "_acked",
        "_beyond",
        "_contiguous",
        "_edge",
        "_finished",
        "_heard",
        "_heard_ts",
        "_iss",
        "_last_ts",
        "_mss",
        "_mtu",
        "_offered",
        "_remote_scale",
        "_remote_syn",
        "_sacking",
        "_scale",
        "_stamping",
        "_syn",
        "_window_may_shrink",
        "header",
        "highest",
        "name",
        "resets",
        "retransmitted",
        "segments",
        "stream",
    )

    def __init__(self, name: str, stream: bytes, mtu: int, header: int) -> None:
        self.name = name
        self.stream = stream
        self.header = header
        """Bytes of IP and TCP header without options."""
        self.segments = 0
        self.retransmitted = 0
        self.resets = 0
        self.highest = -1
        """The highest sequence number sent, plus 1."""
        self._iss = -1
        self._mtu = mtu
        self._mss = 536 if header == 40 else 1220
        self._scale = 0
        self._remote_scale = 0
        self._stamping = False
        self._sacking = False
        self._syn: Segment | None = None
        self._remote_syn: Segment | None = None
        self._finished = False
        self._last_ts: int | None = None
        self._heard_ts: set[int] = {0}
        self._acked = -1  # the highest ACK sent
        self._offered = -1  # the highest right edge offered
        self._edge = -1  # the highest right edge received
        self._contiguous = -1  # one past the last byte that arrived in order
        self._heard = -1  # one past the highest that arrived
        self._beyond: list[tuple[int, int]] = []
        self._window_may_shrink = False

    def finish(self) -> None:
        """The application closed its half: a FIN may be sent."""
        self._finished = True

    def path_mtu(self, mtu: int) -> None:
        """The path is smaller or larger from now on."""
        self._mtu = mtu

    def window_may_shrink(self) -> None:
        """The receive buffer was made smaller."""
        self._window_may_shrink = True

    # -- what reaches the end

    def arrives(self, segment: Segment) -> None:
        """A segment is delivered to the end."""
        flags = segment.flags
        if flags & RST:
            return
        if segment.ts_val is not None:
            self._heard_ts.add(segment.ts_val)
        if flags & SYN:
            if self._contiguous < 0:
                self._contiguous = self._heard = segment.seq + 1
                if segment.mss is not None:
                    self._mss = segment.mss
                self._remote_syn = segment
                self._settle(segment)
        elif self._contiguous < 0:
            return
        start = _unroll(self._contiguous, segment.seq)
        end = start + segment.length
        if end > start:
            self._heard = max(self._heard, end)
            if start <= self._contiguous:
                self._contiguous = max(self._contiguous, end)
            else:
                self._beyond.append((start, end))
                if len(self._beyond) > 1:
                    self._merge()
            while self._beyond and self._beyond[0][0] <= self._contiguous:
                self._contiguous = max(self._contiguous, self._beyond.pop(0)[1])
        if flags & ACK and self.highest >= 0:
            ack = _unroll(self.highest, segment.ack)
            if ack > self.highest:
                return
            scale = 0 if flags & SYN else self._remote_scale
            self._edge = max(self._edge, ack + (segment.window << scale))

    def _merge(self) -> None:
        """Keep what arrived out of order sorted, and touching pieces together."""
        self._beyond.sort()
        merged = [self._beyond[0]]
        for a, b in self._beyond[1:]:
            left, right = merged[-1]
            if a <= right:
                merged[-1] = (left, max(right, b))
            else:
                merged.append((a, b))
        self._beyond = merged

    def _settle(self, syn: Segment) -> None:
        ours = self._syn
        if ours is None:
            return
        self._stamping = ours.ts_val is not None and syn.ts_val is not None
        self._sacking = ours.sack_permitted and syn.sack_permitted
        if ours.window_scale is not None and syn.window_scale is not None:
            self._scale = min(ours.window_scale, 14)
            self._remote_scale = min(syn.window_scale, 14)

    # -- what the end sends

    def sends(self, segment: Segment) -> None:
        """The end sends this. Raises Violation."""
        self.segments += 1
        if segment.flags & RST:
            self.resets += 1
            return
        if segment.flags & SYN:
            self._sends_syn(segment)
            return
        self._require(self._iss >= 0, segment, "a segment before a SYN")
        self._sequence(segment)
        self._acknowledgment(segment)
        self._options(segment)

    def _require(self, holds: bool, segment: Segment, what: str) -> None:
        if not holds:
            raise Violation(f"{self.name}: {what}: {segment!r} (iss {self._iss})")

    def _sends_syn(self, segment: Segment) -> None:
        first = self._syn
        if first is None:
            self._syn = segment
            self._iss = segment.seq
            self.highest = segment.seq + 1
            self._edge = self.highest
            if self._remote_syn is not None:
                self._settle(self._remote_syn)
        else:
            self._require(segment.seq == first.seq, segment, "another initial sequence number")
            self._require(segment.mss == first.mss, segment, "another MSS")
            self.retransmitted += 1
        self._require(len(segment.payload) == 0, segment, "data on a SYN")
        if segment.flags & ACK:
            self._require(segment.ack == self._contiguous & _M, segment, "not the SYN acknowledged")
            self._acked = max(self._acked, self._contiguous)
            self._offered = max(self._offered, self._contiguous + segment.window)
        if segment.mss is not None:
            self._require(segment.mss + self.header <= max(self._mtu, 68), segment, "MSS beyond the path")

    def _sequence(self, segment: Segment) -> None:
        payload = segment.payload
        start = _unroll(self.highest, segment.seq)
        end = start + segment.length
        at = start - self._iss - 1
        size = len(payload)
        fin = segment.flags & FIN
        self._require(start <= self.highest, segment, f"leaves a gap after {self.highest}")
        if size:
            # A keepalive probe may carry one byte from before SndUna.
            self._require(
                payload == self.stream[max(at, 0) : at + size] or (at < 0 and size == 1),
                segment,
                f"not the bytes of the stream at {at}",
            )
        if fin:
            self._require(self._finished, segment, "FIN although the application has not closed")
            self._require(at + size == len(self.stream), segment, f"FIN is not at {len(self.stream)}")
        if end > self.highest:
            # One byte beyond the window is a window probe, and so is a FIN.
            self._require(end <= self._edge + 1, segment, f"beyond the window, which ends at {self._edge}")
            if start < self.highest:
                self.retransmitted += 1
            self.highest = end
        elif end > start:
            self.retransmitted += 1
        options = 12 * (segment.ts_val is not None) + (4 + 8 * len(segment.sack) if segment.sack else 0)
        if size > 1:
            room = min(self._mss, self._mtu - self.header)
            self._require(size + options <= max(room, 48), segment, f"longer than {room} with its options")

    def _acknowledgment(self, segment: Segment) -> None:
        self._require(bool(segment.flags & ACK), segment, "no ACK")
        ack = _unroll(self._contiguous, segment.ack)
        self._require(ack <= self._contiguous, segment, f"ACK beyond what arrived, {self._contiguous}")
        self._require(ack >= self._acked, segment, f"ACK goes back from {self._acked}")
        self._acked = ack
        edge = ack + (segment.window << self._scale)
        # Scaling rounds the window down, so the edge may seem to go back by less than a unit.
        back = self._offered - edge
        self._require(
            back < 1 << self._scale or self._window_may_shrink,
            segment,
            f"the window shrinks by {back} (scale {self._scale})",
        )
        self._offered = max(self._offered, edge)

    def _options(self, segment: Segment) -> None:
        self._require(segment.mss is None and segment.window_scale is None, segment, "options of a SYN")
        self._require((segment.ts_val is not None) == self._stamping, segment, "timestamps as not agreed")
        if segment.ts_val is not None:
            if self._last_ts is not None:
                ahead = (segment.ts_val - self._last_ts) & _M
                self._require(ahead < 0x80000000, segment, f"the timestamp goes back from {self._last_ts}")
            self._last_ts = segment.ts_val
            self._require(segment.ts_ecr in self._heard_ts, segment, "the echo of a timestamp never heard")
        self._require(not segment.sack or self._sacking, segment, "SACK as not agreed")
        ack = _unroll(self._contiguous, segment.ack)
        for i, (left, right) in enumerate(segment.sack):
            a, b = _unroll(ack, left), _unroll(ack, right)
            self._require(a < b, segment, "an empty SACK block")
            if i == 0 and b <= self._contiguous:
                continue  # a D-SACK (RFC 2883), or the gap was filled by segments still on their way up
            whole = any(x <= a and b <= y for x, y in self._beyond) or b <= self._contiguous
            self._require(whole and a > ack, segment, f"a SACK block of what did not arrive: {left}:{right}")
