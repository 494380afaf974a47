"""Hops of the simulation: packets take time, stay in order within a hop, and overtake on others."""

from __future__ import annotations

import random

import pytest

from ndisbus.hop import Hop


def arrivals(hop: Hop) -> list[tuple[float, bytes]]:
    """When each packet arrives, in the order in which they do."""
    found = []
    while (due := hop.next_due) is not None:
        assert not hop.ready(due - 1e-9)
        assert hop.ready(due)
        found.append((due, hop.take()[0]))
    return found


def test_without_delays_a_packet_is_there_at_once() -> None:
    hop = Hop(random.Random(1), 0.0)
    hop.put(b"a", (b"x",), 3.0)
    assert hop.ready(3.0)
    assert list(hop) == [(b"a", (b"x",))]
    assert hop.take() == (b"a", (b"x",))
    assert not hop.ready(9.0)
    assert hop.next_due is None


@pytest.mark.parametrize("seed", range(20))
def test_packets_are_late_and_in_order(seed: int) -> None:
    hop = Hop(random.Random(seed), 0.5)
    for i in range(100):
        hop.put(bytes((i,)), (), i / 100)
    assert len(hop) == 100
    found = arrivals(hop)
    assert [head[0] for _, head in found] == list(range(100))
    assert [at for at, _ in found] == sorted(at for at, _ in found)
    assert all(i / 100 <= at <= i / 100 + 0.5 for i, (at, _) in enumerate(found))


def test_each_hop_has_its_own_pace() -> None:
    """A packet that is sent later on one hop arrives before one that was sent earlier on another."""
    overtaken = 0
    for seed in range(50):
        slow, fast = (Hop(random.Random(f"{seed}/{name}"), 0.5) for name in "ab")
        slow.put(b"", (), 0.0)
        fast.put(b"", (), 0.1)
        assert slow.next_due is not None
        assert fast.next_due is not None
        overtaken += fast.next_due < slow.next_due
    assert 5 < overtaken < 45


def test_the_delays_follow_from_the_seed() -> None:
    def play(seed: int) -> list[tuple[float, bytes]]:
        hop = Hop(random.Random(seed), 0.5)
        for i in range(50):
            hop.put(bytes((i,)), (), 0.0)
        return arrivals(hop)

    assert play(1) == play(1)
    assert play(1) != play(2)


def test_what_is_lost_is_lost() -> None:
    hop = Hop(random.Random(1), 0.5)
    hop.put(b"a", (), 0.0)
    hop.clear()
    assert not hop
    assert hop.next_due is None
