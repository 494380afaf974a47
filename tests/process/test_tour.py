"""The main job on real processes: what it reports was measured, and an interrupt leaves the stack whole."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import until
from tools.torture_stack import RealStack, with_peer

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the states of processes are Linux's"),
]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stack() -> Iterator[RealStack]:
    with RealStack(with_peer()) as stack:
        yield stack


def start_tour(stack: RealStack, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hoststack", "tour", *arguments],
        cwd=ROOT,
        env=stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_each_operation_is_measured_by_itself(stack: RealStack) -> None:
    tour = start_tour(stack, "--json", "--connections", "24")
    out, err = tour.communicate(timeout=60)
    assert tour.returncode == 0, err
    result = json.loads(out)
    assert result["ok"]
    assert not any(result["leftovers"].values())
    rows = {row["operation"]: row for row in result["operations"]}
    for row in rows.values():
        assert 0 < row["completions_got"] == row["completions_expected"], row
        assert 0 < row["p50_ms"] <= row["p99_ms"], row
    # Each of many queries has a latency of its own.
    assert rows["query"]["p50_ms"] < rows["query"]["p99_ms"]
    assert rows["upload"]["statuses"] == {"NDIS_STATUS_SUCCESS": rows["upload"]["completions_expected"]}
    # Real data, checked at both ends, before and after the state operations; variables that are alive.
    for data in result["data"]:
        assert data["sha256_checked"] == 2 * data["connections"] > 0
        assert data["bytes_sent"] == data["bytes_received"] > 0
    rounds = [d["round"] for d in result["data"]]
    assert (rounds[0], rounds[-1]) == ("in the host", "after the upload")
    assert result["facts"]["families"] == {"IPv4": 12, "IPv6": 12}
    assert result["facts"]["alive"]["ts_time_ticks"] > 0
    assert result["facts"]["kill"]["connections_lost"] == 24


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_does_not_leave_the_target_stopped(stack: RealStack, number: signal.Signals) -> None:
    """The tour stops the target before it kills it; an interrupt in between lets it go on."""
    target = psutil.Process(stack.pid("target"))
    tour = start_tour(stack, "--connections", "60")
    try:
        until(lambda: target.status() == psutil.STATUS_STOPPED, "the tour stops the target")
        tour.send_signal(number)
        _, err = tour.communicate(timeout=20)
    finally:
        if tour.poll() is None:
            tour.kill()
            tour.communicate()
    assert "interrupted by " + number.name in err
    assert tour.returncode == 128 + number
    until(lambda: target.status() != psutil.STATUS_STOPPED, "the target goes on")
    assert stack.pid("target") == target.pid
