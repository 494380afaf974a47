"""Hosts with live connections over stacked drivers: every byte arrives once, or a fault explains why."""

from __future__ import annotations

import sys

import pytest

from ndisbus.core import CoreConfig
from tools import torture_live
from tools.torture_live import run_live
from tools.torture_live_report import LiveReport

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a death is noticed by a pidfd"),
]


def play(seed: int, minutes: float) -> LiveReport:
    return run_live(
        seed=seed,
        minutes=minutes,
        connections=3,
        hang_limit=CoreConfig().hang_limit,
        term_kills=False,
        tell=print,
    )


def test_without_faults_no_connection_has_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offloads, uploads, queries, half-closes and closes at random instants."""
    monkeypatch.setattr(torture_live, "gust", lambda *_: iter(()))
    report = play(seed=1, minutes=0.05)
    assert not report.problems, "\n".join(report.problems)
    assert not report.errors
    assert report.got
    assert report.asked["offload: NDIS_STATUS_SUCCESS"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 4))
def test_blows_explain_every_error(seed: int) -> None:
    report = play(seed=seed, minutes=15)
    assert not report.problems, "\n".join(report.problems)
    assert report.blows.total() > 200
