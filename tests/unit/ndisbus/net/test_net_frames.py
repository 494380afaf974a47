"""Frames built from connection state, and what a look at a frame finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.net import ethernet, ipv4, ipv6, tcp
from ndisbus.net.checksum import checksum, pseudo_header
from ndisbus.net.frames import FrameBuilder
from ndisbus.net.identification import IpIdentification
from ndisbus.net.peek import FrameInfo, connection_key, peek, peek_packet
from ndisbus.net.segment import ACK, FIN, PSH, SYN, Segment
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    PathOffloadStateCached,
    PathOffloadStateConst,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
)

V4 = (bytes((10, 77, 0, 1)), bytes((10, 77, 0, 2)))
V6 = (bytes.fromhex("fd77" + "00" * 13 + "01"), bytes.fromhex("fd77" + "00" * 13 + "02"))
OURS, THEIRS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


class Connection:
    """The structures of one connection, and a builder on them."""

    def __init__(
        self,
        addresses: tuple[bytes, bytes] = V4,
        *,
        vlan: int = 0,
        identification: IpIdentification | None = None,
        **cached: Any,
    ) -> None:
        self.tcp_const = TcpOffloadStateConst(local_port=50_000, remote_port=80)
        self.tcp_cached = TcpOffloadStateCached(**{"ttl_or_hop_limit": 64} | cached)
        self.path_const = PathOffloadStateConst(*addresses)
        self.neighbor_const = NeighborOffloadStateConst(vlan_id=vlan)
        self.neighbor_cached = NeighborOffloadStateCached(THEIRS)
        self.builder = FrameBuilder(
            self.tcp_const,
            self.tcp_cached,
            self.path_const,
            PathOffloadStateCached(1500),
            self.neighbor_const,
            self.neighbor_cached,
            source_mac=OURS,
            next_id=(identification or IpIdentification(upper=True)).next_v4,
        )


def segment(**members: Any) -> Segment:
    usual: dict[str, Any] = {
        "seq": 1000,
        "ack": 2000,
        "flags": PSH | ACK,
        "window": 512,
        "payload": b"hello",
    }
    return Segment(**usual | members)


def sent(s: Segment) -> Segment:
    """The segment as it arrives: with the connection's ports."""
    s.source_port, s.destination_port = 50_000, 80
    return s


SEGMENTS = [
    lambda: segment(payload=b""),
    segment,
    lambda: segment(ts_val=7, ts_ecr=8),
    lambda: segment(ts_val=7, ts_ecr=8, payload=bytes(range(256)) * 5 + b"odd"),
    lambda: segment(flags=SYN, payload=b"", mss=1460, window_scale=7, sack_permitted=True, ts_val=1),
    lambda: segment(flags=ACK, payload=b"", sack=((5000, 6000), (7000, 8000)), ts_val=1),
    lambda: segment(flags=FIN | ACK, payload=memoryview(b"view")),
    lambda: segment(seq=0xFFFFFFFF, ack=0xFFFFFFFF, window=0xFFFF, urgent=0xFFFF, flags=0xFF & ~SYN),
]


@pytest.mark.parametrize("make", SEGMENTS)
@pytest.mark.parametrize(("vlan", "priority"), [(0, 0), (0, 5), (7, 0), (4094, 7)])
@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
def test_frames_read_back(make: Any, vlan: int, priority: int, addresses: tuple[bytes, bytes]) -> None:
    """Every checksum is right, and segment, addresses and tag come out as they went in."""
    c = Connection(addresses, vlan=vlan, user_priority=priority, tos_or_traffic_class=0xB8)
    s = make()
    frame = c.builder.frame(s)
    info = peek(frame)
    assert tcp.parse_frame(frame, info) == sent(s)
    assert info.key == connection_key(*addresses, 50_000, 80)
    assert (info.source, info.destination) == addresses
    assert (info.source_port, info.destination_port) == (50_000, 80)
    assert (info.protocol, info.fragment, info.options, info.end) == (6, False, False, len(frame))
    header, packet = ethernet.parse(frame)
    assert (header.destination, header.source) == (THEIRS, OURS)
    if addresses is V4:
        four, payload = ipv4.parse(packet)
        assert (four.ttl, four.tos) == (64, 0xB8)
        assert header.build() + four.build(payload) == frame
    else:
        six, payload = ipv6.parse(packet)
        assert (six.hop_limit, six.traffic_class) == (64, 0xB8)
        assert header.build() + six.build(payload) == frame


