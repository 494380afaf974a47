"""Facts become the three classes of state: units, scalings, timers, and what a seed decides."""

from __future__ import annotations

import dataclasses
import random
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoststack.inventory.facts import (
    NUD_NOARP,
    NUD_REACHABLE,
    ConnectionFacts,
    Inventory,
    NeighborFacts,
    PathGroup,
    group,
)
from hoststack.inventory.facts_to_state import (
    FIN_WAIT_2_TICKS,
    NEVER_CONFIRMED_TICKS,
    neighbor_state,
    path_state,
    tcp_state,
)
from hoststack.inventory.inventory import connection_facts
from hoststack.inventory.machine import Hop
from hoststack.model.rss import tcp_hash, toeplitz
from ndisbus.ddi.tcp_enums import (
    OFFLOADABLE_TCP_STATES,
    TIMER_NOT_RUNNING,
    TcpCachedFlags,
    TcpConstFlags,
    TcpOffloadConnectionState,
)
from ndisbus.errors import LocalProtocolError

State = TcpOffloadConnectionState
OFFLOADABLE = sorted(OFFLOADABLE_TCP_STATES)


def facts(**changes: Any) -> ConnectionFacts:
    end = (bytes([192, 0, 2, 2]), 40000, bytes([198, 51, 100, 7]), 443)
    hop = Hop("eth0", bytes([192, 0, 2, 1]), 1500)
    base = connection_facts(end, State.TcpConnectionEstablished, hop, own=True)
    return dataclasses.replace(base, **changes)


def rng() -> random.Random:
    return random.Random(7)


ulong = st.integers(0, 2**32 - 1)
any_facts = st.builds(
    facts,
    state=st.sampled_from(OFFLOADABLE),
    local_port=st.integers(0, 65535),
    remote_port=st.integers(0, 65535),
    snd_mss=st.integers(1, 65535),
    srtt_us=ulong,
    rttvar_us=ulong,
    rto_us=ulong,
    snd_cwnd_segments=ulong,
    snd_ssthresh_segments=ulong,
    snd_wscale=st.integers(0, 15),
    rcv_wscale=st.integers(0, 15),
    timestamps=st.booleans(),
    sack=st.booleans(),
    window_scaling=st.booleans(),
    unacked=st.integers(0, 2**31 - 1),
    unsent=st.integers(0, 2**31 - 1),
    snd_wnd=ulong,
    rcv_wnd=ulong,
    rcv_buffer=st.integers(0, 2**31 - 1),
    ttl=st.integers(0, 255),
    tos=st.integers(0, 255),
    priority=st.integers(0, 2**31 - 1),
    keepalive=st.booleans(),
    keep_idle_s=st.integers(0, 2**31 - 1),
    keep_interval_s=st.integers(0, 2**31 - 1),
    keep_count=st.integers(0, 255),
    user_timeout_ms=st.integers(0, 2**31 - 1),
    since_sent_ms=ulong,
    since_received_ms=ulong,
    retransmits=st.integers(0, 255),
    probes=st.integers(0, 255),
    backoff=st.integers(0, 255),
    ts_time=st.none() | ulong,
)


@given(any_facts, ulong)
def test_whatever_the_kernel_said_fits_the_structures_and_survives_the_wire(
    c: ConnectionFacts, seed: int
) -> None:
    for structure in tcp_state(c, random.Random(seed)):
        assert type(structure).unpack_from(structure.pack()) == structure


@given(any_facts, ulong)
def test_one_seed_gives_one_state_and_each_connection_draws_alike(c: ConnectionFacts, seed: int) -> None:
    first, second = random.Random(seed), random.Random(seed)
    assert tcp_state(c, first) == tcp_state(c, second)
    tcp_state(facts(), second)
    tcp_state(facts(timestamps=False, state=State.TcpConnectionCloseWait), first)
    assert first.getstate() == second.getstate()


