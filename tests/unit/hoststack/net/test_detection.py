"""Own addresses are tested before they are used, announced, and defended (RFC 5227; RFC 4862 section 5.4)."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from itertools import pairwise
from typing import Any

import pytest

from hoststack.net.detection import EMULATED, STANDARD, Conflict, DetectionTiming
from hoststack.net.errors import AddressConflict
from hoststack.net.interface import link_local
from ndisbus.net import arp
from ndisbus.net.ethernet import BROADCAST, EthernetHeader
from ndisbus.net.nd import ALL_NODES, NeighborAdvertisement, NeighborSolicitation, solicited_node
from ndisbus.net.segment import SYN
from tests.support.net_bench import IP, IP6, MAC, REMOTE, REMOTE_MAC, Bench

OTHER_MAC = bytes.fromhex("020000000003")
NOBODY = bytes(4)


@pytest.fixture
def bench() -> Bench:
    """A stack that has just begun to test its addresses."""
    bench = Bench(announce=True)
    bench.conflicts = []
    bench.stack.detection.on_conflict.append(lambda _, conflict: bench.conflicts.append(conflict))
    return bench


@pytest.fixture
def ready(bench: Bench) -> Bench:
    """A stack whose addresses are assigned and announced, behind an adapter that loops group frames back."""
    bench.run(3.0)
    bench.give(*bench.take())
    return bench


def arps(frames: list[bytes]) -> list[arp.ArpPacket]:
    return [arp.parse(f[14:]) for f in frames if f[12:14] == b"\x08\x06"]


def arp_frame(packet: arp.ArpPacket, *, to: bytes = BROADCAST) -> bytes:
    return EthernetHeader(to, packet.sender_mac, 0x0806).build() + packet.build()


def probe(mac: bytes, address: bytes = IP) -> bytes:
    return arp_frame(arp.ArpPacket(arp.REQUEST, mac, NOBODY, bytes(6), address))


def announcement(mac: bytes, address: bytes = IP) -> bytes:
    return arp_frame(arp.ArpPacket(arp.REQUEST, mac, address, bytes(6), address))


def advertisement(mac: bytes, address: bytes = IP6) -> bytes:
    message = NeighborAdvertisement(address, mac, override=True)
    return group_frame(mac, address, ALL_NODES, message)


def solicitation(mac: bytes, address: bytes = IP6) -> bytes:
    return group_frame(mac, bytes(16), solicited_node(address), NeighborSolicitation(address))


def group_frame(mac: bytes, source: bytes, group: bytes, message: Any) -> bytes:
    bench = Bench()
    frame = bench.icmpv6(message, source=source, destination=group, to=b"\x33\x33" + group[12:])
    return frame[:6] + mac + frame[12:]


def timeline(bench: Bench, seconds: float) -> list[tuple[float, bytes]]:
    """The frames that are sent, each with its time."""
    seen = [(bench.now, f) for f in bench.take()]
    end = bench.now + seconds
    while (due := bench.stack.next_deadline()) is not None and due <= end:
        bench.run(max(due - bench.now, 0.0))
        seen += [(bench.now, f) for f in bench.take()]
    return seen


@pytest.mark.parametrize("timing", [EMULATED, STANDARD])
def test_an_ipv4_address_is_probed_and_then_announced(timing: DetectionTiming) -> None:
    """RFC 5227 2.1.1 and 2.3."""
    bench = Bench(announce=True, timing=timing)
    began = bench.now
    seen = [(t, arp.parse(f[14:])) for t, f in timeline(bench, 20.0) if f[12:14] == b"\x08\x06"]
    probes = [(t, p) for t, p in seen if p.sender_ip == NOBODY]
    announced = [(t, p) for t, p in seen if p.sender_ip == IP]
    assert len(probes) == timing.probe_num
    assert len(announced) == timing.announce_num
    assert {(p.operation, p.target_ip, p.sender_mac) for _, p in seen} == {(arp.REQUEST, IP, MAC)}
    times = [t for t, _ in probes]
    assert 0 <= times[0] - began <= timing.probe_wait
    gaps = [b - a for a, b in pairwise(times)]
    assert all(timing.probe_min <= g <= timing.probe_max for g in gaps)
    assert announced[0][0] - times[-1] == pytest.approx(timing.announce_wait)
    assert announced[1][0] - announced[0][0] == pytest.approx(timing.announce_interval)


def test_an_ipv6_address_is_solicited_and_then_advertised(bench: Bench) -> None:
    messages = bench.messages([f for _, f in timeline(bench, 3.0) if f[12:14] == b"\x86\xdd"])
    asked = [m.target for m in messages if isinstance(m, NeighborSolicitation)]
    told = [m.target for m in messages if isinstance(m, NeighborAdvertisement)]
    assert sorted(asked) == sorted([IP6, link_local(MAC)] * EMULATED.dad_transmits)
    assert sorted(told) == sorted([IP6, link_local(MAC)])
    assert all(m.source_mac is None for m in messages if isinstance(m, NeighborSolicitation))
    assert not bench.interface.tentative


def test_a_test_takes_a_few_hundred_milliseconds_on_an_emulated_wire(bench: Bench) -> None:
    bench.run(0.36)
    assert not bench.interface.tentative
    assert bench.stack.interfaces.local.keys() == bench.interface.local.keys()


def test_a_tentative_address_is_not_answered_for(bench: Bench) -> None:
    bench.take()
    question = bench.arp(arp.REQUEST)
    assert bench.give(question) == []
    asked = NeighborSolicitation(IP6, REMOTE_MAC)
    group = solicited_node(IP6)
    assert bench.give(bench.icmpv6(asked, destination=group, to=b"\x33\x33" + group[12:])) == []
    bench.run(3.0)
    bench.take()
    assert [p.operation for p in arps(bench.give(question))] == [arp.REPLY]


def test_nothing_is_sent_from_a_tentative_address(bench: Bench) -> None:
    """A connection can be begun; its SYN, and the question for the neighbor, wait for the end of the test."""
    bench.take()
    bench.stack.tcp_connect(("10.77.0.2", 7))
    sent = timeline(bench, 0.15)
    assert {p.sender_ip for p in arps([f for _, f in sent])} <= {NOBODY}
    assert not bench.segments([f for _, f in sent])
    bench.run(0.3)
    questions = [p for p in arps(bench.take()) if p.target_ip == REMOTE]
    assert [p.sender_ip for p in questions] == [IP]
    (syn,) = bench.segments(bench.give(bench.arp(arp.REPLY)))
    assert syn.flags & SYN


def test_a_neighbor_that_is_heard_during_the_test_is_not_sent_to(bench: Bench) -> None:
    bench.take()
    bench.stack.tcp_connect(("10.77.0.2", 7))
    bench.stack.flush()
    bench.know_remote()
    assert not bench.segments([f for _, f in timeline(bench, 0.1)])
    bench.run(0.4)
    assert [s.flags for s in bench.segments()] == [SYN]


@pytest.mark.parametrize("frame", [probe(OTHER_MAC), announcement(OTHER_MAC)], ids=["probe", "in use"])
def test_an_ipv4_address_that_another_station_shows_is_given_up(bench: Bench, frame: bytes) -> None:
    bench.give(frame)
    assert bench.conflicts == [Conflict(IP, OTHER_MAC, False)]
    assert str(bench.conflicts[0]) == "10.77.0.1 is already in use by station 02:00:00:00:00:03"
    assert bench.interface.refuted == {IP}
    bench.take()
    assert not arps([f for _, f in timeline(bench, 5.0)]), "the test is over"
    assert bench.give(bench.arp(arp.REQUEST)) == []


@pytest.mark.parametrize(
    "frame", [solicitation(OTHER_MAC), advertisement(OTHER_MAC)], ids=["same test", "in use"]
)
def test_an_ipv6_address_that_another_station_shows_is_given_up(bench: Bench, frame: bytes) -> None:
    """RFC 4862 5.4.3 and 5.4.4."""
    bench.give(frame)
    assert bench.conflicts == [Conflict(IP6, OTHER_MAC, False)]
    assert IP6 not in bench.interface.local
    bench.run(2.0)
    assert IP6 not in bench.stack.interfaces.local


def test_an_adapter_loops_probes_back_and_that_is_no_conflict(bench: Bench) -> None:
    sent = [f for _, f in timeline(bench, 3.0)]
    for frame in sent:
        bench.give(frame.ljust(60, b"\0"))
    assert bench.conflicts == []
    assert bench.count("ethernet: echo") == len(sent)
    assert bench.count("address conflict") == 0


def test_the_same_frame_from_another_host_behind_the_adapter_is_a_conflict(bench: Bench) -> None:
    bench.run(0.06)
    own = next(f for f in bench.take() if f[12:14] == b"\x08\x06")
    bench.give(own)
    assert bench.conflicts == []
    bench.give(own)
    assert bench.conflicts == [Conflict(IP, MAC, True)]
    text = "10.77.0.1 is already in use by another host behind the same adapter (02:00:00:00:00:01)"
    assert str(bench.conflicts[0]) == text


def test_probes_of_hosts_behind_the_same_adapter_are_answered(ready: Bench) -> None:
    """To the group, as a frame to the adapter's own address would go to the wire and not to that host."""
    (answer,) = ready.give(probe(MAC))
    assert answer[:6] == BROADCAST
    assert arp.parse(answer[14:]).sender_ip == IP
    (frame,) = ready.give(solicitation(MAC))
    (message,) = ready.messages([frame])
    assert (message.target, frame[:6]) == (IP6, b"\x33\x33\0\0\0\x01")
    assert len(ready.stack.neighbors) == 0


