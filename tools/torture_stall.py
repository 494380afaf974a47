"""SIGSTOP of a layer, for less and for more than the hang limit, with every operation in flight.

Shorter: everything completes late and nothing fails. Longer: everything fails upwards within the limit plus
a second; what the thawed process still sends under its old epoch is refused, and it comes back under a new
one. A stalled bus blames no driver: however long it was stopped, everything completes late.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from hoststack.model.operation import Operation
from ndisbus.ddi.call_rows import STATE_OPERATIONS
from ndisbus.runtime.trace_link import TraceSubscriber
from tools.torture_host import Tree, check_statuses
from tools.torture_rig import OPERATIONS, Rig, Round, deck
from tools.torture_stack import RealStack, TortureError

__all__ = ["LENGTHS", "VICTIMS", "stall_round", "stall_rounds"]

VICTIMS: Final = ("target", "im", "bus")
LENGTHS: Final = ("short", "long")
#: Seconds after the limit in which the failures have to be at the host, on a machine that is not busy.
_GRACE: Final = 1.0
#: A share of the limit: a stall of that length is surely shorter, longer, or nearly as long.
_SHORT: Final = (0.1, 0.5)
_LONG: Final = 1.4
_NEARLY: Final = 0.9
_COMPLETIONS: Final = frozenset(o.completion for o in STATE_OPERATIONS)
#: After a question and its answer the next question is this far away, at least (seconds).
_QUIET: Final = 0.03


def stall_rounds(
    stack: RealStack, *, rounds: int, seed: int, hang_limit: float, connections: int = 4
) -> Iterator[Round]:
    """Rounds against a stack whose bus has this hang limit (seconds). Raises as :meth:`Rig.play` does."""
    cards = deck(random.Random(seed), VICTIMS, OPERATIONS, LENGTHS)
    with Rig(stack, seed, connections=connections, survivors=("bus", "target", "im")) as rig:
        for number, (victim, op, length) in zip(range(rounds), cards, strict=False):
            yield stall_round(rig, Round(number, victim, op, length), hang_limit)


def stall_round(rig: Rig, result: Round, hang_limit: float, grace: float = _GRACE) -> Round:
    """One round, on a rig; ``result.moment`` is the length. Raises as :meth:`Rig.play` does.

    ``grace``: seconds after the limit in which the failures of a long stall have to be at the host.
    """

    def action(result: Round, tree: Tree) -> None:
        if result.moment == "long" and result.victim != "bus":
            _long(rig, result, tree, hang_limit, grace)
        else:
            longest = _LONG * hang_limit
            _short(
                rig,
                result,
                tree,
                longest if result.moment == "long" else rig.rng.uniform(*_SHORT) * hang_limit,
            )
        rig.host.upload_everything(timeout=rig.left())

    return rig.play(result, action)


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[Callable[[], None]]:
    """The process is stopped inside; what is yielded lets it go on before the end."""
    stopped = True

    def go_on() -> None:
        nonlocal stopped
        if stopped:
            stopped = False
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    os.kill(pid, signal.SIGSTOP)
    try:
        yield go_on
    finally:
        go_on()


def _short(rig: Rig, result: Round, tree: Tree, seconds: float) -> None:
    driver = rig.driver
    pid = rig.pid(result.victim)
    before = _epochs(rig)
    rig.prepare(result.op, tree)
    unbinds = driver.unbinds
    driver.arm()
    with _stopped(pid):
        stopped_at = time.monotonic()
        operations = rig.start(result.op, tree)
        rig.host.pump(timeout=seconds)
        early = [o for o in operations if o.done]
    if early:
        result.problems.append(f"{len(early)} operations were completed while {result.victim} was stopped")
    rig.wait(lambda: all(o.done for o in operations), f"{result.op} was not completed")
    result.recovery = time.monotonic() - stopped_at
    _note(result, operations)
    failed = [o for o in operations if not o.succeeded]
    if failed:
        texts = ", ".join(f"{o!r}: {o.refused or o.counts()}" for o in failed)
        result.problems.append(f"failed after a stall of {seconds:.2f} s: {texts}")
    if driver.unbinds != unbinds or _epochs(rig) != before:
        result.problems.append(f"a stall of {seconds:.2f} s was taken for a death: {before} {_epochs(rig)}")


def _long(rig: Rig, result: Round, tree: Tree, hang_limit: float, grace: float) -> None:
    driver, victim = rig.driver, result.victim
    pid, epoch = rig.process(victim)
    rig.prepare(result.op, tree)
    unbinds = driver.unbinds
    with TraceSubscriber(rig.stack.endpoint) as trace:
        _just_asked(rig, trace, victim)
        driver.arm()
        with _stopped(pid) as go_on:
            stopped_at = time.monotonic()
            operations = rig.start(result.op, tree)
            rig.wait(lambda: all(o.done for o in operations), f"{result.op} was not completed")
            seconds = time.monotonic() - stopped_at
            rig.wait(lambda: driver.unbinds > unbinds, "the host was not unbound")
            rig.host.pump(timeout=rig.rng.uniform(0.0, 0.3))
            trace.read(0.0)
            go_on()
            rig.wait(lambda: driver.can_offload, "the chimney did not come back")
        result.recovery = time.monotonic() - stopped_at
        for event in _read(rig, trace):
            if event["event"] == "stale" and event["driver"] == victim and event["epoch"] == epoch:
                result.stale[event["call"]] += 1
    assert driver.sign is not None
    result.notice = driver.sign - stopped_at
    _note(result, operations)
    problems = result.problems
    if seconds > hang_limit + grace:
        problems.append(f"failed after {seconds:.2f} s, the limit is {hang_limit:g} s and {grace:g} s")
    if result.notice < _NEARLY * hang_limit:
        problems.append(f"failed after {result.notice:.2f} s, before the limit of {hang_limit:g} s")
    if any(o.succeeded for o in operations):
        problems.append("an operation succeeded although the process that does it was stopped")
    again = rig.process(victim)
    if again[0] != pid or again[1] <= epoch:
        problems.append(f"{victim} is back as pid {again[0]}, epoch {again[1]}; it was {pid}, {epoch}")
    if not result.stale:
        problems.append(f"{victim} went on, but none of what it sent under its old epoch was refused")
    if victim == "target" and not any(call in _COMPLETIONS for call in result.stale):
        problems.append(f"no completion of the old epoch was refused, only {dict(result.stale)}")


def _just_asked(rig: Rig, trace: TraceSubscriber, victim: str) -> None:
    """Wait until the victim was asked whether it hangs, and has answered.

    Stopped then, the first thing it finds when it goes on is the request that is made now.
    """
    while rig.left():
        rig.host.pump(timeout=0.01)
        events = trace.read(0.0) or ()
        if any(e.get("call") == "MiniportCheckForHangEx" and e["to"] == victim for e in events):
            rig.host.pump(timeout=_QUIET)
            return
    raise TortureError(f"{victim} was not asked whether it hangs within {rig.limit:g} s")


def _read(rig: Rig, trace: TraceSubscriber) -> Iterator[dict[str, Any]]:
    """Everything that was traced so far: what was asked of the bus is answered after it was published."""
    rig.ps()
    while events := trace.read(0.05):
        yield from events


def _epochs(rig: Rig) -> dict[str, int]:
    return {p["Name"]: p["Epoch"] for p in rig.ps()["Processes"]}


def _note(result: Round, operations: list[Operation]) -> None:
    result.problems += check_statuses(operations)
    for o in operations:
        result.statuses.update(o.counts())
