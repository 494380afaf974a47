"""The site of documents: links of pages become links of the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.build_docs import links_of_site, pages, wrong_links

ROOT = Path(__file__).resolve().parents[3]


def test_every_page_of_docs_is_in_the_site() -> None:
    known = pages(ROOT)
    assert {p for p in known if p.parent.name == "docs"} == set((ROOT / "docs").glob("*.md"))
    assert known[ROOT / "docs/index.md"] == "guide"
    assert len(set(known.values())) == len(known)


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("docs/tcp.md", "[the wire](wire.md#limits)", "[the wire](wire.html#limits)"),
        ("docs/tcp.md", "[here](#limits)", "[here](#limits)"),
        ("docs/tcp.md", "[top](index.md)", "[top](../guide.html)"),
        ("docs/index.md", "[tcp](tcp.md)", "[tcp](guide/tcp.html)"),
        ("README.md", "[`tcp`](docs/tcp.md)", "[`tcp`](tcp.html)"),
        ("docs/tcp.md", "[code](../ndisbus/tcp/machine.py)", "[code](../ndisbus/tcp/machine.html)"),
        ("docs/tcp.md", "[example](../examples/bare_host.py)", "example"),
        ("docs/tcp.md", "```\n[x](wire.md)\n```", "```\n[x](wire.md)\n```"),
    ],
)
def test_links(page: str, text: str, expected: str) -> None:
    assert links_of_site(text, ROOT / page, ROOT, pages(ROOT)) == expected


def test_a_link_that_leads_nowhere_and_a_foreign_script_are_found(tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide.html").write_text('<h2 id="a"></h2><a href="#a"></a><a href="guide/x.html#b"></a>')
    (tmp_path / "guide/x.html").write_text(
        '<a href="../guide.html#a"></a><script src="https://a.example/b.js">'
    )
    wrong = list(wrong_links(tmp_path))
    assert [re.sub(" .*", "", line) for line in wrong] == ["guide/x.html:", "guide.html:"]
    assert "a.example" in wrong[0]
    assert "guide/x.html#b leads nowhere" in wrong[1]
