"""The adapter's place on the wire: each received frame goes to its connection or to the host.

A frame that belongs to an offloaded connection is given to that connection's flow. Every other frame goes to
the host through the ordinary receive path: other connections, fragments and datagrams with IP options
(R-IP-03, R-IP-04, R-RFC-03), ARP and ICMP (R-IP-05), and segments of connections that are closed (R-DISC-17)
or being terminated (R-TERM-13). Segments of a connection that waits to be uploaded are held until the
terminate has been carried out (R-IP-08).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.errors import DecodeError
from ndisbus.net.malformed import TRUNCATED
from ndisbus.net.peek import FrameInfo, peek
from ndisbus.net.segment import SYN
from ndisbus.net.tcp import PROTOCOL, parse_frame
from ndisbus.wire.link import Link
from target.hardware.adapter import Adapter
from target.hardware.statistics import FamilyStats
from target.model.contexts import TcpContext
from target.model.flow import Flow
from target.model.life import Life

__all__ = ["Station"]

#: Most requests to the link for frames in one turn. After that the bus has its turn.
_READS: Final = 4
_CLOSED: Final = int(TcpOffloadConnectionState.TcpConnectionClosed)
_TIME_WAIT: Final = int(TcpOffloadConnectionState.TcpConnectionTimeWait)


class Station:
    """One adapter on its link.

    ``flow_of`` returns the flow of a connection, and makes it if necessary. ``to_host`` takes frames for the
    host.
    """

    __slots__ = ("_flow_of", "_to_host", "adapter", "counters", "link")

    def __init__(
        self,
        adapter: Adapter,
        link: Link,
        *,
        flow_of: Callable[[Adapter, TcpContext], Flow],
        to_host: Callable[[Adapter, list[bytes]], None],
    ) -> None:
        self.adapter = adapter
        self.link = link
        #: Frames dropped here, by reason.
        self.counters: Counter[str] = Counter()
        self._flow_of = flow_of
        self._to_host = to_host

    def receive(self, now: float) -> None:
        """Take frames that have arrived, up to a limit for one turn. Hardware that hangs drops them."""
        if self.adapter.hung:
            self.counters["hardware hangs"] += len(self.link.receive(now))
            return
        ordinary: list[bytes] = []
        for _ in range(_READS):
            frames = self.link.receive(now)
            if not frames:
                break
            for frame in frames:
                if self._for_us(frame[:6]) and self._arrived(frame, now):
                    ordinary.append(frame)
        if ordinary:
            self._to_host(self.adapter, ordinary)

    def _for_us(self, mac: bytes) -> bool:
        """Return whether a frame is for us: the interface, a configured address or a group (R-STATE-11)."""
        hardware = self.adapter.hardware
        if mac == hardware.config.mac or (mac and mac[0] & 1) or mac in hardware.macs:
            return True
        self.counters["for another station"] += 1
        return False

    def _arrived(self, frame: bytes, now: float) -> bool:
        """Process one frame. Returns whether it is for the host."""
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
        return self._segment_for(tcp, frame, info, now)

    def _segment_for(self, tcp: TcpContext, frame: bytes, info: FrameInfo, now: float) -> bool:
        """Process a segment of an offloaded connection. Returns whether it is for the host nevertheless."""
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
            self._hold(tcp, frame, family)
            return False
        family.datagram_in(info.end - info.l3)
        family.ip.in_delivers += 1
        family.tcp.in_segments += 1
        flow = tcp.flow or self._flow_of(self.adapter, tcp)
        if flow.arrive(segment, now):
            self._hold(tcp, frame, family)
        return False

    def _hold(self, tcp: TcpContext, frame: bytes, family: FamilyStats) -> None:
        """Keep a frame until the connection is terminated. Beyond the limit it is dropped unacknowledged."""
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
        """Count a datagram that came in fragments. Only its first fragment shows the connection."""
        watched = self.adapter.config.voluntary.fragments is not None
        if watched and info.fragment and len(info.key) in (12, 36):
            tcp, _ = self.adapter.hardware.demux.find(info.key, info.vlan)
            if tcp is not None and tcp.serving:
                self._flow_of(self.adapter, tcp).fragment_arrived()

    # -- corrupt frames ------------------------------------------------------------------------

    def _corrupt_ip(self, frame: bytes, what: str) -> bool:
        """Pass a corrupt IP header to the host uncounted, or drop and count it (R-STAT-06 to R-STAT-08)."""
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
        """Handle a wrong checksum or TCP header. The connection was found, so its path exists (R-STAT-07)."""
        if not self.adapter.config.drop_corrupt or self.adapter.enabled is None:
            return True
        family.datagram_in(info.end - info.l3)
        family.ip.in_delivers += 1
        family.tcp.in_segments += 1
        family.tcp.in_errors += 1
        return False
