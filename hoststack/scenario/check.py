"""Reading and checking scenarios: YAML files with objects, steps, expectations and faults.

A file is checked completely before anything runs. Every mistake in it, such as an unknown key, is a
:class:`ScenarioError` that names file, line and path. The table :data:`VERBS` has the steps and their keys;
the files in ``scenarios/`` show how they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final

import yaml

from hoststack.scenario.reader import (
    MAX_CONNECTIONS,
    Key,
    Read,
    Reader,
    ScenarioError,
    is_empty,
    read_address,
    read_bool,
    read_choice,
    read_count,
    read_events,
    read_expectation,
    read_mac,
    read_names,
    read_plain,
    read_seconds,
    read_tcp_state,
    read_text,
)
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState

__all__ = ["INVENTORY_NAMES", "VERBS", "Scenario", "ScenarioError", "Step", "load", "parse"]

_MAX_DEPTH: Final = 16


@dataclass(slots=True, frozen=True)
class Step:
    """One step: a verb of :data:`VERBS` and its arguments, checked and with defaults filled in."""

    verb: str
    arguments: dict[str, Any]
    where: str


@dataclass(slots=True, frozen=True)
class Scenario:
    """A checked scenario. The three tuples are the entries of ``define``, in the order of the file.

    ``inventory``: how to read real connections of this machine, whose names are :data:`INVENTORY_NAMES`.
    """

    name: str
    description: str
    seed: int
    timeout: float
    neighbors: tuple[dict[str, Any], ...]
    paths: tuple[dict[str, Any], ...]
    connections: tuple[dict[str, Any], ...]
    inventory: dict[str, Any] | None
    steps: tuple[Step, ...]


_OUTCOME: Final[dict[str, Key]] = {
    "expect": Key(read_expectation, "success"),
    "refused": Key(read_text, None),
    "timeout": Key(read_seconds, None),
    "wait": Key(read_bool, True),
}
_OBJECTS: Final = Key(read_names)
_ANY: Final = read_count(0, MAX_CONNECTIONS)

#: The steps and their keys.
VERBS: Final[dict[str, dict[str, Key]]] = {
    "wait_bound": {
        "timeout": Key(read_seconds, None),
        "chimney": Key(read_choice("enabled", "refused", "paused"), "enabled"),
    },
    "offload": {"objects": _OBJECTS, **_OUTCOME},
    "query": {
        "objects": _OBJECTS,
        "classes": Key(read_choice("const", "cached", "delegated", "whole"), "delegated"),
        **_OUTCOME,
    },
    "update": {
        "objects": _OBJECTS,
        "mac": Key(read_mac, None),
        "mtu": Key(read_count(68, 65535), None),
        **_OUTCOME,
    },
    "relink": {"paths": Key(read_names), "neighbor": Key(read_text), **_OUTCOME},
    "failover": {
        "old": Key(read_text),
        "new": Key(read_text),
        "invalidate": Key(read_bool, True),
        **_OUTCOME,
    },
    "invalidate": {"objects": _OBJECTS, **_OUTCOME},
    "terminate": {
        "objects": Key(read_names, None),
        "all": Key(read_bool, False),
        "idle": Key(read_bool, False),
        **_OUTCOME,
    },
    "disable": dict(_OUTCOME),
    "enable": dict(_OUTCOME),
    "send": {"objects": _OBJECTS, "bytes": Key(read_count(1, 1 << 20))},
    "expect": {
        "offloaded": Key(_ANY, None),
        "in_host": Key(_ANY, None),
        "lost": Key(_ANY, None),
        "handles": Key(_ANY, None),
        "operations": Key(_ANY, None),
        "posted": Key(_ANY, None),
        "violations": Key(_ANY, None),
        "chimney": Key(read_choice("unbound", "asking", "enabled", "paused", "refused", "disabled"), None),
        "events": Key(read_events, None),
        "timeout": Key(read_seconds, None),
    },
    "fault": {"add": Key(read_plain, None), "reset": Key(read_bool, False), "fired": Key(read_bool, False)},
    "kill": {"name": Key(read_text)},
    "stall": {"name": Key(read_text)},
    "resume": {"name": Key(read_text)},
    "restart": {"name": Key(read_text)},
    "sleep": {"seconds": Key(read_seconds)},
    "join": {"timeout": Key(read_seconds, None)},
    "repeat": {"times": Key(read_count(1, 1_000_000))},
    "parallel": {},
}
_PROCESS: Final = frozenset(("kill", "stall", "resume", "restart"))

_CHECKS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "terminate": lambda a: "" if (a["objects"] is None) is a["all"] else "give either objects or all",
    "fault": lambda a: (
        "" if sum((a["add"] is not None, a["reset"], a["fired"])) == 1 else "give one of add, reset and fired"
    ),
    "expect": lambda a: (
        "" if any(v is not None for k, v in a.items() if k != "timeout") else "give a key besides timeout"
    ),
}

_NEIGHBOR: Final[dict[str, Key]] = {
    "name": Key(read_text),
    "mac": Key(read_mac),
    "vlan": Key(read_count(0, 4095), 0),
    "source": Key(read_mac, b""),
}
_PATH: Final[dict[str, Key]] = {
    "name": Key(read_text),
    "neighbor": Key(read_text),
    "source": Key(read_address),
    "destination": Key(read_address),
    "mtu": Key(read_count(68, 65535), 1500),
}
_CONNECTION: Final[dict[str, Key]] = {
    "name": Key(read_text),
    "path": Key(read_text),
    "count": Key(read_count(1, MAX_CONNECTIONS), 1),
    "first_port": Key(read_count(1, 65535), 49152),
    "remote_port": Key(read_count(1, 65535), 443),
    "state": Key(read_tcp_state, TcpOffloadConnectionState.TcpConnectionEstablished),
    "ip_options": Key(read_bool, False),
    "unsent": Key(read_count(0, 1 << 20), 0),
    "buffered": Key(read_count(0, 1 << 20), 0),
}


def _steps(r: Reader, node: yaml.Node, path: str, depth: int = 0) -> tuple[Step, ...]:
    if depth > _MAX_DEPTH:
        raise r.error(node, path, f"steps are nested deeper than {_MAX_DEPTH}")
    return tuple(_step(r, n, f"{path}[{i}]", depth) for i, n in enumerate(r.sequence(node, path)))


def _step(r: Reader, node: yaml.Node, path: str, depth: int) -> Step:
    """One step: a map whose only key is its verb."""
    items = r.items(node, path)
    if len(items) != 1:
        raise r.error(node, path, "a step is a map with one key, its verb")
    verb, key, value = items[0]
    if verb not in VERBS:
        raise r.error(key, path, f"unknown step {verb!r}; known steps: {', '.join(sorted(VERBS))}")
    where = f"{r.file}:{node.start_mark.line + 1}: {path}.{verb}"
    if verb == "parallel":
        return Step(verb, {"steps": _steps(r, value, f"{path}.{verb}", depth + 1)}, where)
    if verb in _PROCESS and isinstance(value, yaml.ScalarNode) and not is_empty(value):
        return Step(verb, {"name": read_text(r, value, f"{path}.{verb}")}, where)
    known = VERBS[verb]
    if verb == "repeat":
        known = {**known, "steps": Key(lambda r, n, p: _steps(r, n, p, depth + 1))}
    arguments = r.keys(value, f"{path}.{verb}", known)
    problem = _CHECKS[verb](arguments) if verb in _CHECKS else ""
    if problem:
        raise r.error(node, f"{path}.{verb}", problem)
    return Step(verb, arguments, where)


def _list_of(known: dict[str, Key]) -> Read:
    def read(r: Reader, node: yaml.Node, path: str) -> tuple[dict[str, Any], ...]:
        nodes = r.sequence(node, path)
        return tuple(
            {**r.keys(n, f"{path}[{i}]", known), "where": (n, f"{path}[{i}]")} for i, n in enumerate(nodes)
        )

    return read


#: The names that ``inventory`` defines, with their kinds.
INVENTORY_NAMES: Final = {f"inventory.{kind}": kind for kind in ("neighbors", "paths", "connections")}
_INVENTORY: Final[dict[str, Key]] = {
    "connections": Key(read_count(1, 10_000), 64),
    "others": Key(read_bool, True),
}
_DEFINE: Final[dict[str, Key]] = {
    "neighbors": Key(_list_of(_NEIGHBOR), ()),
    "paths": Key(_list_of(_PATH), ()),
    "connections": Key(_list_of(_CONNECTION), ()),
    "inventory": Key(lambda r, n, p: r.keys(n, p, _INVENTORY), None),
}
_NOTHING: Final[dict[str, Any]] = {"neighbors": (), "paths": (), "connections": (), "inventory": None}
_TOP: Final[dict[str, Key]] = {
    "name": Key(read_text, ""),
    "description": Key(read_text, ""),
    "seed": Key(read_count(0, 1 << 62), 0),
    "timeout": Key(read_seconds, 10.0),
    "define": Key(lambda r, n, p: r.keys(n, p, _DEFINE), _NOTHING),
    "steps": Key(_steps),
}


def _check_names(r: Reader, define: dict[str, Any], steps: tuple[Step, ...]) -> None:
    """Check that each name is defined once, and that steps use defined names of the right kind."""
    kinds: dict[str, str] = dict(INVENTORY_NAMES) if define["inventory"] is not None else {}
    for kind in ("neighbors", "paths", "connections"):
        for entry in define[kind]:
            node, path = entry.pop("where")
            if entry["name"] in kinds:
                raise r.error(node, path, f"the name {entry['name']!r} is already defined")
            lower = {"paths": ("neighbor", "neighbors"), "connections": ("path", "paths")}.get(kind)
            if lower is not None and kinds.get(entry[lower[0]]) != lower[1]:
                raise r.error(node, path, f"{entry[lower[0]]!r} is not one of the {lower[1]}")
            kinds[entry["name"]] = kind

    def need(step: Step, names: tuple[str, ...], *allowed: str) -> None:
        for name in names:
            if kinds.get(name) not in allowed:
                raise ScenarioError(f"{step.where}: {name!r} is not among the {' or '.join(allowed)}")

    def walk(todo: tuple[Step, ...]) -> None:
        for step in todo:
            a = step.arguments
            if a.get("steps"):
                walk(a["steps"])
            if a.get("objects"):
                allowed = ("connections",) if step.verb == "send" else ("neighbors", "paths", "connections")
                need(step, a["objects"], *allowed)
            if step.verb == "relink":
                need(step, a["paths"], "paths")
                need(step, (a["neighbor"],), "neighbors")
            if step.verb == "failover":
                need(step, (a["old"], a["new"]), "neighbors")
            if step.verb == "update" and a["mac"] is not None:
                need(step, a["objects"], "neighbors")
            if step.verb == "update" and a["mtu"] is not None:
                need(step, a["objects"], "paths")

    walk(steps)


def parse(text: str, file: str = "<scenario>") -> Scenario:
    """Read a scenario. Raises :class:`ScenarioError` naming file, line and path."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as e:
        mark = getattr(e, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ScenarioError(f"{file}{line}: not YAML: {getattr(e, 'problem', None) or e}") from e
    if node is None:
        raise ScenarioError(f"{file}:1: the file is empty")
    reader = Reader(file)
    top = reader.keys(node, "", _TOP)
    define = top["define"]
    _check_names(reader, define, top["steps"])
    return Scenario(
        top["name"] or FilePath(file).stem,
        top["description"],
        top["seed"],
        top["timeout"],
        define["neighbors"],
        define["paths"],
        define["connections"],
        define["inventory"],
        top["steps"],
    )


def load(file: FilePath) -> Scenario:
    """Read a scenario file. Raises :class:`ScenarioError`, also for a file that cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ScenarioError(f"{file}: cannot be read: {e}") from e
    return parse(text, str(file))
