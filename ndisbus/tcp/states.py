"""Short names for what the machine's modules compare all the time: connection states and timer kinds.

The states are those of RFC 9293 3.3.2 under the numbers of TCP_OFFLOAD_CONNECTION_STATE. They are compared by
identity, which is the cheapest test there is.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from ndisbus.ddi.enums import TcpOffloadConnectionState as State

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
    "OFF",
    "PERSIST",
    "RETRANSMIT",
    "SYN_RCVD",
    "SYN_SENT",
    "TIME_WAIT",
    "TWO_MSL",
    "State",
    "Timer",
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
"""Our FIN is queued behind the data, or sent and not acknowledged."""
FIN_SEEN: Final = (CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT)
"""The peer's FIN was received in order: RcvNxt lies beyond it."""

Timer: TypeAlias = tuple[int, int]
"""(kind, clock reading at which it expires). A timer is this one value: what is not running is OFF."""

NEVER: Final = 1 << 62
IDLE: Final = 0
# What Retransmit.TimeoutDelta stands for: one at a time, told apart by the state (R-TMR-09, R-TMR-13).
RETRANSMIT: Final = 1
PERSIST: Final = 2
FIN_2: Final = 3
TWO_MSL: Final = 4
# What KeepAlive.TimeoutDelta stands for.
KEEP_ALIVE: Final = 5
BLIND_RESET: Final = 6
OFF: Final[Timer] = (IDLE, NEVER)
