"""kill -9 of the intermediate driver, of a host and of the bus: the others survive, leak nothing, and go on.

The intermediate driver and the bus are killed around every operation, as the target is. A host is killed
while it starts, while it holds objects, with requests in the target's hands, and in mid-work, beside another
host that must not notice.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any, Final

from tools.torture_host import Tree, check_statuses
from tools.torture_kill import kill_round
from tools.torture_rig import OPERATIONS, Rig, Round, deck, outstanding_at
from tools.torture_stack import RealStack, TortureError
from tools.torture_worker import Worker

__all__ = ["HOST_MOMENTS", "MOMENTS", "VICTIMS", "bus_round", "host_round", "im_round", "neighbour_rounds"]

VICTIMS: Final = ("im", "host", "bus")
#: "beyond": the driver below has the requests, and gives them back to a driver that died meanwhile.
MOMENTS: Final = ("before", "during", "beyond", "after", "race")
HOST_MOMENTS: Final = ("starting", "idle", "during", "working")
#: The longest that a worker takes to start (seconds); it is killed somewhere before.
_START: Final = 0.8
_NAME: Final = "neighbour"


def neighbour_rounds(stack: RealStack, *, rounds: int, seed: int, connections: int = 4) -> Iterator[Round]:
    """Rounds against a stack, the victims in turn. Raises as :meth:`Rig.play` does."""
    rng = random.Random(seed)
    cards = deck(rng, OPERATIONS, MOMENTS)
    moments = deck(rng, HOST_MOMENTS)
    number = 0
    while number < rounds:
        # Each victim has its own rig: they differ in which processes must survive.
        for victim in VICTIMS:
            others = tuple(n for n in ("bus", "target", "im") if n != victim)
            with Rig(stack, seed + number, connections=connections, survivors=others) as rig:
                for _ in range(4):
                    if number == rounds:
                        return
                    if victim == "host":
                        yield host_round(rig, Round(number, victim, "-", next(moments)[0]))
                    else:
                        op, moment = next(cards)
                        make = im_round if victim == "im" else bus_round
                        yield make(rig, Round(number, victim, op, moment))
                    number += 1


# --- the intermediate driver ---------------------------------------------------------------------


def im_round(rig: Rig, result: Round) -> Round:
    """One round of killing the intermediate driver. Raises as :meth:`Rig.play` does."""
    return kill_round(rig, result)


# --- the bus -------------------------------------------------------------------------------------


def bus_round(rig: Rig, result: Round) -> Round:
    """One round of killing the bus. Raises as :meth:`Rig.play` does."""
    return rig.play(result, lambda result, tree: _bus(rig, result, tree))


def _bus(rig: Rig, result: Round, tree: Tree) -> None:
    driver = rig.driver
    pid = rig.pid("bus")
    rig.prepare(result.op, tree)
    unbinds = driver.unbinds
    holder = "target" if result.moment == "beyond" else "im"
    operations, killed_at = rig.strike(result, tree, pid, holder)
    rig.wait(lambda: driver.sign is not None, "the host did not notice the death of the bus")
    assert driver.sign is not None
    result.notice = driver.sign - killed_at
    rig.wait(lambda: all(o.done for o in operations), f"{result.op} was not completed")
    rig.wait(lambda: driver.unbinds > unbinds, "the host was not unbound")
    if driver.held() or driver.pending or driver.posted:
        result.problems.append("the host, without a bus, still holds something")
    rig.wait(lambda: driver.can_offload, "the chimney did not come back")
    result.recovery = time.monotonic() - killed_at
    result.problems += check_statuses(operations)
    for o in operations:
        result.statuses.update(o.counts())
    if rig.pid("bus") == pid:
        result.problems.append(f"the bus is still pid {pid}")


# --- a host --------------------------------------------------------------------------------------


def host_round(rig: Rig, result: Round) -> Round:
    """One round of killing a host in a process of its own. Raises as :meth:`Rig.play` does.

    The rig's own host has a tree below all the while, and must not notice.
    """
    return rig.play(result, lambda result, tree: _host(rig, result, tree))


def _host(rig: Rig, result: Round, tree: Tree) -> None:
    rig.prepare("query", tree)
    # A driver that does not answer at once is listed without what it holds.
    survey = rig.wait_ps(
        lambda ps: all(p["State"] == "ready" for p in ps["Processes"]), "a process does not answer"
    )
    before, unbinds = _contexts(survey), rig.driver.unbinds
    moment, rng = result.moment, rig.rng
    with Worker(rig.stack, _NAME, rng.randrange(1 << 30)) as worker:
        if moment == "starting":
            rig.host.pump(timeout=rng.uniform(0.0, _START))
        else:
            _read(rig, worker)
            _die_at(rig, worker, moment)
        killed_at = time.monotonic()
        worker.kill()
    rig.wait_ps(lambda ps: not _there(ps), f"{_NAME} is still on the bus")
    rig.wait_ps(lambda ps: _contexts(ps) == before, f"what {_NAME} had offloaded was not freed")
    result.recovery = time.monotonic() - killed_at
    read = rig.host.query(tree.tcbs, timeout=rig.left())
    if not read.succeeded or rig.driver.unbinds != unbinds:
        result.problems.append(f"the other host was disturbed: {read.refused or read.counts()}")
    result.statuses.update(read.counts())
    with Worker(rig.stack, _NAME, rng.randrange(1 << 30)) as successor:
        _read(rig, successor)
        successor.tell("work 0.01")
        _read(rig, successor)
        successor.quit()
    rig.host.upload_everything(timeout=rig.left())


def _die_at(rig: Rig, worker: Worker, moment: str) -> None:
    """Bring the worker to its moment."""
    if moment == "working":
        worker.tell("work 60")
        rig.host.pump(timeout=rig.rng.uniform(0.0, 0.2))
        return
    worker.tell("hold")
    _read(rig, worker)
    if moment == "during":
        held = outstanding_at(rig.ps(), "target")
        target = rig.pid("target")
        os.kill(target, signal.SIGSTOP)
        try:
            worker.tell("operate")
            rig.wait_held("target", held + int(_read(rig, worker)["started"]))
            worker.kill()
        finally:
            os.kill(target, signal.SIGCONT)


def _read(rig: Rig, worker: Worker) -> dict[str, Any]:
    """A worker's answer; our own host goes on moving its messages meanwhile."""
    while not worker.answered():
        rig.host.pump(timeout=0.005)
        if not rig.left():
            raise TortureError(f"{worker.name}: no answer within {rig.limit:g} s")
    return worker.read()


def _there(survey: dict[str, Any]) -> bool:
    return any(p["Name"] == _NAME for p in survey["Processes"]) or any(
        b["Protocol"] == _NAME for b in survey["Bindings"]
    )


def _contexts(survey: dict[str, Any]) -> dict[str, int]:
    """What target and intermediate driver hold for the hosts above."""
    kept = ("tcp", "path", "neighbor", "offload_entries", "call_entries", "io_entries")
    return {
        f"{p['Name']}: {key}": count
        for p in survey["Processes"]
        if p["Kind"] != "protocol"
        for key, count in p["Counters"].items()
        if key in kept
    }