def test_probes_of_other_stations_are_answered(ready: Bench) -> None:
    assert [p.operation for p in arps(ready.give(probe(OTHER_MAC)))] == [arp.REPLY]
    (message,) = ready.messages(ready.give(solicitation(OTHER_MAC)))
    assert isinstance(message, NeighborAdvertisement)
    assert not message.solicited
    assert ready.conflicts == []


@pytest.mark.parametrize("version", [4, 6])
def test_an_address_is_defended_once_in_ten_seconds(ready: Bench, version: int) -> None:
    """RFC 5227 2.4 (b): a second conflict within DEFEND_INTERVAL ends its use."""
    claim = announcement(OTHER_MAC) if version == 4 else advertisement(OTHER_MAC)
    address = IP if version == 4 else IP6
    assert len(ready.give(claim)) == 1
    ready.run(10.0)
    assert len(ready.give(claim)) == 1
    assert ready.conflicts == []
    socket = ready.stack.tcp_connect(("10.77.0.2" if version == 4 else "fd77::2", 7))
    ready.stack.flush()
    ready.take()
    assert ready.give(claim) == []
    assert [c.address for c in ready.conflicts] == [address]
    assert isinstance(socket.error, AddressConflict)
    assert "is already in use by station 02:00:00:00:00:03" in str(socket.error)
    assert not ready.stack.transport.sockets


