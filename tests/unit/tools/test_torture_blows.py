"""tools/torture_blows.py: which errors a kill, a stall or a SIGTERM explains, and which none does."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tools.torture_blows import BELOW, Blame, Blow, gust

LIMIT = 2.0
REMOVED = "10.77.0.20:1 -> 10.77.0.2:7: connection lost: the offload adapter was removed"
RESET = "10.77.0.20:1 -> 10.77.0.2:7: reset by the remote end"


def blame(*blows: tuple[float, str, str, float], term_kills: bool = False) -> Blame:
    """Blows as (at, victim, kind, seconds)."""
    found = [Blow(n, at, victim, kind, 1, at + s) for n, (at, victim, kind, s) in enumerate(blows)]
    return Blame(LIMIT, 5.0, term_kills, found)


def end(text: str = REMOVED, failed: float = 100.0, **changed: Any) -> dict[str, Any]:
    """A connection that was opened at 90, offloaded at 95 and told of an error at ``failed``."""
    told = {
        "outcome": "error",
        "error": "ConnectionReset",
        "text": text,
        "at": failed + 2,
        "failures": [failed],
        "begun": 89.0,
        "opened": 90.0,
        "moves": [(95.0, "away")],
    }
    return told | changed


@pytest.mark.parametrize("victim", BELOW["a"])
def test_the_death_of_a_layer_below_explains_the_loss_of_what_is_offloaded(victim: str) -> None:
    assert blame((99.9, victim, "kill", 0)).explain("a", end()) == f"kill of {victim}"


def test_a_layer_that_is_not_below_explains_nothing() -> None:
    assert blame((99.9, "upper", "kill", 0)).explain("c", end()) is None
    assert blame((99.9, "b", "kill", 0)).explain("a", end()) is None
    assert blame((99.9, "peer", "kill", 0)).explain("a", end()) is None


def test_a_stall_explains_a_loss_if_it_is_longer_than_the_limit() -> None:
    assert blame((97.0, "im", "hang", 2.6)).explain("a", end()) == "hang of im"
    assert blame((97.0, "im", "stall", 0.8)).explain("a", end()) is None
    assert blame((97.0, "bus", "hang", 2.6)).explain("a", end()) is None
    assert blame((90.0, "a", "hang", 6.0)).explain("a", end()) == "hang of a"
    assert blame((95.0, "a", "hang", 3.0)).explain("a", end()) is None


def test_a_sigterm_explains_a_loss_only_of_the_bus_or_where_it_counts_as_a_kill() -> None:
    assert blame((99.9, "target", "term", 0)).explain("a", end()) is None
    assert blame((99.9, "target", "term", 0), term_kills=True).explain("a", end()) == "term of target"
    assert blame((99.9, "bus", "term", 0)).explain("a", end()) == "term of bus"


def test_a_sigterm_explains_a_loss_if_something_stalls_meanwhile_or_if_it_is_repeated() -> None:
    assert (
        blame((98.0, "bus", "hang", 3.0), (98.5, "target", "term", 0)).explain("a", end()) == "term of target"
    )
    assert (
        blame((98.0, "b", "hang", 3.0), (98.5, "target", "term", 0)).explain("a", end()) == "term of target"
    )
    assert blame((98.0, "bus", "stall", 0.8), (98.5, "target", "term", 0)).explain("a", end()) is None
    assert blame((98.0, "peer", "hang", 3.0), (98.5, "target", "term", 0)).explain("a", end()) is None
    assert blame((98.5, "im", "term", 0), (99.2, "im", "term", 0)).explain("a", end()) == "term of im"
    assert blame((98.5, "im", "term", 0), (99.2, "target", "term", 0)).explain("a", end()) is None


def test_a_connection_that_its_host_serves_goes_on() -> None:
    blows = blame((99.9, "target", "kill", 0))
    assert blows.explain("a", end(moves=[])) is None
    assert blows.explain("a", end(moves=[(95.0, "away"), (97.0, "home")])) is None
    assert blows.explain("a", end(moves=[(97.0, "home"), (99.0, "away")])) is not None
    # It came home after the blow, or left before the blow could be known.
    assert blows.explain("a", end(moves=[(95.0, "away"), (100.5, "home")])) is not None
    assert blows.explain("a", end(moves=[(99.95, "away")])) is not None


def test_a_blow_explains_nothing_that_comes_before_it_or_long_after_it() -> None:
    assert blame((101.0, "target", "kill", 0)).explain("a", end()) is None
    assert blame((96.0, "target", "kill", 0)).explain("a", end(failed=150.0)) is None
    assert blame((40.0, "target", "kill", 0)).explain("a", end(moves=[(30.0, "away")])) is None


def test_a_reset_from_the_remote_end_is_explained_by_its_death_alone() -> None:
    away = end(RESET)
    home = end(RESET, moves=[])
    for told in (away, home):
        assert blame((99.0, "peer", "kill", 0)).explain("a", told) == "kill of peer"
        assert blame((99.0, "peer", "hang", 3.0)).explain("a", told) is None
        assert blame((99.0, "target", "kill", 0)).explain("a", told) is None
        assert blame((80.0, "peer", "kill", 0)).explain("a", told) is None
        assert blame((89.5, "peer", "kill", 0)).explain("a", told) == "kill of peer"


def test_other_errors_are_never_explained_but_a_connection_may_fail_to_open() -> None:
    blows = blame((99.9, "target", "kill", 0))
    assert blows.explain("a", end("timed out", error="ConnectionTimedOut")) is None
    failed = end(outcome="not connected", error="Unreachable", failures=[], moves=[])
    assert blows.explain("a", failed) == "kill of target"
    assert blame((50.0, "target", "kill", 0)).explain("a", failed) is None
    assert blame((99.9, "b", "kill", 0)).explain("a", failed) is None


def test_gusts_follow_from_the_random_numbers_and_spare_whom_they_have_to() -> None:
    one, two = ([b for _ in range(200) for b in gust(random.Random(s), LIMIT, ("im", "c"))] for s in (4, 4))
    assert one == two
    rng = random.Random(4)
    blows = [b for _ in range(500) for b in gust(rng, LIMIT, ("im", "c"))]
    assert {b.kind for b in blows if b.victim in ("im", "c")} == {"stall"}
    assert {b.kind for b in blows if b.victim == "target"} == {"kill", "term", "stall", "hang"}
    assert all(b.seconds < 0.5 * LIMIT for b in blows if b.kind == "stall")
    assert all(b.seconds > LIMIT for b in blows if b.kind == "hang" and b.victim == "target")
