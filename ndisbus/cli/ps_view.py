"""The tables of ``ndisbus ps``."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["BUS", "CUT_OFF", "SHOWN", "console", "fault_table", "render"]

#: Kind of the bus's own row.
BUS: Final = "bus"
#: The state of a process that runs but is not a driver on the bus any more begins with this.
CUT_OFF: Final = "cut off"
_GOOD = frozenset({"ready", "up", "open"})
#: Most rows of a table. One more row has the sums of those that are left out.
SHOWN: Final = 10

Row = dict[str, Any]


def console() -> Console:
    """Return the console for tables. A file or a pipe has no width, so lines are not cut there."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=200)


def render(ps: dict[str, Any], *, everything: bool = False) -> RenderableType:
    """Return all tables of a survey. A table without rows is left out, or replaced by a line.

    A table has at most :data:`SHOWN` rows, first those that are not as they should be or hold something, and
    a row with the sums of all others. ``everything``: all rows.
    """
    parts: list[RenderableType] = []
    most = None if everything else SHOWN
    processes, others = _choose(ps["Processes"], most, ("Sent", "Lent"))
    drivers = [p for p in processes if p["Kind"] != BUS and not p["State"].startswith(CUT_OFF)]
    if processes:
        parts.append(_processes(processes, others))
    if drivers:
        parts.append(_counters(drivers, others))
    else:
        parts.append(Text("No driver is on the bus. Start one, for example with 'honcho start'."))
    if ps["Adapters"]:
        parts.append(_adapters(*_choose(ps["Adapters"], most, ("Outstanding",))))
    if ps["Bindings"]:
        parts.append(_bindings(*_choose(ps["Bindings"], most, ("Outstanding", "Received"))))
    if ps["Faults"]:
        parts.append(fault_table(ps["Faults"]))
    if ps["BugChecks"]:
        parts.append(_bug_checks(ps["BugChecks"] if everything else ps["BugChecks"][-SHOWN:], ps["Now"]))
    if most is not None and any(len(ps[k]) > most for k in _BOUNDED):
        counts = ", ".join(f"{len(ps[k])} {k.lower()}" for k in _BOUNDED[:3])
        parts.append(Text(f"{counts}; --all shows every row, --driver chooses"))
    outstanding = sum(a["Outstanding"] for a in ps["Adapters"])
    parts.append(
        Text(
            f"{outstanding} outstanding, {ps['Refused']} refused, {ps['Stale']} stale, "
            f"{len(ps['BugChecks'])} bug checks; seed {ps['Seed']}"
        )
    )
    return Group(*parts)


#: The tables that are bounded.
_BOUNDED: Final = ("Processes", "Adapters", "Bindings", "BugChecks")


def _choose(rows: list[Row], most: int | None, busy: tuple[str, ...]) -> tuple[list[Row], list[Row]]:
    """Return the rows to show, in their order, and the others.

    Rows that are not in the state in which they should be, and rows where one of the numbers ``busy`` is not
    0, are chosen first.
    """
    if most is None or len(rows) <= most:
        return rows, []

    def rank(i: int) -> tuple[bool, int]:
        return rows[i]["State"] in _GOOD and not any(rows[i][k] for k in busy), i

    shown = set(sorted(range(len(rows)), key=rank)[:most])
    return [rows[i] for i in sorted(shown)], [r for i, r in enumerate(rows) if i not in shown]


def _more(others: list[Row]) -> str:
    return f"({len(others)} more)"


def _states(rows: list[Row]) -> Text:
    """Return how many rows are in which state."""
    counts = Counter(r["State"] for r in rows)
    if len(counts) == 1:
        return _state(next(iter(counts)))
    text = ", ".join(f"{n} {state}" for state, n in counts.most_common())
    return Text(text, style="red" if counts.keys() - _GOOD else "green")


def _sum(rows: list[Row], key: str) -> int:
    return sum(r[key] for r in rows)


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        # A column whose name ends in # holds numbers.
        number = column.endswith("#")
        table.add_column(column.rstrip("#"), justify="right" if number else "left", no_wrap=number)
    return table


def _state(state: str) -> Text:
    return Text(state, style="green" if state in _GOOD else "red")


def _busy(count: int) -> Text:
    return Text(str(count), style="yellow" if count else "")


def _or_dash(value: Any, form: str = "{}") -> str:
    return "–" if value is None else form.format(value)


def _processes(rows: list[Row], others: list[Row]) -> Table:
    t = _table(
        "Processes", "Name", "Kind", "Pid#", "Epoch#", "State", "CPU s#", "CPU %#", "MiB#", "Sent#", "Lent#"
    )
    for p in rows:
        memory = None if p["Rss"] is None else p["Rss"] / 2**20
        t.add_row(
            p["Name"],
            p["Kind"],
            str(p["Pid"]),
            _or_dash(p["Epoch"]),
            _state(p["State"]),
            _or_dash(p["CpuSeconds"], "{:.2f}"),
            _or_dash(p["CpuPercent"], "{:.0f}"),
            _or_dash(memory, "{:.1f}"),
            _busy(p["Sent"]),
            _busy(p["Lent"]),
        )
    if others:
        each = list({p["Pid"]: p for p in others}.values())  # several drivers may share a process
        cpu = sum(p["CpuSeconds"] or 0 for p in each)
        memory = sum(p["Rss"] or 0 for p in each) / 2**20
        t.add_row(
            _more(others),
            *("", "", ""),
            _states(others),
            f"{cpu:.2f}",
            "",
            f"{memory:.1f}",
            _busy(_sum(others, "Sent")),
            _busy(_sum(others, "Lent")),
        )
    return t


