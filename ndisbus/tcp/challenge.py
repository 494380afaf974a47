"""RST and SYN against a synchronized connection: RFC 5961 on a host, R-BRA-01 to R-BRA-07 on a target.

Also the limit on ACKs that answer segments of no use, for a host and for a target (RFC 5961 7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ndisbus.ddi.enums import TcpUploadReason
from ndisbus.tcp import keepalive
from ndisbus.tcp.ending import close, upload
from ndisbus.tcp.events import EventKind
from ndisbus.tcp.states import BLIND_RESET, CLOSING, LAST_ACK, SYN_RCVD, TIME_WAIT

if TYPE_CHECKING:
    from ndisbus.tcp.machine import TcpMachine

__all__ = ["acknowledge_again", "challenge_ack", "in_window_reset", "in_window_syn"]

_LIMIT: Final = 10
_PERIOD_SECONDS: Final = 5
"""So many challenge ACKs in so much time, RFC 5961 7. Counted per connection: a count that all connections
share tells an attacker about the others."""


def challenge_ack(m: TcpMachine, now: int) -> None:
    """Owe the peer an ACK, unless too many were sent for the same sort of reason."""
    if now - m.acks_since >= _PERIOD_SECONDS * m.settings.parameters.ticks_per_second:
        m.acks_since = now
        m.acks_given = 0
    if m.acks_given < _LIMIT:
        m.acks_given += 1
        m.ack_now = True


def acknowledge_again(m: TcpMachine, length: int, now: int) -> None:
    """The ACK for an unacceptable segment. Ends that disagree must not go on for ever over empty ones."""
    if length > 0:
        m.ack_now = True
    else:
        challenge_ack(m, now)


def in_window_reset(m: TcpMachine, rel: int, now: int) -> None:
    """An RST that touches the window; ``rel``: its sequence number, counted from RCV.NXT."""
    if rel < 0:
        return
    if rel:
        if not m.settings.offloaded:
            challenge_ack(m, now)
        elif m.keepalive[0] != BLIND_RESET:
            # One, until an acceptable segment arrives or the check ends (R-BRA-02).
            m.ack_now = True
            keepalive.check_begins(m, now)
        return
    state = m.delegated.state
    if state is SYN_RCVD:
        if m.handshake is not None and m.handshake.passive:
            close(m)  # the listener goes on as if nothing had been
        else:
            close(m, "connection refused", EventKind.REFUSED)
    elif not m.settings.offloaded and (state is CLOSING or state is LAST_ACK or state is TIME_WAIT):
        close(m)
    else:
        close(m, "connection reset by peer", EventKind.RESET)


def in_window_syn(m: TcpMachine, rel: int, now: int) -> None:
    """A SYN that touches the window. In TIME_WAIT the owner asks accepts_reuse() before it comes here."""
    state = m.delegated.state
    if not m.settings.offloaded:
        if state is SYN_RCVD and m.handshake is not None and m.handshake.passive:
            close(m)
        else:
            challenge_ack(m, now)
    elif state is TIME_WAIT:
        return  # the host's (R-IP-06)
    elif rel < 0:
        m.ack_now = True
    elif rel == 0:
        upload(m, TcpUploadReason.UploadRequested, "a SYN arrived in order", closed=True)
    elif now - m.syn_since >= m.settings.syn_challenge:
        m.syn_since = now
        m.ack_now = True
        keepalive.check_begins(m, now)
