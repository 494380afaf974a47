"""What ICMP does to connections, paths and routes."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from hoststack.model.life import State as Life
from hoststack.net import SocketEvent
from hoststack.net.errors import ConnectionTimedOut, Unreachable
from hoststack.net.paths import MTU_LIFETIME, SMALLEST_PATH_MTU, plateau
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.net import arp, icmp, icmpv6, ipv4
from ndisbus.net.icmp import ParameterProblem, Redirect, TimeExceeded
from ndisbus.net.icmp import Unreachable as IcmpUnreachable
from ndisbus.net.icmpv6 import TooBig
from ndisbus.net.nd import Redirect6
from ndisbus.net.segment import ACK, Segment
from tests.support.net_bench import IP6, REMOTE, REMOTE6, REMOTE_MAC, Bench

ROUTER = bytes((10, 77, 0, 254))
ROUTER_MAC = bytes.fromhex("0200000000fe")
OTHER_ROUTER = bytes((10, 77, 0, 253))
FAR = bytes((192, 0, 2, 9))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def connecting(bench: Bench, to: str = "10.77.0.2") -> tuple[Any, bytes]:
    """A socket in SYN_SENT, and the packet of its SYN."""
    bench.know_remote()
    socket = bench.stack.tcp_connect((to, 80))
    bench.stack.flush()
    (frame,) = bench.take()
    return socket, frame[14:]


def sending(bench: Bench, data: bytes = b"x" * 4000) -> tuple[Any, list[bytes]]:
    """An established socket with data in flight, and the packets of it."""
    socket, _ = bench.connected()
    socket.send(data)
    bench.stack.flush()
    return socket, [f[14:] for f in bench.take()]


# -- errors


@pytest.mark.parametrize("code", [icmp.PROTOCOL_UNREACHABLE, icmp.PORT_UNREACHABLE, 9, 10, 13])
def test_a_hard_error_ends_an_attempt_to_connect(bench: Bench, code: int) -> None:
    """RFC 1122 4.2.3.9."""
    socket, syn = connecting(bench)
    bench.give(bench.icmp(IcmpUnreachable(code, syn)))
    assert isinstance(socket.error, Unreachable)
    assert "10.77.0.2:80" in str(socket.error)
    assert socket.key not in bench.stack.transport.sockets


@pytest.mark.parametrize(
    "message",
    [
        lambda p: IcmpUnreachable(icmp.NET_UNREACHABLE, p),
        lambda p: IcmpUnreachable(icmp.HOST_UNREACHABLE, p),
        lambda p: IcmpUnreachable(5, p),
        lambda p: TimeExceeded(icmp.TTL_EXCEEDED, p),
        lambda p: ParameterProblem(0, 20, p),
    ],
)
def test_a_soft_error_does_not_end_it_but_is_told_when_it_times_out(bench: Bench, message: Any) -> None:
    """RFC 1122 4.2.3.9: MUST NOT abort; the information should reach the application."""
    socket, syn = connecting(bench)
    bench.give(bench.icmp(message(syn)))
    assert not socket.error
    assert socket.soft_error
    for _ in range(240):
        bench.run(1.0)
        bench.answer_resolution()
        bench.take()
    assert isinstance(socket.error, Unreachable)
    assert socket.soft_error in str(socket.error)


def test_without_any_word_it_is_a_timeout(bench: Bench) -> None:
    socket, _ = connecting(bench)
    for _ in range(240):
        bench.run(1.0)
        bench.answer_resolution()
        bench.take()
    assert isinstance(socket.error, ConnectionTimedOut)
    assert isinstance(socket.error, TimeoutError)


@pytest.mark.parametrize("code", [icmp.HOST_UNREACHABLE, icmp.PORT_UNREACHABLE, icmp.PROTOCOL_UNREACHABLE])
def test_no_error_ends_an_established_connection(bench: Bench, code: int) -> None:
    """RFC 5927 5.2: hard errors are treated as soft ones."""
    socket, packets = sending(bench)
    bench.give(bench.icmp(IcmpUnreachable(code, packets[0])))
    assert socket.error is None
    assert socket.state is State.TcpConnectionEstablished
    assert socket.soft_error


def test_an_error_about_something_that_is_not_in_flight_is_ignored(bench: Bench) -> None:
    """RFC 5927 4.1: who guesses at the four-tuple has to guess the sequence number as well."""
    socket, packets = sending(bench)
    forged = bytearray(packets[0])
    forged[24:28] = ((int.from_bytes(forged[24:28], "big") + 100_000) & 0xFFFFFFFF).to_bytes(4, "big")
    bench.give(bench.icmp(IcmpUnreachable(icmp.PORT_UNREACHABLE, bytes(forged))))
    assert not socket.soft_error
    bench.give(bench.icmp(IcmpUnreachable(icmp.FRAGMENTATION_NEEDED, bytes(forged), 600)))
    assert socket.path_entry.mtu == 1500
    assert bench.count("icmp: quotes nothing in flight") == 2


def test_errors_of_ipv6(bench: Bench) -> None:
    socket, syn = connecting(bench, "fd77::2")
    soft = IcmpUnreachable(icmpv6.ADDRESS_UNREACHABLE, syn)
    bench.give(bench.icmpv6(soft, hop_limit=64))
    assert socket.error is None
    assert socket.soft_error == "address unreachable"
    bench.give(bench.icmpv6(IcmpUnreachable(icmpv6.PORT_UNREACHABLE, syn), hop_limit=64))
    assert isinstance(socket.error, Unreachable)


def test_an_error_about_a_strangers_packet_is_counted(bench: Bench) -> None:
    _, syn = connecting(bench)
    stranger = syn[:12] + bytes((10, 77, 0, 8)) + syn[16:]
    bench.give(bench.icmp(IcmpUnreachable(icmp.PORT_UNREACHABLE, stranger)))
    assert bench.count("icmp: quotes a stranger") == 1


def test_an_error_about_a_ping_is_its_outcome(bench: Bench) -> None:
    bench.know_remote()
    ping = bench.stack.ping("10.77.0.2")
    bench.stack.flush()
    (frame,) = bench.take()
    bench.give(bench.icmp(IcmpUnreachable(icmp.HOST_UNREACHABLE, frame[14:])))
    assert ping.error == "host unreachable"


def test_a_source_quench_is_ignored(bench: Bench) -> None:
    """RFC 6633."""
    socket, packets = sending(bench)
    before = socket.tcb.delegated.c_wnd
    bench.give(bench.icmp(icmp.Other(4, 0, bytes(4) + packets[0][:28])))
    assert socket.tcb.delegated.c_wnd == before
    assert not socket.soft_error
    assert bench.count("icmp: type 4") == 1


# -- path MTU


def test_fragmentation_needed_narrows_the_path_and_what_is_in_flight_is_cut_anew(bench: Bench) -> None:
    """RFC 1191: same bytes, smaller segments, DF still set."""
    data = bytes(range(250)) * 16
    socket, packets = sending(bench, data)
    assert len(packets[0]) == 1500
    frames = bench.give(bench.icmp(IcmpUnreachable(icmp.FRAGMENTATION_NEEDED, packets[0], 600)))
    assert socket.path_entry.mtu == 600
    assert socket.tcb.path.cached.path_mtu == 600
    assert frames
    assert all(len(f) <= 614 for f in frames)
    assert all(f[20] & 0x40 for f in frames), "DF"
    first = bench.segments(frames)[0]
    assert data.startswith(bytes(first.payload))
    assert first.seq == socket.tcb.delegated.snd_una


def test_too_big_of_ipv6_below_1280_is_discarded(bench: Bench) -> None:
    """RFC1191-3-FLOOR, RFC 8201 section 4: no link of IPv6 has less, so the message is wrong."""
    bench.know_remote()
    entry = bench.stack.paths.get(IP6, REMOTE6)
    assert entry is not None
    bench.stack.ping("fd77::2", 1400)
    bench.stack.flush()
    (frame,) = bench.take()
    for nonsense in (0, 1000, 1279):
        bench.give(bench.icmpv6(TooBig(nonsense, frame[14:]), hop_limit=64))
        assert entry.mtu == 1500
    bench.give(bench.icmpv6(TooBig(1280, frame[14:]), hop_limit=64))
    assert entry.mtu == 1280


def test_a_path_is_never_widened_by_a_message_and_is_tried_again_after_ten_minutes(bench: Bench) -> None:
    """RFC 1191 6.3."""
    socket, packets = sending(bench)
    entry = socket.path_entry
    bench.give(bench.icmp(IcmpUnreachable(icmp.FRAGMENTATION_NEEDED, packets[0], 1000)))
    bench.give(bench.icmp(IcmpUnreachable(icmp.FRAGMENTATION_NEEDED, packets[0], 1400)))
    assert entry.mtu == 1000
    bench.give(bench.icmp(IcmpUnreachable(icmp.FRAGMENTATION_NEEDED, packets[0], 20)))
    assert entry.mtu == 1000
    socket.abort()
    bench.run(MTU_LIFETIME - 1)
    assert entry.mtu == 1000
    bench.run(2)
    assert entry.mtu == 1500


@pytest.mark.parametrize("reported", [68, 100, 296, 551])
def test_a_very_small_path_mtu_clears_df_instead(bench: Bench, reported: int) -> None:
    """RFC1191-3-FLOOR: one forged error must not make segments of 48 bytes."""
    socket, packets = sending(bench)
    entry = socket.path_entry
    assert all(packet[6] & 0x40 for packet in packets)
    sent = bench.give(bench.icmp(IcmpUnreachable(icmp.FRAGMENTATION_NEEDED, packets[0], reported)))
    assert entry.mtu == SMALLEST_PATH_MTU
    assert sent
    for frame in sent:
        header, payload = ipv4.parse(frame[14:])  # raises if the checksum is wrong
        assert not header.dont_fragment
        assert len(payload) == SMALLEST_PATH_MTU - 20 or frame is sent[-1]
    assert socket.machine.mss >= 500
    bench.run(MTU_LIFETIME + 1)
    assert entry.mtu == 1500
    assert not entry.fragmentable


def test_a_router_without_a_next_hop_mtu_takes_us_down_the_plateaus(bench: Bench) -> None:
    """RFC 1191 section 7."""
    socket, packets = sending(bench)
    bench.give(bench.icmp(IcmpUnreachable(icmp.FRAGMENTATION_NEEDED, packets[0], 0)))
    assert socket.path_entry.mtu == 1492
    assert [plateau(n) for n in (65535, 1500, 1492, 600, 68)] == [32000, 1492, 1006, 508, 68]


def test_an_offloaded_path_is_updated_below(bench: Bench) -> None:
    """R-UPD-08: a path MTU learned from ICMP is passed down."""
    socket, packets = sending(bench)
    bench.stack.detach(socket, bench.now)
    bench.take()
    path = socket.tcb.path
    path.state = Life.OFFLOADED
    bench.give(bench.icmp(IcmpUnreachable(icmp.FRAGMENTATION_NEEDED, packets[0], 900)))
    assert path.cached.path_mtu == 900
    assert bench.hooks.calls == [("path_mtu", path)]


# -- redirect


def routed(bench: Bench) -> Any:
    """A connection through the router, established."""
    bench.stack.add_route("0.0.0.0/0", bench.interface, "10.77.0.254")
    bench.give(bench.arp(arp.REQUEST, mac=ROUTER_MAC, ip=ROUTER))
    socket = bench.stack.tcp_connect(("192.0.2.9", 80))
    bench.stack.flush()
    (frame,) = bench.take()
    assert frame[:6] == ROUTER_MAC
    (syn,) = bench.segments([frame])
    answer = Segment(1, (syn.seq + 1) & 0xFFFFFFFF, ACK | 2, 9999, b"", 0, 80, syn.source_port)
    bench.give(bench.tcp(answer, source=FAR))
    assert socket.connected
    socket.send(b"data")
    bench.stack.flush()
    (frame,) = bench.take()
    return socket, frame[14:]


def redirect(bench: Bench, packet: bytes, *, by: bytes = ROUTER, to: bytes = OTHER_ROUTER) -> list[bytes]:
    return bench.give(bench.icmp(Redirect(icmp.REDIRECT_HOST, to, packet), source=by))


def test_a_redirect_moves_the_path_to_another_neighbor(bench: Bench) -> None:
    """RFC 1122 3.2.2.2."""
    socket, packet = routed(bench)
    old = socket.path_entry.hop
    redirect(bench, packet)
    assert socket.path_entry.hop is not old
    assert socket.tcb.path.neighbor is socket.path_entry.hop.neighbor
    assert socket.path_entry.hop.address == OTHER_ROUTER
    assert (old.users, socket.path_entry.hop.users) == (0, 1)
    socket.send(b"more")
    bench.run(1.0)
    question = arp.parse(bench.take()[0][14:])
    assert question.target_ip == OTHER_ROUTER
    frames = bench.give(bench.arp(arp.REPLY, ip=OTHER_ROUTER, mac=REMOTE_MAC))
    assert frames[0][:6] == REMOTE_MAC
    assert bench.stack.tcp_connect(("192.0.2.9", 81)).path_entry is socket.path_entry
    route = bench.stack.routes.lookup(FAR)
    assert route is not None
    assert route.redirected


@pytest.mark.parametrize(
    ("by", "to", "reason"),
    [
        (REMOTE, OTHER_ROUTER, "redirect: not by the next hop"),
        (ROUTER, bytes((192, 0, 2, 1)), "redirect: target not on the link"),
        (ROUTER, bytes((10, 77, 0, 1)), "redirect: to ourselves"),
    ],
)
def test_a_redirect_that_may_not_be_is_ignored(bench: Bench, by: bytes, to: bytes, reason: str) -> None:
    """RFC 1122 3.2.2.2: from the present first hop, to an address on the link."""
    socket, packet = routed(bench)
    old = socket.path_entry.hop
    redirect(bench, packet, by=by, to=to)
    assert socket.path_entry.hop is old
    assert bench.count(reason) == 1


def test_a_redirect_of_an_offloaded_path_is_a_relink(bench: Bench) -> None:
    """R-UPD-07: a changed next hop is a relink; the code that carries it out moves the objects."""
    socket, packet = routed(bench)
    path, old = socket.tcb.path, socket.tcb.path.neighbor
    path.state = Life.OFFLOADED
    redirect(bench, packet)
    ((what, paths, neighbor),) = bench.hooks.calls
    assert (what, paths) == ("relink", [path])
    assert neighbor is socket.path_entry.hop.neighbor
    assert path.neighbor is old


def test_a_redirect_to_a_router_that_is_not_there_is_forgotten(bench: Bench) -> None:
    """RFC 1122 3.3.1.6: the connection survives on the old route."""
    socket, packet = routed(bench)
    old = socket.path_entry.hop
    redirect(bench, packet)
    socket.send(b"more")
    bench.run(4.5)
    assert socket.path_entry.hop is old
    assert not bench.stack.redirects.routes_to
    route = bench.stack.routes.lookup(FAR)
    assert route is not None
    assert not route.redirected
    assert socket.error is None
    bench.run(2.0)
    assert any(f[:6] == ROUTER_MAC and bench.info(f).protocol == 6 for f in bench.take())


def test_a_redirect_of_ipv6_by_the_routers_link_local_address(bench: Bench) -> None:
    """RFC 4861 8.3; the target's address comes with it."""
    bench.know_remote()
    bench.stack.add_route("::/0", bench.interface, "fd77::2")
    router = ip_address("fe80::2").packed
    far = ip_address("2001:db8::9").packed
    bench.stack.neighbors.get(bench.interface, router).heard(REMOTE_MAC, bench.now)
    socket = bench.stack.tcp_connect(("2001:db8::9", 80))
    bench.stack.flush()
    (frame,) = bench.take()
    target = ip_address("fe80::7").packed
    message = Redirect6(target, far, ROUTER_MAC, frame[14:])
    bench.give(bench.icmpv6(message, source=router))
    assert socket.path_entry.hop.address == target
    assert socket.path_entry.hop.mac == ROUTER_MAC
    stranger = ip_address("fe80::66").packed
    bench.give(bench.icmpv6(Redirect6(router, far, None, frame[14:]), source=stranger))
    assert socket.path_entry.hop.address == target
    assert bench.count("redirect: not by the next hop") == 1


# -- neighbors


def test_a_neighbor_that_is_not_there_ends_the_attempt_in_three_seconds(bench: Bench) -> None:
    heard: list[SocketEvent] = []
    socket = bench.stack.tcp_connect(("10.77.0.7", 80), on_event=lambda s, e: heard.append(e))
    bench.run(3.1)
    assert isinstance(socket.error, Unreachable)
    assert "10.77.0.7 does not answer" in str(socket.error)
    assert heard == [SocketEvent.FAILED, SocketEvent.CLOSED]


def test_a_neighbor_that_goes_away_under_a_connection_is_the_reason_of_its_end(bench: Bench) -> None:
    socket, _ = bench.connected()
    socket.send(b"x")
    bench.run(100.0)
    assert bench.stack.transport.sockets
    bench.run(150.0)
    assert isinstance(socket.error, Unreachable)
    assert "10.77.0.2 does not answer" in str(socket.error)
