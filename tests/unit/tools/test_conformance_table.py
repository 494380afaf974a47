"""tools/conformance_table.py, and that docs/tcp.md is true: rows and tests name each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.ndisbus.tcp.conformance.ways import DROPPED, OTHERWISE_ON_A_TARGET
from tools import conformance_table

REPOSITORY = Path(__file__).resolve().parents[3]

PAGE = """\
# TCP

| id | level | what it asks | proved by |
| --- | --- | --- | --- |
| RFC9999-MUST-1 | MUST | something |  |
| RFC9999-2.1 | must | another thing | stale |
| RFC9999-3-X | SHOULD | not this | **not done:** why not; shown by `old.py`: `test_gone` |
"""

TESTS = '''\
def test_one() -> None:
    """RFC9999-MUST-1, RFC9999-2.1: both."""

def test_two() -> None:
    """RFC9999-2.1."""

def helper() -> None:
    """RFC9999-2.7 in no test."""
'''

ELSEWHERE = '''\
class TestHost:
    def test_three(self) -> None:
        """RFC9999-3-X: what happens instead."""

    def test_without_an_id(self) -> None: ...
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository in miniature."""
    for name, text in {
        "docs/tcp.md": PAGE,
        f"{conformance_table.CONFORMANCE}/test_a.py": TESTS,
        "tests/unit/host/test_b.py": ELSEWHERE,
        "tests/unit/tools/test_c.py": 'def test_tool() -> None:\n    """RFC9999-MUST-9 is sample text."""\n',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def run(root: Path, *arguments: str) -> int:
    return conformance_table.main(["--root", str(root), *arguments])


def test_the_column_is_written_and_then_fresh(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, "--check") == 1
    assert "docs/tcp.md is stale" in capsys.readouterr().err
    assert (tree / "docs/tcp.md").read_text(encoding="utf-8") == PAGE
    assert run(tree) == 0
    lines = (tree / "docs/tcp.md").read_text(encoding="utf-8").splitlines()
    assert "| RFC9999-MUST-1 | MUST | something | `test_a.py`: `test_one` |" in lines
    assert "| RFC9999-2.1 | must | another thing | `test_a.py`: `test_one`, `test_two` |" in lines
    reason = "**not done:** why not; shown by `host/test_b.py`: `test_three`"
    assert f"| RFC9999-3-X | SHOULD | not this | {reason} |" in lines
    assert run(tree, "--check") == 0


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("| RFC9999-4 | MUST | unproven |  |", "docs/tcp.md: RFC9999-4: no test names it"),
        ("| RFC9999-4 | WANTS | odd | **not done:** x |", "docs/tcp.md: RFC9999-4: 'WANTS' is not a level"),
        ("| RFC9999-MUST-1 | MUST | twice |  |", "docs/tcp.md: RFC9999-MUST-1 has more than one row"),
    ],
)
def test_a_row_that_is_wrong_is_named(
    tree: Path, capsys: pytest.CaptureFixture[str], row: str, complaint: str
) -> None:
    (tree / "docs/tcp.md").write_text(PAGE + row + "\n", encoding="utf-8")
    assert run(tree) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("docstring", "complaint"),
    [
        ('"""RFC9999-MUST-7: unknown."""', "test_d.py::test_new: RFC9999-MUST-7 is not a row of docs/tcp.md"),
        ('"""RFC 9999 in words."""', "test_d.py::test_new: names no row"),
    ],
)
def test_a_test_that_is_wrong_is_named(
    tree: Path, capsys: pytest.CaptureFixture[str], docstring: str, complaint: str
) -> None:
    text = f"def test_new() -> None:\n    {docstring}\n"
    (tree / conformance_table.CONFORMANCE / "test_d.py").write_text(text, encoding="utf-8")
    assert run(tree) == 1
    assert complaint in capsys.readouterr().err


def test_a_line_that_only_resembles_a_row_is_an_error(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "docs/tcp.md").write_text(PAGE + "| RFC9999-4 | MUST | three columns |\n", encoding="utf-8")
    assert run(tree) == 1
    assert "docs/tcp.md:8: not of the form" in capsys.readouterr().err


def test_our_page_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(REPOSITORY, "--check") == 0, capsys.readouterr().err


def test_our_page_has_every_numbered_requirement_of_rfc_9293() -> None:
    """MUST-1 to MUST-69, SHLD-1 to SHLD-31, MAY-1 to MAY-18: the numbers that RFC 9293 gives."""
    page = (REPOSITORY / conformance_table.PAGE).read_text(encoding="utf-8")
    known = {one for one, _, _ in conformance_table.rows(page)}
    for word, last in (("MUST", 69), ("SHLD", 31), ("MAY", 18)):
        wanted = {f"RFC9293-{word}-{number}" for number in range(1, last + 1)}
        assert not wanted - known
    for rfc in (1122, 2018, 3042, 5681, 5961, 6191, 6298, 6582, 6675, 7323):
        assert any(one.startswith(f"RFC{rfc}-") for one in known)


def test_the_lists_of_what_a_hand_over_drops_name_tests() -> None:
    """A name that was changed would otherwise stay in the lists and mean nothing."""
    found = {
        test
        for files in conformance_table.citations(REPOSITORY).values()
        for f in files.values()
        for test in f
    }
    listed = [*DROPPED.values(), *OTHERWISE_ON_A_TARGET.values()]
    assert not {name for names in listed for name in names} - found
