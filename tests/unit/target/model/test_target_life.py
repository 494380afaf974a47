"""The table of life of an offloaded object."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.errors import IllegalTransition
from target.model.life import LIFE, Event, Life


def test_illegal_steps_leave_an_object_as_it_was(h: Any) -> None:
    n, _, _ = h.stack(0)
    obj = h.adapter.find(n.context)
    with pytest.raises(IllegalTransition, match="neighbor 0x"):
        obj.step(Event.TERMINATED)
    assert obj.life is Life.OFFLOADED


def test_rules_that_the_table_holds() -> None:
    """R-INV-03, R-STATE-06: no update when invalid or updating; invalid ends by a terminate only.

    Queries and terminates are for every object that is offloaded, whatever became of it.
    """
    assert LIFE.legal_in(Event.UPDATE) == {Life.OFFLOADED}
    leads = {event for state, event, to in LIFE if state is Life.INVALID and to is not Life.INVALID}
    assert leads == {Event.TERMINATE, Event.LOSE, Event.HALT}
    for event in (Event.QUERY, Event.TERMINATE):
        assert LIFE.legal_in(event) == {Life.OFFLOADED, Life.UPDATING, Life.INVALID, Life.LOST}
    assert Life.GONE not in LIFE.rows
