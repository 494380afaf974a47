"""The retransmission timer: RFC 6298, and giving up: RFC 9293 3.8.1, 3.8.3, 3.10.8."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import CLOSED, ESTABLISHED, Endpoint

LOW = 1
"""rto_min_ms for tests of the estimator: nothing is rounded up."""


def round_trip(end: Endpoint, ticks: int) -> None:
    """One segment goes out and is acknowledged after so many ticks."""
    end.send(1000)
    end.drop_sent()
    end.wait(ticks)
    assert not end.drop_sent(), "retransmitted before the ACK came"
    end.gets("A")


def timeout_after(end: Endpoint) -> int:
    """Ticks after which a segment is sent again."""
    end.send(1000)
    end.drop_sent()
    begin = end.elapsed
    end.wait(70_000)
    return end.drop_sent()[0].at - begin


def test_the_first_rto_is_a_second() -> None:
    """RFC6298-2.1: before any round trip was measured."""
    end = Endpoint.established(rto_min_ms=LOW)
    end.send(1000)
    end.drop_sent()
    end.wait(999)
    end.expect_nothing()
    end.wait(1)
    end.expect("A", seq=1, length=1000, at=1000)


@pytest.mark.parametrize("timestamps", [False, True])
def test_the_first_measurement(timestamps: bool) -> None:
    """RFC6298-2.2, RFC9293-MUST-18: SRTT <- R, RTTVAR <- R/2, RTO <- SRTT + 4 RTTVAR.

    R-RFC-01, R-RFC-02: RTO computation, RFC 2988.
    """
    end = Endpoint.established(rto_min_ms=LOW, timestamps=timestamps)
    round_trip(end, 400)
    assert end.delegated.s_rtt == 400 * 8
    assert end.delegated.rtt_var == 200 * 4
    assert timeout_after(end) == 400 + 800


@pytest.mark.parametrize("timestamps", [False, True])
def test_later_measurements(timestamps: bool) -> None:
    """RFC6298-2.3: RTTVAR first, with the old SRTT, by 1/4; then SRTT by 1/8.

    R-RFC-01, R-RFC-02: RTO computation, RFC 2988.
    """
    end = Endpoint.established(rto_min_ms=LOW, timestamps=timestamps)
    round_trip(end, 400)
    round_trip(end, 800)
    # RTTVAR = 3/4 * 200 + 1/4 * 400 = 250; SRTT = 7/8 * 400 + 1/8 * 800 = 450
    assert end.delegated.rtt_var == 250 * 4
    assert end.delegated.s_rtt == 450 * 8
    assert timeout_after(end) == 450 + 1000


def test_the_rto_has_a_lower_bound() -> None:
    """RFC6298-2.4: 1 second where it is set so; by default less (negative: 300 ms, as Windows has it)."""
    end = Endpoint.established(rto_min_ms=1000)
    round_trip(end, 1)
    round_trip(end, 1)
    assert timeout_after(end) == 1000


def test_the_rto_has_an_upper_bound_of_a_minute() -> None:
    """RFC6298-2.5: a bound may be set, of 60 seconds at least."""
    end = Endpoint.established(s_rtt=8 * 7000, rtt_var=0xFFFF)
    assert timeout_after(end) == 60_000


def test_the_variance_is_at_least_a_tick() -> None:
    """RFC6298-4-G: max(G, K*RTTVAR): a steady path does not make the RTO equal to the round trip."""
    end = Endpoint.established(rto_min_ms=LOW)
    for _ in range(60):
        round_trip(end, 100)
    assert timeout_after(end) >= 101


@pytest.mark.parametrize("ticks_per_second", [10, 100, 1000])
def test_the_granularity_is_what_was_negotiated(ticks_per_second: int) -> None:
    """RFC6298-4-G: with a tick of 100 ms the first RTO is 10 ticks."""
    end = Endpoint.established(parameters={"ticks_per_second": ticks_per_second})
    end.send(1000)
    end.drop_sent()
    end.wait(ticks_per_second)
    end.expect("A", seq=1, at=ticks_per_second)


def test_no_sample_from_a_retransmitted_segment() -> None:
    """RFC6298-3-KARN, RFC9293-MUST-18: which of the two was acknowledged cannot be known."""
    end = Endpoint.established(rto_min_ms=LOW)
    end.send(1000)
    end.drop_sent()
    end.wait(1500)
    end.gets("A", ack=1001)
    assert end.delegated.s_rtt == 0


def test_a_sample_from_a_retransmitted_segment_with_timestamps() -> None:
    """RFC6298-3-TS: the echo tells which transmission was acknowledged: the second, half a second ago."""
    end = Endpoint.established(rto_min_ms=LOW, timestamps=True)
    end.send(1000)
    end.drop_sent()
    end.wait(1500)
    end.drop_sent()
    end.gets("A", ack=1001)
    assert end.delegated.s_rtt == 500 * 8


def test_a_sample_is_taken_at_least_once_a_round_trip() -> None:
    """RFC6298-3-ONCE: of a window of data, one segment is timed."""
    end = Endpoint.established(rto_min_ms=LOW)
    for _ in range(3):
        end.send(5000)
        end.drop_sent()
        end.wait(300)
        end.gets("A")
    assert abs(end.delegated.s_rtt - 300 * 8) <= 8


def test_the_timer_starts_with_the_first_segment() -> None:
    """RFC6298-5.1: later segments do not start it again."""
    end = Endpoint.established()
    end.send(1000)
    end.wait(600)
    end.send(1000)
    end.drop_sent()
    end.wait(400)
    end.expect("A", seq=1, at=1000)


def test_the_timer_stops_when_all_is_acknowledged() -> None:
    """RFC6298-5.2: nothing is sent, no deadline of it is left."""
    end = Endpoint.established()
    end.send(3000)
    end.drop_sent()
    end.gets("A")
    end.wait(300_000)
    end.expect_nothing()
    assert end.machine.next_deadline() is None


def test_the_timer_starts_again_with_each_ack_of_new_data() -> None:
    """RFC6298-5.3: RTO counts from the ACK."""
    end = Endpoint.established(rto_max_ms=1000)
    end.send(2000)
    end.drop_sent()
    end.wait(700)
    end.gets("A", ack=1001)
    end.wait(999)
    end.expect_nothing()
    end.wait(1)
    end.expect("A", seq=1001, at=1700)


def test_a_duplicate_ack_does_not_start_the_timer_again() -> None:
    """RFC6298-5.3: only what acknowledges new data does."""
    end = Endpoint.established()
    end.send(2000)
    end.drop_sent()
    end.wait(700)
    end.gets("A", ack=1)
    end.wait(300)
    assert end.drop_sent()[-1].at == 1000


def test_the_earliest_segment_is_retransmitted() -> None:
    """RFC6298-5.4, RFC9293-3.10.8-RETRANSMISSION, RFC5681-3.1-LW.

    That one, and no other until it is acknowledged.
    """
    end = Endpoint.established()
    end.send(5000)
    end.drop_sent()
    end.wait(1000)
    end.expect("A", seq=1, length=1000)
    end.expect_nothing()


def test_the_timer_is_backed_off() -> None:
    """RFC6298-5.5, RFC6298-5.6, RFC9293-MUST-19: RTO doubles with each expiry.

    R-RFC-01: RFC 2988.
    """
    end = Endpoint.established(parameters={"tcp_maximum_retransmissions": 8})
    end.send(1000)
    end.drop_sent()
    end.wait(31_000)
    assert [sent.at for sent in end.drop_sent()] == [1000, 3000, 7000, 15_000, 31_000]


def test_the_backed_off_timer_has_a_bound() -> None:
    """RFC6298-5.5, RFC6298-2.5: it does not grow beyond the maximum."""
    end = Endpoint.established(parameters={"tcp_maximum_retransmissions": 12})
    end.send(1000)
    end.drop_sent()
    end.wait(400_000)
    times = [sent.at for sent in end.drop_sent()]
    assert max(after - before for before, after in pairwise(times)) == 60_000


def test_an_ack_of_new_data_ends_the_back_off() -> None:
    """RFC6298-5.7-NORMAL: a new measurement gives the RTO again."""
    end = Endpoint.established(s_rtt=8 * 100, rtt_var=4 * 100)
    end.send(1000)
    end.drop_sent()
    end.wait(7000)
    end.gets("A")
    end.drop_sent()
    round_trip(end, 100)
    assert timeout_after(end) == 1000


def test_the_back_off_stays_until_there_is_a_new_measurement() -> None:
    """RFC6298-5.7-KEEP, RFC9293-MUST-18.

    An ACK of something retransmitted measures nothing: the doubled RTO stays.
    """
    end = Endpoint.established(c_wnd=2000)
    end.send(4000)
    end.drop_sent()
    end.wait(3000)  # two expiries: the RTO is 4 s
    end.drop_sent()
    end.gets("A", ack=1001)
    end.expect("A", seq=1001, at=3000)
    end.drop_sent()
    end.wait(3999)
    end.expect_nothing()
    end.wait(1)
    end.expect("A", seq=1001, at=7000)


def test_timestamps_measure_a_retransmission_and_end_the_back_off() -> None:
    """RFC6298-5.7-NORMAL, RFC6298-3-TS: the ACK of a retransmission is a measurement then."""
    end = Endpoint.established(timestamps=True, mss=1012, c_wnd=2000)
    end.send(4000)
    end.drop_sent()
    end.wait(3000)
    end.drop_sent()
    end.gets("A", ack=1001)
    end.drop_sent()
    end.wait(1000)
    end.expect("A", seq=1001, at=4000)


def test_the_application_is_told_of_trouble() -> None:
    """RFC9293-MUST-20, RFC9293-SHLD-9, RFC9293-SHLD-10, RFC1122-4.2.3.5: R1, after three retransmissions."""
    end = Endpoint.established()
    end.send(1000)
    end.wait(3000)
    assert len(end.drop_sent()) == 3  # the segment and two retransmissions
    assert not end.heard_of(EventKind.DOUBT)
    end.wait(12_000)
    assert len(end.drop_sent()) == 2
    assert end.heard_of(EventKind.DOUBT)
    end.expect_state(ESTABLISHED)


def test_the_connection_is_closed_in_the_end() -> None:
    """RFC9293-MUST-20, RFC9293-SHLD-11, RFC9293-MUST-12: after R2, 100 s or more; the user is told why.

    The segment goes out once more when R2 is over, and has an RTO to be acknowledged.
    """
    end = Endpoint.established(parameters={"tcp_maximum_retransmissions": 4})
    end.send(1000)
    end.wait(123_000 + 59_999)
    end.expect_state(ESTABLISHED)
    assert [s.at for s in end.drop_sent()] == [0, 1000, 3000, 7000, 15_000, 31_000, 63_000, 123_000]
    end.wait(1)
    end.expect_state(CLOSED)
    (event,) = end.events(EventKind.TIMED_OUT)
    assert event.text
    assert end.machine.error


@pytest.mark.parametrize("rtt", [1, 100, 1000])
@pytest.mark.parametrize("outage", [10_000, 30_000, 60_000, 100_000])
def test_an_outage_shorter_than_r2_ends_nothing(outage: int, rtt: int) -> None:
    """RFC9293-SHLD-11: whatever the RTO is, and so the number of retransmissions."""
    end = Endpoint.established(s_rtt=rtt << 3, rtt_var=rtt << 1, rto_min_ms=300)
    end.send(1000)
    end.wait(outage)
    end.expect_state(ESTABLISHED)
    end.drop_sent()
    end.until_sent()
    end.expect("A", seq=1, length=1000)
    end.gets("A", ack=1001)
    end.expect_state(ESTABLISHED)
    assert end.machine.queued == 0


def test_the_application_can_set_r2() -> None:
    """RFC9293-MUST-21, RFC9293-3.10.8-USER: MaxRT, a time for this connection alone."""
    end = Endpoint.established(cached={"max_rt": 100_000})
    end.send(1000)
    end.wait(99_000)
    end.expect_state(ESTABLISHED)
    end.wait(70_000)
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.TIMED_OUT)


def test_the_application_can_set_r2_to_infinity() -> None:
    """RFC9293-MUST-21: MaxRT of all ones."""
    end = Endpoint.established(cached={"max_rt": 0xFFFF_FFFF})
    end.send(1000)
    end.wait(30_000_000)
    end.expect_state(ESTABLISHED)
    end.drop_sent()
    end.gets("A", ack=1001)
    assert end.machine.queued == 0


def test_progress_starts_the_count_again() -> None:
    """RFC9293-MUST-20: R1 and R2 count the retransmissions of one segment."""
    end = Endpoint.established(c_wnd=1000, parameters={"tcp_maximum_retransmissions": 4})
    end.send(20_000)
    for number in range(10):
        end.wait(7000)  # three retransmissions at most
        end.drop_sent()
        end.gets("A", ack=1001 + 1000 * number)
    end.expect_state(ESTABLISHED)


def test_a_retransmission_carries_current_acknowledgments() -> None:
    """RFC9293-3.4-ACK: ACK and window are those of now, not of the first transmission."""
    end = Endpoint.established(receive_window=10_000)
    end.send(1000)
    end.gets("A", ack=1, size=1000)
    end.gets("A", ack=1, size=1000)
    end.drop_sent()
    end.wait(1000)
    end.expect("A", seq=1, ack=2001, length=1000, window=8000)


def test_data_is_kept_until_it_is_acknowledged() -> None:
    """RFC9293-3.8-KEEP: any part of it can be sent again, byte for byte.

    R-RFC-02: the retransmission queue.
    """
    end = Endpoint.established(parameters={"tcp_maximum_retransmissions": 8}, c_wnd=100_000)
    end.send(20_000)
    end.drop_sent()
    for acked in range(0, 20_000, 1500):
        end.gets("A", ack=1 + acked)
        end.drop_sent()
        end.wait(70_000)
        end.expect("A", seq=1 + acked)  # expect() compares the bytes
        end.drop_sent()
