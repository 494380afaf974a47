"""Deaths, stalls, goodbyes and restarts in a stack, and what they explain.

A fault explains that a connection is lost if the connection was away from the host while the fault lasted:
from the fault until the host has been bound again for a while. Nothing else explains a loss, and nothing
at all explains a byte that is missing without an error.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from hoststack.model.events import Bound, Unbound
from tests.support.live_stack import LiveStack
from tests.support.ownership.apps import Connection

__all__ = ["Faults"]

#: How long the host is bound before the consequences of a fault below are over (seconds).
_OVER: Final = 3.0
_LEAVING: Final = 0.01
_PAUSES: Final = (0.0, 0.0005, 0.01, 0.3, 1.5)
#: Stalls that only delay, and stalls beyond the hang limit of 2 s.
_SHORT: Final = (0.01, 0.3, 1.0)
_LONG: Final = (3.0, 4.0)


@dataclass(slots=True)
class _Fault:
    what: str
    since: float
    until: float | None = None


class Faults:
    """The faults of one run, which follow from ``rng``."""

    def __init__(self, stack: LiveStack, rng: random.Random, tell: Callable[[str], object]) -> None:
        self.stack = stack
        self.tell = tell
        self.rng = rng
        self.history: list[_Fault] = []
        #: Processes that are dead or leave, and do not come back by themselves.
        self.missing: set[str] = set()
        self.bug_checks: list[str] = []
        self.count: Counter[str] = Counter()
        self._repaired = False
        self._bound_since: float | None = stack.sim.now
        stack.host.events.subscribe(Bound, lambda e: self._bound(e.at))
        stack.host.events.subscribe(Unbound, lambda e: self._bound(None))

    def _bound(self, at: float | None) -> None:
        self._bound_since = at

    def note(self) -> None:
        """Note which faults are over."""
        now = self.stack.sim.now
        if self._bound_since is None or now - self._bound_since < _OVER or self.missing:
            return
        for fault in self.history:
            if fault.until is None and fault.since < self._bound_since:
                fault.until = now

    def explains(self, connection: Connection) -> bool:
        """Whether a fault may have taken the connection, which is away or was so last."""
        since, until = connection.span
        return any(f.since <= until and (f.until is None or f.until >= since) for f in self.history)

    # -- what happens --------------------------------------------------------------------------

    def strike(self) -> None:
        """Let a fault happen, now or between two of the next packets."""
        packets = self.rng.choice((0, 0, 1, 2, 3, 5, 8, 13, 21))
        victim = self.rng.choice(["target", "target", "bus", *self.stack.ims])
        how = self.rng.choice(("kill", "kill", "leave", "short", "short", "long"))
        if victim == "bus" and how != "short":
            how = "kill"
        if how == "short":
            victim = self.rng.choice(("target", "host", "peer", *self.stack.ims))
        pause = self.rng.choice(_PAUSES)
        seconds = self.rng.choice(_SHORT if how == "short" else _LONG)
        if packets:
            self.stack.sim.between(packets, partial(self._strike, victim, how, pause, seconds))
        else:
            self._strike(victim, how, pause, seconds)

    def _strike(self, victim: str, how: str, pause: float, seconds: float) -> None:
        sim = self.stack.sim
        if self._repaired or victim in self.missing or "bus" in self.missing:
            return
        if how == "short":
            self.tell(f"stall {victim} for {seconds:g} s")
            self.count["short stalls"] += 1
            sim.stall(victim, seconds)
            return
        self.tell(f"{how} {victim}, back after {pause:g} s")
        self.count[f"{how} {victim}"] += 1
        self.history.append(_Fault(f"{how} {victim}", sim.now))
        if victim == "bus":
            assert sim.core is not None
            self.bug_checks += map(str, sim.core.bug_checks.reports)
            sim.kill_bus()
        elif how == "long":
            sim.stall(victim, seconds)
            return
        elif how == "leave":
            sim.leave(victim)
        else:
            sim.kill(victim)
        self.missing.add(victim)
        sim.at(sim.now + pause, partial(self._back, victim))

    def _back(self, victim: str) -> None:
        if victim not in self.missing:
            return
        sim = self.stack.sim
        if victim != "bus" and sim.processes[victim].leaving and sim.processes[victim].alive:
            sim.at(sim.now + _LEAVING, partial(self._back, victim))  # its supervisor waits for its end
            return
        self.missing.discard(victim)
        self.tell(f"{victim} is back")
        if victim == "bus":
            sim.start_bus()
        else:
            sim.restart(victim)

    def repair(self) -> None:
        """Bring everything back. No further fault happens."""
        self._repaired = True
        for name in self.stack.sim.processes:
            self.stack.sim.resume(name)
        for victim in sorted(self.missing, key=lambda v: v != "bus"):
            self._back(victim)

    def reports(self) -> list[str]:
        """All bug checks of the run."""
        core = self.stack.sim.core
        return self.bug_checks + [str(r) for r in (core.bug_checks.reports if core is not None else ())]
