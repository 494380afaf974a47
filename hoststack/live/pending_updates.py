"""Pending updates: cached state that changed while its object was offloaded, and paths to be moved below.

An update goes down when no other operation is in flight on its object (R-UPD-02). State that changes while
its object is on its way down was packed before, and is updated once the object is offloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hoststack.chimney import failover
from hoststack.model.life import State
from ndisbus.errors import ChimneyError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hoststack.chimney.driver import HostDriver
    from hoststack.model.objects import Neighbor, Path, StateObject
    from hoststack.net.stack import NetStack

__all__ = ["PendingUpdates"]


def _idle(obj: StateObject) -> bool:
    return obj.state is State.OFFLOADED and obj.waiting is None


class PendingUpdates:
    """What ``stack`` has learned about offloaded objects, until ``driver`` can pass it down."""

    __slots__ = ("_changed", "_driver", "_stack", "_unreachable", "moves")

    def __init__(self, driver: HostDriver, stack: NetStack) -> None:
        self._driver = driver
        self._stack = stack
        #: Objects whose cached state is newer here than in the target.
        self._changed: dict[StateObject, None] = {}
        #: Paths to be relinked, with their new neighbor.
        self.moves: dict[Path, Neighbor] = {}
        #: Neighbors that do not answer and are to be invalidated (R-NUD-11).
        self._unreachable: dict[Neighbor, None] = {}

    def __len__(self) -> int:
        """The number of pending updates."""
        return len(self._changed) + len(self.moves) + len(self._unreachable)

    def changed(self, obj: StateObject) -> None:
        """Note that the cached state of an object has changed."""
        self._changed[obj] = None
        self._driver.soon()

    def moved(self, paths: Iterable[Path], neighbor: Neighbor) -> None:
        """Note a new next hop of paths. It goes down once its link address is known."""
        self.moves.update(dict.fromkeys(paths, neighbor))
        self._driver.soon()

    def unreachable(self, neighbor: Neighbor) -> None:
        """Note that a neighbor does not answer: transmission through it is to stop below as well."""
        self._unreachable[neighbor] = None
        self._driver.soon()

    def clear(self) -> None:
        """Drop all pending updates, because nothing is offloaded any more."""
        self._unreachable.clear()
        self._changed.clear()
        self.moves.clear()

    def pass_down(self) -> None:
        """Pass down the updates of objects on which nothing is in flight."""
        for neighbor in list(self._unreachable):
            if not neighbor.is_away or neighbor.reachable:
                del self._unreachable[neighbor]
            elif _idle(neighbor):
                del self._unreachable[neighbor]
                self._driver.invalidate([neighbor])
        for obj in list(self._changed):
            if not obj.is_away:
                del self._changed[obj]
            elif _idle(obj):
                del self._changed[obj]
                self._driver.update([obj])
        ready: dict[Neighbor, list[Path]] = {}
        for path, neighbor in list(self.moves.items()):
            if not path.is_away or path.neighbor is neighbor:
                del self.moves[path]
            elif _idle(path) and (_idle(neighbor) or not neighbor.is_away) and self._has_address(neighbor):
                del self.moves[path]
                ready.setdefault(neighbor, []).append(path)
        for neighbor, paths in ready.items():
            self._relink(paths, neighbor)

    def _has_address(self, neighbor: Neighbor) -> bool:
        entry = self._stack.neighbors.entry_of(neighbor)
        return entry is not None and bool(entry.mac)

    def _relink(self, paths: list[Path], neighbor: Neighbor) -> None:
        try:
            self._driver.compose("redirect", failover.move_paths(self._driver, lambda: paths, neighbor))
        except ChimneyError as e:
            self._stack.statistics.count(f"redirect of an offloaded path: {e}")
