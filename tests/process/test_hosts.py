"""Several hosts, stacked intermediate drivers, and a second host on one adapter, on real processes."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import pytest

from tests.process.stack_processes import expect_good
from tools.torture_hosts import check_refused_host, check_workers, host_rounds, stacked
from tools.torture_rig import Round
from tools.torture_stack import RealStack, three_layers

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a death is noticed by a pidfd"),
]

#: Seconds that the hosts work.
WORK = 0.6


@pytest.fixture(scope="module")
def two_drivers() -> Iterator[RealStack]:
    """One intermediate driver on top of another."""
    with RealStack(stacked()) as stack:
        yield stack


def test_two_hosts_on_adapters_of_their_own_and_a_second_one_on_one_adapter() -> None:
    """R-OID-08: the second host on an adapter is told why, and how to get an adapter; hosts come and go."""
    rng = random.Random(1)
    with RealStack(three_layers()) as stack:
        expect_good(check_refused_host(stack, Round(0, "-", "refused host", "-"), rng))
        result = Round(1, "target", "two hosts", "working")
        expect_good(check_workers(stack, result, rng, [(None, "a"), (None, "b")], seconds=WORK))


@pytest.mark.parametrize("victim", ["target", "im", "upper"])
def test_stacked_intermediate_drivers(two_drivers: RealStack, victim: str) -> None:
    """Two hosts above the upper driver and one above the lower: each completion reaches the right one."""
    hosts = [("im1-a", "a"), ("im1-b", "b"), ("im0-b", "c")]
    result = Round(0, victim, "stacked drivers", "working")
    expect_good(check_workers(two_drivers, result, random.Random(victim), hosts, seconds=WORK))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 4))
def test_many_rounds(seed: int) -> None:
    for result in host_rounds(rounds=5, seed=seed):
        expect_good(result)
