"""Out-of-order data against a map from sequence number to byte."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ndisbus.tcp.reassembly import MAX_PIECES, OutOfOrder
from ndisbus.tcp.sequence import seq_add

bases = st.integers(0, 2**32 - 1) | st.integers(2**32 - 300, 2**32 - 1)


class Model:
    """Byte by byte, at positions counted from the first RcvNxt."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}
        self.fin: int | None = None
        self.rcv_nxt = 0

    def insert(self, start: int, payload: bytes, fin: bool, edge: int) -> None:
        end = start + len(payload)
        if fin and self.fin is None and self.rcv_nxt <= end < edge and all(p < end for p in self.bytes):
            self.fin = end
        for p, byte in enumerate(payload, start):
            if self.rcv_nxt <= p < edge and (self.fin is None or p < self.fin):
                self.bytes.setdefault(p, byte)

    def move_to(self, rcv_nxt: int) -> None:
        self.rcv_nxt = rcv_nxt
        self.bytes = {p: byte for p, byte in self.bytes.items() if p >= rcv_nxt}

    def take(self) -> tuple[bytes, bool]:
        data = bytearray()
        while self.rcv_nxt in self.bytes:
            data.append(self.bytes.pop(self.rcv_nxt))
            self.rcv_nxt += 1
        fin = self.fin is not None and self.fin <= self.rcv_nxt
        if fin:
            self.fin = None
        return bytes(data), fin

    def runs(self) -> list[tuple[int, int]]:
        starts = sorted(p for p in self.bytes if p - 1 not in self.bytes)
        ends = sorted(p + 1 for p in self.bytes if p + 1 not in self.bytes)
        return list(zip(starts, ends, strict=True))


arrivals = st.tuples(
    st.sampled_from(["insert"] * 6 + ["advance", "take", "take"]),
    st.integers(-20, 140),  # where it starts, from RcvNxt
    st.integers(0, 60),  # its size
    st.booleans() | st.just(False),
    st.integers(1, 120),  # the window
)


@settings(max_examples=300, deadline=None)
@given(bases, st.lists(arrivals, max_size=25))
def test_like_a_map_of_bytes(base: int, steps: list[tuple[str, int, int, bool, int]]) -> None:
    """R-RFC-02: out-of-order segments are queued, across 2**32 and with overlaps; the first arrival stays."""
    held, model = OutOfOrder(), Model()
    content = 0
    for what, start, size, fin, window in steps:
        nxt = model.rcv_nxt
        if what == "insert":
            # Each arrival has bytes of its own, so that it shows who won an overlap.
            payload = bytes((content + i) % 256 for i in range(size))
            content += size + 1
            before = len(model.bytes)
            model.insert(nxt + start, payload, fin, nxt + window)
            stored = held.insert(
                seq_add(base, nxt + start),
                memoryview(payload),
                fin,
                seq_add(base, nxt),
                seq_add(base, nxt + window),
            )
            assert stored == len(model.bytes) - before
        else:
            if what == "advance":
                model.move_to(nxt + size)
            pieces, fin_next = held.take(seq_add(base, model.rcv_nxt))
            assert (b"".join(pieces), fin_next) == model.take()
        assert len(held) == len(model.bytes)
        runs = model.runs()
        blocks = held.sack_blocks(1000)
        assert sorted(((a - base) % 2**32, (b - base) % 2**32) for a, b in blocks) == runs
        rebuilt = Model()
        for seq, data, fin_next in held.segments():
            rebuilt.insert((seq - base) % 2**32, data, False, 10**9)
            if fin_next:
                rebuilt.fin = (seq - base) % 2**32 + len(data)
        assert rebuilt.bytes == model.bytes
        assert rebuilt.fin == model.fin
        assert bool(held) is bool(model.bytes or model.fin is not None)


@settings(deadline=None)
@given(bases, st.lists(st.tuples(st.integers(1, 80), st.integers(1, 20)), min_size=1, max_size=12))
@example(2**32 - 10, [(5, 3), (20, 4), (12, 3), (9, 2)])
def test_the_block_of_the_latest_arrival_comes_first(base: int, arrivals: list[tuple[int, int]]) -> None:
    """RFC 2018 4: the first block holds the segment that triggered the ACK, the others the latest before."""
    held = OutOfOrder()
    for start, size in arrivals:
        held.insert(seq_add(base, start), bytes(size), False, base, seq_add(base, 1000))
    expected: list[tuple[int, int]] = []
    runs = Model()
    for start, size in arrivals:
        runs.insert(start, bytes(size), False, 1000)
    for start, _ in reversed(arrivals[-8:]):
        block = next((a, b) for a, b in runs.runs() if a <= start < b)
        if block not in expected:
            expected.append(block)
    got = [((a - base) % 2**32, (b - base) % 2**32) for a, b in held.sack_blocks(3)]
    assert got[: len(expected)] == expected[:3]
    assert len(got) == min(3, len(runs.runs()))


def test_by_hand_across_the_end_of_the_sequence_space() -> None:
    held = OutOfOrder()
    nxt = 2**32 - 4
    assert held.insert(2, b"cd", True, nxt, 100) == 2
    assert held.insert(2**32 - 2, b"xxab", False, nxt, 100) == 4
    assert held.sack_blocks(4) == ((2**32 - 2, 4),)
    assert held.segments() == [(2**32 - 2, b"xxab", False), (2, b"cd", True)]
    assert held.take(nxt) == ([], False)
    assert held.take(2**32 - 1) == ([b"xab", b"cd"], True)
    assert not held


def test_a_repeated_segment_is_named_first_all_the_same() -> None:
    """RFC 2018 4: a duplicate triggers an ACK whose first block is its own."""
    held = OutOfOrder()
    assert [held.insert(seq, b"12345", False, 0, 100) for seq in (10, 20, 30, 10)] == [5, 5, 5, 0]
    assert held.sack_blocks(3) == ((10, 15), (30, 35), (20, 25))


def test_memory_is_bounded_by_the_window_and_by_the_number_of_payloads() -> None:
    held = OutOfOrder()
    for seq in range(1, 100_000, 2):
        held.insert(seq, b"x", False, 0, 65_536)
    assert len(held) == MAX_PIECES
    assert len(held.segments()) == MAX_PIECES
    assert held.insert(MAX_PIECES * 2 + 51, b"x", False, 0, 65_536) == 0
    assert held.insert(80_000, bytes(100), False, 0, 65_536) == 0


def test_payloads_are_copied_out_of_their_frames() -> None:
    held = OutOfOrder()
    frame = bytearray(b"abc")
    held.insert(5, memoryview(frame), False, 0, 100)
    frame[:] = b"xyz"
    assert held.take(5) == ([b"abc"], False)


def test_nothing_is_left_after_clear() -> None:
    """R-TERM-16: data acknowledged by SACK only can be dropped."""
    held = OutOfOrder()
    held.insert(5, b"abc", True, 0, 100)
    held.clear()
    assert not held
    assert len(held) == 0
    assert held.take(8) == ([], False)