@pytest.mark.parametrize(
    ("vlan", "priority", "tag"),
    [
        (0, 0, ""),
        (0, 5, "8100a000"),
        (0, 7, "8100e000"),
        (5, 0, "81000005"),
        (0xABC, 3, "81006abc"),
        (0xFFF, 7, "8100efff"),
    ],
)
@pytest.mark.parametrize(("addresses", "ethertype"), [(V4, "0800"), (V6, "86dd")])
def test_tags(vlan: int, priority: int, tag: str, addresses: tuple[bytes, bytes], ethertype: str) -> None:
    """R-VLAN-05: no tag, a tag for the priority only, a tag with both; CFI (bit 12) is 0 even in 0xefff."""
    frame = Connection(addresses, vlan=vlan, user_priority=priority).builder.frame(segment())
    assert frame[12:18].hex().startswith(tag + ethertype)
    info = peek(frame)
    assert info.vlan == (vlan if tag else None)
    assert info.priority == priority


@pytest.mark.parametrize("make", SEGMENTS)
def test_no_ipv4_packet_may_be_fragmented(make: Any) -> None:
    """R-IP-01: DF in every packet, with offset 0 and no more fragments."""
    frame = Connection().builder.frame(make())
    assert frame[20:22] == b"\x40\x00"


@pytest.mark.parametrize(
    ("upper", "first_4", "last_4", "first_6", "last_6"),
    [(True, 0x8000, 0xFFFF, 0x8000_0000, 0xFFFF_FFFF), (False, 0, 0x7FFF, 0, 0x7FFF_FFFF)],
    ids=["target", "host"],
)
def test_halves_of_the_identifications(
    upper: bool, first_4: int, last_4: int, first_6: int, last_6: int
) -> None:
    """R-IP-02, R-DIS-23: each side keeps to its half, of the 16 bits and of the 32, around the end."""
    ids = IpIdentification(upper=upper)
    assert [ids.next_v4(), ids.next_v4()] == [first_4, first_4 + 1]
    assert [ids.next_v6(), ids.next_v6()] == [first_6, first_6 + 1]
    ids = IpIdentification(upper=upper, start=0x7FFF_FFFF)
    assert [ids.next_v4(), ids.next_v4()] == [last_4, first_4]
    assert [ids.next_v6(), ids.next_v6()] == [last_6, first_6]
    builder = Connection(identification=IpIdentification(upper=upper)).builder
    frames = builder.frames([segment()] * 3)
    assert [int.from_bytes(f[18:20], "big") for f in frames] == [first_4, first_4 + 1, first_4 + 2]


def test_changes_of_cached_state_count_at_once() -> None:
    c = Connection()
    c.builder.frame(segment())
    c.tcp_cached.ttl_or_hop_limit = 3
    c.tcp_cached.tos_or_traffic_class = 4
    c.tcp_cached.user_priority = 5
    c.neighbor_cached.dl_destination_address = bytes.fromhex("02000000000a")
    frame = c.builder.frame(segment())
    header, packet = ethernet.parse(frame)
    assert (header.destination[5], header.vlan, header.priority) == (10, 0, 5)
    four, _ = ipv4.parse(packet)
    assert (four.ttl, four.tos) == (3, 4)
    c6 = Connection(V6)
    c6.tcp_cached.flow_label = 0xABCDE
    six, _ = ipv6.parse(c6.builder.frame(segment())[14:])
    assert six.flow_label == 0xABCDE


def test_replaced_structures() -> None:
    """A relink puts other objects in the place of the old ones."""
    c = Connection()
    c.builder.refresh(
        path_const=PathOffloadStateConst(V4[0], bytes((10, 77, 0, 9))),
        neighbor_const=NeighborOffloadStateConst(bytes.fromhex("020000000011"), 9),
        neighbor_cached=NeighborOffloadStateCached(bytes.fromhex("020000000012")),
        tcp_cached=TcpOffloadStateCached(ttl_or_hop_limit=9),
    )
    frame = c.builder.frame(segment())
    header, packet = ethernet.parse(frame)
    assert (header.source[5], header.destination[5], header.vlan) == (0x11, 0x12, 9)
    four, payload = ipv4.parse(packet)
    assert (four.destination[3], four.ttl) == (9, 9)
    assert tcp.parse_frame(frame, peek(frame)) == sent(segment())
    assert len(payload) == 25


