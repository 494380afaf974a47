"""What the host's stack learned about objects that are offloaded, until the target has been told.

An update goes down when nothing else is in flight on its object (R-UPD-02); what is on its way down already
was packed before, and is updated when it is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hoststack.model.life import State
from ndisbus.errors import ChimneyError

if TYPE_CHECKING:
    from hoststack.live.nethost import NetHost
    from hoststack.model.objects import Neighbor, Path, StateObject

__all__ = ["News"]


def _idle(obj: StateObject) -> bool:
    return obj.state is State.OFFLOADED and obj.waiting is None


class News:
    """See the module. ``moves``: paths that are to be relinked, and where to."""

    __slots__ = ("changes", "host", "moves", "silent")

    def __init__(self, host: NetHost) -> None:
        self.host = host
        #: Objects with cached state that the target does not have.
        self.changes: dict[StateObject, None] = {}
        self.moves: dict[Path, Neighbor] = {}
        #: Neighbors that do not answer and are to be invalidated (R-NUD-11).
        self.silent: dict[Neighbor, None] = {}

    def __len__(self) -> int:
        """How much waits to be told."""
        return len(self.changes) + len(self.moves) + len(self.silent)

    def changed(self, obj: StateObject) -> None:
        """An object's cached state is another one."""
        self.changes[obj] = None
        self.host.soon()

    def moved(self, paths: Iterable[Path], neighbor: Neighbor) -> None:
        """Paths have another next hop, which is of use below once its link address is known."""
        self.moves.update(dict.fromkeys(paths, neighbor))
        self.host.soon()

    def lost(self, neighbor: Neighbor) -> None:
        """A neighbor does not answer: no more transmission through it, on either side."""
        self.silent[neighbor] = None
        self.host.soon()

    def clear(self) -> None:
        """Nothing is offloaded any more."""
        self.silent.clear()
        self.changes.clear()
        self.moves.clear()

    def pass_down(self) -> None:
        """Tell what can be told now."""
        for neighbor in list(self.silent):
            if not neighbor.is_away or neighbor.reachable:
                del self.silent[neighbor]
            elif _idle(neighbor):
                del self.silent[neighbor]
                self.host.invalidate([neighbor])
        for obj in list(self.changes):
            if not obj.is_away:
                del self.changes[obj]
            elif _idle(obj):
                del self.changes[obj]
                self.host.update([obj])
        ready: dict[Neighbor, list[Path]] = {}
        for path, neighbor in list(self.moves.items()):
            if not path.is_away or path.neighbor is neighbor:
                del self.moves[path]
            elif _idle(path) and (_idle(neighbor) or not neighbor.is_away) and self._found(neighbor):
                del self.moves[path]
                ready.setdefault(neighbor, []).append(path)
        for neighbor, paths in ready.items():
            self._relink(paths, neighbor)

    def _found(self, neighbor: Neighbor) -> bool:
        entry = self.host.stack.neighbors.entry_of(neighbor)
        return entry is not None and bool(entry.mac)

    def _relink(self, paths: list[Path], neighbor: Neighbor) -> None:
        """The new next hop is offloaded first if need be (R-UPD-06)."""
        host = self.host

        def script() -> Any:
            if not neighbor.is_offloaded:
                part = yield host.offload([neighbor])
                if not part.succeeded:
                    return f"{neighbor!r} was not offloaded: {part.refused or part.counts()}"
            part = yield host.relink(paths, neighbor)
            return None if part.succeeded else f"the paths were not moved: {part.counts()}"

        try:
            host.compose("redirect", script())
        except ChimneyError as e:
            host.stack.statistics.count(f"redirect of an offloaded path: {e}")