@pytest.mark.parametrize(
    ("srtt_us", "rttvar_us", "s_rtt", "rtt_var"),
    [
        (100_000, 25_000, 800, 100),  # 100 ticks and 25 ticks
        (1_000, 1_000, 8, 4),
        (14, 5, 1, 1),  # loopback: shorter than a tick, and yet measured
        (0, 0, 0, 0),  # never measured
        (60_000_000, 60_000_000, 0xFFFF, 0xFFFF),  # more than a USHORT holds
    ],
)
def test_r_state_08_srtt_times_8_and_rttvar_times_4(
    srtt_us: int, rttvar_us: int, s_rtt: int, rtt_var: int
) -> None:
    """R-STATE-08: srtt times 8 and rttvar times 4."""
    _, _, delegated = tcp_state(facts(srtt_us=srtt_us, rttvar_us=rttvar_us), rng())
    assert (delegated.s_rtt, delegated.rtt_var) == (s_rtt, rtt_var)


@pytest.mark.parametrize("state", [s for s in State if s not in OFFLOADABLE_TCP_STATES])
def test_r_state_06_no_state_is_made_for_a_connection_that_cannot_be_offloaded(state: State) -> None:
    """R-STATE-06: no state is made for a connection that cannot be offloaded."""
    with pytest.raises(LocalProtocolError, match=f"{state.name} cannot be offloaded"):
        tcp_state(facts(state=state), rng())


@pytest.mark.parametrize("state", OFFLOADABLE)
def test_r_state_06_every_other_state_is_handed_over_as_it_is(state: State) -> None:
    """R-STATE-06: every other state is handed over as it is."""
    _, _, delegated = tcp_state(facts(state=state), rng())
    assert delegated.state is state


@pytest.mark.parametrize(
    ("local", "remote"), [("192.0.2.2", "198.51.100.7"), ("2001:db8::2", "2001:db8:7::1")]
)
def test_r_state_07_path_addresses_in_network_order(local: str, remote: str) -> None:
    """R-STATE-07: path addresses in network order."""
    path = PathGroup(ip_address(local).packed, ip_address(remote).packed, 1400, ())
    const, cached, delegated = path_state(path)
    assert (const.source_address, const.destination_address) == (path.local_address, path.remote_address)
    assert len(const.source_address) == (4 if "." in local else 16)
    assert str(ip_address(const.source_address)) == local
    assert cached.path_mtu == 1400
    for structure in (const, cached, delegated):
        assert type(structure).unpack_from(structure.pack()) == structure


def test_constant_state() -> None:
    const, _, _ = tcp_state(facts(snd_mss=1448, snd_wscale=7, rcv_wscale=9, sack=False), rng())
    assert (const.local_port, const.remote_port) == (40000, 443)
    assert (const.snd_wind_scale, const.rcv_wind_scale) == (7, 9)
    assert const.remote_mss == 1460
    assert const.flags == (
        TcpConstFlags.TCP_FLAG_TIMESTAMP_ENABLED | TcpConstFlags.TCP_FLAG_WINDOW_SCALING_ENABLED
    )


def test_constant_state_without_options_has_no_scale_and_no_allowance_for_them() -> None:
    plain = facts(snd_mss=1460, timestamps=False, window_scaling=False, snd_wscale=7, ts_time=5)
    const, _, delegated = tcp_state(plain, rng())
    assert (const.flags, const.remote_mss) == (TcpConstFlags.TCP_FLAG_SACK_ENABLED, 1460)
    assert (const.snd_wind_scale, const.rcv_wind_scale) == (0, 0)
    assert (delegated.ts_recent, delegated.ts_recent_age, delegated.ts_time) == (0, 0, 0)


def test_cached_state_counts_milliseconds() -> None:
    c = facts(
        keepalive=True,
        nodelay=True,
        keep_idle_s=7200,
        keep_interval_s=75,
        keep_count=9,
        user_timeout_ms=30_000,
        rcv_buffer=131_072,
        rcv_wnd=65_535,
        ttl=63,
        tos=0x28,
        priority=6,
    )
    _, cached, _ = tcp_state(c, rng())
    assert cached.flags == TcpCachedFlags.TCP_FLAG_KEEP_ALIVE_ENABLED
    assert (cached.ka_timeout, cached.ka_interval, cached.ka_probe_count) == (7_200_000, 75_000, 9)
    assert (cached.max_rt, cached.initial_rcv_wnd) == (30_000, 131_072)
    assert (cached.ttl_or_hop_limit, cached.tos_or_traffic_class, cached.user_priority) == (63, 0x28, 6)


