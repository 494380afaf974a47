"""verdict.py decides, and changes nothing: what it could change with is not in it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ndisbus.tcp.arrival
import ndisbus.tcp.verdict
from ndisbus.tcp.verdict import Verdict

SOURCE = Path(ndisbus.tcp.verdict.__file__).read_text(encoding="utf-8")
READERS = {"_in_window", "_outside", "ack_counts", "judge", "passes", "seq_diff"}
"""Functions that judge() may call. TimestampClock.passes compares, and changes nothing."""


def impure(source: str) -> list[str]:
    """What in a module could change an object: assignments to members, and calls of anything but readers."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            if name not in READERS:
                found.append(ast.unparse(node))
    return found


def test_judging_changes_nothing() -> None:
    """RFC9293-3.10.7.4-ORDER: no check comes after a change, because the checks cannot change anything."""
    assert impure(SOURCE) == []


@pytest.mark.parametrize(
    "line", ["m.timestamps.take(1, 2)", "d.snd_nxt = d.snd_una", "m.ack_clock.owe()", "del m.gaps"]
)
def test_a_change_would_be_found(line: str) -> None:
    assert impure(line)


def test_every_verdict_is_given_and_acted_on() -> None:
    arrival = Path(ndisbus.tcp.arrival.__file__).read_text(encoding="utf-8")
    for verdict in Verdict:
        assert f"Verdict.{verdict.name}" in SOURCE
        if verdict is not Verdict.IGNORED:
            assert f"Verdict.{verdict.name}" in arrival
