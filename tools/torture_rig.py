"""What every kind of torture needs: a host on a stack, a deadline, operations to start, checks."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from hoststack.api.host import Host
from hoststack.model.operation import Operation
from ndisbus.errors import ChimneyError
from tools.torture_host import Books, CountingHost, Tree, attach, offload_and_check, terminate_and_check
from tools.torture_stack import RealStack, TortureError, leftovers

__all__ = ["MOMENTS", "OPERATIONS", "Rig", "Round", "deck", "outstanding_at"]

OPERATIONS: Final = ("initiate", "query", "update", "relink", "invalidate", "terminate")
#: Before the call; while the victim holds the request; on its completion; whenever it happens to be.
MOMENTS: Final = ("before", "during", "after", "race")
#: Shortest and longest time from the call to the kill in a race (seconds), on a logarithmic scale: the
#: shorter ones fall among the messages on their way down, the longer ones among the completions.
_RACE: Final = (30e-6, 12e-3)
_CLASSES: Final = ("const", "cached", "delegated", "whole")


@dataclass
class Round:
    """One round and what came of it. ``victim``: who was killed or stalled; times in seconds.

    ``notice``: from the signal to the first sign of it at the host; ``recovery``: until the host could
    offload again.
    """

    number: int
    victim: str
    op: str
    moment: str
    requests: int = 0
    completions: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    notice: float | None = None
    recovery: float | None = None
    stale: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``; times in milliseconds."""
        return {
            "round": self.number,
            "victim": self.victim,
            "operation": self.op,
            "moment": self.moment,
            "requests": self.requests,
            "completions": self.completions,
            "statuses": dict(self.statuses),
            "notice_ms": None if self.notice is None else round(self.notice * 1e3, 3),
            "recovery_ms": None if self.recovery is None else round(self.recovery * 1e3, 1),
            "refused_late": dict(self.stale),
            "problems": self.problems,
        }


