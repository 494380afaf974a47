"""Whatever arrives: no exception, nothing unbounded, and the connection's own stream stays intact."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.net.segment import FIN, RST, SYN, Segment
from ndisbus.tcp import challenge, verdict
from ndisbus.tcp.machine import TcpMachine
from tests.support.tcp_attack import Findings, attack, heal
from tests.support.tcp_mutation import fill
from tests.support.tcp_victim import STATES, Broken, Victim


def test_mutated_segments_in_every_state() -> None:
    """A short version of ``python tools/tcp_fuzz.py``."""
    findings = Findings()
    for seed in range(80):
        attack(seed, findings, steps=120)
    assert all(findings.segments[state] > 50 for state in STATES)
    assert findings.healed > 25


numbers = st.integers(-70_000, 70_000) | st.sampled_from([0, 0, 0, 1, -1, 1 << 31, -(1 << 31), 1 << 30])
blocks = st.lists(st.tuples(numbers, numbers), max_size=5)
segments = st.fixed_dictionaries(
    {},
    optional={
        "seq": numbers,
        "ack": numbers,
        "flags": st.integers(0, 255) | st.sampled_from([FIN | 16, RST, RST | 16, SYN, SYN | 16]),
        "window": st.integers(0, 65_535),
        "size": st.integers(0, 3000) | st.just(60_000),
        "urgent": st.integers(0, 65_535),
        "ts_val": numbers | st.none(),
        "ts_ecr": numbers,
        "sack": blocks,
        "mss": st.integers(0, 65_535),
        "window_scale": st.integers(0, 255),
        "sack_permitted": st.booleans(),
    },
)
owner = st.sampled_from(["read", "send", "wait", "hand over"])


def _segment(victim: Victim, fields: dict[str, Any]) -> Segment:
    """A segment whose numbers count from what the connection expects."""
    d = victim.machine.delegated
    segment = victim.answer()
    expected = {
        "seq": d.rcv_nxt,
        "ack": d.snd_max,
        "ts_val": d.ts_recent,
        "ts_ecr": victim.now + victim.machine.timestamps.delta,
    }
    for name, value in fields.items():
        if name == "size":
            segment.payload = bytes(value)
        elif name == "sack":
            una = d.snd_una
            segment.sack = tuple(((una + a) & 0xFFFFFFFF, (una + b) & 0xFFFFFFFF) for a, b in value)
        elif name in expected and value is not None:
            setattr(segment, name, (expected[name] + value) & 0xFFFFFFFF)
        else:
            setattr(segment, name, value)
    fill(victim, segment)
    return segment


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(STATES),
    st.integers(0, 2**16),
    st.booleans(),
    st.lists(segments | owner, min_size=1, max_size=12),
)
def test_any_segments_in_any_state(
    state: State, seed: int, offloaded: bool, steps: list[dict[str, Any] | str]
) -> None:
    """Small attacks that can be shrunk to what matters."""
    victim = Victim(Random(seed), state, offloaded=offloaded)
    for step in steps:
        if isinstance(step, dict):
            victim.receive(_segment(victim, step))
        elif step == "read":
            victim.take()
        elif step == "send":
            victim.send(2000)
        elif step == "wait":
            victim.pass_time(victim.settings[0].ticks(300))
        elif State.TcpConnectionEstablished <= victim.machine.state <= State.TcpConnectionLastAck:
            victim.hand_over(offloaded=not victim.machine.settings.offloaded)
        victim.settle()
    heal(victim)


# -- that faults would show


def _every_reset_counts(m: TcpMachine, rel: int, now: int) -> None:
    _in_window_reset(m, 0, now)


_in_window_reset = challenge.in_window_reset


def _everything_is_in_window(rel: int, length: int, window: int, flags: int) -> bool:
    return True


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (challenge, "in_window_reset", _every_reset_counts),
        (verdict, "_in_window", _everything_is_in_window),
    ],
)
def test_a_fault_of_the_machine_is_found(
    owner: Any, name: str, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacks are worth what they find: each of these would be found at once."""
    monkeypatch.setattr(owner, name, fault)
    found: Counter[str] = Counter()
    for seed in range(60):
        try:
            attack(seed, Findings())
        except Broken as error:
            found[str(error).split(":")[0]] += 1
    assert found
