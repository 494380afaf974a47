"""kill -9 of the intermediate driver, of a host, of the bus: the others survive, leak nothing, and go on."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import pytest

from tests.process.stack_processes import expect_good, tortured
from tools.torture_hosts import stacked
from tools.torture_neighbours import (
    HOST_MOMENTS,
    MOMENTS,
    bus_round,
    host_round,
    im_round,
    neighbour_rounds,
)
from tools.torture_rig import OPERATIONS, Rig, Round
from tools.torture_stack import RealStack, three_layers
from tools.torture_storm import storm_rounds

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a death is noticed by a pidfd"),
]

#: An operation for each moment; the soak plays all pairs.
PAIRS = list(zip(MOMENTS, OPERATIONS, strict=False))


@pytest.fixture(scope="module")
def im_rig() -> Iterator[Rig]:
    with tortured(seed=3, survivors=("bus", "target")) as rig:
        yield rig


@pytest.fixture(scope="module")
def bus_rig() -> Iterator[Rig]:
    with tortured(seed=4, survivors=("target", "im")) as rig:
        yield rig


@pytest.fixture(scope="module")
def host_rig() -> Iterator[Rig]:
    with tortured(seed=5, survivors=("bus", "target", "im")) as rig:
        yield rig


@pytest.mark.parametrize(("moment", "op"), PAIRS)
def test_intermediate_driver(im_rig: Rig, moment: str, op: str) -> None:
    """What it had offloaded is terminated below, what it held is completed above; then it is back."""
    im_rig.rng = random.Random(f"{op} {moment}")
    expect_good(im_round(im_rig, Round(0, "im", op, moment)))


@pytest.mark.parametrize(("moment", "op"), PAIRS)
def test_bus(bus_rig: Rig, moment: str, op: str) -> None:
    """The drivers stay, fail what they waited for, keep what is theirs, and find the next bus."""
    bus_rig.rng = random.Random(f"{op} {moment}")
    expect_good(bus_round(bus_rig, Round(0, "bus", op, moment)))


@pytest.mark.parametrize("moment", HOST_MOMENTS)
def test_host(host_rig: Rig, moment: str) -> None:
    """What it had offloaded is terminated and freed; another host does not notice, and its name is free."""
    host_rig.rng = random.Random(moment)
    expect_good(host_round(host_rig, Round(0, "host", "-", moment)))


def test_several_at_once_and_again_before_they_are_back() -> None:
    """Bus, target and drivers killed and stalled in any order: in the end everything is as new."""
    layers = three_layers()
    with RealStack(layers) as stack:
        for result in storm_rounds(stack, rounds=2, seed=1, layers=list(layers)):
            expect_good(result)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 4))
def test_many_storms(seed: int) -> None:
    layers = stacked()
    with RealStack(layers) as stack:
        for result in storm_rounds(stack, rounds=60, seed=seed, layers=list(layers), bind="im1-a"):
            expect_good(result)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 4))
def test_many_rounds(seed: int) -> None:
    with RealStack(three_layers()) as stack:
        for result in neighbour_rounds(stack, rounds=120, seed=seed):
            expect_good(result)
