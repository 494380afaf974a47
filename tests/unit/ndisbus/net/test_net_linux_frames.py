"""Frames that Linux sent (version 6, TAP device, no offloads): read in full, and built again to the byte."""

from __future__ import annotations

from typing import Final

import pytest

from ndisbus.net import arp, checksum, ethernet, icmp, icmpv6, ipv4, ipv6, nd, tcp, udp
from ndisbus.net.ethernet import EthernetHeader
from ndisbus.net.fragments import fragment
from ndisbus.net.peek import peek
from ndisbus.net.reassembly import Reassembler
from ndisbus.net.segment import ACK, RST, SYN, Segment

TO_US: Final = "020000000002020000000001"
SOURCE_MAC: Final = bytes.fromhex("020000000001")
HERE4, THERE4 = bytes((10, 99, 0, 1)), bytes((10, 99, 0, 2))
HERE6: Final = bytes.fromhex("fd990000000000000000000000000001")
THERE6: Final = bytes.fromhex("fd990000000000000000000000000002")

SYN4: Final = bytes.fromhex(
    TO_US + "08004500003c461340004006dfe00a6300010a630002"
    "c320005007adcf4400000000a002faf0a3fe0000020405b40402080a28c7d11b000000000103030a"
)
SYN6: Final = bytes.fromhex(
    TO_US + "86dd60032b1900280640" + HERE6.hex() + THERE6.hex() + "e522005069d1263e00000000a002fd202f2f0000"
    "020405a00402080a962214e6000000000103030a"
)
SYN_ACK4: Final = bytes.fromhex(
    TO_US + "08004500003c00004000400625f40a6300010a6300021f9000058bd2602f00000002a012fe3c06310000"
    "020404d80402080a19900a07000000630103030a"
)
RST4: Final = bytes.fromhex(
    TO_US + "08004500002800004000400626080a6300010a630002005100050000000000000002501400009ab00000"
)
ARP: Final = bytes.fromhex(
    "ffffffffffff020000000001080600010800060400010200000000010a6300010000000000000a630002"
)
PORT4: Final = bytes.fromhex(
    TO_US + "080045c0003d9a5d00004001cada0a6300010a630002030311e400000000"
    "4500002100000000401166040a6300020a63000103e807d0000d9b8168656c6c6f"
)
PORT6: Final = bytes.fromhex(
    TO_US + "86dd6004a106003d3a40" + HERE6.hex() + THERE6.hex() + "0104921e00000000"
    "60000000000d1140" + THERE6.hex() + HERE6.hex() + "03e807d0000db51368656c6c6f"
)
ECHO4: Final = bytes.fromhex(TO_US + "0800450000209a9400004001cb800a6300010a6300020000272d0007000964617461")
ECHO6: Final = bytes.fromhex(
    TO_US + "86dd60056535000c3a40" + HERE6.hex() + THERE6.hex() + "8100aaaf0007000964617461"
)
NS6: Final = bytes.fromhex(
    "3333ff00000202000000000186dd6000000000203aff" + HERE6.hex() + "ff0200000000000000000001ff000002"
    "87007c6500000000" + THERE6.hex() + "0101020000000001"
)
DAD6: Final = bytes.fromhex(
    "3333ff00000102000000000186dd6000000000203aff00000000000000000000000000000000"
    "ff0200000000000000000001ff000001870045a600000000fe80000000000000000000fffe0000010e0176febfe0f296"
)
RS6: Final = bytes.fromhex(
    "33330000000202000000000186dd6000000000103afffe80000000000000000000fffe000001"
    "ff02000000000000000000000000000285007b2c000000000101020000000001"
)
MLD6: Final = bytes.fromhex(
    "33330000001602000000000186dd60000000002400010000000000000000000000000000000"
    "0ff0200000000000000000000000000163a000502000001008f006f890000000104000000"
    "ff0200000000000000000001ff000001"
)

