"""Files, modules, classes and functions that the pages name exist in the tree."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("ndisbus", "hoststack", "imdriver", "target", "tools", "tests", "examples", "scenarios", "docs")
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
# Pages about the code. rules.md and protocol.md are about the interface; their names are compared elsewhere.
ABOUT_CODE = ("CONTRIBUTING.md", "architecture.md", "drivers.md", "glossary.md", "tcp.md", "wire.md")


@cache
def files() -> tuple[str, ...]:
    """Every file of the tree, by its path from the root."""
    found = [p for folder in FOLDERS for p in (ROOT / folder).rglob("*.*") if "__pycache__" not in p.parts]
    return tuple("/" + p.relative_to(ROOT).as_posix() for p in (*found, *ROOT.glob("*.*")))


def with_path(path: str) -> list[str]:
    """Files whose path ends like this: a page may leave out the folder that it is about."""
    return [f for f in files() if f.endswith("/" + path)]


@cache
def defined(file: str) -> frozenset[str]:
    """Classes, functions, methods and fields (``Class.name``) of a module."""
    names: set[str] = set()
    for node in ast.parse((ROOT / file.lstrip("/")).read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.ClassDef():
                names |= {node.name} | {f"{node.name}.{n}" for n in attributes(node)}
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case _:
                pass
    return frozenset(names)


def attributes(cls: ast.ClassDef) -> Iterator[str]:
    """Methods of a class, its annotated fields, and what its methods assign to ``self``."""
    for node in ast.walk(cls):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name
            case _:
                pass


@cache
def classes() -> dict[str, frozenset[str]]:
    """For each class of the tree, the names of its own and of its bases. Classes of one name count as one."""
    own: dict[str, set[str]] = {}
    bases: dict[str, set[str]] = {}
    for file in files():
        if file.endswith(".py") and not file.startswith("/tests/"):
            for node in ast.walk(ast.parse((ROOT / file.lstrip("/")).read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    own.setdefault(node.name, set()).update(attributes(node))
                    bases.setdefault(node.name, set()).update(
                        ast.unparse(b).split(".")[-1] for b in node.bases
                    )

    def ancestry(name: str) -> set[str]:
        found, left = {name}, [name]
        while left:
            new = bases.get(left.pop(), set()) - found
            found |= new
            left += new
        return found

    return {name: frozenset().union(*(own.get(c, set()) for c in ancestry(name))) for name in own}


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def quoted(page: Path) -> list[str]:
    """What stands in backquotes in a page's text."""
    return re.findall(r"`([^`\n]+)`", prose(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_modules_that_a_page_names_exist(page: Path) -> None:
    """In text, diagrams and commands alike."""
    named = set(re.findall(r"(?<![\w/.*-])[\w/-]+\.py\b", page.read_text(encoding="utf-8")))
    assert [name for name in sorted(named) if not with_path(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_folders_and_files_that_a_page_names_exist(page: Path) -> None:
    paths = [q for q in quoted(page) if re.fullmatch(r"[\w.-]+(/[\w.-]*)+", q) and q.split("/")[0] in FOLDERS]
    assert [q for q in paths if not (ROOT / q).exists() and not with_path(q)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_modules_and_names_with_dots_can_be_imported(page: Path) -> None:
    packages = r"(?:ndisbus|hoststack|imdriver|target|tools)(?:\.\w+)+"
    for name in sorted({q.removesuffix("()") for q in quoted(page)}):
        if re.fullmatch(packages, name):
            assert reachable(name), name


def reachable(name: str) -> bool:
    """Whether a dotted name is a module, or a name of one."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return hasattr(importlib.import_module(module), attribute)
    return True


@pytest.mark.parametrize("page", [p for p in PAGES if p.name in ABOUT_CODE], ids=lambda p: p.name)
def test_methods_that_a_page_names_exist(page: Path) -> None:
    """``Class.method``, where the tree has that class."""
    for name in quoted(page):
        if found := re.fullmatch(r"(_?[A-Z]\w+)\.(\w+)(?:\(.*\))?", name):
            own = classes().get(found[1])
            assert own is None or found[2] in own, name


@pytest.mark.parametrize("page", [p for p in PAGES if p.name in ABOUT_CODE], ids=lambda p: p.name)
def test_names_stand_in_the_file_behind_them(page: Path) -> None:
    """```name` (`file.py`)``: the file defines the name."""
    for name, file in re.findall(r"`([\w.]+)`\s+\(`([\w/]+\.py)`", prose(page)):
        assert any(name in defined(f) for f in with_path(file)), (name, file)


@pytest.mark.parametrize("page", [p for p in PAGES if p.name in ABOUT_CODE], ids=lambda p: p.name)
def test_words_that_look_like_names_of_the_code_occur_in_it(page: Path) -> None:
    """Catches a name that was changed in the code and not in the page."""
    for name in sorted({q.removesuffix("()") for q in quoted(page)}):
        if re.fullmatch(r"_?[A-Za-z][\w.]*", name) and re.search(r"_|[a-z][A-Z]|\.", name):
            words = [w for w in name.split(".") if not w.isupper() and not w.endswith("Xxx")]
            assert set(words) <= vocabulary(), name


@cache
def vocabulary() -> frozenset[str]:
    """Every word of the code, and of the files that configure it."""
    sources = [f for f in files() if f.endswith((".py", ".toml", ".yaml"))]
    text = "\n".join((ROOT / f.lstrip("/")).read_text(encoding="utf-8") for f in sources)
    stems = {part for f in files() for part in re.split(r"[/.]", f)}
    return frozenset(re.findall(r"\w+", text)) | stems
