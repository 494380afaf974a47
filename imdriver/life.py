"""The lives of IM call entries and IM offload entries, as tables.

A pair that is not in its table is illegal: :meth:`Table.step` raises :class:`IllegalTransition`, names
both, and changes nothing. ``python -m imdriver.life`` prints the tables as Mermaid diagrams.

Pages "reusing-an-ndis-miniport-offload-block-list-structure.md" and
"referencing-offloaded-state-through-an-intermediate-driver.md" (R-IM-02, R-IM-06, R-IM-07).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, Protocol, TypeVar

from ndisbus.errors import IllegalTransition

__all__ = [
    "CALL_ENTRY",
    "OFFLOAD_ENTRY",
    "CallEvent",
    "CallLife",
    "OffloadEvent",
    "OffloadLife",
    "Table",
    "main",
]

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class CallLife(StrEnum):
    """Where an IM call entry stands."""

    CREATED = "created"
    PASSED_DOWN = "passed_down"
    FREED = "freed"


class CallEvent(StrEnum):
    """What happens to an IM call entry."""

    PASS_DOWN = "pass down"
    REFUSE = "refuse"
    PROPAGATE = "propagate"
    ABANDON = "abandon"


class OffloadLife(StrEnum):
    """Where an IM offload entry stands."""

    CREATED = "created"
    OFFERED = "offered"
    OFFLOADED = "offloaded"
    TERMINATING = "terminating"
    LOST = "lost"
    LEAVING = "leaving"
    FREED = "freed"


class OffloadEvent(StrEnum):
    """What happens to an IM offload entry, or what it is named for."""

    OFFER = "offer"
    ACCEPT = "accept"
    REJECT = "reject"
    NAME = "name"
    USE = "use"
    TERMINATE = "terminate"
    TERMINATED = "terminated"
    NOT_TERMINATED = "not terminated"
    HALT = "halt"


class _Alive(Protocol[S]):
    life: S


@dataclass(frozen=True)
class Table(Generic[S, E]):
    """A state machine: (state, event) -> state. ``initial`` is where an entry begins, ``final`` its end."""

    name: str
    initial: S
    final: S
    moves: Mapping[tuple[S, E], S]

    def step(self, state: S, event: E) -> S:
        """The state that follows. Raises :class:`IllegalTransition` for a pair that is not in the table."""
        try:
            return self.moves[state, event]
        except KeyError:
            raise IllegalTransition(self.name, state.value, event.value) from None

    def step_all(self, entries: Iterable[_Alive[S]], event: E) -> None:
        """Let ``event`` happen to all of them, or, if it is illegal for one, to none.

        ``entries`` is iterated over twice. Raises :class:`IllegalTransition`.
        """
        after = {state: self.step(state, event) for state in {e.life for e in entries}}
        for e in entries:
            e.life = after[e.life]

    def legal_in(self, event: E) -> frozenset[S]:
        """The states in which ``event`` is legal."""
        return frozenset(state for state, what in self.moves if what is event)

    def mermaid(self) -> str:
        """The table as a Mermaid state diagram; events that lead to the same state share an arrow."""
        arrows: dict[tuple[S, S], list[str]] = {}
        for (state, event), after in self.moves.items():
            arrows.setdefault((state, after), []).append(event.value)
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial.value}"]
        lines += [f"    {a.value} --> {b.value}: {', '.join(events)}" for (a, b), events in arrows.items()]
        lines.append(f"    {self.final.value} --> [*]")
        return "\n".join(lines)


#: An entry for one call that was passed on: a state-manipulation request or an I/O request.
#: It is propagated upward and freed in one step (R-IM-06); REFUSE completes it without passing it down,
#: ABANDON forgets it because nobody above waits for it any more.
CALL_ENTRY: Final = Table(
    "IM call entry",
    CallLife.CREATED,
    CallLife.FREED,
    {
        (CallLife.CREATED, CallEvent.PASS_DOWN): CallLife.PASSED_DOWN,
        (CallLife.CREATED, CallEvent.REFUSE): CallLife.FREED,
        (CallLife.PASSED_DOWN, CallEvent.PROPAGATE): CallLife.FREED,
        (CallLife.PASSED_DOWN, CallEvent.ABANDON): CallLife.FREED,
    },
)

#: NAME stands for linkers, queries, updates and invalidates, USE for I/O. While an object is offered, and
#: once its termination was requested, no list may name it; I/O the target still answers for itself. A
#: terminate that fails leaves the object LOST, and it is terminated once more (R-HWF-01, R-DIS-43).
OFFLOAD_ENTRY: Final = Table(
    "IM offload entry",
    OffloadLife.CREATED,
    OffloadLife.FREED,
    {
        (OffloadLife.CREATED, OffloadEvent.OFFER): OffloadLife.OFFERED,
        (OffloadLife.OFFERED, OffloadEvent.ACCEPT): OffloadLife.OFFLOADED,
        (OffloadLife.OFFERED, OffloadEvent.REJECT): OffloadLife.FREED,
        (OffloadLife.OFFERED, OffloadEvent.HALT): OffloadLife.FREED,
        (OffloadLife.OFFLOADED, OffloadEvent.NAME): OffloadLife.OFFLOADED,
        (OffloadLife.OFFLOADED, OffloadEvent.USE): OffloadLife.OFFLOADED,
        (OffloadLife.OFFLOADED, OffloadEvent.TERMINATE): OffloadLife.TERMINATING,
        (OffloadLife.OFFLOADED, OffloadEvent.HALT): OffloadLife.FREED,
        (OffloadLife.TERMINATING, OffloadEvent.USE): OffloadLife.TERMINATING,
        (OffloadLife.TERMINATING, OffloadEvent.TERMINATED): OffloadLife.FREED,
        (OffloadLife.TERMINATING, OffloadEvent.HALT): OffloadLife.FREED,
        (OffloadLife.TERMINATING, OffloadEvent.NOT_TERMINATED): OffloadLife.LOST,
        (OffloadLife.LOST, OffloadEvent.USE): OffloadLife.LOST,
        (OffloadLife.LOST, OffloadEvent.TERMINATE): OffloadLife.LEAVING,
        (OffloadLife.LOST, OffloadEvent.HALT): OffloadLife.FREED,
        (OffloadLife.LEAVING, OffloadEvent.USE): OffloadLife.LEAVING,
        (OffloadLife.LEAVING, OffloadEvent.TERMINATED): OffloadLife.FREED,
        (OffloadLife.LEAVING, OffloadEvent.NOT_TERMINATED): OffloadLife.FREED,
        (OffloadLife.LEAVING, OffloadEvent.HALT): OffloadLife.FREED,
    },
)


def main() -> None:
    """Print both diagrams."""
    diagrams = (
        f"## Life of an {CALL_ENTRY.name}\n\n```mermaid\n{CALL_ENTRY.mermaid()}\n```",
        f"## Life of an {OFFLOAD_ENTRY.name}\n\n```mermaid\n{OFFLOAD_ENTRY.mermaid()}\n```",
    )
    sys.stdout.write("\n\n".join(diagrams) + "\n")


if __name__ == "__main__":
    main()
