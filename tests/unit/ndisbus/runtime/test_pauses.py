"""The bus notices when it did not run itself."""

from __future__ import annotations

from ndisbus.runtime.pauses import PauseWatch


class Clocks:
    """Two clocks that a test moves."""

    def __init__(self) -> None:
        self.wall = 50.0
        self.cpu = 3.0

    def watch(self) -> PauseWatch:
        return PauseWatch(lambda: self.wall, lambda: self.cpu)

    def work(self, seconds: float) -> None:
        self.wall += seconds
        self.cpu += seconds


def test_work_is_not_a_pause_and_neither_is_a_wait() -> None:
    clocks = Clocks()
    watch = clocks.watch()
    for _ in range(3):
        clocks.work(5.0)
        watch.waits(0.5)
        clocks.wall += 0.5
        assert watch.waited() == (clocks.wall, 0.0)


def test_a_wait_that_ends_late_is_a_pause() -> None:
    clocks = Clocks()
    watch = clocks.watch()
    watch.waits(0.5)
    clocks.wall += 2.5
    assert watch.waited() == (clocks.wall, 2.0)


def test_a_turn_without_work_is_a_pause() -> None:
    """It was stopped in the middle of a handler."""
    clocks = Clocks()
    watch = clocks.watch()
    clocks.work(1.0)
    clocks.wall += 4.0
    watch.waits(0.0)
    assert watch.waited() == (clocks.wall, 4.0)
    watch.waits(1.0)
    assert watch.waited() == (clocks.wall, 0.0)
