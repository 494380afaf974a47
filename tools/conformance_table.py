"""Keeps the tables of docs/tcp.md and the tests that prove them together.

    python tools/conformance_table.py            write the names of tests into the tables
    python tools/conformance_table.py --check    write nothing; exit 1 if a name is missing or stale

A row begins with its id, ``RFC9293-MUST-58``; a test that proves it names the id in its docstring. The last
column is made from that: the tests' names, by file. What stands there before the first name (why something
is not done, and where that is on purpose) is kept. Both forms exit with 1 for a row that neither a test
proves nor a reason leaves out, for an id that no row has, and for a conformance test that names none.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["CONFORMANCE", "PAGE", "citations", "main", "render", "rows"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/tcp.md"
CONFORMANCE = "tests/unit/ndisbus/tcp/conformance"
"""Every test in this folder names an id; the names of its files stand in the tables without the folder."""

_ID = re.compile(r"\bRFC\d{3,4}-\w+(?:[.-]\w+)*")
_ROW = re.compile(r"^\| (?P<id>RFC\d{3,4}-\S+) \| (?P<level>[^|]+) \| (?P<what>[^|]+) \|(?P<proof>[^|]*)\|$")
_ROW_LIKE = re.compile(r"^\| *RFC\d")
_LEVELS = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "must", "should", "may")
_NOT_DONE = "**not done:** "


def citations(root: Path) -> dict[str, dict[str, list[str]]]:
    """id -> file -> tests that name it; under the id "" the conformance tests that name none."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        name = path.relative_to(root).as_posix()
        if name.startswith("tests/unit/tools/"):
            continue  # the sample text of tests of tools like this one
        for test, ids in _tests(ast.parse(path.read_text(encoding="utf-8"), name)):
            for one in ids or [""] * name.startswith(CONFORMANCE):
                found.setdefault(one, {}).setdefault(name, []).append(test)
    return found


def _tests(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name, list(dict.fromkeys(_ID.findall(ast.get_docstring(node) or "")))


def rows(page: str) -> list[tuple[str, str, str]]:
    """(id, level, proof) of every row."""
    matches = (_ROW.match(line) for line in page.splitlines())
    return [(m["id"], m["level"], m["proof"].strip()) for m in matches if m]


def _proof(old: str, tests: dict[str, list[str]]) -> str:
    """The last column: what is not done and why, and then the tests."""
    reason = re.split(r"(?:; shown by )?`", old)[0].strip() if old.startswith(_NOT_DONE) else ""
    parts = []
    for file, names in tests.items():
        short = file.removeprefix(CONFORMANCE + "/").removeprefix("tests/unit/")
        parts.append(f"`{short}`: " + ", ".join(f"`{name}`" for name in names))
    joined = "; ".join(parts)
    return f"{reason}; shown by {joined}" if reason and joined else reason or joined


def render(page: str, found: dict[str, dict[str, list[str]]]) -> str:
    """The page with the last columns as they should be."""
    lines = []
    for line in page.splitlines():
        row = _ROW.match(line)
        if row is None:
            lines.append(line)
        else:
            proof = _proof(row["proof"].strip(), found.get(row["id"], {}))
            lines.append(f"| {row['id']} | {row['level']} | {row['what']} | {proof} |")
    return "\n".join(lines) + "\n"


def _complaints(page: str, found: dict[str, dict[str, list[str]]]) -> Iterator[str]:
    for number, line in enumerate(page.splitlines(), 1):
        if _ROW_LIKE.match(line) and not _ROW.match(line):
            yield f"{PAGE}:{number}: not of the form «| id | level | what it asks | proved by |»"
    listed = rows(page)
    known = {one for one, _, _ in listed}
    for one in known:
        if sum(other == one for other, _, _ in listed) > 1:
            yield f"{PAGE}: {one} has more than one row"
    for one, level, proof in listed:
        if level not in _LEVELS:
            yield f"{PAGE}: {one}: {level!r} is not a level"
        if not found.get(one) and not proof.startswith(_NOT_DONE):
            yield f"{PAGE}: {one}: no test names it; without one the row says «{_NOT_DONE}» and why"
    for one, files in sorted(found.items()):
        if one not in known:
            complaint = f"{one} is not a row of {PAGE}" if one else "names no row"
            yield from (f"{file}::{test}: {complaint}" for file, tests in files.items() for test in tests)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The tables of docs/tcp.md and the tests that prove them.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if something is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    options = parser.parse_args(arguments)
    path = options.root / PAGE
    page = path.read_text(encoding="utf-8")
    found = citations(options.root)
    complaints = list(_complaints(page, found))
    fresh = render(page, found)
    if fresh != page:
        if options.check:
            complaints.append(f"{PAGE} is stale: run python tools/conformance_table.py")
        else:
            path.write_text(fresh, encoding="utf-8")
    for complaint in complaints:
        sys.stderr.write(f"{complaint}\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    raise SystemExit(main())
