"""The table type for lives: legal and illegal pairs, lists of objects, the diagram."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hoststack.model.life
import hoststack.net.neighbor_life
import imdriver.life
import target.model.life
from ndisbus.errors import IllegalTransition
from ndisbus.life import LifeEnum, LifeTable


class Door(LifeEnum):
    OPEN = "open"
    SHUT = "shut"
    LOCKED = "locked up"


class Act(LifeEnum):
    SHUT = "shut"
    SLAM = "slam"
    LOCK = "lock"
    KNOCK = "knock"


DOOR = LifeTable(
    "a door",
    initial=Door.OPEN,
    final=Door.LOCKED,
    rows={
        Door.OPEN: {Act.SHUT: Door.SHUT, Act.SLAM: Door.SHUT},
        Door.SHUT: {Act.LOCK: Door.LOCKED, Act.SHUT: Door.SHUT},
    },
    rules={(Door.OPEN, Act.LOCK): "rule 1"},
)


class Thing:
    def __init__(self, state: Door) -> None:
        self.state = state

    def __str__(self) -> str:
        return "the front door"


@pytest.mark.parametrize("state", Door)
@pytest.mark.parametrize("event", Act)
def test_a_pair_is_in_the_table_or_raises_and_changes_nothing(state: Door, event: Act) -> None:
    thing = Thing(state)
    following = DOOR.rows.get(state, {}).get(event)
    if following is not None:
        assert (
            DOOR.after(state, event) is DOOR.require(thing, event) is DOOR.column(event)[state] is following
        )
        DOOR.advance(thing, event)
        assert thing.state is following
        return
    assert state not in DOOR.legal_in(event)
    for act in (DOOR.require, DOOR.advance):
        with pytest.raises(IllegalTransition) as caught:
            act(thing, event)
        assert (caught.value.state, caught.value.event, thing.state) == (state, event, state)
        assert caught.value.reason == f"the front door: {event} is not legal in state {state}"
    with pytest.raises(IllegalTransition, match=f"a door: {event} is not legal in state {state}"):
        DOOR.column(event)[state]


def test_a_refused_pair_names_its_rule() -> None:
    with pytest.raises(IllegalTransition) as caught:
        DOOR.after(Door.OPEN, Act.LOCK)
    assert caught.value.rule == "rule 1"


@given(st.lists(st.sampled_from(Door), max_size=8), st.sampled_from(Act))
def test_a_list_of_objects_advances_as_a_whole_or_not_at_all(states: list[Door], event: Act) -> None:
    things = [Thing(s) for s in states]
    following = [DOOR.rows.get(s, {}).get(event) for s in states]
    if None in following:
        with pytest.raises(IllegalTransition) as caught:
            DOOR.advance_all(things, event)
        assert caught.value.state is states[following.index(None)]
        assert [t.state for t in things] == states
    else:
        DOOR.advance_all(things, event)
        assert [t.state for t in things] == following


def test_an_object_that_is_given_twice_takes_two_steps() -> None:
    thing = Thing(Door.OPEN)
    with pytest.raises(IllegalTransition):
        DOOR.advance_all([thing, thing], Act.SLAM)
    assert str(thing.state) == "open"
    DOOR.advance_all([thing, thing], Act.SHUT)
    assert str(thing.state) == "shut"


def test_events_that_join_the_same_two_states_share_an_arrow() -> None:
    assert DOOR.mermaid().splitlines() == [
        "stateDiagram-v2",
        "    [*] --> open",
        "    locked_up: locked up",
        "    open --> shut: shut, slam",
        "    shut --> locked_up: lock",
        "    shut --> shut: shut",
        "    locked_up --> [*]",
    ]
    assert DOOR.markdown() == f"```mermaid\n{DOOR.mermaid()}\n```"


LIVES: dict[str, list[LifeTable[Any, Any]]] = {
    "hoststack.model.life": [hoststack.model.life.LIFE],
    "hoststack.net.neighbor_life": [hoststack.net.neighbor_life.LIFE],
    "target.model.life": [target.model.life.LIFE],
    "imdriver.life": [imdriver.life.CALL_ENTRY, imdriver.life.OFFLOAD_ENTRY],
}


@pytest.mark.parametrize("table", [t for tables in LIVES.values() for t in tables], ids=lambda t: t.name)
def test_every_state_is_reached_every_event_used_and_every_life_can_end(
    table: LifeTable[Any, Any],
) -> None:
    states, events = set(type(table.initial).__members__.values()), {type(event) for _, event, _ in table}
    reached = {table.initial}
    for _ in states:
        reached |= {after for state, _, after in table if state in reached}
    assert reached == states
    assert {event for _, event, _ in table} == {e for kind in events for e in kind}
    if table.final is not None:
        ending = {table.final}
        for _ in states:
            ending |= {state for state, _, after in table if after in ending}
        assert ending == states


@pytest.mark.parametrize("module", LIVES)
def test_a_module_with_lives_prints_their_diagrams(module: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module], capture_output=True, text=True, check=True, timeout=60
    )
    for table in LIVES[module]:
        assert f"## Life of {table.name}\n\n```mermaid\n{table.mermaid()}\n```\n" in printed.stdout
