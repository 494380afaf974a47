"""Invalidate, terminate, corrupt hardware."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.ddi.tcp_enums import TcpOffloadEventType, TcpUploadReason
from ndisbus.lists.blocklist import Key
from ndisbus.lists.nbl import advance, data_of, iter_chain
from ndisbus.state.images import TcpOffloadStateConst, unpack_state
from target import TargetConfig
from tests.support.lists import first_of

S, F = "SUCCESS", "FAILURE"
T = OffloadStateType
RETRIEVE, ABORT = TcpOffloadEventType.TcpIndicateRetrieve, TcpOffloadEventType.TcpIndicateAbort
INVALID_STATE, HARDWARE = TcpUploadReason.InvalidState, TcpUploadReason.HardwareFailure


def handles(*objects: Any) -> list[int]:
    return [o.handle.address for o in objects]


def corrupt(h: Any, obj: Any) -> None:
    assert h.control("corrupt", {"object": obj.context}) == {"marked": 1}


def failure_events(*connections: Any) -> list[tuple[int, int, int]]:
    return [
        e for t in connections for e in ((t.handle.address, RETRIEVE, HARDWARE), (t.handle.address, ABORT, 0))
    ]


# -- invalidate --------------------------------------------------------------------------------


def test_r_inv_03_invalid_objects_keep_what_they_hold(h: Any) -> None:
    """R-INV-03: marked in the context, nothing freed until the terminate."""
    n, p, ts = h.stack(2)
    before = h.adapter.hardware.in_use()
    assert h.statuses("invalidate", [n]) == [S]
    assert h.adapter.hardware.in_use() == before
    assert h.adapter.find(n.context).life.value == "invalid"
    assert h.inspect()["invalid"] == 1
    assert h.statuses("terminate", [(n, [(p, list(ts))])]) == [S] * 4
    assert h.inspect()["invalid"] == 0


@pytest.mark.parametrize("layer", ["neighbor", "path", "tcp"])
def test_r_inv_04_and_05_sending_stops_on_all_that_depends(h: Any, layer: str) -> None:
    """R-INV-04, R-INV-05, R-DIS-11, R-HND-06: one request for upload with InvalidState per connection
    affected,
    after the completion; others go on."""
    n, p, ts = h.stack(2)
    p2, t3, n2, p3, t4 = h.path(), h.tcp(), h.neighbor(), h.path(), h.tcp()
    h.run("initiate", [(n, [(p2, [t3])])])
    h.run("initiate", [(n2, [(p3, [t4])])])
    spec, affected = {
        "neighbor": ([n], [*ts, t3]),
        "path": ([p], ts),
        "tcp": ([ts[1]], [ts[1]]),
    }[layer]
    root = h.request("invalidate", spec)
    order = [c[0] for c in h.calls]
    assert order == ["NdisMInvalidateOffloadComplete"] + ["NdisTcpOffloadEventHandler"] * len(affected)
    assert h.done(root).status == [NdisStatus.SUCCESS]
    assert h.events() == [(t.handle.address, RETRIEVE, INVALID_STATE) for t in affected]
    for t in (*ts, t3, t4):
        assert h.adapter.find(t.context).invalid is (t in affected)


def test_r_inv_05_a_tree_with_everything_asks_once_per_connection(h: Any) -> None:
    """R-INV-05, R-EVT-03, R-INV-06."""
    n, p, (t,) = h.stack(1)
    done = h.run("invalidate", [(n, [(p, [t])])])
    assert set(done.status) <= ALLOWED_STATUS["invalidate"]
    assert h.events() == [(t.handle.address, RETRIEVE, INVALID_STATE)]


def test_r_evt_08_a_send_on_an_invalid_path_asks_again(h: Any) -> None:
    """R-EVT-08, R-INV-04, R-TERM-20: the send goes back, InvalidState is raised again; earlier sends stay
    queued.
    """
    _n, p, (t,) = h.stack(1)
    early, late = h.nbl(b"early"), h.nbl(b"late")
    h.post("send", t, early)
    h.run("invalidate", [p])
    h.take()
    h.post("send", t, late)
    assert h.events() == [(t.handle.address, RETRIEVE, INVALID_STATE)]
    assert h.completions() == [(late.address, "UPLOAD_IN_PROGRESS")]
    assert h.inspect()["posted_sends"] == 1


def test_invalidation_marks_at_once_and_completes_later(h: Any) -> None:
    """R-INV-04: sending stops when the request arrives, not when it completes."""
    n, _p, (t,) = h.stack(1)
    h.control("latency", {"seconds": 1})
    root = h.request("invalidate", [n])
    assert h.adapter.find(t.context).invalid
    assert h.take() == []
    h.advance(1)
    assert h.done(root)


# -- terminate ---------------------------------------------------------------------------------


def test_r_term_07_delegated_values_are_given_back_then_all_is_freed(h: Any) -> None:
    """R-TERM-07, R-STATE-04, R-OSD-13, R-TERM-17: current values; NetBufferListChain NULL; nothing left."""
    n, p, (t,) = h.stack(1, snd_una=100, snd_nxt=100, snd_max=100, rcv_nxt=7)
    h.adapter.find(t.context).delegated.snd_una = 150
    root = h.request("terminate", [(n, [(p, [t])])], types={n: 3, p: 7, t: 15})
    assert h.inspect()["tcp"] == 0
    done = h.done(root)
    assert done.status == [NdisStatus.SUCCESS] * 3
    assert set(done.status) <= ALLOWED_STATUS["terminate"]
    (got,) = t.structures(15)
    assert (got.snd_una, got.rcv_nxt, got.send_data_head, got.send_data_tail, got.buffered_data) == (
        150,
        7,
        None,
        None,
        None,
    )
    assert done.wire[Key.NBL_CHAIN] == [None, None, None]
    assert n.structures(3) == unpack_state(4, n.image)[2:]
    assert set(h.adapter.hardware.in_use().values()) == {0}
    assert list(h.port.ndis.heap.objects) == [h.ctx]


def test_r_state_02_constants_and_cached_values_are_not_handed_back(h: Any) -> None:
    """R-STATE-02, R-STATE-03: what the host left there stays; with nothing there, nothing of ours appears."""
    n, p, ts = h.stack(2)
    mine = h.tcp(remote=1, window=2).image
    h.run("terminate", ts, states={ts[0]: mine})
    assert ts[0].structures()[:2] == unpack_state(17, mine)[:2]
    assert ts[1].structures()[0] == TcpOffloadStateConst()
    assert ts[1].structures()[2].state == 4
    h.run("terminate", [(n, [p])])
    assert p.structures()[0].source_address == bytes(4)


def test_r_osd_12_sends_go_back_in_the_order_received(h: Any) -> None:
    """R-OSD-02, R-OSD-10, R-OSD-11, R-OSD-12, R-OSD-13, R-DIS-16, R-OSD-04: first what came with the
    connection,
    then what was posted; head and tail are those with data; none of them is completed as a send."""
    first, second = h.nbl(b"AAAA"), h.nbl(b"BB")
    first.next = second
    advance(first.first_net_buffer, 1)
    _n, _p, (t,) = h.stack(1, chain=first, snd_una=1001, snd_nxt=1003, snd_max=1004)
    third, empty = h.nbl(b"CCC"), h.nbl()
    h.post("send", t, third)
    h.post("send", t, empty)
    done = h.run("terminate", [t], types={t: 15})
    assert h.completions() == []
    assert t.returned == first.address
    back = list(iter_chain(done.nbls[first.address]))
    assert [x.address for x in back] == [x.address for x in (first, second, third, empty)]
    assert [data_of(first_of(x)) for x in back] == [b"AAA", b"BB", b"CCC", b""]
    (got,) = t.structures(15)
    assert (got.send_data_head, got.send_data_tail) == (first.address, third.address)
    assert (got.snd_una, got.snd_nxt, got.snd_max) == (1001, 1003, 1004)
    assert h.inspect()["posted_sends"] == 0


def test_sends_without_descriptors_go_back_by_address(h: Any) -> None:
    """R-OSD-12: the same pointers, even if the call brought nothing but them."""
    _n, _p, (t,) = h.stack(1)
    a, b = h.nbl(b"a"), h.nbl(b"b")
    h.post("send", t, a, b, describe=False)
    done = h.run("terminate", [t])
    assert [x.address for x in iter_chain(done.nbls[a.address])] == [a.address, b.address]
    assert (t.structures()[2].send_data_head, t.structures()[2].send_data_tail) == (a.address, b.address)


def test_r_brd_07_undelivered_data_is_returned_in_buffered_data(h: Any) -> None:
    """R-BRD-07, R-BRD-09, R-REG-09: a list of the target's own, counted until it comes back."""
    n, p, (t,) = h.stack(1, buffered=h.nbl(b"undeli", b"vered"))
    done = h.run("terminate", [t], types={t: 15})
    (got,) = t.structures(15)
    nbl = done.nbls[got.buffered_data]
    assert nbl.next is None
    assert data_of(nbl.first_net_buffer) == b"undelivered"
    assert got.buffered_data >> 40 == 5
    assert h.inspect()["nbls_outstanding"] == 1
    assert h.inspect()["buffered_bytes"] == 0
    h.receive("MiniportTcpOffloadReceiveReturn", [h.ctx, {"NetBufferList": [nbl.address]}])
    assert h.inspect()["nbls_outstanding"] == 0
    h.run("terminate", [(n, [p])])
    assert list(h.port.ndis.heap.objects) == [h.ctx]


