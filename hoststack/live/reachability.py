"""What the host does after it answered that its entry for a neighbor is stale.

The answer itself is in :mod:`hoststack.chimney.reachability`. DDI page
making-a-neighborreachabilityquery-indication.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.chimney.reachability import neighbor_at
from hoststack.model.life import State
from ndisbus.ddi.enums import IndicateOffloadEvent
from ndisbus.errors import DecodeError
from ndisbus.state.images import NeighborOffloadStateCached, NeighborOffloadStateDelegated, unpack_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from hoststack.live.nethost import NetHost
    from hoststack.model.objects import Neighbor
    from hoststack.model.operation import Operation
    from ndisbus.lists.blocklist import BlockList

__all__ = ["Doubts"]

#: Seconds between the answer "stale" and the query for NRD: as long as a host's own entry stays in DELAY.
WAIT: Final = 5.0
#: Where a neighbor may be queried.
_QUERIED: Final = frozenset((State.OFFLOADED, State.UPDATING, State.QUERYING, State.UPDATING_QUERYING))


class Doubts:
    """What the host does after it answered that a neighbor's entry is stale (R-NUD-10, R-NUD-11).

    ``WAIT`` seconds later it queries NicReachabilityDelta. A smaller one than in the indication means that
    the target has seen progress meanwhile; otherwise the stack probes the neighbor, which, without an
    answer, is invalidated on both sides.
    """

    def __init__(self, host: NetHost) -> None:
        self.host = host
        #: Neighbor -> NRD of the indication (ticks), and when to ask.
        self.open: dict[Neighbor, tuple[int, float]] = {}

    def clear(self) -> None:
        """Nothing is offloaded any more."""
        self.open.clear()

    def asked(self, block_list: BlockList | None, indication_code: int) -> None:
        """An indication was answered; ``block_list`` with the answer in it."""
        if indication_code != IndicateOffloadEvent.NeighborReachabilityQuery or block_list is None:
            return
        block = block_list.root
        try:
            structures = unpack_state(block.type, block.state or b"", where="NeighborReachabilityQuery")
        except DecodeError:
            return  # reported when it was answered
        cached = next((s for s in structures if isinstance(s, NeighborOffloadStateCached)), None)
        delegated = next((s for s in structures if isinstance(s, NeighborOffloadStateDelegated)), None)
        if cached is None or delegated is None or cached.host_reachability_delta:
            return
        neighbor = neighbor_at(self.host, cached.dl_destination_address)
        if neighbor is not None:
            # A target that goes on asking does not put the verdict off.
            self.open.setdefault(neighbor, (delegated.nic_reachability_delta, self.host.ndis.now() + WAIT))

    def before_probe(self, neighbor: Neighbor) -> None:
        """The host's own entry is in DELAY: what the target knows may spare the probe (R-NUD-12)."""
        limit = self.host.parameters.nce_stale_ticks
        self._query(neighbor, lambda age: self.host.stack.confirm(neighbor) if age < limit else None)

    def next_deadline(self) -> float | None:
        """When the next query is due."""
        return min((at for _, at in self.open.values()), default=None)

    def on_timer(self, now: float) -> None:
        """Query the neighbors whose time has come."""
        for neighbor, (before, at) in list(self.open.items()):
            if at <= now:
                del self.open[neighbor]
                self._query(neighbor, _Verdict(self.host, neighbor, before))

    def _query(self, neighbor: Neighbor, then: Callable[[int], object]) -> None:
        """Read NRD and do something with it; a neighbor that is on its way up needs no verdict."""
        if neighbor.waiting is not None or neighbor.state not in _QUERIED:
            return

        def done(operation: Operation) -> None:
            found = operation.result_of(neighbor)
            if found is not None and isinstance(found[0], NeighborOffloadStateDelegated):
                self.host.stack.advance(self.host.ndis.now())
                then(found[0].nic_reachability_delta)

        self.host.query([neighbor], "delegated").when_done(done)


class _Verdict:
    """R-NUD-11 on one neighbor."""

    def __init__(self, host: NetHost, neighbor: Neighbor, before: int) -> None:
        self.host = host
        self.neighbor = neighbor
        self.before = before

    def __call__(self, age: int) -> None:
        stack = self.host.stack
        if age < self.before:
            stack.confirm(self.neighbor)
        else:
            stack.doubt(self.neighbor)
        self.host.soon()
