"""Trace events, and which of them are wanted.

An event is a map: ``t`` (seconds on the bus's clock) and ``event``, its kind. A ``call`` also has ``from``,
``to``, ``call``, ``direction`` and, if it carries a block list, ``list``, ``blocks`` and ``status`` (symbol
-> count). The other kinds are actions and observations of NDIS itself: ``hello``, ``closed``, ``bugcheck``,
``fault``, ``refused``, ``stale``, ``request.refused`` and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

__all__ = ["Event", "Filter"]

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects events. Empty: all. ``drivers`` and ``adapters`` are names, the others globs."""

    calls: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def __call__(self, event: Event) -> bool:
        if self.kinds and not any(fnmatchcase(event["event"], k) for k in self.kinds):
            return False
        if self.calls and not any(fnmatchcase(str(event.get("call", "")), c) for c in self.calls):
            return False
        if "call" in event and any(fnmatchcase(str(event["call"]), c) for c in self.without):
            return False
        if self.drivers and not {event.get(k) for k in ("from", "to", "driver", "protocol")} & set(
            self.drivers
        ):
            return False
        return not self.adapters or event.get("adapter") in self.adapters
