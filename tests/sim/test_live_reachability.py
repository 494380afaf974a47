"""Neighbor reachability over the chimney, both sides live: the target asks, the host draws conclusions."""

from __future__ import annotations

import pytest

from hoststack.live.nethost import NetHost
from hoststack.live.reachability import WAIT
from hoststack.model.life import State
from hoststack.net.neighbor_life import NeighborState
from hoststack.net.neighbors import NeighborEntry
from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from tests.support.live_stack import Flow, LiveStack

#: Seconds until an entry is stale.
STALE = 2.0


@pytest.fixture
def stack() -> LiveStack:
    parameters = NdisTcpConnectionOffloadParameters(nce_stale_ticks=int(STALE * 1000))
    stack = LiveStack(1, parameters=parameters)
    stack.ready()
    return stack


@pytest.fixture
def flow(stack: LiveStack) -> Flow:
    """An offloaded connection that has exchanged something."""
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 3_000, 1)
    stack.wait(lambda: flow.done)
    operation = stack.act(lambda h: h.offload_sockets([flow.socket]))
    stack.wait(lambda: operation.done)
    return flow


def entry_of(stack: LiveStack, flow: Flow) -> NeighborEntry:
    entry = stack.host.stack.neighbors.entry_of(flow.socket.tcb.path.neighbor)
    assert entry is not None
    return entry


def test_fresh_data_brings_no_question_and_old_does(stack: LiveStack, flow: Flow) -> None:
    """R-NUD-08, R-NUD-10, R-NUD-11: the host answers zero, asks NRD a while later, believes the target."""
    entry = entry_of(stack, flow)
    stack.sim.run_for(2 * STALE)
    assert entry.state is NeighborState.STALE
    assert not entry.neighbor.reachable
    assert not stack.host.doubts.open
    again = Flow(stack, flow.socket, 3_000, 2)
    stack.wait(lambda: again.done)
    # The answer was zero, so a query of NRD is due; progress since then makes it smaller.
    assert entry.neighbor in stack.host.doubts.open
    assert entry.state is NeighborState.STALE
    stack.sim.run_for(WAIT / 2)
    again = Flow(stack, flow.socket, 3_000, 3)
    stack.wait(lambda: again.done)
    stack.wait(lambda: entry.neighbor not in stack.host.doubts.open, limit=WAIT)
    stack.wait(lambda: entry.state is NeighborState.REACHABLE, limit=1.0)


def test_a_reachable_entry_is_answered_with_its_age(stack: LiveStack, flow: Flow) -> None:
    """R-NUD-08: nonzero while the host's own entry is reachable; nothing follows from that."""
    entry = entry_of(stack, flow)
    stack.sim.run_for(2 * STALE)
    stack.act(lambda h: h.stack.confirm(entry.neighbor))
    assert entry.state is NeighborState.REACHABLE
    again = Flow(stack, flow.socket, 3_000, 2)
    stack.wait(lambda: again.done)
    assert not stack.host.doubts.open


def test_a_dead_neighbor_is_probed_and_then_invalidated_on_both_sides(stack: LiveStack, flow: Flow) -> None:
    """R-NUD-11: NRD has only grown, the probes stay unanswered, and the entry is invalidated."""
    entry = entry_of(stack, flow)
    stack.sim.run_for(2 * STALE)
    stack.remote.station.link.close()
    stack.sim.stall("peer")
    stack.act(lambda h: flow.socket.send(b"into the void"))
    stack.wait(lambda: entry.neighbor in stack.host.doubts.open)
    stack.wait(lambda: entry.state is NeighborState.PROBE, limit=3 * WAIT)
    # The invalidated neighbor's connections come back, and nothing is left offloaded but the neighbor itself.
    stack.wait(lambda: entry.neighbor.state is State.INVALID, limit=30)
    stack.wait(lambda: not flow.socket.tcb.is_offloaded, limit=30)


def test_the_host_asks_the_target_before_it_probes(stack: LiveStack, flow: Flow) -> None:
    """R-NUD-12: an entry in DELAY is confirmed by the target's NRD, and no probe is sent."""
    entry = entry_of(stack, flow)
    other = stack.connect("10.77.0.2", 7)
    stack.sim.run_for(STALE * 0.9)
    again = Flow(stack, flow.socket, 3_000, 2)  # progress that only the target sees
    stack.wait(lambda: again.done)
    stack.sim.run_for(STALE * 0.5)
    idle = entry.state
    stack.act(lambda h: other.send(b"x"))
    asked = entry.state
    assert idle is NeighborState.STALE
    assert asked in (NeighborState.DELAY, NeighborState.REACHABLE)
    stack.wait(lambda: entry.state is NeighborState.REACHABLE, limit=0.5)


def test_a_neighbor_that_dies_while_it_is_queried_is_invalidated_all_the_same(
    stack: LiveStack, flow: Flow
) -> None:
    """R-NUD-11: what is in flight on the neighbor at that moment only puts it off."""
    neighbor = flow.socket.tcb.path.neighbor
    neighbor.reachable = False

    def both(host: NetHost) -> None:
        host.query([neighbor])
        assert neighbor.state is State.QUERYING
        host.pending_updates.unreachable(neighbor)

    stack.act(both)
    stack.wait(lambda: neighbor.state is State.INVALID)
