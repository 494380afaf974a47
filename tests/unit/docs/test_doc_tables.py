"""tools/doc_tables.py and what it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndisbus.messages.codec import PROTOCOL_VERSION
from tools import doc_tables
from tools.doc_examples import Example, Recorder, diagnostic, to_markdown

PAGE = """\
# A page

<!-- generated: limits -->
old
<!-- end generated -->

text
"""


def tree(root: Path, page: str = PAGE) -> Path:
    for name in doc_tables.PAGES:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(page, encoding="utf-8")
    return root


def test_a_stale_page_is_found_written_and_then_fresh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tree(tmp_path)
    assert doc_tables.main(["--check", "--root", str(root)]) == 1
    assert "docs/protocol.md is stale" in capsys.readouterr().err
    assert (root / "docs/protocol.md").read_text(encoding="utf-8") == PAGE
    assert doc_tables.main(["--root", str(root)]) == 0
    text = (root / "docs/protocol.md").read_text(encoding="utf-8")
    assert "old" not in text
    assert "| messages in a packet | 4096 |" in text
    assert text.startswith("# A page\n\n<!-- generated: limits -->\n")
    assert text.endswith("<!-- end generated -->\n\ntext\n")
    assert doc_tables.main(["--check", "--root", str(root)]) == 0


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (PAGE.replace("limits", "no such thing"), "'no such thing' is not a generated part"),
        (PAGE.replace("<!-- end generated -->", ""), "1 parts begin, 0 end"),
        (PAGE.replace("old", "<!-- generated: calls -->"), "no end before the next"),
    ],
)
def test_marks_that_lead_nowhere_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], page: str, complaint: str
) -> None:
    root = tree(tmp_path, page)
    assert doc_tables.main(["--root", str(root)]) == 1
    assert complaint in capsys.readouterr().err
    assert (root / "docs/protocol.md").read_text(encoding="utf-8") == page


def test_a_missing_page_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doc_tables.main(["--check", "--root", str(tmp_path)]) == 1
    assert "protocol.md" in capsys.readouterr().err


def test_long_values_are_broken_and_short_ones_are_not() -> None:
    assert diagnostic(["hello", 1, {"Name": "x"}]) == '["hello", 1, {"Name": "x"}]'
    text = diagnostic([["name", None, [1 << 40, {"Block": list(range(60))}]]])
    assert text.startswith('[["name", nil, [0x10000000000, {\n')
    assert max(map(len, text.splitlines())) <= 100
    with pytest.raises(TypeError, match="set has no place"):
        diagnostic({1, 2})


def test_an_example_shows_its_payload() -> None:
    text = to_markdown(Example("x", [["Name", None, [], 1]], [b"\x01\x02"]))
    assert "Frame 1: 2 bytes, `0102`." in text
    assert text.startswith("```msgpack-hex\n9194")


def test_a_recorder_does_not_let_a_conversation_go_astray() -> None:
    r = Recorder()
    r.say("a", ["hello", 1, [PROTOCOL_VERSION, {"Name": "a", "Pid": 0}]])
    with pytest.raises(AssertionError, match="expected refused"):
        r.hear("a", "refused")
