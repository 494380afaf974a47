"""Fragments: whatever is cut comes together again, in any order, and what does not fit is refused by name."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.net import ipv4, ipv6
from ndisbus.net.fragments import fragment
from ndisbus.net.reassembly import Expired, Reassembler

V4 = (bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
V6 = (bytes(15) + b"\1", bytes(15) + b"\2")


def packet_4(payload: bytes, **members: object) -> bytes:
    header = ipv4.Ipv4Header(*V4, 17, identification=99)
    for name, value in members.items():
        setattr(header, name, value)
    return header.build(payload)


def packet_6(payload: bytes, extensions: bytes = b"", first: int = 17) -> bytes:
    return ipv6.Ipv6Header(*V6, first).build(extensions + payload)


HOP = b"\x2b\x00\x05\x02\x00\x00\x01\x00"
ROUTE = b"\x11\x00\x04\x00" + bytes(4)

PACKETS: dict[str, Callable[[bytes], bytes]] = {
    "IPv4": packet_4,
    "IPv4 with options": lambda data: packet_4(data, options=b"\x94\x04\x00\x00\x07\x04\x04\x00"),
    "IPv6": packet_6,
    "IPv6 with options": lambda data: packet_6(data, b"\x11" + HOP[1:], 0),
    "IPv6 with extension headers": lambda data: packet_6(data, HOP + ROUTE, 0),
}


def patterned(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("kind", PACKETS)
@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 5000), mtu=st.integers(100, 1500), seed=st.integers(0, 1 << 32), again=st.booleans()
)
def test_cut_and_joined(kind: str, size: int, mtu: int, seed: int, again: bool) -> None:
    """In any order, with pieces coming twice; IPv4 fragments may be cut once more on their way."""
    packet = PACKETS[kind](patterned(size))
    parts = fragment(packet, mtu, 12345)
    assert all(len(part) <= mtu for part in parts)
    if again and kind.startswith("IPv4"):
        parts = [piece for part in parts for piece in fragment(part, 92)]
    order = random.Random(seed)
    sent = parts + order.sample(parts, order.randint(0, len(parts)))
    order.shuffle(sent)
    reassembler = Reassembler()
    found = [whole for whole in (reassembler.add(part, 0.0) for part in sent) if whole is not None]
    assert found
    assert all(whole == packet for whole in found)


def test_options_that_belong_into_every_fragment() -> None:
    """RFC 791 3.1: the copied flag. A record of the route goes into the first fragment only."""
    parts = fragment(PACKETS["IPv4 with options"](bytes(200)), 100)
    options = [ipv4.parse(part)[0].options for part in parts]
    assert options[0] == b"\x94\x04\x00\x00\x07\x04\x04\x00"
    assert set(options[1:]) == {b"\x94\x04\x00\x00"}
    assert len(ipv4.parse(parts[1])[1]) == 72


def test_fits_already() -> None:
    """Padding of a frame behind the packet does not count, and is not cut along."""
    for packet in (packet_4(bytes(100)), packet_6(bytes(100))):
        assert fragment(packet, len(packet)) == [packet]
        padding = packet + bytes(20)
        assert fragment(padding, len(packet)) == [padding]
        assert fragment(padding, 92) == fragment(packet, 92)


def test_what_is_not_cut() -> None:
    with pytest.raises(LocalProtocolError, match="R-IP-01"):
        fragment(packet_4(bytes(100), dont_fragment=True), 68)
    with pytest.raises(LocalProtocolError, match="no room"):
        fragment(packet_4(bytes(100)), 27)
    with pytest.raises(LocalProtocolError, match="no room"):
        fragment(packet_6(bytes(100)), 55)
    [first, *_] = fragment(packet_6(bytes(2000)), 1280, 1)
    with pytest.raises(LocalProtocolError, match="fragmented again"):
        fragment(first, 600)


def part_4(start: int, data: bytes, more: bool, **members: object) -> bytes:
    return packet_4(data, fragment_offset=start, more_fragments=more, **members)


def part_6(start: int, data: bytes, more: bool, identification: int = 99) -> bytes:
    header = b"\x11\x00" + (start | more).to_bytes(2, "big") + identification.to_bytes(4, "big")
    return packet_6(data, header, ipv6.FRAGMENT)


Part = Callable[[int, bytes, bool], bytes]


@pytest.fixture(params=["IPv4", "IPv6"])
def part(request: pytest.FixtureRequest) -> Part:
    return part_4 if request.param == "IPv4" else part_6


def refused(reassembler: Reassembler, packet: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        reassembler.add(packet, 0.0)
    assert caught.value.detail == reason


@pytest.mark.parametrize(
    ("first", "second"),
    [((0, 16), (8, 24)), ((8, 24), (0, 16)), ((0, 24), (8, 16)), ((8, 16), (0, 24)), ((0, 8), (0, 16))],
)
def test_overlaps_spoil_the_datagram(part: Part, first: tuple[int, int], second: tuple[int, int]) -> None:
    """RFC 5722 and RFC 8200 4.5: all of it is dropped, and what still comes; in IPv4 as well."""
    reassembler = Reassembler()
    assert reassembler.add(part(first[0], bytes(first[1] - first[0]), True), 0.0) is None
    refused(reassembler, part(second[0], bytes(second[1] - second[0]), True), "fragments overlap")
    refused(reassembler, part(32, b"tail", False), "fragments overlap")
    refused(reassembler, part(0, bytes(32), True), "fragments overlap")
    assert (reassembler.held, len(reassembler)) == (0, 1)
    assert reassembler.on_timer(60.0) == []
    assert reassembler.add(part(32, b"tail", False), 60.0) is None


def test_same_place_with_other_bytes_is_an_overlap(part: Part) -> None:
    reassembler = Reassembler()
    assert reassembler.add(part(0, b"12345678", True), 0.0) is None
    assert reassembler.add(part(0, b"12345678", True), 0.0) is None
    refused(reassembler, part(0, b"1234567!", True), "fragments overlap")


def test_contradicting_ends(part: Part) -> None:
    for first, second in (
        ((16, b"tail", False), (16, b"tails", False)),
        ((16, b"tail", False), (24, bytes(8), True)),
        ((16, bytes(8), False), (16, bytes(8), True)),
        ((16, bytes(8), True), (8, b"12345678", False)),
        ((16, bytes(8), True), (16, bytes(8), False)),
    ):
        reassembler = Reassembler()
        assert reassembler.add(part(*first), 0.0) is None
        refused(reassembler, part(*second), "fragments disagree")


def test_fragments_of_impossible_size(part: Part) -> None:
    reassembler = Reassembler()
    refused(reassembler, part(0, bytes(7 + 8), True), "fragment length")
    refused(reassembler, part(8, b"", True), "fragment length")
    refused(reassembler, part(8, b"", False), "fragment length")
    refused(reassembler, part(65_528, bytes(8), False), "datagram too long")
    assert len(reassembler) == 0


def test_datagram_that_its_header_makes_too_long() -> None:
    """The first fragment's options come on top of 65,515 bytes of payload."""
    reassembler = Reassembler()
    assert reassembler.add(part_4(8, bytes(65_504), False), 0.0) is None
    refused(reassembler, part_4(0, bytes(8), True, options=b"\x94\x04\x00\x00"), "datagram too long")
    assert (reassembler.held, len(reassembler)) == (0, 0)


