"""The persist timer and its rounds of probes."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import CLOSED, ESTABLISHED, FIN_WAIT_1, Endpoint
from tests.unit.ndisbus.tcp.handing import NOT_RUNNING, move, target_end, uploads

RTO = 1000


def shut(**options: Any) -> Endpoint:
    """An end with 5000 bytes to send and a remote end whose window has just become zero."""
    end = Endpoint.established(send_window=2000, **options)
    end.send(7000)
    end.expect_data(1, 1001)
    end.window = 0
    end.gets("A", ack=2001)
    end.expect_nothing()
    return end


def counts(end: Endpoint) -> tuple[int, int]:
    """(SndWndProbeCount, Retransmit.Count)"""
    return end.delegated.snd_wnd_probe_count, end.delegated.retransmit_count


def probes(end: Endpoint, ticks: int) -> list[int]:
    """When probes went out during ``ticks``, counted from the beginning of them."""
    since = end.elapsed
    end.wait(ticks)
    times = []
    for sent in end.drop_sent():
        assert len(sent.segment.payload) == 1
        assert end.relative_out(sent.segment.seq) == end.snd_una
        times.append(sent.at - since)
    return times


def test_a_zero_window_arms_the_timer_with_both_counts_zero() -> None:
    """R-TMR-14: SndWndProbeCount and Retransmit.Count are 0, and the timer runs for RTO shifted left by 0."""
    end = shut()
    assert counts(end) == (0, 0)
    end.machine.write_back(end.now)
    assert end.delegated.retransmit_timeout_delta == RTO
    assert probes(end, RTO - 1) == []
    assert probes(end, 1) == [1]


def test_within_a_round_the_intervals_are_one_two_four() -> None:
    """R-TMR-15: probe, arm RTO shifted left by Count, increment Count."""
    end = shut()
    at = probes(end, 16 * RTO - 1)
    assert at == [RTO, 2 * RTO, 4 * RTO, 8 * RTO]
    assert counts(end) == (0, 4)


def test_each_expiry_leaves_the_count_one_higher() -> None:
    """R-TMR-15: after the first probe Count is 1 and the timer runs for one RTO more."""
    end = shut()
    end.wait(RTO)
    assert counts(end) == (0, 1)
    end.machine.write_back(end.now)
    assert end.delegated.retransmit_timeout_delta == RTO
    end.wait(RTO)
    assert counts(end) == (0, 2)
    end.machine.write_back(end.now)
    assert end.delegated.retransmit_timeout_delta == 2 * RTO


def test_a_zero_window_ack_after_a_probe_begins_the_next_round() -> None:
    """R-TMR-16: SndWndProbeCount goes up, Count goes to 0, the timer runs for RTO shifted by the former."""
    end = shut()
    for probe_round in (1, 2, 3):
        end.until_sent()
        end.drop_sent()
        end.gets("A", ack=2001)
        assert counts(end) == (probe_round, 0)
        end.machine.write_back(end.now)
        assert end.delegated.retransmit_timeout_delta == RTO << probe_round
    # Within that round the intervals are again 1, 2, 4 times RTO, after the first.
    assert probes(end, 15 * RTO) == [8 * RTO, 9 * RTO, 11 * RTO, 15 * RTO]


def test_a_zero_window_ack_before_the_first_probe_begins_no_round() -> None:
    """R-DIS-21: a round ends by an ACK that comes after its first probe, at any time."""
    end = shut()
    end.wait(RTO // 2)
    end.gets("A", ack=2001)
    assert counts(end) == (0, 0)
    assert probes(end, RTO // 2) == [RTO // 2]
    # After the second probe of the round, during its repetitions.
    assert probes(end, RTO) == [RTO]
    assert counts(end) == (0, 2)
    end.gets("A", ack=2001)
    assert counts(end) == (1, 0)


def test_an_open_window_ends_it_and_sending_resumes() -> None:
    """R-TMR-17: no more probes, and all that the window allows goes out."""
    end = shut()
    end.wait(RTO)
    end.drop_sent()
    end.window = 60_000
    end.gets("A", ack=2001)
    end.expect_data(2001, 3001, 4001, 5001, 6001)
    assert counts(end) == (0, 0)
    end.gets("A")
    end.wait(100 * RTO)
    end.expect_nothing()


def test_a_probe_that_was_taken_is_not_sent_again() -> None:
    """R-TMR-17: the ACK that opens the window acknowledges the byte of the probe."""
    end = shut()
    end.wait(RTO)
    end.drop_sent()
    end.window = 60_000
    end.gets("A", ack=2002)
    end.expect_data(2002, 3002, 4002, 5002)
    end.expect("A", seq=6002, length=999)


def test_a_probe_that_was_taken_while_the_window_stays_shut_ends_the_round() -> None:
    """R-TMR-16: such an ACK is a zero-window ACK too."""
    end = shut()
    end.wait(RTO)
    end.drop_sent()
    end.gets("A", ack=2002)
    assert counts(end) == (1, 0)
    assert probes(end, 2 * RTO) == [2 * RTO]


def test_with_an_open_window_count_is_that_of_retransmissions() -> None:
    """R-TMR-13, R-DIS-20: the counters belong to the persist timer only while the window is zero."""
    end = Endpoint.established()
    end.send(1000)
    end.wait(3 * RTO)
    assert counts(end) == (0, 2)
    assert {s.segment.seq for s in end.drop_sent()} == {(end.iss + 1) & 0xFFFFFFFF}
    end.window = 0
    end.gets("A", ack=1001)
    assert counts(end) == (0, 0)
    end.wait(100 * RTO)
    end.expect_nothing()  # nothing to send: nothing to ask for


def test_a_window_that_shuts_before_all_is_acknowledged_is_probed_too() -> None:
    """R-TMR-13: data beyond the window is not retransmitted; its first byte is the probe."""
    end = Endpoint.established(send_window=3000)
    end.send(3000)
    end.drop_sent()
    end.window = 0
    end.gets("A", ack=1001)
    assert probes(end, 2 * RTO) == [RTO, 2 * RTO]
    end.window = 3000
    end.gets("A", ack=1001)
    end.expect_data(1001, 2001)


def test_data_queued_at_a_closed_window_starts_it() -> None:
    """R-TMR-13, R-TMR-14: there was nothing to send when the window closed."""
    end = Endpoint.established(send_window=1000)
    end.send(1000)
    end.drop_sent()
    end.window = 0
    end.gets("A")
    end.wait(50 * RTO)
    end.expect_nothing()
    end.send(10)
    assert probes(end, 2 * RTO) == [RTO, 2 * RTO]


def test_a_fin_alone_is_the_probe_if_there_is_no_data() -> None:
    """R-TMR-15: with all data gone the FIN is what the window is asked for."""
    end = Endpoint.established(send_window=1000)
    end.send(1000)
    end.drop_sent()
    end.window = 0
    end.gets("A")
    end.shutdown()
    end.expect_nothing()
    end.wait(RTO)
    end.expect("FA", seq=1001, length=0)
    end.window = 1000
    end.gets("A", ack=1001)
    end.expect("FA", seq=1001, length=0)
    end.expect_state(FIN_WAIT_1)


@pytest.mark.parametrize("limit", [1, 5])
def test_a_round_without_an_answer_is_limited(limit: int) -> None:
    """R-TMR-18: more probes than TcpMaximumRetransmissions: upload with TimeoutExpiration, and no more."""
    end = shut(offloaded=True, parameters={"tcp_maximum_retransmissions": limit})
    end.wait((1 << limit) * RTO - 1)
    assert len(end.drop_sent()) == limit
    assert not uploads(end)
    end.wait(1)
    assert uploads(end) == [TcpUploadReason.TimeoutExpiration]
    end.wait(1000 * RTO)
    end.expect_nothing()
    # For the host it fires at once, and it knows how many probes there were (R-TMR-05).
    end.machine.hand_over(end.now)
    assert end.delegated.retransmit_timeout_delta == 0
    assert end.delegated.retransmit_count == limit


def test_a_host_gives_up_a_remote_end_that_answers_no_probe() -> None:
    """R-TMR-18, read for a host, which cannot give the connection to another stack."""
    end = shut()
    end.wait(1000 * RTO)
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.TIMED_OUT)


def test_rounds_are_not_limited() -> None:
    """R-TMR-16, RFC 9293 3.8.6.1: as long as the remote end answers, the connection stays."""
    end = shut()
    for _ in range(300):
        end.until_sent()
        end.drop_sent()
        end.gets("A", ack=2001)
    end.expect_state(ESTABLISHED)
    assert counts(end) == (255, 0)  # what a UCHAR holds


def test_the_three_values_go_across() -> None:
    """R-TMR-19: in the middle of a round of probes, from a host to a target and back."""
    end = shut()
    for _ in range(2):
        end.until_sent()
        end.drop_sent()
        end.gets("A", ack=2001)
    end.wait(4 * RTO)  # the first probe of the third round
    end.drop_sent()
    end.wait(RTO // 4)
    move(end, clock=123_456, offloaded=True)
    assert counts(end) == (2, 1)
    assert probes(end, 3 * RTO) == [3 * RTO // 4, 11 * RTO // 4]
    assert counts(end) == (2, 3)
    move(end, clock=-99_999, offloaded=False)
    end.gets("A", ack=2001)
    assert counts(end) == (3, 0)
    assert probes(end, 8 * RTO) == [8 * RTO]


def test_a_timer_that_does_not_run_is_reported_so() -> None:
    """R-QRY-06, R-TMR-05: zero window, but nothing to ask for."""
    end = target_end(send_window=1000)
    end.send(1000)
    end.drop_sent()
    end.window = 0
    end.gets("A")
    end.machine.write_back(end.now)
    assert end.delegated.retransmit_timeout_delta == NOT_RUNNING
