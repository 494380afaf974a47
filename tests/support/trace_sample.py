"""A short trace: an offload of three blocks through an intermediate driver, a fault and a bug check."""

from __future__ import annotations

from typing import Any

__all__ = ["EVENTS", "ROOT", "call"]


def call(t: float, source: str, to: str, name: str, direction: str, **rest: Any) -> dict[str, Any]:
    """The event of a call."""
    return {"t": t, "event": "call", "from": source, "to": to, "call": name, "direction": direction, **rest}


ROOT = 0x20000000010
EVENTS: list[dict[str, Any]] = [
    {"t": 99.5, "event": "hello", "driver": "host", "pid": 7, "epoch": 3},
    call(100.0, "host", "ndis", "NdisInitiateOffload", "down", list=ROOT, blocks=3, adapter="im0-a"),
    call(100.000125, "ndis", "im", "MiniportInitiateOffload", "down", list=ROOT, blocks=3, adapter="im0-a"),
    call(100.0002, "im", "ndis", "NdisInitiateOffload", "down", list=ROOT, blocks=3, adapter="nic0"),
    call(100.0003, "ndis", "target", "MiniportInitiateOffload", "down", list=ROOT, blocks=3, adapter="nic0"),
    {"t": 100.0003, "event": "fault", "id": 1, "action": "delay", "call": "NdisMInitiateOffloadComplete"},
    call(
        100.5,
        "target",
        "ndis",
        "NdisMInitiateOffloadComplete",
        "up",
        list=ROOT,
        blocks=3,
        status={"NDIS_STATUS_SUCCESS": 2, "NDIS_STATUS_FAILURE": 1},
        adapter="nic0",
    ),
    call(
        100.6,
        "ndis",
        "host",
        "ProtocolInitiateOffloadComplete",
        "up",
        list=ROOT,
        blocks=3,
        status={"NDIS_STATUS_SUCCESS": 3},
        adapter="im0-a",
    ),
    {"t": 101.0, "event": "bugcheck", "driver": "im", "reason": "50% # of it; gone"},
]
