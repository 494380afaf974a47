"""Neighbor resolution and reachability, by ARP and by ND, as frames and as states."""

from __future__ import annotations

import pytest

from hoststack.model.life import State as Life
from hoststack.net.neighbor_life import NeighborState as S
from hoststack.net.neighbors import MAX_ENTRIES, QUEUE_BYTES, NeighborEntry
from ndisbus.net import arp
from ndisbus.net.ethernet import BROADCAST, ETHERTYPE_ARP
from ndisbus.net.ipv6 import Ipv6Header
from ndisbus.net.nd import NeighborAdvertisement, NeighborSolicitation, solicited_node
from ndisbus.net.segment import ACK, Segment
from tests.support.net_bench import IP, IP6, MAC, REMOTE, REMOTE6, REMOTE_MAC, Bench

OTHER_MAC = bytes.fromhex("020000000099")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def entry(bench: Bench, address: bytes = REMOTE) -> NeighborEntry:
    found = bench.stack.neighbors.find(bench.interface, address)
    assert found is not None
    return found


def ping(bench: Bench, to: str = "10.77.0.2") -> list[bytes]:
    bench.stack.ping(to)
    bench.stack.flush()
    return bench.take()


def asked_by_arp(frames: list[bytes]) -> arp.ArpPacket:
    (frame,) = frames
    assert frame[12:14] == ETHERTYPE_ARP.to_bytes(2, "big")
    return arp.parse(frame[14:])


def asked_by_nd(bench: Bench, frames: list[bytes]) -> NeighborSolicitation:
    (message,) = bench.messages(frames)
    assert isinstance(message, NeighborSolicitation)
    return message


def test_arp_asks_everybody_keeps_the_datagram_and_sends_it_with_the_answer(bench: Bench) -> None:
    frames = ping(bench)
    question = asked_by_arp(frames)
    assert frames[0][:6] == BROADCAST
    assert (question.operation, question.sender_ip, question.target_ip) == (arp.REQUEST, IP, REMOTE)
    assert entry(bench).state is S.INCOMPLETE
    (echo,) = bench.give(bench.arp(arp.REPLY))
    assert echo[:6] == REMOTE_MAC
    assert bench.info(echo).protocol == 1
    assert entry(bench).state is S.REACHABLE
    assert ping(bench)[0][:6] == REMOTE_MAC


def test_nd_asks_the_solicited_node_group_and_takes_the_solicited_answer(bench: Bench) -> None:
    frames = ping(bench, "fd77::2")
    question = asked_by_nd(bench, frames)
    assert frames[0][:6] == b"\x33\x33\xff\x00\x00\x02"
    assert question.target == REMOTE6
    assert question.source_mac == MAC
    header = bench.info(frames[0])
    assert header.destination == solicited_node(REMOTE6)
    assert frames[0][14 + 7] == 255
    answer = NeighborAdvertisement(REMOTE6, REMOTE_MAC, solicited=True, override=True)
    (echo,) = bench.give(bench.icmpv6(answer))
    assert echo[:6] == REMOTE_MAC
    assert entry(bench, REMOTE6).state is S.REACHABLE


def test_datagrams_are_sent_in_the_order_in_which_they_waited(bench: Bench) -> None:
    for size in (10, 20, 30):
        bench.stack.ping("10.77.0.2", size)
    bench.stack.flush()
    bench.take()
    sizes = [len(f) for f in bench.give(bench.arp(arp.REPLY))]
    assert sizes == [14 + 20 + 8 + n for n in (10, 20, 30)]


def test_three_questions_in_three_seconds_then_unreachable_and_the_next_datagram_begins_anew(
    bench: Bench,
) -> None:
    waiting = bench.stack.ping("10.77.0.2")
    bench.stack.flush()
    bench.run(2.9)
    assert len(bench.take()) == 3
    assert not waiting.done
    bench.run(0.2)
    assert bench.take() == []
    assert "10.77.0.2 does not answer" in waiting.error
    assert entry(bench).state is S.UNREACHABLE
    assert bench.count("neighbor: unreachable") == 1
    assert asked_by_arp(ping(bench)).target_ip == REMOTE
    assert entry(bench).state is S.INCOMPLETE


