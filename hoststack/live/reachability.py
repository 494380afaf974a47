"""What the host does after it answered that its own entry for an offloaded neighbor is stale.

The answer itself is given by :mod:`hoststack.chimney.reachability`. DDI page
making-a-neighborreachabilityquery-indication.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from hoststack.chimney.reachability import neighbor_at
from hoststack.model.life import State
from ndisbus.ddi.enums import IndicateOffloadEvent
from ndisbus.errors import DecodeError
from ndisbus.state.images import NeighborOffloadStateCached, NeighborOffloadStateDelegated, unpack_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from hoststack.chimney.driver import HostDriver
    from hoststack.model.objects import Neighbor
    from hoststack.model.operation import Operation
    from hoststack.net.stack import NetStack
    from ndisbus.lists.blocklist import BlockList

__all__ = ["WAIT", "Doubts"]

#: Seconds between the answer "stale" and the query of NicReachabilityDelta: as long as an entry of the
#: host's own neighbor cache stays in DELAY (RFC 4861, DELAY_FIRST_PROBE_TIME).
WAIT: Final = 5.0
#: The states in which a neighbor may be queried.
_QUERYABLE: Final = frozenset((State.OFFLOADED, State.UPDATING, State.QUERYING, State.UPDATING_QUERYING))


class Doubts:
    """The neighbors whose entry was stale when the target asked for it (R-NUD-10, R-NUD-11).

    ``WAIT`` seconds after the answer the host queries NicReachabilityDelta. A value smaller than in the
    indication means that the target has seen progress since. Otherwise the stack probes the neighbor, and
    if it does not answer, it is invalidated on both sides.
    """

    __slots__ = ("_driver", "_stack", "open")

    def __init__(self, driver: HostDriver, stack: NetStack) -> None:
        self._driver = driver
        self._stack = stack
        #: For each neighbor the NicReachabilityDelta of the indication (ticks), and when to query it.
        self.open: dict[Neighbor, tuple[int, float]] = {}

    def clear(self) -> None:
        """Drop all doubts, because nothing is offloaded any more."""
        self.open.clear()

    def answered(self, block_list: BlockList | None, indication_code: int) -> None:
        """An indication was answered, with the answer in ``block_list``."""
        if indication_code != IndicateOffloadEvent.NeighborReachabilityQuery or block_list is None:
            return
        block = block_list.root
        try:
            structures = unpack_state(block.type, block.state or b"", where="NeighborReachabilityQuery")
        except DecodeError:
            return  # chimney.reachability.answer has reported it
        cached = next((s for s in structures if isinstance(s, NeighborOffloadStateCached)), None)
        delegated = next((s for s in structures if isinstance(s, NeighborOffloadStateDelegated)), None)
        if cached is None or delegated is None or cached.host_reachability_delta:
            return
        neighbor = neighbor_at(self._driver, cached.dl_destination_address)
        if neighbor is not None:
            # A second indication does not put the query off.
            at = self._driver.ndis.now() + WAIT
            self.open.setdefault(neighbor, (delegated.nic_reachability_delta, at))

    def before_probe(self, neighbor: Neighbor) -> None:
        """The host's own entry is in DELAY: if the target saw progress, no probe is needed (R-NUD-12)."""
        limit = self._driver.parameters.nce_stale_ticks
        self._query(neighbor, lambda age: self._stack.confirm(neighbor) if age < limit else None)

    def next_deadline(self) -> float | None:
        """When the next query is due."""
        return min((at for _, at in self.open.values()), default=None)

    def on_timer(self, now: float) -> None:
        """Query the neighbors that are due."""
        for neighbor, (before, at) in list(self.open.items()):
            if at <= now:
                del self.open[neighbor]
                self._query(neighbor, partial(self._decide, neighbor, before))

    def _decide(self, neighbor: Neighbor, before: int, age: int) -> None:
        """R-NUD-11: ``before`` is NicReachabilityDelta of the indication, ``age`` the one of the query."""
        if age < before:
            self._stack.confirm(neighbor)
        else:
            self._stack.doubt(neighbor)
        self._driver.soon()

    def _query(self, neighbor: Neighbor, then: Callable[[int], object]) -> None:
        """Read NicReachabilityDelta and call ``then`` with it; do nothing for a neighbor that is uploaded."""
        if neighbor.waiting is not None or neighbor.state not in _QUERYABLE:
            return

        def done(operation: Operation) -> None:
            found = operation.result_of(neighbor)
            if found is not None and isinstance(found[0], NeighborOffloadStateDelegated):
                self._stack.advance(self._driver.ndis.now())
                then(found[0].nic_reachability_delta)

        self._driver.query([neighbor], "delegated").when_done(done)
