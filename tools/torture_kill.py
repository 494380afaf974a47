"""kill -9 of the target before, during and after every operation.

A round offloads what its operation needs, kills the target at its moment, and then expects: everything
that was passed down comes back once, the target comes back under a new epoch, the same objects go down
again and up again, and in the end no driver holds anything.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Final

from tools.torture_host import Tree, check_statuses
from tools.torture_rig import MOMENTS, OPERATIONS, Rig, Round, deck
from tools.torture_stack import RealStack

__all__ = ["kill_round", "kill_rounds"]

_TARGET: Final = "target"


def kill_rounds(stack: RealStack, *, rounds: int, seed: int, connections: int = 4) -> Iterator[Round]:
    """Rounds against a stack, in an order that follows from the seed. Raises as :meth:`Rig.play` does."""
    cards = deck(random.Random(seed), OPERATIONS, MOMENTS)
    with Rig(stack, seed, connections=connections, survivors=("bus", "im")) as rig:
        for number, (op, moment) in zip(range(rounds), cards, strict=False):
            yield kill_round(rig, Round(number, _TARGET, op, moment))


def kill_round(rig: Rig, result: Round) -> Round:
    """One round, on a rig. Raises as :meth:`Rig.play` does."""
    return rig.play(result, lambda result, tree: _round(rig, result, tree))


def _round(rig: Rig, result: Round, tree: Tree) -> None:
    driver, victim = rig.driver, result.victim
    pid, epoch = rig.process(victim)
    rig.prepare(result.op, tree)
    unbinds = driver.unbinds
    holder = _TARGET if result.moment == "beyond" else victim
    operations, killed_at = rig.strike(result, tree, pid, holder)
    rig.wait(lambda: driver.sign is not None, f"the host did not notice the death of {victim}")
    assert driver.sign is not None
    result.notice = driver.sign - killed_at
    rig.wait(lambda: all(o.done for o in operations), f"{result.op} was not completed")
    rig.wait(lambda: driver.unbinds > unbinds, "the host was not unbound")
    if driver.held() or driver.pending or driver.posted:
        result.problems.append(f"the host, unbound, still holds something of the dead {victim}")
    rig.wait(lambda: driver.can_offload, "the chimney did not come back")
    result.recovery = time.monotonic() - killed_at
    result.problems += check_statuses(operations)
    for o in operations:
        result.statuses.update(o.counts())
    if driver.unbinds != unbinds + 1:
        result.problems.append(f"the host was unbound {driver.unbinds - unbinds} times")
    again = rig.process(victim)
    if again[0] == pid or again[1] <= epoch:
        result.problems.append(f"{victim} is back as pid {again[0]}, epoch {again[1]}; it was {pid}, {epoch}")