@pytest.mark.parametrize(
    "bad", [{"payload": bytes(65_500)}, {"seq": 1 << 32}, {"window": -1}, {"ts_val": 1 << 32}]
)
@pytest.mark.parametrize("addresses", [V4, V6])
def test_segments_that_do_not_fit(bad: dict[str, Any], addresses: tuple[bytes, bytes]) -> None:
    builder = Connection(addresses).builder
    if addresses is V6 and "payload" in bad:
        bad = {"payload": bytes(65_536)}
    with pytest.raises(LocalProtocolError, match="does not fit"):
        builder.frame(segment(**bad))


def test_structures_that_make_no_frame() -> None:
    with pytest.raises(LocalProtocolError, match="R-STATE-07"):
        Connection((V4[0], V6[1]))
    with pytest.raises(LocalProtocolError, match="6 bytes"):
        Connection().builder.refresh(neighbor_cached=NeighborOffloadStateCached(b"\1\2\3"))


def frame_of(packet: bytes, ethertype: int, vlan: int | None = None, priority: int = 0) -> bytes:
    return ethernet.EthernetHeader(THEIRS, OURS, ethertype, vlan, priority).build() + packet


def test_padding_is_no_payload() -> None:
    frame = Connection().builder.frame(segment(payload=b"abc"))
    info = peek(frame + bytes(46))
    assert info.end == len(frame)
    assert tcp.parse_frame(frame + bytes(46), info).payload == b"abc"


def test_options_and_fragments_are_told() -> None:
    """What a target passes to the host: IPv4 options and every fragment; ports are found behind options."""
    body = tcp.build(Segment(1, 2, ACK, 3, source_port=4, destination_port=5), 0) + bytes(4)
    plain = ipv4.Ipv4Header(*V4, 6)
    assert not peek(frame_of(plain.build(body), 0x800)).options
    routed = ipv4.Ipv4Header(*V4, 6, options=b"\x94\x04\x00\x00")
    info = peek(frame_of(routed.build(body), 0x800))
    assert (info.options, info.fragment, info.key) == (True, False, connection_key(*V4, 4, 5))
    first = ipv4.Ipv4Header(*V4, 6, more_fragments=True)
    info = peek(frame_of(first.build(body), 0x800))
    assert (info.fragment, info.key) == (True, connection_key(*V4, 4, 5))
    later = ipv4.Ipv4Header(*V4, 6, fragment_offset=8)
    info = peek(frame_of(later.build(body), 0x800))
    assert (info.fragment, info.key) == (True, V4[0] + V4[1])
    assert (info.source_port, info.destination_port) == (0, 0)


def test_extension_headers_are_told() -> None:
    body = tcp.build(Segment(1, 2, ACK, 3, source_port=4, destination_port=5), 0)

    def look(next_header: int, extension: bytes) -> FrameInfo:
        return peek(frame_of(ipv6.Ipv6Header(*V6, next_header).build(extension + body), 0x86DD))

    key = connection_key(*V6, 4, 5)
    assert look(6, b"").key == key
    padded = b"\x06\x00\x01\x04" + bytes(4)
    info = look(ipv6.HOP_BY_HOP, padded)
    assert (info.options, info.fragment, info.key, info.l4) == (True, False, key, 14 + 48)
    atomic = b"\x06\x00\x00\x00" + bytes(4)
    info = look(ipv6.FRAGMENT, atomic)
    assert (info.options, info.fragment, info.key) == (False, False, key)
    info = look(ipv6.FRAGMENT, b"\x06\x00\x00\x01" + bytes(4))
    assert (info.options, info.fragment, info.key) == (False, True, key)
    info = look(ipv6.FRAGMENT, b"\x06\x00\x00\x08" + bytes(4))
    assert (info.fragment, info.protocol, info.key) == (True, 6, V6[0] + V6[1])


def packets_of(body: bytes, addresses: tuple[bytes, bytes]) -> list[bytes]:
    """A segment in packets whose addresses stand right before it, or further in front."""
    if addresses is V4:
        bare = ipv4.Ipv4Header(*V4, 6).build(body)
        header = bytearray(b"\x46" + bare[1:20] + bytes((1, 1, 1, 1)))
        header[2:4] = (len(bare) + 4).to_bytes(2, "big")
        header[10:12] = bytes(2)
        header[10:12] = checksum(header).to_bytes(2, "big")
        return [bare, bytes(header) + body]
    extensions = {6: b"", ipv6.FRAGMENT: b"\x06" + bytes(7), ipv6.HOP_BY_HOP: b"\x06\x00\x01\x04" + bytes(4)}
    return [ipv6.Ipv6Header(*V6, number).build(header + body) for number, header in extensions.items()]


