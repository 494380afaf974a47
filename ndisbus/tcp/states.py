"""Short names for connection states and kinds of timer, which the modules of the machine often compare.

The states are those of RFC 9293 3.3.2 with the numbers of TCP_OFFLOAD_CONNECTION_STATE. They are compared by
identity, the cheapest test.
"""

from __future__ import annotations

from typing import Final

from ndisbus.ddi.tcp_enums import TIMER_NOT_RUNNING
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State

__all__ = [
    "BLIND_RESET",
    "CLOSED",
    "CLOSE_WAIT",
    "CLOSING",
    "ESTABLISHED",
    "FIN_2",
    "FIN_OWED",
    "FIN_SEEN",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "IDLE",
    "KEEP_ALIVE",
    "LAST_ACK",
    "LISTEN",
    "NEVER",
    "PERSIST",
    "RETRANSMIT",
    "SYN_RCVD",
    "SYN_SENT",
    "TIME_WAIT",
    "TWO_MSL",
    "State",
    "delta_of",
]

CLOSED: Final = State.TcpConnectionClosed
LISTEN: Final = State.TcpConnectionListen
SYN_SENT: Final = State.TcpConnectionSynSent
SYN_RCVD: Final = State.TcpConnectionSynRcvd
ESTABLISHED: Final = State.TcpConnectionEstablished
FIN_WAIT_1: Final = State.TcpConnectionFinWait1
FIN_WAIT_2: Final = State.TcpConnectionFinWait2
CLOSE_WAIT: Final = State.TcpConnectionCloseWait
CLOSING: Final = State.TcpConnectionClosing
LAST_ACK: Final = State.TcpConnectionLastAck
TIME_WAIT: Final = State.TcpConnectionTimeWait

FIN_OWED: Final = (FIN_WAIT_1, CLOSING, LAST_ACK)
"""States in which our FIN is queued behind the data, or sent and not acknowledged."""
FIN_SEEN: Final = (CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT)
"""States in which the remote end's FIN was received in order: RcvNxt lies beyond it."""

NEVER: Final = 1 << 62
"""The expiry time of a timer that does not run."""
# Kinds of timer. Those of Retransmit.TimeoutDelta run one at a time (R-TMR-09, R-TMR-13).
IDLE: Final = 0
RETRANSMIT: Final = 1
PERSIST: Final = 2
FIN_2: Final = 3
TWO_MSL: Final = 4
# Those of KeepAlive.TimeoutDelta.
KEEP_ALIVE: Final = 5
BLIND_RESET: Final = 6


def delta_of(due: int, now: int) -> int:
    """Return TimeoutDelta: the ticks left, 0 for an expiry not acted on yet, all ones for no timer."""
    if due >= NEVER:
        return TIMER_NOT_RUNNING
    left = due - now
    return 0 if left < 0 else left if left < TIMER_NOT_RUNNING else TIMER_NOT_RUNNING - 1
