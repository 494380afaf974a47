"""Circles of imports, those for the type checker included: each is known, and its folder says why."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("ndisbus", "hoststack", "target", "imdriver")

#: Folders that hold a circle. Their docstrings give the reason.
KNOWN = {"ndisbus.driver", "hoststack.api", "hoststack.asyncio"}


def imports() -> dict[str, set[str]]:
    """What each module imports of the four packages."""
    paths = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            paths[name.removesuffix(".__init__")] = path
    found = {}
    for name, path in paths.items():
        used = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    used |= {f"{node.module}.{alias.name}", node.module} & paths.keys()
            elif isinstance(node, ast.Import):
                used |= {alias.name for alias in node.names} & paths.keys()
        # What a package exports is not a dependency of the modules below it.
        found[name] = {u for u in used if u != name and paths[u].name != "__init__.py"}
    return found


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """The modules that ``start`` imports, directly or through others."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        for name in graph[todo.pop()] - seen:
            seen.add(name)
            todo.append(name)
    return seen


def test_circles_stand_only_in_folders_that_give_a_reason() -> None:
    graph = imports()
    circular = {name for name in graph if name in reachable(graph, name)}
    assert {name.rpartition(".")[0] for name in circular} == KNOWN


@pytest.mark.parametrize("folder", sorted(KNOWN))
def test_a_folder_with_a_circle_says_why(folder: str) -> None:
    page = ROOT / folder.replace(".", "/") / "__init__.py"
    assert "circle" in (ast.get_docstring(ast.parse(page.read_text(encoding="utf-8"))) or "")
