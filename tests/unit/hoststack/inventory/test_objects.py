"""The objects that a scenario gets for an inventory."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from hoststack.inventory.facts import Inventory
from hoststack.inventory.objects import objects_of
from tests.unit.hoststack.inventory.test_inventory import a_connection

LOCAL = bytes([192, 0, 2, 2])


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([0, 1200])), max_size=20, unique=True
    )
)
def test_what_has_no_connection_to_offload_is_left_out(ends: list[tuple[int, int, int]]) -> None:
    """A path whose connections all stay in the host never goes down, so a query of it would be illegal."""
    connections = tuple(
        a_connection(LOCAL, bytes([198, 51, 100, remote]), (40000 + port + unacked, 443), unacked=unacked)
        for remote, port, unacked in ends
    )
    made = objects_of(Inventory(connections, (), (), ()), random.Random(1))
    assert len(made.connections) + made.stay == len(connections)
    assert {c.path for c in made.connections} == set(made.paths)
    assert {p.neighbor for p in made.paths} == set(made.neighbors)
