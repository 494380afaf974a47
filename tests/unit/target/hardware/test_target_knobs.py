"""Knobs: injectable failures."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.errors import LocalProtocolError
from target.hardware.knobs import POINTS, Knobs


def test_knob_modes() -> None:
    k = Knobs()
    k.set("query")
    k.set("update", mode="nth", nth=3)
    k.set("send", mode="sticky", status="UPLOAD_IN_PROGRESS")
    fired = [[k.fire(p) is not None for _ in range(5)] for p in ("query", "update", "send")]
    assert fired == [[True] + [False] * 4, [False, False, True, False, False], [True] * 5]
    assert [(x["hits"], x["fired"], x["armed"]) for x in k.listed()] == [
        (1, 1, False),
        (3, 1, False),
        (5, 5, True),
    ]
    assert k.remove("sticky_send").fired == 5
    assert k.fire("send") is None
    assert [x["name"] for x in k.reset()] == ["once_query", "nth_update"]
    assert len(k) == 0


def test_two_knobs_at_one_point_fire_one_after_the_other() -> None:
    k = Knobs()
    k.set("initiate.tcp", status="RESOURCES", name="a")
    k.set("initiate.tcp", status=int(NdisStatus.OFFLOAD_TCP_ENTRIES), name="b")
    assert [k.fire("initiate.tcp") for _ in range(3)] == [
        NdisStatus.RESOURCES,
        NdisStatus.OFFLOAD_TCP_ENTRIES,
        None,
    ]
    k.set("query", name="a")
    assert [x["point"] for x in k.listed()] == ["query", "initiate.tcp"]


def test_a_knob_that_never_fired_can_be_told() -> None:
    k = Knobs()
    assert k.set("invalidate", mode="nth", nth=2).to_map()["fired"] == 0
    k.fire("invalidate")
    assert k.listed()[0] == {
        "name": "nth_invalidate",
        "point": "invalidate",
        "status": "NDIS_STATUS_FAILURE",
        "mode": "nth",
        "nth": 2,
        "hits": 1,
        "fired": 0,
        "armed": True,
    }


@pytest.mark.parametrize(
    "bad",
    [
        {"point": "nowhere"},
        {"point": "query", "status": "RESOURCES"},
        {"point": "query", "status": "NO_SUCH"},
        {"point": "query", "status": 12345},
        {"point": "query", "mode": "often"},
        {"point": "query", "mode": "nth", "nth": 0},
        {"point": "initiate.tcp", "status": "SUCCESS"},
    ],
)
def test_knobs_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        Knobs().set(**bad)
    with pytest.raises(LocalProtocolError):
        Knobs().remove("x")


def test_knobs_bring_only_what_the_interface_allows() -> None:
    """R-INIT-06, R-QRY-04, R-UPD-10, R-INV-06, R-TERM-17: statuses a point may bring are statuses of its
    operation.
    """
    for point, (default, allowed) in POINTS.items():
        op = point.partition(".")[0]
        assert default in allowed
        if op in ALLOWED_STATUS:
            assert allowed <= ALLOWED_STATUS[op]
