"""Loss recovery: fast retransmit (RFC 5681 3.2), NewReno (RFC 6582), SACK-based (RFC 6675), RFC 3042.

This part owns the congestion window. congestion.py has its arithmetic, sack.py the ranges that the remote end
holds.
"""

from __future__ import annotations

from typing import ClassVar

from ndisbus.net.segment import Segment
from ndisbus.state.tcp import TcpOffloadStateDelegated
from ndisbus.tcp import congestion
from ndisbus.tcp.sack import Scoreboard

__all__ = ["Recovery"]


class Recovery:
    """Finds lost segments and decides what to send again.

    Recovery is active if and only if DupAckCount is at ``threshold`` or above. So a successor knows it.
    """

    OWNS: ClassVar = ("c_wnd", "dup_ack_count", "ss_thresh")

    __slots__ = ("_delegated", "board", "by_sack", "point", "resend", "threshold")

    threshold: int
    """TcpDuplicateAckThreshold, 1 to 255, because DupAckCount is a UCHAR."""
    by_sack: bool
    """Whether SACK was agreed. Recoveries then follow RFC 6675: pipe bounds what leaves, so CWnd is neither
    inflated nor deflated. Otherwise they follow RFC 6582. Never changes after the handshake."""
    point: int
    """An ACK beyond this ends the recovery, or the retransmission after a timeout: "recover" of RFC 6582,
    RecoveryPoint of RFC 6675. Within SndUna - 1 .. SndMax. A successor takes SndMax if one of them is
    active."""
    resend: bool
    """Whether the first unacknowledged segment is sent again with the next transmit()."""
    board: Scoreboard | None
    """What the remote end holds beyond SndUna. None while it reports nothing and no duplicate was counted,
    and never in a recovery with SACK. A successor starts with an empty one: the remote end repeats its
    blocks."""

    def __init__(
        self, delegated: TcpOffloadStateDelegated, duplicate_ack_threshold: int, mss: int, *, sacking: bool
    ) -> None:
        d = self._delegated = delegated
        self.threshold = max(1, min(duplicate_ack_threshold, 255))
        self.by_sack = sacking
        self.board = None
        self.resend = False
        self.point = (d.snd_una - 1) & 0xFFFFFFFF
        if not d.c_wnd:
            # The structure has no congestion values: start as after the handshake.
            congestion.start(d, mss)
        if d.dup_ack_count >= self.threshold:
            self.point = d.snd_max
            self.resend = True
            if sacking:
                self._new_board().enter_recovery(d.snd_una, d.snd_max)
        elif d.snd_nxt != d.snd_max:
            self.point = d.snd_max

    @property
    def active(self) -> bool:
        """Whether lost segments are retransmitted without waiting for the timer."""
        return self._delegated.dup_ack_count >= self.threshold

    def start(self, syn_seq: int, mss: int, *, syn_lost: bool, sacking: bool) -> None:
        """Set the first value of the congestion window after the handshake."""
        self.point = syn_seq
        self.by_sack = sacking
        congestion.start(self._delegated, mss, syn_lost=syn_lost)

    def _new_board(self) -> Scoreboard:
        d = self._delegated
        board = self.board = Scoreboard()
        board.update((), d.snd_una, d.snd_max)
        return board

    def report(self, segment: Segment) -> int:
        """Enter a segment's SACK blocks on the scoreboard. Returns the number of new bytes."""
        d = self._delegated
        board = self.board
        if board is None:
            board = self._new_board()
        ack = segment.ack
        una = d.snd_una
        if 0 < (ack - una) & 0xFFFFFFFF <= (d.snd_max - una) & 0xFFFFFFFF:
            una = ack
        new = board.update(segment.sack, una, d.snd_max)
        if not board and not d.dup_ack_count:
            self.board = None
        return new

    def duplicate(self, mss: int) -> None:
        """Count a duplicate ACK: RFC 5681 2, or with SACK each one that reports something new (RFC 6675 2).

        The latter may have acknowledged something as well. ``acknowledged`` has handled that before.
        """
        d = self._delegated
        limit = self.threshold
        board = self.board
        if d.dup_ack_count >= limit:
            if not self.by_sack:
                congestion.dup_ack(d, mss)
            if d.dup_ack_count < 255:
                d.dup_ack_count += 1
            return
        d.dup_ack_count += 1
        una = d.snd_una
        if d.dup_ack_count < limit and not (board and board.is_lost(una, mss, limit)):
            return
        flight = (d.snd_max - una) & 0xFFFFFFFF
        pending = (self.point - una) & 0xFFFFFFFF
        if pending <= flight and (pending or not self.by_sack):
            # No ACK beyond the last timeout or recovery yet: these duplicates may come from our own
            # retransmissions (RFC 6582 3.2 step 2; SACK tells). The count stays below the threshold.
            d.dup_ack_count = limit - 1
            return
        beyond = flight - d.c_wnd
        if beyond > 0:
            # Do not count the segments that limited transmit sent (RFC 5681 3.2 step 2).
            extra = board.sacked if board else min(-(-beyond // mss), 2) * mss
            flight -= min(beyond, extra) if board else extra
        congestion.enter_recovery(d, flight, mss, sack=self.by_sack)
        d.dup_ack_count = limit
        self.point = d.snd_max
        self.resend = True
        if board is not None:
            board.enter_recovery(una, d.snd_max)

    def acknowledged(self, ack: int, acked: int, mss: int) -> None:
        """Act on an ACK of new data after duplicates: partial, full, or the end of a false alarm."""
        d = self._delegated
        if d.dup_ack_count < self.threshold:
            d.dup_ack_count = 0
            congestion.on_ack(d, acked, mss)
        elif (ack - self.point) & 0xFFFFFFFF < 0x80000000:
            if self.by_sack:
                d.dup_ack_count = 0
            else:
                congestion.full_ack(d, (d.snd_max - ack) & 0xFFFFFFFF, mss)
            self.resend = False
        elif self.by_sack:
            return  # the scoreboard decides what to send next
        else:
            congestion.partial_ack(d, acked, mss)
            self.resend = True

    def passed(self, ack: int) -> None:
        """Move ``point`` behind an ACK beyond it, so that it is never ahead when the numbers wrap."""
        if 0 < (ack - self.point) & 0xFFFFFFFF < 0x80000000:
            self.point = (ack - 1) & 0xFFFFFFFF

    def timed_out(self, mss: int, *, again: bool) -> None:
        """Start from one segment after the retransmission timer expired. Forget the reported ranges.

        ``again``: the timer has sent this segment before.
        """
        d = self._delegated
        board = self.board
        # What the remote end holds is not in the network, but behind a hole any amount of it can wait.
        flight = ((d.snd_max - d.snd_una) & 0xFFFFFFFF) - (board.sacked if board else 0)
        congestion.on_timeout(d, flight, mss, again=again, recovering=self.active)
        self.point = d.snd_max
        self.resend = False
        if board is not None:
            board.clear()

    def path_changed(self, mss: int, *, smaller: bool) -> None:
        """Act on a new segment size. ``smaller``: outstanding segments were too large and are sent again.

        That is not a sign of congestion: CWnd stays (RFC 1191 6.4), but is at least one segment.
        """
        d = self._delegated
        if d.c_wnd < mss:
            d.c_wnd = mss
        if smaller:
            d.dup_ack_count = 0
            self.point = d.snd_max
            self.resend = False

    def idle(self, mss: int) -> None:
        """Restart the window: nothing was sent for more than an RTO (RFC 5681 4.1)."""
        congestion.after_idle(self._delegated, mss)

    def take_resend(self) -> bool:
        """Return whether the first segment must be sent again, and clear that mark."""
        resend = self.resend
        self.resend = False
        return resend
