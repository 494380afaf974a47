"""Frames of one connection, from its neighbor, path and TCP state: the hot path of sending."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from struct import error as struct_error
from typing import Final

from ndisbus.errors import LocalProtocolError
from ndisbus.net.checksum import partial
from ndisbus.net.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader
from ndisbus.net.ipv4 import DONT_FRAGMENT
from ndisbus.net.segment import SYN, Segment
from ndisbus.net.tcp import PROTOCOL
from ndisbus.net.tcp_options import TIMESTAMP_WORD, pack_options
from ndisbus.state.neighbor import NeighborOffloadStateCached, NeighborOffloadStateConst
from ndisbus.state.path import PathOffloadStateCached, PathOffloadStateConst
from ndisbus.state.tcp import TcpOffloadStateCached, TcpOffloadStateConst

__all__ = ["FrameBuilder"]

# The headers as one Struct, by the length of the part at the front that is equal in all frames: Ethernet
# header and tag; IP version and TOS, or version, traffic class and flow label.
#: Total length, identification, flags and TTL and protocol, checksum, addresses and ports; the rest of TCP.
_IPV4: Final = {n: Struct(f"!{n}sHHIH12sIIHHHH") for n in (16, 20)}
#: Payload length, next header and hop limit, addresses and ports; the rest of TCP.
_IPV6: Final = {n: Struct(f"!{n}sHH36sIIHHHH") for n in (18, 22)}
_TIMESTAMPS: Final = Struct("!III")


class FrameBuilder:
    """Turns segments of one connection into whole Ethernet frames.

    The tag follows R-VLAN-05. DF is set on every IPv4 packet (R-IP-01), and its identification comes from
    ``next_id`` (:meth:`ndisbus.net.identification.IpIdentification.next_v4`, R-IP-02). TTL or hop limit, TOS
    or traffic class, and flow label are those of the cached TCP state. Ports and addresses are those of the
    state, not of the segment. ``source_mac``: the interface's address, used if DlSourceAddress of the
    neighbor is empty.

    Changes in the cached structures take effect with the next frame. If a structure is replaced by another
    (an update, a relink), call :meth:`refresh`.
    """

    __slots__ = (
        "_addresses_and_ports",
        "_destination_mac",
        "_flow_label",
        "_ip_sum",
        "_is_ipv4",
        "_layout",
        "_neighbor_cached",
        "_neighbor_const",
        "_next_id",
        "_path_const",
        "_prefix",
        "_source_mac",
        "_tcp_cached",
        "_tcp_const",
        "_tcp_sum",
        "_tos",
        "_ttl",
        "_user_priority",
        "_word",
    )

    def __init__(
        self,
        tcp_const: TcpOffloadStateConst,
        tcp_cached: TcpOffloadStateCached,
        path_const: PathOffloadStateConst,
        path_cached: PathOffloadStateCached,
        neighbor_const: NeighborOffloadStateConst,
        neighbor_cached: NeighborOffloadStateCached,
        *,
        source_mac: bytes,
        next_id: Callable[[], int],
    ) -> None:
        # path_cached has the MTU. The TCP machine has respected it when it made the segments.
        self._tcp_const = tcp_const
        self._tcp_cached = tcp_cached
        self._path_const = path_const
        self._neighbor_const = neighbor_const
        self._neighbor_cached = neighbor_cached
        self._source_mac = source_mac
        self._next_id = next_id
        self._prepare()

    def refresh(
        self,
        *,
        tcp_cached: TcpOffloadStateCached | None = None,
        path_const: PathOffloadStateConst | None = None,
        neighbor_const: NeighborOffloadStateConst | None = None,
        neighbor_cached: NeighborOffloadStateCached | None = None,
    ) -> None:
        """Use other structures from now on. Those that are not given stay."""
        self._tcp_cached = tcp_cached or self._tcp_cached
        self._path_const = path_const or self._path_const
        self._neighbor_const = neighbor_const or self._neighbor_const
        self._neighbor_cached = neighbor_cached or self._neighbor_cached
        self._prepare()

    def _prepare(self) -> None:
        """Compute the part that is equal in all frames. Raises LocalProtocolError."""
        cached = self._tcp_cached
        self._tos = cached.tos_or_traffic_class
        self._ttl = cached.ttl_or_hop_limit
        self._flow_label = cached.flow_label
        self._user_priority = cached.user_priority
        self._destination_mac = self._neighbor_cached.dl_destination_address
        source, destination = self._path_const.source_address, self._path_const.destination_address
        four = self._is_ipv4 = len(source) == 4
        if len(source) != len(destination) or len(source) not in (4, 16):
            raise LocalProtocolError("both addresses must have 4 bytes, or both 16 bytes", rule="R-STATE-07")
        vlan = self._neighbor_const.vlan_id
        ethernet = EthernetHeader(
            self._destination_mac[:6],
            self._neighbor_const.dl_source_address[:6] or self._source_mac,
            ETHERTYPE_IPV4 if four else ETHERTYPE_IPV6,
            vlan if vlan or self._user_priority else None,
            self._user_priority,
        ).build()
        addresses = source + destination
        ports = self._tcp_const.local_port << 16 | self._tcp_const.remote_port
        self._addresses_and_ports = addresses + ports.to_bytes(4, "big")
        self._tcp_sum = int.from_bytes(self._addresses_and_ports, "big") % 0xFFFF + PROTOCOL
        if four:
            head = bytes((0x45, self._tos))
            self._word = DONT_FRAGMENT << 16 | self._ttl << 8 | PROTOCOL
            self._ip_sum = int.from_bytes(head + addresses, "big") % 0xFFFF + self._word
        else:
            head = (6 << 28 | self._tos << 20 | self._flow_label).to_bytes(4, "big")
            self._word = PROTOCOL << 8 | self._ttl
            self._ip_sum = 0
        self._prefix = ethernet + head
        self._layout = (_IPV4 if four else _IPV6)[len(self._prefix)]

    def frame(self, segment: Segment) -> bytes:
        """Return the whole frame. Raises LocalProtocolError for a segment that does not fit into a packet."""
        cached = self._tcp_cached
        if (
            cached.user_priority != self._user_priority
            or cached.ttl_or_hop_limit != self._ttl
            or cached.tos_or_traffic_class != self._tos
            or cached.flow_label != self._flow_label
            or self._neighbor_cached.dl_destination_address != self._destination_mac
        ):
            self._prepare()
        flags, payload = segment.flags, segment.payload
        seq, ack, window, urgent = segment.seq, segment.ack, segment.window, segment.urgent
        total = self._tcp_sum + seq + ack + window + urgent
        try:
            if flags & SYN or segment.sack:
                options = pack_options(segment)
                total += int.from_bytes(options, "big")
            elif segment.ts_val is None:
                options = b""
            else:
                stamp, echo = segment.ts_val, segment.ts_ecr
                options = _TIMESTAMPS.pack(TIMESTAMP_WORD, stamp, echo)
                total += TIMESTAMP_WORD + stamp + echo
            size = 20 + len(options)
            word = size << 10 | flags
            if payload:
                size += len(payload)
                total += partial(payload)
            field = -(total + word + size) % 0xFFFF
            if self._is_ipv4:
                length, identification = size + 20, self._next_id()
                header = self._layout.pack(
                    self._prefix,
                    length,
                    identification,
                    self._word,
                    -(self._ip_sum + length + identification) % 0xFFFF,
                    self._addresses_and_ports,
                    seq,
                    ack,
                    word,
                    window,
                    field,
                    urgent,
                )
            else:
                header = self._layout.pack(
                    self._prefix,
                    size,
                    self._word,
                    self._addresses_and_ports,
                    seq,
                    ack,
                    word,
                    window,
                    field,
                    urgent,
                )
        except (struct_error, OverflowError) as exc:
            raise LocalProtocolError(f"the segment does not fit into a packet: {segment}") from exc
        return header + options + payload if payload else header + options

    def frames(self, segments: Iterable[Segment]) -> list[bytes]:
        """Return one frame per segment."""
        return [self.frame(segment) for segment in segments]
