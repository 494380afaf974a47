"""Who owns what while a connection moves, as a table. A move is a state with steps, not an instant.

Between an initiate or a terminate and its completion everything can happen: the target serves the connection
from the moment it takes it (R-CONC-03), so completions, indications and deaths arrive before the completion,
and applications read, write and close meanwhile. At each step each byte, each list and the right to
acknowledge has one owner: the host, or the driver below. An intermediate driver owns nothing. It keeps a book
of what it passed down, and takes a list out of it when the list comes up, however it comes up.

:attr:`hoststack.model.objects.Tcb.step` says at which step a connection is.
"""

from __future__ import annotations

from typing import Final

from hoststack.model.life import Event, State
from ndisbus.life import LifeEnum

__all__ = ["HANDS_UP", "STEPS", "STEP_OF", "Item", "Owner", "Step", "owner", "owners_markdown", "step_of"]


class Step(LifeEnum):
    """The steps of a move."""

    IN_HOST = "in the host"
    """The host serves the connection."""
    OFFERED = "offered"
    """An initiate is down. The target may serve the connection, or may refuse it."""
    BELOW = "below"
    """The connection is offloaded."""
    RECALLED = "recalled"
    """A terminate is down, or waits to go down."""
    LOST = "lost"
    """The delegated state will not come back. The application has the error."""


class Item(LifeEnum):
    """What has an owner."""

    LENT = "send data that was lent"
    WRITTEN = "send data written now"
    SEGMENTS = "segments that reach the host now"
    UNREAD_HERE = "received data in the host"
    UNREAD_BELOW = "received data below"
    ACKNOWLEDGE = "the right to acknowledge"


class Owner(LifeEnum):
    """Who owns an item."""

    HOST = "host"
    BELOW = "driver below"
    NONE = "none"


_H: Final = Owner.HOST
_B: Final = Owner.BELOW

#: On its way down and up alike: nothing new is given away before the move is over.
_ON_THE_WAY: Final[dict[Item, Owner]] = {
    Item.LENT: _B,
    Item.WRITTEN: _H,
    Item.SEGMENTS: _H,
    Item.UNREAD_HERE: _H,
    Item.UNREAD_BELOW: _B,
    Item.ACKNOWLEDGE: _B,
}
#: LENT: the host keeps the bytes of a lent list until it is completed, but uses them only after it came back:
#: by its completion, in the chain of the terminate, or with the failed initiate. WRITTEN, SEGMENTS: what the
#: host owns waits for the next step (R-CONC-01, R-CONC-05, R-TERM-04, R-TERM-05). UNREAD_BELOW: BufferedData
#: that went down, and what the target received; the end of the stream is not reported while there is some.
_OWNERS: Final[dict[Step, dict[Item, Owner]]] = {
    Step.IN_HOST: dict.fromkeys(Item, _H),
    Step.OFFERED: _ON_THE_WAY,
    Step.BELOW: {**dict.fromkeys(Item, _B), Item.UNREAD_HERE: _H},
    Step.RECALLED: _ON_THE_WAY,
    Step.LOST: {
        **dict.fromkeys(Item, _H),
        Item.UNREAD_BELOW: Owner.NONE,
        Item.ACKNOWLEDGE: Owner.NONE,
    },
}

#: The steps that may follow each step, and what leads there.
STEPS: Final[dict[Step, dict[Step, str]]] = {
    Step.IN_HOST: {Step.OFFERED: "initiate"},
    Step.OFFERED: {
        Step.BELOW: "initiate completed",
        Step.IN_HOST: "initiate failed: the driver below took nothing",
        Step.LOST: "initiate failed after the driver below had served it, or the adapter was removed",
    },
    Step.BELOW: {Step.RECALLED: "terminate", Step.LOST: "the binding is gone"},
    Step.RECALLED: {
        Step.IN_HOST: "terminate completed",
        Step.BELOW: "the terminate that waited was cancelled",
        Step.LOST: "terminate failed, or the binding is gone",
    },
    Step.LOST: {Step.OFFERED: "initiate"},
}

#: The step in each state of an object's life, if no terminate waits and nothing was lost. After a failed
#: terminate a second one may still bring the connection back (R-DIS-43).
STEP_OF: Final[dict[State, Step]] = {
    **dict.fromkeys(State, Step.BELOW),
    State.NEW: Step.IN_HOST,
    State.GONE: Step.IN_HOST,
    State.OFFLOADING: Step.OFFERED,
    State.TERMINATING: Step.RECALLED,
    State.FAILED: Step.RECALLED,
}

#: Steps in which the driver below may hand received data up (R-CONC-03: not before the initiate completes).
HANDS_UP: Final = frozenset((Step.BELOW, Step.RECALLED))


def step_of(state: State, waiting: Event | None, lost: bool) -> Step:
    """Return the step of a connection in a state of its life.

    ``waiting`` is the event that waits for it. ``lost``: its delegated state did not come back.
    """
    step = STEP_OF[state]
    if step is Step.BELOW and waiting is Event.TERMINATE:
        return Step.RECALLED
    return Step.LOST if lost and step is Step.IN_HOST else step


def owner(step: Step, item: Item) -> Owner:
    """Return who owns an item at a step."""
    return _OWNERS[step][item]


def owners_markdown() -> str:
    """Return both tables for docs/architecture.md: the owners, and the steps that follow each other."""
    lines = [f"| | {' | '.join(map(str, Step))} |", "| --- |" + " --- |" * len(Step)]
    for item in Item:
        lines.append(f"| {item} | {' | '.join(str(owner(step, item)) for step in Step)} |")
    lines += ["", "| from | to | by |", "| --- | --- | --- |"]
    lines += [f"| {a} | {b} | {why} |" for a, row in STEPS.items() for b, why in row.items()]
    return "\n".join(lines)