def test_nagling_is_on_unless_nodelay_is_set_and_the_window_never_shrinks() -> None:
    _, cached, _ = tcp_state(facts(rcv_buffer=1000, rcv_wnd=2000), rng())
    assert cached.flags == TcpCachedFlags.TCP_FLAG_NAGLING_ENABLED
    assert cached.initial_rcv_wnd == 2000


def test_delegated_windows_are_bytes_and_an_unset_threshold_is_the_largest() -> None:
    c = facts(snd_mss=1448, snd_cwnd_segments=10, snd_wnd=65_536, rcv_wnd=64_000)
    _, _, delegated = tcp_state(c, rng())
    assert (delegated.c_wnd, delegated.ss_thresh) == (14_480, 0xFFFF_FFFF)
    assert (delegated.snd_wnd, delegated.max_snd_wnd, delegated.rcv_wnd) == (65_536, 65_536, 64_000)
    _, _, delegated = tcp_state(dataclasses.replace(c, snd_ssthresh_segments=20), rng())
    assert delegated.ss_thresh == 28_960


@given(any_facts, ulong)
def test_what_is_in_flight_lies_between_snd_una_and_snd_nxt(c: ConnectionFacts, seed: int) -> None:
    _, _, delegated = tcp_state(c, random.Random(seed))
    assert (delegated.snd_nxt - delegated.snd_una) % 2**32 == c.unacked
    assert delegated.snd_max == delegated.snd_nxt
    assert (delegated.send_data_head, delegated.send_data_tail, delegated.buffered_data) == (None, None, None)


def test_the_timestamp_clock_is_the_kernels_where_it_was_told() -> None:
    _, _, delegated = tcp_state(facts(ts_time=123_456, since_received_ms=40), rng())
    assert (delegated.ts_time, delegated.ts_recent_age) == (123_456, 40)


def test_r_tmr_05_timers_that_do_not_run_are_all_ones() -> None:
    """R-TMR-05: timers that do not run are all ones."""
    _, _, delegated = tcp_state(facts(), rng())
    assert delegated.keep_alive_timeout_delta == TIMER_NOT_RUNNING
    assert delegated.retransmit_timeout_delta == TIMER_NOT_RUNNING


@pytest.mark.parametrize(
    ("changes", "ticks", "count"),
    [
        ({"unacked": 100, "since_sent_ms": 50, "retransmits": 2}, 150, 2),
        ({"unacked": 100, "since_sent_ms": 900}, 0, 0),  # due: fires at once
        ({"unacked": 0, "unsent": 10, "snd_wnd": 0, "backoff": 3}, 1600, 3),  # persist: 200 << 3
        ({"unacked": 0, "unsent": 10, "snd_wnd": 1}, TIMER_NOT_RUNNING, 0),
    ],
)
def test_r_tmr_25_the_retransmit_timer_runs_only_with_something_outstanding(
    changes: dict[str, int], ticks: int, count: int
) -> None:
    """R-TMR-25: the retransmit timer runs only with something outstanding."""
    _, _, delegated = tcp_state(facts(rto_us=200_000, **changes), rng())
    assert (delegated.retransmit_timeout_delta, delegated.retransmit_count) == (ticks, count)


def test_r_tmr_09_fin_wait_2_is_timed_by_the_retransmit_member() -> None:
    """R-TMR-09: fin wait 2 is timed by the retransmit member."""
    _, _, delegated = tcp_state(facts(state=State.TcpConnectionFinWait2), rng())
    assert delegated.retransmit_timeout_delta == FIN_WAIT_2_TICKS == 120_000


