"""The adapter's place on the wire: what comes in finds its connection or goes to the host; timers; time.

A frame that belongs to an offloaded connection goes to its TCP machine. Everything else
goes to the host through the ordinary receive path: other connections, fragments and packets with IP options
(R-IP-03, R-IP-04, R-RFC-03), ARP and ICMP (R-IP-05), and the packets of connections that are closed
(R-DISC-17) or being terminated (R-TERM-13). What is for a connection that waits to be uploaded is held until
the terminate has been carried out (R-IP-08).

A connection gets a machine when it has something to do: a segment, a request, a timer. Until then it is the
image that came down, and the moment at which it came; the machine is made as of that moment, so that its
timers and timestamps do not know how late it was made. What may be due by itself is looked for in the image
when the connection is taken over (:func:`wake_after`).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from struct import Struct
from typing import TYPE_CHECKING, Final

from ndisbus.ddi.enums import TCP_FLAG_KEEP_ALIVE_ENABLED, TIMER_NOT_RUNNING, TcpOffloadConnectionState
from ndisbus.errors import DecodeError
from ndisbus.net.identification import IpIdentification
from ndisbus.net.malformed import TRUNCATED
from ndisbus.net.peek import FrameInfo, peek
from ndisbus.net.segment import SYN
from ndisbus.net.tcp import PROTOCOL, parse_frame
from ndisbus.state.images import TCP_STATE_OFF
from target.data import frames as frame_io
from target.data.flow import Flow
from target.model.contexts import Context, NeighborContext, TcpContext
from target.model.life import Life
from target.network import reachability
from target.network.stats import FamilyStats

if TYPE_CHECKING:
    from ndisbus.wire.link import Link
    from target.hardware.adapter import Adapter

__all__ = ["Station", "wake_after"]

#: Batches of frames taken from the link in one go; then it is the bus's turn.
_BATCHES: Final = 4
#: Entries of the heap that are not worth tidying up.
_SLACK: Final = 64
_CLOSED: Final = int(TcpOffloadConnectionState.TcpConnectionClosed)
_TIME_WAIT: Final = int(TcpOffloadConnectionState.TcpConnectionTimeWait)
#: States in which nothing of our own is owed.
_QUIET: Final = frozenset((4, 7))  # ESTABLISHED, CLOSE_WAIT

_OFF: Final = TCP_STATE_OFF


def _fields(*members: tuple[str, str]) -> Struct:
    """A struct that reads these members, in the order of the layout, from the image of a whole TCP state."""
    form, at = "<", 0
    for name, code in members:
        form += f"{_OFF[name] - at}x{code}"
        at = _OFF[name] + (2 if code == "H" else 4)
    return Struct(form)


_WAKE: Final = _fields(
    ("cached.Flags", "H"),
    ("cached.KaTimeout", "I"),
    ("delegated.State", "I"),
    ("delegated.SndUna", "I"),
    ("delegated.SndMax", "I"),
    ("delegated.KeepAlive.TimeoutDelta", "I"),
    ("delegated.Retransmit.TimeoutDelta", "I"),
)
_ALIVE: Final = _fields(
    ("cached.Flags", "H"),
    ("cached.KaTimeout", "I"),
    ("delegated.TsRecentAge", "I"),
    ("delegated.TsTime", "I"),
    ("delegated.KeepAlive.TimeoutDelta", "I"),
    ("delegated.Retransmit.TimeoutDelta", "I"),
)
_STAMPS: Final = Struct("<II")  # TsRecentAge and TsTime are neighbours
_STAMPS_AT: Final = _OFF["delegated.TsRecentAge"]
_STAMPS_END: Final = _STAMPS_AT + _STAMPS.size
_DELTA: Final = Struct("<I")
_KEEP_ALIVE_AT: Final = _OFF["delegated.KeepAlive.TimeoutDelta"]
_RETRANSMIT_AT: Final = _OFF["delegated.Retransmit.TimeoutDelta"]
_MASK: Final = 0xFFFFFFFF


def wake_after(image: bytes) -> int | None:
    """After how many ticks a connection does something by itself; None: never, 0: it may owe something."""
    flags, timeout, state, una, top, keep_alive, retransmit = _WAKE.unpack_from(image)
    if state not in _QUIET or una != top:
        return 0
    due = retransmit
    if flags & TCP_FLAG_KEEP_ALIVE_ENABLED:
        due = min(due, timeout if keep_alive == TIMER_NOT_RUNNING else keep_alive)
    elif keep_alive != TIMER_NOT_RUNNING:
        due = min(due, keep_alive)  # blind reset protection (R-BRA-06)
    return None if due == TIMER_NOT_RUNNING else due


class Station:
    """One adapter on its link."""

    __slots__ = ("_count", "_elapsed", "_heap", "_tidy_at", "adapter", "counters", "ids", "link")

    def __init__(self, adapter: Adapter, link: Link) -> None:
        self.adapter = adapter
        self.link = link
        self.ids = IpIdentification(upper=True)
        #: Frames dropped here, by reason.
        self.counters: Counter[str] = Counter()
        #: (when, in seconds; order; connection): when its machine, or the lack of one, is to be looked at.
        self._heap: list[tuple[float, int, TcpContext]] = []
        self._count = 0
        #: How long the heap may grow before it is tidied.
        self._tidy_at = _SLACK
        #: (since, now, ticks between them) of the last image: trees come and are asked for as a whole.
        self._elapsed = (0.0, 0.0, 0)

    # -- taking over ---------------------------------------------------------------------------

    def adopt(self, taken: Iterable[Context], now: float) -> None:
        """Objects were taken over ``now``: their time begins, and what is owed goes out (R-CONC-03)."""
        per_second = self.adapter.parameters.ticks_per_second
        limit = self.adapter.config.voluntary.low_activity
        for obj in taken:
            if type(obj) is TcpContext:
                obj.since = now
                after = 0 if obj.io is not None and obj.io.sends else wake_after(obj.image())
                if after is not None:
                    self.wake(obj, now + after / per_second)
                if limit is not None:
                    self.wake(obj, now + limit)
            elif type(obj) is NeighborContext:
                obj.since = now
        self._expire(now)

    def flow(self, tcp: TcpContext) -> Flow:
        """The connection's machine; made now if there was nothing to do so far."""
        if tcp.flow is None:
            tcp.flow = Flow(self, tcp)
        return tcp.flow

    # -- frames --------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """A frame of the host, as it is."""
        self.link.send(frame, self.adapter.ndis.now())

    def receive(self, now: float) -> None:
        """Take what has arrived, a few batches of it."""
        ordinary: list[bytes] = []
        for _ in range(_BATCHES):
            frames = self.link.receive(now)
            if not frames:
                break
            for frame in frames:
                if self._for_us(frame[:6]) and self._arrived(frame, now):
                    ordinary.append(frame)
        if ordinary:
            frame_io.receive(self.adapter, ordinary)

    def _for_us(self, mac: bytes) -> bool:
        """Addressed to the interface, to a source address that was configured, or to a group (R-STATE-11)."""
        if mac == self.adapter.config.mac or (mac and mac[0] & 1) or mac in self.adapter.hardware.macs:
            return True
        self.counters["for another station"] += 1
        return False

    def _arrived(self, frame: bytes, now: float) -> bool:
        """One frame; whether it is the host's."""
        try:
            info = peek(frame)
        except DecodeError as e:
            return self._corrupt_ip(frame, e.detail)
        if info.protocol != PROTOCOL:
            return True
        if info.fragment or (info.options and not (info.version == 6 and self._walks_extensions())):
            self._count_fragment(info)
            return True
        tcp, elsewhere = self.adapter.hardware.demux.find(info.key, info.vlan)
        if tcp is None:
            if elsewhere:
                self.counters["untagged, or tagged for another VLAN"] += 1
            return not elsewhere
        return self._for(tcp, frame, info, now)

    def _for(self, tcp: TcpContext, frame: bytes, info: FrameInfo, now: float) -> bool:
        """A packet of an offloaded connection; whether it is the host's all the same."""
        if tcp.life is Life.TERMINATING or tcp.life is Life.LOST:
            return True
        if tcp.corrupt:
            self.counters["connection's hardware state is corrupt"] += 1
            return False
        family = self.adapter.stats.of(info.version)
        try:
            segment = parse_frame(frame, info)
        except DecodeError:
            return self._corrupt_tcp(info, family)
        if not tcp.serving:
            state = tcp.tcp_state
            if (state == _CLOSED and not tcp.uploading) or (state == _TIME_WAIT and segment.flags & SYN):
                return True  # R-DISC-17, R-IP-06
            self.hold(tcp, frame, family)
            return False
        family.datagram_in(info.end - info.l3)
        family.ip.in_delivers += 1
        family.tcp.in_segments += 1
        flow = tcp.flow or self.flow(tcp)
        if flow.arrive(segment, now):
            self.hold(tcp, frame, family)
        return False

    def hold(self, tcp: TcpContext, frame: bytes, family: FamilyStats) -> None:
        """Keep a frame until the connection is terminated; what is too much is dropped, unacknowledged."""
        io = self.adapter.io(tcp)
        if io.held_bytes + len(frame) > self.adapter.config.held_bytes:
            family.ip.in_discards += 1
            return
        io.held.append(frame)
        io.held_bytes += len(frame)

    def _walks_extensions(self) -> bool:
        enabled = self.adapter.enabled
        return enabled is not None and bool(enabled.support_ipv6_extension_headers)

    def _count_fragment(self, info: FrameInfo) -> None:
        """The first fragment names its connection: too many of them and it is better off with the host."""
        watched = self.adapter.config.voluntary.fragments is not None
        if watched and info.fragment and len(info.key) in (12, 36):
            tcp, _ = self.adapter.hardware.demux.find(info.key, info.vlan)
            if tcp is not None and tcp.serving:
                self.flow(tcp).habits.fragment(self.adapter, tcp)

    # -- corrupt packets -----------------------------------------------------------------------

    def _corrupt_ip(self, frame: bytes, what: str) -> bool:
        """No whole IP packet: the host's and uncounted, or dropped and counted (R-STAT-06 to R-STAT-08)."""
        adapter = self.adapter
        ethertype = frame[12:14] if frame[12:14] != b"\x81\x00" else frame[16:18]
        version = {b"\x08\x00": 4, b"\x86\xdd": 6}.get(ethertype, 0)
        if not version or not adapter.config.drop_corrupt or adapter.enabled is None:
            return True
        if not adapter.hardware.neighbors:
            return True
        family = adapter.stats.of(version)
        family.datagram_in(max(len(frame) - (14 if ethertype == frame[12:14] else 18), 0))
        if what == TRUNCATED:
            family.ip.in_truncated_packets += 1
        else:
            family.ip.in_header_errors += 1
        return False

    def _corrupt_tcp(self, info: FrameInfo, family: FamilyStats) -> bool:
        """A bad checksum or TCP header; there is a path, for the connection was found (R-STAT-07)."""
        if not self.adapter.config.drop_corrupt or self.adapter.enabled is None:
            return True
        family.datagram_in(info.end - info.l3)
        family.ip.in_delivers += 1
        family.tcp.in_segments += 1
        family.tcp.in_errors += 1
        return False

    # -- time ----------------------------------------------------------------------------------

    def wake(self, tcp: TcpContext, at: float) -> None:
        """Look at a connection again at a moment (seconds of the driver's clock)."""
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, tcp))
        if len(self._heap) > self._tidy_at:
            self._tidy()

    def sweep(self) -> None:
        """Connections have gone, perhaps many: do not keep them for the sake of moments to come."""
        if len(self._heap) > _SLACK + 4 * self.adapter.hardware.connections:
            self._tidy()

    def _tidy(self) -> None:
        """Forget connections that are gone, and moments that gave way to others: they may be hours away."""
        heap = [e for e in self._heap if e[2].life is not Life.GONE and _awaited(e[2].flow, e[0])]
        heapq.heapify(heap)
        self._heap = heap
        self._tidy_at = 2 * len(heap) + _SLACK

    def next_deadline(self) -> float | None:
        """When a connection, or the link, has something to do."""
        at = self.link.next_deadline()
        if self.adapter.hung:
            return at
        if self._heap and (at is None or self._heap[0][0] < at):
            return self._heap[0][0]
        return at

    def run(self, now: float) -> None:
        """Timers that have expired, and frames that have arrived. Hardware that hangs does neither."""
        if self.adapter.hung:
            self.counters["hardware hangs"] += len(self.link.receive(now))
            return
        self._expire(now)
        self.receive(now)

    def _expire(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            tcp = heapq.heappop(self._heap)[2]
            if tcp.serving:
                self.flow(tcp).expire(now)

    # -- variables that are alive --------------------------------------------------------------

    def image(self, obj: Context, now: float) -> bytes:
        """The three structures of an object as they are now: clocks and running timers have moved on."""
        if type(obj) is TcpContext:
            if obj.flow is not None:
                obj.flow.write_back(now)
                return obj.image()
            since, asked, elapsed = self._elapsed
            if since != obj.since or asked != now:
                elapsed = self.adapter.ticks(now) - self.adapter.ticks(obj.since)
                self._elapsed = (obj.since, now, elapsed)
            return _later(obj.image(), elapsed) if elapsed else obj.image()
        if isinstance(obj, NeighborContext):
            adapter = self.adapter
            nrd = reachability.current_nrd(adapter, obj, adapter.ticks(now))
            obj.delegated.nic_reachability_delta = nrd
        return obj.image()


def _awaited(flow: Flow | None, at: float) -> bool:
    """Whether a connection is to be looked at then; one without a machine always is."""
    return flow is None or flow.due is None or flow.due == at


def _later(image: bytes, elapsed: int) -> bytes:
    """The image of a connection without a machine, ``elapsed`` ticks after it was taken over."""
    flags, timeout, age, time, keep_alive, retransmit = _ALIVE.unpack_from(image)
    stamps = _STAMPS.pack(min(age + elapsed, _MASK), (time + elapsed) & _MASK)
    if flags & TCP_FLAG_KEEP_ALIVE_ENABLED and keep_alive == TIMER_NOT_RUNNING:
        keep_alive = timeout
    if keep_alive == TIMER_NOT_RUNNING == retransmit:
        return image[:_STAMPS_AT] + stamps + image[_STAMPS_END:]
    out = bytearray(image)
    out[_STAMPS_AT:_STAMPS_END] = stamps
    for at, delta in ((_KEEP_ALIVE_AT, keep_alive), (_RETRANSMIT_AT, retransmit)):
        if delta != TIMER_NOT_RUNNING:
            _DELTA.pack_into(out, at, max(delta - elapsed, 0))
    return bytes(out)
