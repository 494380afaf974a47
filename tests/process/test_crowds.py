"""Many connections of real processes that send at once: none is lost, and no driver is taken for hung."""

from __future__ import annotations

import pytest

from tools.torture_crowd import gather
from tools.torture_stack import RealStack, with_peer

pytestmark = pytest.mark.process


@pytest.mark.parametrize("where", ["host", "offloaded"])
def test_a_crowd_that_sends_at_once_loses_nothing(where: str) -> None:
    with RealStack(with_peer()) as stack:
        crowd = gather(stack, where, connections=1000, size=100, rounds=1)
    assert (crowd.lost, crowd.problems) == ({}, [])
