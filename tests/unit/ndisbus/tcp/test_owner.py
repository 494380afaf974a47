"""The loop around a machine: what is told and what leaves, in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ndisbus.bench.tcp_memory import bare_pair
from ndisbus.net.segment import ACK, FIN, RST, Segment
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.owner import MachineOwner, ticks_of

NOW = 2.0
TICK = 2000


class Recorder(MachineOwner):
    """An owner that notes down everything, in order."""

    def __init__(self, machine: TcpMachine) -> None:
        self.machine = machine
        self.seen: list[EventKind | Segment] = []
        self.highs: list[int] = []
        self.turns = 0
        self.sends = True
        self.leaves_on: EventKind | None = None

    @property
    def may_send(self) -> bool:
        return self.sends

    def send_segments(self, segments: list[Segment], high: int, now: float) -> None:
        self.seen += segments
        self.highs.append(high)

    def tell(self, event: TcpEvent, now: float) -> None:
        self.seen.append(event.kind)
        if event.kind is self.leaves_on:
            self.machine = None

    def settled(self, now: float) -> None:
        self.turns += 1

    def turn(self) -> None:
        self.take_turn(TICK, NOW)

    @property
    def acks(self) -> list[int]:
        return [s.ack for s in self.seen if isinstance(s, Segment)]


def owner_and_segments(*sizes: int) -> tuple[Recorder, TcpMachine, list[Segment]]:
    """An owner of a machine, its machine, and segments of the other machine that were not delivered."""
    pair = bare_pair()
    pair.settle()
    pair.near.events.clear()
    pair.far.events.clear()
    segments = []
    for size in sizes:
        pair.near.send(bytes(size))
        segments += pair.near.transmit(pair.now)
    return Recorder(pair.far), pair.far, segments


def test_each_segment_out_of_order_is_acknowledged_though_they_come_together() -> None:
    """RFC 5681 4.2: the remote end counts three duplicates before the turn is over."""
    owner, machine, segments = owner_and_segments(100, 100, 100, 100)
    before = machine.delegated.rcv_nxt
    for segment in segments[1:]:
        owner.deliver(segment, TICK, NOW)
    owner.turn()
    assert owner.acks == [before] * 3


def test_segments_in_order_wait_for_the_turn() -> None:
    owner, machine, segments = owner_and_segments(100, 100, 100, 100)
    for segment in segments:
        owner.deliver(segment, TICK, NOW)
    assert owner.seen == []
    owner.turn()
    assert owner.acks == [machine.delegated.rcv_nxt]


def test_data_is_told_before_its_ack_leaves() -> None:
    owner, _, segments = owner_and_segments(100, 100)
    for segment in segments:
        owner.deliver(segment, TICK, NOW)
    owner.turn()
    kinds = [type(s) if isinstance(s, Segment) else s for s in owner.seen]
    assert kinds == [EventKind.DATA, EventKind.PROGRESS, Segment]
    assert owner.turns == 1


def test_the_end_is_told_when_everything_has_left() -> None:
    owner, machine, _ = owner_and_segments()
    machine.send(b"x")
    machine.abort()
    owner.turn()
    assert isinstance(owner.seen[0], Segment)
    assert owner.seen[0].flags & RST
    assert owner.seen[1:] == [EventKind.CLOSED]


def test_nothing_leaves_while_it_may_not() -> None:
    owner, machine, segments = owner_and_segments(100, 100, 100, 100)
    owner.sends = False
    for segment in (*segments[1:], segments[0]):
        owner.deliver(segment, TICK, NOW)
    owner.turn()
    assert owner.acks == []
    assert EventKind.DATA in owner.seen
    assert machine.ack_clock.owed


def test_a_turn_ends_where_the_machine_is_taken_away() -> None:
    owner, _, segments = owner_and_segments(100, 100)
    for segment in segments:
        owner.deliver(segment, TICK, NOW)
    owner.leaves_on = EventKind.DATA
    owner.turn()
    owner.turn()
    assert owner.seen == [EventKind.DATA]
    assert owner.turns == 0
    assert owner.machine_deadline() is None


def test_an_owner_learns_what_was_sent_before() -> None:
    """``high`` tells a retransmission from what is new."""
    owner, machine, _ = owner_and_segments()
    before = machine.delegated.snd_max
    machine.send(b"abc")
    owner.turn()
    machine.send(b"def")
    owner.turn()
    assert owner.highs == [before, before + 3]


def test_a_fin_is_told_before_what_is_owed_leaves() -> None:
    owner, machine, _ = owner_and_segments()
    d = machine.delegated
    fin = Segment(d.rcv_nxt, d.snd_una, ACK | FIN, 1000, b"", 0, 50_000, 80)
    fin.ts_val, fin.ts_ecr = d.ts_recent, 0
    owner.deliver(fin, TICK, NOW)
    owner.turn()
    assert [s for s in owner.seen if not isinstance(s, Segment)] == [EventKind.PROGRESS, EventKind.FIN]
    assert isinstance(owner.seen[-1], Segment)


@given(st.integers(0, 2**40), st.sampled_from([10, 100, 1000]))
def test_no_deadline_is_missed_by_rounding(due: int, ticks_per_second: int) -> None:
    """A deadline in seconds, as a reading of the clock again, is that deadline or later, by no whole tick."""
    assert ticks_of(due / ticks_per_second, ticks_per_second) == due
