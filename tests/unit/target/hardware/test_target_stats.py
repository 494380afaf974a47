"""Counters of offloaded connections, and what becomes of corrupt packets."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.enums import Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import IpOffloadStats, NdisOidRequest, TcpOffloadStats
from ndisbus.net.segment import ACK, RST, Segment
from target import TargetConfig
from target.hardware.statistics import Statistics

V6 = {"src": bytes.fromhex("fd77" + 13 * "00" + "01"), "dst": bytes.fromhex("fd77" + 13 * "00" + "02")}
TCP = {4: Oid.OID_TCP4_OFFLOAD_STATS, 6: Oid.OID_TCP6_OFFLOAD_STATS}
IP = {4: Oid.OID_IP4_OFFLOAD_STATS, 6: Oid.OID_IP6_OFFLOAD_STATS}


def query(w: Any, oid: Oid) -> Any:
    status, wire = w.oid(oid)
    assert status == NdisStatus.SUCCESS
    return NdisOidRequest.from_wire(wire, "answer").information_buffer


def zero(w: Any, oid: Oid, buffer: Any) -> None:
    assert w.oid(oid, buffer)[0] == NdisStatus.SUCCESS


@pytest.mark.parametrize("version", [4, 6])
def test_r_stat_01_separate_counters_for_each_ip_version(w: Any, version: int) -> None:
    """R-STAT-01, R-STAT-02, R-STAT-04: octets include the IP header and nothing around the datagram; the
    host's own frames and other connections' do not count; a set zeroes, whatever it carries.
    """
    t = w.live(path=V6 if version == 6 else {}, neighbor={"vlan": 7})
    w.post("send", t, w.nbl(bytes(100)))
    w.say(t, ACK, 5000, 1100, bytes(50))
    header = 40 if version == 4 else 60
    assert query(w, IP[version]) == IpOffloadStats(
        in_receives=1,
        in_octets=header + 50,
        in_delivers=1,
        out_requests=1,
        out_octets=header + 100,
    )
    expected = TcpOffloadStats(in_segments=1, out_segments=1, currently_established=1)
    assert query(w, TCP[version]) == expected
    other = 10 - version
    w.put(w.builder(t, remote=1, vlan=0).frame(Segment(1, 1, ACK, 1)))
    w.adapter.link.send(bytes(60), w.now)
    assert (query(w, IP[other]), query(w, TCP[other])) == (IpOffloadStats(), TcpOffloadStats())
    assert query(w, TCP[version]) == expected
    zero(w, IP[version], IpOffloadStats(in_receives=77))
    assert query(w, IP[version]) == IpOffloadStats()
    assert query(w, TCP[version]) == expected
    zero(w, TCP[version], TcpOffloadStats(in_segments=77))
    assert query(w, TCP[version]) == TcpOffloadStats(currently_established=1)


def test_r_stat_05_retransmissions(w: Any) -> None:
    """R-STAT-05: a segment that is only retransmitted is not an OutSegment."""
    t = w.live()
    w.post("send", t, w.nbl(b"once"))
    w.heard()
    for _ in range(20):
        w.advance(0.1)
    assert len(w.heard()) == 1
    stats = query(w, TCP[4])
    assert (stats.out_segments, stats.retransmitted_segments) == (1, 1)
    assert query(w, IP[4]).out_requests == 2


def test_r_stat_05_half_old_half_new() -> None:
    """R-STAT-05: counts on both sides."""
    family = Statistics().v4
    family.segment_out(60, 5, 20, False)
    family.segment_out(60, 20, 20, False)
    family.segment_out(40, 0, 0, True)
    assert (family.tcp.out_segments, family.tcp.retransmitted_segments, family.tcp.out_resets) == (2, 2, 1)


def test_r_stat_03_counters_wrap(w: Any) -> None:
    """R-STAT-03: to zero, at the maximum of their 32 or 64 bits."""
    w.adapter.stats.v4.tcp.in_segments = 2**64
    w.adapter.stats.v4.tcp.retransmitted_segments = 2**32 + 5
    w.adapter.stats.v4.ip.in_discards = 2**32 - 1
    stats = query(w, TCP[4])
    assert (stats.in_segments, stats.retransmitted_segments) == (0, 5)
    assert query(w, IP[4]).in_discards == 2**32 - 1


def test_established_connections_are_counted_as_they_stand(w: Any) -> None:
    """CurrentlyEstablished: ESTABLISHED and CLOSE_WAIT of that version; ResetEstablished: by an RST."""
    states = {"a": 4, "b": 7, "c": 5}
    ts = {k: w.live(local=5000 + s, state=s) for k, s in states.items()}
    w.live(path=V6)
    assert query(w, TCP[4]).currently_established == 2
    assert query(w, TCP[6]).currently_established == 1
    w.say(ts["a"], RST, 5000, 0)
    w.say(ts["c"], RST, 5000, 0)
    stats = query(w, TCP[4])
    assert (stats.currently_established, stats.reset_established) == (1, 1)


# -- corrupt packets ---------------------------------------------------------------------------


def corrupt(w: Any, t: Any, what: str) -> bytes:
    frame = bytearray(w.builder(t).frame(Segment(5000, 1000, ACK, 65535, b"payload")))
    if what == "tcp checksum":
        frame[-1] ^= 1
    elif what == "ip checksum":
        frame[14 + 8] ^= 1
    elif what == "truncated":
        del frame[-5:]
    elif what == "short":
        del frame[30:]
    return bytes(frame)


KINDS = ["tcp checksum", "ip checksum", "truncated", "short"]


@pytest.mark.parametrize("what", KINDS)
def test_r_stat_06_corrupt_packets_go_to_the_host_uncounted(w: Any, what: str) -> None:
    """R-STAT-06."""
    t = w.live()
    frame = corrupt(w, t, what)
    w.put(frame)
    assert w.ordinary() == [frame]
    assert (query(w, IP[4]), query(w, TCP[4]).in_segments) == (IpOffloadStats(), 0)
    assert w.ctx_of(t).delegated.rcv_nxt == 5000


@pytest.mark.parametrize("what", KINDS)
def test_r_stat_08_or_are_dropped_and_counted(wired: Any, what: str) -> None:
    """R-STAT-06, R-STAT-08, R-STAT-05: header errors and truncated packets apart; InSegments has them too."""
    w = wired(TargetConfig(drop_corrupt=True))
    t = w.live()
    frame = corrupt(w, t, what)
    w.put(frame)
    assert w.ordinary() == []
    ip, tcp = query(w, IP[4]), query(w, TCP[4])
    assert ip.in_receives == 1
    assert (ip.in_header_errors, ip.in_truncated_packets) == {
        "tcp checksum": (0, 0),
        "ip checksum": (1, 0),
        "truncated": (0, 1),
        "short": (1, 0),
    }[what]
    bad = what == "tcp checksum"
    assert (tcp.in_errors, tcp.in_segments, ip.in_delivers) == (bad, bad, bad)
    assert w.ctx_of(t).delegated.rcv_nxt == 5000


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("lacking", ["the chimney", "objects"])
def test_r_stat_07_but_only_while_something_is_offloaded(wired: Any, what: str, lacking: str) -> None:
    """R-STAT-07: without the chimney, or without a neighbor (a path for TCP errors), they go to the host."""
    w = wired(TargetConfig(drop_corrupt=True))
    t = w.live()
    frame = corrupt(w, t, what)
    if lacking == "objects":
        n, p = t.below
        w.run("terminate", [(n, [(p, [t])])])
    else:
        w.adapter.enabled = None
    w.put(frame)
    assert w.ordinary() == [frame]
    assert query(w, IP[4]) == IpOffloadStats()
