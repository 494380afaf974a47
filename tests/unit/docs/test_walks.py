"""Walks and tables of docs/architecture.md: every file and function that they name exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def steps() -> Iterator[tuple[str, list[str]]]:
    """Each file that the page names, with the functions in backquotes that directly follow it."""
    for found in re.finditer(r"`([\w/]+\.py)`((?:,?\s+`[\w.]+`)+)", PAGE):
        yield found[1], re.findall(r"`([\w.]+)`", found[2])


def defined(path: Path) -> set[str]:
    """Functions and methods (Class.method) of a module."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{x.name}" for x in node.body if isinstance(x, ast.FunctionDef)}
    return names


@pytest.mark.parametrize(("file", "functions"), list(steps()))
def test_what_a_walk_names_exists(file: str, functions: list[str]) -> None:
    assert set(functions) <= defined(ROOT / file)


def test_a_walk_has_about_a_dozen_steps() -> None:
    walks = re.split(r"^## ", PAGE.split("\n## Walks\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    for walk in walks.split("\n### ")[1:]:
        assert 10 <= len(re.findall(r"^\d+\. ", walk, re.MULTILINE)) <= 15, walk.splitlines()[0]
