"""What arrives off the hot path: validation, by reason; echo; unreachable; fragments; groups."""

from __future__ import annotations

import random
from ipaddress import ip_address
from typing import Any

import pytest

from ndisbus.errors import LocalProtocolError
from ndisbus.net import fragments, icmp, icmpv6
from ndisbus.net.checksum import pseudo_header
from ndisbus.net.ethernet import BROADCAST
from ndisbus.net.icmp import Echo, ParameterProblem, TimeExceeded, Unreachable
from ndisbus.net.ipv4 import Ipv4Header
from ndisbus.net.ipv6 import Ipv6Header
from ndisbus.net.udp import UdpDatagram
from tests.support.net_bench import IP, IP6, MAC, REMOTE, REMOTE6, REMOTE_MAC, Bench


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.know_remote()
    return bench


def udp(bench: Bench, *, six: bool = False, **header: Any) -> bytes:
    source, destination = (REMOTE6, IP6) if six else (REMOTE, IP)
    destination = header.get("destination", destination)
    datagram = UdpDatagram(1000, 53, b"question").build(pseudo_header(source, destination, 17))
    return bench.ipv6(17, datagram, **header) if six else bench.ipv4(17, datagram, **header)


def test_an_echo_is_answered_with_the_same_data(bench: Bench) -> None:
    (frame,) = bench.give(bench.icmp(Echo(7, 9, b"abc")))
    assert frame[:12] == REMOTE_MAC + MAC
    assert bench.messages([frame]) == [Echo(7, 9, b"abc", reply=True)]
    (frame,) = bench.give(bench.icmpv6(Echo(7, 9, b"abc"), hop_limit=64))
    assert bench.messages([frame]) == [Echo(7, 9, b"abc", reply=True)]


def test_a_large_echo_comes_in_fragments_and_is_answered_in_fragments(bench: Bench) -> None:
    data = random.Random(1).randbytes(4000)
    for six in (False, True):
        if six:
            body = icmpv6.build(Echo(1, 2, data), REMOTE6, IP6)
            packets = fragments.fragment(Ipv6Header(REMOTE6, IP6, 58, 64).build(body), 1280, 77)
        else:
            body = icmp.build(Echo(1, 2, data))
            packets = fragments.fragment(Ipv4Header(REMOTE, IP, 1, 64).build(body), 576)
        assert len(packets) > 3
        ethertype = 0x86DD if six else 0x0800
        frames = [bench.frame(ethertype, p) for p in packets]
        random.Random(2).shuffle(frames)
        answer = bench.give(*frames)
        assert len(answer) == 3
        assert all(len(f) <= 1514 for f in answer)
        again = Bench()
        again.know_remote()
        for f in answer:
            assert again.give(f) == []
        whole = [again.stack.datagrams.reassembler.add(f[14 : bench.info(f).end], 0.0) for f in answer]
        assert whole[-1] is not None
        assert data in whole[-1]


@pytest.mark.parametrize("six", [False, True])
def test_the_longest_echo_there_can_be_is_answered(bench: Bench, six: bool) -> None:
    """An IPv4 packet of 65535 bytes, and as much behind an IPv6 header."""
    if six:
        body = icmpv6.build(Echo(1, 2, bytes(0xFFFF - 8)), REMOTE6, IP6)
        packets = fragments.fragment(Ipv6Header(REMOTE6, IP6, 58, 64).build(body), 1500, 77)
    else:
        body = icmp.build(Echo(1, 2, bytes(0xFFFF - 20 - 8)))
        packets = fragments.fragment(Ipv4Header(REMOTE, IP, 1, 64).build(body), 1500)
    frames = [bench.frame(0x86DD if six else 0x0800, p) for p in packets]
    assert len(bench.give(*frames)) == len(frames)


def test_identifications_are_of_the_lower_half(bench: Bench) -> None:
    """R-IP-02: the host's IPv4 identifications are 0..0x7FFF, whatever it sends; IPv6's likewise."""
    seen = set()
    for _ in range(0x8100):
        (frame,) = bench.give(bench.icmp(Echo(1, 1)))
        seen.add(int.from_bytes(frame[18:20], "big"))
    assert len(seen) == 0x8000
    assert max(seen) == 0x7FFF
    frames = bench.give(bench.icmpv6(Echo(1, 1, bytes(1400)), hop_limit=64))
    bench.stack.paths.get(IP6, REMOTE6)
    entry = bench.stack.paths.find(IP6, REMOTE6)
    assert entry is not None
    entry.learn(1280, bench.now)
    frames = bench.give(bench.icmpv6(Echo(1, 1, bytes(1400)), hop_limit=64))
    assert len(frames) == 2
    assert int.from_bytes(frames[0][14 + 40 + 4 : 14 + 40 + 8], "big") < 0x80000000


