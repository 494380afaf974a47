"""Whole stacks under random trees, interleavings, kills and stalls.

Whatever happens: each request is completed exactly once, every status is legal for its operation, and in
the end all lists and handles are given back.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.stack import ACTIONS, OPERATIONS, Monkey, Stack

_RUN = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def play(seed: int, actions: list[str], *, hosts: int, ims: int) -> None:
    stack = Stack(seed, hosts=hosts, ims=ims)
    stack.ready()
    monkey = Monkey(stack)
    for action in actions:
        monkey.act(action)
    monkey.settle()
    stack.check_statuses()
    assert stack.leftovers() == {}


@_RUN
@given(
    seed=st.integers(0, 2**32 - 1),
    actions=st.lists(st.sampled_from(OPERATIONS), max_size=40),
    hosts=st.integers(1, 2),
    ims=st.integers(1, 2),
)
def test_operations_in_any_interleaving_leave_nothing_over(
    seed: int, actions: list[str], hosts: int, ims: int
) -> None:
    """No faults: everything completes, nothing is left, no driver is bug-checked."""
    play(seed, actions, hosts=hosts, ims=ims)


@_RUN
@given(
    seed=st.integers(0, 2**32 - 1),
    actions=st.lists(st.sampled_from(ACTIONS), max_size=40),
    hosts=st.integers(1, 2),
    ims=st.integers(1, 2),
)
def test_kills_and_stalls_at_any_moment_leave_nothing_over(
    seed: int, actions: list[str], hosts: int, ims: int
) -> None:
    """kill -9, SIGSTOP, a dead bus, at any moment: all recover, and nothing is left over."""
    play(seed, actions, hosts=hosts, ims=ims)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2000))
def test_long_plays(seed: int) -> None:
    """Longer plays than the suite has time for; ``make soak``."""
    stack = Stack(seed)
    actions = [stack.rng.choice(ACTIONS) for _ in range(120)]
    play(seed, actions, hosts=1 + seed % 2, ims=1 + seed // 2 % 2)
