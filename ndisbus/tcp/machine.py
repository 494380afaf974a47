"""The TCP machine: one connection, sans-I/O, on the three offload state structures.

The structures *are* the state of the connection and are used in place. :meth:`TcpMachine.hand_over` can take
them out at any moment. Another machine, on this side of the chimney or the other, then continues where this
one stopped. connection.py and its parts hold what a machine keeps besides, each with what a successor does
without it.

The modules of the conversations are functions on :class:`~ndisbus.tcp.connection.TcpConnection`. This class
lists them as methods.
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
    FIN_WAIT_2,
    LAST_ACK,
    NEVER,
    SYN_RCVD,
    SYN_SENT,
    State,
)

__all__ = ["Handover", "TcpMachine"]


class TcpMachine(TcpConnection):
    """One connection. ``now`` is always a reading of a clock with TicksPerSecond that never goes back.

    Give it segments (:meth:`receive`), expiries (:meth:`on_timer`) and the user's calls. After each of them
    take the segments it owes the remote end (:meth:`transmit`), its ``events``, and the time of its next call
    (:meth:`next_deadline`). :class:`ndisbus.tcp.owner.MachineOwner` does that.
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
        reading: bool = True,
    ) -> None:
        """Continue a connection in any state that the structures describe.

        ``send_data``: the bytes from SndUna on, in the pieces in which they were sent (R-OSD-04).
        ``received``: bytes received and acknowledged but not read, ending before RcvNxt (R-BRD-02).
        ``reading``: whether the user has not closed both halves (:meth:`close`).
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
            reading=reading,
        )
        handover.take_over(self, now)

    # -- the wire

    def receive(self, segment: Segment, now: int) -> bool:
        """Handle an arriving segment of this connection. Its checksum has been verified.

        Returns whether its text counts: it has passed all checks, and the handshake is over. An owner that
        keeps anything of other segments can be made to believe what a stranger has forged.
        """
        return arrival.receive(self, segment, now)

    def transmit(self, now: int) -> list[Segment]:
        """Return the segments that are owed to the remote end now, in the order in which they must leave."""
        return output.transmit(self, now)

    # -- time

    def hurry(self, now: int) -> None:
        """Send what is backed off without further waiting: the remote end is reachable again."""
        self.timer.hurry(now)

    def next_deadline(self) -> int | None:
        """Return the clock reading at which on_timer() is due; None while no timer runs."""
        if self.stopped:
            return None
        timer = self.timer
        acks = self.ack_clock
        due = timer.due
        keepalive = self.keepalive
        if keepalive is not None and keepalive.due < due:
            due = keepalive.due
        if acks.due < due:
            due = acks.due
        if timer.override_due < due:
            due = timer.override_due
        if acks.window_due < due:
            due = acks.window_due
        return due if due < NEVER else None

    def on_timer(self, now: int) -> None:
        """Act on every timer that has expired. May be called too early or too late."""
        expiry.expire(self, now)

    # -- the user

    def send(self, data: bytes, *, urgent: bool = False) -> None:
        """Queue data. It is sent in the order given, and PSH marks the end of each piece (R-SEND-05).

        ``urgent``: the data ends with an urgent byte (RFC 9293 3.8.5). A target never gets urgent data to
        send (R-SEND-04). Raises LocalProtocolError once the send half is closed.
        """
        state = self.delegated.state
        if (
            state is not ESTABLISHED
            and state is not CLOSE_WAIT
            and (self.closing or (state is not SYN_SENT and state is not SYN_RCVD))
        ):
            raise LocalProtocolError(f"nothing can be sent in state {state.name}: the send half is closed")
        self.sending.append(data)
        if urgent and data:
            syn = state is SYN_SENT or state is SYN_RCVD
            self.snd_up = (self.delegated.snd_una + syn + len(self.sending)) & 0xFFFFFFFF

    def read(self, n: int | None = None) -> bytes:
        """Return at most ``n`` received bytes, or all. Reading makes room for a larger window."""
        self.unscaled = False
        return self.received.read(n)

    @property
    def available(self) -> int:
        """Number of bytes that can be read."""
        return len(self.received)

    @property
    def queued(self) -> int:
        """Number of bytes given to send() that are not acknowledged, whether sent or not."""
        return len(self.sending)

    @property
    def unsent(self) -> int:
        """Number of bytes given to send() that were never sent."""
        d = self.delegated
        syn = d.state is SYN_SENT or d.state is SYN_RCVD
        sent = 0 if syn else (d.snd_max - d.snd_una) & 0xFFFFFFFF
        return max(0, len(self.sending) - sent)

    @property
    def at_end(self) -> bool:
        """Whether the remote end's FIN was received and all data before it was read."""
        state = self.delegated.state
        return (state in FIN_SEEN or (state is CLOSED and self.error is None)) and not len(self.received)

    @property
    def state(self) -> State:
        """The connection's state: State of the delegated structure."""
        return self.delegated.state

    def shutdown(self) -> None:
        """Send a FIN after the queued data (CLOSE of RFC 9293 3.10.4). A second call does nothing.

        The other half stays open: data can come for as long as the remote end likes.
        """
        state = self.delegated.state
        if state is ESTABLISHED:
            self.delegated.state = FIN_WAIT_1
        elif state is CLOSE_WAIT:
            self.delegated.state = LAST_ACK
        elif state is SYN_RCVD:
            self.closing = True
        elif state is SYN_SENT:
            ending.close(self)

    def close(self, now: int) -> None:
        """Close both halves: the user reads nothing any more.

        A host then waits for the remote end's FIN for a limited time only (RFC 9293 3.6, R-TMR-07).
        """
        self.shutdown()
        if self.reading:
            self.reading = False
            if self.delegated.state is FIN_WAIT_2:
                ending.fin_wait_2(self, now)

    def abort(self) -> None:
        """End the connection, with an RST if the remote end must be told (ABORT of RFC 9293 3.10.5)."""
        ending.abort(self)

    def give_up(self, why: str) -> None:
        """Close without telling the remote end, for example an unreachable one. ``error`` becomes ``why``."""
        ending.close(self, why)

    # -- the offload

    def update_cached(self, new: TcpOffloadStateCached, now: int) -> None:
        """Take over new cached values. Their flags restart timers (R-UPD-03, R-UPD-11)."""
        update.update_cached(self, new, now)

    def path_changed(self, now: int) -> None:
        """Act on a new PathMtu or new path structures: unacknowledged data is segmented again."""
        update.path_changed(self)

    def write_back(self, now: int) -> None:
        """Write timers and clock into the delegated structure, for a query. The machine continues."""
        handover.write_back(self, now)

    def hand_over(self, now: int) -> Handover:
        """Hand the connection over: the structures are complete, and this machine does nothing any more.

        Take its ``events`` first: they are not handed over.
        """
        return handover.hand_over(self, now)

    def accepts_reuse(self, syn: Segment) -> bool:
        """Return whether this connection, in TIME_WAIT, may be replaced by the one that ``syn`` asks for.

        RFC 9293 3.6.1, RFC 6191. If so, the owner drops this machine and gives the SYN to its listener, with
        an initial sequence number beyond SndMax. If not, the SYN is an ordinary segment for receive().
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
