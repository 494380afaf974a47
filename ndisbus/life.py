"""The life of an object, as a table: which events are legal in which state, and the states that follow.

A table is data. A pair of state and event that is not in the table is an illegal transition. It raises
:class:`~ndisbus.errors.IllegalTransition`, which names both, and leaves the state as it was. The state
diagrams in docs/architecture.md are made from the tables. ``python -m`` with the name of a module that has a
table prints its diagram, for example ``python -m hoststack.model.life``.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Generic, NoReturn, Protocol, TypeVar

from ndisbus.errors import IllegalTransition

__all__ = ["LifeEnum", "LifeTable", "Living", "print_lives"]


class LifeEnum(enum.Enum):
    """Base of states and events. A member is shown by its value and hashed by identity.

    Members are singletons. The hash of :class:`enum.Enum` is a slow Python function, and long lists look up a
    state for every object. So the hash of ``object`` is used.
    """

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return str(self.value)


S = TypeVar("S", bound=LifeEnum)
E = TypeVar("E", bound=LifeEnum)


class Living(Protocol[S]):
    """An object whose ``state`` follows a table."""

    state: S


class _Column(dict[S, S], Generic[S, E]):
    """The states that follow one event, by state. Looking up a state where it is illegal raises."""

    __slots__ = ("event", "table")

    def __init__(self, table: LifeTable[S, E], event: E) -> None:
        super().__init__()
        self.table = table
        self.event = event

    def __missing__(self, state: S) -> NoReturn:
        raise self.table.illegal(state, self.event)


class LifeTable(Generic[S, E]):
    """The life of an object called ``name``.

    ``rows`` has, for each state, the legal events and the states that follow. A life begins in ``initial``
    and ends in ``final`` (None: it does not end by itself). ``rules`` names the rule that an illegal pair
    breaks, if a single rule says it.
    """

    __slots__ = ("_columns", "final", "initial", "name", "rows", "rules")

    def __init__(
        self,
        name: str,
        *,
        initial: S,
        final: S | None,
        rows: Mapping[S, Mapping[E, S]],
        rules: Mapping[tuple[S, E], str] | None = None,
    ) -> None:
        self.name: Final = name
        self.initial: Final = initial
        self.final: Final = final
        self.rows: Final = rows
        self.rules: Final[Mapping[tuple[S, E], str]] = rules or {}
        self._columns: dict[E, _Column[S, E]] = {}
        for state, event, following in self:
            self.column(event)[state] = following

    def __iter__(self) -> Iterator[tuple[S, E, S]]:
        """Iterate over all transitions: state, event, following state."""
        for state, row in self.rows.items():
            for event, following in row.items():
                yield state, event, following

    def column(self, event: E) -> dict[S, S]:
        """Return the states that follow ``event``, by state, for loops over many objects.

        ``column[state]`` raises :class:`IllegalTransition` for every other state; ``get`` returns None.
        """
        found = self._columns.get(event)
        if found is None:
            found = self._columns[event] = _Column(self, event)
        return found

    def legal_in(self, event: E) -> frozenset[S]:
        """Return the states in which ``event`` is legal."""
        return frozenset(self.column(event))

    def illegal(self, state: S, event: E, what: object = None) -> IllegalTransition:
        """Return the error for an illegal pair, about ``what`` (default: the name of the table)."""
        who = self.name if what is None else str(what)
        return IllegalTransition(who, state, event, rule=self.rules.get((state, event), ""))

    def after(self, state: S, event: E, what: object = None) -> S:
        """Return the state that follows. Raises :class:`IllegalTransition` about ``what``."""
        column = self._columns.get(event)
        following = None if column is None else column.get(state)
        if following is None:
            raise self.illegal(state, event, what)
        return following

    def require(self, obj: Living[S], event: E) -> S:
        """Return the state that would follow for an object. Raises :class:`IllegalTransition`."""
        return self.after(obj.state, event, obj)

    def advance(self, obj: Living[S], event: E) -> None:
        """Set the state of an object to the one after ``event``. Raises :class:`IllegalTransition`."""
        obj.state = self.after(obj.state, event, obj)

    def advance_all(self, objects: Sequence[Living[S]], event: E) -> None:
        """Apply ``event`` to all objects in order. If it is illegal for one of them, no object changes.

        Raises :class:`IllegalTransition` about the first such object. An object that is given twice takes two
        steps.
        """
        following = self.column(event)
        before: list[S] = []
        try:
            for obj in objects:
                state = obj.state
                obj.state = following[state]
                before.append(state)
        except IllegalTransition:
            culprit = objects[len(before)]
            error = self.illegal(culprit.state, event, culprit)
            for obj, was in zip(reversed(objects[: len(before)]), reversed(before), strict=True):
                obj.state = was
            raise error from None

    def mermaid(self) -> str:
        """Return the table as a Mermaid state diagram. Events between the same two states share an arrow."""
        names: dict[S, None] = {self.initial: None}
        arrows: dict[tuple[S, S], list[str]] = {}
        for state, event, following in self:
            names |= {state: None, following: None}
            arrows.setdefault((state, following), []).append(str(event))
        lines = ["stateDiagram-v2", f"    [*] --> {_id(self.initial)}"]
        lines += [f"    {_id(s)}: {s}" for s in names if _id(s) != str(s)]
        lines += [f"    {_id(a)} --> {_id(b)}: {', '.join(events)}" for (a, b), events in arrows.items()]
        if self.final is not None:
            lines.append(f"    {_id(self.final)} --> [*]")
        return "\n".join(lines)

    def markdown(self) -> str:
        """Return the diagram as a fenced block of Markdown."""
        return f"```mermaid\n{self.mermaid()}\n```"


def _id(state: LifeEnum) -> str:
    return str(state).replace(" ", "_")


def print_lives(*tables: LifeTable[Any, Any]) -> None:
    """Print each table's diagram as Markdown, under a heading."""
    parts = [f"## Life of {table.name}\n\n{table.markdown()}\n" for table in tables]
    sys.stdout.write("\n".join(parts))
