"""SIGSTOP of a layer for less and for more than the hang limit, on real processes."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import pytest

from tests.process.stack_processes import expect_good, tortured
from tools.torture_rig import OPERATIONS, Rig, Round
from tools.torture_stack import RealStack, three_layers
from tools.torture_stall import stall_round, stall_rounds

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stops processes as Linux does"),
]

#: Seconds. Long enough for a busy machine: a process that gets no CPU time for so long counts as hung.
HANG_LIMIT = 2.5
#: How late the failures may be: how fast the machine is, is not what is tested.
GRACE = 15.0
FAILURE, SUCCESS = "NDIS_STATUS_FAILURE", "NDIS_STATUS_SUCCESS"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with tortured("--hang-limit", str(HANG_LIMIT), seed=2, survivors=("bus", "target", "im")) as rig:
        yield rig


@pytest.mark.parametrize("op", OPERATIONS)
def test_shorter_than_the_limit_only_delays(rig: Rig, op: str) -> None:
    """Everything completes late, nothing fails, no epoch is closed."""
    rig.rng = random.Random(op)
    result = stall_round(rig, Round(0, "target", op, "short"), HANG_LIMIT)
    expect_good(result)
    assert set(result.statuses) == {SUCCESS}


@pytest.mark.parametrize("op", ["initiate", "query"])
def test_longer_than_the_limit_fails_upwards_and_the_old_epoch_is_refused(rig: Rig, op: str) -> None:
    """The thawed target's completions are refused, and it is back."""
    rig.rng = random.Random(op)
    result = stall_round(rig, Round(0, "target", op, "long"), HANG_LIMIT, GRACE)
    expect_good(result)
    assert set(result.statuses) == {FAILURE}
    assert any(call.endswith("Complete") for call in result.stale)


def test_stalled_intermediate_driver_is_a_dead_one_past_the_limit(rig: Rig) -> None:
    rig.rng = random.Random("im")
    expect_good(stall_round(rig, Round(0, "im", "update", "short"), HANG_LIMIT))
    expect_good(stall_round(rig, Round(0, "im", "terminate", "long"), HANG_LIMIT, GRACE))


def test_stalled_bus_counts_no_driver_as_hung(rig: Rig) -> None:
    """However long it was stopped itself: everything completes late, and no driver counts as hung."""
    rig.rng = random.Random("bus")
    result = stall_round(rig, Round(0, "bus", "query", "long"), HANG_LIMIT)
    expect_good(result)
    assert set(result.statuses) == {SUCCESS}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 4))
def test_every_operation_every_victim_every_length(seed: int) -> None:
    with RealStack(three_layers("--hang-limit", "2")) as stack:
        for result in stall_rounds(stack, rounds=36, seed=seed, hang_limit=2.0):
            expect_good(result)
