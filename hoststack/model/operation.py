"""An operation of the host, from the call to the last completion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ndisbus.ddi.status import status_symbol
from ndisbus.errors import LocalProtocolError

if TYPE_CHECKING:
    from hoststack.model.objects import StateObject
    from ndisbus.state.images import OffloadState

__all__ = ["Operation"]


class Operation:
    """What became of one request.

    ``op`` is ``"initiate"``, ``"query"``, ``"update"``, ``"invalidate"``, ``"terminate"`` or the name of
    a composite (``"disable"``, ``"failover"``, ...). ``objects`` are those it is about, ``statuses``
    their NDIS_STATUS in the same order (None until known), ``blocks`` the number of blocks that went
    down, placeholders and linkers included. ``refused`` is the reason why nothing went down at all; an
    object that stayed behind alone has its reason in :meth:`reason_of`. A refusal is an outcome, never
    an exception. Times are the driver's, in seconds.
    """

    __slots__ = (
        "_index",
        "_on_done",
        "aligned",
        "blocks",
        "cursor",
        "done",
        "id",
        "objects",
        "op",
        "reasons",
        "refused",
        "results",
        "statuses",
        "target",
    )

    def __init__(self, number: int, op: str, objects: Sequence[StateObject]) -> None:
        self.id = number
        self.op = op
        self.objects: Sequence[StateObject] = objects
        self.statuses: list[int | None] = [None] * len(objects)
        self.reasons: dict[int, str] = {}
        #: Query: the structures of each object, None where it failed.
        self.results: list[tuple[OffloadState, ...] | None] | None = None
        self.blocks = 0
        self.done = False
        self.refused: str | None = None
        # The rest is the driver's: what each block is about, where a waiting operation looks first, and
        # the neighbor that paths are being moved to.
        self.aligned: list[Any] = []
        self.cursor = 0
        self.target: Any = None
        self._index: dict[int, int] | None = None
        self._on_done: list[Callable[[Operation], None]] = []

    def _at(self, obj: StateObject) -> int:
        if self._index is None:
            self._index = {id(o): i for i, o in enumerate(self.objects)}
        try:
            return self._index[id(obj)]
        except KeyError:
            raise LocalProtocolError(f"{obj!r} is no part of {self!r}") from None

    def status_of(self, obj: StateObject) -> int | None:
        """NDIS_STATUS of one object, None until it is known. ``LocalProtocolError`` for a stranger."""
        return self.statuses[self._at(obj)]

    def reason_of(self, obj: StateObject) -> str:
        """Why this side kept an object back, or what was wrong with its completion; ``""`` if nothing."""
        return self.reasons.get(self._at(obj), "") or self.refused or ""

    def result_of(self, obj: StateObject) -> tuple[OffloadState, ...] | None:
        """Query: the structures that were read for an object, None if that failed."""
        return self.results[self._at(obj)] if self.results is not None else None

    def counts(self) -> dict[str, int]:
        """How many objects ended with each status, by DDI symbol; ``"pending"`` for those in flight."""
        counted = Counter(self.statuses)
        return {
            ("pending" if status is None else status_symbol(status)): n for status, n in counted.most_common()
        }

    @property
    def succeeded(self) -> bool:
        """Whether it is done, was not refused, and every object ended with NT_SUCCESS."""
        return (
            self.done
            and self.refused is None
            and all(s is not None and s < 0x80000000 for s in self.statuses)
        )

    def when_done(self, callback: Callable[[Operation], None]) -> None:
        """Call back once the operation is done; at once if it is."""
        if self.done:
            callback(self)
        else:
            self._on_done.append(callback)

    def finish(self) -> None:
        """The driver's: it is over. Raises :class:`LocalProtocolError` if it was over before."""
        if self.done:
            raise LocalProtocolError(f"{self!r} was completed twice")
        self.done = True
        self.aligned = []

    def call_back(self) -> None:
        """The driver's: tell whoever asked to be told."""
        callbacks, self._on_done = self._on_done, []
        for callback in callbacks:
            callback(self)

    def __repr__(self) -> str:
        what = "refused" if self.refused is not None else "done" if self.done else "pending"
        return f"<Operation {self.id} {self.op}, {len(self.objects)} objects, {what}>"
