"""Blows against a live stack: which ones there are, when they fall, and which errors they explain.

A connection that is offloaded, or moving, may end with an error when a layer below its host has died or has
hung for too long. A connection that its host serves goes on, unless the remote host was killed. A stall that
is shorter than the hang limit explains nothing, nor does a SIGTERM of a driver: it uploads its connections.
Both together explain a loss if the stall takes most of the time that the driver has for that.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ndisbus.runtime.departure import DEPARTURE_LIMIT, REPEAT

__all__ = ["BELOW", "HOSTS", "LAYERS", "Blame", "Blow", "Planned", "gust"]

#: Hosts, the adapter that each binds to, and the layers that its connections are offloaded through.
HOSTS: Final[Mapping[str, str]] = {"a": "im1-a", "b": "im1-b", "c": "im0-b"}
LAYERS: Final = ("bus", "target", "im", "upper")
BELOW: Final[Mapping[str, tuple[str, ...]]] = {
    "a": ("upper", "im", "target", "bus"),
    "b": ("upper", "im", "target", "bus"),
    "c": ("im", "target", "bus"),
}
#: Who is hit, and how often.
_VICTIMS: Final[Mapping[str, int]] = {
    "target": 5, "im": 4, "upper": 4, "bus": 3, "peer": 2, "a": 1, "b": 1, "c": 1
}  # fmt: skip
_KINDS: Final[Mapping[str, int]] = {"kill": 5, "term": 3, "stall": 2, "hang": 2}
#: Blows of one gust, and the longest time between two of them (seconds).
_SIZES: Final = (1, 1, 2, 2, 3, 4, 6)
_PAUSES: Final = (0.0, 0.05, 0.3, 1.0)
#: Shares of the hang limit: a stall that is surely shorter, and one that is surely longer.
_SHORT: Final = (0.02, 0.4)
_LONG: Final = (1.3, 2.0)
#: The longest stall of a host, over the time in which NDIS expects it to close a binding (seconds).
_SLEEP: Final = 7.0
#: A stall may hang a driver if it lasts this share of the limit, on a machine that is busy.
_NEARLY: Final = 0.7
#: Seconds in which a fault below has to show at a connection, and in which it may not be known yet where one
#: is moved; seconds in which the death of a remote host shows at a connection that is idle.
_SHOWS: Final = 25.0
_UNKNOWN: Final = 3.0
_REMOTE_SHOWS: Final = 45.0
#: A connection cannot be opened for so many seconds after a blow (of a stall: after its end).
_UNCONNECTED: Final = 25.0
#: What the clocks of two processes' lines may be apart (seconds).
_SLACK: Final = 0.1


@dataclass(frozen=True)
class Planned:
    """A blow to come: after ``pause`` seconds. ``seconds``: how long a stall lasts."""

    pause: float
    victim: str
    kind: str
    seconds: float = 0.0


@dataclass
class Blow:
    """A blow that fell at ``at``. ``until``: when a stalled process went on."""

    number: int
    at: float
    victim: str
    kind: str
    pid: int
    until: float

    def __str__(self) -> str:
        stalled = f" for {self.until - self.at:.2f} s" if self.kind in ("stall", "hang") else ""
        return f"#{self.number} {self.kind} of {self.victim} (pid {self.pid}) at {self.at:.3f}{stalled}"


def gust(
    rng: random.Random, hang_limit: float, spared: Sequence[str] = (), size: int | None = None
) -> Iterator[Planned]:
    """A few blows. ``spared``: processes that are stalled, but not killed."""
    for number in range(rng.choice(_SIZES) if size is None else size):
        victim = rng.choices(list(_VICTIMS), list(_VICTIMS.values()))[0]
        kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
        if victim in spared:
            kind = "stall"
        if kind == "stall":
            seconds = rng.uniform(*_SHORT) * hang_limit
        elif victim in HOSTS:
            seconds = rng.uniform(0.5, _SLEEP)
        else:
            seconds = rng.uniform(*_LONG) * hang_limit
        pause = rng.choice(_PAUSES) * rng.random() if number else 0.0
        yield Planned(pause, victim, kind, seconds if kind in ("stall", "hang") else 0.0)


@dataclass
class Blame:
    """Judges errors. ``term_kills``: a SIGTERM of a driver explains what a kill explains."""

    hang_limit: float
    unbind_limit: float
    term_kills: bool = False
    blows: list[Blow] = field(default_factory=list)

    def fatal(self, blow: Blow, host: str) -> bool:
        """Whether a blow may cost ``host`` the connections that are offloaded."""
        if blow.victim == host:
            # It is not asked for signs of life, but it has to close a binding in time when a layer ends.
            return blow.until - blow.at > _NEARLY * self.unbind_limit
        if blow.victim not in BELOW[host]:
            return False
        if blow.kind in ("stall", "hang"):
            return blow.victim != "bus" and blow.until - blow.at > _NEARLY * self.hang_limit
        return blow.kind == "kill" or self.term_kills or blow.victim == "bus" or self._hurried(blow)

    def _hurried(self, term: Blow) -> bool:
        """Whether a driver that was asked to end could not give everything back in its time.

        Something that it needs was stalled for about as long, or it was asked again, which ends it at once.
        """
        end = term.at + DEPARTURE_LIMIT
        for b in self.blows:
            if b.kind in ("stall", "hang") and b.victim != "peer":
                if min(b.until, end) - max(b.at, term.at) > _NEARLY * DEPARTURE_LIMIT:
                    return True
            elif (
                b.kind == "term"
                and (b.victim, b.pid) == (term.victim, term.pid)
                and term.at + REPEAT - _SLACK <= b.at <= end
            ):
                return True
        return False

    def explain(self, host: str, end: Mapping[str, Any]) -> str | None:
        """Which blow explains the error with which a connection of ``host`` ended; None if none does."""
        at = min(end["failures"], default=end["at"]) + _SLACK
        if end["outcome"] == "not connected":
            return self._latest(
                [b for b in self.blows if self._disturbs(b, host) and b.at <= at <= b.until + _UNCONNECTED]
            )
        text = end["text"]
        if end["error"] == "ConnectionReset" and "reset by the remote end" not in text:
            away = _away(end["moves"], at)
            if away is None:
                return None
            earliest = max(away - _UNKNOWN, at - _SHOWS)
            return self._latest(
                [b for b in self.blows if self.fatal(b, host) and b.at <= at and b.until >= earliest]
            )
        if end["error"] == "ConnectionReset":
            # The remote host may have answered the SYN, and died before this host could see that.
            earliest = max(end["begun"] - _SLACK, at - _REMOTE_SHOWS)
            return self._latest(
                [
                    b
                    for b in self.blows
                    if b.victim == "peer" and b.kind in ("kill", "term") and earliest <= b.at <= at
                ]
            )
        return None

    def _disturbs(self, blow: Blow, host: str) -> bool:
        return blow.victim in (*BELOW[host], host, "peer")

    @staticmethod
    def _latest(blows: list[Blow]) -> str | None:
        if not blows:
            return None
        blow = max(blows, key=lambda b: b.at)
        return f"{blow.kind} of {blow.victim}"


def _away(moves: Sequence[Sequence[Any]], at: float) -> float | None:
    """When a connection left its host for the last time before ``at``; None if it was in its host then."""
    away = None
    for moved, where in moves:
        if moved > at:
            break
        away = (moved if away is None else away) if where == "away" else None
    return away
