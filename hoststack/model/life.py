"""The life of a state object, as one table.

A neighbor, a path or a connection is ``NEW`` while only the host knows it, and goes through this table
when it is offloaded, used and uploaded. A pair that the table does not have is an illegal transition: it
raises :class:`~ndisbus.errors.IllegalTransition`, names both, and leaves the state as it was. Rules in
the table:

- nothing but its own completion happens to an object that is being offloaded (R-INIT-02, R-CONC-01);
- any number of queries may run at a time, counted (R-QRY-01);
- at most one update, and none on an invalid object (R-UPD-02);
- a terminate begins only when queries, updates and invalidates are through (R-TERM-03).

``python -m hoststack.model.life`` prints the table as a Mermaid state diagram for the documentation.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from typing import Final, Protocol

from ndisbus.errors import IllegalTransition

__all__ = [
    "IDLE",
    "RULES",
    "TABLE",
    "Event",
    "Living",
    "State",
    "advance",
    "advance_all",
    "mermaid",
    "require",
]


class State(enum.Enum):
    """Where an object is in its life."""

    NEW = "new"
    OFFLOADING = "offloading"
    OFFLOADED = "offloaded"
    QUERYING = "querying"
    UPDATING = "updating"
    UPDATING_QUERYING = "updating and querying"
    INVALIDATING = "invalidating"
    INVALID = "invalid"
    INVALID_QUERYING = "invalid and querying"
    TERMINATING = "terminating"
    FAILED = "failed"
    GONE = "gone"

    __hash__ = object.__hash__  # members are singletons; the default hashes the name

    def __str__(self) -> str:
        return self.value


class Event(enum.Enum):
    """What happens to an object: requests are verbs, completions participles."""

    INITIATE = "initiate"
    INITIATED = "initiated"
    REFUSED = "refused"
    QUERY = "query"
    QUERIED = "queried"
    LAST_QUERIED = "last query done"
    UPDATE = "update"
    UPDATED = "updated"
    INVALIDATE = "invalidate"
    INVALIDATED = "invalidated"
    NOT_INVALIDATED = "invalidate failed"
    TERMINATE = "terminate"
    TERMINATED = "terminated"
    NOT_TERMINATED = "terminate failed"
    LOST = "lost"

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return self.value


#: The whole life. GONE is NEW with a past: the object may be offloaded again, with a fresh handle.
TABLE: Final[dict[State, dict[Event, State]]] = {
    State.NEW: {Event.INITIATE: State.OFFLOADING},
    State.OFFLOADING: {
        Event.INITIATED: State.OFFLOADED,
        Event.REFUSED: State.GONE,
        Event.LOST: State.GONE,
    },
    State.OFFLOADED: {
        Event.QUERY: State.QUERYING,
        Event.UPDATE: State.UPDATING,
        Event.INVALIDATE: State.INVALIDATING,
        Event.TERMINATE: State.TERMINATING,
        Event.LOST: State.GONE,
    },
    State.QUERYING: {
        Event.QUERY: State.QUERYING,
        Event.QUERIED: State.QUERYING,
        Event.LAST_QUERIED: State.OFFLOADED,
        Event.UPDATE: State.UPDATING_QUERYING,
        Event.LOST: State.GONE,
    },
    State.UPDATING: {
        Event.UPDATED: State.OFFLOADED,
        Event.QUERY: State.UPDATING_QUERYING,
        Event.LOST: State.GONE,
    },
    State.UPDATING_QUERYING: {
        Event.QUERY: State.UPDATING_QUERYING,
        Event.QUERIED: State.UPDATING_QUERYING,
        Event.LAST_QUERIED: State.UPDATING,
        Event.UPDATED: State.QUERYING,
        Event.LOST: State.GONE,
    },
    State.INVALIDATING: {
        Event.INVALIDATED: State.INVALID,
        Event.NOT_INVALIDATED: State.OFFLOADED,
        Event.LOST: State.GONE,
    },
    State.INVALID: {
        Event.QUERY: State.INVALID_QUERYING,
        Event.INVALIDATE: State.INVALIDATING,
        Event.TERMINATE: State.TERMINATING,
        Event.LOST: State.GONE,
    },
    State.INVALID_QUERYING: {
        Event.QUERY: State.INVALID_QUERYING,
        Event.QUERIED: State.INVALID_QUERYING,
        Event.LAST_QUERIED: State.INVALID,
        Event.LOST: State.GONE,
    },
    State.TERMINATING: {
        Event.TERMINATED: State.GONE,
        Event.NOT_TERMINATED: State.FAILED,
        Event.LOST: State.GONE,
    },
    # The driver below failed the terminate. It may ask to be told again (R-DIS-43); if not, that was all.
    State.FAILED: {Event.TERMINATE: State.TERMINATING, Event.LOST: State.GONE},
    State.GONE: {Event.INITIATE: State.OFFLOADING},
}

#: The rule that a refused pair would break, where one says it.
RULES: Final[dict[tuple[State, Event], str]] = {
    (State.OFFLOADING, Event.INITIATE): "R-INIT-02",
    **{
        (State.OFFLOADING, e): "R-CONC-01"
        for e in (Event.QUERY, Event.UPDATE, Event.INVALIDATE, Event.TERMINATE)
    },
    (State.UPDATING, Event.UPDATE): "R-UPD-02",
    (State.UPDATING_QUERYING, Event.UPDATE): "R-UPD-02",
    (State.INVALID, Event.UPDATE): "R-UPD-02",
    (State.INVALID_QUERYING, Event.UPDATE): "R-UPD-02",
    **{
        (s, Event.TERMINATE): "R-TERM-03"
        for s in (
            State.QUERYING,
            State.UPDATING,
            State.UPDATING_QUERYING,
            State.INVALIDATING,
            State.INVALID_QUERYING,
        )
    },
}

#: States in which nothing is in flight and the driver below holds the object: a terminate may begin.
IDLE: Final = frozenset((State.OFFLOADED, State.INVALID))


class Living(Protocol):
    """Anything that has a life in this table."""

    state: State


def require(obj: Living, event: Event) -> State:
    """The state ``event`` would lead to. Raises :class:`IllegalTransition`; nothing is changed."""
    state = TABLE[obj.state].get(event)
    if state is None:
        raise IllegalTransition(repr(obj), obj.state, event, rule=RULES.get((obj.state, event), ""))
    return state


def advance(obj: Living, event: Event) -> None:
    """Let ``event`` happen. Raises :class:`IllegalTransition` and leaves the state as it was."""
    obj.state = require(obj, event)


def advance_all(objects: Sequence[Living], event: Event) -> None:
    """Let ``event`` happen to all objects or, if it is illegal for one of them, to none.

    Raises :class:`IllegalTransition` naming the first one. An object given twice counts as illegal.
    """
    following = {state: row[event] for state, row in TABLE.items() if event in row}
    done = 0
    before = []
    try:
        for obj in objects:
            state = obj.state
            obj.state = following[state]
            before.append(state)
            done += 1
    except KeyError:
        culprit = objects[done]
        error = IllegalTransition(
            repr(culprit), culprit.state, event, rule=RULES.get((culprit.state, event), "")
        )
        for obj, state in zip(reversed(objects[:done]), reversed(before), strict=True):
            obj.state = state
        raise error from None


def mermaid() -> str:
    """The table as a Mermaid ``stateDiagram-v2``, one line per transition, in the table's order."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.NEW.name}"]
    lines += [f"    {s.name}: {s.value}" for s in State]
    for state, row in TABLE.items():
        lines += [f"    {state.name} --> {following.name}: {event}" for event, following in row.items()]
    lines.append(f"    {State.GONE.name} --> [*]")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(mermaid())