def test_reachable_becomes_stale_delay_and_probe_and_an_answer_restores_it(bench: Bench) -> None:
    """RFC 4861 7.3.3, with the times of its section 10."""
    ping(bench)
    bench.give(bench.arp(arp.REPLY))
    bench.run(29.9)
    assert entry(bench).state is S.REACHABLE
    bench.run(0.2)
    assert entry(bench).state is S.STALE
    bench.run(1000.0)
    assert entry(bench).state is S.STALE, "a stale entry that is not used is left alone"
    bench.take()
    assert ping(bench)[0][:6] == REMOTE_MAC, "a stale address is used"
    assert entry(bench).state is S.DELAY
    bench.run(4.9)
    assert bench.take() == []
    bench.run(0.2)
    frames = bench.take()
    assert asked_by_arp(frames).target_ip == REMOTE
    assert frames[0][:6] == REMOTE_MAC, "a probe is unicast"
    assert entry(bench).state is S.PROBE
    bench.give(bench.arp(arp.REPLY))
    assert entry(bench).state is S.REACHABLE


def test_probes_without_an_answer_make_it_unreachable(bench: Bench) -> None:
    bench.know_remote()
    bench.run(31.0)
    ping(bench, "fd77::2")
    bench.run(5.0 + 3.1)
    probes = bench.messages(bench.take())
    assert [type(m) for m in probes] == [NeighborSolicitation] * 3
    assert entry(bench, REMOTE6).state is S.UNREACHABLE


def test_progress_of_a_connection_keeps_its_neighbor_reachable(bench: Bench) -> None:
    """RFC 4861 7.3.1: no probe is sent as long as the remote end acknowledges something new now and then."""
    socket, syn = bench.connected()
    seq = syn.seq + 1
    for _ in range(10):
        bench.run(20.0)
        socket.send(b"x")
        bench.stack.flush()
        seq += 1
        ack = Segment(9001, seq & 0xFFFFFFFF, ACK, 65535, source_port=80, destination_port=syn.source_port)
        bench.give(bench.tcp(ack))
        assert entry(bench).state is S.REACHABLE
    assert bench.count("neighbor: unreachable") == 0
    bench.run(31.0)
    assert entry(bench).state is S.STALE


def test_a_connection_in_doubt_has_its_neighbor_probed(bench: Bench) -> None:
    """RFC 1122 3.3.1.4: retransmissions in vain are negative advice."""
    socket, _ = bench.connected()
    socket.send(b"lost")
    bench.stack.flush()
    bench.run(12.0)
    frames = [f for f in bench.take() if f[12:14] == ETHERTYPE_ARP.to_bytes(2, "big")]
    assert frames
    assert frames[0][:6] == REMOTE_MAC


def test_a_changed_address_is_used_at_once_by_connections_and_told_if_offloaded(bench: Bench) -> None:
    """R-UPD-07: a changed MAC address of the same next hop is an update of the neighbor, no relink."""
    socket, _ = bench.connected()
    bench.give(bench.arp(arp.REQUEST, mac=OTHER_MAC))
    found = entry(bench)
    assert found.state is S.STALE
    assert found.neighbor.cached.dl_destination_address == OTHER_MAC
    assert bench.hooks.calls == []
    socket.send(b"x")
    bench.stack.flush()
    assert bench.take()[0][:6] == OTHER_MAC
    found.neighbor.state = Life.OFFLOADED
    bench.give(bench.arp(arp.REQUEST, mac=REMOTE_MAC))
    assert bench.hooks.calls == [("neighbor_changed", found.neighbor)]


