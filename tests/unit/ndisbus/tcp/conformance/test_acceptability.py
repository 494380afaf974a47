"""SEGMENT ARRIVES, first check: the sequence number (RFC 9293 3.10.7.4)."""

from __future__ import annotations

import pytest

from tests.unit.ndisbus.tcp.conformance.ladder import ESTABLISHED, Endpoint, incoming

WINDOW = 4000


def end_with_data_in_flight(receive_window: int = WINDOW) -> Endpoint:
    end = Endpoint.established(receive_window=receive_window)
    end.send(1000)
    end.expect("A", seq=1, length=1000)
    return end


def closed_window() -> Endpoint:
    """The remote end has filled the whole receive window and nothing was read."""
    end = Endpoint.established(receive_window=WINDOW)
    for seq in (1, 1001, 2001, 3001):
        end.gets("A", seq=seq, size=1000)
    end.wait(400)
    assert end.drop_sent()[-1].segment.window == 0
    return end


@pytest.mark.parametrize("seq", [1, 2, WINDOW])
def test_an_empty_segment_in_the_window_is_acceptable(seq: int) -> None:
    """RFC9293-3.10.7.4-SEQ-2: what lies in the window, from its left edge to its last number, counts."""
    end = end_with_data_in_flight()
    end.gets("A", seq=seq, ack=1001)
    assert end.machine.queued == 0
    end.expect_nothing()


@pytest.mark.parametrize("seq", [-1000, 0, WINDOW + 2, WINDOW + 50_000])
def test_an_empty_segment_outside_the_window_is_answered_and_dropped(seq: int) -> None:
    """RFC9293-3.10.7.4-SEQ-2, RFC9293-3.10.7.4-SEQ-6, RFC9293-3.5.2-GROUP-3: SND.NXT and RCV.NXT go back."""
    end = end_with_data_in_flight()
    end.gets("A", seq=seq, ack=1001)
    end.expect_ack(1, seq=1001)
    end.expect_nothing()
    assert end.machine.queued == 1000
    end.expect_state(ESTABLISHED)


def test_an_empty_ack_on_the_right_edge_is_taken() -> None:
    """RFC9293-A.2: the ACK of a remote end that has filled the window counts, whatever its SND.NXT."""
    end = end_with_data_in_flight()
    end.gets("A", seq=WINDOW + 1, ack=1001)
    assert end.machine.queued == 0
    end.expect_nothing()


def test_an_empty_segment_at_a_closed_window_has_to_have_rcv_nxt() -> None:
    """RFC9293-3.10.7.4-SEQ-1, RFC9293-3.4-ZERO.

    Data goes out and is acknowledged while our window is shut.
    """
    end = closed_window()
    end.send(1000)
    end.expect("A", seq=1, ack=4001, length=1000)
    end.gets("A", seq=4001, ack=1001)
    assert end.machine.queued == 0
    end.expect_nothing()


@pytest.mark.parametrize("seq", [4000, 4002])
def test_an_empty_segment_beside_a_closed_window_is_answered_and_dropped(seq: int) -> None:
    """RFC9293-3.10.7.4-SEQ-1: with a window of zero only SEG.SEQ = RCV.NXT will do."""
    end = closed_window()
    end.send(1000)
    end.expect("A", seq=1, length=1000)
    end.gets("A", seq=seq, ack=1001)
    end.expect_ack(4001, window=0)
    assert end.machine.queued == 1000


def test_data_at_a_closed_window_is_answered_and_not_taken() -> None:
    """RFC9293-3.10.7.4-SEQ-3, RFC9293-3.8.6.1-ANSWER.

    The answer to a probe shows RCV.NXT and the window, 0.
    R-RFC-02: probes are answered.
    """
    end = closed_window()
    end.gets("A", seq=4001, size=1)
    end.expect_ack(4001, window=0)
    end.expect_nothing()
    assert end.rcv_nxt == 4001
    assert end.machine.available == 4000


def test_the_ack_of_a_segment_refused_by_a_closed_window_counts() -> None:
    """RFC9293-3.10.7.4-SEQ-5: special allowance for valid ACKs when RCV.WND is zero."""
    end = closed_window()
    end.send(1000)
    end.expect("A", seq=1, length=1000)
    end.gets("A", seq=4001, size=1, ack=1001)
    assert end.machine.queued == 0


