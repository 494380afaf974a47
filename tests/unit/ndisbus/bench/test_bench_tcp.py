"""The parts of ``ndisbus bench tcp`` that need no root, and what it says where root is needed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from ndisbus.bench import tcp
from ndisbus.bench.command import bench_command
from ndisbus.bench.tcp_idle import measure_idle
from ndisbus.bench.tcp_memory import Pair, bare_pair, framed_pair, transfer


@pytest.mark.parametrize("make", [bare_pair, framed_pair])
def test_everything_sent_arrives_in_full_segments(make: Any) -> None:
    """Goodput is what the far end read, and it reads all of it; nothing is lost or sent twice on the way."""
    pair: Pair = make()
    begin = pair.near.delegated.snd_una
    moved = transfer(pair, 0.05)
    assert moved.octets == pair.near.delegated.snd_una - begin > 0
    assert moved.seconds >= 0.05
    assert pair.near.mss == 1448
    # Full segments, and at most an ACK for each.
    assert moved.octets / 1448 <= moved.segments <= 2.1 * moved.octets / 1448
    assert pair.near.queued == 0
    assert pair.far.available == 0
    summary = moved.summary()
    assert summary["segments_per_s"] == pytest.approx(moved.segments / moved.seconds, abs=1)


def test_both_ends_of_the_framed_pair_settle() -> None:
    pair = framed_pair()
    pair.far.send(b"x" * 5000)
    pair.settle()
    assert pair.near.read() == b"x" * 5000
    assert pair.far.queued == 0


def test_idle_connections_are_small() -> None:
    """At most 4 KiB each: machine, structures and frame builder, once used and then left alone."""
    idle = measure_idle(300)
    assert idle["connections"] == 300
    assert 500 < idle["machine_bytes_each"] < idle["allocated_bytes_each"] <= 4096


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "_QUICK_SECONDS", 0.02)
    monkeypatch.setattr(tcp, "_QUICK_IDLE", 20)


@pytest.mark.usefixtures("small")
def test_without_root_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.platform", "linux")
    result = CliRunner().invoke(bench_command, ["tcp", "--quick", "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    for part in ("tap", "linux"):
        assert found[part] == {"skipped": "network namespaces and TAP devices need root"}
    assert set(found["ratio"]) == {"framed_to_machine"}
    assert found["ratio"]["framed_to_machine"] == pytest.approx(
        found["framed"]["goodput_bytes_per_s"] / found["machine"]["goodput_bytes_per_s"], abs=1e-3
    )
    assert found["idle"]["connections"] == 20


@pytest.mark.usefixtures("small")
def test_table_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("sys.platform", "linux")
    result = CliRunner().invoke(bench_command, ["tcp", "--quick"], catch_exceptions=False)
    assert result.exit_code == 0
    for words in ("the machine alone", "with headers", "the command ip is missing", "20 idle connections"):
        assert words in result.stdout


def test_options_stand_behind_the_word() -> None:
    result = CliRunner().invoke(bench_command, ["--json", "tcp"])
    assert result.exit_code == 2
    assert "write the options after 'tcp'" in result.output


def test_ratios() -> None:
    """Each is the quotient of two goodputs of the same run and direction."""
    both = {"goodput_bytes_per_s": {"from_linux": 30, "to_linux": 20}}
    linux = {"goodput_bytes_per_s": {"from_linux": 300, "to_linux": 400}}
    result = {
        "machine": {"goodput_bytes_per_s": 200},
        "framed": {"goodput_bytes_per_s": 100},
        "tap": both,
        "linux": linux,
    }
    assert tcp._ratios(result) == {
        "framed_to_machine": 0.5,
        "tap_from_linux_to_framed": 0.3,
        "tap_from_linux_to_linux_itself": 0.1,
        "tap_to_linux_to_framed": 0.2,
        "tap_to_linux_to_linux_itself": 0.05,
    }
