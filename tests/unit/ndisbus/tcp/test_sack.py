"""The scoreboard against RFC 6675 said byte by byte."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ndisbus.tcp.sack import MAX_RANGES, Scoreboard
from ndisbus.tcp.sequence import seq_add

MSS = 10
bases = st.integers(0, 2**32 - 1) | st.integers(2**32 - 300, 2**32 - 1)


class Model:
    """A set of bytes, at positions counted from the first SndUna."""

    def __init__(self) -> None:
        self.una = 0
        self.max = 0
        self.sacked: set[int] = set()
        self.high_rxt = 0  # first byte not retransmitted
        self.rescue = -1  # RescueRxt + 1: HighACK must be beyond it
        self.point = 0

    def ack(self, una: int) -> None:
        self.una = una
        self.high_rxt = max(self.high_rxt, una)
        self.sacked = {p for p in self.sacked if p >= una}

    def update(self, blocks: list[tuple[int, int]]) -> int:
        before = len(self.sacked)
        for a, b in blocks:
            if self.una <= a < b <= self.max:
                self.sacked.update(range(a, b))
        return len(self.sacked) - before

    def is_lost(self, seq: int, threshold: int) -> bool:
        above = [p for p in self.sacked if p > seq]
        runs = sum(p - 1 not in self.sacked for p in above)
        return runs >= threshold or len(above) > (threshold - 1) * MSS

    def pipe(self, threshold: int) -> int:
        pipe = 0
        for s1 in range(self.una, self.max):
            if s1 not in self.sacked:
                pipe += not self.is_lost(s1, threshold)
                pipe += s1 < self.high_rxt
        return pipe

    def run_of_holes(self, start: int) -> int:
        size = 0
        while size < MSS and start + size < self.max and start + size not in self.sacked:
            size += 1
        return size

    def next_segment(self, threshold: int, new_data: int) -> tuple[int, int, int] | None:
        highest = max(self.sacked, default=-1)
        holes = [p for p in range(max(self.una, self.high_rxt), highest) if p not in self.sacked]
        if holes and self.is_lost(holes[0], threshold):
            return holes[0], self.run_of_holes(holes[0]), 1
        if new_data:
            return self.max, min(new_data, MSS), 2
        if holes:
            return holes[0], self.run_of_holes(holes[0]), 3
        outstanding = [p for p in range(self.una, self.max) if p not in self.sacked]
        if self.una <= self.rescue or not outstanding:
            return None
        start = last = outstanding[-1]
        while start - 1 in outstanding and last - start + 1 < MSS:
            start -= 1
        return start, last + 1 - start, 4


steps = st.lists(
    st.tuples(
        st.sampled_from(["ack", "sack", "sack", "sack", "next", "next", "enter", "timeout", "send"]),
        st.integers(0, 200),
        st.integers(-5, 60),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(bases, steps, st.sampled_from([1, 2, 3, 5]))
@example(2**32 - 20, [("send", 100, 0, False), ("sack", 15, 50, False), ("next", 0, 0, False)], 3)
def test_like_rfc_6675_byte_by_byte(
    base: int, steps: list[tuple[str, int, int, bool]], threshold: int
) -> None:
    """RFC 6675 4: Update, IsLost, SetPipe and NextSeg, across 2**32."""
    board, model = Scoreboard(), Model()
    model.max = model.point = 120
    board.update((), base, seq_add(base, 120))
    board.enter_recovery(base, seq_add(base, 120))
    for what, a, b, flag in steps:
        una = model.una
        if what == "send":
            model.max += a
        elif what == "ack":
            model.ack(min(una + b, model.max) if b > 0 else una)
            board.update((), seq_add(base, model.una), seq_add(base, model.max))
        elif what == "sack":
            block = (una + a - 5, una + a - 5 + b)
            blocks = [block, block] if flag else [block, (una + 5, una + 5)]
            wire = [(seq_add(base, left), seq_add(base, right)) for left, right in blocks]
            new = board.update(wire, seq_add(base, una), seq_add(base, model.max))
            assert new == model.update(blocks)
        elif what == "enter":
            model.high_rxt, model.rescue, model.point = una, -1, model.max
            board.enter_recovery(seq_add(base, una), seq_add(base, model.max))
            size = model.run_of_holes(una)
            if flag and size:
                model.high_rxt = model.rescue = una + size
                board.fast_retransmitted(seq_add(base, una), size)
        elif what == "timeout":
            model.sacked.clear()
            model.high_rxt, model.rescue = una, -1
            board.clear()
        else:
            new_data = a if flag else 0
            expected = model.next_segment(threshold, new_data)
            got = board.next_segment(seq_add(base, una), seq_add(base, model.max), MSS, threshold, new_data)
            assert (got is None) is (expected is None)
            if got is not None and expected is not None:
                assert ((got[0] - base) % 2**32, *got[1:]) == expected
                board.retransmitted(*got)
                start, size, which = expected
                if which == 2:
                    model.max += size
                elif which == 4:
                    model.rescue = model.point
                else:
                    model.high_rxt = start + size
        snd_una, snd_max = seq_add(base, model.una), seq_add(base, model.max)
        assert board.set_pipe(snd_una, snd_max, MSS, threshold) == model.pipe(threshold)
        assert board.sacked == len(model.sacked)
        assert bool(board) is bool(model.sacked)
        held = {
            p for left, right in board.ranges() for p in range((left - base) % 2**32, (right - base) % 2**32)
        }
        assert held == model.sacked
        probe = min(model.una + a, model.max)
        if probe not in model.sacked:
            lost = board.is_lost(seq_add(base, probe), MSS, threshold)
            assert lost is model.is_lost(probe, threshold)
        start, size = board.hole(seq_add(base, probe), snd_max)
        unsacked = [p for p in range(probe, model.max) if p not in model.sacked]
        assert (start - base) % 2**32 == (unsacked[0] if unsacked else model.max)
        assert min(size, MSS) == model.run_of_holes((start - base) % 2**32)


def test_loss_is_three_ranges_or_more_than_two_segments_beyond() -> None:
    """RFC 6675 4, IsLost, with the usual threshold."""
    board = Scoreboard()
    board.update([(1000, 1010), (1020, 1030)], 900, 2000)
    assert not board.is_lost(900, MSS, 3)
    board.update([(1040, 1041)], 900, 2000)
    assert board.is_lost(900, MSS, 3)
    assert not board.is_lost(1010, MSS, 3)
    board.update([(1041, 1051)], 900, 2000)
    assert board.is_lost(1010, MSS, 3)


def test_a_d_sack_is_passed_over() -> None:
    """RFC 2883: a first block below SndUna, or within another block, reports a duplicate."""
    board = Scoreboard()
    assert board.update([(880, 890), (1000, 1010)], 900, 2000) == 10
    assert board.update([(1002, 1005), (1000, 1010)], 900, 2000) == 0
    assert board.ranges() == [(1000, 1010)]


def test_blocks_that_lie_are_passed_over() -> None:
    board = Scoreboard()
    lies = [(950, 950), (960, 950), (890, 910), (1990, 2001), (900 + 2**31, 910 + 2**31), (3000, 100)]
    assert board.update(lies, 900, 2000) == 0
    assert not board


def test_ranges_are_bounded() -> None:
    board = Scoreboard()
    for i in range(5000):
        board.update([(10 * i + 1, 10 * i + 5)], 0, 100_000)
    assert len(board.ranges()) == MAX_RANGES
    assert board.sacked == 4 * MAX_RANGES