PAYLOAD: Final = bytes(range(256)) * 6
FRAGMENTS4: Final = [
    bytes.fromhex("450004fc401d20004011010c0a6300010a630002cafc000906089291") + PAYLOAD[:1248],
    bytes.fromhex("45000134401d009d401124370a6300010a630002") + PAYLOAD[1248:],
]
FRAGMENTS6: Final = [
    bytes.fromhex("600f898104d82c40")
    + HERE6
    + THERE6
    + bytes.fromhex("1100000176f402aaad7e00090608c9a1")
    + PAYLOAD[:1224],
    bytes.fromhex("600f898101402c40") + HERE6 + THERE6 + bytes.fromhex("110004d076f402aa") + PAYLOAD[1224:],
]

SEGMENTS: Final = {
    "syn4": (
        SYN4,
        Segment(
            0x07ADCF44,
            0,
            SYN,
            64240,
            source_port=49952,
            destination_port=80,
            ts_val=0x28C7D11B,
            mss=1460,
            window_scale=10,
            sack_permitted=True,
        ),
    ),
    "syn6": (
        SYN6,
        Segment(
            0x69D1263E,
            0,
            SYN,
            64800,
            source_port=58658,
            destination_port=80,
            ts_val=0x962214E6,
            mss=1440,
            window_scale=10,
            sack_permitted=True,
        ),
    ),
    "syn-ack4": (
        SYN_ACK4,
        Segment(
            0x8BD2602F,
            2,
            SYN | ACK,
            65084,
            source_port=8080,
            destination_port=5,
            ts_val=0x19900A07,
            ts_ecr=99,
            mss=1240,
            window_scale=10,
            sack_permitted=True,
        ),
    ),
    "rst4": (RST4, Segment(0, 2, RST | ACK, 0, source_port=81, destination_port=5)),
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_segments(name: str) -> None:
    frame, expected = SEGMENTS[name]
    info = peek(frame)
    assert tcp.parse_frame(frame, info) == expected
    pseudo = checksum.pseudo_header(info.source, info.destination, tcp.PROTOCOL)
    assert tcp.parse_segment(frame[info.l4 :], pseudo) == expected
    assert tcp.build(expected, pseudo) == frame[info.l4 :]
    ports = (info.source_port, info.destination_port)
    assert ports == (expected.source_port, expected.destination_port)


@pytest.mark.parametrize(
    "frame", [SYN4, SYN_ACK4, RST4, PORT4, ECHO4], ids=["syn", "syn-ack", "rst", "port", "echo"]
)
def test_ipv4_headers(frame: bytes) -> None:
    ethernet_header, packet = ethernet.parse(frame)
    header, payload = ipv4.parse(packet)
    assert (header.source, header.destination, header.ttl) == (HERE4, THERE4, 64)
    assert ethernet_header.build() + header.build(payload) == frame


@pytest.mark.parametrize("frame", [SYN6, PORT6, ECHO6, NS6, DAD6, RS6, MLD6])
def test_ipv6_headers(frame: bytes) -> None:
    ethernet_header, packet = ethernet.parse(frame)
    header, payload = ipv6.parse(packet)
    assert ethernet_header.source == SOURCE_MAC
    if header.destination[0] == 0xFF:
        assert ethernet_header.destination == ethernet.multicast_mac(header.destination)
    assert ethernet_header.build() + header.build(payload) == frame


def test_ipv6_fields() -> None:
    header, _ = ipv6.parse(SYN6[14:])
    assert header == ipv6.Ipv6Header(HERE6, THERE6, 6, 64, 0, 0x32B19)


def test_arp() -> None:
    header, packet = ethernet.parse(ARP)
    request = arp.parse(packet)
    assert header == EthernetHeader(ethernet.BROADCAST, SOURCE_MAC, ethernet.ETHERTYPE_ARP)
    assert request == arp.ArpPacket(arp.REQUEST, SOURCE_MAC, HERE4, bytes(6), THERE4)
    assert header.build() + request.build() == ARP


def test_port_unreachable() -> None:
    _, payload = ipv4.parse(PORT4[14:])
    message = icmp.parse(payload)
    assert isinstance(message, icmp.Unreachable)
    assert (message.code, message.next_hop_mtu) == (icmp.PORT_UNREACHABLE, 0)
    assert icmp.build(message) == payload
    about = icmp.original(message.original)
    assert about == icmp.Original(THERE4, HERE4, 17, 1000, 2000, 0, False, False)
    datagram = udp.parse(message.original[20:], checksum.pseudo_header(THERE4, HERE4, udp.PROTOCOL))
    assert datagram == udp.UdpDatagram(1000, 2000, b"hello")


def test_port_unreachable_6() -> None:
    header, payload = ipv6.parse(PORT6[14:])
    message = icmpv6.parse(payload, HERE6, THERE6, header.hop_limit)
    assert isinstance(message, icmp.Unreachable)
    assert message.code == icmpv6.PORT_UNREACHABLE
    assert icmpv6.build(message, HERE6, THERE6) == payload
    about = icmp.original(message.original)
    assert about == icmp.Original(THERE6, HERE6, 17, 1000, 2000, 0, False, False)


def test_echo_replies() -> None:
    expected = icmp.Echo(7, 9, b"data", reply=True)
    _, four = ipv4.parse(ECHO4[14:])
    assert icmp.parse(four) == expected
    assert icmp.build(expected) == four
    header, six = ipv6.parse(ECHO6[14:])
    assert icmpv6.parse(six, header.source, header.destination, header.hop_limit) == expected
    assert icmpv6.build(expected, header.source, header.destination) == six


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (NS6, nd.NeighborSolicitation(THERE6, SOURCE_MAC)),
        (RS6, nd.RouterSolicitation(SOURCE_MAC)),
    ],
    ids=["neighbor", "router"],
)
def test_solicitations(frame: bytes, expected: nd.NdMessage) -> None:
    header, payload = ipv6.parse(frame[14:])
    message = icmpv6.parse(payload, header.source, header.destination, header.hop_limit)
    assert message == expected
    assert icmpv6.build(message, header.source, header.destination) == payload


