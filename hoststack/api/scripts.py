"""What a host does for its caller, written once for every way to wait.

A script is a generator. It acts on the driver and the stack, yields a :class:`Wait` where it needs something
to happen first, and is sent whether that happened in time. It never waits itself. A runner decides who does:
:func:`drive` waits in the caller's thread, :class:`Scripts` keeps any number of scripts for a loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

__all__ = ["Outcome", "Script", "Scripts", "Wait", "drive", "once", "until"]

T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class Wait:
    """Wait until ``condition()`` is true, for ``seconds`` at most (None: as long as it takes)."""

    condition: Callable[[], object]
    seconds: float | None = None


#: Yields what it waits for, is sent whether it came in time, and returns its result.
Script: TypeAlias = Generator[Wait, bool, T]


def once(action: Callable[[], T]) -> Script[T]:
    """A script that only acts."""
    yield from ()
    return action()


def until(condition: Callable[[], object], seconds: float | None) -> Script[bool]:
    """A script that only waits; returns whether the condition held in time."""
    return (yield Wait(condition, seconds))


def drive(script: Script[T], run_until: Callable[[Callable[[], object], float], bool]) -> T:
    """Run a script to its end where ``run_until(condition, seconds)`` does the waiting.

    An exception that interrupts the waiting closes the script, which then undoes what it began.
    """
    try:
        wait = next(script)
        while True:
            held = run_until(wait.condition, math.inf if wait.seconds is None else wait.seconds)
            wait = script.send(held)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        script.close()


def _closed(script: Script[Any], error: BaseException) -> BaseException:
    """Close a script that ``error`` ends. Returns what its caller is told: that undoing failed, or that."""
    try:
        script.close()
    except BaseException as e:
        return e
    return error


class Outcome(Protocol):
    """Where the result of a script goes; futures of ``concurrent.futures`` and ``asyncio`` are such."""

    def set_result(self, result: Any, /) -> None:
        """The script returned."""

    def set_exception(self, exception: BaseException, /) -> None:
        """The script raised, or the loop that moved it did."""

    def done(self) -> bool:
        """Whether the caller has given up, or has its result."""


@dataclass(slots=True, eq=False)
class _Running:
    script: Script[Any]
    outcome: Outcome
    condition: Callable[[], object]
    end: float


class Scripts:
    """Scripts of any number of callers, moved on by one loop. All calls come from that loop's thread."""

    def __init__(self) -> None:
        self._running: dict[_Running, None] = {}

    def __len__(self) -> int:
        """Scripts that wait."""
        return len(self._running)

    def start(self, script: Script[T], outcome: Outcome, now: float) -> None:
        """Run a script up to its first wait."""
        self._advance(_Running(script, outcome, bool, now), None, now)

    def turn(self, now: float) -> None:
        """Move on every script whose condition holds or whose time is over.

        One script may fulfil the condition of another, so this repeats until none moves.
        """
        moved = True
        while moved:
            moved = False
            for running in list(self._running):
                if running not in self._running:
                    continue  # cancelled by one that was moved on just now
                try:
                    held = bool(running.condition())
                except BaseException as e:
                    del self._running[running]
                    self._fail(running.outcome, _closed(running.script, e))
                    continue
                if held or now >= running.end:
                    del self._running[running]
                    self._advance(running, held, now)
                    moved = True

    def next_deadline(self) -> float:
        """When the first wait is over; infinite if none has an end."""
        return min((r.end for r in self._running), default=math.inf)

    def cancel(self, outcome: Outcome) -> None:
        """Close the script whose caller has given up."""
        for running in self._running:
            if running.outcome is outcome:
                del self._running[running]
                running.script.close()
                return

    def fail(self, error: BaseException) -> None:
        """The loop ends: every caller that still waits is told why."""
        running, self._running = self._running, {}
        for r in running:
            self._fail(r.outcome, _closed(r.script, error))

    def _advance(self, running: _Running, held: bool | None, now: float) -> None:
        script, outcome = running.script, running.outcome
        try:
            wait = next(script) if held is None else script.send(held)
        except StopIteration as stop:
            if not outcome.done():
                outcome.set_result(stop.value)
        except BaseException as e:  # also SystemExit: it is for the caller, who is in a thread of its own
            self._fail(outcome, e)
        else:
            running.condition = wait.condition
            running.end = math.inf if wait.seconds is None else now + wait.seconds
            self._running[running] = None

    @staticmethod
    def _fail(outcome: Outcome, error: BaseException) -> None:
        if not outcome.done():
            outcome.set_exception(error)