def test_longest_datagram() -> None:
    """Ping of death's legal neighbour: 65,535 bytes, not one more."""
    packet = packet_4(patterned(65_515))
    reassembler = Reassembler()
    *parts, last = fragment(packet, 1500)
    assert [reassembler.add(p, 0.0) for p in parts] == [None] * len(parts)
    assert reassembler.add(last, 0.0) == packet


def test_longest_ipv6_datagram() -> None:
    """65,535 bytes behind the IPv6 header."""
    data = patterned(65_535)
    reassembler = Reassembler()
    assert reassembler.add(part_6(32_768, data[32_768:], False), 0.0) is None
    assert reassembler.add(part_6(0, data[:32_768], True), 0.0) == packet_6(data)


def test_first_fragment_without_the_transport_header() -> None:
    """RFC 7112: UDP needs 8 bytes, and an options header has to be whole."""
    reassembler = Reassembler()
    assert reassembler.add(part_6(0, bytes(8), True), 0.0) is None
    header = b"\x06\x00\x00\x01" + bytes(4)
    refused(reassembler, packet_6(bytes(16), header, 44), "incomplete header chain")
    header = b"\x3c\x00\x00\x01" + bytes(4)
    refused(reassembler, packet_6(b"\x11\x01" + bytes(6), header, 44), "incomplete header chain")
    assert len(reassembler) == 1


