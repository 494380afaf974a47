"""The timers of a stack: deadlines that move, in order."""

from __future__ import annotations

import random

from hoststack.net.timers import WAKES, StackTimers, Timed


class Alarm(Timed):
    def __init__(self, due: float | None = None) -> None:
        self.queued = None
        self.due = due
        self.rung: list[float] = []
        self.again: float | None = None

    def deadline(self) -> float | None:
        return self.due

    def on_timer(self, now: float) -> None:
        self.rung.append(now)
        self.due = None if self.again is None else now + self.again


def test_what_is_due_is_woken_once_and_in_order() -> None:
    queue = StackTimers()
    order: list[float] = []

    class Noting(Alarm):
        def on_timer(self, now: float) -> None:
            assert self.due is not None
            order.append(self.due)
            super().on_timer(now)

    alarms = [Noting(t) for t in (5.0, 1.0, 3.0, 9.0)]
    for alarm in alarms:
        queue.refresh(alarm)
    assert queue.next_deadline() == 1.0
    assert queue.run(5.0) == 3
    assert order == [1.0, 3.0, 5.0]
    assert queue.run(5.0) == 0
    assert queue.next_deadline() == 9.0


def test_a_deadline_put_off_need_not_be_announced() -> None:
    queue = StackTimers()
    alarm = Alarm(1.0)
    queue.refresh(alarm)
    for due in range(2, 500):
        alarm.due = float(due)
    assert len(queue) == 1
    assert queue.run(498.0) == 0
    assert queue.next_deadline() == 499.0
    assert queue.run(499.0) == 1


def test_a_deadline_brought_forward_counts_and_the_old_one_does_not() -> None:
    queue = StackTimers()
    alarm = Alarm(10.0)
    queue.refresh(alarm)
    alarm.due = 2.0
    queue.refresh(alarm)
    assert queue.next_deadline() == 2.0
    assert queue.run(2.0) == 1
    assert queue.next_deadline() is None
    assert queue.run(20.0) == 0
    assert alarm.rung == [2.0]


def test_what_wants_no_timer_any_more_is_not_woken() -> None:
    queue = StackTimers()
    stopped, dropped = Alarm(1.0), Alarm(1.0)
    queue.refresh(stopped)
    queue.refresh(dropped)
    stopped.due = None
    queue.drop(dropped)
    assert queue.next_deadline() is None
    assert queue.run(5.0) == 0
    assert not stopped.rung
    assert not dropped.rung


def test_an_item_may_set_itself_again() -> None:
    queue = StackTimers()
    alarm = Alarm(1.0)
    alarm.again = 2.0
    queue.refresh(alarm)
    for now in (1.0, 3.0, 5.0):
        assert queue.next_deadline() == now
        assert queue.run(now) == 1
    assert alarm.rung == [1.0, 3.0, 5.0]


def test_a_random_life_agrees_with_a_plain_list() -> None:
    rng = random.Random(3)
    queue = StackTimers()
    alarms = [Alarm() for _ in range(30)]
    now = 0.0
    for _ in range(3000):
        alarm = rng.choice(alarms)
        alarm.due = None if rng.random() < 0.2 else now + rng.random() * 10
        if rng.random() < 0.1:
            queue.drop(alarm)
            alarm.due = None
        queue.refresh(alarm)
        expected = min((a.due for a in alarms if a.due is not None), default=None)
        assert queue.next_deadline() == expected
        if rng.random() < 0.3:
            now += rng.random()
            due = sum(a.due is not None and a.due <= now for a in alarms)
            assert queue.run(now) == due


def test_a_crowd_of_timers_is_woken_in_portions() -> None:
    timers = StackTimers()
    alarms = [Alarm(1.0) for _ in range(WAKES + 100)]
    for alarm in alarms:
        timers.refresh(alarm)
    assert timers.run(1.0) == WAKES
    assert timers.next_deadline() == 1.0
    assert timers.run(1.0) == 100
