"""docs/protocol.md and docs/architecture.md say what the code does."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import struct
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.ddi.call_rows import STATE_OPERATIONS
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.lists.validate import DOWN_COLUMNS, UP_COLUMNS
from ndisbus.messages.codec import decode_packet
from ndisbus.state.images import structures_of, unpack_state
from tools import doc_structures, doc_tables
from tools.doc_examples import Recorder, diagnostic, start_nic, start_probe

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted((ROOT / "docs").glob("*.md"))
PROTOCOL = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")


# --- reading the page ----------------------------------------------------------------------------


def tables(text: str) -> Iterator[list[dict[str, str]]]:
    """Every table of a page, as rows by heading."""
    head: list[str] = []
    rows: list[dict[str, str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = [c.strip() for c in line.strip()[1:-1].split("|")]
            if not head:
                head = cells
            elif not set(line) <= set("|-: "):
                rows.append(dict(zip(head, cells, strict=True)))
        elif head:
            yield rows
            head, rows = [], []


def section(text: str, title: str) -> str:
    """From a heading to the next one of any level."""
    start = re.search(rf"^#+ {re.escape(title)}$", text, re.MULTILINE)
    assert start, title
    rest = text[start.end() :]
    end = re.search(r"^#+ ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def names(cell: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def table_after(text: str, words: str) -> list[dict[str, str]]:
    """The first table behind these words."""
    assert words in text, words
    return next(tables(text[text.index(words) :]))


# --- generated parts -----------------------------------------------------------------------------


def test_generated_parts_are_up_to_date() -> None:
    assert [path.name for path, _ in doc_tables.stale(ROOT)] == []


def test_everything_that_is_generated_stands_in_a_page() -> None:
    text = "".join(p.read_text(encoding="utf-8") for p in PAGES)
    assert [name for name in doc_tables.parts() if f"<!-- generated: {name} -->" not in text] == []


def test_every_call_has_one_row_with_its_parameters_and_what_follows() -> None:
    rows: dict[str, dict[str, str]] = {}
    for table in tables(PROTOCOL):
        for row in table:
            if {"call", "who sends it"} <= row.keys():
                (name,) = names(row["call"])
                assert name not in rows
                rows[name] = row
    assert rows.keys() == CALLS.keys()
    for name, call in CALLS.items():
        row = rows[name]
        assert names(row["parameters"]) == [p.name for p in call.params], name
        assert [names(row[k]) for k in ("leads to", "completed by", "seen as")] == [
            [v] if v else [] for v in (call.leads_to, call.completed_by, call.completion_seen_as)
        ], name
        assert (row["answer"] != "-") is call.answered, name
        assert names(row["answer"]) == list(call.outs), name
        assert row["who sends it"].startswith("NDIS") is not call.from_driver, name


# --- examples --------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?:(nil|true|false)|(0x[0-9a-f]+|-?\d+(?:\.\d+)?)|h'([0-9a-f\s]*)'|"([^"]*)"|(.))"""
)


def read_diagnostic(text: str) -> Any:
    """The value that the page's notation stands for."""
    tokens = iter([m for m in _TOKEN.finditer(text) if m[0].strip()])

    def value(token: re.Match[str]) -> Any:
        word, number, data, string, mark = token.groups()
        if word:
            return {"nil": None, "true": True, "false": False}[word]
        if number:
            return float(number) if "." in number else int(number, 0)
        if data is not None:
            return bytes.fromhex(data)
        if string is not None:
            return string
        items: list[Any] = []
        while True:
            token = next(tokens)
            if token[5] in ("]", "}"):
                return items if mark == "[" else dict(items)
            if token[5] == ",":
                continue
            item = value(token)
            if mark == "{":
                assert next(tokens)[5] == ":"
                item = (item, value(next(tokens)))
            items.append(item)

    result = value(next(tokens))
    assert next(tokens, None) is None, "something stands behind the value"
    return result


