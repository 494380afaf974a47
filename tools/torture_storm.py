"""Storms: several layers killed and stalled at once, and again before they are back.

The seed decides which layer is hit and when. Afterwards everything must be as at the start, as after one
kill.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tools.torture_host import Tree, check_statuses
from tools.torture_rig import OPERATIONS, Rig, Round
from tools.torture_stack import RealStack

__all__ = ["storm_round", "storm_rounds"]

#: Most blows in one storm, and the longest time between two of them (seconds).
_BLOWS: Final = 5
_PAUSES: Final = (0.0, 0.05, 0.2, 0.5, 1.0)
#: One blow in so many is a stall, of up to so many seconds: less and more than the hang limit.
_STALL: Final = 4
_LONGEST: Final = 3.0
#: After the last blow: every death is noticed by then (seconds).
_NOTICED: Final = 0.3


def storm_rounds(
    stack: RealStack,
    *,
    rounds: int,
    seed: int,
    layers: Sequence[str],
    bind: str = "auto",
    connections: int = 4,
) -> Iterator[Round]:
    """Rounds against a stack; ``layers`` are who may be hit. Raises as :meth:`Rig.play` does."""
    rng = random.Random(seed)
    with Rig(stack, seed, bind=bind, connections=connections, limit=40.0) as rig:
        for number in range(rounds):
            yield storm_round(rig, Round(number, "many", rng.choice(OPERATIONS), "storm"), layers)


def storm_round(rig: Rig, result: Round, layers: Sequence[str]) -> Round:
    """One storm. Raises as :meth:`Rig.play` does."""
    # A restarted process has a new heap, so sizes are not compared with the round before.
    rig.forget()
    return rig.play(result, lambda result, tree: _storm(rig, result, tree, layers))


def _storm(rig: Rig, result: Round, tree: Tree, layers: Sequence[str]) -> None:
    driver, rng = rig.driver, rig.rng
    rig.prepare(result.op, tree)
    unbinds, killed = driver.unbinds, False
    operations = rig.start(result.op, tree)
    thaw: list[tuple[float, int]] = []
    started = time.monotonic()
    for _ in range(rng.randint(1, _BLOWS)):
        name = rng.choice(layers)
        if rng.randrange(_STALL):
            killed = rig.stack.signal(name, signal.SIGKILL) is not None or killed
        elif (pid := rig.stack.signal(name, signal.SIGSTOP)) is not None:
            thaw.append((time.monotonic() + rng.uniform(0.0, _LONGEST), pid))
        rig.host.pump(timeout=rng.choice(_PAUSES) * rng.random())
        thaw = _thaw(thaw)
    while thaw:
        rig.host.pump(timeout=0.01)
        thaw = _thaw(thaw)
    rig.host.pump(timeout=_NOTICED)
    rig.wait(lambda: all(o.done for o in operations), f"{result.op} was not completed")
    if killed:
        rig.wait(lambda: driver.unbinds > unbinds, "the host was not unbound")
    rig.wait(lambda: driver.ndis.attached, "the bus did not come back")
    rig.wait_ps(lambda ps: _all_back(ps, layers), "a layer is not back")
    rig.wait(lambda: driver.can_offload, "the chimney did not come back")
    result.recovery = time.monotonic() - started
    result.problems += check_statuses(operations)
    for o in operations:
        result.statuses.update(o.counts())
    rig.host.upload_everything(timeout=rig.left())


def _thaw(stalled: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Let those go on whose time is over; the others."""
    now = time.monotonic()
    for at, pid in stalled:
        if at <= now:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    return [(at, pid) for at, pid in stalled if at > now]


def _all_back(survey: dict[str, Any], layers: Sequence[str]) -> bool:
    there = {p["Name"] for p in survey["Processes"] if p["State"] == "ready"}
    return there >= set(layers) - {"bus"} and all(a["State"] == "up" for a in survey["Adapters"])