@pytest.mark.parametrize(
    "state", [State.TcpConnectionFinWait1, State.TcpConnectionClosing, State.TcpConnectionLastAck]
)
def test_a_strangers_fin_is_one_number_in_flight_and_is_retransmitted(state: State) -> None:
    end = (bytes([192, 0, 2, 2]), 1, bytes([192, 0, 2, 3]), 2)
    c = connection_facts(end, state, Hop("eth0", end[2], 1500))
    _, _, delegated = tcp_state(c, rng())
    assert (delegated.snd_nxt - delegated.snd_una) % 2**32 == 1
    assert delegated.retransmit_timeout_delta == 1000


@pytest.mark.parametrize(
    ("changes", "ticks", "probes"),
    [
        ({"since_received_ms": 1_000}, 59_000, 0),
        ({"since_received_ms": 70_000}, 0, 0),
        ({"since_received_ms": 1_000, "probes": 2}, 4_000, 2),
    ],
)
def test_r_tmr_12_the_keepalive_timer_is_carried_on(changes: dict[str, int], ticks: int, probes: int) -> None:
    """R-TMR-12: the keepalive timer is carried on."""
    c = facts(keepalive=True, keep_idle_s=60, keep_interval_s=5, **changes)
    _, _, delegated = tcp_state(c, rng())
    assert (delegated.keep_alive_timeout_delta, delegated.keep_alive_probe_count) == (ticks, probes)


@pytest.mark.parametrize(
    ("state", "confirmed_ms", "ticks"),
    [
        (NUD_REACHABLE, 2500, 2500),
        (NUD_REACHABLE, None, 0),
        (NUD_NOARP, None, 0),
        (0, None, NEVER_CONFIRMED_TICKS),
        (0, 2**40, NEVER_CONFIRMED_TICKS),
    ],
)
def test_r_nud_01_both_reachability_deltas_are_equal_at_offload(
    state: int, confirmed_ms: int | None, ticks: int
) -> None:
    """R-NUD-01: both reachability deltas are equal at offload."""
    neighbor = NeighborFacts(
        bytes([192, 0, 2, 1]), "eth0", bytes.fromhex("02fc00000005"), state, confirmed_ms
    )
    const, cached, delegated = neighbor_state(neighbor, vlan_id=5)
    assert cached.host_reachability_delta == delegated.nic_reachability_delta == ticks
    assert cached.dl_destination_address == neighbor.mac
    assert (const.dl_source_address, const.vlan_id) == (b"", 5)


def test_a_neighbor_without_link_address_is_all_zero_in_the_image() -> None:
    _, cached, _ = neighbor_state(NeighborFacts(bytes([127, 0, 0, 1]), "lo", bytes(6), NUD_NOARP))
    assert cached.pack()[8:40] == bytes(32)
    assert type(cached).unpack_from(cached.pack()) == cached


def test_a_tree_of_facts_becomes_a_tree_of_state() -> None:
    (only,) = group(Inventory((facts(path_mtu=1400),), (), (), ()))
    const, cached, _ = path_state(only.paths[0])
    assert (const.destination_address, cached.path_mtu) == (bytes([198, 51, 100, 7]), 1400)


@pytest.mark.parametrize(
    ("local", "remote", "expected"),
    [
        (("161.142.100.80", 1766), ("66.9.149.187", 2794), 0x51CCC178),
        (("65.69.140.83", 4739), ("199.92.111.2", 14230), 0xC626B0EA),
        (("3ffe:2501:200:3::1", 1766), ("3ffe:2501:200:1fff::7", 2794), 0x40207D3D),
    ],
)
def test_r_rss_01_the_hash_agrees_with_the_published_verification_suite(
    local: tuple[str, int], remote: tuple[str, int], expected: int
) -> None:
    """R-RSS-01: the hash agrees with the published verification suite."""
    here, there = ip_address(local[0]).packed, ip_address(remote[0]).packed
    assert tcp_hash(here, local[1], there, remote[1]) == expected
    c = facts(local_address=here, local_port=local[1], remote_address=there, remote_port=remote[1])
    assert tcp_state(c, rng())[0].hash_value == expected


def test_a_short_hash_key_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="RSS key of 15 bytes"):
        toeplitz(bytes(12), bytes(15))
