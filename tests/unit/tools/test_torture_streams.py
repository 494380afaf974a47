"""tools/torture_streams.py: a byte that is lost, doubled or foreign is found, and where it came from."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hoststack.peer.services import SERVICES, pattern
from tools.torture_streams import KINDS, Kind, Outgoing, Page, Stream, StreamWrong, coded, make_kind

KEY = 0x123456


def stream(size: int = 10_000) -> tuple[Outgoing, Stream]:
    out = Outgoing(KEY, size)
    return out, Stream(out.piece, out.size, KEY)


def test_pieces_of_a_coded_stream_are_parts_of_one_stream() -> None:
    whole = coded(KEY, 0, 5000)
    assert len(whole) == 5000
    for start, size in ((0, 1), (7, 9), (8, 16), (1001, 333), (4999, 1)):
        assert coded(KEY, start, size) == whole[start : start + size]
    assert len({whole[i : i + 8] for i in range(0, 5000, 8)}) == 625


def test_a_head_goes_before_the_stream() -> None:
    out = Outgoing(KEY, 100, b"head:")
    whole = b"".join(out.piece(at, 7) for at in range(0, 105, 7))
    assert whole == b"head:" + coded(KEY, 0, 100)


@pytest.mark.parametrize(("lost", "at"), [(1, 100), (8, 99), (1460, 2920), (3, 1)])
def test_lost_bytes_are_counted(lost: int, at: int) -> None:
    out, expected = stream()
    data = out.piece(0, 9000)
    with pytest.raises(StreamWrong, match=rf"{lost} bytes lost"):
        expected.take(data[:at] + data[at + lost :])


def test_bytes_that_came_again_are_counted() -> None:
    out, expected = stream()
    expected.take(out.piece(0, 3000))
    with pytest.raises(
        StreamWrong, match=r"byte 3000 .*: 1460 bytes came again: at 3\d\d\d came the byte of 1"
    ):
        expected.take(out.piece(1540, 1460))


def test_bytes_of_another_stream_are_shown() -> None:
    _, expected = stream()
    with pytest.raises(StreamWrong, match="byte 0 is 0x65 instead of 0x12"):
        expected.take(coded(0x654321, 0, 100))


def test_the_end_may_come_only_when_everything_has_come() -> None:
    out, expected = stream(100)
    expected.take(out.piece(0, 99))
    with pytest.raises(StreamWrong, match="ended after 99 of 100 bytes, without an error"):
        expected.end(shut=True)
    expected.take(out.piece(99, 1))
    expected.end(shut=True)
    with pytest.raises(StreamWrong, match="1 bytes more than the 100"):
        expected.take(b"x")


def test_an_endless_stream_ends_once_this_side_has_closed() -> None:
    expected = Stream(pattern, float("inf"), endless=True)
    expected.take(pattern(0, 70_000))
    with pytest.raises(StreamWrong, match="ended after 70000 bytes"):
        expected.end(shut=False)
    expected.end(shut=True)


def test_a_page_is_checked_behind_its_head() -> None:
    expected = Page(pattern, 1000)
    answer = b"HTTP/1.1 200 \r\ncontent-length: 1000\r\n\r\n" + pattern(0, 1000)
    almost = len(answer) - 4
    for at in range(0, almost, 7):
        expected.take(answer[at : min(at + 7, almost)])
    with pytest.raises(StreamWrong, match="without an error"):
        expected.end(shut=False)
    with pytest.raises(StreamWrong, match="byte 996 is 0x78 instead of 0xe4"):
        expected.take(b"x")
    with pytest.raises(StreamWrong, match="the answer begins with"):
        Page(pattern, 10).take(b"HTTP/1.1 500 \r\n\r\n")


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__.strip("_"))
def test_every_kind_expects_what_the_service_answers(make: Callable[[int, random.Random], Kind]) -> None:
    """The remote host's own services, without a network."""
    rng = random.Random(5)
    for key in range(20):
        kind = make(key, rng)
        service, sent, shut = SERVICES[kind.port](), 0, False
        while not shut and not service.finished:
            piece = kind.out.piece(sent, rng.randint(1, 30_000))
            service.receive(piece)
            sent += len(piece)
            kind.expected.take(service.produce(rng.randint(1, 30_000)))
            shut = sent == kind.out.size and rng.randrange(4) == 0
        if shut:
            service.ended()
        while data := service.produce(65_536):
            kind.expected.take(data)
        assert service.finished
        kind.expected.end(shut)


def test_kinds_follow_from_the_random_numbers() -> None:
    one, two = (make_kind(KEY, random.Random(3)) for _ in range(2))
    assert one.name == two.name
    assert one.out.piece(0, one.out.size) == two.out.piece(0, two.out.size)