def test_a_segment_that_begins_before_the_window_gives_its_new_part() -> None:
    """RFC9293-3.10.7.4-SEQ-4, RFC9293-3.10.7.4-SEQ-7: only what is new is processed."""
    end = Endpoint.established()
    end.gets("A", seq=1, size=1000)
    end.gets("A", seq=501, size=1000)
    assert end.rcv_nxt == 1501
    assert end.read() == incoming(0, 1500)


def test_a_segment_that_ends_beyond_the_window_gives_what_fits() -> None:
    """RFC9293-3.10.7.4-SEQ-4, RFC9293-3.10.7.4-SEQ-7: the part beyond the right edge is not taken."""
    end = Endpoint.established(receive_window=WINDOW)
    for seq in (1, 1001, 2001):
        end.gets("A", seq=seq, size=1000)
    end.gets("A", seq=3001, size=1400)
    assert end.rcv_nxt == 4001
    assert end.read() == incoming(0, 4000)


def test_a_fin_beyond_the_window_is_trimmed() -> None:
    """RFC9293-3.10.7.4-SEQ-7: SYN and FIN outside the window are trimmed like bytes."""
    end = Endpoint.established(receive_window=WINDOW)
    for seq in (1, 1001, 2001):
        end.gets("A", seq=seq, size=1000)
    end.gets("FA", seq=3001, size=1400)
    end.expect_state(ESTABLISHED)
    assert end.read() == incoming(0, 4000)
    end.gets("FA", seq=4001, size=400)
    assert end.read() == incoming(4000, 400)
    assert end.machine.at_end


def test_old_data_is_answered_at_once_and_not_taken_twice() -> None:
    """RFC9293-3.10.7.4-SEQ-6: a duplicate of what was received draws an ACK."""
    end = Endpoint.established()
    end.gets("A", seq=1, size=1000)
    end.gets("A", seq=1001, size=1000)
    end.expect_ack(2001)
    end.gets("A", seq=1, size=1000)
    end.expect_ack(2001)
    end.expect_nothing()
    assert end.read() == incoming(0, 2000)


def test_data_beyond_the_window_is_answered_and_dropped() -> None:
    """RFC9293-3.10.7.4-SEQ-4, RFC9293-3.10.7.4-SEQ-6: neither end lies in the window."""
    end = Endpoint.established(receive_window=WINDOW)
    end.gets("A", seq=WINDOW + 1, size=1000)
    end.expect_ack(1)
    end.expect_nothing()
    # Had it been kept, it would come up once the gap is filled.
    for seq in (1, 1001, 2001, 3001):
        end.gets("A", seq=seq, size=1000)
    assert end.read() == incoming(0, WINDOW)
    assert end.rcv_nxt == WINDOW + 1


def test_an_unacceptable_segment_with_rst_draws_nothing() -> None:
    """RFC9293-3.10.7.4-SEQ-6: no acknowledgment goes back if RST is set."""
    end = Endpoint.established(receive_window=WINDOW)
    end.gets("R", seq=WINDOW + 1)
    end.gets("R", seq=0)
    end.expect_nothing()
    end.expect_state(ESTABLISHED)


def test_segments_ahead_are_held_and_taken_in_order() -> None:
    """RFC9293-SHLD-31, RFC9293-3.10.7.4-SEQ-8, RFC1122-4.2.2.20: held until the gap before them is filled.

    R-RFC-02: out-of-order segments are queued.
    """
    end = Endpoint.established()
    end.gets("A", seq=2001, size=1000)
    end.gets("A", seq=1001, size=1000)
    assert end.machine.available == 0
    end.gets("A", seq=1, size=1000)
    assert end.read() == incoming(0, 3000)
    end.drop_sent()
    end.gets("A", seq=3001, size=1)
    end.wait(500)
    end.expect_ack(3002)


@pytest.mark.parametrize(
    "pieces",
    [
        [(501, 1000), (1, 2000)],
        [(1001, 500), (801, 300), (1401, 600), (1, 1000)],
        [(1001, 1000), (1001, 1000), (1, 1001)],
        [(1999, 2), (3, 1997), (2, 1), (1, 1)],
    ],
)
def test_overlapping_segments_give_each_byte_once(pieces: list[tuple[int, int]]) -> None:
    """RFC9293-3.10-OVERLAP: a segment that overlaps others is reduced to what is new."""
    end = Endpoint.established()
    for seq, size in pieces:
        end.gets("A", seq=seq, size=size)
    assert end.read() == incoming(0, 2000)
    assert end.rcv_nxt == 2001