def test_r_term_08_everything_posted_is_completed_before_the_terminate(h: Any) -> None:
    """R-TERM-08, R-RECV-01, R-RECV-02, R-RECV-10, R-DISC-09, R-FWD-05, R-DISC-11."""
    _n, _p, (t,) = h.stack(1)
    r1, zero, r2, f1, d1, s1 = (
        h.nbl(bytes(9)),
        h.nbl(),
        h.nbl(bytes(9)),
        h.nbl(b"seg"),
        h.nbl(b"bye"),
        h.nbl(b"x"),
    )
    h.post("receive", t, r1, zero)
    h.post("receive", t, r2)
    h.post("send", t, s1)
    h.post("forward", t, f1)
    h.post("disconnect", t, d1)
    root = h.request("terminate", [t])
    names = [c[0] for c in h.calls]
    assert names[-1] == "NdisMTerminateOffloadComplete"
    assert h.completions("receive") == [(x.address, "UPLOAD_IN_PROGRESS") for x in (r1, zero, r2)]
    assert h.completions("disconnect") == [(d1.address, "UPLOAD_IN_PROGRESS")]
    assert h.completions("forward") == [(f1.address, "UPLOAD_IN_PROGRESS")]
    assert h.completions("send") == []
    assert h.done(root).nbls[s1.address].next is None


