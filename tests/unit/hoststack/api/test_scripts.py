"""Scripts without any I/O: who is moved on, when, and what callers are told."""

from __future__ import annotations

import math
from concurrent.futures import Future

import pytest

from hoststack.api.scripts import Script, Scripts, Wait, drive, once, until


class Box:
    """Something that scripts put things into and take things out of."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.closed: list[str] = []

    def take(self, seconds: float | None = None, name: str = "") -> Script[int]:
        """Take an item; TimeoutError if none comes in time. A script that is closed says so."""
        try:
            while not self.items:
                if not (yield Wait(lambda: self.items, seconds)):
                    raise TimeoutError(name)
            return self.items.pop(0)
        except GeneratorExit:
            self.closed.append(name)
            raise


def started(scripts: Scripts, script: Script[int], now: float = 0.0) -> Future[int]:
    future: Future[int] = Future()
    scripts.start(script, future, now)
    return future


def test_a_script_that_need_not_wait_is_over_at_once() -> None:
    scripts, box = Scripts(), Box()
    box.items = [3]
    assert started(scripts, box.take()).result(0) == 3
    assert started(scripts, once(lambda: 4)).result(0) == 4
    with pytest.raises(ZeroDivisionError):
        started(scripts, once(lambda: 1 // 0)).result(0)
    assert len(scripts) == 0


def test_of_two_that_wait_for_one_item_one_gets_it() -> None:
    scripts, box = Scripts(), Box()
    first, second = started(scripts, box.take()), started(scripts, box.take())
    box.items = [1]
    scripts.turn(0.0)
    assert (first.result(0), second.done()) == (1, False)
    box.items = [2]
    scripts.turn(0.0)
    assert second.result(0) == 2


def test_what_one_script_does_is_seen_by_those_that_wait_before_it() -> None:
    scripts, box = Scripts(), Box()
    taker = started(scripts, box.take())
    go: list[bool] = []

    def put() -> Script[int]:
        yield Wait(lambda: go)
        box.items.append(7)
        return 0

    started(scripts, put())
    go.append(True)
    scripts.turn(0.0)
    assert taker.result(0) == 7


def test_deadlines() -> None:
    scripts, box = Scripts(), Box()
    assert scripts.next_deadline() == math.inf
    late, patient = started(scripts, box.take(2.0, "late"), 10.0), started(scripts, box.take(), 10.0)
    assert scripts.next_deadline() == 12.0
    scripts.turn(11.9)
    assert not late.done()
    scripts.turn(12.0)
    with pytest.raises(TimeoutError, match="late"):
        late.result(0)
    assert scripts.next_deadline() == math.inf
    assert not patient.done()


def test_a_caller_that_gives_up_has_its_script_closed() -> None:
    scripts, box = Scripts(), Box()
    future = started(scripts, box.take(None, "given up"))
    scripts.cancel(future)
    scripts.cancel(future)
    assert box.closed == ["given up"]
    box.items = [1]
    scripts.turn(0.0)
    assert (box.items, len(scripts)) == ([1], 0)


def test_when_the_loop_ends_all_are_told() -> None:
    scripts, box = Scripts(), Box()
    futures = [started(scripts, box.take(None, str(i))) for i in range(3)]
    scripts.fail(OSError("over"))
    for future in futures:
        with pytest.raises(OSError, match="over"):
            future.result(0)
    assert box.closed == ["0", "1", "2"]


def test_a_condition_that_raises_is_its_own_callers_matter() -> None:
    scripts, box = Scripts(), Box()
    wrong: Future[bool] = Future()
    scripts.start(until(lambda: 1 // len(box.items), None), wrong, 0.0)
    right = started(scripts, box.take())
    scripts.turn(0.0)
    with pytest.raises(ZeroDivisionError):
        wrong.result(0)
    box.items = [1]
    scripts.turn(0.0)
    assert right.result(0) == 1


def test_driving_in_the_callers_own_loop_and_being_interrupted_there() -> None:
    box = Box()

    def comes(condition: object, seconds: float) -> bool:
        assert seconds == math.inf
        box.items.append(5)
        return True

    def interrupted(condition: object, seconds: float) -> bool:
        assert seconds == 3.0
        raise KeyboardInterrupt

    assert drive(box.take(), comes) == 5
    with pytest.raises(KeyboardInterrupt):
        drive(box.take(3.0, "interrupted"), interrupted)
    assert box.closed == ["interrupted"]
    with pytest.raises(TimeoutError):
        drive(box.take(3.0), lambda _condition, _seconds: False)


def test_what_a_caller_raises_to_end_its_thread_is_for_that_caller_only() -> None:
    """SystemExit and its like are no errors of the loop that runs the scripts."""

    def leave() -> bool:
        raise SystemExit(3)

    scripts, box = Scripts(), Box()
    other = started(scripts, box.take())
    acting: Future[bool] = Future()
    scripts.start(once(leave), acting, 0.0)
    waiting: Future[bool] = Future()
    scripts.start(until(leave, None), waiting, 0.0)
    scripts.turn(0.0)
    for future in (acting, waiting):
        with pytest.raises(SystemExit):
            future.result(0)
    box.items = [1]
    scripts.turn(0.0)
    assert other.result(0) == 1


def test_a_script_that_cannot_undo_what_it_began_keeps_nobody_waiting() -> None:
    def stubborn() -> Script[int]:
        try:
            yield Wait(lambda: False)
        except GeneratorExit:
            raise ZeroDivisionError from None
        return 0

    scripts, box = Scripts(), Box()
    first, second = started(scripts, stubborn()), started(scripts, box.take())
    scripts.fail(RuntimeError("the loop has ended"))
    assert type(first.exception(0)) is ZeroDivisionError
    assert type(second.exception(0)) is RuntimeError
