"""Moving paths from one neighbor to another: invalidate, offload, relink, terminate (R-UPD-06)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hoststack.chimney import initiate, invalidate, terminate, update
from hoststack.model.objects import Neighbor, Path
from ndisbus.ddi.state_types import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hoststack.chimney.engine import Engine, Script

__all__ = ["failover", "move_paths"]


def failover(host: Engine, old: Neighbor, new: Neighbor, *, invalidated: bool) -> Script:
    """Move all paths of ``old`` to ``new`` and terminate ``old``, which is invalidated first if so asked."""
    if invalidated:
        yield invalidate.invalidate(host, [old])
    problem = yield from move_paths(
        host, lambda: [p for p in host.held(Layer.PATH) if isinstance(p, Path) and p.neighbor is old], new
    )
    if problem is None and old.is_offloaded and old.waiting is None:
        part = yield terminate.terminate(host, [old])
        if not part.succeeded:
            problem = f"{old!r} was not terminated: {part.counts()}"
    return problem


def move_paths(host: Engine, which: Callable[[], Sequence[Path]], neighbor: Neighbor) -> Script:
    """Relink paths to a neighbor, which is offloaded first if it is not yet offloaded (R-UPD-06).

    ``which`` is asked for the paths once the neighbor is offloaded.
    """
    if not neighbor.is_offloaded:
        part = yield initiate.offload(host, [neighbor])
        if not part.succeeded:
            return f"{neighbor!r} was not offloaded: {part.refused or part.counts()}"
    paths = which()
    if paths:
        part = yield update.relink(host, paths, neighbor)
        if not part.succeeded:
            return f"the paths were not moved to {neighbor!r}: {part.counts()}"
    return None
