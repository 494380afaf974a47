"""The TCP machine: one connection, sans-I/O, on the three offload state structures.

The structures *are* the state of the connection. They are used in place, and at any instant they can be taken
out with :meth:`TcpMachine.hand_over` and put into another machine, on this side of the chimney or on the
other, which goes on where this one stopped. What a machine keeps beside them is in connection.py and its
parts, each with what a successor does without it.

What the machine does is in modules by conversation, functions on
:class:`~ndisbus.tcp.connection.TcpConnection`; this class is their table of contents.
"""

from __future__ import annotations

from collections.abc import Iterable

from ndisbus.errors import LocalProtocolError
from ndisbus.net.segment import Segment
from ndisbus.state.path import PathOffloadStateCached, PathOffloadStateConst
from ndisbus.state.tcp import TcpOffloadStateCached, TcpOffloadStateConst, TcpOffloadStateDelegated
from ndisbus.tcp import arrival, ending, expiry, handover, options, output, update
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.handover import Handover
from ndisbus.tcp.settings import TcpSettings
from ndisbus.tcp.states import (
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    FIN_SEEN,
    FIN_WAIT_1,
    LAST_ACK,
    NEVER,
    SYN_RCVD,
    SYN_SENT,
    State,
)

__all__ = ["Handover", "TcpMachine"]


