"""A driver's process that has much to do: it says so, looks at everything else, and is not taken for hung."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from ndisbus.driver.base import ProtocolDriver
from ndisbus.messages.codec import Message, decode_packet, encode_packet
from ndisbus.runtime.driver_process import DriverProcess

pytestmark = pytest.mark.process

INTERVAL = 0.05
DEADLINE = 20.0
#: Each message is this much work (seconds), and there are so many of them that none answers.
WORK = 0.004
COUNT = 150


class Busy(ProtocolDriver):
    """Works for :data:`WORK` seconds on each status indication. ``steps``: in how many pieces."""

    def __init__(self) -> None:
        self.handled = 0
        self.steps = 1
        self.wakes: list[int] = []

    def protocol_status_ex(self, protocol_binding_context: int, status_indication: dict[str, Any]) -> None:
        for _ in range(self.steps):
            until = time.perf_counter() + WORK
            while time.perf_counter() < until:
                pass
            if self.steps > 1:
                self.ndis.working()
        self.handled += 1

    def next_deadline(self) -> float | None:
        return 0.0  # always due

    def on_timer(self, now: float) -> None:
        if not self.wakes or self.wakes[-1] != self.handled:
            self.wakes.append(self.handled)


class HandMadeBus:
    """The bus's end of a driver's connection, by hand."""

    def __init__(self, endpoint: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.linger = 0
        self.router.bind(endpoint)
        self.key = b""
        self.heard: list[Message] = []

    def read(self) -> list[Message]:
        """Take in what has arrived; all messages so far."""
        while self.router.poll(0):
            self.key, *frames = self.router.recv_multipart()
            self.heard += [message for message, _ in decode_packet(frames)]
        return self.heard

    def answered(self) -> bool:
        """Whether the ping was answered."""
        return any(name == "return" for name, _, _ in self.read())

    def send(self, *messages: Message) -> None:
        """One packet."""
        self.router.send_multipart([self.key, encode_packet(list(messages))])

    def admit(self, process: DriverProcess) -> None:
        """Answer the hello."""
        assert process.run_until(self.read, DEADLINE)
        limits = {"CheckInterval": INTERVAL, "HangLimit": 1.0}
        self.send(["ready", self.heard.pop()[1], [{"Version": 2, "AddressSpace": 2, "Epoch": 1, **limits}]])
        assert process.run_until(lambda: process.ready, DEADLINE)

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture
def rig() -> Iterator[tuple[HandMadeBus, Busy, DriverProcess]]:
    """A driver that a hand-made bus has admitted."""
    with tempfile.TemporaryDirectory(prefix="nd") as directory:
        endpoint = f"ipc://{Path(directory) / 'bus.sock'}"
        bus, driver = HandMadeBus(endpoint), Busy()
        process = DriverProcess(driver, name="busy", endpoint=endpoint)
        try:
            bus.admit(process)
            yield bus, driver, process
        finally:
            process.close()
            bus.close()


STATUS: Message = ["ProtocolStatusEx", None, [1, {}]]
PING: Message = ["ping", 99, []]


def signs(messages: list[Message]) -> list[int]:
    """The counters of the signs of life before the answer to the ping."""
    found: list[int] = []
    for name, _, args in messages:
        if name == "return":
            return found
        if name == "progress":
            found.append(args[0])
    pytest.fail("the ping was not answered")


@pytest.mark.parametrize("packets", [1, COUNT])
def test_it_gives_signs_of_life_while_it_works_off_its_queue(
    rig: tuple[HandMadeBus, Busy, DriverProcess], packets: int
) -> None:
    bus, driver, process = rig
    for _ in range(packets):
        bus.send(*[STATUS] * (COUNT // packets))
    bus.send(PING)
    assert process.run_until(bus.answered, DEADLINE)
    assert driver.handled == COUNT
    counters = signs(bus.heard)
    assert counters == sorted(set(counters))
    assert len(counters) >= WORK * COUNT / INTERVAL / 4


def test_timers_and_descriptors_have_their_turn_while_the_queue_is_long(
    rig: tuple[HandMadeBus, Busy, DriverProcess],
) -> None:
    bus, driver, process = rig
    bus.send(*[STATUS] * COUNT, PING)
    driver.wakes.clear()
    assert process.run_until(lambda: driver.handled == COUNT, DEADLINE)
    between = [n for n in driver.wakes if 0 < n < COUNT]
    assert len(between) >= 3


def test_a_handler_that_takes_long_says_that_it_advances(
    rig: tuple[HandMadeBus, Busy, DriverProcess],
) -> None:
    bus, driver, process = rig
    driver.steps = COUNT
    bus.send(STATUS, PING)
    assert process.run_until(bus.answered, DEADLINE)
    assert len(signs(bus.heard)) >= WORK * COUNT / INTERVAL / 4


def test_a_handler_that_does_not_end_gives_no_sign(rig: tuple[HandMadeBus, Busy, DriverProcess]) -> None:
    """Only the loop and the handlers themselves give signs: no thread and no timer does it for them."""
    bus, driver, process = rig

    class Endless(Exception):
        pass

    def spin(_context: int, _indication: dict[str, Any]) -> None:
        until = time.perf_counter() + 10 * INTERVAL
        while time.perf_counter() < until:
            assert bus.read() == []
        raise Endless

    process.port._handlers.clear()
    driver.protocol_status_ex = spin  # type: ignore[method-assign,assignment]
    bus.send(STATUS)
    with pytest.raises(Endless):
        process.run_until(lambda: False, DEADLINE)
