"""Fast retransmit and fast recovery: RFC 5681 3.2, NewReno (RFC 6582), SACK-based (RFC 6675), RFC 3042.

A recovery is going on exactly while DupAckCount is at the duplicate ACK threshold, so that a successor knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndisbus.net.segment import Segment
from ndisbus.tcp import congestion
from ndisbus.tcp.sack import Scoreboard

if TYPE_CHECKING:
    from ndisbus.tcp.machine import TcpMachine

__all__ = ["acknowledged", "duplicate", "in_recovery", "report", "threshold"]


def threshold(m: TcpMachine) -> int:
    """TcpDuplicateAckThreshold; DupAckCount holds no more than a UCHAR."""
    limit = m.settings.parameters.tcp_duplicate_ack_threshold
    return 1 if limit < 1 else limit if limit < 255 else 255


def in_recovery(m: TcpMachine) -> bool:
    """Whether lost segments are being retransmitted without waiting for the timer."""
    count = m.delegated.dup_ack_count
    return count > 0 and count >= threshold(m)


def report(m: TcpMachine, segment: Segment) -> int:
    """Enter a segment's SACK blocks on the scoreboard; the number of bytes that are news."""
    d = m.delegated
    board = m.scoreboard
    if board is None:
        board = m.scoreboard = Scoreboard()
        board.update((), d.snd_una, d.snd_max)
    ack = segment.ack
    una = d.snd_una
    if 0 < (ack - una) & 0xFFFFFFFF <= (d.snd_max - una) & 0xFFFFFFFF:
        una = ack
    news = board.update(segment.sack, una, d.snd_max)
    if not board and not d.dup_ack_count:
        m.scoreboard = None
    return news


def duplicate(m: TcpMachine, now: int) -> None:
    """A duplicate ACK: RFC 5681 2, or with SACK one that reports news (RFC 6675 2)."""
    d = m.delegated
    limit = threshold(m)
    board = m.scoreboard
    if d.dup_ack_count >= limit:
        if not board:
            congestion.dup_ack(d, m.mss)
        if d.dup_ack_count < 255:
            d.dup_ack_count += 1
        return
    d.dup_ack_count += 1
    una = d.snd_una
    if d.dup_ack_count < limit and not (board and board.is_lost(una, m.mss, limit)):
        return
    flight = (d.snd_max - una) & 0xFFFFFFFF
    pending = (m.recover - una) & 0xFFFFFFFF
    if pending <= flight and (pending or not board):
        # The last timeout or recovery is not acknowledged beyond: these duplicates may come from our own
        # retransmissions (RFC 6582 3.2 step 2; SACK tells). The count stays below the threshold.
        d.dup_ack_count = limit - 1
        return
    beyond = flight - d.c_wnd
    if beyond > 0:
        # The segments that limited transmit sent are not to be counted (RFC 5681 3.2 step 2).
        flight -= min(-(-beyond // m.mss), 2) * m.mss
    congestion.enter_recovery(d, flight, m.mss, sack=bool(board))
    d.dup_ack_count = limit
    m.recover = d.snd_max
    m.resend = True
    if board:
        board.enter_recovery(una)


def acknowledged(m: TcpMachine, ack: int, acked: int) -> None:
    """An ACK of new data while duplicates have been counted: partial, full, or the end of an alarm."""
    d = m.delegated
    if d.dup_ack_count < threshold(m):
        d.dup_ack_count = 0
        congestion.on_ack(d, acked, m.mss)
        return
    if (ack - m.recover) & 0xFFFFFFFF < 0x80000000:
        congestion.full_ack(d, (d.snd_max - ack) & 0xFFFFFFFF, m.mss)
        m.resend = False
        return
    if m.scoreboard is not None:
        return  # the scoreboard knows what to send next
    congestion.partial_ack(d, acked, m.mss)
    m.resend = True
