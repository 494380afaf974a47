"""Sequence number arithmetic against integers that do not wrap."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.tcp.sequence import MASK, between, ge, gt, le, lt, seq_add, seq_diff

seqs = st.integers(0, MASK) | st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0x80000001, MASK - 1, MASK])
distances = st.integers(-(2**31) + 1, 2**31 - 1)


@settings(deadline=None)
@given(seqs, distances)
def test_order_and_distance_are_those_of_the_numbers_before_they_wrapped(a: int, n: int) -> None:
    b = seq_add(a, n)
    assert 0 <= b <= MASK
    assert seq_diff(b, a) == n
    assert lt(a, b) is (n > 0)
    assert gt(a, b) is (n < 0)
    assert le(a, b) is (n >= 0)
    assert ge(a, b) is (n <= 0)


@settings(deadline=None)
@given(seqs)
def test_numbers_half_the_circle_apart_have_no_order(a: int) -> None:
    b = seq_add(a, 1 << 31)
    assert not (lt(a, b) or gt(a, b) or le(a, b) or ge(a, b))


@settings(deadline=None)
@given(seqs, st.integers(0, MASK), st.integers(0, MASK))
def test_between_is_a_half_open_range_of_any_size(left: int, size: int, n: int) -> None:
    assert between(left, seq_add(left, n), seq_add(left, size)) is (n < size)


@pytest.mark.parametrize(
    ("a", "n", "b"), [(MASK, 1, 0), (0, -1, MASK), (MASK - 4, 10, 5), (5, -10, MASK - 4)]
)
def test_wraparound_by_hand(a: int, n: int, b: int) -> None:
    assert seq_add(a, n) == b
    assert seq_diff(b, a) == n
