"""Generates docs/rules_status.md: which module names which rule, which test proves it, and what is open.

    python tools/rule_index.py            write docs/rules_status.md
    python tools/rule_index.py --check    write nothing; exit 1 if that page is stale

Both exit with 1 if an id is cited that docs/rules.md does not have. A citation is an id spelled out in full,
R-XXX-NN, anywhere in the text of a module or of a test, or inside the name of a test function or class as
r_xxx_nn; case does not matter. Test files below tests/unit/tools are not read: they test the tools, and quote
ids as sample text.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RULES_PAGE = "docs/rules.md"
STATUS_PAGE = "docs/rules_status.md"
PACKAGES = ("ndisbus", "target", "imdriver", "hoststack")
TESTS = "tests"
TESTS_OF_TOOLS = "tests/unit/tools"

_HEADING = re.compile(r"^## (\d+)\. (.+)$")
_RULE = re.compile(r"^- \*\*(R-([A-Z]+)-\d\d)\*\* \*\(([^)]+)\)\* (.+) — (.+)$")
_RULE_LIKE = re.compile(r"^- \*\*R-")
_IN_TEXT = re.compile(r"\bR-([A-Z]{2,6})-(\d\d)\b", re.IGNORECASE)
_IN_NAME = re.compile(r"(?<![a-z0-9])r_([a-z]{2,6})_(\d\d)(?!\d)", re.IGNORECASE)

_ONE_AT_A_TIME = "a driver's handlers run one at a time: calls of one connection cannot overlap"
_UNEXPLAINED = "no reason is on record"

#: Why no test proves a rule.
RULE_REASONS: Mapping[str, str] = {
    **dict.fromkeys(("R-SEND-03", "R-SEND-13", "R-RECV-03", "R-RECV-06"), _ONE_AT_A_TIME),
    "R-REG-11": "it says what is out of scope: there is no code that could break it",
    "R-STATE-14": "the host does not ask: it posts what applications read, and the rest is indicated",
    "R-BRD-10": "the structures have no mark for urgent data in BufferedData",
    "R-TERM-19": "a list of motives: the program that runs the host decides",
    "R-EVT-16": "interrupt levels are not emulated",
    "R-SEND-14": "a message carries a copy of the lists: no other driver can touch them meanwhile",
    "R-IND-10": "advice, not followed: data goes on being indicated until a buffer is posted (R-IND-07)",
    "R-DLV-07": "one processor serves a connection: its data has one way",
    "R-DIS-34": "a note on the wording of a page; the rules of section 19 say the same and are proved",
}


class RulesPageError(Exception):
    """docs/rules.md cannot be read as a list of rules; the message names the line."""


@dataclass(frozen=True)
class Rule:
    """One line of docs/rules.md."""

    id: str
    prefix: str
    bound: str
    text: str
    source: str


@dataclass
class Section:
    """One numbered section of docs/rules.md with its rules in the order of the page."""

    number: int
    title: str
    rules: list[Rule] = field(default_factory=list)


@dataclass(frozen=True)
class Citation:
    """One mention of a rule: `where` is a path from the root, with ::names inside it for a test."""

    rule: str
    where: str
    path: str
    line: int


@dataclass
class Index:
    """All mentions: of modules and of tests, in the order of paths and lines."""

    modules: list[Citation]
    tests: list[Citation]

    def unknown(self, known: frozenset[str]) -> list[Citation]:
        """The citations of ids that are not in `known`."""
        return [c for c in (*self.modules, *self.tests) if c.rule not in known]


def parse_rules(page: str) -> list[Section]:
    """Reads the text of docs/rules.md.

    Raises RulesPageError for a rule outside a section, a rule line in another form, and an id given twice.
    """
    sections: list[Section] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(page.splitlines(), 1):
        if heading := _HEADING.match(line):
            sections.append(Section(int(heading[1]), heading[2]))
        elif rule := _RULE.match(line):
            if not sections:
                raise RulesPageError(f"{RULES_PAGE}:{number}: {rule[1]} stands before the first section")
            if rule[1] in seen:
                raise RulesPageError(f"{RULES_PAGE}:{number}: {rule[1]} is already on line {seen[rule[1]]}")
            seen[rule[1]] = number
            sections[-1].rules.append(Rule(rule[1], rule[2], rule[3], rule[4], rule[5]))
        elif _RULE_LIKE.match(line):
            form = "- **R-XXX-NN** *(who)* text. — source"
            raise RulesPageError(f"{RULES_PAGE}:{number}: not of the form `{form}`: {line[:60]}")
    return sections


def cited_in_text(text: str) -> Iterator[tuple[str, int]]:
    """Yields (id, line number) for every id spelled out in `text`."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in _IN_TEXT.finditer(line):
            yield f"R-{match[1].upper()}-{match[2]}", number


def cited_in_name(name: str) -> Iterator[str]:
    """Yields the ids contained in the name of a test function or class."""
    for match in _IN_NAME.finditer(name):
        yield f"R-{match[1].upper()}-{match[2]}"


def citations_of_module(path: str, text: str) -> list[Citation]:
    """The ids named anywhere in the module at `path`."""
    return [Citation(rule, path, path, line) for rule, line in cited_in_text(text)]