def test_a_gratuitous_arp_changes_what_is_known_and_adds_nothing(bench: Bench) -> None:
    """RFC 826: merge, but add only who wants something of us."""
    announcement = bench.arp(arp.REQUEST, mac=OTHER_MAC, ip=REMOTE, target=REMOTE)
    assert bench.give(announcement) == []
    assert bench.stack.neighbors.find(bench.interface, REMOTE) is None
    bench.know_remote()
    bench.give(announcement)
    assert entry(bench).mac == OTHER_MAC
    assert entry(bench).state is S.STALE
    same = bench.arp(arp.REQUEST, mac=OTHER_MAC, ip=REMOTE, target=REMOTE)
    entry(bench).confirm(bench.now)
    bench.give(same)
    assert entry(bench).state is S.REACHABLE, "the same address changes nothing"


def test_an_unsolicited_arp_reply_confirms_nothing(bench: Bench) -> None:
    bench.give(bench.arp(arp.REPLY))
    assert bench.stack.neighbors.find(bench.interface, REMOTE) is None
    bench.know_remote()
    bench.give(bench.arp(arp.REPLY, mac=OTHER_MAC))
    assert entry(bench).mac == OTHER_MAC
    assert entry(bench).state is S.STALE


def test_who_asks_for_our_address_is_answered_and_remembered_as_stale(bench: Bench) -> None:
    (reply,) = bench.give(bench.arp(arp.REQUEST))
    answer = arp.parse(reply[14:])
    assert reply[:6] == REMOTE_MAC
    assert (answer.operation, answer.sender_mac, answer.sender_ip) == (arp.REPLY, MAC, IP)
    assert entry(bench).state is S.STALE
    assert bench.give(bench.arp(arp.REQUEST, target=REMOTE[:3] + b"\x63")) == [], "not our address"


def test_an_address_probe_is_answered_without_being_remembered(bench: Bench) -> None:
    """RFC 5227 2.1.1: the sender has no address yet."""
    (reply,) = bench.give(bench.arp(arp.REQUEST, ip=bytes(4)))
    assert arp.parse(reply[14:]).sender_ip == IP
    assert len(bench.stack.neighbors) == 0


def test_a_neighbor_solicitation_is_answered_and_its_sender_remembered(bench: Bench) -> None:
    question = NeighborSolicitation(IP6, REMOTE_MAC)
    (answer,) = bench.messages(
        bench.give(bench.icmpv6(question, destination=solicited_node(IP6), to=bench_group()))
    )
    assert isinstance(answer, NeighborAdvertisement)
    assert (answer.target, answer.target_mac, answer.solicited, answer.override) == (IP6, MAC, True, True)
    assert entry(bench, REMOTE6).state is S.STALE
    assert bench.give(bench.icmpv6(NeighborSolicitation(REMOTE6, REMOTE_MAC))) == [], "not our address"


def bench_group() -> bytes:
    return b"\x33\x33\xff\x00\x00\x01"


def test_a_solicitation_from_afar_is_refused(bench: Bench) -> None:
    """RFC 4861 7.1.1: a hop limit below 255 has passed a router."""
    assert bench.give(bench.icmpv6(NeighborSolicitation(IP6, REMOTE_MAC), hop_limit=254)) == []
    assert len(bench.stack.neighbors) == 0
    assert sum(n for reason, n in bench.stack.counters.items() if reason.startswith("nd")) == 1


@pytest.mark.parametrize(
    ("before", "solicited", "override", "mac", "after", "known"),
    [
        (S.REACHABLE, False, False, OTHER_MAC, S.STALE, REMOTE_MAC),
        (S.STALE, False, False, OTHER_MAC, S.STALE, REMOTE_MAC),
        (S.REACHABLE, False, True, OTHER_MAC, S.STALE, OTHER_MAC),
        (S.REACHABLE, False, True, REMOTE_MAC, S.REACHABLE, REMOTE_MAC),
        (S.STALE, True, False, REMOTE_MAC, S.REACHABLE, REMOTE_MAC),
        (S.STALE, False, True, None, S.STALE, REMOTE_MAC),
        (S.PROBE, True, True, OTHER_MAC, S.REACHABLE, OTHER_MAC),
        (S.PROBE, True, True, None, S.REACHABLE, REMOTE_MAC),
        (S.PROBE, True, False, OTHER_MAC, S.PROBE, REMOTE_MAC),
    ],
)
def test_an_advertisement_by_its_flags(
    bench: Bench, before: S, solicited: bool, override: bool, mac: bytes | None, after: S, known: bytes
) -> None:
    """RFC 4861 7.2.5."""
    bench.know_remote()
    found = entry(bench, REMOTE6)
    if before is not S.REACHABLE:
        bench.run(31.0)
    if before is S.PROBE:
        ping(bench, "fd77::2")
        bench.run(5.1)
    assert found.state is before
    bench.give(bench.icmpv6(NeighborAdvertisement(REMOTE6, mac, solicited=solicited, override=override)))
    assert found.state is after
    assert found.mac == known


