"""Neighbor reachability: NRT and HRT, the test before each datagram, the question and its answer."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.lists.blocklist import Key
from ndisbus.net.segment import ACK
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    NeighborOffloadStateDelegated,
    pack_state,
    unpack_state,
)
from tests.support.wired import FAR_MAC

WHOLE = int(OffloadStateType.NeighborOffloadState)
QUERY = 2  # NeighborReachabilityQuery


@pytest.fixture
def stale(w: Any) -> Any:
    """A target whose neighbors are stale after 50 ticks of 10 ms, at 1000 s on its clock."""
    w.adapter.set_parameters(NdisTcpConnectionOffloadParameters(ticks_per_second=100, nce_stale_ticks=50))
    w.now = 1000.0
    return w


def questions(w: Any) -> list[tuple[list[Any], Any]]:
    """(parameters, call id) of the questions that are not answered; they stay."""
    return [(c[1], c[2]) for c in w.calls if c[0] == "NdisMOffloadEventIndicate"]


def answer(w: Any, hrd: int, state: bytes | None = None) -> Any:
    """Answer the oldest question with an HRD; the structures that came with it."""
    i = next(i for i, c in enumerate(w.calls) if c[0] == "NdisMOffloadEventIndicate")
    _, params, call_id = w.calls.pop(i)
    columns = params[1]
    const, cached, delegated = unpack_state(WHOLE, columns[Key.STATE][0])
    assert isinstance(cached, NeighborOffloadStateCached)
    cached.host_reachability_delta = hrd
    back = pack_state((const, cached, delegated)) if state is None else state
    w.receive("return", [None, {Key.BLOCK: columns[Key.BLOCK], Key.STATE: [back]}], call_id)
    w.pump()
    return const, cached, delegated


def send(w: Any, t: Any) -> None:
    """One datagram with one byte."""
    w.post("send", t, w.nbl(b"x"))


def test_r_nud_06_the_host_is_asked_when_both_deltas_are_stale(stale: Any) -> None:
    """R-NUD-01, R-NUD-02, R-NUD-05, R-NUD-06, R-DIS-26, R-DIS-27: once both lie back more than NceStaleTicks,
    in ticks of the target; with constant, cached and delegated state behind a single block.
    """
    w = stale
    t = w.live(neighbor={"age": 7})
    w.now += 0.43
    send(w, t)
    assert questions(w) == []  # 7 + 43 ticks are not more than 50
    w.now += 0.01
    send(w, t)
    [((handle, columns, code), _)] = questions(w)
    assert (handle, code) == (w.adapter.handle, QUERY)
    const, cached, delegated = unpack_state(WHOLE, columns[Key.STATE][0])
    assert isinstance(const, NeighborOffloadStateConst)
    assert isinstance(cached, NeighborOffloadStateCached)
    assert isinstance(delegated, NeighborOffloadStateDelegated)
    assert cached.dl_destination_address == FAR_MAC
    assert delegated.nic_reachability_delta == 51
    assert len(w.heard()) == 2  # the datagram does not wait


def test_r_nud_07_the_block_has_a_whole_header_and_nothing_else(stale: Any) -> None:
    """R-NUD-07: Type NeighborOffloadState, both links NULL, Status SUCCESS."""
    t = stale.live(neighbor={"age": 1000})
    send(stale, t)
    [((_, columns, _), _)] = questions(stale)
    [block] = columns.pop(Key.BLOCK)
    assert stale.port.ndis.heap.owns(block)
    columns.pop(Key.STATE)
    assert {k: v for k, v in columns.items() if v is not None} == {
        Key.TYPE: WHOLE,
        Key.REVISION: 1,
        Key.SIZE: 0x98,
        Key.STATUS: 0,
    }


def test_r_nud_09_after_a_zero_the_target_is_quiet_for_nce_stale_ticks(stale: Any) -> None:
    """R-NUD-09: HRT is now; R-NUD-05: then the next datagram asks again, one question at a time."""
    w = stale
    t = w.live(neighbor={"age": 1000})
    send(w, t)
    send(w, t)
    assert len(questions(w)) == 1
    answer(w, 0)
    w.now += 0.5
    send(w, t)
    assert questions(w) == []
    w.now += 0.01
    send(w, t)
    assert len(questions(w)) == 1


def test_r_nud_09_a_nonzero_answer_says_how_long_ago_it_was(stale: Any) -> None:
    """R-NUD-09: HRT = now - HRD."""
    w = stale
    t = w.live(neighbor={"age": 1000})
    send(w, t)
    answer(w, 30)
    w.now += 0.20
    send(w, t)
    assert questions(w) == []
    w.now += 0.01
    send(w, t)
    assert len(questions(w)) == 1


def test_r_nud_04_forward_progress_confirms_the_neighbor(stale: Any) -> None:
    """R-NUD-04, R-NUD-13: any acknowledgment on its connections counts; without any it grows stale."""
    w = stale
    t = w.live(neighbor={"age": 1000})
    n = t.below[0]
    send(w, t)
    w.say(t, ACK, 5000, 1001)
    answer(w, 0)
    w.now += 0.4
    send(w, t)
    w.say(t, ACK, 5000, 1002)
    w.now += 0.4
    send(w, t)  # HRT is 80 ticks ago, NRT 40
    assert questions(w) == []
    w.run("query", [n])
    assert n.structures()[2].nic_reachability_delta == 40
    w.now += 0.11
    send(w, t)
    assert len(questions(w)) == 1


def test_r_nud_03_arithmetic_is_modulo_2_to_the_32(stale: Any) -> None:
    """R-NUD-03: deltas larger than the clock has run, and a clock that passes 2**32 ticks."""
    w = stale
    w.now = 2**32 / 100 - 0.2
    t = w.live(neighbor={"age": 2**32 - 1})
    send(w, t)  # -1 tick, so to speak, is long ago
    _, _, delegated = answer(w, 0)
    assert delegated.nic_reachability_delta == 2**32 - 1
    w.say(t, ACK, 5000, 1001)
    w.now += 0.4
    send(w, t)
    assert questions(w) == []
    w.run("query", [t.below[0]])
    assert t.below[0].structures()[2].nic_reachability_delta == 40
    w.now += 0.11
    send(w, t)
    assert len(questions(w)) == 1


def test_a_nic_reachability_delta_is_handed_back(stale: Any) -> None:
    """R-STATE-04: the value of now; the host's own variable is not (R-STATE-03)."""
    w = stale
    t = w.live(neighbor={"age": 7})
    n, p = t.below
    w.now += 1.0
    w.run("terminate", [(n, [(p, [t])])])
    assert n.structures()[2].nic_reachability_delta == 107


