"""Query and update."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.ddi.tcp_enums import BACKLOG_NOT_SUPPORTED, TcpCachedFlags
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    PathOffloadStateCached,
    TcpOffloadStateCached,
    pack_state,
    state_size,
    unpack_state,
)
from target import TargetConfig
from target.operations.lists import SLICES

S, F = "SUCCESS", "FAILURE"
T = OffloadStateType
RESTART, MAX_RT, ENABLED, UPDATE_WND = (
    TcpCachedFlags.TCP_FLAG_KEEP_ALIVE_RESTART,
    TcpCachedFlags.TCP_FLAG_MAX_RT_RESTART,
    TcpCachedFlags.TCP_FLAG_KEEP_ALIVE_ENABLED,
    TcpCachedFlags.TCP_FLAG_UPDATE_RCV_WND,
)


def cached(**members: Any) -> TcpOffloadStateCached:
    base = {"initial_rcv_wnd": 65536, "ka_probe_count": 3, "ka_timeout": 7000, "ka_interval": 1000}
    return TcpOffloadStateCached(**(base | members))


def update_tcp(h: Any, t: Any, new: TcpOffloadStateCached) -> str:
    done = h.statuses("update", [t], types={t: T.TcpOffloadCachedState}, states={t: new.pack()})
    return str(done[0])


def read(h: Any, obj: Any, state_type: int | None = None) -> Any:
    kind = int(state_type or obj.type)
    assert h.statuses("query", [obj], types={obj: kind}) == [S]
    return obj.structures(kind)


def test_slices_are_the_structures_of_each_type() -> None:
    for n, part in SLICES.items():
        assert part.stop - part.start == state_size(n)
    assert [SLICES[n].start for n in (13, 14, 15, 17)] == [0, 0x18, 0x44, 0]
    assert [SLICES[n].start for n in (9, 10, 11, 12)] == [0, 0x38, 0x44, 0]


def test_r_qry_02_each_class_of_each_layer_can_be_queried(h: Any) -> None:
    """R-QRY-02, R-QRY-03, R-BLK-05, R-BLK-06: the structures that Type selects, with the values offered."""
    n, p, (t,) = h.stack(1)
    p6 = h.path(src=bytes(16), dst=bytes(16), mtu=1280)
    h.run("initiate", [(n, [p6])])
    for obj, kinds in ((n, (1, 2, 3, 4)), (p, (5, 6, 7, 8)), (p6, (9, 10, 11, 12)), (t, (13, 14))):
        offered = unpack_state(kinds[-1] if len(kinds) == 4 else 17, obj.image)
        for kind in kinds:
            got = read(h, obj, kind)
            if len(kinds) == 4 and kind == kinds[-1]:
                assert got == offered
            else:
                assert got == (offered[(kind - 1) % 4],)


def test_r_state_12_backlogs_take_the_place_of_pointers_in_a_query(h: Any) -> None:
    """R-STATE-12, R-STATE-15: sizes, not pointers; and nothing that is posted changes them."""
    _n, _p, (t,) = h.stack(1, buffered=h.nbl(b"12345"))
    before = read(h, t, 15)[0]
    assert (before.send_backlog_size, before.receive_backlog_size, before.send_data_tail) == (65536, 5, None)
    h.post("send", t, h.nbl(b"x" * 1000))
    after = read(h, t, 15)[0]
    assert after.send_backlog_size == 65536


def test_r_state_13_a_target_without_backlog_features_says_so(make: Any) -> None:
    """R-STATE-13: 0xFFFFFFFF for each of them."""
    h = make(TargetConfig(send_backlog=None, receive_backlog=False))
    _n, _p, (t,) = h.stack(1)
    got = read(h, t)[2]
    assert (got.send_backlog_size, got.receive_backlog_size) == (BACKLOG_NOT_SUPPORTED,) * 2


def test_r_state_08_scaled_times_come_back_as_they_went(h: Any) -> None:
    """R-STATE-08, R-QRY-06: SRtt and RttVar in their scaled form; timers that do not run are -1."""
    _n, _p, (t,) = h.stack(1, s_rtt=8 * 25, rtt_var=4 * 10)
    got = read(h, t, 15)[0]
    assert (got.s_rtt, got.rtt_var) == (200, 40)
    assert (got.keep_alive_timeout_delta, got.retransmit_timeout_delta) == (0xFFFFFFFF, 0xFFFFFFFF)


def test_r_qry_04_statuses_of_a_query(h: Any) -> None:
    """R-QRY-04, R-BLK-09, R-TREE-02: only SUCCESS and FAILURE; placeholders succeed; one bad block fails
    alone.
    """
    _n, p, (t,) = h.stack(1)
    stranger = h.neighbor()
    stranger.handle.context = 0x50000DEAD0
    done = h.run("query", [(None, [(p, [t])]), stranger])
    assert [s.name for s in done.status] == [S, S, S, F]
    assert set(done.status) <= ALLOWED_STATUS["query"]
    assert stranger.result is None
    assert h.statuses("query", [p], types={p: 12}) == [F]
    assert h.statuses("query", [p], types={p: 17}) == [F]


def test_r_qry_01_queries_overlap_and_give_the_values_of_their_end(make: Any) -> None:
    """R-QRY-01, R-BLK-15: two queries of one object run at once, also across an update."""
    h = make(TargetConfig())
    _n, p, (t,) = h.stack(1)
    h.control("latency", {"seconds": 2})
    q1 = h.request("query", [t])
    q2 = h.request("query", [t])
    u = h.request("update", [p], types={p: 6}, states={p: PathOffloadStateCached(1400).pack()})
    q3 = h.request("query", [p])
    assert h.done(q1) is None
    h.advance(2)
    names = [h.done(r).name for r in (q1, q2, u, q3)]
    assert names == ["NdisMQueryOffloadStateComplete"] * 2 + [
        "NdisMUpdateOffloadComplete",
        "NdisMQueryOffloadStateComplete",
    ]
    assert p.structures()[1].path_mtu == 1400


def test_r_state_06_every_operation_but_initiate_is_legal_in_every_tcp_state(h: Any) -> None:
    """R-STATE-06, R-TERM-06: query, update, invalidate and terminate of a connection in LAST_ACK or
    CLOSED.
    """
    _n, _p, ts = h.stack(2, state=9)
    h.adapter.find(ts[1].context).delegated.state = 0
    for t in ts:
        assert read(h, t, 15)[0].state in (0, 9)
        assert update_tcp(h, t, cached(ttl_or_hop_limit=3)) == S
        assert h.statuses("invalidate", [t]) == [S]
        assert h.statuses("terminate", [t]) == [S]


# -- update ------------------------------------------------------------------------------------


def test_r_upd_03_only_cached_values_change(h: Any) -> None:
    """R-UPD-03, R-STATE-02, R-STATE-03, R-STATE-04: a whole state is passed, and only its cached part is
    taken.
    """
    _n, _p, (t,) = h.stack(1)
    other = h.tcp(remote=99, window=1000, snd_una=5, state=7)
    before = read(h, t)
    assert h.statuses("update", [t], states={t: other.image}) == [S]
    after = read(h, t)
    assert after[0] == before[0]
    assert after[1] == unpack_state(17, other.image)[1]
    assert after[2] == before[2]


def test_r_upd_03_path_mtu_and_a_changed_mac_are_plain_updates(h: Any) -> None:
    """R-UPD-03: no link moves."""
    n, p, (_t,) = h.stack(1)
    new = NeighborOffloadStateCached(b"\x02\x99\x00\x00\x00\x01", 55)
    done = h.statuses(
        "update",
        [(n, [p])],
        types={n: 2, p: 6},
        states={n: new.pack(), p: PathOffloadStateCached(1300).pack()},
    )
    assert done == [S, S]
    assert read(h, n, 2) == (new,)
    assert read(h, n, 1) == unpack_state(4, n.image)[:1]
    assert read(h, p, 6)[0].path_mtu == 1300
    assert h.adapter.find(p.context).neighbor.address == n.context


def test_r_upd_05_paths_move_to_the_root_neighbor(h: Any) -> None:
    """R-UPD-05: all listed paths, with what depends on them; others stay; then the old one may
    go.
    """
    n1, p1, (t,) = h.stack(1)
    p2, p3, n2 = h.path(), h.path(), h.neighbor()
    h.run("initiate", [(n1, [p2, p3])])
    h.run("initiate", [n2])
    assert h.statuses("update", [(n2, [p1, p2])]) == [S, S, S]
    find = h.adapter.find
    assert [find(p.context).neighbor.address for p in (p1, p2, p3)] == [n2.context, n2.context, n1.context]
    assert list(find(n2.context).dependents) == [p1.context, p2.context]
    assert list(find(n1.context).dependents) == [p3.context]
    assert find(t.context).path.neighbor.address == n2.context
    assert h.statuses("terminate", [(n1, [p3])]) == [S, S]


def test_failover_in_full(h: Any) -> None:
    """R-UPD-05, R-INV-04: invalidate, offload, relink, terminate; the connection may send again after the
    relink.
    """
    n1, p, (t,) = h.stack(1)
    tcp = h.adapter.find(t.context)
    h.run("invalidate", [n1])
    assert tcp.invalid
    n2 = h.neighbor()
    h.run("initiate", [n2])
    assert h.statuses("update", [(n2, [p])]) == [S, S]
    assert not tcp.invalid
    assert h.statuses("terminate", [n1]) == [S]
    assert h.inspect()["neighbor"] == 1


def test_links_of_connections_are_never_updated(h: Any) -> None:
    """R-UPD-03, R-TREE-11: a connection under a path that is not its own fails and stays where it is."""
    n, p1, (t,) = h.stack(1)
    p2 = h.path()
    h.run("initiate", [(n, [p2])])
    assert h.statuses("update", [(p2, [t])]) == [S, F]
    assert h.adapter.find(t.context).path.address == p1.context


def test_a_path_is_not_moved_to_a_neighbor_whose_block_failed(h: Any) -> None:
    """R-UPD-10: FAILURE, and the path is served as before."""
    n1, p, _ = h.stack(0)
    n2 = h.neighbor()
    h.run("initiate", [n2])
    h.control("knob.set", {"point": "update"})
    assert h.statuses("update", [(n2, [p])]) == [F, F]
    assert h.adapter.find(p.context).neighbor.address == n1.context


def test_r_upd_10_after_a_failed_update_the_connection_is_served_on(make: Any) -> None:
    """R-UPD-10, R-UPD-09: too large a window fails, changes nothing, and raises nothing."""
    h = make(TargetConfig(max_rcv_window=100_000, rcv_buffer_bytes=120_000))
    _n, p, (t,) = h.stack(1)
    assert update_tcp(h, t, cached(initial_rcv_wnd=100_001)) == F
    assert read(h, t)[1] == unpack_state(17, t.image)[1]
    assert h.take() == []
    h.post("send", t, h.nbl(b"x"))
    assert h.inspect()["posted_sends"] == 1
    other = h.tcp(window=50_000)
    h.run("initiate", [(p, [other])])
    assert update_tcp(h, t, cached(initial_rcv_wnd=70_001)) == F
    assert set(ALLOWED_STATUS["update"]) == {NdisStatus.SUCCESS, NdisStatus.FAILURE}


def test_r_upd_09_a_changed_window_is_honoured(make: Any) -> None:
    """R-UPD-09: it is in force for the accounting, too, and all is given back in the end."""
    h = make(TargetConfig(rcv_buffer_bytes=100_000))
    n, p, (t,) = h.stack(1)
    assert h.statuses("initiate", [(p, [h.tcp(window=50_000)])]) == [F, "OFFLOAD_TCP_RCV_BUFFER"]
    assert update_tcp(h, t, cached(initial_rcv_wnd=20_000)) == S
    other = h.tcp(window=50_000)
    assert h.statuses("initiate", [(p, [other])]) == [S, S]
    assert read(h, t)[1].initial_rcv_wnd == 20_000
    h.run("terminate", [(n, [(p, [t, other])])])
    assert set(h.adapter.hardware.in_use().values()) == {0}


@pytest.mark.parametrize(("window", "due"), [(65536, False), (30000, True)])
def test_the_window_flag_is_left_for_the_tcp_machine(h: Any, window: int, due: bool) -> None:
    _n, _p, (t,) = h.stack(1)
    update_tcp(h, t, cached(flags=int(UPDATE_WND), initial_rcv_wnd=window))
    io = h.adapter.find(t.context).io
    assert (io is not None and io.window_due) is due


@pytest.mark.parametrize(
    ("flags", "change", "probes", "timeout", "total_rt"),
    [
        (RESTART | ENABLED, {"ka_probe_count": 9}, 0, 500, 33),
        (RESTART | ENABLED, {"ka_timeout": 9000}, 2, 9000, 33),
        (RESTART | ENABLED, {"ka_interval": 1}, 2, 7000, 33),
        (RESTART, {"ka_timeout": 9000}, 2, 0xFFFFFFFF, 33),
        (RESTART | ENABLED, {}, 2, 500, 33),
        (MAX_RT | ENABLED, {"ka_probe_count": 9, "ka_timeout": 1}, 0, 1, 0),
        (MAX_RT, {}, 2, 500, 0),
        (ENABLED, {"ka_probe_count": 9, "ka_timeout": 1}, 2, 500, 33),
    ],
)
def test_r_upd_11_keepalive_and_max_rt_restart(
    h: Any, flags: int, change: dict[str, int], probes: int, timeout: int, total_rt: int
) -> None:
    """R-UPD-11, R-DIS-13: either flag restarts the keepalive where its parameters changed, MAX_RT alone
    TotalRT.
    """
    _n, _p, (t,) = h.stack(1, keep_alive_probe_count=2, keep_alive_timeout_delta=500, total_rt=33)
    assert update_tcp(h, t, cached(flags=int(flags), **change)) == S
    got = read(h, t, 15)[0]
    assert (got.keep_alive_probe_count, got.keep_alive_timeout_delta, got.total_rt) == (
        probes,
        timeout,
        total_rt,
    )


def test_r_dis_12_an_update_takes_effect_before_its_completion(make: Any) -> None:
    """R-DIS-12: pending first; no second update of the object meanwhile."""
    h = make(TargetConfig())
    _n, p, _ = h.stack(0)
    h.control("latency", {"seconds": 1})
    first = h.request("update", [p], types={p: 6}, states={p: PathOffloadStateCached(1400).pack()})
    assert h.adapter.find(p.context).life.value == "updating"
    second = h.request("update", [p], types={p: 6}, states={p: PathOffloadStateCached(1300).pack()})
    h.advance(1)
    assert h.done(first).status == [NdisStatus.SUCCESS]
    assert h.done(second).status == [NdisStatus.FAILURE]
    assert h.adapter.find(p.context).cached.path_mtu == 1400
    assert h.adapter.find(p.context).life.value == "offloaded"


def test_updates_that_cannot_be(make: Any) -> None:
    """R-UPD-10: of an invalid object, with broken state, of another family, beyond the MTU."""
    h = make(TargetConfig(max_path_mtu=1500))
    n, p, (_t,) = h.stack(1)
    mtu = PathOffloadStateCached(1501).pack()
    assert h.statuses("update", [p], types={p: 6}, states={p: mtu}) == [F]
    assert h.statuses("update", [p], types={p: 6}, states={p: mtu[:-1]}) == [F]
    assert h.statuses("update", [p], types={p: 10}, states={p: mtu}) == [F]
    h.run("invalidate", [n])
    h.take()
    assert h.statuses("update", [n], types={n: 2}, states={n: NeighborOffloadStateCached().pack()}) == [F]
    assert read(h, n)[1] == unpack_state(4, n.image)[1]


def test_state_that_was_unpacked_packs_to_the_same_image(h: Any) -> None:
    """R-QRY-03: looking at a structure does not change it; writing to it is what a query then shows."""
    _n, _p, (t,) = h.stack(1, snd_una=123, c_wnd=4567)
    tcp = h.adapter.find(t.context)
    raw = tcp.image()
    assert tcp.delegated.snd_una == 123
    assert tcp.image() == raw
    tcp.delegated.snd_una = 124
    assert read(h, t, 15)[0].snd_una == 124
    assert pack_state(tcp.structures()) == tcp.image()
