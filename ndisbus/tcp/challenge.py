"""RST and SYN against a synchronized connection: RFC 5961 on a host, R-BRA-01 to R-BRA-07 on a target.

Also the limit on ACKs that answer useless segments, for a host and for a target (RFC 5961 7).
"""

from __future__ import annotations

from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.tcp.challenge_limit import ChallengeLimit
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.ending import close, upload
from ndisbus.tcp.events import EventKind
from ndisbus.tcp.states import BLIND_RESET, CLOSING, LAST_ACK, SYN_RCVD, TIME_WAIT

__all__ = ["acknowledge_again", "challenge_ack", "in_window_reset", "in_window_syn"]


def _limit(m: TcpConnection, now: int) -> ChallengeLimit:
    limit = m.challenges
    if limit is None:
        limit = m.challenges = ChallengeLimit(now)
    return limit


def challenge_ack(m: TcpConnection, now: int) -> None:
    """Owe the remote end a challenge ACK, unless the limit is reached."""
    if _limit(m, now).allowed(m.settings.parameters.ticks_per_second, now):
        m.ack_clock.owe()


def acknowledge_again(m: TcpConnection, length: int, now: int) -> None:
    """Owe the ACK for an unacceptable segment.

    It is limited for an empty one: two ends could answer for ever.
    """
    if length > 0:
        m.ack_clock.owe()
    else:
        challenge_ack(m, now)


def in_window_reset(m: TcpConnection, rel: int, now: int) -> None:
    """Handle an RST that touches the window. ``rel``: its sequence number, counted from RCV.NXT."""
    if rel < 0:
        return
    if rel:
        if not m.settings.offloaded:
            challenge_ack(m, now)
        elif m.keepalive is None or m.keepalive.kind != BLIND_RESET:
            # Answer once, until an acceptable segment arrives or the check ends (R-BRA-02).
            m.ack_clock.owe()
            m.need_keepalive(now).check(now)
        return
    state = m.delegated.state
    if state is SYN_RCVD:
        if m.handshake is not None and m.handshake.passive:
            close(m)  # the listener continues as before
        else:
            close(m, "connection refused", EventKind.REFUSED)
    elif not m.settings.offloaded and (state is CLOSING or state is LAST_ACK or state is TIME_WAIT):
        close(m)
    else:
        close(m, "connection reset by the remote end", EventKind.RESET)


def in_window_syn(m: TcpConnection, rel: int, now: int) -> None:
    """Handle a SYN that touches the window. In TIME_WAIT the owner first asks accepts_reuse()."""
    state = m.delegated.state
    if not m.settings.offloaded:
        if state is SYN_RCVD and m.handshake is not None and m.handshake.passive:
            close(m)
        else:
            challenge_ack(m, now)
    elif state is TIME_WAIT:
        return  # it is for the host (R-IP-06)
    elif rel < 0:
        m.ack_clock.owe()
    elif rel == 0:
        upload(m, TcpUploadReason.UploadRequested, "a SYN arrived in order", closed=True)
    elif _limit(m, now).syn_allowed(m.settings.syn_challenge, now):
        m.ack_clock.owe()
        m.need_keepalive(now).check(now)