def test_connections_that_are_offloaded_are_aborted_below(ready: Bench) -> None:
    ready.know_remote()
    socket, _ = ready.connected()
    ready.stack.detach(socket, ready.now)
    ready.give(announcement(OTHER_MAC), announcement(OTHER_MAC))
    assert ("disconnect", socket.tcb, True) in ready.hooks.calls
    assert isinstance(socket.error, AddressConflict)


def test_a_link_local_address_that_is_taken_is_replaced(bench: Bench) -> None:
    """Hosts behind one adapter would all make the same one of its MAC address."""
    made = link_local(MAC)
    bench.give(advertisement(MAC, made))
    assert [c.address for c in bench.conflicts] == [made]
    (new,) = [a for a in bench.interface.local if ip_address(a).is_link_local]
    assert new == bench.interface.made != made
    bench.run(2.0)
    assert new in bench.stack.interfaces.local


def test_another_address_can_be_added(ready: Bench) -> None:
    ready.stack.add_address(ready.interface, ip_interface("10.77.0.9/24"))
    ready.run(0.4)
    probed = {p.target_ip for p in arps(ready.take())}
    assert probed == {ip_address("10.77.0.9").packed}
    assert len(arps(ready.give(ready.arp(arp.REQUEST, target=ip_address("10.77.0.9").packed)))) == 1


def test_a_new_adapter_hears_announcements_and_the_rest_of_the_test(bench: Bench) -> None:
    bench.run(0.1)
    bench.take()
    bench.stack.replug(bench.interface, OTHER_MAC, 1500)
    seen = arps([f for _, f in timeline(bench, 3.0)])
    assert [p.sender_ip for p in seen] == [NOBODY] * 3 + [IP] * 2, "the test begins again"
    assert {p.sender_mac for p in seen} == {OTHER_MAC}
    bench.stack.replug(bench.interface, MAC, 1500)
    bench.stack.flush()
    frames = bench.take()
    assert [(p.sender_mac, p.sender_ip) for p in arps(frames)] == [(MAC, IP)]
    assert {type(m) for m in bench.messages(frames)} == {NeighborAdvertisement}


@pytest.mark.parametrize("vlan_id", [0, 7])
def test_a_test_ends_after_the_echo_of_its_probes(vlan_id: int) -> None:
    """A bus that is slow does not make a test pass that no host could have answered."""
    bench = Bench(announce=True, loops=True, vlan_id=vlan_id)
    bench.run(0.5)
    sent = bench.take()
    assert bench.interface.tentative == bench.interface.local.keys()
    bench.give(*sent)
    assert bench.interface.tentative == bench.interface.local.keys()
    bench.run(0.13)
    assert not bench.interface.tentative


def test_a_test_ends_although_the_adapter_sends_no_echo() -> None:
    bench = Bench(announce=True, loops=True)
    bench.run(EMULATED.echo_wait + 0.3)
    assert not bench.interface.tentative


def test_what_is_heard_before_the_echo_is_a_conflict() -> None:
    bench = Bench(announce=True, loops=True)
    bench.run(1.0)
    sent = bench.take()
    bench.give(probe(OTHER_MAC), *sent)
    assert bench.interface.refuted == {IP}
