"""The life of a neighbor cache entry, as one table (RFC 4861 7.3.2 and appendix C; ARP alike).

A pair that the table does not have changes nothing and calls for nothing: most things that are heard of a
neighbor are no news. ``UNREACHABLE`` is the RFC's «no entry», kept because paths point to the entry; the next
datagram begins the search anew.

``python -m hoststack.net.neighbor_life`` prints the table as a Mermaid state diagram.
"""

from __future__ import annotations

import enum
import sys
from typing import Final

__all__ = ["TABLE", "Action", "NeighborEvent", "NeighborState", "following", "mermaid"]


class NeighborState(enum.Enum):
    """RFC 4861 7.3.2, and UNREACHABLE for an entry whose neighbor did not answer."""

    INCOMPLETE = "incomplete"
    REACHABLE = "reachable"
    STALE = "stale"
    DELAY = "delay"
    PROBE = "probe"
    UNREACHABLE = "unreachable"

    __hash__ = object.__hash__  # members are singletons; the default hashes the name

    def __str__(self) -> str:
        return self.value


class NeighborEvent(enum.Enum):
    """What happens to an entry."""

    SEND = "datagram to send"
    TIMEOUT = "timer expired"
    EXHAUSTED = "last solicitation unanswered"
    CONFIRMED = "forward progress"
    DOUBTED = "no forward progress"
    #: Its own solicitation, an unsolicited advertisement that overrides, or an ARP request or announcement.
    HEARD_SAME = "heard, same address"
    HEARD_NEW = "heard, new address"
    #: A solicited advertisement or an ARP reply.
    ANSWERED_SAME = "answered, same address"
    ANSWERED_NEW = "answered, new address"
    #: An advertisement of another address without the override flag.
    CONTRADICTED = "contradicted"

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return self.value


class Action(enum.Flag):
    """What a transition calls for."""

    NOTHING = 0
    #: Ask everybody on the link for the address (multicast NS, broadcast ARP request).
    SOLICIT = enum.auto()
    #: Ask the neighbor itself (unicast).
    PROBE = enum.auto()
    #: Keep the datagram until there is an address.
    QUEUE = enum.auto()
    #: The address is known now, or another one: note it.
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

#: What every state with a link address has in common.
_KNOWN: Final[_Row] = {
    _E.CONFIRMED: (_S.REACHABLE, _A.NOTHING),
    # DELAY waits for upper layers, and those have just said that there is no progress.
    _E.DOUBTED: (_S.PROBE, _A.PROBE | _A.COUNT),
    _E.HEARD_NEW: (_S.STALE, _A.RECORD),
    _E.ANSWERED_SAME: (_S.REACHABLE, _A.NOTHING),
    _E.ANSWERED_NEW: (_S.REACHABLE, _A.RECORD),
}

TABLE: Final[dict[NeighborState, _Row]] = {
    _S.INCOMPLETE: {
        _E.SEND: (_S.INCOMPLETE, _A.QUEUE),
        _E.TIMEOUT: (_S.INCOMPLETE, _A.SOLICIT),
        _E.EXHAUSTED: (_S.UNREACHABLE, _A.FAIL),
        _E.HEARD_NEW: (_S.STALE, _FOUND),
        _E.ANSWERED_NEW: (_S.REACHABLE, _FOUND),
    },
    _S.REACHABLE: {
        **_KNOWN,
        _E.TIMEOUT: (_S.STALE, _A.NOTHING),
        _E.CONTRADICTED: (_S.STALE, _A.NOTHING),
    },
    _S.STALE: {**_KNOWN, _E.SEND: (_S.DELAY, _A.NOTHING)},
    _S.DELAY: {**_KNOWN, _E.TIMEOUT: (_S.PROBE, _A.PROBE | _A.COUNT)},
    _S.PROBE: {
        **_KNOWN,
        _E.DOUBTED: (_S.PROBE, _A.NOTHING),
        _E.TIMEOUT: (_S.PROBE, _A.PROBE),
        _E.EXHAUSTED: (_S.UNREACHABLE, _A.FAIL),
    },
    _S.UNREACHABLE: {
        _E.SEND: (_S.INCOMPLETE, _SEARCH),
        _E.HEARD_NEW: (_S.STALE, _A.RECORD),
        _E.ANSWERED_NEW: (_S.REACHABLE, _A.RECORD),
    },
}


def following(state: NeighborState, event: NeighborEvent) -> tuple[NeighborState, Action]:
    """The next state and what it calls for: the same and nothing, if the table does not have the pair."""
    return TABLE[state].get(event, (state, Action.NOTHING))


def mermaid() -> str:
    """The table as a Mermaid ``stateDiagram-v2``, one line per transition, in the table's order."""
    lines = ["stateDiagram-v2", f"    [*] --> {_S.UNREACHABLE.name}"]
    lines += [f"    {s.name}: {s.value}" for s in NeighborState]
    for state, row in TABLE.items():
        lines += [f"    {state.name} --> {after.name}: {event}" for event, (after, _) in row.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(mermaid())