def _counters(rows: list[Row], others: list[Row]) -> Table:
    t = _table("Counters", "Layer", "Not zero", "Zero")
    shown = [(p["Name"], {"heap": p["Heap"], **p["Counters"]}) for p in rows]
    if others:
        total: dict[str, int] = {}
        for p in others:
            for k, v in {"heap": p["Heap"], **p["Counters"]}.items():
                total[k] = total.get(k, 0) + v
        shown.append((_more(others), total))
    for name, counters in shown:
        some = ", ".join(f"{k} {v}" for k, v in counters.items() if v)
        none = ", ".join(k for k, v in counters.items() if not v)
        t.add_row(name, some or "–", Text(none or "–", style="dim"))
    return t


def _outstanding(adapter: dict[str, Any]) -> Text:
    """The number of outstanding requests, with the age of the oldest."""
    count = adapter["Outstanding"]
    return Text(f"{count} ({adapter['OldestAge']:.1f} s)", style="yellow") if count else Text("0")


def _adapters(rows: list[Row], others: list[Row]) -> Table:
    t = _table(
        "Adapters",
        "Name",
        "Driver",
        "State",
        "Chimney",
        "Outstanding#",
        "Completed#",
        "Sends#",
        "Receives#",
    )
    for a in rows:
        state = _state("paused" if a["Paused"] and a["State"] == "up" else a["State"])
        t.add_row(
            a["Name"] + (" (virtual)" if a["Virtual"] else ""),
            a["Driver"],
            state,
            a["ChimneyOwner"] or "–",
            _outstanding(a),
            f"{a['Completed']:,}",
            _busy(a["Sends"]),
            _busy(a["Receives"]),
        )
    if others:
        oldest = max(a["OldestAge"] for a in others)
        t.add_row(
            _more(others),
            "",
            _states(others),
            "",
            _outstanding({"Outstanding": _sum(others, "Outstanding"), "OldestAge": oldest}),
            f"{_sum(others, 'Completed'):,}",
            _busy(_sum(others, "Sends")),
            _busy(_sum(others, "Receives")),
        )
    return t


def _bindings(rows: list[Row], others: list[Row]) -> Table:
    t = _table(
        "Bindings", "Protocol", "Adapter", "State", "Outstanding#", "Received#", "Neighbor#", "Path#", "TCP#"
    )
    for b in rows:
        o = b["Objects"]
        t.add_row(
            b["Protocol"],
            b["Adapter"],
            _state(b["State"]),
            _busy(b["Outstanding"]),
            _busy(b["Received"]),
            str(o["neighbor"]),
            str(o["path"]),
            str(o["tcp"]),
        )
    if others:
        objects = [str(sum(b["Objects"][k] for b in others)) for k in ("neighbor", "path", "tcp")]
        busy = [_busy(_sum(others, k)) for k in ("Outstanding", "Received")]
        t.add_row(_more(others), "", _states(others), *busy, *objects)
    return t


def fault_table(rows: list[dict[str, Any]]) -> Table:
    """Return the table of fault rules, also of those that are not armed any more."""
    t = _table("Faults", "Id#", "Action", "Call", "Where", "When", "Seen#", "Hits#", "Armed")
    for f in rows:
        action = f["Action"]
        if f["Delay"]:
            action += f" {f['Delay']:g} s"
        if f["Status"]:
            action += f" {f['Status'].removeprefix('NDIS_STATUS_')}"
        where = [f"{k.lower()} {f[k]}" for k in ("Driver", "Adapter", "Direction") if f[k]]
        when = [f"{k.lower()} {f[k]}" for k in ("Nth", "Skip", "Times") if f[k]]
        if f["Probability"] < 1:
            when.append(f"probability {f['Probability']:g}")
        armed = Text("armed", style="yellow") if f["Armed"] else Text("spent", style="dim")
        t.add_row(
            str(f["Id"]),
            action,
            f["Call"],
            ", ".join(where) or "anywhere",
            ", ".join(when) or "always",
            str(f["Seen"]),
            str(f["Hits"]),
            armed,
        )
    return t


def _bug_checks(rows: list[dict[str, Any]], now: float) -> Table:
    t = _table("Bug checks", "Ago#", "Driver", "Call", "Parameter", "Rule", "Reason")
    for b in rows:
        t.add_row(
            f"{now - b['At']:.1f} s",
            f"{b['Driver']} (pid {b['Pid']}, epoch {b['Epoch']})",
            b["Call"],
            b["Parameter"],
            b["Rule"] or "–",
            b["Reason"],
        )
    return t