@pytest.mark.parametrize("addresses", [V4, V6])
def test_the_checksum_covers_the_addresses_wherever_they_stand(addresses: tuple[bytes, bytes]) -> None:
    pseudo = pseudo_header(*addresses, tcp.PROTOCOL)
    for wrong in (0, 1):
        s = Segment(1, 2, ACK, 3, bytes(1400), source_port=4, destination_port=5)
        for packet in packets_of(tcp.build(s, pseudo + wrong), addresses):
            frame = frame_of(packet, 0x800 if addresses is V4 else 0x86DD)
            if wrong:
                with pytest.raises(DecodeError, match="tcp: bad checksum"):
                    tcp.parse_frame(frame, peek(frame))
            else:
                assert tcp.parse_frame(frame, peek(frame)).payload == bytes(1400)


def test_what_is_not_ip() -> None:
    info = peek(frame_of(bytes(28), 0x806, 5, 6))
    assert (info.ethertype, info.version, info.vlan, info.priority, info.key) == (0x806, 0, 5, 6, b"")


def test_packets_without_a_frame() -> None:
    for addresses in (V4, V6):
        frame = Connection(addresses).builder.frame(segment())
        info = peek_packet(frame[14:])
        assert info.key == peek(frame).key
        assert tcp.parse_frame(frame[14:], info) == sent(segment())


def broken(at: int, *values: int) -> bytes:
    """A good IPv4 frame with other bytes in it, and no new checksum."""
    frame = bytearray(Connection().builder.frame(segment()))
    frame[at : at + len(values)] = values
    return bytes(frame)


def test_bad_frames_are_named() -> None:
    good = Connection().builder.frame(segment())
    six = Connection(V6).builder.frame(segment())
    header = ipv4.Ipv4Header(*V4, 6)
    for frame, reason in (
        (b"", "ethernet: short header"),
        (good[:13], "ethernet: short header"),
        (good[:12] + b"\x81\x00\x00", "ethernet: short header"),
        (good[:33], "ipv4: short header"),
        (broken(14, 0x65), "ipv4: bad version"),
        (broken(14, 0x44), "ipv4: bad header length"),
        (good[:14] + b"\x4f" + good[15:50], "ipv4: truncated"),
        (broken(16, 0, 19), "ipv4: bad total length"),
        (broken(22, 65), "ipv4: bad checksum"),
        (good[:-1], "ipv4: truncated"),
        (frame_of(header.build(b"abc"), 0x800), "tcp: short header"),
        (frame_of(ipv4.Ipv4Header(*V4, 17).build(b"abc"), 0x800), "udp: short header"),
        (six[:53], "ipv6: short header"),
        (six[:14] + b"\x40" + six[15:], "ipv6: bad version"),
        (six[:-1], "ipv6: truncated"),
        (frame_of(ipv6.Ipv6Header(*V6, 6).build(b"abc"), 0x86DD), "tcp: short header"),
        (frame_of(ipv6.Ipv6Header(*V6, 0).build(b"\x06"), 0x86DD), "ipv6: truncated"),
        (frame_of(ipv6.Ipv6Header(*V6, 0).build(b"\x06\x01" + bytes(6)), 0x86DD), "ipv6: truncated"),
    ):
        with pytest.raises(DecodeError) as caught:
            peek(frame)
        assert str(caught.value) == reason
    info = peek(good)
    with pytest.raises(DecodeError, match="tcp: bad checksum"):
        tcp.parse_frame(good[:-1] + b"!", info)
    assert tcp.parse_frame(good[:-1] + b"!", info, verify=False).payload == b"hell!"


@given(st.binary(max_size=120), st.sampled_from([0x800, 0x86DD]))
def test_payload_of_any_kind(payload: bytes, ethertype: int) -> None:
    addresses = V4 if ethertype == 0x800 else V6
    frame = Connection(addresses).builder.frame(segment(payload=payload))
    assert tcp.parse_frame(frame, peek(frame)).payload == payload