def deck(rng: random.Random, *columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every combination of one value from each column, in an order of its own each time round."""
    cards: list[tuple[str, ...]] = [()]
    for column in columns:
        cards = [(*card, value) for card in cards for value in column]
    while True:
        rng.shuffle(cards)
        yield from cards


def outstanding_at(survey: dict[str, Any], driver: str) -> int:
    """Requests that a driver's adapters have been given and have not completed."""
    return sum(int(a["Outstanding"]) for a in survey["Adapters"] if a["Driver"] == driver)


class Rig:
    """A counting host on ``stack``. ``limit``: seconds that a round may take before it counts as a hang.

    ``survivors`` are the processes that are never harmed: they keep their pids, and do not grow.
    """

    def __init__(
        self,
        stack: RealStack,
        seed: int,
        *,
        name: str = "tortured",
        bind: str = "auto",
        connections: int = 4,
        limit: float = 20.0,
        survivors: tuple[str, ...] = (),
    ) -> None:
        self.stack = stack
        self.rng = random.Random(seed)
        self.connections = connections
        self.limit = limit
        self.books = Books()
        self.host: Host
        self.driver: CountingHost
        self.host, self.driver = attach(name, stack.endpoint, bind=bind)
        self._until = time.monotonic() + limit
        self._pids = {n: self.pid(n) for n in survivors}
        self._known: dict[tuple[str, str], int] = {}

    def close(self) -> None:
        """Leave the bus. To be done before the stack is stopped."""
        self.host.close()

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- rounds --------------------------------------------------------------------------------

    def play(self, result: Round, action: Callable[[Round, Tree], None]) -> Round:
        """Play a round: run ``action``, then everything must be as it was at the start.

        What is wrong is in the round's ``problems``. :class:`TortureError` for a hang and for what makes
        going on useless, with a survey of the stack.
        """
        self._until = time.monotonic() + self.limit
        books = self.driver.books = Books()
        tree = Tree(self.rng, self.rng.randint(1, self.connections))
        tree.write(self.host)
        try:
            action(result, tree)
            self.wait(lambda: self.driver.can_offload, "the chimney did not come back")
            self.wait(lambda: not self.driver.held(), "the host still holds something")
            offload_and_check(self.host, tree, self.left())
            terminate_and_check(self.host, tree, self.left())
            result.problems += tree.check_data()
            result.problems += self._check_books(books)
            result.problems += self._settled()
        except ChimneyError as e:
            what = f"round {result.number}, {result.victim}, {result.op}, {result.moment}"
            raise TortureError(f"{what}: {e}\n{self._dump()}") from e
        finally:
            self.books.add(books)
        result.requests, result.completions = books.requests.total(), books.completions.total()
        return result

    def strike(self, result: Round, tree: Tree, victim: int, holder: str) -> tuple[list[Operation], float]:
        """The operation, and the end of the process ``victim``, in the order that the moment says.

        For "during" and "beyond" the driver ``holder``, the victim or one below it, is stopped, so that it
        keeps the requests until the kill. Returns the operations, and when the kill was.
        """
        op, moment, rng = result.op, result.moment, self.rng
        killed_at = 0.0

        def kill() -> None:
            nonlocal killed_at
            if not killed_at:
                self.driver.arm()
                killed_at = time.monotonic()
                os.kill(victim, signal.SIGKILL)

        if moment == "before":
            kill()
            return self.start(op, tree), killed_at
        if moment in ("during", "beyond"):
            before = outstanding_at(self.ps(), holder)
            held = self.pid(holder)
            os.kill(held, signal.SIGSTOP)
            try:
                operations = self.start(op, tree)
                self.wait_held(holder, before + len(self.driver.pending))
                kill()
            finally:
                if held != victim or not killed_at:
                    os.kill(held, signal.SIGCONT)
            return operations, killed_at
        operations = self.start(op, tree)
        if moment == "after":
            self._on_completion(operations, kill)
            self.wait(lambda: killed_at, f"{op} was not completed")
            return operations, killed_at
        at = time.monotonic() + math.exp(rng.uniform(*map(math.log, _RACE)))
        reading = rng.random() < 0.5
        while time.monotonic() < at:
            if reading:
                self.host.pump(timeout=0.0)
        kill()
        return operations, killed_at

    def _on_completion(self, operations: list[Operation], action: Callable[[], None]) -> None:
        """Act within the completion of the first operation, or of the last."""
        left = 1 if self.rng.random() < 0.5 else len(operations)

        def completed(_: Operation) -> None:
            nonlocal left
            left -= 1
            if not left:
                action()

        for o in operations:
            o.when_done(completed)

    def wait_held(self, holder: str, count: int) -> None:
        """Wait until ``ps`` shows that so many requests are in a driver's hands."""
        self.wait_ps(
            lambda ps: outstanding_at(ps, holder) >= count, f"{holder} was not given {count} requests"
        )

    # -- operations ----------------------------------------------------------------------------

    def prepare(self, op: str, tree: Tree) -> None:
        """Have below what the operation is about."""
        if op == "initiate":
            return
        objects = [*tree.tcbs, tree.spare] if op == "relink" else tree.tcbs
        done = self.host.offload(objects, timeout=self.left())
        if not done.succeeded:
            raise TortureError(f"offload: {done.refused or done.counts()}")
        tree.post(self.host)

    def start(self, op: str, tree: Tree) -> list[Operation]:
        """Several requests of one kind, with some that have to wait for others."""
        host, rng = self.host, self.rng
        paths, near = tree.of(tree.near)
        far_paths, far = tree.of(tree.far)
        half = len(near) // 2
        match op:
            case "initiate":
                return [host.offload(g, wait=False) for g in (near[:half], near[half:], far) if g]
            case "query":
                everything = [tree.near, tree.far, *tree.paths, *tree.tcbs]
                whole = host.query(everything, rng.choice(_CLASSES), wait=False)
                return [whole] + [host.query([t], rng.choice(_CLASSES), wait=False) for t in tree.tcbs]
            case "update":
                groups = (near, far, [*paths, *far_paths], [tree.near], [tree.far])
                return [host.update(g, wait=False) for g in groups]
            case "relink":
                return [host.relink(paths, tree.spare, wait=False), host.update(far, wait=False)]
            case "invalidate":
                choices = (([tree.near], far_paths), (near, far), (paths, [tree.far]))
                return [host.invalidate(g, wait=False) for g in rng.choice(choices)]
            case "terminate":
                operations = [host.terminate(near, wait=False), host.terminate(far, idle=True, wait=False)]
                # These wait until nothing depends on them any more.
                return [*operations, host.terminate([tree.near, *paths], wait=False)]
        raise TortureError(f"there is no operation {op!r}")

    # -- checks --------------------------------------------------------------------------------

    def _check_books(self, books: Books) -> list[str]:
        problems = list(books.wrong)
        if books.outstanding:
            problems.append(f"never completed: {sorted(books.outstanding.values())}")
        if books.requests != books.completions:
            problems.append(f"{dict(books.requests)} requests, {dict(books.completions)} completions")
        return problems

    def _settled(self) -> list[str]:
        """:meth:`check_stack` until it finds nothing, or the round's time is over.

        A descriptor of a process that just left is closed a moment later, and a driver on a busy machine
        answers the next survey; a leak stays.
        """
        while (problems := self.check_stack()) and self.left():
            self.host.pump(timeout=0.05)
        return problems

    def check_stack(self) -> list[str]:
        """Check that no driver holds anything, that none but the victim died, and that none has grown."""
        survey = self.ps()
        problems = [f"left over: {count} {what}" for what, count in leftovers(survey).items()]
        problems += self.stack.check_honcho()
        for name, pid in self._pids.items():
            try:
                self._grown(problems, name, "descriptors", psutil.Process(pid).num_fds())
            except psutil.NoSuchProcess:
                problems.append(f"{name} (pid {pid}) is gone")
        for p in survey["Processes"]:
            if self._pids.get(p["Name"], p["Pid"]) != p["Pid"]:
                problems.append(f"{p['Name']} changed, it is now pid {p['Pid']}")
            if p["State"] == "ready":
                self._grown(problems, p["Name"], "heap objects", p["Heap"])
        return problems

    def forget(self) -> None:
        """Forget the sizes of processes, so that the next check compares none."""
        self._known.clear()

    def _grown(self, problems: list[str], name: str, what: str, count: int) -> None:
        known = self._known.setdefault((name, what), count)
        if count > known:
            problems.append(f"{name} has {count} {what}, after the first round it had {known}")

    # -- tools ---------------------------------------------------------------------------------

    def left(self) -> float:
        """Seconds until the round counts as a hang."""
        return max(0.0, self._until - time.monotonic())

    def wait(self, condition: Callable[[], object], otherwise: str) -> None:
        """Move messages until a condition holds. :class:`TortureError` when the round's time is over."""
        if not self.host.pump(lambda: bool(condition()), self.left()):
            raise TortureError(f"{otherwise} within {self.limit:g} s")

    def ps(self) -> dict[str, Any]:
        """A survey over the host's own connection: the host moves messages meanwhile."""
        return self.host.control("ps")

    def wait_ps(self, condition: Callable[[dict[str, Any]], bool], otherwise: str) -> dict[str, Any]:
        """The first survey for which a condition holds. Raises TortureError when the round ends."""
        while not condition(survey := self.ps()):
            if not self.left():
                raise TortureError(f"{otherwise} within {self.limit:g} s")
        return survey

    def process(self, name: str) -> tuple[int, int]:
        """Pid and epoch of a driver."""
        for p in self.ps()["Processes"]:
            if p["Name"] == name:
                return int(p["Pid"]), int(p["Epoch"])
        raise TortureError(f"{name} is not on the bus")

    def pid(self, name: str) -> int:
        """Pid of a driver, or of the bus."""
        return self.stack.pid("bus") if name == "bus" else self.process(name)[0]

    def _dump(self) -> str:
        d = self.driver
        return f"host: {d.inspect()}, outstanding {d.books.outstanding}, {d.books.wrong}\n{self.stack.dump()}"
