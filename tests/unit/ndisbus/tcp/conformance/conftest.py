"""Runs the conformance tests a second time through the chimney, or on a target, where that makes sense.

"chimney": after everything that happens the connection moves, from a host's machine to a target's and back
(ladder.Endpoint). Tests of what is dropped at a hand-over (ways.py) run on a target as a whole instead.
"""

from __future__ import annotations

import pytest

from tests.unit.ndisbus.tcp.conformance import ladder
from tests.unit.ndisbus.tcp.conformance.ways import DROPPED, OTHERWISE_ON_A_TARGET

_DROPPED = frozenset(name for names in DROPPED.values() for name in names)
_OTHERWISE = frozenset(name for names in OTHERWISE_ON_A_TARGET.values() for name in names)
_NO_CONNECTION = ("test_header", "test_open", "test_open_options", "test_states")
"""Modules about what is never offloaded."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    name = metafunc.function.__name__
    ways = [ladder.Way.HOST]
    if metafunc.module.__name__.rpartition(".")[2] not in _NO_CONNECTION and name not in _OTHERWISE:
        ways.append(ladder.Way.TARGET if name in _DROPPED else ladder.Way.CHIMNEY)
    metafunc.parametrize("way", ways, indirect=True, ids=lambda way: way.value)


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the connection of a test lives."""
    monkeypatch.setattr(ladder.Endpoint, "way", request.param)
