"""The life of an offloaded object at the target, as a table (:mod:`ndisbus.life`).

An object that is refused never gets a context, so its life here begins when the target takes it over.

Queries are not a state. Any number of them may run, in nearly every state (R-QRY-01, R-STATE-06). Requests of
one adapter are carried out in order, so a query ends before a later terminate completes (R-TERM-08).
"""

from __future__ import annotations

from typing import Final

from ndisbus.life import LifeEnum, LifeTable, print_lives

__all__ = ["LIFE", "Event", "Life"]


class Life(LifeEnum):
    """The states of an object."""

    NEW = "new"
    """Its context is being made. A context that can be found has left this state."""
    OFFLOADING = "offloading"
    """Taken over and live (R-INIT-17), but the initiate is not complete."""
    OFFLOADED = "offloaded"
    UPDATING = "updating"
    INVALID = "invalid"
    """Invalidated: the target keeps it with everything it holds, but sends nothing on it (R-INV-03)."""
    LOST = "lost"
    """The hardware lost its state, and the layers above were told. Only a terminate is left."""
    TERMINATING = "terminating"
    GONE = "gone"


class Event(LifeEnum):
    """The events of an object."""

    INITIATE = "initiate"
    INITIATED = "initiate completed"
    QUERY = "query"
    UPDATE = "update"
    UPDATED = "update completed"
    INVALIDATE = "invalidate"
    LOSE = "hardware failure"
    TERMINATE = "terminate"
    TERMINATED = "terminate completed"
    HALT = "halt"


LIFE: Final = LifeTable(
    "an object at the target",
    initial=Life.NEW,
    final=Life.GONE,
    rows={
        Life.NEW: {Event.INITIATE: Life.OFFLOADING, Event.HALT: Life.GONE},
        Life.OFFLOADING: {
            Event.INITIATED: Life.OFFLOADED,
            Event.LOSE: Life.LOST,
            Event.HALT: Life.GONE,
        },
        Life.OFFLOADED: {
            Event.QUERY: Life.OFFLOADED,
            Event.UPDATE: Life.UPDATING,
            Event.INVALIDATE: Life.INVALID,
            Event.LOSE: Life.LOST,
            Event.TERMINATE: Life.TERMINATING,
            Event.HALT: Life.GONE,
        },
        Life.UPDATING: {
            Event.QUERY: Life.UPDATING,
            Event.UPDATED: Life.OFFLOADED,
            Event.INVALIDATE: Life.INVALID,
            Event.LOSE: Life.LOST,
            Event.TERMINATE: Life.TERMINATING,
            Event.HALT: Life.GONE,
        },
        Life.INVALID: {
            Event.QUERY: Life.INVALID,
            Event.UPDATED: Life.INVALID,
            Event.INVALIDATE: Life.INVALID,
            Event.LOSE: Life.LOST,
            Event.TERMINATE: Life.TERMINATING,
            Event.HALT: Life.GONE,
        },
        Life.LOST: {
            Event.INITIATED: Life.LOST,
            Event.QUERY: Life.LOST,
            Event.UPDATED: Life.LOST,
            Event.INVALIDATE: Life.LOST,
            Event.LOSE: Life.LOST,
            Event.TERMINATE: Life.TERMINATING,
            Event.HALT: Life.GONE,
        },
        Life.TERMINATING: {
            Event.UPDATED: Life.TERMINATING,
            Event.LOSE: Life.LOST,
            Event.TERMINATED: Life.GONE,
            Event.HALT: Life.GONE,
        },
    },
)


if __name__ == "__main__":
    print_lives(LIFE)