def test_r_term_08_operations_that_came_before_complete_before(h: Any) -> None:
    """R-TERM-08, R-DIS-39: a query and an update that are still pending are over before the terminate."""
    _n, _p, (t,) = h.stack(1)
    h.control("latency", {"seconds": 1})
    image = unpack_state(17, t.image)[1].pack()
    h.request("query", [t])
    h.request("update", [t], types={t: 14}, states={t: image})
    h.request("terminate", [t])
    h.advance(1)
    assert [c[0] for c in h.calls] == [
        "NdisMQueryOffloadStateComplete",
        "NdisMUpdateOffloadComplete",
        "NdisMTerminateOffloadComplete",
    ]
    for root in list(h._nodes):
        assert h.done(root).status == [NdisStatus.SUCCESS]


def test_r_term_11_io_that_arrives_during_the_terminate_goes_back(h: Any) -> None:
    """R-TERM-11, R-RECV-10: all four kinds, at once, and on that connection only."""
    _n, _p, (t, other) = h.stack(2)
    h.control("latency", {"seconds": 1})
    h.request("terminate", [t])
    lists = {op: h.nbl(b"x") for op in ("send", "receive", "disconnect", "forward")}
    for op, nbl in lists.items():
        h.post(op, t, nbl)
        assert h.completions(op) == [(nbl.address, "UPLOAD_IN_PROGRESS")]
    h.post("send", other, h.nbl(b"y"))
    assert h.completions() == []