def test_an_update_of_the_hosts_delta_counts(stale: Any) -> None:
    """R-NUD-02: HRT follows the cached variable that the host updates."""
    w = stale
    t = w.live(neighbor={"age": 1000})
    n = t.below[0]
    new = NeighborOffloadStateCached(FAR_MAC, 10).pack()
    kind = int(OffloadStateType.NeighborOffloadCachedState)
    w.statuses("update", [n], types={n: kind}, states={n: new})
    w.now += 0.4
    send(w, t)
    assert questions(w) == []
    w.now += 0.01
    send(w, t)
    assert len(questions(w)) == 1


def test_no_question_while_an_initiate_is_in_progress(stale: Any) -> None:
    """R-CONC-04: it is asked when the initiate is complete."""
    w = stale
    t = w.live(neighbor={"age": 1000})
    w.control("latency", {"seconds": 1})
    w.request("initiate", [w.neighbor()])
    send(w, t)
    assert questions(w) == []
    w.advance(1)
    assert len(questions(w)) == 1


def test_an_answer_that_cannot_be_read_keeps_the_target_quiet(stale: Any) -> None:
    w = stale
    t = w.live(neighbor={"age": 1000})
    send(w, t)
    answer(w, 0, state=b"nonsense")
    assert w.inspect()["refused: answer to NeighborReachabilityQuery is not well formed"] == 1
    w.now += 0.3
    send(w, t)
    assert questions(w) == []


def test_an_answer_for_a_neighbor_that_is_gone_is_dropped(stale: Any) -> None:
    w = stale
    t = w.live(neighbor={"age": 1000})
    n, p = t.below
    send(w, t)
    w.run("terminate", [(n, [(p, [t])])])
    answer(w, 5)
    assert w.inspect()["neighbor"] == 0


def test_r_nud_14_nothing_else_is_indicated_that_way(stale: Any) -> None:
    """R-NUD-14: neither doubt after many retransmissions, nor anything without a block."""
    w = stale
    t = w.live(neighbor={"age": 7})
    send(w, t)
    for _ in range(100):
        w.advance(0.1)
        while questions(w):
            [((_, columns, code), _), *_] = questions(w)
            assert code == QUERY
            assert columns is not None
            answer(w, 1)
    assert w.inspect()["refused: neighbor in doubt after retransmissions"] >= 1
