"""Whether an arriving segment counts: each check of RFC 9293 3.10.7.4, RFC 5961 and RFC 7323 5, in order.

:func:`judge` only reads. So a segment that fails a check has changed nothing, whatever it contains: neither
TS.Recent nor a timer, a window or a number. A test holds this module to that.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from ndisbus.net.segment import ACK, FIN, RST, SYN, URG, Segment
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.sequence import seq_diff
from ndisbus.tcp.states import SYN_RCVD, TIME_WAIT

__all__ = ["Verdict", "ack_counts", "judge"]


class Verdict(Enum):
    """What becomes of a segment. Only ACCEPTED, RESET, SYN_AGAIN, FIN_AGAIN and URGENT change anything."""

    ACCEPTED = "it passed all checks"
    IGNORED = "dropped without an answer"
    UNACCEPTABLE = "dropped: outside the window, or too old for PAWS; an ACK corrects the remote end"
    BAD_ACK = "dropped: it acknowledges what was not sent, or what is too old; challenge ACK"
    BAD_OPENING_ACK = "dropped in SYN_RCVD: it does not acknowledge our SYN; RST"
    RESET = "an RST that touches the window"
    SYN = "a SYN that touches the window"
    SYN_AGAIN = "the remote end repeats its SYN in SYN_RCVD: our answer was lost"
    FIN_AGAIN = "the remote end repeats its FIN in TIME_WAIT: our ACK of it was lost"
    URGENT = "urgent data for a target, which leaves it to the host (R-IP-07)"


# The members as globals: looking one up in the class for each segment costs more than a check does.
_ACCEPTED: Final = Verdict.ACCEPTED
_IGNORED: Final = Verdict.IGNORED
_UNACCEPTABLE: Final = Verdict.UNACCEPTABLE


def ack_counts(m: TcpConnection, ack: int) -> bool:
    """Return whether SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.MAX (RFC 5961 5.2)."""
    d = m.delegated
    first = d.snd_una - d.max_snd_wnd
    return (ack - first) & 0xFFFFFFFF <= (d.snd_max - first) & 0xFFFFFFFF


def judge(m: TcpConnection, segment: Segment, now: int) -> Verdict:
    """Return what becomes of a segment in SYN_RCVD or later."""
    d = m.delegated
    flags = segment.flags
    if m.stamped and not flags & (RST | SYN):
        # RFC 7323 3.2: the option must be there. 5.3 R1 (PAWS): it must not be older than TS.Recent.
        ts_val = segment.ts_val
        if ts_val is None:
            return _IGNORED
        if not m.timestamps.passes(ts_val, m.settings.parameters.ticks_per_second, now):
            return _UNACCEPTABLE
    rel = seq_diff(segment.seq, d.rcv_nxt)
    opening = d.state is SYN_RCVD
    if opening and rel == -1 and flags & SYN and not flags & RST:
        # With ACK it is the SYN,ACK of a simultaneous open. Apart from the SYN it is an ordinary segment.
        if not flags & ACK:
            return Verdict.SYN_AGAIN
    elif not _in_window(rel, segment.length, d.rcv_wnd, flags):
        return _outside(m, segment, rel)
    elif flags & RST:
        return Verdict.RESET
    elif flags & SYN:
        return Verdict.SYN
    if not flags & ACK:
        return _IGNORED
    if flags & URG and m.settings.offloaded:
        return Verdict.URGENT if ack_counts(m, segment.ack) else _IGNORED
    if opening:
        acked = segment.ack == (d.snd_una + 1) & 0xFFFFFFFF and d.snd_max != d.snd_una
        return _ACCEPTED if acked else Verdict.BAD_OPENING_ACK
    return _ACCEPTED if ack_counts(m, segment.ack) else Verdict.BAD_ACK


def _in_window(rel: int, length: int, window: int, flags: int) -> bool:
    """Return whether a segment, ``rel`` beyond RCV.NXT, touches the window (RFC 9293 3.10.7.4 first).

    There are two exceptions. With a zero window, the ACK, RST and URG of a segment that begins at RCV.NXT
    count, though no data is taken. And an empty ACK may lie on the right edge: SND.NXT of the remote end is
    there when a whole window of data was lost.
    """
    if length and window:
        return rel < window and rel + length > 0
    if rel == 0:
        return True
    return not length and (0 < rel < window or (rel == window and not flags & RST))


def _outside(m: TcpConnection, segment: Segment, rel: int) -> Verdict:
    """Return what becomes of a segment outside the window."""
    flags = segment.flags
    if flags & RST:
        return _IGNORED
    if (
        m.delegated.state is TIME_WAIT
        and flags & (FIN | ACK | SYN) == FIN | ACK
        and rel + segment.length == 0
        and ack_counts(m, segment.ack)
    ):
        return Verdict.FIN_AGAIN
    return _UNACCEPTABLE
