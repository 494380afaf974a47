"""Several hosts at once: each on an adapter of its own, over one intermediate driver or two, with kills.

Each worker checks that what comes back is what it passed down, so a completion that reached the wrong host
shows twice: where it is missing, and where it was not expected. A host on an adapter whose chimney is taken
is told so, and follows the advice.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ndisbus.ddi.status import NdisStatus
from tools.torture_host import Tree, attach, offload_and_check, terminate_and_check
from tools.torture_rig import Round
from tools.torture_stack import RealStack, TortureError, leftovers, supervised, three_layers
from tools.torture_worker import Worker

__all__ = ["check_refused_host", "check_workers", "host_rounds", "stacked"]

#: Seconds that workers work, and the latest moment of a kill among them.
_WORK: Final = 2.0
_PATIENCE: Final = 20.0
#: A kill that interrupts no tree within this many seconds came between two trees.
_UNHIT: Final = 3.0


def stacked(*bus_options: str) -> dict[str, str]:
    """The three layers, and a second intermediate driver on top of the first."""
    upper = ("--name", "upper", "--bind", "im0-a", "--adapter", "im1-a", "--adapter", "im1-b")
    return three_layers(*bus_options) | {"upper": supervised("upper", "imdriver", *upper)}


def host_rounds(*, rounds: int, seed: int, connections: int = 4) -> Iterator[Round]:
    """Rounds on stacks of their own. Raises :class:`TortureError` for a hang."""
    rng = random.Random(seed)
    number = 0
    with RealStack(three_layers()) as stack:
        yield check_refused_host(stack, Round(number, "-", "refused host", "-"), rng)
        for _ in range(rounds):
            for victim in ("", "target", "im"):
                number += 1
                result = Round(number, victim or "-", "two hosts", "working")
                yield check_workers(stack, result, rng, [(None, "a"), (None, "b")], connections)
    with RealStack(stacked()) as stack:
        bindings = [("im1-a", "a"), ("im1-b", "b"), ("im0-b", "c")]
        for _ in range(rounds):
            for victim in ("", "target", "im", "upper"):
                number += 1
                result = Round(number, victim or "-", "stacked drivers", "working")
                yield check_workers(stack, result, rng, bindings, connections)


# --- hosts beside one another --------------------------------------------------------------------


def check_workers(
    stack: RealStack,
    result: Round,
    rng: random.Random,
    hosts: Sequence[tuple[str | None, str]],
    connections: int = 4,
    seconds: float = _WORK,
) -> Round:
    """Let workers work at once, (adapter or None for any, name) each, and kill ``result.victim`` meanwhile.

    ``result.statuses`` counts the trees that came through whole and those that a kill cut short.
    """
    with contextlib.ExitStack() as running:
        workers = []
        for adapter, name in hosts:
            worker = Worker(
                stack, name, rng.randrange(1 << 30), bind=adapter or "auto", connections=connections
            )
            workers.append(running.enter_context(worker))
        adapters = [w.attached()["adapter"] for w in workers]
        if len(set(adapters)) != len(workers):
            result.problems.append(f"the hosts share adapters: {adapters}")
        if result.victim == "-":
            for worker in workers:
                worker.tell(f"work {seconds}")
        else:
            _work_and_kill(stack, workers, result.victim, rng.uniform(0.2, 0.6) * seconds)
        for worker in workers:
            _account(result, worker)
        stack.wait_for(lambda ps: not leftovers(ps), "left over after the work")
        for worker in workers:
            worker.quit()
    result.problems += stack.check_honcho()
    if not result.statuses["whole"]:
        result.problems.append("no tree came through whole")
    if result.victim != "-" and not result.statuses["cut short"]:
        result.problems.append("the kill interrupted no tree")
    return result


def _work_and_kill(stack: RealStack, workers: Sequence[Worker], victim: str, delay: float) -> None:
    """Let them work, kill the victim meanwhile, and have them stop.

    A kill between two trees interrupts none of them: then the victim is killed again.
    """
    for worker in workers:
        worker.tell("work")
    for worker in workers:
        worker.read()  # its first tree came through
    cut = 0
    while not cut:
        stack.wait_for(lambda ps: any(p["Name"] == victim for p in ps["Processes"]), f"{victim} is not back")
        time.sleep(delay)  # the workers work by themselves
        os.kill(stack.pid(victim), signal.SIGKILL)
        until = time.monotonic() + _UNHIT
        while not cut and time.monotonic() < until:
            cut = sum(w.read()["broken"] for w in workers if w.answered())
            time.sleep(0.005)
    for worker in workers:
        worker.tell("enough")


def _account(result: Round, worker: Worker) -> None:
    """What a worker did and whether its books balance."""
    did = worker.read(_PATIENCE + _WORK)
    if result.victim != "-":
        # The line of "work" itself is the last but one, before the empty one of "enough".
        while following := worker.read(_PATIENCE + _WORK):
            did = following
    result.statuses.update({"whole": did["whole"], "cut short": did["broken"]})
    books = worker.ask("books")
    result.requests += sum(books["requests"].values())
    result.completions += sum(books["completions"].values())
    result.problems += [f"{worker.name}: {text}" for text in books["wrong"]]
    if books["requests"] != books["completions"]:
        result.problems.append(
            f"{worker.name}: {books['requests']} requests, {books['completions']} completions"
        )


# --- a second host on one adapter ----------------------------------------------------------------


def check_refused_host(stack: RealStack, result: Round, rng: random.Random) -> Round:
    """A second host on an adapter is told why it gets no chimney (R-OID-08) and how to get an adapter."""
    problems = result.problems
    with Worker(stack, "owner", rng.randrange(1 << 30)) as owner:
        adapter = owner.attached()["adapter"]
        owner.ask("hold")
        second, driver = attach("second", stack.endpoint, bind=adapter)
        with second:
            reason = driver.chimney.reason
            if driver.chimney.state != "refused" or driver.chimney.status != NdisStatus.OFFLOAD_POLICY:
                problems.append(f"the second host's chimney is {driver.chimney.state}")
            wanted = ("owner", f"pid {owner.pid}", "R-OID-08", 'bind "auto"', "ndisbus adapter add")
            problems += [f"the refusal does not say {w!r}: {reason}" for w in wanted if w not in reason]
            tree = Tree(rng, 2)
            refused = second.offload(tree.tcbs)
            if refused.succeeded or not refused.refused or "R-OID-08" not in refused.refused:
                problems.append(
                    f"an offload without a chimney ended with {refused.refused or refused.counts()}"
                )
            _follow_the_advice(stack, problems, rng)
            owner.quit()
            if not second.pump(lambda: driver.can_offload, _PATIENCE):
                problems.append("the second host did not get the chimney when its owner had left")
            else:
                offload_and_check(second, tree, _PATIENCE)
                terminate_and_check(second, tree, _PATIENCE)
            result.requests = driver.books.requests.total()
            result.completions = driver.books.completions.total()
    for example in ("examples/custom_host.py", "examples/bare_host.py"):
        done = stack.run(example)
        if done.returncode:
            problems.append(f"{example} ended with {done.returncode}: {done.stdout}{done.stderr}")
    stack.wait_for(lambda ps: not leftovers(ps), "left over after the hosts")
    return result


def _follow_the_advice(stack: RealStack, problems: list[str], rng: random.Random) -> None:
    """Both ways to get an adapter of its own for a host while the stack runs."""
    added = stack.run("-m", "ndisbus", "adapter", "add", "--json")
    if added.returncode:
        raise TortureError(f"ndisbus adapter add ended with {added.returncode}: {added.stderr}")
    name = json.loads(added.stdout)["Name"]
    for bind, expected in ((name, lambda got: got == name), ("auto", lambda got: got != name)):
        _use(stack, problems, rng, bind, expected)
    removed = stack.run("-m", "ndisbus", "adapter", "remove", name)
    if removed.returncode:
        problems.append(f"ndisbus adapter remove {name} ended with {removed.returncode}: {removed.stderr}")


def _use(
    stack: RealStack,
    problems: list[str],
    rng: random.Random,
    bind: str,
    expected: Callable[[Any], bool],
) -> None:
    host, driver = attach(f"third-{bind}", stack.endpoint, bind=bind)
    with host:
        adapter = driver.binding.adapter if driver.binding else None
        if driver.chimney.state != "enabled" or not expected(adapter):
            state = driver.chimney.state
            problems.append(
                f"bound with {bind!r} to {adapter}, its chimney is {state}: {driver.chimney.reason}"
            )
            return
        tree = Tree(rng, 2)
        offload_and_check(host, tree, _PATIENCE)
        terminate_and_check(host, tree, _PATIENCE)
