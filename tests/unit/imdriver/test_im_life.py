"""The tables of lives: exactly the documented transitions, everything else an IllegalTransition."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from imdriver.life import (
    CALL_ENTRY,
    OFFLOAD_ENTRY,
    CallEvent,
    CallLife,
    OffloadEvent,
    OffloadLife,
    Table,
    main,
)
from ndisbus.errors import IllegalTransition

TABLES = ((CALL_ENTRY, CallLife, CallEvent), (OFFLOAD_ENTRY, OffloadLife, OffloadEvent))
PAIRS = [
    (table, state, event)
    for table, states, events in TABLES
    for state, event in itertools.product(states, events)
]


class Thing:
    """Something with a life."""

    def __init__(self, life: Any) -> None:
        self.life = life


@pytest.mark.parametrize(("table", "state", "event"), PAIRS)
def test_a_pair_is_in_its_table_or_raises(table: Table[Any, Any], state: Any, event: Any) -> None:
    if (state, event) in table.moves:
        assert table.step(state, event) is table.moves[state, event]
        return
    thing = Thing(state)
    with pytest.raises(IllegalTransition) as caught:
        table.step_all([thing], event)
    assert (caught.value.state, caught.value.event) == (state.value, event.value)
    assert table.name in str(caught.value)
    assert thing.life is state


@pytest.mark.parametrize(("table", "states", "events"), TABLES)
def test_every_state_is_reached_and_every_life_ends(table: Table[Any, Any], states: Any, events: Any) -> None:
    reached = {table.initial}
    for _ in states:
        reached |= {after for (state, _), after in table.moves.items() if state in reached}
    assert reached == set(states)
    assert not any(state is table.final for state, _ in table.moves)
    assert {event for _, event in table.moves} == set(events)


def test_step_all_changes_all_or_none() -> None:
    good, bad = Thing(OffloadLife.OFFLOADED), Thing(OffloadLife.OFFERED)
    with pytest.raises(IllegalTransition):
        OFFLOAD_ENTRY.step_all([good, bad], OffloadEvent.TERMINATE)
    assert (good.life, bad.life) == (OffloadLife.OFFLOADED, OffloadLife.OFFERED)
    OFFLOAD_ENTRY.step_all([good, bad], OffloadEvent.HALT)
    assert good.life is bad.life is OffloadLife.FREED


def test_the_diagrams_show_every_transition(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    shown = capsys.readouterr().out
    assert shown.count("```mermaid\nstateDiagram-v2") == 2
    for table, _, _ in TABLES:
        lines = table.mermaid().splitlines()
        assert f"    [*] --> {table.initial.value}" in lines
        assert f"    {table.final.value} --> [*]" in lines
        for (state, event), after in table.moves.items():
            (line,) = [x for x in lines if x.startswith(f"    {state.value} --> {after.value}: ")]
            assert event.value in line.partition(": ")[2].split(", ")
