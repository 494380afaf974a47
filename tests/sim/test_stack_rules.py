"""Rules that only a whole stack can show: who may start what, and what travels through all layers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hoststack.model.events import UploadIndicated
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState, TcpUploadReason
from ndisbus.state.images import TcpOffloadStateDelegated
from tests.support.stack import Stack, make_tree

SUCCESS = NdisStatus.SUCCESS.symbol


def offloaded(seed: int = 1, **settings: Any) -> tuple[Stack, Any]:
    """A stack with one tree offloaded."""
    stack = Stack(seed, **settings)
    stack.ready()
    tree = make_tree(stack.rng)
    assert stack.do(lambda h: h.offload(tree[2])).counts() == {SUCCESS: 9}
    return stack, tree


def calls(stack: Stack, name: str) -> list[dict[str, Any]]:
    return [e for e in stack.sim.trace_events if e.get("call") == name]


def test_only_a_host_starts_a_terminate() -> None:
    """R-TERM-01: a target asks, for one connection per event, and never terminates anything itself."""
    stack, (_, _, tcbs) = offloaded()
    before = len(calls(stack, "NdisTerminateOffload"))
    stack.sim.act(
        "target", lambda d: d.control("indicate", {"event": "retrieve", "reason": "UploadRequested"})
    )
    stack.sim.run_until(lambda: not any(t.is_offloaded for t in tcbs), limit=5)
    terminates = calls(stack, "NdisTerminateOffload")[before:]
    assert {e["from"] for e in terminates} == {"host0", "im0"}
    events = calls(stack, "NdisTcpOffloadEventHandler")
    assert Counter(e["from"] for e in events) == {"target": len(tcbs), "im0": len(tcbs)}


def test_a_bus_checks_a_target_that_terminates_by_itself() -> None:
    """R-TERM-01: the request function needs a binding, and a miniport edge has none."""
    stack, (neighbor, _, _) = offloaded()
    assert neighbor.handle is not None
    columns = {"Block": [stack.sim.processes["target"].port.ndis.heap.address()], "Type": 3}
    stack.sim.inject("target", ["NdisTerminateOffload", None, [0x10, columns]])
    stack.sim.run_for(0.5)
    report = stack.sim.control("ps")["BugChecks"][0]
    assert (report["Driver"], report["Call"]) == ("target", "NdisTerminateOffload")


@pytest.mark.parametrize("reason", [r for r in TcpUploadReason if r.name != "MaxUploadReason"])
def test_every_upload_reason_reaches_the_host_as_it_was_given(reason: TcpUploadReason) -> None:
    """R-EVT-11, R-IM-13: the reason travels up unchanged; UploadRequested is for any other one."""
    stack, (_, _, tcbs) = offloaded()
    stack.sim.act("target", lambda d: d.control("indicate", {"event": "retrieve", "reason": reason.name}))
    stack.sim.run_for(0.5)
    seen = []
    while (event := stack.host().next_event()) is not None:
        if isinstance(event, UploadIndicated):
            seen.append(event.reason)
    assert seen == [reason] * len(tcbs)


@pytest.mark.parametrize(
    "state",
    [
        TcpOffloadConnectionState.TcpConnectionCloseWait,
        TcpOffloadConnectionState.TcpConnectionFinWait2,
        TcpOffloadConnectionState.TcpConnectionEstablished,
    ],
)
def test_uploading_and_closing_are_independent(state: TcpOffloadConnectionState) -> None:
    """R-TERM-18, R-TERM-06: open or half closed, a connection comes back in the state it had."""
    stack = Stack(3)
    stack.ready()
    _, _, tcbs = make_tree(stack.rng)
    for t in tcbs:
        t.delegated.state = state
    assert stack.do(lambda h: h.offload(tcbs)).counts() == {SUCCESS: 9}
    assert stack.do(lambda h: h.terminate(tcbs, idle=True)).counts() == {SUCCESS: 9}
    assert {t.delegated.state for t in tcbs} == {state}
    assert not any(t.lost for t in tcbs)


def test_a_router_that_goes_bad_is_invalidated_as_a_whole() -> None:
    """R-INV-01, R-INV-05: one block stops everything behind it; connections are terminated."""
    stack, (old, paths, tcbs) = offloaded()
    new, _, _ = make_tree(stack.rng)
    failover = stack.do(lambda h: h.failover(old, new))
    stack.sim.run_for(0.5)
    invalidated = calls(stack, "NdisInvalidateOffload")
    assert [e["blocks"] for e in invalidated if e["from"] == "host0"] == [1]
    assert failover.refused is None
    assert all(p.neighbor is new for p in paths)
    assert not any(t.is_offloaded for t in tcbs)
    assert not old.is_offloaded


def test_each_completion_reaches_its_own_host() -> None:
    """R-IM-05, R-HND-07: two hosts over two stacked intermediate drivers, requests in flight at once."""
    stack = Stack(5, hosts=2, ims=2)
    stack.ready()
    trees = {h: make_tree(stack.rng, 3, 4) for h in stack.hosts}
    for h, (_, _, tcbs) in trees.items():
        stack.begin(h, lambda d, tcbs=tcbs: d.offload(tcbs))
    stack.sim.run_until(lambda: all(o.done for o in stack.operations), limit=5)
    assert [o.counts() for o in stack.operations] == [{SUCCESS: 16}] * 2
    for h, (_, _, tcbs) in trees.items():
        for t in tcbs:
            stack.begin(h, lambda d, t=t: d.query([t]))
    stack.sim.run_until(lambda: all(o.done for o in stack.operations), limit=5)
    stack.check_statuses()
    for _, _, tcbs in trees.values():
        # Every connection has a RcvNxt of its own, so a query that went astray would show.
        for t in tcbs:
            query = next(o for o in stack.operations if o.op == "query" and o.objects[0] is t)
            result = query.result_of(t)
            assert result is not None
            [state] = result
            assert isinstance(state, TcpOffloadStateDelegated)
            assert state.rcv_nxt == t.delegated.rcv_nxt


def test_a_run_is_a_function_of_its_seed() -> None:
    """The same seed gives the same trace, event for event; another one does not."""

    def trace(seed: int) -> list[dict[str, Any]]:
        stack, (_, _, tcbs) = offloaded(seed, hosts=2)
        stack.do(lambda h: h.query(tcbs))
        stack.sim.kill("target")
        stack.sim.run_for(1.0)
        stack.sim.restart("target")
        stack.ready()
        return stack.sim.trace_events

    assert trace(7) == trace(7)
    assert trace(7) != trace(8)
