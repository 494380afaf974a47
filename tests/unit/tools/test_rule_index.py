from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import rule_index

REPOSITORY = Path(__file__).resolve().parents[3]

PAGE = """\
# The rules

- a list item that is not a rule

## 1. Roles, and start-up

- **R-REG-01** *(offload target, NDIS)* A target registers twice. — some-page.md
- **R-REG-02** *(host stack)* So does the host - twice. — a.md; b.md (figure c)

## 2. Send

- **R-SEND-01** *(offload target)* Sends pend. — send-page.md
"""

MODULE = '''\
"""Registration (R-REG-01)."""
# R-REG-01 once more, and r-send-01 in lower case.
'''

TEST = '''\
"""Tests of registration."""

def test_r_reg_01_twice() -> None:
    """R-REG-02: the host, too."""

def helper() -> None:
    """R-SEND-01 in no test at all."""

class TestSend:
    """R-SEND-01 in the class."""

    @given(
        "R-REG-01"
    )
    async def test_pending(self) -> None:
        def test_inner() -> None: ...
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository in miniature; two of the four packages do not exist."""
    files = {
        "docs/rules.md": PAGE,
        "ndisbus/deep/er.py": MODULE,
        "ndisbus/notes.txt": "R-ZZZ-99 in no module",
        "target/empty.py": "",
        "tests/unit/target/test_reg.py": "def test_r_reg_01_here() -> None: ...\n",
        "tests/unit/tools/test_some_tool.py": "# R-ZZZ-98 is sample text\n",
    }
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path


def run(tree: Path, *options: str) -> int:
    return rule_index.main(["--root", str(tree), *options])


def test_rules_are_read_with_their_sections() -> None:
    first, second = rule_index.parse_rules(PAGE)
    assert (first.number, first.title) == (1, "Roles, and start-up")
    assert [rule.id for rule in first.rules] == ["R-REG-01", "R-REG-02"]
    assert first.rules[1] == rule_index.Rule(
        "R-REG-02", "REG", "host stack", "So does the host - twice.", "a.md; b.md (figure c)"
    )
    assert [rule.id for rule in second.rules] == ["R-SEND-01"]


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (
            PAGE + "- **R-REG-01** *(NDIS)* Again. — p.md\n",
            r"docs/rules\.md:13: R-REG-01 is already on line 7",
        ),
        (PAGE + "- **R-REG-03** Nobody is bound. — p.md\n", r"docs/rules\.md:13: not of the form"),
        (PAGE + "- **R-REG-03** *(NDIS)* No source.\n", r"docs/rules\.md:13: not of the form"),
        ("- **R-REG-01** *(NDIS)* Early. — p.md\n", r"docs/rules\.md:1: R-REG-01 stands before"),
    ],
)
def test_an_unreadable_page_is_refused_with_the_line(page: str, complaint: str) -> None:
    with pytest.raises(rule_index.RulesPageError, match=complaint):
        rule_index.parse_rules(page)


def test_citations_in_a_module() -> None:
    found = rule_index.citations_of_module("ndisbus/m.py", MODULE)
    assert [(c.rule, c.where, c.line) for c in found] == [
        ("R-REG-01", "ndisbus/m.py", 1),
        ("R-REG-01", "ndisbus/m.py", 2),
        ("R-SEND-01", "ndisbus/m.py", 2),
    ]


def test_citations_in_a_test_go_to_the_innermost_test_or_class() -> None:
    found = rule_index.citations_of_test("tests/t.py", TEST)
    assert [(c.rule, c.where, c.line) for c in found] == [
        ("R-REG-01", "tests/t.py::test_r_reg_01_twice", 3),
        ("R-REG-02", "tests/t.py::test_r_reg_01_twice", 4),
        ("R-SEND-01", "tests/t.py", 7),
        ("R-SEND-01", "tests/t.py::TestSend", 10),
        ("R-REG-01", "tests/t.py::TestSend::test_pending", 13),
    ]


def test_a_test_file_that_is_not_python_is_named() -> None:
    with pytest.raises(SyntaxError) as caught:
        rule_index.citations_of_test("tests/t.py", "def (")
    assert caught.value.filename == "tests/t.py"


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("test_r_init_04_and_r_part_05", ["R-INIT-04", "R-PART-05"]),
        ("TestR_INIT_04", []),
        ("Test_R_Init_04", ["R-INIT-04"]),
        ("test_for_init_04", []),
        ("test_r_init_4", []),
        ("test_r_init_041", []),
    ],
)
def test_ids_in_names(name: str, ids: list[str]) -> None:
    assert list(rule_index.cited_in_name(name)) == ids


@pytest.mark.parametrize("text", ["R-REG-1", "R-REG-011", "OR-REG-01", "R-REGISTER-01", "R_REG_01"])
def test_what_only_resembles_an_id_is_no_citation(text: str) -> None:
    assert list(rule_index.cited_in_text(text)) == []


PREFIXES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=6)


@given(st.lists(st.tuples(PREFIXES, st.integers(0, 99)), min_size=1), st.booleans())
def test_every_id_in_a_text_and_in_a_name_is_found(ids: list[tuple[str, int]], lower: bool) -> None:
    expected = [f"R-{prefix}-{number:02}" for prefix, number in ids]
    text = "\n".join(expected)
    found = list(rule_index.cited_in_text(text.lower() if lower else text))
    assert found == [(rule, line) for line, rule in enumerate(expected, 1)]
    name = "test_" + "_".join(expected).replace("-", "_")
    assert list(rule_index.cited_in_name(name.lower() if lower else name)) == expected


def test_the_index_leaves_out_the_tests_of_tools_and_what_is_not_python(tree: Path) -> None:
    index = rule_index.build_index(tree)
    assert {c.path for c in index.modules} == {"ndisbus/deep/er.py"}
    assert {c.path for c in index.tests} == {"tests/unit/target/test_reg.py"}


def test_the_status_page(tree: Path) -> None:
    assert run(tree) == 0
    lines = (tree / "docs/rules_status.md").read_text(encoding="utf-8").splitlines()
    assert "| [1. Roles, and start-up](#1-roles-and-start-up) | 2 | 1 | 1 | 1 | 1 |" in lines
    assert "| [2. Send](#2-send) | 1 | 1 | 0 | 0 | 0 |" in lines
    assert "| **all** | **3** | **2** | **1** | **1** | **1** |" in lines
    test = "`tests/unit/target/test_reg.py::test_r_reg_01_here`"
    assert f"| R-REG-01 | `ndisbus/deep/er.py` | {test} |  |" in lines
    assert "| R-REG-02 | - | - | no reason is on record |" in lines
    assert "| R-SEND-01 | `ndisbus/deep/er.py` | - |  |" in lines


def test_several_places_share_a_cell_in_order(tree: Path) -> None:
    (tree / "target/also.py").write_text("# R-SEND-01\n", encoding="utf-8")
    assert run(tree) == 0
    page = (tree / "docs/rules_status.md").read_text(encoding="utf-8")
    assert "| R-SEND-01 | `ndisbus/deep/er.py`<br>`target/also.py` | - |  |" in page


def test_check_wants_the_page_to_be_there_and_fresh(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = tree / "docs/rules_status.md"
    assert run(tree, "--check") == 1
    assert not status.exists()
    assert "docs/rules_status.md is stale" in capsys.readouterr().err

    assert run(tree) == 0
    assert run(tree, "--check") == 0
    assert capsys.readouterr().err == ""

    fresh = status.read_text(encoding="utf-8")
    (tree / "target/empty.py").write_text("# R-REG-02\n", encoding="utf-8")
    assert run(tree, "--check") == 1
    assert status.read_text(encoding="utf-8") == fresh


@pytest.mark.parametrize("options", [(), ("--check",)])
@pytest.mark.parametrize("file", ["target/empty.py", "tests/unit/target/test_reg.py"])
def test_an_unknown_id_is_reported_with_its_place(
    tree: Path, capsys: pytest.CaptureFixture[str], file: str, options: tuple[str, ...]
) -> None:
    (tree / file).write_text("\n# R-REG-77\n", encoding="utf-8")
    run(tree)
    capsys.readouterr()
    assert run(tree, *options) == 1
    complaint = f"{file}:2: R-REG-77 is not a rule of docs/rules.md; correct the id\n"
    assert capsys.readouterr().err == complaint


def test_a_missing_or_unreadable_page_of_rules_is_an_error(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "docs/rules.md").write_text("- **R-REG-01** nonsense\n", encoding="utf-8")
    assert run(tree) == 1
    assert "docs/rules.md:1: not of the form" in capsys.readouterr().err
    (tree / "docs/rules.md").unlink()
    assert run(tree) == 1
    assert "rules.md" in capsys.readouterr().err
    assert not (tree / "docs/rules_status.md").exists()


def test_a_reason_is_dead_if_its_rule_is_gone_or_proved(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {"R-REG-01": "proved", "R-REG-02": "open", "R-OLD-01": "of a rule that is gone"}
    monkeypatch.setattr(rule_index, "RULE_REASONS", reasons)
    sections = rule_index.parse_rules(PAGE)
    found = [rule_index.reason(rule) for section in sections for rule in section.rules]
    assert found == ["proved", "open", "no reason is on record"]
    assert rule_index.dead_reasons(sections, rule_index.build_index(tree)) == ["R-REG-01", "R-OLD-01"]


def test_our_own_page_of_rules_is_complete_and_the_reasons_refer_to_it() -> None:
    sections = rule_index.parse_rules((REPOSITORY / "docs/rules.md").read_text(encoding="utf-8"))
    assert [section.number for section in sections] == list(range(1, 36))
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for section in sections:
        for rule in section.rules:
            numbers[rule.prefix].append(int(rule.id[-2:]))
    assert {
        prefix: found for prefix, found in numbers.items() if found != list(range(1, len(found) + 1))
    } == {}
    assert sum(map(len, numbers.values())) == 438
    assert rule_index.dead_reasons(sections, rule_index.build_index(REPOSITORY)) == []


def test_ids_that_our_rules_mention_exist() -> None:
    page = (REPOSITORY / "docs/rules.md").read_text(encoding="utf-8")
    known = {rule.id for section in rule_index.parse_rules(page) for rule in section.rules}
    assert set(re.findall(r"R-[A-Z]+-\d\d", page)) - known == set()


def test_every_rule_that_no_code_and_no_test_names_has_a_reason() -> None:
    page = (REPOSITORY / "docs/rules.md").read_text(encoding="utf-8")
    index = rule_index.build_index(REPOSITORY)
    named = {citation.rule for citation in (*index.modules, *index.tests)}
    rules = {rule.id for section in rule_index.parse_rules(page) for rule in section.rules}
    assert rules - named - rule_index.RULE_REASONS.keys() == set()
