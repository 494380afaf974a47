"""Selective acknowledgments: RFC 2018 (receiver and sender) and loss recovery by them, RFC 6675."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.net.segment import Segment
from tests.unit.ndisbus.tcp.conformance.ladder import Endpoint, incoming

SMSS = 1000


def blocks(end: Endpoint, segment: Segment) -> list[tuple[int, int]]:
    """The SACK blocks that our end sent, relative."""
    return [(end.relative_in(left), end.relative_in(right)) for left, right in segment.sack]


def sacked(end: Endpoint, ack: int, *ranges: tuple[int, int], **fields: Any) -> None:
    """An ACK with SACK blocks of our numbers, relative, arrives."""
    absolute = tuple(
        ((left + end.iss) & 0xFFFF_FFFF, (right + end.iss) & 0xFFFF_FFFF) for left, right in ranges
    )
    end.gets("A", ack=ack, options={"sack": absolute}, **fields)


def outstanding(segments: int, queued: int = 40) -> Endpoint:
    """So many full segments are outstanding and CWnd is full; more is queued."""
    end = Endpoint.established(sack=True, c_wnd=segments * SMSS)
    end.send(queued * SMSS)
    end.expect_data(*range(1, segments * SMSS, SMSS))
    end.expect_nothing()
    return end


def numbers(end: Endpoint) -> list[int]:
    """The sequence numbers of the data that was sent; it is then forgotten."""
    return [end.relative_out(s.segment.seq) for s in end.drop_sent() if s.segment.payload]


# -- the receiver


def test_case_1_nothing_out_of_order() -> None:
    """RFC2018-7-CASE1: no SACK option in an ACK of all that is held."""
    end = Endpoint.established(sack=True)
    for number in range(4):
        end.gets("A", seq=1 + 500 * number, size=500)
    end.wait(500)
    for sent in end.drop_sent():
        assert not sent.segment.sack


def test_case_2_the_first_segment_is_lost() -> None:
    """RFC2018-7-CASE2, RFC2018-4-EACH, RFC2018-4-ALL: an ACK per segment, the block that grows in each."""
    end = Endpoint.established(sack=True)
    for number in range(1, 8):
        end.gets("A", seq=1 + 500 * number, size=500)
        ack = end.expect_ack(1)
        assert blocks(end, ack) == [(501, 1 + 500 * (number + 1))]


def test_case_3_every_other_segment_is_lost() -> None:
    """RFC2018-7-CASE3, RFC2018-4-FIRST, RFC2018-4-MANY, RFC2018-4-REPEAT.

    The table of RFC 2018, shifted to 1.
    R-RFC-05: SACK, the receiver.
    """
    end = Endpoint.established(sack=True)
    end.gets("A", seq=1, size=500)
    end.drop_sent()
    end.gets("A", seq=1001, size=500)
    assert blocks(end, end.expect_ack(501)) == [(1001, 1501)]
    end.gets("A", seq=2001, size=500)
    assert blocks(end, end.expect_ack(501)) == [(2001, 2501), (1001, 1501)]
    end.gets("A", seq=3001, size=500)
    assert blocks(end, end.expect_ack(501)) == [(3001, 3501), (2001, 2501), (1001, 1501)]
    end.gets("A", seq=1501, size=500)
    assert blocks(end, end.expect_ack(501)) == [(1001, 2501), (3001, 3501)]
    end.gets("A", seq=501, size=500)
    assert blocks(end, end.expect_ack(2501)) == [(3001, 3501)]


@pytest.mark.parametrize(("timestamps", "most"), [(False, 4), (True, 3)])
def test_as_many_blocks_as_there_is_room_for(timestamps: bool, most: int) -> None:
    """RFC2018-4-MANY, RFC2018-3-ROOM: four blocks in 40 bytes of options, three beside timestamps."""
    end = Endpoint.established(sack=True, timestamps=timestamps)
    for number in range(1, 8):
        end.gets("A", seq=1 + 1000 * number, size=500)
    last = end.drop_sent()[-1].segment
    assert len(last.sack) == most
    assert blocks(end, last)[0] == (7001, 7501)
    assert blocks(end, last)[1] == (6001, 6501)


def test_data_segments_carry_blocks_too() -> None:
    """RFC2018-4-ALL: every ACK that does not cover the highest number held, also the one on data."""
    end = Endpoint.established(sack=True)
    end.gets("A", seq=1001, size=500)
    end.drop_sent()
    end.send(100)
    (sent,) = end.drop_sent()
    assert blocks(end, sent.segment) == [(1001, 1501)]


def test_blocks_are_what_is_held() -> None:
    """RFC2018-3-BLOCK, RFC2018-8-HELD.

    Isolated ranges of bytes that were received, and they are delivered later.
    """
    end = Endpoint.established(sack=True)
    end.gets("A", seq=1001, size=500)
    end.gets("A", seq=1501, size=500)
    end.gets("A", seq=1201, size=100)
    assert blocks(end, end.drop_sent()[-1].segment) == [(1001, 2001)]
    end.gets("A", seq=1, size=1000)
    assert end.read() == incoming(0, 2000)


def test_no_sack_without_permission() -> None:
    """RFC2018-4-NOT: without permission of the remote end, no SACK option is sent."""
    end = Endpoint.established(sack=False)
    end.gets("A", seq=1001, size=500)
    end.gets("A", seq=3001, size=500)
    for sent in end.drop_sent():
        assert not sent.segment.sack


# -- the sender


def test_the_third_duplicate_starts_recovery() -> None:
    """RFC6675-5-3, RFC6675-5-4.1, RFC6675-5-4.2, RFC6675-5-4.3.

    Half of FlightSize, HighACK+1 goes out again.
    """
    end = outstanding(10)
    sacked(end, 1, (1001, 2001))
    sacked(end, 1, (1001, 3001))
    assert numbers(end) == [10_001, 11_001]  # limited transmit
    sacked(end, 1, (1001, 4001))
    assert numbers(end) == [1]
    assert end.delegated.c_wnd == end.delegated.ss_thresh == 5 * SMSS


def test_new_data_waits_for_the_pipe() -> None:
    """RFC6675-5-C, RFC6675-4-PIPE, RFC6675-4-NEXTSEG-2.

    One segment each time that pipe has fallen below CWND by a segment.
    """
    end = outstanding(10)
    for right in (2001, 3001, 4001):
        sacked(end, 1, (1001, right))
    end.drop_sent()
    # 12 are outstanding, 3 SACKed, 1 lost and sent again: pipe is 9, CWND 5.
    for right in (5001, 6001, 7001, 8001):
        sacked(end, 1, (1001, right))
        assert numbers(end) == []
    sacked(end, 1, (1001, 9001))
    assert numbers(end) == [12_001]
    sacked(end, 1, (1001, 10_001))
    assert numbers(end) == [13_001]


def test_a_second_hole_goes_before_new_data() -> None:
    """RFC6675-4-NEXTSEG-1, RFC6675-4-ISLOST: what is lost comes first, each hole once.

    R-RFC-05: SACK, the sender.
    """
    end = outstanding(10)
    sacked(end, 1, (1001, 2001))
    sacked(end, 1, (3001, 4001), (1001, 2001))
    sacked(end, 1, (3001, 5001), (1001, 2001))
    assert numbers(end) == [10_001, 11_001, 1]
    seen = []
    for right in (6001, 7001, 8001, 9001, 10_001):
        sacked(end, 1, (3001, right), (1001, 2001))
        seen += numbers(end)
    assert seen[0] == 2001
    assert seen.count(2001) == 1
    assert all(number in (2001,) or number > 11_001 for number in seen)


def test_one_ack_can_tell_enough() -> None:
    """RFC6675-5-ISLOST.

    HighACK+1 is lost when more than 2 segments above it are SACKed, duplicates or not.
    """
    end = outstanding(10)
    sacked(end, 1, (2001, 6001))
    assert 1 in numbers(end)
    assert end.delegated.ss_thresh == 5 * SMSS


def test_no_recovery_for_reordering() -> None:
    """RFC2018-5.1-REORDER, RFC6675-5-2: less than three segments above the gap do not mean a loss."""
    end = outstanding(10)
    sacked(end, 1, (1001, 2001))
    sacked(end, 1, (1001, 3001))
    assert 1 not in numbers(end)
    end.gets("A", ack=3001)
    assert end.delegated.ss_thresh > 10 * SMSS


def test_sacked_data_is_not_sent_again_in_recovery() -> None:
    """RFC2018-5-SKIP, RFC2018-5-RECORD: through partial ACKs too."""
    end = outstanding(10)
    sacked(end, 1, (1001, 3001))
    sacked(end, 1, (4001, 6001), (1001, 3001))
    sacked(end, 1, (4001, 10_001), (1001, 3001))
    sent = numbers(end)
    sacked(end, 3001, (4001, 10_001))
    sent += numbers(end)
    assert sorted(number for number in sent if number < 10_001) == [1, 3001]


def test_recovery_ends_with_the_recovery_point() -> None:
    """RFC6675-5-A: an ACK of all that was outstanding when it began."""
    end = outstanding(10, queued=10)
    for right in (2001, 3001, 4001):
        sacked(end, 1, (1001, right))
    end.drop_sent()
    end.gets("A", ack=10_001)
    end.expect_nothing()
    assert end.delegated.c_wnd == end.delegated.ss_thresh == 5 * SMSS
    end.send(2000)
    assert numbers(end) == [10_001, 11_001]


def test_a_timeout_forgets_what_was_sacked() -> None:
    """RFC2018-5-RTO, RFC2018-5-LEFT, RFC2018-8-SENDER, RFC6675-5.1-EXPUNGE: the receiver may have reneged."""
    end = outstanding(10, queued=10)
    sacked(end, 1, (1001, 2001))  # one duplicate: no recovery
    end.wait(1000)
    assert numbers(end) == [1]
    end.gets("A", ack=1001)  # and no word of 1001..2001: it was thrown away
    sent = numbers(end)
    assert sent[0] == 1001
    acked = 1001
    while acked < 10_001:
        acked += SMSS
        end.gets("A", ack=acked)
    assert end.machine.queued == 0


def test_after_a_timeout_new_sack_information_is_used() -> None:
    """RFC6675-5.1-USE: slow start fills the holes and leaves out what is reported now."""
    end = outstanding(10, queued=10)
    sacked(end, 1, (1001, 2001))
    end.wait(1000)
    assert numbers(end) == [1]
    sacked(end, 1001, (2001, 10_001))
    sent = numbers(end)
    assert sent == [1001]
    end.gets("A", ack=10_001)
    assert end.machine.queued == 0


def test_after_a_timeout_nothing_reported_anew_is_sent_again() -> None:
    """RFC6675-5.1-USE, RFC2018-5-SKIP: of a segment that was received in part only the hole goes out."""
    end = outstanding(10, queued=10)
    end.wait(1000)
    assert numbers(end) == [1]
    sacked(end, 1001, (1501, 5001), (5301, 10_001))
    end.expect("A", seq=1001, length=500)
    sacked(end, 5001, (5301, 10_001))
    end.expect("A", seq=5001, length=300)
    end.expect_nothing()


def test_what_is_lost_and_what_not_yet() -> None:
    """RFC6675-4-ISLOST, RFC6675-4-NEXTSEG-2.

    Two segments above a hole, to the byte, are not enough; a byte more is.
    """
    end = outstanding(10)
    for right in (2001, 3001, 4001):
        sacked(end, 1, (1001, right))
    assert numbers(end) == [10_001, 11_001, 1]
    sacked(end, 1, (8001, 10_001), (1001, 7001))  # 7001..8001 is missing, 2000 bytes are above it
    assert numbers(end) == [12_001]
    sacked(end, 1, (8001, 10_002), (1001, 7001))
    assert numbers(end)[0] == 7001


def test_a_timeout_in_recovery_allows_no_new_recovery_at_once() -> None:
    """RFC6675-5.1-POINT: not before all that was outstanding at the timeout is acknowledged."""
    end = outstanding(10, queued=10)
    for right in (2001, 3001, 4001):
        sacked(end, 1, (1001, right))
    end.drop_sent()
    end.wait(1000)
    assert 1 in numbers(end)
    threshold = end.delegated.ss_thresh
    sacked(end, 1, (1001, 5001))
    sacked(end, 1, (1001, 6001))
    sacked(end, 1, (1001, 7001))
    assert end.delegated.ss_thresh == threshold


def test_a_duplicate_without_any_sack_option_sends_nothing_new() -> None:
    """RFC3042-2-SACK: with SACK agreed, an ACK without the option reports nothing new either."""
    end = outstanding(10)
    end.gets("A", ack=1)
    end.gets("A", ack=1)
    assert numbers(end) == []


def test_what_may_be_lost_is_sent_when_nothing_else_is_left() -> None:
    """RFC6675-4-NEXTSEG-3: two segments above a hole do not prove a loss; there is room, no new data."""
    end = outstanding(10, queued=10)
    for right in (2001, 3001, 4001):
        sacked(end, 1, (1001, right))
    assert numbers(end) == [1]
    sacked(end, 1, (8001, 10_001), (1001, 6001))
    assert numbers(end) == [6001, 7001]


def test_the_last_segment_is_rescued() -> None:
    """RFC6675-4-NEXTSEG-4.

    The highest hole goes out once more when nothing else is left, before a timeout.
    """
    end = outstanding(10, queued=10)
    sacked(end, 1, (1001, 9001))
    assert numbers(end) == [1]
    end.gets("A", ack=9001)
    assert numbers(end) == [9001]
    assert end.elapsed == 0


def test_the_rescue_does_not_come_with_the_fast_retransmission() -> None:
    """RFC6675-5-4.3, RFC6675-4-NEXTSEG-4: RescueRxt is the segment that is sent again when recovery begins.

    With it undefined, the only hole leaves twice at once, and the rescue is spent.
    """
    end = outstanding(10, queued=10)
    sacked(end, 1, (1001, 10_001))
    assert numbers(end) == [1]
    end.gets("A", ack=10_001)
    assert numbers(end) == []


def test_there_is_one_rescue_in_a_recovery() -> None:
    """RFC6675-4-NEXTSEG-4: then RescueRxt is RecoveryPoint."""
    end = outstanding(10, queued=10)
    sacked(end, 1, (1001, 8001))
    assert numbers(end) == [1]
    end.gets("A", ack=8001)
    assert numbers(end) == [9001]
    sacked(end, 8001, (9001, 9501))
    assert numbers(end) == [8001]
    sacked(end, 8501, (9001, 9501))
    assert numbers(end) == []


def test_a_cumulative_ack_with_new_sack_information_is_a_duplicate() -> None:
    """RFC6675-5-DUP, RFC6675-5-RESET: it sets DupAcks to 0, and then counts, because it reports something."""
    end = outstanding(10)
    sacked(end, 1, (2001, 3001))
    sacked(end, 1001, (2001, 3501))
    assert end.delegated.dup_ack_count == 1
    sacked(end, 1001, (2001, 4001))
    assert end.delegated.dup_ack_count == 2
    end.gets("A", ack=1001, options={"sack": ()})
    assert end.delegated.dup_ack_count == 2
    end.gets("A", ack=2001)
    assert end.delegated.dup_ack_count == 0


def test_a_loss_is_found_where_each_ack_acknowledges_something() -> None:
    """RFC6675-5-DUP, RFC6675-5-ISLOST: ACKs were stretched or lost, and no other ACK will come.

    Ignored, the hole would wait for the timer.
    """
    end = outstanding(10)
    sacked(end, 2001, (3001, 8001))
    assert numbers(end)[0] == 2001
    assert end.elapsed == 0
    assert end.delegated.ss_thresh == 4 * SMSS


def test_the_third_stretched_duplicate_starts_recovery() -> None:
    """RFC6675-5-1: DupAcks reaches the threshold by ACKs of small segments, one of which acknowledges."""
    end = outstanding(10)
    sacked(end, 2001, (3001, 3101))
    sacked(end, 2001, (3001, 3201))
    assert 2001 not in numbers(end)
    sacked(end, 2001, (3001, 3301))
    assert numbers(end)[0] == 2001


def test_an_ack_that_ends_a_recovery_can_start_the_next() -> None:
    """RFC6675-5-A, RFC6675-5-DUP: it reports a new hole beyond RecoveryPoint."""
    end = outstanding(10)
    for right in (2001, 3001, 4001, 5001, 6001, 7001, 8001, 9001, 10_001):
        sacked(end, 1, (1001, right))
    numbers(end)
    sent = end.relative_out(end.delegated.snd_max)
    assert sent >= 14_001
    sacked(end, 10_001, (11_001, sent))
    assert 10_001 in numbers(end)
    assert end.elapsed == 0


def test_the_window_stays_when_recovery_ends() -> None:
    """RFC6675-5-CWND: pipe bounds the burst. The deflation of NewReno would leave one or two segments."""
    end = outstanding(10, queued=10)
    for right in (2001, 3001, 4001):
        sacked(end, 1, (1001, right))
    end.drop_sent()
    end.gets("A", ack=10_001)
    assert end.delegated.c_wnd == end.delegated.ss_thresh == 5 * SMSS


def test_partial_acks_leave_the_window() -> None:
    """RFC6675-5-CWND: also on a successor that gets no SACK block with the partial ACK."""
    end = outstanding(10, queued=10)
    for right in (3001, 4001, 5001):
        sacked(end, 1, (2001, right))
    end.drop_sent()
    for ack in (1001, 5001):
        end.gets("A", ack=ack)
        assert end.delegated.c_wnd == 5 * SMSS
    end.gets("A", ack=10_001)
    assert end.delegated.c_wnd == 5 * SMSS


def test_limited_transmit_is_governed_by_the_pipe() -> None:
    """RFC6675-5-3: one duplicate that reports two segments lets two new ones go, to the byte."""
    end = outstanding(10)
    sacked(end, 1, (1001, 3001))
    assert numbers(end) == [10_001, 11_001]
    sacked(end, 1, (1001, 3001))
    assert numbers(end) == []


def test_a_timeout_in_recovery_does_not_raise_ssthresh() -> None:
    """RFC5681-3.1-PIPE: what is SACKed is not in the network, however much of it waits behind the hole."""
    end = outstanding(10, queued=200)
    for right in range(2001, 60_001, SMSS):
        sacked(end, 1, (1001, right))  # the segment that was sent again is lost as well
        if end.relative_out(end.delegated.snd_max) <= right + SMSS:
            break
    assert end.relative_out(end.delegated.snd_max) > 40_000
    before = end.delegated.ss_thresh
    assert before == 5 * SMSS
    end.wait(1000)
    assert 2 * SMSS <= end.delegated.ss_thresh < before


def test_a_timeout_does_not_count_what_is_sacked() -> None:
    """RFC5681-3.1-PIPE: the same before the threshold."""
    end = outstanding(10, queued=10)
    sacked(end, 1, (8001, 10_001))
    end.wait(1000)
    assert end.delegated.ss_thresh == 4 * SMSS


def test_a_duplicate_that_reports_nothing_new_sends_nothing() -> None:
    """RFC3042-2-SACK, RFC6675-5-DUP: no new segment for a duplicate ACK that reports nothing new."""
    end = outstanding(10)
    sacked(end, 1, (1001, 2001))
    end.drop_sent()
    for _ in range(5):
        sacked(end, 1, (1001, 2001))
    assert numbers(end) == []
    assert end.delegated.ss_thresh > 10 * SMSS


@pytest.mark.parametrize(
    "ranges",
    [
        [(1, 1)],
        [(3001, 2001)],
        [(50_001, 51_001)],
        [(-5000, -4000)],
        [(-5000, 500_000)],
        [(1001, 100_001)],
    ],
)
def test_impossible_blocks_are_ignored(ranges: list[tuple[int, int]]) -> None:
    """RFC2018-5-ROBUST, RFC5681-2-DUP: nothing that was not sent is marked, nothing lost or stuck."""
    end = outstanding(10, queued=10)
    for _ in range(3):
        sacked(end, 1, *ranges)
    end.drop_sent()
    end.gets("A", ack=5001)
    end.wait(5000)
    assert 5001 in numbers(end)
    end.gets("A", ack=10_001)
    assert end.machine.queued == 0


def test_a_duplicate_sack_does_no_harm() -> None:
    """RFC6675-4-UPDATE: a first block below the ACK (RFC 2883) is put up with; the others count."""
    end = outstanding(10)
    end.gets("A", ack=2001)
    end.drop_sent()
    for right in (4001, 5001, 6001):
        sacked(end, 2001, (1, 1001), (3001, right))
    assert 2001 in numbers(end)


def test_ignored_where_it_was_not_agreed() -> None:
    """RFC2018-2-2: SACK options on a connection without permission are skipped, the rest is processed.

    R-RFC-04: the option is skipped.
    """
    end = Endpoint.established(sack=False, c_wnd=10_000)
    end.send(10_000)
    end.drop_sent()
    sacked(end, 2001, (3001, 10_001), size=10)
    assert end.snd_una == 2001
    assert end.read() == incoming(0, 10)
    end.wait(1000)
    assert numbers(end)[0] == 2001


def test_sent_data_is_kept_until_it_is_acknowledged() -> None:
    """RFC2018-8-SENDER, RFC6675-4-KEEP: SACKed data can be sent again, byte for byte."""
    end = outstanding(10, queued=10)
    sacked(end, 1, (1001, 10_001))
    end.drop_sent()
    end.gets("A", ack=1001)
    end.wait(10_000)
    assert end.sent
    while end.sent:
        assert end.relative_out(end.expect("A").seq) >= 1001
