"""Reading YAML values strictly, with errors that name file, line and path.

A reader goes over YAML nodes instead of loaded values, because only nodes know their lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import yaml

from hoststack.model import events
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import OFFLOADABLE_TCP_STATES, TcpOffloadConnectionState
from ndisbus.errors import LocalProtocolError
from ndisbus.net.ethernet import parse_mac

__all__ = [
    "MAX_CONNECTIONS",
    "Key",
    "Read",
    "Reader",
    "ScenarioError",
    "is_empty",
    "read_address",
    "read_bool",
    "read_choice",
    "read_count",
    "read_events",
    "read_expectation",
    "read_mac",
    "read_names",
    "read_plain",
    "read_seconds",
    "read_tcp_state",
    "read_text",
]

#: Most connections of one definition.
MAX_CONNECTIONS: Final = 1_000_000


class ScenarioError(LocalProtocolError):
    """A scenario file has a mistake; the text begins with file, line and path."""


Read = Callable[["Reader", yaml.Node, str], Any]


@dataclass(slots=True, frozen=True)
class Key:
    """How to read the value of a key. A key without a default is required."""

    read: Read
    default: Any = ...


class Reader:
    """Converts nodes to values. Callers pass the path of a value; the line comes from the node."""

    def __init__(self, file: str) -> None:
        self.file = file

    def error(self, node: yaml.Node, path: str, text: str) -> ScenarioError:
        return ScenarioError(f"{self.file}:{node.start_mark.line + 1}: {path or 'scenario'}: {text}")

    def items(self, node: yaml.Node, path: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """(key, node of the key, node of the value) for a mapping with different strings as keys."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, path, "a map is expected")
        found: dict[str, None] = {}
        out: list[tuple[str, yaml.Node, yaml.Node]] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.error(key, path, "a key must be a plain string")
            if key.value in found:
                raise self.error(key, path, f"key {key.value!r} is given twice")
            found[key.value] = None
            out.append((str(key.value), key, value))
        return out

    def keys(self, node: yaml.Node, path: str, known: dict[str, Key]) -> dict[str, Any]:
        """The values of a mapping with the keys ``known`` and no others."""
        if is_empty(node):
            node = yaml.MappingNode("tag:yaml.org,2002:map", [], node.start_mark, node.end_mark)
        values: dict[str, Any] = {}
        for name, key, value in self.items(node, path):
            if name not in known:
                raise self.error(key, path, f"unknown key {name!r}; known keys: {', '.join(sorted(known))}")
            values[name] = known[name].read(self, value, f"{path}.{name}" if path else name)
        for name, k in known.items():
            if name not in values:
                if k.default is ...:
                    raise self.error(node, path, f"key {name!r} is missing")
                values[name] = k.default
        return values

    def sequence(self, node: yaml.Node, path: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, path, "a list is expected")
        return list(node.value)

    def scalar(self, node: yaml.Node, path: str, kinds: type | tuple[type, ...], what: str) -> Any:
        value = yaml.SafeLoader("").construct_object(node) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            shown = node.value if isinstance(node, yaml.ScalarNode) else "something nested"
            raise self.error(node, path, f"{what} is expected, not {shown!r}")
        return value


def is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def read_text(r: Reader, node: yaml.Node, path: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        raise r.error(node, path, "a text is expected")
    return str(node.value)


def read_bool(r: Reader, node: yaml.Node, path: str) -> bool:
    return bool(r.scalar(node, path, bool, "true or false"))


def read_seconds(r: Reader, node: yaml.Node, path: str) -> float:
    value = float(r.scalar(node, path, (int, float), "a number of seconds"))
    if not 0 <= value <= 3600:
        raise r.error(node, path, f"{value:g} s is not in the range 0 to 3600 s")
    return value


def read_count(low: int, high: int) -> Read:
    def read(r: Reader, node: yaml.Node, path: str) -> int:
        value = int(r.scalar(node, path, int, "a whole number"))
        if not low <= value <= high:
            raise r.error(node, path, f"{value} is not in the range {low} to {high}")
        return value

    return read


def read_names(r: Reader, node: yaml.Node, path: str) -> tuple[str, ...]:
    if isinstance(node, yaml.ScalarNode):
        return (read_text(r, node, path),)
    names = tuple(read_text(r, n, f"{path}[{i}]") for i, n in enumerate(r.sequence(node, path)))
    if not names:
        raise r.error(node, path, "at least one name is expected")
    return names


def read_mac(r: Reader, node: yaml.Node, path: str) -> bytes:
    text = read_text(r, node, path)
    try:
        return parse_mac(text)
    except LocalProtocolError as e:
        raise r.error(node, path, str(e)) from None


def read_address(r: Reader, node: yaml.Node, path: str) -> bytes:
    text = read_text(r, node, path)
    try:
        return ip_address(text).packed
    except ValueError:
        raise r.error(node, path, f"{text!r} is not an IP address") from None


def read_tcp_state(r: Reader, node: yaml.Node, path: str) -> TcpOffloadConnectionState:
    text = read_text(r, node, path)
    name = text if text.startswith("TcpConnection") else f"TcpConnection{text}"
    try:
        return TcpOffloadConnectionState[name]
    except KeyError:
        known = ", ".join(s.name.removeprefix("TcpConnection") for s in sorted(OFFLOADABLE_TCP_STATES))
        raise r.error(node, path, f"{text!r} is not a TCP state; offloadable are: {known}") from None


def _symbol(r: Reader, node: yaml.Node, path: str, text: str) -> str:
    """The DDI symbol of a status that is given with or without its prefix."""
    for status in NdisStatus:
        if text in (status.name, status.symbol):
            return status.symbol
    raise r.error(node, path, f"{text!r} is not a status of the interface")


def read_expectation(r: Reader, node: yaml.Node, path: str) -> str | dict[str, int]:
    """``success``, ``any``, or a map of statuses to numbers of objects."""
    if isinstance(node, yaml.ScalarNode):
        text = read_text(r, node, path)
        if text not in ("success", "any"):
            raise r.error(node, path, f"success, any, or a map of statuses is expected, not {text!r}")
        return text
    read = read_count(0, MAX_CONNECTIONS * 3)
    return {
        _symbol(r, key, path, name): int(read(r, value, f"{path}.{name}"))
        for name, key, value in r.items(node, path)
    }


def read_choice(*known: str) -> Read:
    def read(r: Reader, node: yaml.Node, path: str) -> str:
        text = read_text(r, node, path)
        if text not in known:
            raise r.error(node, path, f"{text!r} is not one of: {', '.join(known)}")
        return text

    return read


def read_events(r: Reader, node: yaml.Node, path: str) -> dict[str, int]:
    read = read_count(0, 1 << 31)
    found = {}
    for name, key, value in r.items(node, path):
        if name not in events.__all__ or name == "HostEvent":
            raise r.error(key, path, f"{name!r} is not an event of hoststack.model.events")
        found[name] = int(read(r, value, f"{path}.{name}"))
    return found


def read_plain(r: Reader, node: yaml.Node, path: str) -> dict[str, Any]:
    """A map of plain values, which is passed on unchanged: the bus checks the keys of a fault."""
    return {
        name: r.scalar(v, f"{path}.{name}", object, "a plain value") for name, _, v in r.items(node, path)
    }
