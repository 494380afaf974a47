"""How long the tour waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from hoststack.tour.rig import TourError, TourRig


class Slow:
    """A process in which nothing comes true before the given number of waits is over."""

    def __init__(self, waits: int) -> None:
        self.waits = waits

    def run_until(self, done: Callable[[], bool], timeout: float) -> bool:
        self.waits -= 1
        return self.waits < 0


def rig(waits: int) -> TourRig:
    return TourRig(cast("Any", Slow(waits)), cast("Any", None), lambda _: None)


def test_a_wait_without_progress_ends() -> None:
    with pytest.raises(TourError, match=r"nobody came \(waited 15 s\)"):
        rig(1).until(lambda: False, "nobody came")
    steps = iter(["0 bytes", "5 bytes", "5 bytes"])
    with pytest.raises(TourError, match=r"too few \(5 bytes, unchanged for 15 s\)"):
        rig(9).until(lambda: False, "too few", lambda: next(steps))


def test_a_wait_goes_on_as_long_as_there_is_progress() -> None:
    steps = iter(range(10))
    assert rig(8).until(lambda: False, "too few", lambda: next(steps)) < 15
