"""Intermediate drivers over intermediate drivers, and many requests in flight at once, in any order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ndisbus.ddi.call_rows import STATE_OPERATIONS
from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.blocklist import Key
from ndisbus.lists.heap import NdisOffloadHandle

INITIATE, QUERY, UPDATE, INVALIDATE, TERMINATE = STATE_OPERATIONS
FAILURE = int(NdisStatus.FAILURE)
IM0, IM1 = Key.IM_RESERVED


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_life_through_a_stack_of_any_depth(make_stack: Any, upper: Any, depth: int) -> None:
    """R-IM-05, R-IM-09, R-HND-07: each layer has its own handle and value and restores what it borrowed."""
    stack = make_stack(depth)
    handles = upper.new(2)
    columns = upper.miniport_list([handles[0], None, handles[1]], **{IM0: 77, Key.SOURCE_HANDLE: [1, 2, 3]})
    wire = stack.down(INITIATE, columns)
    below = stack.nic.completion(wire)
    done = stack.up(INITIATE, below)
    assert done[IM0] == 77
    upper.store([handles[0], None, handles[1]], done)
    values = {below[Key.CONTEXT][0], handles[0].context}
    values |= {e.entry_address for b in stack.benches for e in offload_entries(b) if e.context is not None}
    assert len(values) == 2 * depth + 1  # two objects in each driver, and the first one's PVOID at the target
    for operation in (QUERY, UPDATE, INVALIDATE, TERMINATE):
        again = stack.down(operation, upper.miniport_list(handles))
        assert again[Key.OFFLOAD_HANDLE] == [wire[Key.OFFLOAD_HANDLE][0], wire[Key.OFFLOAD_HANDLE][2]]
        assert again[Key.CONTEXT] == [below[Key.CONTEXT][0], below[Key.CONTEXT][2]]
        stack.up(operation, stack.nic.completion(again))
    assert [b.counts() for b in stack.benches] == [(0, 0, 0)] * depth


def offload_entries(bench: Any) -> list[Any]:
    objects = bench.port.ndis.heap.objects
    return [o for a, o in objects.items() if getattr(o, "entry_address", None) == a]


def test_each_of_two_hosts_gets_its_own_completion(bench: Any, make_upper: Any, nic: Any) -> None:
    """Requests of two virtual adapters over one binding, completed crosswise."""
    hosts = {"im0-a": make_upper(8), "im0-b": make_upper(9)}
    requests = []
    for name, host in hosts.items():
        ((_, params, _),) = bench.tell(
            "MiniportInitiateOffload", bench.context(name), host.miniport_list(host.new())
        )
        requests.append((name, host, params[1]))
    for name, host, wire in reversed(requests):
        ((_, params, _),) = bench.tell(
            "ProtocolInitiateOffloadComplete", bench.binding_context, nic.completion(wire)
        )
        assert params[0] == bench.handle(name)
        assert params[1][Key.SOURCE_HANDLE] == host.source


class Interleavings(RuleBasedStateMachine):
    """Two hosts over a stack; every request gets its own ImReserved and SourceHandle, so a mix-up shows."""

    def __init__(self) -> None:
        super().__init__()
        # Fixtures are not to be had here; their classes are, from the module that defines them.
        self.env = _Environment.current

    @initialize(depth=st.integers(1, 3))
    def build(self, depth: int) -> None:
        self.stack = self.env.make_stack(depth)
        self.hosts = {"im0-a": self.env.make_upper(8), "im0-b": self.env.make_upper(9)}
        self.offloaded: dict[str, list[NdisOffloadHandle]] = {"im0-a": [], "im0-b": []}
        self.flying: list[tuple[Any, str, list[Any], dict[str, Any]]] = []
        # Objects whose terminate failed once, and those for which it was asked a second time.
        self.lost: dict[str, list[NdisOffloadHandle]] = {"im0-a": [], "im0-b": []}
        self.again: list[NdisOffloadHandle] = []
        self.mark = 1

    def start(self, operation: Any, adapter: str, handles: list[Any], spread: bool) -> None:
        n = len(handles)
        marks = {}
        for key in (Key.SOURCE_HANDLE, IM0, IM1):
            marks[key] = [self.mark + i for i in range(n)] if spread else self.mark
            self.mark += n
        wire = self.stack.down(operation, self.hosts[adapter].miniport_list(handles, **marks), adapter)
        self.flying.append((operation, adapter, handles, wire))

    @rule(
        adapter=st.sampled_from(["im0-a", "im0-b"]),
        shape=st.lists(st.sampled_from(["new", "placeholder", "linker"]), min_size=1, max_size=5),
        spread=st.booleans(),
    )
    def initiate(self, adapter: str, shape: list[str], spread: bool) -> None:
        host, known = self.hosts[adapter], self.offloaded[adapter]
        linkers = iter(known)
        handles = [
            None if s == "placeholder" else host.new()[0] if s == "new" else next(linkers, None)
            for s in shape
        ]
        self.start(INITIATE, adapter, handles, spread)

    @rule(
        adapter=st.sampled_from(["im0-a", "im0-b"]),
        operation=st.sampled_from([QUERY, UPDATE, INVALIDATE]),
        data=st.data(),
        spread=st.booleans(),
    )
    def name(self, adapter: str, operation: Any, data: st.DataObject, spread: bool) -> None:
        known = self.offloaded[adapter]
        if known:
            self.start(operation, adapter, data.draw(st.permutations(known))[:3], spread)

    @rule(adapter=st.sampled_from(["im0-a", "im0-b"]), count=st.integers(1, 3), spread=st.booleans())
    def terminate(self, adapter: str, count: int, spread: bool) -> None:
        # Not before queries, updates and invalidates of the object are complete.
        busy = {id(h) for _, _, handles, _ in self.flying for h in handles}
        idle = [h for h in self.offloaded[adapter] if id(h) not in busy][:count]
        if idle:
            self.offloaded[adapter] = [h for h in self.offloaded[adapter] if h not in idle]
            self.start(TERMINATE, adapter, idle, spread)

    @rule(adapter=st.sampled_from(["im0-a", "im0-b"]), spread=st.booleans())
    def terminate_again(self, adapter: str, spread: bool) -> None:
        """R-DIS-43: what failed its terminate is terminated once more."""
        handles, self.lost[adapter] = self.lost[adapter], []
        if handles:
            self.again += handles
            self.start(TERMINATE, adapter, handles, spread)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.flying) - 1))
        n = len(self.flying[index][2])
        self.finish(index, data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))

    def finish(self, index: int, good: list[bool]) -> None:
        operation, adapter, handles, wire = self.flying.pop(index)
        status = [0 if g or h is None else FAILURE for g, h in zip(good, handles, strict=True)]
        before = [h and h.context for h in handles]
        done = self.stack.up(operation, self.stack.nic.completion(wire, status), adapter)
        assert done[Key.STATUS] == status
        for h, old, s, value in zip(handles, before, status, done[Key.CONTEXT], strict=True):
            if operation is INITIATE and h is not None and old is None and s == 0:
                assert value is not None
                h.context = value
                self.offloaded[adapter].append(h)
            else:
                assert value == old
            if operation is TERMINATE and s != 0 and h not in self.again:
                self.lost[adapter].append(h)

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "stack"):
            return
        objects = sum(map(len, self.offloaded.values())) + sum(map(len, self.lost.values()))
        for operation, _, handles, _ in self.flying:
            if operation is TERMINATE:
                objects += len(handles)
            elif operation is INITIATE:
                objects += sum(h is not None and h.context is None for h in handles)
        first, *others = self.stack.benches
        assert first.counts() == (len(self.flying), objects, 0)
        for bench in others:
            assert bench.counts() == (len(self.flying), objects, 0)

    def teardown(self) -> None:
        if not hasattr(self, "stack"):
            return
        while self.flying:
            self.finish(0, [True] * len(self.flying[0][2]))
        for adapter, handles in self.offloaded.items():
            if handles:
                self.start(TERMINATE, adapter, list(handles), False)
                handles.clear()
            self.terminate_again(adapter, False)
        while self.flying:
            self.finish(-1, [True] * len(self.flying[-1][2]))
        for bench in self.stack.benches:
            assert bench.counts() == (0, 0, 0)
            assert bench.driver.inspect()["refused"] == 0
            bench.unbind()
            assert not bench.port.ndis.heap.objects
            assert not bench.port.sent
            assert not bench.port.lent


class _Environment:
    """What the machine needs from the fixtures."""

    current: Any = None

    def __init__(self, make_stack: Any, make_upper: Any) -> None:
        self.make_stack = make_stack
        self.make_upper = make_upper


def test_r_im_05_any_interleaving_of_requests_and_completions(make_stack: Any, make_upper: Any) -> None:
    """R-IM-02, R-IM-05, R-IM-06, R-DIS-40: several in flight, any order; exactly restored, nothing left."""
    _Environment.current = _Environment(make_stack, make_upper)
    run_state_machine_as_test(
        Interleavings, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
    )
