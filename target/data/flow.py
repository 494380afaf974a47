"""A running connection: its TCP machine, between the wire and the host's requests.

The machine works on the structures of the connection's context. After each event (a segment, a request, a
timer) the connection has a turn (:mod:`ndisbus.tcp.owner`). Owed segments are sent. Events of the machine
become completions, TCP events and indications. The connection is woken when its next timer expires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState, TcpUploadReason
from ndisbus.errors import ChimneyError, LocalProtocolError
from ndisbus.net.frames import FrameBuilder
from ndisbus.net.segment import PSH, RST, SYN, URG, Segment
from ndisbus.state.images import TcpOffloadStateCached
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.owner import MachineOwner, ticks_of
from ndisbus.tcp.sequence import ge, gt, lt, seq_add
from ndisbus.tcp.statistics import resent
from target.data import delivery, remote_end, sending
from target.data.upload_heuristics import UploadHeuristics
from target.hardware import events
from target.network import reachability

if TYPE_CHECKING:
    from target.hardware.adapter import Adapter
    from target.model.contexts import TcpContext
    from target.model.posted import Posted, TcpIo

__all__ = ["TcpFlow"]

_ESTABLISHED: Final = TcpOffloadConnectionState.TcpConnectionEstablished
_CLOSE_WAIT: Final = TcpOffloadConnectionState.TcpConnectionCloseWait
_CLOSED: Final = TcpOffloadConnectionState.TcpConnectionClosed


class TcpFlow(MachineOwner):
    """One connection with its machine (a :class:`target.model.flow.Flow`). ``io`` is what is posted on it."""

    __slots__ = (
        "_active",
        "_builder",
        "_heuristics",
        "_link",
        "_push_at",
        "_sample",
        "adapter",
        "io",
        "machine",
        "per_second",
        "silent",
        "tcp",
    )

    machine: TcpMachine

    def __init__(self, adapter: Adapter, tcp: TcpContext) -> None:
        """Start the machine at the time at which the connection was taken over (R-TS-04, R-TMR-05)."""
        link = adapter.link
        assert link is not None, "an adapter without a wire runs no connection"
        self._link = link
        self.adapter = adapter
        self.tcp = tcp
        self.io: TcpIo = adapter.io(tcp)
        settings = adapter.settings
        self.per_second = settings.parameters.ticks_per_second
        sends = []
        for posted in self.io.sends:
            try:
                sends.append(sending.contents(posted))
            except ChimneyError:
                posted.size = 0
                adapter.refuse("send data that came with a connection cannot be read")
        received = [bytes(self.io.buffered)] if self.io.buffered else []
        self.io.buffered.clear()
        const, cached, delegated = tcp.structures()
        self.machine = TcpMachine(
            const,
            cached,
            delegated,
            path_const=tcp.path.const,
            path_cached=tcp.path.cached,
            settings=settings,
            now=self.ticks(tcp.since),
            send_data=sends,
            received=received,
        )
        self._heuristics = UploadHeuristics()
        self._sample = adapter.config.voluntary.sample
        #: When a segment was last sent or received.
        self._active = tcp.since
        self._builder: FrameBuilder | None = None
        #: The upload sends not even pending ACKs: urgent data arrived (R-IP-08), or the connection is
        #: invalid.
        self.silent = False
        #: The sequence number behind the newest segment with PSH that is not in sequence yet.
        self._push_at: int | None = None

    def ticks(self, now: float) -> int:
        """Return a time as a reading of the machine's clock."""
        return ticks_of(now, self.per_second)

    # -- the wire ------------------------------------------------------------------------------

    def arrive(self, segment: Segment, now: float) -> bool:
        """Process a segment from the wire.

        Returns whether it waits for the upload it caused (R-IP-06, R-IP-08).
        """
        self.feed(segment, now)
        return self.tcp.uploading and bool(segment.flags & (URG | SYN))

    def feed(self, segment: Segment, now: float) -> None:
        """Process a segment from the wire or from the host, and act on its results."""
        machine = self.machine
        delegated = machine.delegated
        expected = delegated.rcv_nxt
        before = delegated.state
        tick = ticks_of(now, self.per_second)
        if self.deliver(segment, tick, now):
            self._active = now
            size = len(segment.payload)
            if size:
                self._heuristics.segment_in(lt(expected, segment.seq))
                if segment.flags & PSH:
                    end = seq_add(segment.seq, size)
                    if self._push_at is None or gt(end, self._push_at):
                        self._push_at = end
        if self._push_at is not None and ge(delegated.rcv_nxt, self._push_at):
            self._push_at = None
            self.io.pushed = machine.available > 0
        if delegated.state is _CLOSED and (before is _ESTABLISHED or before is _CLOSE_WAIT):
            self.adapter.stats.of(self.version).tcp.reset_established += 1
        self.take_turn(tick, now)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self.tcp.path.source) == 4 else 6

    def pump(self, now: float) -> None:
        """Give the connection its turn: report the machine's events and send the owed segments."""
        self.take_turn(ticks_of(now, self.per_second), now)

    @property
    def may_send(self) -> bool:
        """Return whether segments may leave: not if the connection is invalid or on its way up.

        If the link takes no frame, the connection waits for it. Its last segment is not kept.
        """
        if not self.tcp.serving:
            return False
        mac = self.tcp.path.neighbor.cached.dl_destination_address
        if self._link.takes(mac) or self.machine.state is _CLOSED:
            return True
        self.adapter.waiting.add(mac, self.tcp)
        return False

    def settled(self, now: float) -> None:
        if self.io.disconnects:
            sending.fin_acknowledged(self.adapter, self.tcp)
        heuristics = self._heuristics
        if heuristics.sent >= self._sample or heuristics.received >= self._sample:
            heuristics.rates(adapter=self.adapter, tcp=self.tcp)
        if not self.tcp.serving:
            return
        due = self.machine.next_deadline()
        at = None if due is None else due / self.per_second
        limit = self.adapter.hardware.config.voluntary.low_activity
        if limit is not None and (at is None or self._active + limit < at):
            at = self._active + limit
        if at is not None:
            timer = self.tcp.timer
            if timer is None or timer.at is None or at < timer.at:
                self.adapter.wake(self.tcp, at)

    def send_segments(self, segments: list[Segment], high: int, now: float) -> None:
        """Send segments as frames."""
        adapter, builder = self.adapter, self._builder
        if builder is None:
            try:
                builder = self._builder = self._make_builder()
            except LocalProtocolError:
                adapter.refuse("frame for a neighbor without an Ethernet address")
                adapter.stats.of(self.version).ip.out_discards += len(segments)
                return
        neighbor, family, link = self.tcp.path.neighbor, adapter.stats.of(self.version), self._link
        ticks = adapter.ticks(now)
        self._active = now
        for segment in segments:
            reachability.test(adapter, neighbor, ticks)
            again, high = resent(segment, high)
            frame = builder.frame(segment)
            header = 18 if frame[12:14] == b"\x81\x00" else 14
            family.segment_out(len(frame) - header, again, segment.length, bool(segment.flags & RST))
            self._heuristics.segment_out(again > 0)
            link.send(frame, now)

    def _make_builder(self) -> FrameBuilder:
        tcp, path = self.tcp, self.tcp.path
        return FrameBuilder(
            tcp.const,
            tcp.cached,
            path.const,
            path.cached,
            path.neighbor.const,
            path.neighbor.cached,
            source_mac=self.adapter.config.mac,
            next_id=self.adapter.ip_ids.next_v4,
        )

    # -- events of the machine -----------------------------------------------------------------

    def tell(self, event: TcpEvent, now: float) -> None:
        kind, adapter, tcp = event.kind, self.adapter, self.tcp
        if kind is EventKind.SENT:
            sending.acknowledged(adapter, tcp, event.value)
        elif kind is EventKind.DATA:
            delivery.arrived(adapter, tcp)
        elif kind is EventKind.PROGRESS:
            reachability.confirmed(adapter, tcp.path.neighbor, adapter.ticks(now))
        elif kind is EventKind.FIN:
            self.io.fin_pending = True
            delivery.arrived(adapter, tcp)
        elif kind is EventKind.RESET:
            remote_end.rst_received(adapter, tcp)
        elif kind is EventKind.UPLOAD:
            reason = TcpUploadReason(event.value)
            self.silent = reason is TcpUploadReason.ReceivedUrgentData
            sending.fin_acknowledged(adapter, tcp)  # the acknowledgment may have led to TIME_WAIT
            events.request_upload(adapter, tcp, reason)
        elif kind is EventKind.DOUBT:
            adapter.refusals["neighbor in doubt after retransmissions"] += 1

    # -- time ----------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Run the expired timers, unless the connection waits: it would send again what did not leave yet."""
        if not self.may_send:
            return
        self.machine.on_timer(self.ticks(now))
        limit = self.adapter.config.voluntary.low_activity
        if limit is not None and now >= self._active + limit:
            self._active = now  # one upload request per period
            events.request_upload(self.adapter, self.tcp, TcpUploadReason.LowActivity)
        self.pump(now)

    def write_back(self, now: float) -> None:
        """Write clock and timers to the delegated structure, for a query."""
        self.machine.write_back(self.ticks(now))

    # -- changes from above --------------------------------------------------------------------

    def update(self, new: TcpOffloadStateCached, now: float) -> None:
        """Take new cached variables (R-UPD-11, R-STATE-18)."""
        self.machine.update_cached(new, self.ticks(now))
        self.pump(now)

    def path_changed(self, now: float) -> None:
        """Take the path's new MTU, or the new neighbor below the path (R-UPD-05, R-UPD-07, R-UPD-08)."""
        self._builder = None
        self.machine.path_changed(self.ticks(now))
        self.pump(now)

    def reset(self) -> None:
        """Send an RST now, for an abortive disconnect. Nothing is sent after it."""
        now = self.adapter.ndis.now()
        if self.machine.state is _ESTABLISHED or self.machine.state is _CLOSE_WAIT:
            self.adapter.stats.of(self.version).tcp.reset_established += 1
        self.machine.abort()
        segments = self.machine.transmit(self.ticks(now))
        self.send_segments(segments, self.machine.delegated.snd_max, now)

    def hand_over(self, now: float) -> None:
        """Upload the connection: send pending ACKs (R-TERM-15, R-TMR-06), keep undelivered data in ``io``.

        Data out of order is dropped. It was not acknowledged, so the remote end sends it again (R-TERM-16).
        """
        tcp = self.tcp
        may_send = not (tcp.invalid or tcp.aborted or tcp.corrupt or self.silent)
        given = self.machine.hand_over(self.ticks(now))
        if may_send and given.last:
            self.send_segments(given.last, self.machine.delegated.snd_max, now)
        self.io.buffered[:] = b"".join(given.received)
        tcp.flow, tcp.since = None, now

    # -- what the upload heuristics count ------------------------------------------------------

    def receive_posted(self, request: Posted) -> None:
        """Count a posted receive request."""
        self._heuristics.posted(self.adapter, self.tcp, request)

    def data_indicated(self) -> None:
        """Count a receive indication."""
        self._heuristics.indicated(self.adapter, self.tcp)

    def fragment_arrived(self) -> None:
        """Count a datagram that came in fragments."""
        self._heuristics.fragment(self.adapter, self.tcp)
