"""An operation: what a host has asked for, from the call to the last completion."""

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
    """One operation and its outcome.

    ``op`` is ``"initiate"``, ``"query"``, ``"update"``, ``"invalidate"``, ``"terminate"`` or the name of a
    composite operation (``"disable"``, ``"failover"``, ...). ``objects`` are the objects it is for,
    ``statuses`` their NDIS_STATUS in the same order (None until known), ``blocks`` the number of blocks that
    went down, with placeholders and linkers. ``refused`` is the reason why nothing went down; the reason for
    a single object is in :meth:`reason_of`. A refusal is an outcome and not an exception.
    """

    __slots__ = (
        "_index",
        "_on_done",
        "aligned",
        "blocks",
        "cursor",
        "done",
        "id",
        "left_out",
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
        #: Of a query: the structures of each object, None where it failed.
        self.results: list[tuple[OffloadState, ...] | None] | None = None
        self.blocks = 0
        self.done = False
        self.refused: str | None = None
        #: Objects of a terminate that waited: they were not offloaded any more when it began.
        self.left_out: Sequence[StateObject] = ()
        # The rest is for the driver.
        #: The object that each block names, None for placeholders.
        self.aligned: list[Any] = []
        #: Index of the first object for which a waiting terminate must wait.
        self.cursor = 0
        #: Of a relink: the new neighbor. Of an OID request: the answer.
        self.target: Any = None
        self._index: dict[int, int] | None = None
        self._on_done: list[Callable[[Operation], None]] = []

    def _at(self, obj: StateObject) -> int:
        if self._index is None:
            self._index = {id(o): i for i, o in enumerate(self.objects)}
        try:
            return self._index[id(obj)]
        except KeyError:
            raise LocalProtocolError(f"{obj!r} is not among the objects of {self!r}") from None

    def status_of(self, obj: StateObject) -> int | None:
        """NDIS_STATUS of one object, None until it is known. ``LocalProtocolError`` for another object."""
        return self.statuses[self._at(obj)]

    def reason_of(self, obj: StateObject) -> str:
        """Why an object was not passed down, or what was wrong with its completion; ``""`` if nothing was."""
        return self.reasons.get(self._at(obj), "") or self.refused or ""

    def result_of(self, obj: StateObject) -> tuple[OffloadState, ...] | None:
        """Of a query: the structures that were read for an object, None if that failed."""
        return self.results[self._at(obj)] if self.results is not None else None

    def counts(self) -> dict[str, int]:
        """The number of objects for each status, by DDI symbol; ``"pending"`` counts those in flight."""
        counted = Counter(self.statuses)
        return {
            ("pending" if status is None else status_symbol(status)): n for status, n in counted.most_common()
        }

    @property
    def succeeded(self) -> bool:
        """Whether it is done and not refused, and every status is a success (NT_SUCCESS)."""
        return (
            self.done
            and self.refused is None
            and all(s is not None and s < 0x80000000 for s in self.statuses)
        )

    def when_done(self, callback: Callable[[Operation], None]) -> None:
        """Call back when the operation is done, or at once if it is done already."""
        if self.done:
            callback(self)
        else:
            self._on_done.append(callback)

    def finish(self) -> None:
        """Mark it as done. For the driver. Raises :class:`LocalProtocolError` if it is done already."""
        if self.done:
            raise LocalProtocolError(f"{self!r} was completed twice")
        self.done = True
        self.aligned = []

    def call_back(self) -> None:
        """Call the callbacks of :meth:`when_done`. For the driver."""
        callbacks, self._on_done = self._on_done, []
        for callback in callbacks:
            callback(self)

    def __repr__(self) -> str:
        what = "refused" if self.refused is not None else "done" if self.done else "pending"
        return f"<Operation {self.id} {self.op}, {len(self.objects)} objects, {what}>"

    def __str__(self) -> str:
        what = "refused" if self.refused is not None else "done" if self.done else "not completed"
        return f"{self.op} of {len(self.objects)} objects, {what}"
