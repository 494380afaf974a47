"""The life of a state object of the host, as a table (:mod:`ndisbus.life`).

A neighbor, a path or a connection is ``NEW`` while only the host knows it, and goes through this table when
it is offloaded, used and uploaded. Rules in the table:

- an object that is being offloaded waits for its own completion only (R-INIT-02, R-CONC-01);
- any number of queries may run at a time; they are counted (R-QRY-01);
- at most one update, and none on an invalid object (R-UPD-02);
- a terminate begins only when queries, updates and invalidates have completed (R-TERM-03).
"""

from __future__ import annotations

from typing import Final

from ndisbus.life import LifeEnum, LifeTable, print_lives

__all__ = ["IDLE", "LIFE", "Event", "State"]


class State(LifeEnum):
    """The states of an object's life."""

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


class Event(LifeEnum):
    """What happens to an object. Requests are verbs, completions are participles."""

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


#: An object that is GONE may be offloaded again, with a new handle.
_ROWS: Final[dict[State, dict[Event, State]]] = {
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
_RULES: Final[dict[tuple[State, Event], str]] = {
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

LIFE: Final = LifeTable(
    "a neighbor, path or connection of the host",
    initial=State.NEW,
    final=State.GONE,
    rows=_ROWS,
    rules=_RULES,
)

#: States in which nothing is in flight and the driver below holds the object: a terminate may begin.
IDLE: Final = frozenset((State.OFFLOADED, State.INVALID))


if __name__ == "__main__":
    print_lives(LIFE)
