"""The main job: live connections to a remote host, taken through everything a chimney does to them.

The tour connects to the remote host through the emulated stack, moves data on every connection, and takes the
tree through the operations: initiate, query, update, relink, invalidate, a kill of the target with queries in
flight and the recovery, terminate. Then it moves data again. It reports what it measured; anything that is
not as it should be is a :class:`TourError`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from hoststack.tour import leftovers, operations
from hoststack.tour.connections import Connections
from hoststack.tour.kill import kill_target, recover, sigkill
from hoststack.tour.rig import TourError, TourRig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hoststack.live.nethost import NetHost
    from hoststack.tour.rig import Report
    from ndisbus.runtime.driver_process import DriverProcess

__all__ = ["REMOTE_ADDRESSES", "Tour", "TourError"]

#: Addresses of the remote host that ``make start`` runs: two stations, each with both families.
REMOTE_ADDRESSES: Final = ("10.77.0.2", "fd77::2", "10.77.0.3", "fd77::3")


class Tour:
    """Takes one host through the tour. ``kill(pid)`` ends the target's process."""

    def __init__(
        self,
        process: DriverProcess,
        driver: NetHost,
        *,
        count: int = 64,
        addresses: Sequence[str] = REMOTE_ADDRESSES,
        seed: int = 0,
        report: Report = lambda _: None,
        kill: Callable[[int], None] = sigkill,
    ) -> None:
        self.rig = TourRig(process, driver, report)
        self.connections = Connections(self.rig, addresses, random.Random(seed))
        self.count = count
        self.kill = kill
        #: What was still held at the end, by kind.
        self.leftovers: dict[str, int] = {}

    def run(self) -> None:
        """Do everything, in order. Raises :class:`TourError`, or the error of a connection."""
        rig, connections = self.rig, self.connections
        rig.until(
            lambda: rig.driver.can_offload, "no adapter with an enabled chimney was offered to the host"
        )
        if rig.driver.interface is None:
            raise TourError("the adapter has no station address, so there is no network to connect over")
        rig.until(lambda: rig.driver.addresses.settled, "the test of the host's addresses did not end")
        rig.driver.addresses.check()
        connections.connect(self.count)
        connections.exchange("in the host")
        connections.offload()
        operations.query(rig, connections)
        connections.exchange("through the chimney")
        operations.update(rig, connections)
        operations.relink(rig, connections)
        operations.invalidate(rig, connections)
        kill_target(rig, connections, self.kill)
        recover(rig, connections)
        connections.upload()
        connections.exchange("after the upload")
        connections.close()
        self.leftovers = leftovers.wait_for_none(rig)
