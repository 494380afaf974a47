"""Bytes of any kind: every parser reads them or refuses them with a name, and nothing else happens."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.errors import DecodeError
from ndisbus.net import arp, ethernet, icmp, icmpv6, ipv4, ipv6, tcp, udp
from ndisbus.net.fragments import fragment
from ndisbus.net.malformed import LAYERS, WORDS
from ndisbus.net.nd import NeighborSolicitation, Prefix, Redirect6, RouterAdvertisement
from ndisbus.net.peek import peek, peek_packet
from ndisbus.net.reassembly import Reassembler
from ndisbus.net.segment import ACK, SYN, Segment

V4 = (bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
V6 = (bytes.fromhex("fe80" + "00" * 13 + "01"), bytes.fromhex("fe80" + "00" * 13 + "02"))
MAC: Final = bytes(6)


def _frame(frame: bytes) -> None:
    info = peek(frame)
    assert info.version in (0, 4, 6)
    if info.version:
        assert info.l3 < info.l4 <= info.end <= len(frame)
        assert len(info.key) in ((8, 12) if info.version == 4 else (32, 36))
    if info.protocol == 6 and len(info.key) in (12, 36):
        segment = tcp.parse_frame(frame, info, verify=False)
        assert len(segment.payload) <= info.end - info.l4 - 20


def _options_of(packet: bytes) -> None:
    header, _ = ipv4.parse(packet, whole=False)
    list(ipv4.options(header.options))


def _discovery(body: bytes) -> None:
    """With the right checksum and the right circumstances, so that the body itself is judged."""
    kind = 133 + body[0] % 5 if body else 133
    data = icmpv6.build(icmp.Other(kind, 0, body[1:]), *V6)
    icmpv6.parse(data, *V6, 255)


PARSERS: Final[dict[str, Callable[[bytes], object]]] = {
    "frame": _frame,
    "packet": peek_packet,
    "ethernet": ethernet.parse,
    "arp": arp.parse,
    "ipv4": ipv4.parse,
    "ipv4 quoted": _options_of,
    "ipv6": ipv6.parse,
    "walk": lambda data: ipv6.walk(data) if len(data) >= 40 else None,
    "tcp": lambda data: tcp.parse_segment(data, None),
    "udp": lambda data: udp.parse(data, None),
    "icmp": icmp.parse,
    "original": icmp.original,
    "discovery": _discovery,
    "reassembly": lambda data: Reassembler().add(data, 0.0),
}


def _samples() -> list[bytes]:
    """Good frames and packets of every kind, to be damaged."""
    segment = Segment(1, 2, ACK, 3, b"some data", ts_val=1, ts_ecr=2, sack=((1, 2),))
    syn = Segment(1, 0, SYN, 3, mss=1460, window_scale=7, sack_permitted=True, ts_val=1)
    four = [ipv4.Ipv4Header(*V4, 6).build(tcp.build(s, 0)) for s in (segment, syn)]
    four.append(
        ipv4.Ipv4Header(*V4, 6, options=b"\x94\x04\0\0\x44\x08\x05\0" + bytes(4)).build(tcp.build(syn, 0))
    )
    four.append(ipv4.Ipv4Header(*V4, 17).build(udp.UdpDatagram(1, 2, b"data").build(0)))
    four += fragment(ipv4.Ipv4Header(*V4, 17).build(bytes(100)), 80)
    four += [
        ipv4.Ipv4Header(*V4, 1).build(icmp.build(message))
        for message in (
            icmp.Echo(1, 2, b"x"),
            icmp.Unreachable(4, four[0], 576),
            icmp.Redirect(1, bytes(4), four[1]),
        )
    ]
    hop = b"\x3c\x00\x05\x02\x00\x00\x01\x00"
    options = b"\x06\x00\x3e\x04" + bytes(4)
    six = [
        ipv6.Ipv6Header(*V6, 6).build(tcp.build(segment, 0)),
        ipv6.Ipv6Header(*V6, 0).build(hop + options + tcp.build(syn, 0)),
        *fragment(ipv6.Ipv6Header(*V6, 0).build(hop + options + bytes(200)), 160, 7),
    ]
    messages = (
        icmpv6.TooBig(1280, six[0]),
        NeighborSolicitation(V6[0], MAC),
        RouterAdvertisement(mtu=1500, source_mac=MAC, prefixes=(Prefix(V6[0], 64, True, True, 1, 2),)),
        Redirect6(V6[0], V6[0], MAC, six[0]),
    )
    six += [ipv6.Ipv6Header(*V6, 58, 255).build(icmpv6.build(m, *V6)) for m in messages]
    packets = [*four, *six]
    frames = [
        ethernet.EthernetHeader(MAC, MAC, 0x800 if p[0] >> 4 == 4 else 0x86DD, vlan).build() + p
        for p in packets
        for vlan in (None, 5)
    ]
    frames.append(
        ethernet.EthernetHeader(MAC, MAC, 0x806).build() + arp.ArpPacket(1, MAC, *V4[:1], MAC, V4[1]).build()
    )
    return [*frames, *packets, *(p[20:] for p in four), *(p[40:] for p in six)]


SAMPLES: Final = _samples()


def _try(parser: Callable[[bytes], object], data: bytes) -> str:
    """What became of it: "" if it was read."""
    try:
        parser(data)
    except DecodeError as refusal:
        error = refusal
    else:
        return ""
    assert error.where in LAYERS
    assert error.detail in WORDS
    return str(error)


def _mutate(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        way = rng.randrange(5)
        at = rng.randrange(len(out)) if out else 0
        if way == 0 and out:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif way == 1 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif way == 2:
            del out[at : at + rng.randint(1, 8)]
        elif way == 3:
            out[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            del out[at:]
    return bytes(out)


@pytest.mark.parametrize("name", PARSERS)
@given(st.binary(max_size=200))
def test_any_bytes(name: str, data: bytes) -> None:
    _try(PARSERS[name], data)


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_samples(name: str) -> None:
    """Each parser reads some and refuses some: neither all nor nothing."""
    rng = random.Random(name)
    results: dict[str, int] = {}
    for _ in range(4000):
        outcome = _try(PARSERS[name], _mutate(rng, rng.choice(SAMPLES)))
        results[outcome] = results.get(outcome, 0) + 1
    assert len(results) > 1


def test_damaged_ipv4_with_its_checksum_put_right() -> None:
    """The header checksum hides nothing from what is behind it."""
    rng = random.Random(4)
    packets = [p for p in SAMPLES if len(p) > 20 and p[0] >> 4 == 4 and 20 <= (p[0] & 15) * 4 < len(p)]
    read = 0
    for _ in range(6000):
        data = bytearray(_mutate(rng, rng.choice(packets)))
        size = (data[0] & 15) * 4 if data else 0
        if 20 <= size <= len(data):
            data[10:12] = b"\0\0"
            total = -int.from_bytes(data[:size], "big") % 0xFFFF
            data[10:12] = total.to_bytes(2, "big")
        frame = ethernet.EthernetHeader(MAC, MAC, 0x800).build() + bytes(data)
        read += not _try(_frame, frame)
        _try(PARSERS["reassembly"], bytes(data))
    assert read > 500


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 32))
def test_flood_of_damaged_fragments(seed: int) -> None:
    """One reassembler that takes them all stays within its bounds."""
    rng = random.Random(seed)
    reassembler = Reassembler(max_bytes=30_000, max_datagrams=20)
    parts = [
        *fragment(ipv4.Ipv4Header(*V4, 17, identification=7).build(rng.randbytes(3000)), 600),
        *fragment(ipv6.Ipv6Header(*V6, 17).build(rng.randbytes(3000)), 600, 7),
    ]
    for step in range(400):
        part = bytearray(rng.choice(parts))
        if rng.random() < 0.7:
            part[rng.randrange(4, 8)] ^= 1 << rng.randrange(8)
            if part[0] >> 4 == 4:
                part[10:12] = b"\0\0"
                part[10:12] = (-int.from_bytes(part[:20], "big") % 0xFFFF).to_bytes(2, "big")
        _try(lambda data, now=step / 4: reassembler.add(data, now), bytes(part))  # type: ignore[misc]
        assert reassembler.held <= 30_000
        assert len(reassembler) <= 20
    reassembler.on_timer(1e9)
    assert (reassembler.held, len(reassembler)) == (0, 0)
