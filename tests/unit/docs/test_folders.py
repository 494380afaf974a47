"""The docstring of a folder names its files, so that a reader who opens the folder knows where to begin."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("ndisbus", "target", "imdriver", "hoststack")
#: Their docstring is about their public names; docs/architecture.md lists their folders.
PUBLIC = {"hoststack", "target"}
FOLDERS = [
    p.parent
    for package in PACKAGES
    for p in sorted((ROOT / package).rglob("__init__.py"))
    if p.parent.name not in PUBLIC
]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_folder_names_all_its_files(folder: Path) -> None:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    names = {p.stem for p in folder.glob("*.py")} - {"__init__", "__main__"}
    names |= {p.parent.name for p in folder.glob("*/__init__.py")}
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()
