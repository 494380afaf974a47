"""The life of an offloaded object at the target, as a table (:mod:`ndisbus.life`).

An object that is refused never gets a context, so its life here begins when the target takes it over.

Queries are not a state: any number of them may run, in nearly every state (R-QRY-01, R-STATE-06), and
requests of one adapter are carried out in the order in which they came, so a query is over before a
terminate that came after it completes (R-TERM-08).
"""

from __future__ import annotations

from typing import Final

from ndisbus.life import LifeEnum, LifeTable, print_lives

__all__ = ["LIFE", "Event", "Life"]


class Life(LifeEnum):
    """Where an object stands."""

    NEW = "new"
    """While its context is being made; a context that can be found is past it."""
    OFFLOADING = "offloading"
    """Taken over and live (R-INIT-17), but the initiate is not complete."""
    OFFLOADED = "offloaded"
    UPDATING = "updating"
    INVALID = "invalid"
    """Invalidated: still the target's, with everything it holds, but nothing is sent on it (R-INV-03)."""
    LOST = "lost"
    """The hardware lost its state, and the layers above were told so; only a terminate is left."""
    TERMINATING = "terminating"
    GONE = "gone"


class Event(LifeEnum):
    """What happens to an object."""

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
