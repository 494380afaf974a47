"""Ethernet, ARP, IPv4, IPv6 and UDP: there and back, and each kind of damage by its name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.net import arp, ethernet, ipv4, ipv6, udp
from ndisbus.net.checksum import pseudo_header

octets = st.integers(0, 255)
word16 = st.integers(0, 0xFFFF)


def fixed(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


untagged = st.builds(
    ethernet.EthernetHeader, fixed(6), fixed(6), word16.filter(lambda kind: kind != ethernet.ETHERTYPE_VLAN)
)
tagged = st.builds(
    ethernet.EthernetHeader, fixed(6), fixed(6), word16, st.integers(0, 4095), st.integers(0, 7)
)
headers_4 = st.builds(
    ipv4.Ipv4Header,
    fixed(4),
    fixed(4),
    octets,
    ttl=octets,
    tos=octets,
    identification=word16,
    dont_fragment=st.booleans(),
    more_fragments=st.booleans(),
    fragment_offset=st.integers(0, 0x1FFF).map(lambda n: n * 8),
    options=st.integers(0, 10).flatmap(lambda n: fixed(4 * n)),
)
headers_6 = st.builds(
    ipv6.Ipv6Header,
    fixed(16),
    fixed(16),
    octets,
    hop_limit=octets,
    traffic_class=octets,
    flow_label=st.integers(0, 0xFFFFF),
)


@given(untagged | tagged, st.binary(max_size=60))
def test_ethernet(header: ethernet.EthernetHeader, payload: bytes) -> None:
    data = header.build()
    assert len(data) == (14 if header.vlan is None else 18)
    assert ethernet.parse(data + payload) == (header, payload)


def test_ethernet_limits() -> None:
    with pytest.raises(DecodeError, match="ethernet: short header"):
        ethernet.parse(bytes(13))
    with pytest.raises(DecodeError, match="ethernet: short header"):
        ethernet.parse(bytes(12) + b"\x81\x00\x00\x00\x08")
    for header in (
        ethernet.EthernetHeader(b"short", bytes(6), 0x800),
        ethernet.EthernetHeader(bytes(6), bytes(6), 0x800, 4096),
        ethernet.EthernetHeader(bytes(6), bytes(6), 0x800, 1, 8),
    ):
        with pytest.raises(LocalProtocolError):
            header.build()


def test_group_addresses() -> None:
    """RFC 1112 6.4 (23 bits of the address), RFC 2464 7 (32 bits)."""
    assert ethernet.multicast_mac(bytes((224, 0x81, 2, 3))).hex() == "01005e010203"
    assert ethernet.multicast_mac(bytes(12) + b"\1\2\3\4").hex() == "333301020304"
    assert ethernet.is_group(ethernet.BROADCAST)
    assert ethernet.is_group(ethernet.multicast_mac(bytes((224, 0, 0, 1))))
    assert not ethernet.is_group(b"\x02" + b"\xff" * 5)


@given(st.builds(arp.ArpPacket, word16, fixed(6), fixed(4), fixed(6), fixed(4)), st.binary(max_size=18))
def test_arp(packet: arp.ArpPacket, padding: bytes) -> None:
    assert arp.parse(packet.build() + padding) == packet


def test_arp_limits() -> None:
    good = arp.ArpPacket(arp.REPLY, bytes(6), bytes(4), bytes(6), bytes(4)).build()
    with pytest.raises(DecodeError, match="arp: short header"):
        arp.parse(good[:-1])
    for at in range(6):
        bad = bytearray(good)
        bad[at] ^= 1
        with pytest.raises(DecodeError, match="arp: bad value"):
            arp.parse(bytes(bad))
    with pytest.raises(LocalProtocolError):
        arp.ArpPacket(arp.REPLY, bytes(4), bytes(6), bytes(6), bytes(4)).build()


@given(headers_4, st.binary(max_size=60), st.binary(max_size=20))
def test_ipv4(header: ipv4.Ipv4Header, payload: bytes, padding: bytes) -> None:
    packet = header.build(payload)
    assert ipv4.parse(packet + padding) == (header, payload)
    assert len(packet) == header.header_length + len(payload)
    assert header.is_fragment == (header.more_fragments or header.fragment_offset > 0)


@given(headers_4, st.binary(max_size=40), st.data())
def test_ipv4_damage(header: ipv4.Ipv4Header, payload: bytes, data: st.DataObject) -> None:
    """One bit of the header wrong: the packet is refused, for whatever reason is found first."""
    bad = bytearray(header.build(payload))
    at = data.draw(st.integers(0, header.header_length - 1))
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DecodeError, match="ipv4: "):
        ipv4.parse(bytes(bad))


def test_ipv4_quoted_in_icmp() -> None:
    header = ipv4.Ipv4Header(bytes(4), bytes(4), 6)
    packet = bytearray(header.build(bytes(1000)))
    packet[8] -= 1  # as a router does, which leaves out the checksum
    with pytest.raises(DecodeError, match="ipv4: bad checksum"):
        ipv4.parse(bytes(packet))
    quoted, rest = ipv4.parse(bytes(packet[:28]), whole=False)
    assert (quoted.ttl, len(rest)) == (63, 8)


def test_ipv4_options() -> None:
    data = b"\x01\x94\x04\x00\x00\x83\x03\x04\x00\xff"
    assert list(ipv4.options(data)) == [(0x94, b"\0\0"), (0x83, b"\x04")]
    for bad in (b"\x83", b"\x83\x01", b"\x83\x00", b"\x83\x05abc"[:4]):
        with pytest.raises(DecodeError, match="ipv4: bad option"):
            list(ipv4.options(bad))


def test_ipv4_members_that_do_not_fit() -> None:
    good = (bytes(4), bytes(4), 6)
    for header, payload in (
        (ipv4.Ipv4Header(*good), bytes(65_516)),
        (ipv4.Ipv4Header(*good, options=bytes(3)), b""),
        (ipv4.Ipv4Header(*good, options=bytes(44)), b""),
        (ipv4.Ipv4Header(*good, fragment_offset=4), b""),
        (ipv4.Ipv4Header(*good, fragment_offset=65_536), b""),
        (ipv4.Ipv4Header(bytes(16), bytes(4), 6), b""),
    ):
        with pytest.raises(LocalProtocolError):
            header.build(payload)


@given(headers_6, st.binary(max_size=60), st.binary(max_size=20))
def test_ipv6(header: ipv6.Ipv6Header, payload: bytes, padding: bytes) -> None:
    assert ipv6.parse(header.build(payload) + padding) == (header, payload)


def test_ipv6_limits() -> None:
    good = ipv6.Ipv6Header(bytes(16), bytes(16), 59).build(b"abc")
    for packet, reason in (
        (good[:39], "short header"),
        (b"\x40" + good[1:], "bad version"),
        (good[:-1], "truncated"),
    ):
        with pytest.raises(DecodeError, match=f"ipv6: {reason}"):
            ipv6.parse(packet)
    assert ipv6.parse(good[:-1], whole=False)[1] == b"ab"
    for header, payload in (
        (ipv6.Ipv6Header(bytes(4), bytes(16), 6), b""),
        (ipv6.Ipv6Header(bytes(16), bytes(16), 6, flow_label=1 << 20), b""),
        (ipv6.Ipv6Header(bytes(16), bytes(16), 6), bytes(65_536)),
    ):
        with pytest.raises(LocalProtocolError):
            header.build(payload)


def packet_with(first: int, *headers: bytes) -> bytes:
    return ipv6.Ipv6Header(bytes(16), bytes(16), first).build(b"".join(headers))


def padded(next_header: int, *options: bytes) -> bytes:
    """An options header, filled up with Pad1."""
    body = b"".join(options)
    body += bytes(-(2 + len(body)) % 8)
    return bytes((next_header, (2 + len(body)) // 8 - 1)) + body


ROUTER_ALERT = b"\x05\x02\x00\x00"


def test_extension_headers_are_passed() -> None:
    """RFC 8200 4.1: in this order, options that may be skipped and segments left 0 included."""
    hop = padded(ipv6.DESTINATION_OPTIONS, ROUTER_ALERT, b"\x01\x03abc")
    first = padded(ipv6.ROUTING, b"\x3f\x02ab")
    routing = bytes((ipv6.FRAGMENT, 0, 4, 0)) + bytes(4)
    part = bytes((ipv6.DESTINATION_OPTIONS, 0, 0, 1)) + (77).to_bytes(4, "big")
    last = padded(6, b"\x01\x00")
    packet = packet_with(ipv6.HOP_BY_HOP, hop, first, routing, part, last, bytes(20))
    upper = ipv6.walk(packet)
    assert upper.extensions == (0, 60, 43, 44, 60)
    assert (upper.protocol, upper.problem) == (6, None)
    assert upper.offset == 40 + len(hop) + len(first) + 8 + 8 + len(last)
    assert packet[upper.named_at] == 6
    assert upper.fragment == ipv6.Fragment(0, True, 77)
    assert upper.unfragmentable == 40 + len(hop) + len(first) + 8
    assert upper.fragment_named_at == 40 + len(hop) + len(first)


def test_unfragmentable_part_without_a_fragment_header() -> None:
    """RFC 8200 4.5: up to the routing header, else the hop-by-hop header, else the IPv6 header alone."""
    hop, destination = padded(60), padded(6)
    upper = ipv6.walk(packet_with(0, hop, destination, bytes(20)))
    assert (upper.unfragmentable, upper.fragment_named_at) == (48, 40)
    upper = ipv6.walk(packet_with(60, destination, bytes(20)))
    assert (upper.unfragmentable, upper.fragment_named_at) == (40, 6)
    routing = bytes((6, 0, 4, 0)) + bytes(4)
    upper = ipv6.walk(packet_with(60, padded(43), routing, bytes(20)))
    assert (upper.unfragmentable, upper.fragment_named_at) == (56, 48)


def test_later_fragments_end_the_walk() -> None:
    part = bytes((60, 0, 0, 0x10)) + (5).to_bytes(4, "big")
    upper = ipv6.walk(packet_with(44, part, b"anything"))
    assert (upper.protocol, upper.offset, upper.fragment) == (60, 48, ipv6.Fragment(16, False, 5))


def test_empty_option_at_the_very_end() -> None:
    packet = packet_with(ipv6.DESTINATION_OPTIONS, padded(6, b"\x01\x02ab", b"\x3e\x00"), bytes(20))
    assert packet[46:48] == b"\x3e\x00"
    assert ipv6.walk(packet).problem is None


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (0x3E, None),
        (0x7E, ipv6.Problem(2, 42, False, False)),
        (0xBE, ipv6.Problem(2, 42, True, True)),
        (0xFE, ipv6.Problem(2, 42, True, False)),
    ],
    ids=["skip", "discard", "answer", "answer unless multicast"],
)
@pytest.mark.parametrize("header", [ipv6.HOP_BY_HOP, ipv6.DESTINATION_OPTIONS])
def test_unknown_options(kind: int, problem: ipv6.Problem | None, header: int) -> None:
    """RFC 8200 4.2: the two highest bits of the type decide."""
    upper = ipv6.walk(packet_with(header, padded(6, bytes((kind, 1, 0))), bytes(20)))
    assert upper.problem == problem


def test_headers_that_stop_the_walk() -> None:
    """RFC 8200 4 (hop-by-hop not in first place), 4.4 (an unknown route), and a second fragment header."""
    hop_late = ipv6.walk(packet_with(60, padded(0), padded(6), bytes(20)))
    assert hop_late.problem == ipv6.Problem(1, 40, True, False)
    routed = ipv6.walk(packet_with(43, bytes((6, 0, 0, 1)) + bytes(4), bytes(20)))
    assert routed.problem == ipv6.Problem(0, 42, True, False)
    twice = ipv6.walk(packet_with(44, bytes((44, 0, 0, 1)) + bytes(4), bytes((6, 0, 0, 1)) + bytes(4)))
    assert twice.problem == ipv6.Problem(1, 40, True, False)
    nothing = ipv6.walk(packet_with(ipv6.NO_NEXT_HEADER, b"ignored"))
    assert (nothing.protocol, nothing.offset, nothing.problem) == (59, 40, None)


def test_cut_short_extension_headers() -> None:
    for packet, reason in (
        (packet_with(0, b"\x06"), "truncated"),
        (packet_with(0, b"\x06\x01" + bytes(6)), "truncated"),
        (packet_with(44, bytes((60, 0, 0, 1)) + bytes(4), b"\x06"), "incomplete header chain"),
        (packet_with(60, b"\x06\x00\x3e\x07abcd"), "bad option"),
        (packet_with(60, b"\x06\x00\x01\x03abc\x3e"), "bad option"),
    ):
        with pytest.raises(DecodeError, match=f"ipv6: {reason}"):
            ipv6.walk(packet)


@given(
    st.builds(udp.UdpDatagram, word16, word16, st.binary(max_size=60)),
    fixed(4),
    fixed(4),
    st.binary(max_size=9),
)
def test_udp(datagram: udp.UdpDatagram, source: bytes, destination: bytes, padding: bytes) -> None:
    pseudo = pseudo_header(source, destination, udp.PROTOCOL)
    data = datagram.build(pseudo)
    assert data[6:8] != b"\0\0"
    assert udp.parse(data + padding, pseudo, need_checksum=True) == datagram


def test_udp_checksum_of_zero_is_sent_as_all_ones() -> None:
    """RFC 768: zero means that there is none."""
    field = udp.UdpDatagram(1, 2, bytes(2)).build(0)[6:8]
    data = udp.UdpDatagram(1, 2, field).build(0)
    assert data[6:8] == b"\xff\xff"
    assert udp.parse(data, 0, need_checksum=True).payload == field


def test_udp_limits() -> None:
    good = udp.UdpDatagram(1, 2, b"abc").build(0)
    for data, reason in (
        (good[:7], "short header"),
        (good[:-1], "truncated"),
        (good[:4] + b"\0\7" + good[6:], "bad total length"),
        (good[:-1] + b"!", "bad checksum"),
    ):
        with pytest.raises(DecodeError, match=f"udp: {reason}"):
            udp.parse(data, 0)
    unsummed = good[:6] + b"\0\0" + good[8:]
    assert udp.parse(unsummed, 0).payload == b"abc"
    with pytest.raises(DecodeError, match="udp: bad checksum"):
        udp.parse(unsummed, 0, need_checksum=True)
    with pytest.raises(LocalProtocolError):
        udp.UdpDatagram(1, 2, bytes(65_528)).build(0)
