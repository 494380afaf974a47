"""Impairments: what a seed decides, and what holds for every seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.errors import LocalProtocolError
from ndisbus.wire.impair import UNIMPAIRED, Bursts, ImpairedLink, Impairments
from ndisbus.wire.link import innermost
from ndisbus.wire.memory import MemoryLink, MemorySegment

HEADER = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5"
#: Long after everything that a test delays.
LATER = 1e9

chance = st.sampled_from((0.0, 0.05, 0.3, 1.0))
impairments = st.builds(
    Impairments,
    loss=st.sampled_from((0.0, 0.05, 0.3)),
    bursts=st.sampled_from((None, Bursts(0.1, 0.5), Bursts(0.2, 0.3, 0.8, 0.01))),
    corrupt=chance,
    duplicate=chance,
    rate=st.sampled_from((None, 1e5, 1e9)),
    rate_burst=st.sampled_from((100, 15_000)),
    delay=st.sampled_from((0.0, 0.01)),
    jitter=st.sampled_from((0.0, 0.005)),
    reorder=st.sampled_from((0.0, 0.1, 1.0)),
    reorder_gap=st.integers(1, 5),
    reorder_hold=st.sampled_from((0.0, 0.02)),
    limit=st.sampled_from((5, 1000)),
)
#: Gaps between frames (seconds), and how long the frames are.
traffic = st.lists(st.tuples(st.sampled_from((0.0, 0.001, 0.05)), st.integers(0, 60)), max_size=60)


def numbered(n: int, size: int = 60) -> bytes:
    return HEADER + n.to_bytes(4, "big") + bytes(size)


def number(frame: bytes) -> int:
    return int.from_bytes(frame[14:18], "big")


class Rig:
    """Two stations, ``link`` the impaired one and ``far`` the plain one; what each receives, and when."""

    def __init__(self, seed: int = 1, **kinds: Impairments) -> None:
        segment = MemorySegment()
        self.link = ImpairedLink(segment.station("near"), random.Random(seed), **kinds)
        self.far: MemoryLink = segment.station("far")
        self.now = 0.0
        self.sent: list[tuple[float, bytes]] = []
        self.received: list[tuple[float, bytes]] = []

    def advance(self, to: float) -> None:
        """Let time pass, from deadline to deadline."""
        while True:
            due = self.link.next_deadline()
            if due is None or due > to:
                break
            self.now = max(self.now, due)
            self.collect()
        self.now = max(self.now, min(to, LATER))
        self.collect()

    def collect(self) -> None:
        self.received += [(self.now, f) for f in self.link.receive(self.now)]
        self.sent += [(self.now, f) for f in self.far.receive(self.now)]

    def out(self, frame: bytes) -> None:
        self.link.send(frame, self.now)
        self.collect()

    def back(self, frame: bytes) -> None:
        self.far.send(frame, self.now)
        self.collect()


def run(seed: int, i: Impairments, frames: list[tuple[float, int]]) -> Rig:
    """The same frames both ways, to the end."""
    rig = Rig(seed, ingress=i, egress=i)
    for n, (gap, size) in enumerate(frames):
        rig.advance(rig.now + gap)
        rig.out(numbered(n, size))
        rig.back(numbered(n, size))
    rig.advance(LATER)
    return rig


# --- for every seed


@given(st.integers(0, 2**32), impairments, traffic)
def test_same_seed_gives_the_same_frames_at_the_same_times(
    seed: int, i: Impairments, frames: list[tuple[float, int]]
) -> None:
    one, two = run(seed, i, frames), run(seed, i, frames)
    assert one.sent == two.sent
    assert one.received == two.received
    assert one.link.faults_to_wire() == two.link.faults_to_wire()


@given(st.integers(0, 2**32), impairments, traffic)
def test_every_frame_is_accounted_for(seed: int, i: Impairments, frames: list[tuple[float, int]]) -> None:
    rig = run(seed, i, frames)
    assert rig.link.next_deadline() is None
    for way, arrived in (("out", rig.sent), ("in", rig.received)):
        c = rig.link.faults[way]
        assert c.frames == len(frames)
        assert c.delivered == len(arrived)
        assert c.frames + c.duplicated == c.delivered + c.lost + c.burst_lost + c.overflowed
        originals = Counter(numbered(n, size) for n, (_, size) in enumerate(frames))
        intact = sum(f in originals for _, f in arrived)
        if not i.corrupt:
            assert intact == len(arrived), "nothing is made up"
        if i == UNIMPAIRED:
            assert [f for _, f in arrived] == list(originals)


@given(st.integers(0, 2**32), impairments, traffic)
def test_order_is_kept_unless_reordering_is_on(
    seed: int, i: Impairments, frames: list[tuple[float, int]]
) -> None:
    rig = run(seed, replace(i, reorder=0.0, corrupt=0.0), frames)
    for arrived in (rig.sent, rig.received):
        numbers = [number(f) for _, f in arrived]
        assert numbers == sorted(numbers)
        times = [t for t, _ in arrived]
        assert times == sorted(times)


@given(st.integers(0, 2**32), impairments, traffic)
def test_one_kind_changes_nothing_of_what_another_does(
    seed: int, i: Impairments, frames: list[tuple[float, int]]
) -> None:
    plain = Impairments(loss=i.loss, bursts=i.bursts)
    with_all = run(seed, replace(i, corrupt=0.0, limit=1000), frames)
    with_loss = run(seed, plain, frames)
    assert {number(f) for _, f in with_all.sent} == {number(f) for _, f in with_loss.sent}


@given(st.integers(0, 2**32), traffic)
def test_no_frame_comes_before_its_delay_or_after_the_jitter(
    seed: int, frames: list[tuple[float, int]]
) -> None:
    rig = Rig(seed, egress=Impairments(delay=0.03, jitter=0.01))
    went: list[float] = []
    for n, (gap, size) in enumerate(frames):
        rig.advance(rig.now + gap)
        went.append(rig.now)
        rig.out(numbered(n, size))
    rig.advance(LATER)
    for arrived, frame in rig.sent:
        took = arrived - went[number(frame)]
        assert 0.03 - 1e-9 <= took <= 0.04 + 1e-9


# --- kind by kind


def test_without_impairments_frames_pass_at_once_and_are_the_same_objects() -> None:
    rig = Rig()
    frame = numbered(1)
    rig.out(frame)
    rig.back(frame)
    assert rig.sent[0][1] is frame and rig.received[0][1] is frame
    assert innermost(rig.link).name == rig.link.name == "memory:memory"
    assert (rig.link.mtu, rig.link.fileno()) == (1500, None)
    assert rig.link.counters.sent == 1


def test_directions_are_separate() -> None:
    rig = Rig(ingress=Impairments(loss=1.0))
    rig.out(numbered(1))
    rig.back(numbered(2))
    assert len(rig.sent) == 1 and not rig.received
    assert rig.link.faults_to_wire()["In"]["Lost"] == 1
    assert rig.link.faults_to_wire()["Out"]["Lost"] == 0


def test_the_two_directions_do_not_lose_the_same_frames() -> None:
    rig = run(7, Impairments(loss=0.5), [(0.0, 20)] * 100)
    assert {number(f) for _, f in rig.sent} != {number(f) for _, f in rig.received}


def test_uniform_loss_is_as_frequent_as_asked_for() -> None:
    rig = run(7, Impairments(loss=0.1), [(0.0, 20)] * 5000)
    assert 0.085 < rig.link.faults["out"].lost / 5000 < 0.115


def test_bursts_are_as_long_and_as_frequent_as_asked_for() -> None:
    frames = 20_000
    rig = run(7, Impairments(bursts=Bursts(to_bad=0.02, to_good=0.25)), [(0.0, 1)] * frames)
    arrived = {number(f) for _, f in rig.sent}
    lost = [n not in arrived for n in range(frames)]
    bursts = sum(now and not before for before, now in zip([False, *lost], lost, strict=False))
    assert 3.6 < sum(lost) / bursts < 4.4, "a burst's mean length is 1 / to_good"
    assert 0.06 < sum(lost) / frames < 0.09, "the share of the bad state is 0.02 / 0.27"
    assert rig.link.faults["out"].burst_lost == sum(lost)


def test_corruption_flips_one_bit_behind_the_header() -> None:
    rig = Rig(egress=Impairments(corrupt=1.0))
    places = set()
    for n in range(300):
        frame = numbered(n, 20)
        rig.out(frame)
        damaged = int.from_bytes(rig.sent[-1][1], "big") ^ int.from_bytes(frame, "big")
        assert damaged.bit_count() == 1
        places.add(len(frame) * 8 - damaged.bit_length())
    assert min(places) >= 14 * 8
    assert len(places) > 100, "anywhere"
    rig.out(HEADER)
    assert rig.sent[-1][1] == HEADER, "there is nothing behind this one's header"
    assert rig.link.faults["out"].corrupted == 300


def test_duplicate_follows_its_original() -> None:
    rig = Rig(egress=Impairments(duplicate=1.0))
    rig.out(numbered(1))
    rig.out(numbered(2))
    assert [number(f) for _, f in rig.sent] == [1, 1, 2, 2]


def test_reordered_frame_is_passed_by_as_many_as_asked_for() -> None:
    link = Rig(egress=Impairments(reorder=1.0, reorder_gap=1, reorder_hold=10.0))
    link.out(numbered(0))
    link.link.impair(egress=Impairments(delay=0.5))
    link.out(numbered(1))
    link.out(numbered(2))
    link.advance(1.0)
    assert [number(f) for _, f in link.sent] == [1, 0, 2]
    assert link.link.faults["out"].reordered == 1


def test_reordered_frame_that_nothing_passes_goes_on_after_the_hold() -> None:
    rig = Rig(egress=Impairments(reorder=1.0, reorder_hold=0.02, delay=0.01))
    rig.out(numbered(0))
    assert rig.link.next_deadline() == pytest.approx(0.03)
    rig.advance(1.0)
    assert [(round(t, 6), number(f)) for t, f in rig.sent] == [(0.03, 0)]
    assert rig.link.faults["out"].reordered == 0


def test_reordering_is_as_frequent_as_asked_for_and_loses_nothing() -> None:
    rig = run(7, Impairments(reorder=0.1, reorder_hold=100.0), [(0.001, 1)] * 2000)
    numbers = [number(f) for _, f in rig.sent]
    assert sorted(numbers) == list(range(2000))
    late = sum(n < m for n, m in zip(numbers[1:], numbers, strict=False))
    assert 150 < late <= rig.link.faults["out"].reordered < 250


def test_rate_limit_spaces_frames_once_the_bucket_is_empty() -> None:
    # 1000 bytes take 0.1 s; two of them go at once.
    rig = Rig(egress=Impairments(rate=80_000, rate_burst=2000))
    for n in range(5):
        rig.out(numbered(n, 1000 - 18))
    rig.advance(0.35)
    assert [round(t, 6) for t, _ in rig.sent] == [0.0, 0.0, 0.1, 0.2, 0.3]
    rig.advance(10.0)
    rig.out(numbered(5, 982))
    assert rig.sent[-1][0] == 10.0, "an idle line has a full bucket again"


def test_a_full_queue_drops_and_counts() -> None:
    rig = Rig(egress=Impairments(delay=1.0, limit=3))
    for n in range(5):
        rig.out(numbered(n))
    rig.advance(2.0)
    assert [number(f) for _, f in rig.sent] == [0, 1, 2]
    assert rig.link.faults["out"].overflowed == 2


def test_impairments_can_be_lifted_while_frames_are_on_their_way() -> None:
    rig = Rig(ingress=Impairments(delay=1.0), egress=Impairments(delay=1.0))
    rig.out(numbered(0))
    rig.back(numbered(0))
    rig.link.impair(ingress=UNIMPAIRED, egress=Impairments())
    rig.out(numbered(1))
    rig.back(numbered(1))
    assert not rig.sent and not rig.received, "no frame overtakes those that are delayed"
    rig.advance(1.0)
    assert [number(f) for _, f in rig.sent] == [number(f) for _, f in rig.received] == [0, 1]
    rig.out(numbered(2))
    assert rig.sent[-1] == (1.0, numbered(2))


def test_what_is_on_its_way_is_lost_with_the_link() -> None:
    rig = Rig(egress=Impairments(delay=1.0))
    rig.out(numbered(0))
    rig.link.close()
    assert rig.link.next_deadline() is None
    with pytest.raises(LocalProtocolError, match="has left"):
        innermost(rig.link).send(numbered(1), 0.0)


def test_faults_are_told_with_the_frame_as_it_is_sent_or_handed_on() -> None:
    rig = Rig(ingress=Impairments(corrupt=1.0, delay=1.0), egress=Impairments(duplicate=1.0, limit=1))
    told: list[tuple[Any, ...]] = []
    rig.link.on_fault = lambda *note: told.append(note)
    frame = numbered(0)
    rig.out(frame)
    rig.back(frame)
    rig.advance(2.0)
    [(_, damaged)] = rig.received
    (way, of, what, when), (way_in, of_in, what_in, when_in) = told
    # Both copies are put into the queue before any is sent, and there is room for one.
    assert (way, of, what, when) == ("out", frame, "duplicated", 0.0)
    assert rig.link.faults["out"].overflowed == 1
    assert (way_in, when_in) == ("in", 1.0)
    assert of_in is damaged
    assert what_in.startswith("corrupted: bit ")
    rig.link.impair(ingress=Impairments(loss=1.0))
    rig.back(frame)
    assert told[-1] == ("in", frame, "lost", 2.0)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"loss": 1.1}, "loss: 1.1 is not between 0 and 1"),
        ({"reorder": float("nan")}, "reorder: nan is not"),
        ({"bursts": Bursts(0.1, -1)}, "to_good: -1 is not"),
        ({"bursts": Bursts(0.1, 0)}, "the first burst would never end"),
        ({"delay": -1}, "delay: -1 is not between 0 and 3600 seconds"),
        ({"jitter": float("inf")}, "jitter: inf is not"),
        ({"rate": 0}, "rate: 0 bits per second is not above 0"),
        ({"limit": 0}, "limit: 0 is less than 1"),
        ({"reorder_gap": 0}, "reorder_gap: 0 is less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(LocalProtocolError, match=reason):
        Impairments(**values)