def test_solicitation_with_an_unknown_option() -> None:
    """Duplicate address detection with a nonce (option 14): what is not known is passed over."""
    header, payload = ipv6.parse(DAD6[14:])
    message = icmpv6.parse(payload, header.source, header.destination, header.hop_limit)
    assert message == nd.NeighborSolicitation(bytes.fromhex("fe80000000000000000000fffe000001"))
    assert header.destination == nd.solicited_node(message.target)


def test_hop_by_hop_header_of_a_multicast_report() -> None:
    packet = MLD6[14:]
    upper = ipv6.walk(packet)
    assert (upper.protocol, upper.offset, upper.named_at) == (58, 48, 40)
    assert (upper.extensions, upper.problem, upper.fragment) == ((ipv6.HOP_BY_HOP,), None, None)
    info = peek(MLD6)
    assert (info.protocol, info.options, info.l4) == (58, True, 62)
    header, _ = ipv6.parse(packet)
    message = icmpv6.parse(packet[48:], header.source, header.destination, header.hop_limit)
    assert isinstance(message, icmp.Other)
    assert message.type == 143


@pytest.mark.parametrize("parts", [FRAGMENTS4, FRAGMENTS6], ids=["ipv4", "ipv6"])
def test_fragments(parts: list[bytes]) -> None:
    """They make one datagram, in either order, and the same fragments come out of cutting it again."""
    for order in (parts, parts[::-1]):
        reassembler = Reassembler()
        assert reassembler.add(order[0], 0.0) is None
        whole = reassembler.add(order[1], 1.0)
        assert whole is not None
        assert len(reassembler) == reassembler.held == 0
        if whole[0] >> 4 == 4:
            header, payload = ipv4.parse(whole)
            pseudo = checksum.pseudo_header(header.source, header.destination, header.protocol)
        else:
            six, payload = ipv6.parse(whole)
            pseudo = checksum.pseudo_header(six.source, six.destination, six.next_header)
        assert udp.parse(payload, pseudo).payload == PAYLOAD
        assert fragment(whole, 1280, 0x76F402AA) == parts
