"""The tables of ``ndisbus ps``."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from ndisbus.cli.ps_view import render


def survey(outstanding: int) -> dict[str, Any]:
    process = {
        "Pid": 4_000_001,
        "Epoch": 28_852_031,
        "State": "ready",
        "CpuSeconds": 1.03,
        "CpuPercent": None,
    }
    process |= {"Rss": 26 << 20, "Sent": 0, "Lent": 0, "Heap": 1, "Counters": {"adapters": 1}}
    adapter = {"Epoch": 28_852_031, "State": "up", "Paused": False, "ChimneyOwner": "customhost"}
    adapter |= {"Outstanding": outstanding, "OldestAge": 0.25, "Completed": 1234, "Sends": 0, "Receives": 0}
    return {
        "Processes": [
            {**process, "Name": "target", "Kind": "miniport"},
            {**process, "Name": "im", "Kind": "intermediate"},
        ],
        "Adapters": [
            {**adapter, "Name": "nic0", "Driver": "target", "Virtual": False},
            {**adapter, "Name": "im0-a", "Driver": "im", "Virtual": True},
        ],
        "Bindings": [],
        "Faults": [],
        "BugChecks": [],
        "Refused": 0,
        "Stale": 0,
        "Seed": 0,
        "Now": 1.0,
    }


def shown(outstanding: int) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(render(survey(outstanding)))
    return out.getvalue()


def test_names_are_whole_on_a_terminal_of_eighty_columns() -> None:
    text = shown(0)
    for name in ("target", "miniport", "intermediate", "nic0", "im0-a", "(virtual)", "customhost"):
        assert name in text
    assert "…" not in text


def test_outstanding_requests_have_the_age_of_the_oldest() -> None:
    text = shown(3)
    assert "3 (0.2 s)" in text
    assert "…" not in text