def test_a_udp_datagram_is_unreachable(bench: Bench) -> None:
    """RFC 1122 4.1.3.1: port unreachable, quoting the datagram."""
    (message,) = bench.messages(bench.give(udp(bench)))
    assert isinstance(message, Unreachable)
    assert message.code == icmp.PORT_UNREACHABLE
    quoted = icmp.original(message.original)
    assert (quoted.source, quoted.source_port, quoted.destination_port) == (REMOTE, 1000, 53)
    (message,) = bench.messages(bench.give(udp(bench, six=True)))
    assert isinstance(message, Unreachable)
    assert message.code == icmpv6.PORT_UNREACHABLE
    assert bench.count("udp: no port") == 2


@pytest.mark.parametrize("destination", [bytes((10, 77, 0, 255)), b"\xff" * 4, bytes((224, 0, 0, 1))])
def test_no_error_and_no_echo_answers_a_broadcast(bench: Bench, destination: bytes) -> None:
    """RFC 1122 3.2.2: no ICMP error about a datagram to a group."""
    to = BROADCAST if destination[0] != 224 else b"\x01\0\x5e\0\0\1"
    assert bench.give(udp(bench, destination=destination, to=to)) == []
    assert bench.give(bench.icmp(Echo(1, 1), destination=destination, to=to)) == []
    assert bench.count("udp: no port") == 1
    assert bench.count("icmp: echo to a group") == 1


def test_no_error_answers_a_unicast_datagram_in_a_broadcast_frame(bench: Bench) -> None:
    assert bench.give(udp(bench, to=BROADCAST)) == []
    assert bench.count("udp: no port") == 1


def test_an_unknown_protocol(bench: Bench) -> None:
    (message,) = bench.messages(bench.give(bench.ipv4(47, b"tunnel")))
    assert isinstance(message, Unreachable)
    assert message.code == icmp.PROTOCOL_UNREACHABLE
    (message,) = bench.messages(bench.give(bench.ipv6(47, b"tunnel")))
    assert isinstance(message, ParameterProblem)
    assert (message.code, message.pointer) == (icmpv6.UNRECOGNIZED_NEXT_HEADER, 6)


def test_errors_are_not_answered_by_errors(bench: Bench) -> None:
    packet = Ipv4Header(IP, REMOTE, 17, 64).build(UdpDatagram(5, 6).build(0))
    assert bench.give(bench.icmp(Unreachable(icmp.PORT_UNREACHABLE, packet))) == []
    assert bench.give(bench.icmp(Unreachable(icmp.PORT_UNREACHABLE, b"\x45nonsense"))) == []


def test_error_messages_are_limited_in_number(bench: Bench) -> None:
    """RFC 4443 2.4 (f), RFC 1812 4.3.2.8."""
    answered = sum(len(bench.give(udp(bench))) for _ in range(200))
    assert answered == 50
    assert bench.count("icmp: error rate limit") == 150
    bench.run(0.105)
    assert sum(len(bench.give(udp(bench))) for _ in range(200)) == 10


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"source": bytes((224, 0, 0, 5))}, "ipv4: bad source"),
        ({"source": bytes((127, 0, 0, 1))}, "ipv4: bad source"),
        ({"source": bytes(4)}, "ipv4: bad source"),
        ({"source": b"\xff" * 4}, "ipv4: bad source"),
        ({"source": bytes((10, 77, 0, 255))}, "ipv4: bad source"),
        ({"source": IP}, "ipv4: own source"),
        ({"destination": bytes((10, 77, 0, 9))}, "ipv4: not for us"),
        ({"options": bytes((131, 7, 4, 10, 0, 0, 1, 0))}, "ipv4: source route"),
        ({"options": bytes((137, 7, 4, 10, 0, 0, 1, 0))}, "ipv4: source route"),
    ],
)
def test_ipv4_datagrams_that_are_dropped(bench: Bench, header: dict[str, Any], reason: str) -> None:
    assert bench.give(udp(bench, **header)) == []
    assert bench.count(reason) == 1
    assert bench.count("udp: no port") == 0


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"source": ip_address("ff02::1").packed}, "ipv6: bad source"),
        ({"source": ip_address("::1").packed}, "ipv6: bad source"),
        ({"source": bytes(16)}, "ipv6: bad source"),
        ({"source": IP6}, "ipv6: own source"),
        ({"destination": ip_address("fd77::9").packed}, "ipv6: not for us"),
    ],
)
def test_ipv6_datagrams_that_are_dropped(bench: Bench, header: dict[str, Any], reason: str) -> None:
    assert bench.give(udp(bench, six=True, **header)) == []
    assert bench.count(reason) == 1


def test_other_options_are_skipped_and_bad_ones_answered(bench: Bench) -> None:
    assert len(bench.give(udp(bench, options=bytes((148, 4, 0, 0))))) == 1  # router alert
    assert bench.count("ipv4: with options") == 1
    (message,) = bench.messages(bench.give(udp(bench, options=bytes((7, 1, 0, 0)))))
    assert isinstance(message, ParameterProblem)
    assert bench.count("ipv4: bad option") == 1


