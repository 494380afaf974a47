"""The life of a state object of the host: the rules that its table holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoststack.model.life import IDLE, LIFE, Event, State
from ndisbus.errors import IllegalTransition


class Thing:
    def __init__(self, state: State = State.NEW) -> None:
        self.state = state

    def __repr__(self) -> str:
        return "Thing"


@pytest.mark.parametrize(
    ("state", "event", "rule"),
    [
        (State.OFFLOADING, Event.INITIATE, "R-INIT-02"),
        (State.OFFLOADING, Event.TERMINATE, "R-CONC-01"),
        (State.OFFLOADING, Event.QUERY, "R-CONC-01"),
        (State.UPDATING, Event.UPDATE, "R-UPD-02"),
        (State.INVALID, Event.UPDATE, "R-UPD-02"),
        (State.QUERYING, Event.TERMINATE, "R-TERM-03"),
        (State.INVALIDATING, Event.TERMINATE, "R-TERM-03"),
    ],
)
def test_a_refused_pair_names_its_rule(state: State, event: Event, rule: str) -> None:
    with pytest.raises(IllegalTransition) as caught:
        LIFE.advance(Thing(state), event)
    assert caught.value.rule == rule


def test_r_init_02_nothing_but_its_completion_or_loss_happens_to_an_object_being_offloaded() -> None:
    """R-INIT-02: nothing but its completion or loss happens to an object being offloaded."""
    assert set(LIFE.rows[State.OFFLOADING]) == {Event.INITIATED, Event.REFUSED, Event.LOST}


def test_r_qry_01_queries_overlap_each_other_and_an_update() -> None:
    """R-QRY-01: queries overlap each other and an update."""
    thing = Thing(State.OFFLOADED)
    for event in (Event.QUERY, Event.QUERY, Event.UPDATE, Event.QUERIED, Event.LAST_QUERIED, Event.UPDATED):
        LIFE.advance(thing, event)
    assert thing.state is State.OFFLOADED


def test_r_upd_02_no_state_with_an_update_running_or_invalid_lets_another_update_begin() -> None:
    """R-UPD-02: no state with an update running or invalid lets another update begin."""
    updating = LIFE.legal_in(Event.UPDATED)
    assert updating == {State.UPDATING, State.UPDATING_QUERYING}
    for state in updating | {State.INVALID, State.INVALID_QUERYING, State.OFFLOADING}:
        assert Event.UPDATE not in LIFE.rows[state]


def test_r_term_03_a_terminate_begins_only_where_nothing_is_in_flight() -> None:
    """R-TERM-03: a terminate begins only where nothing is in flight."""
    assert LIFE.legal_in(Event.TERMINATE) == IDLE | {State.FAILED}


def test_no_rule_is_given_for_a_pair_that_is_legal() -> None:
    assert [pair for pair in LIFE.rules if pair[1] in LIFE.rows[pair[0]]] == []


@given(st.lists(st.sampled_from(list(Event)), max_size=60))
def test_a_terminate_is_always_within_reach_of_an_offloaded_object(events: list[Event]) -> None:
    """From wherever a life has got to, completions alone lead to a state in which it may end."""
    thing = Thing()
    for event in events:
        if event in LIFE.rows[thing.state]:
            LIFE.advance(thing, event)
    completions = (Event.LAST_QUERIED, Event.UPDATED, Event.INVALIDATED, Event.INITIATED, Event.TERMINATED)
    for _ in range(3):
        for event in completions:
            if event in LIFE.rows[thing.state]:
                LIFE.advance(thing, event)
    assert thing.state in {*IDLE, State.NEW, State.GONE, State.FAILED}
