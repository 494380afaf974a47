"""Fixtures: a target with NDIS and the host played by hand, with and without a wire."""

from __future__ import annotations

import pytest

from tests.support.target_harness import Harness
from tests.support.target_wired import Wired


@pytest.fixture(scope="session")
def wired() -> type[Wired]:
    """The harness on a wire, to be made with a configuration."""
    return Wired


@pytest.fixture
def w() -> Wired:
    """A harness with a roomy target on a wire."""
    return Wired()


@pytest.fixture(scope="session")
def make() -> type[Harness]:
    """The harness, to be made with a configuration."""
    return Harness


@pytest.fixture
def h() -> Harness:
    """A harness with a roomy target."""
    return Harness()
