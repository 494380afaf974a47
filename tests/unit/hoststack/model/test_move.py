"""The table of who owns what while a connection moves."""

from __future__ import annotations

from hoststack.model import move
from hoststack.model.life import LIFE, Event, State
from hoststack.model.move import STEPS, Item, Owner, Step, owner, step_of


def test_each_item_has_one_owner_at_each_step() -> None:
    assert {(step, item): owner(step, item) for step in Step for item in Item}.keys() == {
        (s, i) for s in Step for i in Item
    }


def test_the_steps_follow_each_other_as_the_states_of_life_do() -> None:
    """A transition of the life either stays at its step or goes to one that may follow."""
    for state, event, following in LIFE:
        for lost in (False, True):
            before, after = step_of(state, None, lost), step_of(following, None, lost or event is Event.LOST)
            assert after is before or after in STEPS[before], (state, event)


def test_a_terminate_that_waits_recalls() -> None:
    assert step_of(State.QUERYING, Event.TERMINATE, False) is Step.RECALLED
    assert step_of(State.QUERYING, None, False) is Step.BELOW
    assert step_of(State.OFFLOADING, Event.TERMINATE, False) is Step.OFFERED


def test_only_the_owner_of_the_connection_acknowledges() -> None:
    assert [owner(s, Item.ACKNOWLEDGE) for s in (Step.IN_HOST, Step.OFFERED, Step.LOST)] == [
        Owner.HOST,
        Owner.BELOW,
        Owner.NONE,
    ]


def test_the_page_has_a_row_for_each_item_and_each_change() -> None:
    lines = move.owners_markdown().splitlines()
    assert len(lines) == 2 + len(Item) + 1 + 2 + sum(map(len, STEPS.values()))
