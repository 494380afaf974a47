"""State diagrams of docs/architecture.md, made from the tables that the drivers themselves obey."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

import hoststack.model.life
import imdriver.life
import target.model.life

__all__ = ["diagram", "host", "im_call_entry", "im_offload_entry", "target_object"]


S = TypeVar("S", bound=enum.Enum)
E = TypeVar("E", bound=enum.Enum)


def diagram(moves: Mapping[tuple[S, E], S], initial: S, final: S) -> str:
    """A Mermaid state diagram; events that join the same two states share an arrow."""
    states: dict[S, None] = {initial: None}
    arrows: dict[tuple[S, S], list[str]] = {}
    for (state, event), after in moves.items():
        states |= {state: None, after: None}
        arrows.setdefault((state, after), []).append(str(event.value))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {_id(initial)}"]
    lines += [f"    {_id(s)}: {s.value}" for s in states if _id(s) != s.value]
    lines += [f"    {_id(a)} --> {_id(b)}: {', '.join(events)}" for (a, b), events in arrows.items()]
    return "\n".join([*lines, f"    {_id(final)} --> [*]", "```"])


def _id(state: enum.Enum) -> str:
    return str(state.value).replace(" ", "_")


def host() -> str:
    """A neighbor, path or connection, as the host stack sees it."""
    life = hoststack.model.life
    moves = {(state, event): after for state, row in life.TABLE.items() for event, after in row.items()}
    return diagram(moves, life.State.NEW, life.State.GONE)


def target_object() -> str:
    """An offload context of the target."""
    return diagram(target.model.life.LIFE, target.model.life.Life.NEW, target.model.life.Life.GONE)


def im_call_entry() -> str:
    """An IM call entry: one request on its way down and up."""
    table = imdriver.life.CALL_ENTRY
    return diagram(table.moves, table.initial, table.final)


def im_offload_entry() -> str:
    """An IM offload entry: one object that is offloaded through the intermediate driver."""
    table = imdriver.life.OFFLOAD_ENTRY
    return diagram(table.moves, table.initial, table.final)
