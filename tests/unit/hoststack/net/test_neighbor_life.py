"""The table of neighbor states against RFC 4861, row by row."""

from __future__ import annotations

import pytest

from hoststack.net.neighbor_life import ACTIONS, LIFE, Action, NeighborEvent, NeighborState

S, E, A = NeighborState, NeighborEvent, Action

#: RFC 4861 appendix C and 7.3.3, in our events: (state, event, new state, what is done).
RFC = [
    # A packet to send.
    (S.UNREACHABLE, E.SEND, S.INCOMPLETE, A.QUEUE | A.SOLICIT | A.COUNT),
    (S.INCOMPLETE, E.SEND, S.INCOMPLETE, A.QUEUE),
    (S.REACHABLE, E.SEND, S.REACHABLE, A.NOTHING),
    (S.STALE, E.SEND, S.DELAY, A.NOTHING),
    (S.DELAY, E.SEND, S.DELAY, A.NOTHING),
    (S.PROBE, E.SEND, S.PROBE, A.NOTHING),
    # Timers.
    (S.INCOMPLETE, E.TIMEOUT, S.INCOMPLETE, A.SOLICIT),
    (S.INCOMPLETE, E.EXHAUSTED, S.UNREACHABLE, A.FAIL),
    (S.REACHABLE, E.TIMEOUT, S.STALE, A.NOTHING),
    (S.DELAY, E.TIMEOUT, S.PROBE, A.PROBE | A.COUNT),
    (S.PROBE, E.TIMEOUT, S.PROBE, A.PROBE),
    (S.PROBE, E.EXHAUSTED, S.UNREACHABLE, A.FAIL),
    # Solicited advertisements.
    (S.INCOMPLETE, E.ANSWERED_NEW, S.REACHABLE, A.RECORD | A.RELEASE),
    (S.PROBE, E.ANSWERED_SAME, S.REACHABLE, A.NOTHING),
    (S.DELAY, E.ANSWERED_SAME, S.REACHABLE, A.NOTHING),
    (S.STALE, E.ANSWERED_SAME, S.REACHABLE, A.NOTHING),
    (S.PROBE, E.ANSWERED_NEW, S.REACHABLE, A.RECORD),
    (S.REACHABLE, E.ANSWERED_NEW, S.REACHABLE, A.RECORD),
    # An address that is not to override.
    (S.REACHABLE, E.CONTRADICTED, S.STALE, A.NOTHING),
    (S.STALE, E.CONTRADICTED, S.STALE, A.NOTHING),
    (S.DELAY, E.CONTRADICTED, S.DELAY, A.NOTHING),
    (S.PROBE, E.CONTRADICTED, S.PROBE, A.NOTHING),
    # Unsolicited.
    (S.INCOMPLETE, E.HEARD_NEW, S.STALE, A.RECORD | A.RELEASE),
    (S.REACHABLE, E.HEARD_NEW, S.STALE, A.RECORD),
    (S.PROBE, E.HEARD_NEW, S.STALE, A.RECORD),
    (S.REACHABLE, E.HEARD_SAME, S.REACHABLE, A.NOTHING),
    (S.PROBE, E.HEARD_SAME, S.PROBE, A.NOTHING),
    # Upper layers.
    (S.STALE, E.CONFIRMED, S.REACHABLE, A.NOTHING),
    (S.DELAY, E.CONFIRMED, S.REACHABLE, A.NOTHING),
    (S.PROBE, E.CONFIRMED, S.REACHABLE, A.NOTHING),
    (S.INCOMPLETE, E.CONFIRMED, S.INCOMPLETE, A.NOTHING),
    # Ours: the RFC leaves negative advice open.
    (S.REACHABLE, E.DOUBTED, S.PROBE, A.PROBE | A.COUNT),
    (S.STALE, E.DOUBTED, S.PROBE, A.PROBE | A.COUNT),
    (S.DELAY, E.DOUBTED, S.PROBE, A.PROBE | A.COUNT),
    (S.PROBE, E.DOUBTED, S.PROBE, A.NOTHING),
    (S.INCOMPLETE, E.DOUBTED, S.INCOMPLETE, A.NOTHING),
]


@pytest.mark.parametrize(("state", "event", "after", "action"), RFC)
def test_a_row_of_the_rfc(
    state: NeighborState, event: NeighborEvent, after: NeighborState, action: Action
) -> None:
    assert LIFE.after(state, event) is after
    assert ACTIONS[state, event] == action


def test_only_a_state_without_an_address_keeps_or_looks_for_one() -> None:
    without = (S.INCOMPLETE, S.UNREACHABLE)
    for state, event, after in LIFE:
        action = ACTIONS[state, event]
        if Action.RELEASE in action or Action.QUEUE in action:
            assert state in without
        if state in without and after not in without:
            assert Action.RECORD in action, f"{event} in {state} gives no address"
        if Action.FAIL in action:
            assert after is S.UNREACHABLE


def test_what_cannot_happen_in_a_state_is_illegal_there() -> None:
    """A timer that is not running, an answer that repeats an address that is not known."""
    known = {S.REACHABLE, S.STALE, S.DELAY, S.PROBE}
    assert LIFE.legal_in(E.TIMEOUT) == {S.INCOMPLETE, S.REACHABLE, S.DELAY, S.PROBE}
    assert LIFE.legal_in(E.EXHAUSTED) == {S.INCOMPLETE, S.PROBE}
    for event in (E.HEARD_SAME, E.ANSWERED_SAME, E.CONTRADICTED):
        assert LIFE.legal_in(event) == known
    for event in (E.SEND, E.CONFIRMED, E.DOUBTED, E.HEARD_NEW, E.ANSWERED_NEW):
        assert LIFE.legal_in(event) == set(S)
