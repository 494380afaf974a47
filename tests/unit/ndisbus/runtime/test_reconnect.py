"""The delays between attempts to reach the bus, and the report of a driver that waits."""

from __future__ import annotations

import random

import pytest

from ndisbus.runtime.reconnect import (
    ABSENT_LIMIT,
    BACKOFF,
    HELLO_LIMIT,
    NAME_LIMIT,
    PATIENCE,
    STABLE,
    Reconnect,
)


@pytest.fixture
def attempts() -> Reconnect:
    return Reconnect(random.Random(1), 0.0)


def test_the_delay_doubles_up_to_its_limit(attempts: Reconnect) -> None:
    for n in range(20):
        attempts.retry(100.0)
        longest = min(BACKOFF[1], BACKOFF[0] * 2**n)
        assert 0.8 * longest <= attempts.due - 100.0 <= longest


def test_a_bus_that_is_absent_is_looked_for_more_often(attempts: Reconnect) -> None:
    for n in range(20):
        attempts.retry(100.0, absent=True)
        assert attempts.due - 100.0 <= min(ABSENT_LIMIT, BACKOFF[0] * 2**n)


@pytest.mark.parametrize(("lasted", "starts_again"), [(STABLE, True), (STABLE / 2, False)])
def test_a_stable_connection_resets_the_delay(attempts: Reconnect, lasted: float, starts_again: bool) -> None:
    for _ in range(5):
        attempts.retry(0.0)
    attempts.admitted(10.0)
    attempts.lost(10.0 + lasted)
    attempts.retry(10.0 + lasted)
    assert (attempts.due - (10.0 + lasted) <= BACKOFF[0]) is starts_again


def test_a_hello_has_a_time_limit(attempts: Reconnect) -> None:
    attempts.said_hello(3.0)
    assert attempts.due == 3.0 + HELLO_LIMIT


def test_a_wait_is_reported_once_with_its_reason(attempts: Reconnect) -> None:
    attempts.said_hello(0.0)
    assert attempts.deadline() == PATIENCE
    assert attempts.overdue(PATIENCE / 2) == ""
    attempts.failed("the bus does not accept this client's keys")
    assert attempts.overdue(PATIENCE) == "the bus does not accept this client's keys"
    assert attempts.overdue(2 * PATIENCE) == ""
    assert attempts.deadline() == attempts.due


def test_a_wait_without_any_answer_says_what_to_do(attempts: Reconnect) -> None:
    assert "is 'ndisbus serve' running?" in attempts.overdue(PATIENCE)


def test_each_wait_is_reported(attempts: Reconnect) -> None:
    assert attempts.overdue(PATIENCE)
    attempts.admitted(10.0)
    attempts.lost(20.0)
    assert attempts.overdue(20.0) == ""
    assert attempts.overdue(20.0 + PATIENCE)


def test_the_bus_may_hold_the_name_for_a_while(attempts: Reconnect) -> None:
    attempts.lost(5.0)
    assert attempts.name_may_be_held(5.0 + NAME_LIMIT / 2)
    assert not attempts.name_may_be_held(5.0 + NAME_LIMIT)
