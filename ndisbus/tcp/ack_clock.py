"""The acknowledgement clock: when the remote end gets an ACK or a window update without data.

RFC 9293 3.8.6.3 and RFC 5681 4.2 (delayed ACKs), R-TMR-28 (the receiver's silly window timer). A successor
starts with nothing owed: pending ACKs are sent before a hand-over (R-TMR-06), and the silly window timer is
not handed over (R-TMR-27).
"""

from __future__ import annotations

from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.tcp.states import NEVER

__all__ = ["AckClock"]


class AckClock:
    """What is owed to the remote end besides data, now and later."""

    __slots__ = ("_parameters", "due", "last", "owed", "waiting", "window_due", "window_owed")

    owed: bool
    """Whether an ACK leaves with the next transmit()."""
    waiting: int
    """In-order segments with data since the last ACK. At TcpAckFrequency an ACK is owed."""
    due: int
    """When the delayed ACK becomes owed. NEVER unless ``waiting`` is above 0."""
    last: int
    """The newest ACK that was sent, Last.ACK.sent of RFC 7323 4.3. Never beyond RcvNxt."""
    window_owed: bool
    """Whether the next window offers all free space, even if it grew by little."""
    window_due: int
    """When ``window_owed`` becomes true: a small opening waits for a larger one. NEVER while none waits."""

    def __init__(self, parameters: NdisTcpConnectionOffloadParameters, rcv_nxt: int) -> None:
        self._parameters = parameters
        self.owed = self.window_owed = False
        self.waiting = 0
        self.due = self.window_due = NEVER
        self.last = rcv_nxt

    def owe(self) -> None:
        """Send an ACK with the next transmit()."""
        self.owed = True

    def owe_window(self) -> None:
        """Send an ACK that offers all free space with the next transmit()."""
        self.owed = self.window_owed = True

    def data_taken(self, now: int) -> None:
        """Count a segment with data that came in order. Each TcpAckFrequency-th is acknowledged at once."""
        parameters = self._parameters
        self.waiting = waiting = self.waiting + 1
        if waiting >= parameters.tcp_ack_frequency:
            self.owed = True
        elif self.due == NEVER:
            self.due = now + parameters.tcp_delayed_ack_ticks

    def sent(self, rcv_nxt: int) -> None:
        """Note that a segment with ACK ``rcv_nxt`` and the current window leaves: nothing more is owed."""
        self.owed = self.window_owed = False
        self.waiting = 0
        self.due = self.window_due = NEVER
        self.last = rcv_nxt

    def begin(self, rcv_nxt: int) -> None:
        """Take the first value of RcvNxt from the remote end's SYN."""
        self.last = rcv_nxt

    def window_opened(self, now: int) -> None:
        """Start the silly window timer: the window grew by too little to be offered at once (R-TMR-28)."""
        if self.window_due == NEVER:
            self.window_due = now + self._parameters.tcp_sws_prevention_ticks

    def expire(self, now: int) -> None:
        """Act on the timers that have expired."""
        if self.due <= now:
            self.due = NEVER
            self.owed = True
        if self.window_due <= now:
            self.window_due = NEVER
            self.window_owed = True

    def cancel(self) -> None:
        """Cancel the owed ACK: the connection is uploaded or ends."""
        self.owed = False
        self.due = NEVER

    def stop(self) -> None:
        """Stop all timers."""
        self.due = self.window_due = NEVER
