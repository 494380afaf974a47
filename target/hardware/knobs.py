"""Injectable failures: named, listed, removable, and counted.

A knob is set at a *point* of the target. When it fires, that point ends with the knob's status. There are
three modes. ``once`` fires at the next occasion. ``sticky`` fires at every occasion until it is removed.
``nth`` fires at the nth occasion after it was set (1 is the next). ``once`` and ``nth`` fire only once. They
stay in the list with their counters until they are removed, which shows whether they fired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus, is_success
from ndisbus.errors import LocalProtocolError

__all__ = ["POINTS", "Knob", "Knobs", "Mode"]

Mode = Literal["once", "sticky", "nth"]

_IO: Final = frozenset((NdisStatus.REQUEST_ABORTED, NdisStatus.UPLOAD_IN_PROGRESS))
_INITIATE: Final = frozenset(s for s in ALLOWED_STATUS["initiate"] if not is_success(s))

#: Each point where a knob may be set, with its default status and the statuses allowed there.
POINTS: Final[dict[str, tuple[NdisStatus, frozenset[NdisStatus]]]] = {
    "initiate.neighbor": (NdisStatus.FAILURE, _INITIATE),
    "initiate.path": (NdisStatus.FAILURE, _INITIATE),
    "initiate.tcp": (NdisStatus.FAILURE, _INITIATE),
    **{
        op: (NdisStatus.FAILURE, frozenset((NdisStatus.FAILURE,))) for op in ("query", "update", "invalidate")
    },
    "terminate": (NdisStatus.FAILURE, frozenset((NdisStatus.FAILURE,))),
    **dict.fromkeys(("send", "receive", "disconnect", "forward"), (NdisStatus.REQUEST_ABORTED, _IO)),
    "initialize": (NdisStatus.FAILURE, frozenset((NdisStatus.FAILURE, NdisStatus.RESOURCES))),
    "oid": (NdisStatus.FAILURE, frozenset((NdisStatus.FAILURE, NdisStatus.NOT_SUPPORTED))),
}


@dataclass(slots=True)
class Knob:
    """One injectable failure. ``hits``: occasions seen since it was set; ``fired``: how often it fired."""

    name: str
    point: str
    status: NdisStatus
    mode: Mode
    nth: int
    hits: int = 0
    fired: int = 0

    @property
    def armed(self) -> bool:
        """Whether it can still fire."""
        return self.mode == "sticky" or not self.fired

    def to_map(self) -> dict[str, Any]:
        """Return the knob as a map for ``ndisbus fault``."""
        return {
            "name": self.name,
            "point": self.point,
            "status": self.status.symbol,
            "mode": self.mode,
            "nth": self.nth,
            "hits": self.hits,
            "fired": self.fired,
            "armed": self.armed,
        }


class Knobs:
    """All knobs of a target, by name."""

    def __init__(self) -> None:
        self._knobs: dict[str, Knob] = {}
        self._at: dict[str, list[Knob]] = {}

    def __len__(self) -> int:
        return len(self._knobs)

    def listed(self) -> list[dict[str, Any]]:
        """Return every knob as a map, in the order in which they were set."""
        return [k.to_map() for k in self._knobs.values()]

    def set(
        self, point: str, *, status: str | int | None = None, mode: str = "once", nth: int = 1, name: str = ""
    ) -> Knob:
        """Set a knob. Its default name is ``<mode>_<point>``. A knob of the same name is replaced.

        ``status`` is a number or a symbol, with or without ``NDIS_STATUS_``. Raises LocalProtocolError for a
        point or mode that does not exist, and for a status that is not allowed at the point.
        """
        if point not in POINTS:
            raise LocalProtocolError(f"unknown point {point}; use one of {', '.join(sorted(POINTS))}")
        if mode not in get_args(Mode):
            raise LocalProtocolError(f"unknown mode {mode}; use one of {', '.join(get_args(Mode))}")
        if nth < 1:
            raise LocalProtocolError(f"nth = {nth}: must be at least 1 (1 is the next occasion)")
        default, allowed = POINTS[point]
        value = default if status is None else _status(status)
        if value not in allowed:
            names = ", ".join(sorted(s.symbol for s in allowed))
            raise LocalProtocolError(f"{value.symbol} is not allowed at {point}; use one of {names}")
        kind: Mode = "sticky" if mode == "sticky" else "nth" if mode == "nth" else "once"
        knob = Knob(name or f"{mode}_{point}", point, value, kind, nth if kind == "nth" else 1)
        self._knobs[knob.name] = knob
        self._rebuild()
        return knob

    def remove(self, name: str) -> Knob:
        """Remove a knob and return it with its counters. Raises LocalProtocolError if it does not exist."""
        knob = self._knobs.pop(name, None)
        if knob is None:
            known = ", ".join(self._knobs) or "none"
            raise LocalProtocolError(f"knob {name} does not exist; knobs that are set: {known}")
        self._rebuild()
        return knob

    def reset(self) -> list[dict[str, Any]]:
        """Remove all knobs and return them with their counters."""
        gone = self.listed()
        self._knobs.clear()
        self._rebuild()
        return gone

    def at(self, point: str) -> bool:
        """Return whether a knob can fire at a point.

        Callers ask once per list: unused points cost nothing.
        """
        return point in self._at

    def fire(self, point: str) -> NdisStatus | None:
        """Count an occasion at a point. Returns the status with which it must end, or None."""
        status: NdisStatus | None = None
        for knob in self._at.get(point, ()):
            if not knob.armed:
                continue
            knob.hits += 1
            if status is None and (knob.mode == "sticky" or knob.hits >= knob.nth):
                knob.fired += 1
                status = knob.status
        if status is not None:
            self._rebuild()
        return status

    def _rebuild(self) -> None:
        self._at = {}
        for knob in self._knobs.values():
            if knob.armed:
                self._at.setdefault(knob.point, []).append(knob)


def _status(value: str | int) -> NdisStatus:
    try:
        if isinstance(value, int):
            return NdisStatus(value)
        return NdisStatus[value.removeprefix("NDIS_STATUS_")]
    except (KeyError, ValueError):
        raise LocalProtocolError(f"{value} is not an NDIS_STATUS (a number or a symbol)") from None
