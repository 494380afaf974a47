"""Real connections of this machine as state objects: neighbors, paths and connections for a scenario."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hoststack.inventory.facts_to_state import neighbor_state, path_state, tcp_state
from hoststack.inventory.inventory import group, read_inventory
from hoststack.model.objects import Neighbor, Path, Tcb

if TYPE_CHECKING:
    from hoststack.inventory.facts import Inventory
    from hoststack.inventory.loopback import LoopbackConnections

__all__ = ["InventoryObjects", "inventory_objects", "objects_of"]

#: Seconds that acknowledgments of exchanged data may take (Linux delays them up to 40 ms).
_ACK_PATIENCE: Final = 0.5


@dataclass(slots=True)
class InventoryObjects:
    """The objects, with counts and notes about them.

    ``stay`` counts connections that were left out because some of their bytes are in flight: the kernel tells
    the number of bytes, but not the bytes.
    """

    neighbors: list[Neighbor] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    connections: list[Tcb] = field(default_factory=list)
    families: Counter[str] = field(default_factory=Counter)
    own: int = 0
    stay: int = 0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        families = ", ".join(f"{n} {f}" for f, n in sorted(self.families.items()))
        return (
            f"{len(self.connections)} connections ({families}) on {len(self.paths)} paths on "
            f"{len(self.neighbors)} neighbors"
        )


def inventory_objects(
    opened: LoopbackConnections, rng: random.Random, *, others: bool, pause: Callable[[float], object]
) -> InventoryObjects:
    """Return objects for the opened connections and, with ``others``, for the machine's other ones.

    ``pause(seconds)`` lets time pass while acknowledgments are outstanding. Raises what
    :func:`hoststack.inventory.inventory.read_inventory` raises.
    """
    inventory = _settled(opened, others, pause)
    made = objects_of(inventory, rng)
    made.notes[:0] = opened.notes
    return made


def objects_of(inventory: Inventory, rng: random.Random) -> InventoryObjects:
    """Build the objects for an inventory.

    Each path has a connection and each neighbor a path, so an initiate of the connections offloads them all.
    """
    made = InventoryObjects(own=sum(c.own for c in inventory.connections), notes=[*inventory.notes])
    for g in group(inventory):
        neighbor = Neighbor(*neighbor_state(g.neighbor))
        paths = []
        for p in g.paths:
            path = Path(neighbor, *path_state(p))
            known = [c for c in p.connections if not c.unacked]
            made.stay += len(p.connections) - len(known)
            made.connections += (Tcb(path, *tcp_state(c, rng)) for c in known)
            made.families.update(f"IPv{c.family}" for c in known)
            if known:
                paths.append(path)
        made.paths += paths
        if paths:
            made.neighbors.append(neighbor)
    if made.stay:
        made.notes.append(
            f"{made.stay} connections with unacknowledged bytes in flight stay in the host: the kernel "
            "shows how many bytes, but not which"
        )
    return made


def _settled(opened: LoopbackConnections, others: bool, pause: Callable[[float], object]) -> Inventory:
    """Read the inventory once all data of the opened connections is acknowledged (ACKs may be delayed)."""
    deadline = time.monotonic() + _ACK_PATIENCE
    while True:
        inventory = read_inventory(opened.clients, peers=opened.servers, include_others=others)
        if time.monotonic() > deadline or not any(c.own and c.unacked for c in inventory.connections):
            return inventory
        pause(0.01)