def test_frames_that_are_not_for_us_or_make_no_sense_are_counted(bench: Bench) -> None:
    good = bench.icmp(Echo(1, 1))
    elsewhere = bytes.fromhex("0200000000aa") + good[6:]
    cases = [
        (elsewhere, "ethernet: not for us"),
        (good[:10], "ethernet: short header"),
        (good[:6] + b"\x01" + good[7:], "ethernet: bad source"),
        (good[:12] + b"\x88\xcc" + good[14:], "ethernet: unknown type"),
        (good[:20], "ipv4: short header"),
        (good[:22] + b"\0" + good[23:], "ipv4: bad checksum"),
        (good[:-1] + b"\xff", "icmp: bad checksum"),
    ]
    for frame, reason in cases:
        assert bench.give(frame) == []
        assert bench.count(reason) == 1, reason
    assert len(bench.give(good)) == 1


def test_padding_of_a_short_frame_is_no_data(bench: Bench) -> None:
    (frame,) = bench.give(bench.icmp(Echo(1, 1, b"x")) + bytes(18))
    assert bench.messages([frame]) == [Echo(1, 1, b"x", reply=True)]


def test_random_bytes_never_raise(bench: Bench) -> None:
    rng = random.Random(5)
    templates = [
        bench.icmp(Echo(1, 1, b"data")),
        bench.icmpv6(Echo(1, 1, b"data")),
        udp(bench),
        udp(bench, six=True),
        bench.arp(1),
        bench.ipv6(0, bytes((59, 0, 1, 4, 0, 0, 0, 0))),
    ]
    for _ in range(20_000):
        frame = bytearray(rng.choice(templates))
        for _ in range(rng.randrange(4)):
            frame[rng.randrange(6, len(frame))] = rng.getrandbits(8)
        bench.give(bytes(frame[: rng.randrange(6, len(frame) + 1)] if rng.random() < 0.2 else frame))
    assert len(bench.stack.counters) > 20


def test_a_datagram_that_stays_incomplete_is_given_up_with_time_exceeded(bench: Bench) -> None:
    """RFC 1122 3.3.2, RFC 8200 4.5: after 60 s, and only if the first fragment is there."""
    packets = fragments.fragment(
        Ipv4Header(REMOTE, IP, 1, 64, 0, 77).build(icmp.build(Echo(1, 2, bytes(3000)))), 1500
    )
    second = fragments.fragment(
        Ipv4Header(REMOTE, IP, 1, 64, 0, 78).build(icmp.build(Echo(1, 2, bytes(3000)))), 1500
    )
    bench.give(bench.frame(0x0800, packets[0]))
    bench.give(bench.frame(0x0800, second[1]))
    bench.run(59.0)
    bench.take()
    bench.know_remote()
    bench.run(2.0)
    (message,) = bench.messages(bench.take())
    assert isinstance(message, TimeExceeded)
    assert message.code == icmp.REASSEMBLY_TIME_EXCEEDED
    assert bench.count("reassembly timeout") == 2


def test_an_extension_header_with_an_option_that_must_be_known_is_answered(bench: Bench) -> None:
    """RFC 8200 4.2: option types 10xxxxxx discard and answer with a parameter problem."""
    options = bytes((17, 0, 0x9E, 4, 0, 0, 0, 0))
    (message,) = bench.messages(bench.give(bench.ipv6(60, options + bytes(8))))
    assert isinstance(message, ParameterProblem)
    assert (message.code, message.pointer) == (icmpv6.UNRECOGNIZED_OPTION, 42)
    assert bench.count("ipv6: unacceptable extension") == 1


def test_only_frames_of_its_vlan_reach_an_interface_that_has_one() -> None:
    """As the target does it for a connection that has one."""
    bench = Bench(vlan_id=12)
    untagged = bench.arp(1)
    assert bench.give(untagged) == []
    assert bench.count("ethernet: other VLAN") == 1
    tag = b"\x81\x00\x00\x0c"
    (reply,) = bench.give(untagged[:12] + tag + untagged[12:])
    assert reply[12:16] == tag
    assert bench.give(untagged[:12] + b"\x81\x00\x00\x0d" + untagged[12:]) == []


def test_pings_are_answered_or_forgotten(bench: Bench) -> None:
    ping = bench.stack.ping("10.77.0.2", 8)
    bench.stack.flush()
    (request,) = bench.messages(bench.take())
    bench.now += 0.25
    bench.give(bench.icmp(Echo(request.identifier, request.sequence, request.data, reply=True)))
    assert ping.seconds == pytest.approx(0.25)
    assert ping.done
    bench.give(bench.icmp(Echo(request.identifier, request.sequence, b"again", reply=True)))
    assert bench.count("icmp: stray echo reply") == 1
    with pytest.raises(LocalProtocolError, match="not an IP address"):
        bench.stack.ping("nowhere")