def test_what_others_depend_on_stays(h: Any) -> None:
    """A path or neighbor with dependents fails; with all of them in one list it goes."""
    n, p, ts = h.stack(2)
    assert h.statuses("terminate", [p]) == [F]
    assert h.statuses("terminate", [(n, [(p, [ts[0]])])]) == [F, F, S]
    assert h.statuses("query", [(n, [(p, [ts[1]])])]) == [S, S, S]
    assert h.statuses("terminate", [(n, [(p, [ts[1]])])]) == [S, S, S]
    assert h.inspect()["refused: terminate of an object that others depend on"] == 3


def test_flat_lists_of_one_layer_after_the_other_terminate_everything(h: Any) -> None:
    """R-TERM-07: what NDIS itself does for a dead host."""
    n, p, ts = h.stack(3)
    for objects, kind in ((ts, 15), ([p], 7), ([n], 3)):
        assert set(h.statuses("terminate", objects, types=dict.fromkeys(objects, kind))) == {S}
    assert list(h.port.ndis.heap.objects) == [h.ctx]


def test_naming_a_freed_or_doubled_object_fails(h: Any) -> None:
    """R-HND-04: the value is good until the terminate completes, and never again."""
    _n, _p, (t,) = h.stack(1)
    assert h.statuses("terminate", [t, t]) == [S, F]
    for op in ("query", "update", "invalidate", "terminate"):
        assert h.statuses(op, [(None, [t])]) == [S, F]
    h.post("send", t, nbl := h.nbl(b"x"))
    assert h.completions() == [(nbl.address, "UPLOAD_IN_PROGRESS")]


# -- corrupt hardware --------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["query", "invalidate"])
def test_r_hwf_01_a_failing_query_or_invalidate_and_what_follows(h: Any, op: str) -> None:
    """R-HWF-01, R-EVT-07, R-INV-06, R-QRY-04: FAILURE, Retrieve with HardwareFailure, Abort; then the
    terminate
    ends sends and receives with REQUEST_ABORTED, and the object is gone."""
    _n, _p, (t, healthy) = h.stack(2)
    s, r = h.nbl(b"s"), h.nbl(bytes(4))
    h.post("send", t, s)
    h.post("receive", t, r)
    corrupt(h, t)
    root = h.request(op, [t, healthy])
    assert [c[0] for c in h.calls][1:3] == ["NdisTcpOffloadEventHandler"] * 2
    done = h.done(root)
    assert [x.name for x in done.status] == [F, S]
    assert t.result is None
    expected = failure_events(t)
    if op == "invalidate":
        expected.append((healthy.handle.address, RETRIEVE, INVALID_STATE))
    assert h.events() == expected
    assert h.completions() == []
    root = h.request("terminate", [t])
    assert [c[0] for c in h.calls][-1] == "NdisMTerminateOffloadComplete"
    assert h.completions() == [(s.address, "REQUEST_ABORTED"), (r.address, "REQUEST_ABORTED")]
    done = h.done(root)
    assert [x.name for x in done.status] == [F]
    assert done.wire[Key.NBL_CHAIN] == [None]
    assert h.inspect()["tcp"] == 1
    assert h.events() == []


def test_r_hwf_01_the_events_are_raised_once(h: Any) -> None:
    """R-HWF-01: another query fails again without another pair of events; new I/O is aborted."""
    _n, _p, (t,) = h.stack(1)
    corrupt(h, t)
    h.run("query", [t])
    assert len(h.events()) == 2
    assert h.statuses("query", [t]) == [F]
    assert h.events() == []
    h.post("receive", t, nbl := h.nbl(b"x"))
    assert h.completions() == [(nbl.address, "REQUEST_ABORTED")]