def citations_of_test(path: str, text: str) -> list[Citation]:
    """The ids named in the test file at `path`, each put down to the innermost test or class around it.

    Raises SyntaxError, with the path, if the file is not Python.
    """
    scopes = list(_scopes(ast.parse(text, filename=path), path))
    found: list[Citation] = []
    for rule, line in cited_in_text(text):
        # Scopes are listed outermost first, so the last one around the line is the innermost.
        around = [where for where, first, last in scopes if first <= line <= last]
        found.append(Citation(rule, around[-1] if around else path, path, line))
    for where, first, _ in scopes:
        found.extend(Citation(rule, where, path, first) for rule in cited_in_name(where.rpartition("::")[2]))
    return sorted(found, key=lambda c: (c.line, c.rule, c.where))


def _scopes(node: ast.Module | ast.ClassDef, where: str) -> Iterator[tuple[str, int, int]]:
    """Yields (name, first line, last line) of the classes and test functions in `node`, outermost first."""
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not isinstance(child, ast.ClassDef) and not child.name.startswith("test"):
            continue
        first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
        yield f"{where}::{child.name}", first, child.end_lineno or child.lineno
        if isinstance(child, ast.ClassDef):
            yield from _scopes(child, f"{where}::{child.name}")


def build_index(root: Path) -> Index:
    """Reads the packages and the tests below `root`."""
    index = Index([], [])
    for package in PACKAGES:
        for path, text in _python_files(root, package):
            index.modules.extend(citations_of_module(path, text))
    for path, text in _python_files(root, TESTS):
        if not path.startswith(f"{TESTS_OF_TOOLS}/"):
            index.tests.extend(citations_of_test(path, text))
    return index


def _python_files(root: Path, folder: str) -> Iterator[tuple[str, str]]:
    for file in sorted((root / folder).rglob("*.py")):
        yield file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")


def reason(rule: Rule) -> str:
    """Why a rule that no test proves is still open."""
    return RULE_REASONS.get(rule.id, _UNEXPLAINED)


def dead_reasons(sections: Sequence[Section], index: Index) -> list[str]:
    """Ids that have a reason although docs/rules.md does not have them or a test proves them."""
    known = {rule.id for section in sections for rule in section.rules}
    proved = {citation.rule for citation in index.tests}
    return [rule for rule in RULE_REASONS if rule not in known or rule in proved]


def _by_rule(citations: Sequence[Citation]) -> dict[str, list[str]]:
    places: dict[str, set[str]] = {}
    for citation in citations:
        places.setdefault(citation.rule, set()).add(citation.where)
    return {rule: sorted(where) for rule, where in places.items()}


_INTRODUCTION = """\
# Status of the rules

Generated by `python tools/rule_index.py` from the ids that modules and tests cite; edits made here are lost.
The rules themselves are in [rules.md](rules.md).

"Implemented in" lists the modules whose text names the rule, "proved by" the tests whose name or text does. A
test names a rule only if it fails when the rule is broken. The last column says why no test proves a rule.

In the summary, "implemented" and "proved" count the rules with an entry in that column, "both" those with an
entry in each, "open" those without an entry in either.
"""


def _slug(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def _cell(places: Sequence[str]) -> str:
    return "<br>".join(f"`{place}`" for place in places) or "-"


def render(sections: Sequence[Section], index: Index) -> str:
    """The text of docs/rules_status.md."""
    modules, tests = _by_rule(index.modules), _by_rule(index.tests)
    out = [
        _INTRODUCTION,
        "| section | rules | implemented | proved | both | open |",
        "| --- |" + " ---: |" * 5,
    ]
    total = [0] * 5
    for section in sections:
        code = {rule.id for rule in section.rules if rule.id in modules}
        test = {rule.id for rule in section.rules if rule.id in tests}
        count = len(section.rules)
        row = [count, len(code), len(test), len(code & test), count - len(code | test)]
        total = [a + b for a, b in zip(total, row, strict=True)]
        link = f"[{section.number}. {section.title}](#{_slug(f'{section.number}. {section.title}')})"
        out.append(f"| {link} | " + " | ".join(map(str, row)) + " |")
    out.append("| **all** | " + " | ".join(f"**{n}**" for n in total) + " |")
    for section in sections:
        out += ["", f"## {section.number}. {section.title}", ""]
        out += ["| rule | implemented in | proved by | why not proved |", "| --- | --- | --- | --- |"]
        for rule in section.rules:
            code_cell, test_cell = modules.get(rule.id, []), tests.get(rule.id, [])
            why = "" if test_cell else RULE_REASONS.get(rule.id, "") if code_cell else reason(rule)
            out.append(f"| {rule.id} | {_cell(code_cell)} | {_cell(test_cell)} | {why} |")
    return "\n".join(out) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (0: good, 1: there are complaints)."""
    parser = argparse.ArgumentParser(description="Generate docs/rules_status.md from cited rule ids.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--root", type=Path, default=here, help="root of the tree (default: this repository)")
    options = parser.parse_args(argv)
    root: Path = options.root

    try:
        sections = parse_rules((root / RULES_PAGE).read_text(encoding="utf-8"))
    except (RulesPageError, FileNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    index = build_index(root)
    known = frozenset(rule.id for section in sections for rule in section.rules)
    complaints = [
        f"{c.path}:{c.line}: {c.rule} is not a rule of {RULES_PAGE}; correct the id"
        for c in index.unknown(known)
    ]
    page = render(sections, index)
    status = root / STATUS_PAGE
    if not options.check:
        status.write_text(page, encoding="utf-8")
    elif not status.exists() or status.read_text(encoding="utf-8") != page:
        complaints.append(f"{STATUS_PAGE} is stale; run python tools/rule_index.py")
    for complaint in complaints:
        sys.stderr.write(f"{complaint}\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    raise SystemExit(main())