def test_what_waits_is_bounded_and_the_oldest_goes_first(bench: Bench) -> None:
    for _ in range(200):
        bench.stack.ping("10.77.0.2", 1400)
    bench.stack.flush()
    assert entry(bench).waiting_bytes <= QUEUE_BYTES
    dropped = bench.count("neighbor: queue full")
    bench.take()
    assert dropped
    assert len(bench.give(bench.arp(arp.REPLY))) == 200 - dropped


def test_the_cache_is_bounded_and_entries_in_use_stay(bench: Bench) -> None:
    socket, _ = bench.connected()
    assert socket.path_entry.hop.users == 1
    for i in range(MAX_ENTRIES + 100):
        ip = bytes((10, 77, 0, 3)) if i == 0 else bytes((10, 77, i >> 8, i & 0xFF))
        bench.give(bench.arp(arp.REQUEST, mac=b"\x02\x01\0\0" + i.to_bytes(2, "big"), ip=ip))
    assert len(bench.stack.neighbors) == MAX_ENTRIES
    assert entry(bench) is socket.path_entry.hop


def test_reachability_ages_are_written_in_ticks(bench: Bench) -> None:
    """R-NUD-01: both deltas are ticks since the last confirmation and alike when a neighbor is offloaded."""
    bench.know_remote()
    neighbor = entry(bench).neighbor
    seen = [neighbor.reachable]
    bench.run(12.5)
    entry(bench).stamp(bench.now)
    assert neighbor.cached.host_reachability_delta == 12_500
    assert neighbor.delegated.nic_reachability_delta == 12_500
    bench.run(20.0)
    assert [*seen, neighbor.reachable] == [True, False]
    neighbor.state = Life.OFFLOADED
    entry(bench).stamp(bench.now)
    assert neighbor.cached.host_reachability_delta == 32_500
    assert neighbor.delegated.nic_reachability_delta == 12_500, "the target's, while it is offloaded"


def test_an_offloaded_neighbor_in_delay_and_one_that_is_lost_are_told(bench: Bench) -> None:
    """In DELAY the target may know of progress; without an answer the entry is to be invalidated."""
    bench.know_remote()
    neighbor = entry(bench).neighbor
    neighbor.state = Life.OFFLOADED
    bench.run(31.0)
    ping(bench)
    assert bench.hooks.calls == [("neighbor_delayed", neighbor)]
    bench.run(4.0)
    bench.stack.confirm(neighbor)
    bench.run(5.0)
    assert entry(bench).state is S.REACHABLE
    assert bench.take() == [], "progress spared the probe"
    bench.stack.doubt(neighbor)
    bench.run(10.0)
    assert bench.hooks.calls[1:] == [("neighbor_lost", neighbor)]


def test_malformed_questions_are_counted_and_not_answered(bench: Bench) -> None:
    good = bench.arp(arp.REQUEST)
    assert bench.give(good[:30]) == []
    assert bench.count("arp: short header") == 1
    assert bench.give(bench.arp(arp.REQUEST, mac=b"\x03\0\0\0\0\1")) == []
    assert len(bench.stack.neighbors) == 0
    header = Ipv6Header(REMOTE6, IP6, 58, 255)
    damaged = header.build(b"\x87\0\0\0" + bytes(4) + IP6)
    assert bench.give(bench.frame(0x86DD, damaged)) == []
    assert bench.count("icmpv6: bad checksum") == 1
