"""The life of a neighbor cache entry, as a table (RFC 4861 section 7.3.2 and appendix C; ARP alike).

``LIFE`` says which state follows, ``ACTIONS`` what is to be done. ``UNREACHABLE`` stands for the RFC's "no
entry exists": the entry is kept because paths point to it, and the next datagram begins a new search.
"""

from __future__ import annotations

import enum
from typing import Final

from ndisbus.life import LifeEnum, LifeTable, print_lives

__all__ = ["ACTIONS", "LIFE", "Action", "NeighborEvent", "NeighborState"]


class NeighborState(LifeEnum):
    """RFC 4861 7.3.2, and UNREACHABLE for an entry whose neighbor did not answer."""

    INCOMPLETE = "incomplete"
    REACHABLE = "reachable"
    STALE = "stale"
    DELAY = "delay"
    PROBE = "probe"
    UNREACHABLE = "unreachable"


class NeighborEvent(LifeEnum):
    """What happens to an entry.

    *Heard*: its own solicitation, an unsolicited advertisement that overrides, or an ARP request or
    announcement. *Answered*: a solicited advertisement or an ARP reply. *Contradicted*: an advertisement of a
    different address without the override flag.
    """

    SEND = "datagram to send"
    TIMEOUT = "timer expired"
    EXHAUSTED = "last solicitation unanswered"
    CONFIRMED = "forward progress"
    DOUBTED = "no forward progress"
    HEARD_SAME = "heard with the same address"
    HEARD_NEW = "heard with a new address"
    ANSWERED_SAME = "answered with the same address"
    ANSWERED_NEW = "answered with a new address"
    CONTRADICTED = "contradicted"


class Action(enum.Flag):
    """What a transition calls for."""

    NOTHING = 0
    #: Ask all stations on the link for the address (multicast NS, broadcast ARP request).
    SOLICIT = enum.auto()
    #: Ask the neighbor itself (unicast).
    PROBE = enum.auto()
    #: Keep the datagram until there is an address.
    QUEUE = enum.auto()
    #: The address is known now, or has changed: store it.
    RECORD = enum.auto()
    #: Send what was kept.
    RELEASE = enum.auto()
    #: Begin counting solicitations anew.
    COUNT = enum.auto()
    #: Drop what was kept, tell the connections.
    FAIL = enum.auto()

    __hash__ = object.__hash__


_S = NeighborState
_E = NeighborEvent
_A = Action
_Row = dict[NeighborEvent, tuple[NeighborState, Action]]

_FOUND: Final = _A.RECORD | _A.RELEASE
_SEARCH: Final = _A.QUEUE | _A.SOLICIT | _A.COUNT


def _unchanged(state: NeighborState, *events: NeighborEvent) -> _Row:
    """Events that are legal in a state and have no effect."""
    return dict.fromkeys(events, (state, _A.NOTHING))


def _known(state: NeighborState) -> _Row:
    """What all states in which the link address is known have in common."""
    return {
        _E.CONFIRMED: (_S.REACHABLE, _A.NOTHING),
        # DELAY waits for upper layers, and they have just reported a lack of progress.
        _E.DOUBTED: (_S.PROBE, _A.PROBE | _A.COUNT),
        _E.HEARD_NEW: (_S.STALE, _A.RECORD),
        _E.ANSWERED_SAME: (_S.REACHABLE, _A.NOTHING),
        _E.ANSWERED_NEW: (_S.REACHABLE, _A.RECORD),
        **_unchanged(state, _E.SEND, _E.HEARD_SAME, _E.CONTRADICTED),
    }


_ROWS: Final[dict[NeighborState, _Row]] = {
    _S.INCOMPLETE: {
        _E.SEND: (_S.INCOMPLETE, _A.QUEUE),
        _E.TIMEOUT: (_S.INCOMPLETE, _A.SOLICIT),
        _E.EXHAUSTED: (_S.UNREACHABLE, _A.FAIL),
        _E.HEARD_NEW: (_S.STALE, _FOUND),
        _E.ANSWERED_NEW: (_S.REACHABLE, _FOUND),
        **_unchanged(_S.INCOMPLETE, _E.CONFIRMED, _E.DOUBTED),
    },
    _S.REACHABLE: {
        **_known(_S.REACHABLE),
        _E.TIMEOUT: (_S.STALE, _A.NOTHING),
        _E.CONTRADICTED: (_S.STALE, _A.NOTHING),
    },
    _S.STALE: {**_known(_S.STALE), _E.SEND: (_S.DELAY, _A.NOTHING)},
    _S.DELAY: {**_known(_S.DELAY), _E.TIMEOUT: (_S.PROBE, _A.PROBE | _A.COUNT)},
    _S.PROBE: {
        **_known(_S.PROBE),
        _E.DOUBTED: (_S.PROBE, _A.NOTHING),
        _E.TIMEOUT: (_S.PROBE, _A.PROBE),
        _E.EXHAUSTED: (_S.UNREACHABLE, _A.FAIL),
    },
    _S.UNREACHABLE: {
        _E.SEND: (_S.INCOMPLETE, _SEARCH),
        _E.HEARD_NEW: (_S.STALE, _A.RECORD),
        _E.ANSWERED_NEW: (_S.REACHABLE, _A.RECORD),
        **_unchanged(_S.UNREACHABLE, _E.CONFIRMED, _E.DOUBTED),
    },
}

#: An entry begins UNREACHABLE. It has no last state: the cache drops entries that are not used.
LIFE: Final = LifeTable(
    "a neighbor cache entry",
    initial=_S.UNREACHABLE,
    final=None,
    rows={state: {event: after for event, (after, _) in row.items()} for state, row in _ROWS.items()},
)

#: What each transition calls for.
ACTIONS: Final[dict[tuple[NeighborState, NeighborEvent], Action]] = {
    (state, event): action for state, row in _ROWS.items() for event, (_, action) in row.items()
}


if __name__ == "__main__":
    print_lives(LIFE)
