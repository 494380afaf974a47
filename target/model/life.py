"""The life of an offloaded object, as a table.

A pair that is not in the table is illegal: :func:`after` raises and the object stays what it was. The
diagram in the docs is made from :data:`LIFE`. An object that is refused never gets a context, so its
life here begins with the target taking it over.

Queries are not a state: any number of them may run, in nearly every state (R-QRY-01, R-STATE-06), and
requests of one adapter are carried out in the order in which they came, so a query is over before a
terminate that came after it completes (R-TERM-08).
"""

from __future__ import annotations

import enum
from typing import Final

from ndisbus.errors import IllegalTransition

__all__ = ["LIFE", "STEPS", "Event", "Life", "after"]


class Life(enum.Enum):
    """Where an object stands."""

    __hash__ = object.__hash__  # Enum's own hashes the name, in Python, at every look into the table

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


class Event(enum.Enum):
    """What happens to an object."""

    __hash__ = object.__hash__

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


#: event -> {state: next state}; for lists, which look one event up for many objects.
STEPS: Final[dict[Event, dict[Life, Life]]] = {
    Event.INITIATE: {Life.NEW: Life.OFFLOADING},
    Event.INITIATED: {Life.OFFLOADING: Life.OFFLOADED, Life.LOST: Life.LOST},
    Event.QUERY: {
        Life.OFFLOADED: Life.OFFLOADED,
        Life.UPDATING: Life.UPDATING,
        Life.INVALID: Life.INVALID,
        Life.LOST: Life.LOST,
    },
    Event.UPDATE: {Life.OFFLOADED: Life.UPDATING},
    Event.UPDATED: {
        Life.UPDATING: Life.OFFLOADED,
        Life.INVALID: Life.INVALID,
        Life.LOST: Life.LOST,
        Life.TERMINATING: Life.TERMINATING,
    },
    Event.INVALIDATE: {
        Life.OFFLOADED: Life.INVALID,
        Life.UPDATING: Life.INVALID,
        Life.INVALID: Life.INVALID,
        Life.LOST: Life.LOST,
    },
    Event.LOSE: {
        Life.OFFLOADING: Life.LOST,
        Life.OFFLOADED: Life.LOST,
        Life.UPDATING: Life.LOST,
        Life.INVALID: Life.LOST,
        Life.LOST: Life.LOST,
        Life.TERMINATING: Life.LOST,
    },
    Event.TERMINATE: {
        Life.OFFLOADED: Life.TERMINATING,
        Life.UPDATING: Life.TERMINATING,
        Life.INVALID: Life.TERMINATING,
        Life.LOST: Life.TERMINATING,
    },
    Event.TERMINATED: {Life.TERMINATING: Life.GONE},
    Event.HALT: {life: Life.GONE for life in Life if life is not Life.GONE},
}

#: (state, event) -> state.
LIFE: Final[dict[tuple[Life, Event], Life]] = {
    (life, event): following for event, rows in STEPS.items() for life, following in rows.items()
}


def after(life: Life, event: Event, what: object = "object") -> Life:
    """The state after ``event``. Raises :class:`IllegalTransition` for a pair not in the table."""
    following = LIFE.get((life, event))
    if following is None:
        raise IllegalTransition(str(what), life.value, event.value)
    return following
