"""The tables of ``ndisbus ps``."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from ndisbus.cli.ps import of_drivers
from ndisbus.cli.ps_view import render
from ndisbus.errors import ChimneyError


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


def crowd(hosts: int) -> dict[str, Any]:
    """A survey of a target, an intermediate driver and many hosts; two of them are not idle."""
    ps = survey(0)
    process, adapter = ps["Processes"][0], ps["Adapters"][0]
    for i in range(hosts):
        busy = int(i in (40, 77))
        host = {"Name": f"host{i}", "Kind": "protocol", "Sent": busy, "Counters": {"tcbs": 2, "posted": 0}}
        ps["Processes"].append({**process, **host})
        shown = {"Name": f"im0-{i}", "Driver": "im", "Virtual": True, "Outstanding": busy}
        ps["Adapters"].append({**adapter, **shown})
        ps["Bindings"].append(
            {
                "Protocol": f"host{i}",
                "Adapter": f"im0-{i}",
                "State": "open",
                "Outstanding": 0,
                "Received": 0,
                "Objects": {"neighbor": 1, "path": 1, "tcp": 2},
            }
        )
    return ps


def text_of(ps: dict[str, Any], *, everything: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(render(ps, everything=everything))
    return out.getvalue()


def test_a_hundred_hosts_fit_on_a_page() -> None:
    text = text_of(crowd(100))
    assert len(text.splitlines()) < 80
    assert max(map(len, text.splitlines())) <= 80
    # Those that hold something are shown, all others are summed up.
    assert "host40" in text
    assert "host77" in text
    assert "(92 more)" in text
    assert "tcbs 184" in text
    assert "102 processes, 102 adapters, 100 bindings; --all shows every row" in text
    assert "2 outstanding" in text


def test_all_rows_are_shown_if_asked_for() -> None:
    text = text_of(crowd(100), everything=True)
    assert all(f"host{i} " in text for i in range(100))
    assert "more)" not in text


def test_few_rows_are_not_summed_up() -> None:
    assert "more)" not in text_of(crowd(8))
    assert "--all" not in text_of(crowd(8))


def test_drivers_are_chosen_by_name() -> None:
    chosen = of_drivers({**crowd(20), "CutOff": []}, ("host1*", "target"))
    assert [p["Name"] for p in chosen["Processes"]] == ["target", "host1", *(f"host1{i}" for i in range(10))]
    assert [a["Name"] for a in chosen["Adapters"]] == ["nic0"]
    assert len(chosen["Bindings"]) == 11
    assert of_drivers(chosen, ()) is chosen
    with pytest.raises(ChimneyError, match=r"no driver is called nic.*target"):
        of_drivers(chosen, ("nic*",))
