"""Trace events as text, JSON and Mermaid."""

from __future__ import annotations

import json
import re
from typing import Any

import click
import pytest

from ndisbus.cli.trace_format import JsonFormatter, MermaidFormatter, TextFormatter
from tests.support.trace_sample import EVENTS, ROOT, call


def test_text_counts_from_the_first_event_and_is_aligned() -> None:
    f = TextFormatter()
    lines = [f.line(e) for e in EVENTS]
    assert [line[:10].strip() for line in lines[:3]] == ["0.000000", "0.500000", "0.500125"]
    calls = [line for line, e in zip(lines, EVENTS, strict=True) if e["event"] == "call"]
    assert len({line.index("→") for line in calls}) == 1
    assert len({re.search("Ndis[MI]|Mini|Prot", line).start() for line in calls}) == 1  # type: ignore[union-attr]
    assert calls[0].endswith(f"↓ {'NdisInitiateOffload':<32} im0-a 2:10 ×3")
    # A status that all blocks share is said once; otherwise each with its number.
    assert calls[4].endswith("SUCCESS×2 FAILURE×1")
    assert calls[5].endswith("×3 SUCCESS")
    assert len(calls[5]) <= 100  # a completion in a terminal of 100 columns
    assert f.end() == ""


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e["event"])
def test_colour_adds_nothing_but_colour(event: dict[str, Any]) -> None:
    plain, coloured = TextFormatter(), TextFormatter(colour=True)
    line = coloured.line(event)
    assert click.unstyle(line) == plain.line(event)
    assert line != plain.line(event)


def test_unknown_event_and_unknown_call_are_shown_all_the_same() -> None:
    f = TextFormatter()
    assert f.line({"t": 1.0, "event": "novelty", "what": 1 << 40}).endswith("novelty what=0x10000000000")
    assert "NdisNew" in f.line(call(1.0, "a", "ndis", "NdisNew", "sideways"))


def test_json_is_one_line_with_everything() -> None:
    f = JsonFormatter()
    for event in EVENTS:
        line = f.line(event)
        assert "\n" not in line
        assert json.loads(line) == event
    assert f.end() == ""


def diagram(events: list[dict[str, Any]]) -> list[str]:
    f = MermaidFormatter()
    assert [f.line(e) for e in events] == [""] * len(events)
    return f.end().split("\n")


def test_mermaid_has_the_layers_as_participants_from_top_to_bottom() -> None:
    lines = diagram(EVENTS)
    assert lines[0] == "sequenceDiagram"
    assert lines[1:5] == [
        "    participant p0 as host",
        "    participant p1 as ndis",
        "    participant p2 as im",
        "    participant p3 as target",
    ]
    arrows = [line.strip() for line in lines if ">>" in line]
    assert arrows[0] == f"p0->>p1: NdisInitiateOffload im0-a {ROOT:#x} ×3"
    assert arrows[4] == f"p3-->>p1: NdisMInitiateOffloadComplete nic0 {ROOT:#x} ×3 SUCCESS×2 FAILURE×1"
    assert len(arrows) == sum(e["event"] == "call" for e in EVENTS)


def test_mermaid_notes_stand_over_whom_they_are_about_and_are_escaped() -> None:
    lines = diagram(EVENTS)
    assert "    Note over p0: hello, driver host, pid 7, epoch 3" in lines
    # A fault names no layer, so it is NDIS's.
    assert any(line.startswith("    Note over p1: fault, ") for line in lines)
    # An unescaped semicolon would end the statement, a number sign begin an entity.
    assert "    Note over p2: bugcheck, driver im, reason 50% #35; of it#59; gone" in lines


def test_mermaid_of_nothing_is_a_diagram_still() -> None:
    assert diagram([]) == ["sequenceDiagram", "    participant p0 as ndis"]
