"""Trace events as text for people, as JSON lines for programs, and as a Mermaid sequence diagram."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final

import click

from ndisbus.ddi.call import Kind
from ndisbus.ddi.calls import CALLS
from ndisbus.lists.heap import ADDRESS_BITS
from ndisbus.messages.trace_events import Event

__all__ = ["JsonFormatter", "MermaidFormatter", "TextFormatter"]

_ARROWS: Final = {"down": "↓", "up": "↑"}
_COLOURS: Final = {Kind.REQUEST: "cyan", Kind.COMPLETION: "green", Kind.INDICATION: "magenta"}
_ALARMS: Final = frozenset(
    {"bugcheck", "closed", "fault", "refused", "stale", "request.refused", "unbind.forced"}
)
#: Members that every event has, or that have a column of their own.
_SHOWN: Final = frozenset(
    {"t", "event", "from", "to", "call", "direction", "list", "blocks", "lists", "status", "adapter"}
)
#: Width of the column for the call: enough for the state operations, so that a line fits into 100 columns.
#: Some calls of the data paths have longer names.
_CALL_WIDTH: Final = len("ProtocolTerminateOffloadComplete")


class TextFormatter:
    """One aligned line per event. Times count from the first event."""

    def __init__(self, *, colour: bool = False) -> None:
        self._colour = colour
        self._start: float | None = None
        self._widest = 6

    def line(self, event: Event) -> str:
        """Return the event as a line without a line end."""
        if self._start is None:
            self._start = event["t"]
        time = f"{event['t'] - self._start:10.6f}"
        if event["event"] == "call":
            return f"{self._style(time, dim=True)} {self._call(event)}".rstrip()
        alarm = event["event"] in _ALARMS
        kind = self._style(event["event"], fg="red" if alarm else "yellow", bold=alarm)
        details = " ".join(f"{k}={_text(v)}" for k, v in event.items() if k not in ("t", "event"))
        return f"{self._style(time, dim=True)} {kind} {details}".rstrip()

    def end(self) -> str:
        """Return the text after the last line: none."""
        return ""

    def _call(self, event: Event) -> str:
        self._widest = max(self._widest, len(event["from"]), len(event["to"]))
        call = CALLS.get(event["call"])
        kind = None if call is None else call.kind if call.from_driver else _led_by(call.name)
        colour = None if kind is None else _COLOURS.get(kind)
        name = self._style(f"{event['call']:<{_CALL_WIDTH}}", fg=colour)
        details = " ".join(_details(event, _list_by_space))
        who = f"{event['from']:>{self._widest}} → {event['to']:<{self._widest}}"
        return f"{who} {_ARROWS.get(event.get('direction', ''), ' ')} {name} {details}"

    def _style(self, text: str, **style: Any) -> str:
        return click.style(text, **style) if self._colour else text


class JsonFormatter:
    """One JSON object per line, as the bus recorded it."""

    def line(self, event: Event) -> str:
        """Return the event as a line without a line end."""
        return json.dumps(event, default=str, ensure_ascii=False)

    def end(self) -> str:
        """Return the text after the last line: none."""
        return ""


class MermaidFormatter:
    """A sequence diagram with the layers as participants. It is printed at the :meth:`end`."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def line(self, event: Event) -> str:
        """Record the event and return ""; the diagram follows at the end."""
        self._events.append(event)
        return ""

    def end(self) -> str:
        """Return the diagram: the text of a file for a Mermaid renderer."""
        ids = {name: f"p{i}" for i, name in enumerate(_layers(self._events))}
        out = ["sequenceDiagram"]
        out += [f"    participant {p} as {_mermaid(name)}" for name, p in ids.items()]
        for event in self._events:
            if event["event"] == "call":
                arrow = "-->>" if event.get("direction") == "up" else "->>"
                text = " ".join([event["call"], *_details(event)])
                out.append(f"    {ids[event['from']]}{arrow}{ids[event['to']]}: {_mermaid(text)}")
            else:
                about = next((ids[n] for n in _named(event) if n in ids), ids["ndis"])
                details = [f"{k} {_text(v)}" for k, v in event.items() if k not in ("t", "event")]
                text = ", ".join([event["event"], *details])
                out.append(f"    Note over {about}: {_mermaid(text)}")
        return "\n".join(out)


@cache
def _led_by(handler: str) -> Kind | None:
    """Return the kind of the call that leads to a handler."""
    for c in CALLS.values():
        if c.from_driver and handler == c.leads_to:
            return c.kind
    return None


def _list_by_space(pointer: int) -> str:
    """Return the address of a block list as SPACE:ADDRESS, without the zeros in between."""
    return f"{pointer >> ADDRESS_BITS:x}:{pointer & ((1 << ADDRESS_BITS) - 1):x}"


def _details(event: Event, of_list: Callable[[int], str] = hex) -> Iterable[str]:
    if "adapter" in event:
        yield str(event["adapter"])
    if "list" in event:
        blocks = f" ×{event['blocks']}" if "blocks" in event else ""
        number = event["list"]
        yield f"{of_list(number) if type(number) is int else number}{blocks}"
    if "lists" in event:
        yield f"×{event['lists']}"
    for symbol, count in event.get("status", {}).items():
        short = symbol.removeprefix("NDIS_STATUS_")
        yield short if count == event.get("blocks", event.get("lists")) else f"{short}×{count}"
    for key, value in event.items():
        if key not in _SHOWN and key != "epoch":
            yield f"{key}={_text(value)}"


def _text(value: Any) -> str:
    if type(value) is int and value >= 1 << 32:
        return f"{value:#x}"
    return str(value)


def _named(event: Event) -> Iterable[str]:
    return (event[k] for k in ("driver", "protocol") if type(event.get(k)) is str)


def _layers(events: Iterable[Event]) -> list[str]:
    """Return every driver that occurs, from the top of the stack to the bottom; NDIS is below the topmost."""
    seen: dict[str, set[str]] = {"ndis": set()}
    for e in events:
        if e["event"] != "call":
            for name in _named(e):
                seen.setdefault(name, set())
            continue
        call = CALLS.get(e["call"])
        for name in (e["from"], e["to"]):
            marks = seen.setdefault(name, set())
            if call is not None and name != "ndis":
                marks.add(_edge(call.name))

    def depth(name: str) -> int:
        if name == "ndis":
            return 1
        upper, lower = "protocol" in seen[name], "miniport" in seen[name]
        return 2 if upper and lower else 3 if lower else 0

    return sorted(seen, key=depth)


def _edge(name: str) -> str:
    """Return which edge of a driver makes or receives a call."""
    call = CALLS[name]
    if call.kind in (Kind.COMPLETION, Kind.INDICATION, Kind.MINIPORT_HANDLER):
        return "miniport"
    if call.kind in (Kind.REQUEST, Kind.PROTOCOL_HANDLER):
        return "protocol"
    return "miniport" if name.startswith(("NdisM", "NdisIM")) else "protocol"


def _mermaid(text: str) -> str:
    """Return text that Mermaid reads as text: without statement ends, entities and line ends."""
    return re.sub("[#;]", lambda m: f"#{ord(m[0])};", text).replace("\n", " ")