def test_r_dis_43_a_terminate_that_fails_is_followed_by_another(h: Any) -> None:
    """R-DIS-43, R-HWF-01, R-TERM-17: FAILURE and events first, the object stays; the second terminate aborts
    what is outstanding, completes with FAILURE again, and frees."""
    _n, _p, (t,) = h.stack(1)
    s = h.nbl(b"s")
    h.post("send", t, s)
    corrupt(h, t)
    assert h.statuses("terminate", [t]) == [F]
    assert h.events() == failure_events(t)
    assert h.completions() == []
    assert h.inspect()["tcp"] == 1
    assert h.statuses("terminate", [t]) == [F]
    assert h.completions() == [(s.address, "REQUEST_ABORTED")]
    assert h.inspect()["tcp"] == 0
    assert h.events() == []


def test_r_dis_43_paths_and_neighbors_go_with_the_last_lost_connection(h: Any) -> None:
    """R-DIS-43: they fail with it, have no second terminate of their own, and nothing is left in the end."""
    n, p, (t, healthy) = h.stack(2)
    corrupt(h, t)
    assert h.statuses("terminate", [(n, [(p, [t, healthy])])]) == [F, F, F, S]
    assert h.events() == failure_events(t)
    assert [h.inspect()[k] for k in ("tcp", "path", "neighbor")] == [1, 1, 1]
    assert h.statuses("terminate", [t]) == [F]
    assert set(h.adapter.hardware.in_use().values()) == {0}
    assert list(h.port.ndis.heap.objects) == [h.ctx]


def test_r_dis_43_or_a_single_failing_terminate_is_the_end(make: Any) -> None:
    """R-DIS-43: what other targets do: everything aborted, one FAILURE, no events, nothing left."""
    h = make(TargetConfig(fail_terminate_twice=False))
    n, p, (t,) = h.stack(1)
    s = h.nbl(b"s")
    h.post("send", t, s)
    corrupt(h, t)
    assert h.statuses("terminate", [(n, [(p, [t])])]) == [S, S, F]
    assert h.completions() == [(s.address, "REQUEST_ABORTED")]
    assert h.events() == []
    assert list(h.port.ndis.heap.objects) == [h.ctx]


@pytest.mark.parametrize("layer", ["neighbor", "path"])
def test_r_hwf_01_a_corrupt_path_or_neighbor_concerns_its_connections(h: Any, layer: str) -> None:
    """R-HWF-01: FAILURE for it, and the two events for each connection that depends on it."""
    n, p, ts = h.stack(2)
    obj = n if layer == "neighbor" else p
    corrupt(h, obj)
    assert h.statuses("query", [obj]) == [F]
    assert h.events() == failure_events(*ts)
    assert h.statuses("terminate", [(n, [(p, list(ts))])]) == [
        F if obj is n else S,
        F if obj is p else S,
        F,
        F,
    ]
    assert list(h.port.ndis.heap.objects) == [h.ctx]


@pytest.mark.parametrize("op", ["query", "invalidate", "terminate"])
def test_a_knob_makes_hardware_fail_at_an_operation(h: Any, op: str) -> None:
    """R-HWF-01: the nth object met, with all that follows."""
    _n, _p, ts = h.stack(3)
    h.control("knob.set", {"point": op, "mode": "nth", "nth": 2})
    assert h.statuses(op, ts) == [S, F, S]
    assert [e for e in h.events() if e[2] != INVALID_STATE] == failure_events(ts[1])


def test_corrupt_all_of_a_layer(h: Any) -> None:
    h.stack(3)
    assert h.control("corrupt", {"layer": "path"}) == {"marked": 1}
    assert h.control("corrupt", {}) == {"marked": 3}


def test_hardware_that_fails_during_an_initiate(h: Any) -> None:
    """R-CONC-04, R-HWF-01: the events of a path that is lost meanwhile wait for the completion."""
    _n, p, _ = h.stack(0)
    h.control("latency", {"seconds": 1})
    t = h.tcp()
    first = h.request("initiate", [(p, [t])])
    second = h.request("query", [p])
    corrupt(h, p)
    h.advance(1)
    assert [c[0] for c in h.calls] == [
        "NdisMInitiateOffloadComplete",
        "NdisMQueryOffloadStateComplete",
        *["NdisTcpOffloadEventHandler"] * 2,
    ]
    assert h.done(first).status[1] == NdisStatus.SUCCESS
    assert h.done(second).status == [NdisStatus.FAILURE]
    assert h.events() == failure_events(t)
