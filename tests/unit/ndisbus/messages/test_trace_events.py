"""Which trace events are wanted."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.messages.trace_events import Filter
from tests.support.trace_sample import EVENTS


@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [
        (Filter(), range(9)),
        (Filter(calls=("*Complete",)), [5, 6, 7]),
        (Filter(calls=("*Complete",), kinds=("call",)), [6, 7]),
        (Filter(kinds=("bug*", "hello")), [0, 8]),
        (Filter(drivers=("target",)), [4, 6]),
        (Filter(drivers=("im",)), [2, 3, 8]),
        (Filter(adapters=("nic0",)), [3, 4, 6]),
        (Filter(calls=("Ndis*",), without=("NdisM*",), kinds=("call",)), [1, 3]),
        (Filter(without=("*",)), [0, 8]),
    ],
)
def test_filter(wanted: Filter, indexes: Any) -> None:
    assert [i for i, e in enumerate(EVENTS) if wanted(e)] == list(indexes)