class TcpMachine(TcpConnection):
    """One connection. ``now`` is always a reading of a clock of TicksPerSecond that never goes back.

    Give it segments (:meth:`receive`), expiries (:meth:`on_timer`) and the user's calls; after any of them
    take what it owes the remote end (:meth:`transmit`), what it has to say (``events``) and the time at which
    it wants to be called again (:meth:`next_deadline`). :class:`ndisbus.tcp.owner.MachineOwner` does that.
    """

    __slots__ = ()

    def __init__(
        self,
        const: TcpOffloadStateConst,
        cached: TcpOffloadStateCached,
        delegated: TcpOffloadStateDelegated,
        *,
        path_const: PathOffloadStateConst,
        path_cached: PathOffloadStateCached,
        settings: TcpSettings,
        now: int,
        send_data: Iterable[bytes] = (),
        received: Iterable[bytes] = (),
    ) -> None:
        """Go on with a connection in whatever state the structures describe.

        ``send_data``: the bytes from SndUna on, in the pieces in which they were sent (R-OSD-04).
        ``received``: bytes received and acknowledged but not yet read, ending before RcvNxt (R-BRD-02).
        """
        super().__init__(
            const,
            cached,
            delegated,
            path_const=path_const,
            path_cached=path_cached,
            settings=settings,
            send_data=send_data,
            received=received,
        )
        handover.take_over(self, now)

    # -- the wire

    def receive(self, segment: Segment, now: int) -> None:
        """A segment of this connection, whose checksum was verified, has arrived."""
        arrival.receive(self, segment, now)

    def transmit(self, now: int) -> list[Segment]:
        """All that is owed to the remote end now, in the order in which it is to leave."""
        return output.transmit(self, now)

    # -- time

    def hurry(self, now: int) -> None:
        """The way to the remote end is open again: what is backed off is sent without waiting longer."""
        self.timer.hurry(now)

    def next_deadline(self) -> int | None:
        """When on_timer() has something to do; None while no timer runs."""
        if self.stopped:
            return None
        timer = self.timer
        acks = self.ack_clock
        due = timer.due
        if self.keepalive.due < due:
            due = self.keepalive.due
        if acks.due < due:
            due = acks.due
        if timer.override_due < due:
            due = timer.override_due
        if acks.window_due < due:
            due = acks.window_due
        return due if due < NEVER else None

    def on_timer(self, now: int) -> None:
        """Time has passed: act on every timer that expired. May be called too early or too late."""
        expiry.expire(self, now)

    # -- the user

    def send(self, data: bytes, *, urgent: bool = False) -> None:
        """Queue data; it is sent in the order given, and PSH marks the end of each piece (R-SEND-05).

        ``urgent``: the remote end is told to hurry to the end of this piece (RFC 9293 3.8.5). A target never
        gets urgent data to send (R-SEND-04). Raises LocalProtocolError once the send half is closed.
        """
        state = self.delegated.state
        if (
            state is not ESTABLISHED
            and state is not CLOSE_WAIT
            and (self.closing or (state is not SYN_SENT and state is not SYN_RCVD))
        ):
            raise LocalProtocolError(f"nothing can be sent any more in state {state.name}")
        self.sending.append(data)
        if urgent and data:
            syn = state is SYN_SENT or state is SYN_RCVD
            self.snd_up = (self.delegated.snd_una + syn + len(self.sending)) & 0xFFFFFFFF

    def read(self, n: int | None = None) -> bytes:
        """At most ``n`` bytes of what was received, or all of it. Room for a larger window follows."""
        return self.received.read(n)

    @property
    def available(self) -> int:
        """Bytes that can be read."""
        return len(self.received)

    @property
    def queued(self) -> int:
        """Bytes given to send() that the remote end has not acknowledged, sent or not."""
        return len(self.sending)

    @property
    def unsent(self) -> int:
        """Bytes given to send() that were never sent."""
        d = self.delegated
        syn = d.state is SYN_SENT or d.state is SYN_RCVD
        sent = 0 if syn else (d.snd_max - d.snd_una) & 0xFFFFFFFF
        return max(0, len(self.sending) - sent)

    @property
    def at_end(self) -> bool:
        """The FIN of the remote end was received and all data before it was read."""
        state = self.delegated.state
        return (state in FIN_SEEN or (state is CLOSED and self.error is None)) and not len(self.received)

    @property
    def state(self) -> State:
        """The connection's state: State of the delegated structure."""
        return self.delegated.state

    def shutdown(self) -> None:
        """CLOSE of RFC 9293 3.10.4: a FIN follows the queued data. Doing it again changes nothing."""
        state = self.delegated.state
        if state is ESTABLISHED:
            self.delegated.state = FIN_WAIT_1
        elif state is CLOSE_WAIT:
            self.delegated.state = LAST_ACK
        elif state is SYN_RCVD:
            self.closing = True
        elif state is SYN_SENT:
            ending.close(self)

    def abort(self) -> None:
        """ABORT of RFC 9293 3.10.5: an RST if the remote end has to be told; the connection is gone."""
        ending.abort(self)

    def give_up(self, why: str) -> None:
        """Close without telling the remote end, for instance when it is unreachable. ``error`` says why."""
        ending.close(self, why)

    # -- the offload

    def update_cached(self, new: TcpOffloadStateCached, now: int) -> None:
        """Take over new cached values; the flags that ask for it restart timers (R-UPD-03, R-UPD-11)."""
        update.update_cached(self, new, now)

    def path_changed(self, now: int) -> None:
        """PathMtu or the path structures changed: what is unacknowledged is cut anew."""
        update.path_changed(self)

    def write_back(self, now: int) -> None:
        """Bring timers and clock into the delegated structure, for a query; the machine goes on."""
        handover.write_back(self, now)

    def hand_over(self, now: int) -> Handover:
        """Give the connection away: the structures are complete, and this machine does nothing any more.

        Take its ``events`` first: they are not handed over.
        """
        return handover.hand_over(self, now)

    def accepts_reuse(self, syn: Segment) -> bool:
        """Whether this connection, in TIME_WAIT, may give way to the new one that ``syn`` asks for.

        RFC 9293 3.6.1, RFC 6191. The owner then drops this machine and gives the SYN to its listener, with
        an initial sequence number beyond SndMax. Otherwise the SYN is an ordinary segment for receive().
        """
        return options.accepts_reuse(self, syn)

    def __repr__(self) -> str:
        d = self.delegated
        if d.state is CLOSED:
            return f"<TcpMachine closed{': ' + self.error if self.error else ''}>"
        return (
            f"<TcpMachine {d.state.name.removeprefix('TcpConnection')} {self.const.local_port} > "
            f"{self.const.remote_port} una {d.snd_una} nxt {d.snd_nxt} max {d.snd_max} rcv {d.rcv_nxt}>"
        )
