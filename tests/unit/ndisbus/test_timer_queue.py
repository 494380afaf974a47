"""The timer queue against a sorted list, and the bound on what is out of date."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ndisbus.timer_queue import Timer, TimerQueue

SLACK = 64

#: Few times, so that many timers are due at the same one.
TIMES = st.integers(0, 6).map(float)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), TIMES),
        st.tuples(st.just("reschedule"), TIMES, st.integers(0, 50)),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("run"), TIMES),
        st.tuples(st.just("clear")),
    ),
    max_size=60,
)


@given(OPERATIONS)
def test_it_agrees_with_a_sorted_list(operations: list[tuple[str, float, int]]) -> None:
    queue: TimerQueue[int] = TimerQueue()
    timers: list[Timer[int]] = []
    #: (time, order of the last push or reschedule, item): the model.
    model: list[tuple[float, int, int]] = []
    for order, (what, *arguments) in enumerate(operations):
        if what == "push":
            timers.append(queue.push(arguments[0], len(timers)))
            model.append((arguments[0], order, timers[-1].item))
        elif what in ("reschedule", "cancel") and timers:
            timer = timers[int(arguments[-1]) % len(timers)]
            model = [entry for entry in model if entry[2] != timer.item]
            if what == "cancel":
                queue.cancel(timer)
            else:
                queue.reschedule(timer, arguments[0])
                model.append((arguments[0], order, timer.item))
        elif what == "run":
            model.sort()
            expected = [item for at, _, item in model if at <= arguments[0]]
            assert list(queue.due(arguments[0])) == expected
            model = [entry for entry in model if entry[0] > arguments[0]]
        elif what == "clear":
            queue.clear()
            model = []
        assert len(queue) == len(model)
        assert queue.next_deadline() == min((at for at, _, _ in model), default=None)
        running = {item: at for at, _, item in model}
        assert [t.at for t in timers] == [running.get(t.item) for t in timers]
        assert queue.entries <= 2 * len(queue) + SLACK


def test_equal_times_come_in_the_order_of_pushing() -> None:
    queue: TimerQueue[str] = TimerQueue()
    first = queue.push(2.0, "put off and brought back")
    queue.push(2.0, "b")
    queue.push(1.0, "a")
    queue.push(2.0, "c")
    queue.reschedule(first, 5.0)
    queue.reschedule(first, 2.0)
    assert list(queue.due(2.0)) == ["a", "b", "c", "put off and brought back"]


def test_what_is_pushed_while_the_due_are_taken_out_follows_if_it_is_due() -> None:
    queue: TimerQueue[int] = TimerQueue()
    queue.push(1.0, 1)
    last = queue.push(3.0, 3)
    seen = []
    for item in queue.due(4.0):
        seen.append(item)
        if item == 1:
            queue.push(2.0, 2)
            queue.push(5.0, 5)
            queue.cancel(last)
    assert seen == [1, 2]
    assert queue.next_deadline() == 5.0


def test_a_timer_that_has_run_can_be_started_again() -> None:
    queue: TimerQueue[str] = TimerQueue()
    timer = queue.push(1.0, "x")
    assert queue.pop(0.5) is None
    assert queue.pop(1.0) is timer
    assert timer.at is None
    queue.cancel(timer)
    assert len(queue) == 0
    queue.reschedule(timer, 2.0)
    assert queue.pop(2.0) is timer


def test_putting_a_timer_off_costs_no_entry() -> None:
    queue: TimerQueue[None] = TimerQueue()
    timer = queue.push(1.0, None)
    for at in range(2, 500):
        queue.reschedule(timer, float(at))
    assert queue.entries == 1
    assert queue.next_deadline() == 499.0


def test_cancelled_and_replaced_entries_do_not_accumulate() -> None:
    queue: TimerQueue[int] = TimerQueue()
    far = [queue.push(7200.0, i) for i in range(20)]
    for now in range(2000):
        for timer in far:
            queue.reschedule(timer, now + 0.5)  # brought forward: an entry is left behind
        for timer in far:
            queue.reschedule(timer, 7200.0)
        assert queue.pop(now + 0.75) is None
        queue.cancel(queue.push(9000.0, -1))
        assert queue.entries <= 2 * len(queue) + SLACK
    for timer in far:
        queue.cancel(timer)
    assert queue.entries <= SLACK


def test_stopping_a_timer_and_starting_it_again_costs_no_entry() -> None:
    queue: TimerQueue[None] = TimerQueue()
    timer = queue.push(1.0, None)
    for at in range(2, 500):
        queue.cancel(timer)
        assert (len(queue), queue.pop(0.5)) == (0, None)
        queue.reschedule(timer, float(at))
    assert (len(queue), queue.entries) == (1, 1)
    assert queue.next_deadline() == 499.0
