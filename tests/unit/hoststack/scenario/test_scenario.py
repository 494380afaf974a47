"""Scenario files: what is read, and what every complaint names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoststack.scenario.check import VERBS, ScenarioError, Step, load, parse
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState

DEFINE = """\
define:
  neighbors:
    - {name: gw, mac: "02:00:00:00:00:01"}
  paths:
    - {name: p, neighbor: gw, source: 10.0.0.1, destination: "10.0.0.2"}
  connections:
    - {name: c, path: p, count: 3}
"""
SCENARIOS = sorted((Path(__file__).parents[4] / "scenarios").glob("*.yaml"))


def complaint(text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        parse(text, "s.yaml")
    return str(caught.value)


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda p: p.stem)
def test_the_scenarios_that_come_with_the_project_are_right(file: Path) -> None:
    found = load(file)
    assert found.name == file.stem
    assert found.description
    assert found.steps


def test_there_are_scenarios_for_the_usual_faults() -> None:
    assert {"basic", "kill", "relink", "stall"} <= {p.stem for p in SCENARIOS}


def test_values_and_defaults() -> None:
    found = parse(DEFINE + "steps:\n  - offload: {objects: c}\n  - kill: target\n", "dir/some.yaml")
    assert (found.name, found.seed, found.timeout) == ("some", 0, 10.0)
    assert found.neighbors[0]["mac"] == b"\2\0\0\0\0\1"
    assert found.paths[0]["destination"] == bytes((10, 0, 0, 2))
    assert found.connections[0]["state"] is TcpOffloadConnectionState.TcpConnectionEstablished
    offload, kill = found.steps
    assert offload.arguments == {
        "objects": ("c",),
        "expect": "success",
        "refused": None,
        "timeout": None,
        "wait": True,
    }
    assert kill == Step("kill", {"name": "target"}, "dir/some.yaml:10: steps[1].kill")


def test_statuses_are_known_with_and_without_their_prefix() -> None:
    text = "steps:\n  - offload: {objects: c, expect: {SUCCESS: 3, NDIS_STATUS_OFFLOAD_TCP_ENTRIES: 1}}\n"
    assert parse(DEFINE + text).steps[0].arguments["expect"] == {
        "NDIS_STATUS_SUCCESS": 3,
        "NDIS_STATUS_OFFLOAD_TCP_ENTRIES": 1,
    }


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sedd: 1\nsteps: []\n", ["s.yaml:1:", "unknown key 'sedd'", "seed"]),
        (
            "steps:\n  - offload: {objects: c, expct: any}\n",
            ["s.yaml:2: steps[0].offload", "unknown key 'expct'"],
        ),
        ("steps:\n  - ofload: {objects: c}\n", ["s.yaml:2: steps[0]", "unknown step 'ofload'"]),
        ("steps:\n  - offload:\n", ["s.yaml:2: steps[0].offload", "'objects' is missing"]),
        ("steps:\n  - {query: {objects: c}, update: {objects: c}}\n", ["s.yaml:2:", "one key"]),
        ("steps: []\nsteps: []\n", ["s.yaml:2:", "given twice"]),
        ("steps: 5\n", ["s.yaml:1: steps", "a list is expected"]),
        ("name: x\n", ["s.yaml:1:", "'steps' is missing"]),
        ("[]\n", ["s.yaml:1:", "a map is expected"]),
        ("", ["s.yaml:1:", "empty"]),
        ("steps: [\n", ["s.yaml:2", "not YAML"]),
        ("timeout: soon\nsteps: []\n", ["s.yaml:1: timeout", "'soon'"]),
        ("timeout: -1\nsteps: []\n", ["s.yaml:1: timeout", "-1"]),
        ("seed: true\nsteps: []\n", ["s.yaml:1: seed", "whole number"]),
        (
            "steps:\n  - repeat: {times: 0, steps: []}\n",
            ["s.yaml:2: steps[0].repeat.times", "0 is not in the range 1"],
        ),
        (
            "steps:\n  - parallel:\n      - sleep: {second: 1}\n",
            ["s.yaml:3: steps[0].parallel[0].sleep", "'second'"],
        ),
        ("steps:\n  - repeat: {times: 2, steps: [{kil: x}]}\n", ["steps[0].repeat.steps[0]", "'kil'"]),
        ("steps:\n  - expect: {}\n", ["s.yaml:2:", "give a key besides timeout"]),
        ("steps:\n  - expect: {events: {Boundd: 1}}\n", ["events", "'Boundd'"]),
        ("steps:\n  - expect: {chimney: open}\n", ["chimney", "'open' is not one of"]),
        ("steps:\n  - fault: {reset: true, fired: true}\n", ["one of add, reset and fired"]),
        ("steps:\n  - terminate: {idle: true}\n", ["either objects or all"]),
        ("? [a]\n: 1\nsteps: []\n", ["s.yaml:1:", "a plain string"]),
    ],
)
def test_complaints_name_file_line_and_path(text: str, parts: list[str]) -> None:
    found = complaint(text)
    assert found.startswith("s.yaml:")
    for part in parts:
        assert part in found


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("steps:\n  - offload: {objects: nobody}\n", "'nobody'"),
        ("steps:\n  - relink: {paths: c, neighbor: gw}\n", "'c' is not among the paths"),
        ("steps:\n  - relink: {paths: p, neighbor: p}\n", "'p' is not among the neighbors"),
        ("steps:\n  - failover: {old: gw, new: c}\n", "'c' is not among"),
        (
            "steps:\n  - update: {objects: p, mac: '02:00:00:00:00:02'}\n",
            "'p' is not among the neighbors",
        ),
        ("steps:\n  - update: {objects: gw, mtu: 1400}\n", "'gw' is not among the paths"),
        ("steps:\n  - send: {objects: gw, bytes: 1}\n", "'gw' is not among the connections"),
        ("steps:\n  - parallel: [{offload: {objects: x}}]\n", "'x'"),
        ("steps:\n  - offload: {objects: []}\n", "at least one"),
        ("steps:\n  - offload: {objects: c, expect: fine}\n", "'fine'"),
        ("steps:\n  - offload: {objects: c, expect: {SUCESS: 1}}\n", "'SUCESS' is not a status"),
        ("steps:\n  - query: {objects: c, classes: all}\n", "'all' is not one of"),
    ],
)
def test_only_defined_names_and_known_words_are_used(text: str, part: str) -> None:
    assert part in complaint(DEFINE + text)


@pytest.mark.parametrize(
    ("define", "part"),
    [
        ("neighbors: [{name: n, mac: '02:00'}]", "'02:00' is not a MAC address"),
        ("neighbors: [{name: n, mac: 'zz:00:00:00:00:00'}]", "is not a MAC address"),
        ("neighbors: [{name: n, mac: '02:00:00:00:00:01', vlan: 5000}]", "5000"),
        ("neighbors: [{name: n, mac: '02:00:00:00:00:01', color: red}]", "unknown key 'color'"),
        (
            "paths: [{name: p, neighbor: n, source: 1.2.3.4, destination: 1.2.3.5}]",
            "'n' is not one of the neighbors",
        ),
        (
            "paths: [{name: p, neighbor: n, source: 1.2.3, destination: 1.2.3.5}]",
            "'1.2.3' is not an IP address",
        ),
        ("connections: [{name: c, path: p, state: Open}]", "'Open' is not a TCP state"),
        ("connections: [{name: c, path: p}]", "'p' is not one of the paths"),
    ],
)
def test_definitions_are_checked(define: str, part: str) -> None:
    assert part in complaint(f"define:\n  {define}\nsteps: []\n")


def test_the_inventory_s_names_exist_only_where_it_is_asked_for() -> None:
    step = "steps:\n  - offload: {objects: inventory.connections}\n"
    found = parse("define: {inventory: {others: false}}\n" + step)
    assert found.inventory == {"connections": 64, "others": False}
    assert "inventory.connections" in complaint(DEFINE + step)
    relink = "steps:\n  - relink: {paths: inventory.paths, neighbor: inventory.paths}\n"
    assert "'inventory.paths' is not among" in complaint("define: {inventory: {}}\n" + relink)
    assert "unknown" in complaint("define: {inventory: {count: 3}}\n" + step)


def test_a_name_is_taken_once() -> None:
    text = "define:\n  neighbors:\n" + "    - {name: n, mac: '02:00:00:00:00:01'}\n" * 2 + "steps: []\n"
    found = complaint(text)
    assert found.startswith("s.yaml:4: define.neighbors[1]")
    assert "'n' is already defined" in found


def test_nesting_has_a_limit() -> None:
    deep = "steps: " + "[{parallel: " * 40 + "[]" + "}]" * 40
    assert "deeper" in complaint(deep)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path / "binary.yaml")


@given(st.text(max_size=200))
def test_any_text_is_a_scenario_or_a_complaint(text: str) -> None:
    try:
        parse(text, "s.yaml")
    except ScenarioError as e:
        said = str(e)
    else:
        said = "s.yaml"
    assert said.startswith("s.yaml")


@given(st.sampled_from(sorted(VERBS)), st.dictionaries(st.sampled_from("abcxyz"), st.integers(), min_size=1))
def test_unknown_keys_are_errors_in_every_step(verb: str, keys: dict[str, int]) -> None:
    body = "{" + ", ".join(f"{k}: {v}" for k, v in keys.items()) + "}"
    with pytest.raises(ScenarioError):
        parse(f"steps:\n  - {verb}: {body}\n")
