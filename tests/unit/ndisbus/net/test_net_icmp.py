"""ICMP and ICMPv6: messages there and back, quoted packets, and what RFC 4861 has a node refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.net import icmp, icmpv6, ipv4, ipv6, nd, tcp
from ndisbus.net.segment import ACK, Segment

octets = st.integers(0, 255)
word16 = st.integers(0, 0xFFFF)
word32 = st.integers(0, 0xFFFFFFFF)
quotes = st.binary(max_size=80)
macs = st.none() | st.binary(min_size=6, max_size=6)
#: Addresses that are not multicast addresses.
addresses = st.binary(min_size=16, max_size=16).filter(lambda a: a[0] != 0xFF)

HERE = bytes.fromhex("fe80000000000000000000000000000a")
THERE = bytes.fromhex("fe80000000000000000000000000000b")
MAC = bytes.fromhex("020000000001")

echoes = st.builds(icmp.Echo, word16, word16, st.binary(max_size=60), st.booleans())
times = st.builds(icmp.TimeExceeded, octets, quotes)
messages_4 = st.one_of(
    echoes,
    times,
    st.builds(icmp.Unreachable, octets.filter(lambda code: code != icmp.FRAGMENTATION_NEEDED), quotes),
    st.builds(icmp.Unreachable, st.just(icmp.FRAGMENTATION_NEEDED), quotes, word16),
    st.builds(icmp.ParameterProblem, octets, octets, quotes),
    st.builds(icmp.Redirect, octets, st.binary(min_size=4, max_size=4), quotes),
    st.builds(icmp.Other, st.sampled_from([9, 10, 13, 14, 42]), octets, st.binary(min_size=4, max_size=60)),
)
prefixes = st.builds(nd.Prefix, addresses, octets, st.booleans(), st.booleans(), word32, word32)
messages_6 = st.one_of(
    echoes,
    times,
    st.builds(icmp.Unreachable, octets, quotes),
    st.builds(icmpv6.TooBig, word32, quotes),
    st.builds(icmp.ParameterProblem, octets, word32, quotes),
    st.builds(icmp.Other, st.sampled_from([5, 130, 143, 255]), octets, st.binary(min_size=4, max_size=60)),
    st.builds(nd.NeighborSolicitation, addresses, macs),
    st.builds(nd.NeighborAdvertisement, addresses, macs, st.booleans(), st.booleans(), st.booleans()),
    st.builds(nd.RouterSolicitation, macs),
    st.builds(
        nd.RouterAdvertisement,
        octets,
        st.booleans(),
        st.booleans(),
        word16,
        word32,
        word32,
        macs,
        word32,
        st.lists(prefixes, max_size=3).map(tuple),
    ),
    st.builds(nd.Redirect6, st.just(THERE), addresses, macs, st.binary(max_size=9).map(lambda b: b * 8)),
)


@given(messages_4)
def test_round_trip(message: icmp.IcmpMessage) -> None:
    assert icmp.parse(icmp.build(message)) == message


@given(messages_6)
def test_round_trip_6(message: icmpv6.Icmpv6Message) -> None:
    data = icmpv6.build(message, HERE, THERE)
    assert icmpv6.parse(data, HERE, THERE, 255) == message


@given(messages_4, st.data())
def test_damage(message: icmp.IcmpMessage, data: st.DataObject) -> None:
    bad = bytearray(icmp.build(message))
    bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DecodeError, match="icmp: bad checksum"):
        icmp.parse(bytes(bad))


@given(messages_6, st.data())
def test_damage_6(message: icmpv6.Icmpv6Message, data: st.DataObject) -> None:
    bad = bytearray(icmpv6.build(message, HERE, THERE))
    bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DecodeError, match="icmpv6: bad checksum"):
        icmpv6.parse(bytes(bad), HERE, THERE, 255)


def test_too_short() -> None:
    with pytest.raises(DecodeError, match="icmp: short header"):
        icmp.parse(bytes(7))
    with pytest.raises(DecodeError, match="icmpv6: short header"):
        icmpv6.parse(bytes(7), HERE, THERE, 255)


@pytest.mark.parametrize(
    "message",
    [
        icmp.Echo(1 << 16, 0),
        icmp.Unreachable(256, b""),
        icmp.Unreachable(4, b"", 1 << 16),
        icmp.ParameterProblem(0, 256, b""),
        icmp.Redirect(0, bytes(16), b""),
        icmp.Other(256, 0, b""),
    ],
)
def test_members_that_do_not_fit(message: icmp.IcmpMessage) -> None:
    with pytest.raises(LocalProtocolError, match="does not fit"):
        icmp.build(message)


@pytest.mark.parametrize(
    "message",
    [
        icmp.Echo(0, 1 << 16),
        icmpv6.TooBig(1 << 32, b""),
        nd.NeighborSolicitation(bytes(4)),
        nd.NeighborAdvertisement(HERE, b"short"),
        nd.RouterAdvertisement(hop_limit=256),
        nd.RouterAdvertisement(prefixes=(nd.Prefix(b"", 64, True, True, 0, 0),)),
    ],
)
def test_members_that_do_not_fit_6(message: icmpv6.Icmpv6Message) -> None:
    with pytest.raises(LocalProtocolError, match="does not fit"):
        icmpv6.build(message, HERE, THERE)


V4 = (bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
V6 = (HERE, THERE)
SEGMENT = Segment(0x01020304, 5, ACK, 6, bytes(1000), source_port=7, destination_port=8)


def test_fragmentation_needed_as_a_router_sends_it() -> None:
    """RFC 792, RFC 1191 4: the IP header and 8 bytes show the connection and the sequence number."""
    packet = ipv4.Ipv4Header(*V4, 6, dont_fragment=True).build(tcp.build(SEGMENT, 0))
    data = icmp.build(icmp.Unreachable(icmp.FRAGMENTATION_NEEDED, packet[:28], 576))
    assert data[:8].hex()[:4] + data[4:8].hex() == "0304" + "00000240"
    message = icmp.parse(data)
    assert isinstance(message, icmp.Unreachable)
    assert message.next_hop_mtu == 576
    assert icmp.original(message.original) == icmp.Original(*V4, 6, 7, 8, 0x01020304, False, False)


def test_packet_too_big_as_a_router_sends_it() -> None:
    packet = ipv6.Ipv6Header(*V6, 6).build(tcp.build(SEGMENT, 0))
    message = icmpv6.parse(
        icmpv6.build(icmpv6.TooBig(1280, icmpv6.quote(packet)), THERE, HERE), THERE, HERE, 9
    )
    assert isinstance(message, icmpv6.TooBig)
    assert message.mtu == 1280
    assert icmp.original(message.original) == icmp.Original(*V6, 6, 7, 8, 0x01020304, False, False)


def test_quotations_fit() -> None:
    """RFC 1812 4.3.2.3 and RFC 4443 2.4 (c): 576 and 1,280 bytes in all."""
    packet = bytes(9000)
    assert 20 + len(icmp.build(icmp.Unreachable(1, icmp.quote(packet)))) == 576
    assert 40 + len(icmpv6.build(icmpv6.TooBig(1280, icmpv6.quote(packet)), HERE, THERE)) == 1280


@pytest.mark.parametrize("size", [28, 24, 22, 20])
def test_short_quotations(size: int) -> None:
    packet = ipv4.Ipv4Header(*V4, 6).build(tcp.build(SEGMENT, 0))[:size]
    about = icmp.original(packet)
    assert about.sequence == (0x01020304 if size == 28 else 0)
    assert about.destination_port == (8 if size >= 24 else 0)
    assert about.source_port == (7 if size >= 22 else 0)


def test_quotations_of_other_things() -> None:
    """No error message is sent about an error message or about a later fragment (RFC 1122 3.2.2)."""
    error = icmp.build(icmp.TimeExceeded(0, b""))
    assert icmp.original(ipv4.Ipv4Header(*V4, 1).build(error)).icmp_error
    echo = icmp.original(ipv4.Ipv4Header(*V4, 1).build(icmp.build(icmp.Echo(1, 2))))
    assert echo == icmp.Original(*V4, 1, 0, 0, 0, False, False)
    later = icmp.original(ipv4.Ipv4Header(*V4, 6, fragment_offset=8).build(bytes(range(20))))
    assert (later.fragment, later.source_port, later.sequence) == (True, 0, 0)
    error = icmpv6.build(icmpv6.TooBig(0, b""), *V6)
    assert icmp.original(ipv6.Ipv6Header(*V6, 58).build(error)).icmp_error
    echo = icmp.original(ipv6.Ipv6Header(*V6, 58).build(icmpv6.build(icmp.Echo(1, 2), *V6)))
    assert echo == icmp.Original(*V6, 58, 0, 0, 0, False, False)
    part = b"\x06\x00\x00\x10" + bytes(4)
    later = icmp.original(ipv6.Ipv6Header(*V6, 44).build(part + bytes(range(20))))
    assert (later.fragment, later.protocol, later.source_port) == (True, 6, 0)
    for data in (b"", b"\x45", bytes(39)):
        with pytest.raises(DecodeError):
            icmp.original(data)


GLOBAL = bytes.fromhex("20010db8000000000000000000000001")
GROUP = nd.ALL_NODES
SOLICITED = nd.solicited_node(HERE)

REFUSED: dict[str, tuple[nd.NdMessage, dict[str, Any], str]] = {
    "a solicitation from beyond the link": (nd.NeighborSolicitation(HERE), {"hop_limit": 254}, "bad value"),
    "an advertisement from beyond the link": (nd.NeighborAdvertisement(HERE), {"hop_limit": 64}, "bad value"),
    "a redirect from beyond the link": (nd.Redirect6(HERE, HERE), {"hop_limit": 254}, "bad value"),
    "a code": (nd.NeighborSolicitation(HERE), {"code": 1}, "bad value"),
    "a solicitation for a group": (nd.NeighborSolicitation(GROUP), {}, "bad address"),
    "an advertisement for a group": (nd.NeighborAdvertisement(GROUP), {}, "bad address"),
    "an answer to nobody in particular": (
        nd.NeighborAdvertisement(HERE, solicited=True),
        {"destination": GROUP},
        "bad address",
    ),
    "nobody's link address": (
        nd.NeighborSolicitation(HERE, MAC),
        {"source": nd.UNSPECIFIED, "destination": SOLICITED},
        "bad address",
    ),
    "nobody's solicitation to one node": (
        nd.NeighborSolicitation(HERE),
        {"source": nd.UNSPECIFIED},
        "bad address",
    ),
    "nobody's router solicitation with an address": (
        nd.RouterSolicitation(MAC),
        {"source": nd.UNSPECIFIED},
        "bad address",
    ),
    "a router with no link-local address": (nd.RouterAdvertisement(), {"source": GLOBAL}, "bad address"),
    "a redirect from elsewhere": (nd.Redirect6(HERE, HERE), {"source": GLOBAL}, "bad address"),
    "a redirect of a group": (nd.Redirect6(HERE, GROUP), {}, "bad address"),
    "a redirect to no router": (nd.Redirect6(GLOBAL, THERE), {}, "bad address"),
}


def arriving(
    message: nd.NdMessage,
    *,
    source: bytes = THERE,
    destination: bytes = HERE,
    hop_limit: int = 255,
    code: int = 0,
    tail: bytes = b"",
) -> icmpv6.Icmpv6Message:
    data = icmpv6.build(message, source, destination)
    # Other is built as it stands: with a code, and with more behind the options.
    data = icmpv6.build(icmp.Other(data[0], code, data[4:] + tail), source, destination)
    return icmpv6.parse(data, source, destination, hop_limit)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_discovery_messages(case: str) -> None:
    """RFC 4861 6.1.1, 6.1.2, 7.1.1, 7.1.2, 8.1."""
    message, circumstances, reason = REFUSED[case]
    with pytest.raises(DecodeError, match=f"nd: {reason}"):
        arriving(message, **circumstances)


def test_duplicate_address_detection_is_accepted() -> None:
    message = nd.NeighborSolicitation(HERE)
    assert arriving(message, source=nd.UNSPECIFIED, destination=SOLICITED) == message


@pytest.mark.parametrize(
    "tail", [b"\x01\x00" + bytes(6), b"\x0e", b"\x0e\x02" + bytes(6)], ids=["0", "cut", "long"]
)
@pytest.mark.parametrize(
    "message",
    [
        nd.NeighborSolicitation(HERE, MAC),
        nd.NeighborAdvertisement(HERE, MAC),
        nd.RouterSolicitation(MAC),
        nd.RouterAdvertisement(source_mac=MAC),
        nd.Redirect6(HERE, HERE),
    ],
)
def test_options_of_impossible_length(message: nd.NdMessage, tail: bytes) -> None:
    """RFC 4861 4.6: a length of zero has the whole message discarded."""
    with pytest.raises(DecodeError, match="nd: bad option"):
        arriving(message, tail=tail)


def test_options_that_say_nothing() -> None:
    """Unknown kinds, and known ones of another length, are passed over."""
    tail = b"\x0e\x01nonce!" + b"\x02\x02" + bytes(14) + b"\x05\x02" + bytes(14) + b"\x03\x01" + bytes(6)
    message = nd.RouterAdvertisement(source_mac=MAC, mtu=1400)
    assert arriving(message, tail=tail) == message


def test_short_discovery_messages() -> None:
    for kind, size in nd.TYPES.items():
        if size <= 4:
            continue  # ICMPv6's own minimum is as long
        data = icmpv6.build(icmp.Other(kind, 0, bytes(size - 1)), THERE, HERE)
        with pytest.raises(DecodeError, match="nd: short header"):
            icmpv6.parse(data, THERE, HERE, 255)


def test_solicited_node_address() -> None:
    """The example of RFC 4291 2.7.1: 4037::01:800:200E:8C6C gives FF02::1:FF0E:8C6C."""
    address = bytes.fromhex("403700000000000000010800200e8c6c")
    assert nd.solicited_node(address).hex() == "ff0200000000000000000001ff0e8c6c"
