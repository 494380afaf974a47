"""The pages as pages: links, paths, fences."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "changelog.d/README.md"]


def _slugs(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file) if file else page
        assert other.exists(), target
        if anchor:
            assert anchor in _slugs(other.read_text(encoding="utf-8")), target


def test_sections_that_are_cited_by_title_exist() -> None:
    """``[protocol.md](protocol.md), "State"`` in pages, ``docs/protocol.md, "State"`` in the code."""
    cited = []
    for page in PAGES:
        cited += re.findall(r'\]\((?:docs/)?(\w+\.md)\),\s+"([^"]+)"', page.read_text(encoding="utf-8"))
    for package in ("ndisbus", "hoststack", "imdriver", "target", "examples", "tools", "tests/support"):
        for path in sorted((ROOT / package).rglob("*.py")):
            cited += re.findall(r'docs/(\w+\.md),\s+"([^"]+)"', path.read_text(encoding="utf-8"))
    assert len(cited) > 5
    for name, title in cited:
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        heads = re.findall(r"^#+ (?:\d+\. )?(.+)$", text, re.MULTILINE)
        assert title in heads, (name, title)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "examples/bare_host.py"], ids=lambda p: p.name)
def test_no_path_of_anybody_s_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.*~$}])/(?:work|home|root|tmp|Users|mnt|opt|build)/\S*", text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_fences_are_closed_and_diagrams_named(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
    for kind in re.findall(r"^```mermaid\n(\w[\w-]*)", text, re.MULTILINE):
        assert kind in ("flowchart", "sequenceDiagram", "stateDiagram-v2")
    for diagram in re.findall(r"^```mermaid\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        assert ";" not in diagram, "Mermaid takes it for the end of a line"


def test_the_index_lists_every_page() -> None:
    listed = set(
        re.findall(r"^\| \[([\w.]+)\]", (ROOT / "docs/index.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert listed == {p.name for p in DOCS} - {"index.md"}


def test_rules_that_pages_cite_exist() -> None:
    known = set(
        re.findall(
            r"^- \*\*(R-[A-Z]+-\d\d)\*\*", (ROOT / "docs/rules.md").read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    for page in PAGES:
        cited = set(re.findall(r"\bR-[A-Z]{2,6}-\d\d\b", page.read_text(encoding="utf-8")))
        assert cited - known == set(), page.name


def test_the_glossary_explains_a_word_once() -> None:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    words = [
        w.strip() for group in re.findall(r"^- \*\*(.+?)\*\*", text, re.MULTILINE) for w in group.split(",")
    ]
    assert len(words) == len(set(words)) > 50
