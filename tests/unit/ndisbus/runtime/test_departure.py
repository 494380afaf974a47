"""The end of a driver's process: what it waits for, and for how long."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest

from ndisbus.driver.base import Driver
from ndisbus.driver.port import DriverPort
from ndisbus.runtime.departure import DEPARTURE_LIMIT, REPEAT, Departure
from ndisbus.runtime.driver_process import DriverProcess
from ndisbus.runtime.inbox import GOODBYE_LIMIT
from ndisbus.runtime.supervise import Policy


class Holder(Driver):
    """Holds something until it is released."""

    held = True
    departures = 0

    gives_back = True

    def depart(self) -> bool:
        self.departures += 1
        return self.gives_back

    def departed(self) -> bool:
        return not self.held


class Served(DriverProcess):
    """A process whose loop is a list of events: each is called once before the loop looks again."""

    def __init__(self, *, ready: bool = True) -> None:
        self.holder = Holder()
        self.port = DriverPort(self.holder, {"Name": "me"})
        self.port.attached = ready
        self.events: list[Callable[[], object]] = []
        self.limits: list[float] = []
        self._stopping = False

    def run_until(self, predicate: Callable[[], object], timeout: float) -> bool:
        self.limits.append(timeout)
        while not predicate() and not self._stopping:
            if not self.events:
                return False
            self.events.pop(0)()
        return bool(predicate())


def test_a_driver_leaves_when_it_has_given_everything_back() -> None:
    process = Served()
    departure = Departure(process)

    def release() -> None:
        process.holder.held = False

    process.events = [lambda: departure.ask(5.0), release, lambda: pytest.fail("it has nothing left")]
    assert departure.run()
    assert process.holder.departures == 1
    assert process.limits[1] == DEPARTURE_LIMIT


def test_a_driver_that_still_holds_something_says_so_when_its_time_is_over() -> None:
    process = Served()
    departure = Departure(process)
    process.events = [lambda: departure.ask(5.0)]
    assert not departure.run()


@pytest.mark.parametrize(("after", "ends"), [(0.0, False), (REPEAT / 2, False), (REPEAT, True), (1.5, True)])
def test_a_second_signal_ends_at_once_unless_it_is_the_same_request(after: float, ends: bool) -> None:
    process = Served()
    departure = Departure(process)
    process.events = [lambda: departure.ask(5.0), lambda: departure.ask(5.0 + after), lambda: seen.append(1)]
    seen: list[int] = []
    assert not departure.run()
    assert bool(seen) is not ends
    assert process.holder.departures == 1


def test_without_a_bus_nothing_can_be_given_back() -> None:
    process = Served(ready=False)
    departure = Departure(process)
    process.events = [lambda: departure.ask(5.0), lambda: pytest.fail("it waits for nothing")]
    assert departure.run()
    assert process.holder.departures == 0


def test_a_driver_that_gives_nothing_back_leaves_at_once() -> None:
    process = Served()
    process.holder.gives_back = False
    departure = Departure(process)
    process.events = [lambda: departure.ask(5.0), lambda: pytest.fail("it waits for nothing")]
    assert departure.run()
    process.port.goodbye()
    ((message, _),) = process.port.drain()
    assert message == ["goodbye", None, []]


@pytest.mark.parametrize("held", [True, False])
def test_a_goodbye_says_whether_the_driver_is_idle(held: bool) -> None:
    """Only then are requests that it did not begin refusals (R-CONC-03)."""
    process = Served()
    process.port.depart()
    process.holder.held = held
    process.port.goodbye()
    ((message, _),) = process.port.drain()
    assert message == ["goodbye", None, [] if held else [{"Idle": True}]]


def test_a_bus_that_goes_ends_the_wait() -> None:
    process = Served()
    departure = Departure(process)

    def gone() -> None:
        process.port.attached = False

    process.events = [lambda: departure.ask(5.0), gone, lambda: pytest.fail("it waits for nothing")]
    assert departure.run()


def test_limits_of_outer_layers_are_longer_than_those_of_inner_ones() -> None:
    grace = Policy().grace
    assert grace is not None
    honcho = importlib.import_module("honcho.manager")
    assert DEPARTURE_LIMIT + GOODBYE_LIMIT + 0.5 < grace < honcho.KILL_WAIT - 0.5
