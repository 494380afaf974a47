"""The call table of docs/protocol.md, made from ndisbus.ddi.calls.CALLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ndisbus.ddi.call import (
    BLOCKS_MINIPORT,
    BLOCKS_PROTOCOL,
    HANDLE,
    NBL,
    STRUCT,
    TEXT,
    ULONG,
    Call,
    Kind,
)
from ndisbus.ddi.calls import CALLS

__all__ = ["calls"]

_EITHER: Final = "NdisSetOptionalHandlers"
_CARRIES: Final = {
    HANDLE: "",
    ULONG: ": ulong",
    STRUCT: ": map",
    TEXT: ": text",
    BLOCKS_PROTOCOL: ": PROTOCOL list",
    BLOCKS_MINIPORT: ": MINIPORT list",
    NBL: ": net buffer lists",
}
#: The ordinary data path.
_FRAMES: Final = frozenset(("NdisMIndicateReceiveNetBufferLists", "ProtocolReceiveNetBufferLists"))
_LIFE: Final = frozenset(
    c.name for c in CALLS.values() if c.kind is Kind.REGISTRATION or (not c.from_driver and not c.op)
)


def _state(call: Call) -> bool:
    return call.blocks_at >= 0 and bool(call.op)


def _frames(call: Call) -> bool:
    return call.name in _FRAMES or call.op.startswith("packet ")


def _indicated(call: Call) -> bool:
    return (
        not call.op and not _frames(call) and any(call.name in (i.name, i.leads_to) for i in _indications())
    )


def _indications() -> list[Call]:
    return [c for c in CALLS.values() if c.kind is Kind.INDICATION]


_GROUPS: Final[tuple[tuple[str, Callable[[Call], bool]], ...]] = (
    ("Registration and bindings, called by drivers", lambda c: c.kind is Kind.REGISTRATION),
    (
        "Registration and bindings, called by NDIS",
        lambda c: c.name in _LIFE and not c.from_driver and not _indicated(c) and not _frames(c),
    ),
    ("State manipulation", _state),
    ("TCP I/O", lambda c: bool(c.op) and c.op != "oid" and not _state(c) and not _frames(c)),
    ("Indications", _indicated),
    ("Frames on the ordinary path", _frames),
    ("OID requests", lambda c: c.op == "oid"),
)


def _sender(call: Call) -> str:
    if call.kind is Kind.MINIPORT_HANDLER:
        return "NDIS, to a miniport edge"
    if call.kind is Kind.PROTOCOL_HANDLER:
        return "NDIS, to a protocol edge"
    if call.name == _EITHER:
        return "either edge"
    if call.kind is Kind.REQUEST:
        return "protocol edge"
    if call.kind in (Kind.COMPLETION, Kind.INDICATION) or call.name.startswith(("NdisM", "NdisIM")):
        return "miniport edge"
    return "protocol edge"


def _parameters(call: Call) -> str:
    return "<br>".join(f"`{p.name}`{_CARRIES[p.carries]}" for p in call.params)


def _answer(call: Call) -> str:
    if not call.answered:
        return "-"
    first = call.returns if call.returns != "VOID" else "nil"
    return "<br>".join([first, *(f"`{o}`" for o in call.outs)])


def _name(name: str) -> str:
    return f"`{name}`" if name else "-"


def calls() -> str:
    """One table per group of calls; every call stands in exactly one."""
    out: list[str] = []
    seen: set[str] = set()
    for title, belongs in _GROUPS:
        members = [c for c in CALLS.values() if belongs(c)]
        twice = seen & {c.name for c in members}
        if twice:
            raise AssertionError(f"in two groups: {sorted(twice)}")
        seen |= {c.name for c in members}
        out += [f"**{title}**", ""]
        out += ["| call | who sends it | parameters | answer | leads to | completed by | seen as |"]
        out += ["| --- | --- | --- | --- | --- | --- | --- |"]
        for c in members:
            cells = (
                f"`{c.name}`",
                _sender(c),
                _parameters(c),
                _answer(c),
                _name(c.leads_to),
                _name(c.completed_by),
                _name(c.completion_seen_as),
            )
            out.append("| " + " | ".join(cells) + " |")
        out.append("")
    if missing := CALLS.keys() - seen:
        raise AssertionError(f"in no group: {sorted(missing)}")
    return "\n".join(out)
