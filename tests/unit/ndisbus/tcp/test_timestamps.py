"""Timestamps across a hand-over: both tables of "examples-of-timestamp-processing.md" to the number."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.tcp.sequence import seq_diff
from ndisbus.tcp.timestamps import PAWS_IDLE_SECONDS, delta_from, own, paws_ok, round_trip

words = st.integers(0, 2**32 - 1)


@dataclass
class Side:
    """A clock that reads ``clock`` ticks, and the delta of this side for the connection."""

    clock: int
    delta: int = 0

    def send(self) -> int:
        return own(self.clock, self.delta)

    def gets(self, echo: int) -> int:
        return round_trip(self.clock, self.delta, echo)

    def hand_over_to(self, other: Side) -> int:
        ts_time = own(self.clock, self.delta)
        other.delta = delta_from(ts_time, other.clock)
        return ts_time


def signed(delta: int) -> int:
    return seq_diff(delta, 0)


def test_first_worked_table() -> None:
    """R-TS-02, R-TS-03, R-TS-04, R-TS-05, R-TS-06 and R-DIS-31: clocks of different origin, no drift."""
    host, target = Side(100), Side(200)
    assert host.send() == 100
    assert host.hand_over_to(target) == 100
    assert signed(target.delta) == -100
    target.clock = 205
    assert target.gets(100) == 5
    target.clock = 210
    assert target.send() == 110
    target.clock = 215
    assert target.gets(110) == 5
    target.clock = 250
    assert target.send() == 150
    host.clock = 150
    assert target.hand_over_to(host) == 150
    assert signed(host.delta) == 0
    host.clock = 155
    assert host.gets(150) == 5


def test_second_worked_table() -> None:
    """R-TS-01, R-TS-02, R-TS-03, R-TS-04, R-TS-05, R-TS-06 and R-DIS-31: the host clock jumps twice."""
    host, target = Side(100), Side(200)
    assert host.send() == 100
    assert host.hand_over_to(target) == 100
    assert signed(target.delta) == -100
    target.clock = 205
    assert target.gets(100) == 5
    host.clock, target.clock = 200, 250
    assert target.send() == 150
    assert target.hand_over_to(host) == 150
    assert signed(host.delta) == -50
    host.clock, target.clock = 205, 255
    assert host.gets(150) == 5
    host.clock, target.clock = 250, 300
    assert host.send() == 200
    host.clock, target.clock = 255, 305
    assert host.gets(200) == 5
    host.clock, target.clock = 400, 320
    assert host.send() == 350
    assert host.hand_over_to(target) == 350
    assert signed(target.delta) == 30
    target.clock = 325
    assert target.gets(350) == 5


@settings(deadline=None)
@given(words, words, st.lists(st.tuples(st.integers(0, 2**20), words), max_size=20))
def test_timestamps_keep_growing_however_the_clocks_differ(
    clock: int, delta: int, hand_overs: list[tuple[int, int]]
) -> None:
    """R-TS-01: each hand-over goes on from where the timestamp was, also across 2**32."""
    side = Side(clock, delta)
    last = side.send()
    for passed, other_clock in hand_overs:
        side.clock += passed
        assert seq_diff(side.send(), last) == passed
        last = side.send()
        other = Side(other_clock)
        assert side.hand_over_to(other) == last
        assert other.send() == last
        side = other


@settings(deadline=None)
@given(words, words, st.integers(0, 2**31 - 1))
def test_a_round_trip_is_the_ticks_since_the_timestamp_was_sent(clock: int, delta: int, passed: int) -> None:
    """R-TS-06, modulo 2**32."""
    assert round_trip(clock + passed, delta, own(clock, delta)) == passed
    assert round_trip(clock, delta, own(clock + passed + 1, delta)) == -passed - 1


@pytest.mark.parametrize("ticks_per_second", [10, 100, 1000])
def test_paws(ticks_per_second: int) -> None:
    """R-TS-07: TsRecent and TsRecentAge as in RFC 1323 4.2, RFC 7323 5.3 and 5.5."""
    limit = 24 * 86_400 * ticks_per_second
    assert PAWS_IDLE_SECONDS * ticks_per_second == limit
    assert paws_ok(100, 100, 0, ticks_per_second)
    assert paws_ok(101, 100, 0, ticks_per_second)
    assert not paws_ok(99, 100, 0, ticks_per_second)
    assert not paws_ok(99, 100, limit, ticks_per_second)
    assert paws_ok(99, 100, limit + 1, ticks_per_second)
    assert paws_ok(5, 2**32 - 5, 0, ticks_per_second)
    assert not paws_ok(2**32 - 5, 5, 0, ticks_per_second)
    assert not paws_ok(100 + 2**31, 100, 0, ticks_per_second)