def examples() -> list[tuple[bytes, str, list[bytes]]]:
    """(frame 0, rendering, payload frames) of every example."""
    found = []
    pattern = (
        r"```msgpack-hex\n(.*?)```\s+```msgpack-diag\n(.*?)```((?:\s+Frame \d+: \d+ bytes, `[0-9a-f]+`\.)*)"
    )
    for head, text, frames in re.findall(pattern, PROTOCOL, re.DOTALL):
        payload = [bytes.fromhex(h) for h in re.findall(r"`([0-9a-f]+)`", frames)]
        found.append((bytes.fromhex(head), text, payload))
    assert len(found) == PROTOCOL.count("```msgpack-hex") == PROTOCOL.count("```msgpack-diag")
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda e: read_diagnostic(e[1])[0][0])
def test_example_decodes_to_its_rendering(example: tuple[bytes, str, list[bytes]]) -> None:
    head, text, frames = example
    decoded = decode_packet([head, *frames])
    assert [message for message, _ in decoded] == read_diagnostic(text)
    assert [f for _, claimed in decoded for f in claimed] == frames


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 2**64 - 1)
    | st.binary(max_size=80)
    | st.text("aZ. *>", max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("aZ.*", max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_VALUES)
def test_rendering_can_be_read_back(value: Any) -> None:
    assert read_diagnostic(diagnostic(value)) == value


def test_there_is_an_example_of_what_a_host_cannot_do_without() -> None:
    shown = {read_diagnostic(text)[0][0] for _, text, _ in examples()}
    initiate = STATE_OPERATIONS[0]
    assert shown >= {
        "hello",
        "ready",
        "refused",
        "closed",
        "NdisTcpOffloadEventHandler",
        "ProtocolTcpOffloadEvent",
    }
    assert shown >= {initiate.request, initiate.handler, initiate.completion, initiate.completion_handler}


# --- block lists -------------------------------------------------------------------------------------


def column_table() -> dict[str, set[str]]:
    """Column -> where the page says that it may stand: P down, M down, M up, P up."""
    out: dict[str, set[str]] = {}
    for row in table_after(PROTOCOL, "<!-- columns:"):
        for name in names(row["column"]):
            out[name] = {k for k in ("P down", "M down", "M up", "P up") if row[k] == "x"}
    return out


def test_columns_of_the_page_are_those_the_bus_accepts() -> None:
    table = column_table()
    assert {c for c, where in table.items() if "P down" in where} == set(DOWN_COLUMNS)
    assert {c for c, where in table.items() if "M up" in where} == set(UP_COLUMNS)


def test_columns_of_the_page_are_those_the_bus_passes_on() -> None:
    table = column_table()
    r = Recorder()
    adapter = start_nic(r)
    space, binding = start_probe(r)
    base = space << 40
    columns: dict[str, Any] = {c: [None] for c in DOWN_COLUMNS}
    columns |= {
        "Block": [base + 0x1000],
        "Type": 4,
        "Revision": 1,
        "Size": 0x98,
        "Status": 0,
        "PortNumber": 0,
    }
    columns |= {"OffloadHandle": [base + 0x100], "OffloadHandle->MiniportOffloadContext": [base + 0x110]}
    columns |= {"NetBufferLists": [], "State": [b"behind the block"]}
    r.say("probe", ["NdisInitiateOffload", None, [binding, columns]])
    given = r.hear("nic", "MiniportInitiateOffload")[2][1]
    # Status means nothing on the way down; whether it is dropped is NDIS's affair.
    assert given.keys() | {"Status"} == {c for c, where in table.items() if "M down" in where}
    done = {c: given.get(c, [None]) for c in UP_COLUMNS}
    done |= {"Status": 0, "*MiniportOffloadContext": [(2 << 40) + 0x100], "NetBufferLists": []}
    r.say("nic", ["NdisMInitiateOffloadComplete", None, [adapter, done]])
    seen = r.hear("probe", "ProtocolInitiateOffloadComplete")[2][1]
    assert seen.keys() == {c for c, where in table.items() if "P up" in where}


# --- state --------------------------------------------------------------------------------------------


def layout(name: str) -> list[dict[str, str]]:
    return next(tables(section(PROTOCOL, name)))


_WHOLE = (
    OffloadStateType.NeighborOffloadState,
    OffloadStateType.Ip4OffloadState,
    OffloadStateType.TcpOffloadState,
)


def _state_image(whole: OffloadStateType) -> bytearray:
    """A legal image of a whole state, all numbers zero, written from the sizes of the page alone."""
    sizes = {
        int(r["`Type`"]): int(r["bytes"]) for r in table_after(PROTOCOL, "<!-- generated: state types -->")
    }
    out = bytearray()
    first = OffloadStateType.TcpOffloadConstState if whole == 17 else whole - 3
    for part, structure in enumerate(structures_of(whole), first):
        image = bytearray(sizes[part])
        struct.pack_into("<I", image, 0, structure.SIZE)
        if structure.NAME == "PATH_OFFLOAD_STATE_CONST":
            struct.pack_into("<QQ", image, 8, 0x18, 0x1C)
        out += image
    assert len(out) == sizes[whole]
    return out


@pytest.mark.parametrize("whole", _WHOLE, ids=lambda t: t.name)
def test_offsets_of_the_page_are_where_members_are_read(whole: OffloadStateType) -> None:
    zero = bytes(_state_image(whole))
    unpack_state(whole, zero)
    for i, structure in enumerate(structures_of(whole)):
        rows = layout(structure.NAME)
        assert [names(r["member"])[0] for r in rows] == [m.name for m in structure.MEMBERS]
        for row, m in zip(rows, structure.MEMBERS, strict=True):
            if m.name == "Header.Length" or row["note"].startswith("distance"):
                continue
            at, size = int(row[f"offset in `{whole.name}`"], 16), int(row["bytes"])
            bits = re.match(r"bits (\d+) to (\d+)", row["note"])
            low = int(bits[1]) if bits else 0
            image = bytearray(zero)
            image[at : at + size] = (1 << low).to_bytes(size, "little")
            value = getattr(unpack_state(whole, bytes(image))[i], m.attr)
            assert int.from_bytes(value, "little") == 1 if isinstance(value, bytes) else value == 1, m.name
            assert int(row["offset"], 16) == m.offset


def test_addresses_of_a_path_are_where_the_page_says() -> None:
    for state_type, size in (
        (OffloadStateType.Ip4OffloadConstState, 4),
        (OffloadStateType.Ip6OffloadConstState, 16),
    ):
        source, destination = bytes(range(1, 1 + size)), bytes(range(101, 101 + size))
        image = struct.pack("<IIQQ", 0x18, 0, 0x18, 0x18 + size) + source + destination
        (const,) = unpack_state(state_type, image)
        assert (const.source_address, const.destination_address) == (source, destination)  # type: ignore[attr-defined]


# --- structures ---------------------------------------------------------------------------------------


def _from_page(name: str) -> dict[str, Any]:
    """A map made from nothing but the table of a structure; gaps are filled with what the page tells."""
    told: dict[str, Any] = {
        "RequestType": 0,
        "Oid": 0xFC010201,
        "StatusCode": 0x40020001,
        "StatusBufferSize": 0,
        "Tasks": [],
    }
    told |= {"OffsetFirstTask": 0, "OffsetNextTask": 0, "TaskBufferLength": 16, "Guid": bytes(16)}
    told |= {"NdisReserved": [None] * 4, "Type": 1, "Revision": 1, "Size": 4}
    out: dict[str, Any] = {}
    for row in layout(name):
        (member,), usual, holds = names(row["member"]), row["usual value"], row["holds"]
        if header := re.fullmatch(r"Type (\w+), Revision (\d+), Size (\w+)", usual):
            out[member] = {
                k: int(v, 0) for k, v in zip(("Type", "Revision", "Size"), header.groups(), strict=True)
            }
        elif member == "TaskBuffer":
            out[member] = _from_page("NDIS_TASK_TCP_CONNECTION_OFFLOAD")
        elif holds.startswith("map: "):
            out[member] = _from_page(holds.removeprefix("map: "))
        elif usual in ("", "zeros", "nils"):
            out[member] = told[member]
        elif usual == "nil":
            out[member] = None
        else:
            out[member] = usual.strip('`"') if usual.startswith("`") else int(usual, 0)
    return out


@pytest.mark.parametrize("structure", doc_structures.STRUCTURES, ids=lambda s: s.NAME)
def test_a_structure_made_from_the_page_is_accepted(structure: Any) -> None:
    wire = _from_page(structure.NAME)
    assert structure.from_wire(wire, structure.NAME).to_wire() == wire


def test_statuses_of_the_page_are_those_a_completion_may_have() -> None:
    rows = table_after(PROTOCOL, "<!-- generated: statuses -->")
    assert [(int(names(r["number"])[0], 16), names(r["symbol"])[0]) for r in rows] == [
        (int(s), s.symbol) for s in NdisStatus
    ]
    for op, allowed in ALLOWED_STATUS.items():
        said = {
            int(names(r["number"])[0], 16)
            for r in rows
            if op.replace("_", " ") in r["an operation may end with it"].split(", ")
        }
        assert said == allowed, op


# --- control and trace --------------------------------------------------------------------------------


def test_verbs_of_the_page_are_those_of_control() -> None:
    source = ast.parse((ROOT / "ndisbus/core/control.py").read_text(encoding="utf-8"))
    verbs = {
        n.value.value
        for n in ast.walk(source)
        if isinstance(n, ast.MatchValue) and isinstance(n.value, ast.Constant)
    }
    assert verbs
    assert {names(r["verb"])[0] for r in next(tables(section(PROTOCOL, "14. Control requests")))} == verbs


def test_trace_events_of_the_page_are_those_that_are_emitted() -> None:
    emitted: dict[str, set[str]] = {"call": set()}
    for path in sorted((ROOT / "ndisbus").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "emit"
            ):
                kind = node.args[0]
                assert isinstance(kind, ast.Constant)
                keys = {k.arg for k in node.keywords if k.arg}
                emitted.setdefault(str(kind.value), set()).update(keys)
    said = {}
    for row in next(tables(section(PROTOCOL, "15. The trace socket"))):
        for event in names(row["`event`"]):
            said[event] = set(names(row["keys"]))
    assert said.keys() == emitted.keys()
    for event, keys in emitted.items():
        assert keys <= said[event], event


def test_the_parts_of_the_core_are_those_of_the_page() -> None:
    """Each part is made with the parts that the page says it asks, and asks none that stands below it."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = {
        names(r["module of `ndisbus/core/`"])[0]: r for r in table_after(page, "asks only parts above it")
    }
    # Data, tables, functions, and the whole.
    others = {"__init__", "core", "ended", "fault_rules", "lent", "model", "sizes", "tracing", "violation"}
    assert rows.keys() | others == {p.stem for p in (ROOT / "ndisbus/core").glob("*.py")}
    above: set[str] = set()
    for name, row in rows.items():
        module = importlib.import_module(f"ndisbus.core.{name}")
        own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
        asked = [p for c in own if "__slots__" in vars(c) for p in inspect.signature(c).parameters.values()]
        said = set(names(row["asks"]))
        assert {p.name for p in asked} - {"trace"} == said, name
        parts = {p.annotation for p in asked} & set(classes_of(rows))
        assert parts <= above | {c.__name__ for c in own}, name
        above |= {c.__name__ for c in own}


def classes_of(rows: Iterable[str]) -> Iterator[str]:
    """Names of the classes of all parts."""
    for name in rows:
        module = importlib.import_module(f"ndisbus.core.{name}")
        yield from (
            n for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == module.__name__
        )


@pytest.mark.parametrize("package", ["ndisbus", "hoststack", "target"])
def test_the_tables_of_folders_are_the_layers_that_import_linter_holds(package: str) -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = [c["layers"] for c in linter["contracts"] if c["id"] == f"layers-of-{package}"]
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    said = [
        set(names(row[f"folder of `{package}`"])) for row in table_after(page, f"\n| folder of `{package}`")
    ]
    held = [set(layer.split(" | ")) for layer in layers]
    # Single modules at the bottom (errors, the runtime directory, ...) are not folders.
    assert said == held[: len(said)]
    assert all((ROOT / package / f"{name}.py").is_file() for layer in held[len(said) :] for name in layer)
