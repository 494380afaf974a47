"""kill -9 of the target before, during and after every operation, on real processes under honcho."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import pytest

from tests.process.stack_processes import expect_good, tortured
from tools.torture import NOTICE_LIMIT, Report
from tools.torture_kill import kill_round, kill_rounds
from tools.torture_rig import MOMENTS, OPERATIONS, Rig, Round
from tools.torture_stack import RealStack, three_layers

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a death is noticed by a pidfd"),
]

FAILURE, SUCCESS = "NDIS_STATUS_FAILURE", "NDIS_STATUS_SUCCESS"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with tortured(seed=1, survivors=("bus", "im")) as rig:
        yield rig


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("op", OPERATIONS)
def test_each_request_completes_once_and_everything_recovers(rig: Rig, op: str, moment: str) -> None:
    """Whenever the target dies: no hang, no leftovers, re-offload works, honcho and the others stay up."""
    rig.rng = random.Random(f"{op} {moment}")
    result = kill_round(rig, Round(0, "target", op, moment))
    expect_good(result)
    if moment in ("before", "during"):
        assert result.statuses[FAILURE] and not result.statuses[SUCCESS]
    if moment == "after":
        assert result.statuses[SUCCESS]
    assert result.notice is not None and result.notice < rig.limit


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 4))
def test_two_hundred_rounds_and_death_is_noticed_within_fifty_milliseconds(seed: int) -> None:
    """The 99th percentile of the time from the kill to the first sign at the host."""
    report = Report("kill", seed)
    with RealStack(three_layers()) as stack:
        for result in kill_rounds(stack, rounds=200, seed=seed):
            expect_good(result)
            report.add(result)
    assert len(report.rounds) == 200
    report.check()
    assert not report.problems, f"more than {NOTICE_LIMIT} s: {report.problems}"