def test_datagrams_are_told_apart() -> None:
    """Addresses and identification; in IPv4 the protocol too (RFC 791 3.2), in IPv6 not (RFC 8200 4.5)."""
    reassembler = Reassembler()
    assert reassembler.add(part_4(0, b"12345678", True), 0.0) is None
    for members in ({"identification": 98}, {"protocol": 6}, {"source": V4[1]}):
        assert reassembler.add(part_4(8, b"tail", False, **members), 0.0) is None
    assert reassembler.add(part_6(0, b"12345678", True, 1), 0.0) is None
    assert reassembler.add(part_6(8, b"tail", False, 2), 0.0) is None
    assert len(reassembler) == 6
    assert reassembler.add(part_4(8, b"tail", False), 0.0) == packet_4(b"12345678tail")
    assert len(reassembler) == 5


def test_what_is_no_fragment() -> None:
    """RFC 6946: a fragment that is the whole is processed alone, whatever else has its identification."""
    reassembler = Reassembler()
    for packet in (packet_4(b"data"), packet_6(b"data")):
        assert reassembler.add(packet, 0.0) == packet
    assert reassembler.add(part_6(8, b"tail", False), 0.0) is None
    assert reassembler.add(part_6(0, b"data", False), 0.0) == packet_6(b"data")
    assert len(reassembler) == 1
    with pytest.raises(DecodeError, match="ipv6: short header"):
        reassembler.add(b"", 0.0)


def test_deadlines(part: Part) -> None:
    """RFC 1122 3.3.2, RFC 8200 4.5: 60 s from the first that came; its quotation goes into Time Exceeded."""
    reassembler = Reassembler()
    assert reassembler.next_deadline() is None
    first = part(0, b"12345678", True)
    assert reassembler.add(part(8, b"12345678", True), 5.0) is None
    assert reassembler.add(first, 50.0) is None
    assert reassembler.add(part_4(8, b"x", False, identification=1), 60.0) is None
    assert reassembler.next_deadline() == 65.0
    assert reassembler.on_timer(64.9) == []
    assert reassembler.on_timer(65.0) == [Expired(first[0] >> 4, first)]
    assert reassembler.next_deadline() == 120.0
    assert reassembler.on_timer(1000.0) == [Expired(4, b"")]
    assert (reassembler.next_deadline(), reassembler.held) == (None, 0)


def test_bounded_memory(part: Part) -> None:
    """A flood of datagrams that never get whole displaces the oldest, and the bytes held stay bounded."""
    reassembler = Reassembler(max_bytes=20_000, max_datagrams=10)
    for i in range(1000):
        reassembler.add(part_4(8 * (i % 50), bytes(8 * (1 + i % 100)), True, identification=i), 0.0)
        assert len(reassembler) <= 10
        assert reassembler.held <= 20_000
    assert reassembler.evicted >= 990
    newest = part_4(8, b"tail", False, identification=5000)
    assert reassembler.add(newest, 0.0) is None
    assert reassembler.add(part_4(0, bytes(8), True, identification=5000), 0.0) is not None


def test_tiny_fragments_cost_what_they_cost() -> None:
    """8,000 pieces of 8 bytes are not 64 kB of memory: the bound counts the overhead as well."""
    reassembler = Reassembler(max_bytes=100_000)
    for i in range(8000):
        reassembler.add(part_4(8 * i, bytes(8), True), 0.0)
        assert reassembler.held <= 100_000
    assert reassembler.evicted >= 8
