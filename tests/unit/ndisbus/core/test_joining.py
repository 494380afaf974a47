"""Messages in parts at NDIS: one that is not continued ends, whatever its sender says meanwhile."""

from __future__ import annotations

import pytest

from ndisbus.core import CoreConfig
from tests.support.core_bench import Bench, Client

LIMIT = 10.0


@pytest.fixture
def bench() -> Bench:
    return Bench(CoreConfig(request_limit=LIMIT))


@pytest.fixture
def driver(bench: Bench) -> Client:
    return bench.client(Client, "driver")


def part(driver: Client, index: int, count: int = 3) -> None:
    columns = {"Block": [0x1000 + index], "Type": [17], "Revision": [1], "Size": [72]}
    driver.send("part", "NdisInitiateOffload", index, count, 7, columns)


def test_a_message_that_is_not_continued_ends_its_sender(bench: Bench, driver: Client) -> None:
    part(driver, 0)
    bench.tick(LIMIT)
    assert "1 parts of NdisInitiateOffload" in str(driver.closed)


def test_progress_does_not_keep_a_message_open(bench: Bench, driver: Client) -> None:
    """What has arrived of it can be large. A counter that grows is not a part."""
    part(driver, 0)
    for count in range(1, 12):
        bench.tick(LIMIT / 4)
        driver.send("progress", count)
    assert "1 parts of NdisInitiateOffload" in str(driver.closed)


def test_each_part_has_the_whole_limit(bench: Bench, driver: Client) -> None:
    part(driver, 0)
    bench.tick(LIMIT * 0.9)
    part(driver, 1)
    bench.tick(LIMIT * 0.9)
    assert driver.closed is None
    bench.tick(LIMIT * 0.2)
    assert "2 parts of NdisInitiateOffload" in str(driver.closed)


def test_a_pause_of_the_bus_does_not_count(bench: Bench, driver: Client) -> None:
    """The whole machine was stopped, say. The parts that the sender could not send may still come."""
    part(driver, 0)
    bench.now += 5 * LIMIT
    bench.core.resumed(bench.now, 5 * LIMIT)
    bench.tick(0)
    assert driver.closed is None
    bench.tick(LIMIT)
    assert driver.closed
