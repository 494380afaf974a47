"""Each field of a part of the TCP machine is assigned by the module of that part alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ndisbus.tcp
from ndisbus.state.tcp import TcpOffloadStateDelegated
from ndisbus.tcp.ack_clock import AckClock
from ndisbus.tcp.challenge_limit import ChallengeLimit
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.keepalive import KeepAlive
from ndisbus.tcp.recovery import Recovery
from ndisbus.tcp.rtt import RoundTrip
from ndisbus.tcp.timer import SendTimer
from ndisbus.tcp.timestamps import TimestampClock

PARTS = (AckClock, ChallengeLimit, KeepAlive, Recovery, RoundTrip, SendTimer, TimestampClock)

#: Modules beside a part's own that may assign to its members: the part's arithmetic, on the structure.
HELPERS = {"congestion": "recovery"}

MODULES = sorted(p for p in Path(ndisbus.tcp.__path__[0]).glob("*.py"))


def owners() -> dict[str, str]:
    """The module that owns a field, by the field's name; names that two owners have are refused."""
    found: dict[str, str] = {}
    for part in PARTS:
        module = part.__module__.rpartition(".")[2]
        names = {name for name in part.__slots__ if not name.startswith("_")}
        # "due" and "kind" belong to several timers; who assigns to them may do so to its own only (``self``).
        for name in names - {"due", "kind", "probe", "at"}:
            assert name not in found, f"{name} has two owners: {found[name]} and {module}"
            found[name] = module
        for name in getattr(part, "OWNS", ()):
            assert name in TcpOffloadStateDelegated.__dataclass_fields__
            assert name not in found
            found[name] = module
    return found


def assigned(tree: ast.AST) -> list[tuple[str, str, int]]:
    """(attribute, the expression before it, line) of every assignment to an attribute."""
    result = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            result.append((node.attr, ast.unparse(node.value), node.lineno))
    return result


def violations(source: str, module: str) -> list[str]:
    """Assignments in this module to what belongs to a part of another one."""
    owner_of = owners()
    parts = {name for part in PARTS for name in part.__slots__}
    fields = {"ack_clock", "challenges", "keepalive", "recovery", "rtt", "timer", "timestamps"}
    found = []
    for name, base, line in assigned(ast.parse(source)):
        if base == "self":
            continue
        owner = owner_of.get(name)
        foreign = owner is not None and owner != module and HELPERS.get(module) != owner
        # Whatever the name: nothing is assigned through a part.
        through = name in parts and base.rpartition(".")[2] in fields | {"acks"}
        if foreign or through:
            found.append(f"{module}.py:{line}: {base}.{name}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_a_field_is_written_by_its_part_alone(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), path.stem) == []


@pytest.mark.parametrize(
    "line", ["m.delegated.c_wnd += 1", "d.s_rtt = 0", "m.timer.due = 5", "timer.backoff = 0", "m.rtt.at = -1"]
)
def test_an_assignment_from_outside_would_be_found(line: str) -> None:
    assert violations(line, "arrival")


def test_the_parts_are_what_a_connection_has() -> None:
    """Every part that is listed here is a field of the connection, so that none goes unwatched."""
    annotations = " ".join(str(a) for a in TcpConnection.__annotations__.values())
    for part in PARTS:
        assert part.__name__ in annotations


def test_every_field_of_a_part_is_described() -> None:
    """The invariant stands beside the field: a string behind its annotation."""
    for part in PARTS:
        path = Path(ndisbus.tcp.__path__[0]) / f"{part.__module__.rpartition('.')[2]}.py"
        [node] = [
            n
            for n in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(n, ast.ClassDef) and n.name == part.__name__
        ]
        described = {
            before.target.id
            for before, after in zip(node.body, node.body[1:], strict=False)
            if isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        }
        hidden = {"_cached", "_delegated", "_parameters", "_rtt", "_settings", "settings"}
        assert set(part.__slots__) - hidden <= described, part
