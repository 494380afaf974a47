"""The clock, limits of retransmission, FIN_WAIT_2, TIME_WAIT and the delayed ACK."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ndisbus.ddi.tcp_enums import MAX_RT_NO_LIMIT, TCP_FLAG_MAX_RT_RESTART, TcpUploadReason
from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import (
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_2,
    LAST_ACK,
    TIME_WAIT,
    Endpoint,
)
from tests.unit.ndisbus.tcp.handing import NOT_RUNNING, move, target_end, uploads


def retransmit_left(end: Endpoint) -> int:
    end.machine.write_back(end.now)
    return end.delegated.retransmit_timeout_delta


# -- the clock


@pytest.mark.parametrize("rate", [10, 100, 1000])
def test_granularity_is_that_of_the_parameters(rate: int) -> None:
    """R-TMR-02: one second of initial RTO is TicksPerSecond ticks; FIN_WAIT_2 lasts 120 seconds of them."""
    end = Endpoint.established(parameters={"ticks_per_second": rate})
    end.send(100)
    end.drop_sent()
    end.wait(rate - 1)
    end.expect_nothing()
    end.wait(1)
    end.expect("A", seq=1, length=100)
    end = Endpoint.in_state(FIN_WAIT_2, parameters={"ticks_per_second": rate, "tcp_delayed_ack_ticks": 2})
    end.close()
    assert end.machine.next_deadline() == end.now + 120 * rate


def test_no_counter_wraps_in_months() -> None:
    """R-TMR-03: at 1000 ticks per second, across four turns of a 32-bit counter of ticks (49.7 days each)."""
    day = 86_400_000
    end = Endpoint.established(keepalive=True, cached={"ka_timeout": 7 * day})
    for _ in range(28):
        end.wait(7 * day - 1)
        end.expect_nothing()
        end.wait(1)
        assert len(end.drop_sent()) == 1
        end.gets("A")
        end.send(100)
        end.wait(2)
        end.expect("A", length=100)
        end.gets("A")
    assert end.elapsed > 3.9 * 2**32
    end.expect_state(ESTABLISHED)


# -- FIN_WAIT_2


def test_fin_wait_2_lasts_two_minutes() -> None:
    """R-TMR-07, R-TMR-08, R-EVT-10: then the target asks for the upload, in CLOSED."""
    end = Endpoint.in_state(FIN_WAIT_2, offloaded=True)
    end.wait(119_999)
    end.expect_state(FIN_WAIT_2)
    assert not uploads(end)
    end.wait(1)
    end.expect_state(CLOSED)
    assert uploads(end) == [TcpUploadReason.TimeoutExpiration]
    end.machine.hand_over(end.now)
    assert end.delegated.retransmit_timeout_delta == NOT_RUNNING


def test_fin_wait_2_is_restarted_by_every_acceptable_segment() -> None:
    """R-TMR-07: data, or an ACK without any; not by one that is outside the window."""
    end = Endpoint.in_state(FIN_WAIT_2, offloaded=True)
    for size in (0, 100, 0):
        end.wait(100_000)
        end.gets("A", size=size)
    assert retransmit_left(end) == 120_000
    end.wait(70_000)
    end.gets("A", seq=end.remote_next - 5000)
    end.gets("A", seq=end.remote_next + 100_000)
    assert retransmit_left(end) == 50_000
    end.wait(50_000)
    end.expect_state(CLOSED)


def test_a_host_whose_user_has_closed_frees_a_connection_that_stays_in_fin_wait_2() -> None:
    end = Endpoint.in_state(FIN_WAIT_2)
    end.close()
    end.wait(120_000)
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.CLOSED)
    assert not end.heard_of(EventKind.UPLOAD)
    assert end.machine.error is not None


def test_fin_wait_2_goes_across_in_the_retransmit_member() -> None:
    """R-TMR-09: Retransmit.TimeoutDelta carries it, down and up."""
    end = Endpoint.in_state(FIN_WAIT_2)
    end.close()
    end.wait(20_000)
    move(end, clock=424_242, offloaded=True)
    assert end.delegated.retransmit_timeout_delta == 100_000
    end.wait(30_000)
    move(end, clock=-424_242, offloaded=False)
    assert end.delegated.retransmit_timeout_delta == 70_000
    end.wait(69_999)
    end.expect_state(FIN_WAIT_2)
    end.wait(1)
    end.expect_state(CLOSED)


def test_the_side_that_a_half_closed_connection_is_on_decides_how_long_it_waits() -> None:
    """R-TMR-07, R-TMR-09: no timer runs on a host whose user reads; a target always has one."""
    end = Endpoint.in_state(FIN_WAIT_2)
    end.wait(500_000)
    move(end, clock=424_242, offloaded=True)
    assert retransmit_left(end) == 120_000
    end.wait(100_000)
    move(end, clock=-424_242, offloaded=False)
    end.wait(500_000)
    end.expect_state(FIN_WAIT_2)
    assert end.machine.next_deadline() is None
    move(end, clock=77, offloaded=True)
    assert retransmit_left(end) == 120_000


def test_r2_counts_across_a_hand_over() -> None:
    """R-TMR-22, R-TMR-25: a target asks for the upload, and the host goes on until 100 s are over."""
    end = Endpoint.established(offloaded=True)
    end.send(1000)
    end.wait(63_000)
    assert uploads(end) == [TcpUploadReason.TimeoutExpiration]
    end.drop_sent()
    move(end, clock=424_242, offloaded=False)
    end.wait(60_000)
    end.expect_state(ESTABLISHED)
    assert end.drop_sent()
    end.wait(120_000)
    end.expect_state(CLOSED)


# -- TIME_WAIT


@pytest.mark.parametrize("way", ["FIN_WAIT_2", "CLOSING"])
def test_time_wait_is_offered_for_upload(way: str) -> None:
    """R-TMR-04, R-OPEN-01: with UploadRequested; until then the target answers the remote end's FIN."""
    if way == "CLOSING":
        end = Endpoint.in_state(CLOSING, offloaded=True)
        end.gets("A")
    else:
        end = Endpoint.in_state(FIN_WAIT_2, offloaded=True)
        end.gets("FA")
        end.expect_ack(2)
    end.expect_state(TIME_WAIT)
    assert uploads(end) == [TcpUploadReason.UploadRequested]
    end.wait(1000)
    end.gets("FA", seq=end.remote_next - 1)
    end.expect_ack(2)
    assert not uploads(end)


def test_time_wait_lasts_two_msl_and_goes_across() -> None:
    """R-TMR-04: the host goes on with what the target left of the time."""
    end = Endpoint.in_state(TIME_WAIT, offloaded=True, msl_ms=30_000)
    end.wait(25_000)
    move(end, clock=1, offloaded=False, msl_ms=30_000)
    end.wait(34_999)
    end.expect_state(TIME_WAIT)
    end.wait(1)
    end.expect_state(CLOSED)
    assert end.machine.error is None


# -- retransmission


def test_at_most_tcp_maximum_retransmissions() -> None:
    """R-TMR-22: so many tries, then a target asks for the upload."""
    end = target_end(parameters={"tcp_maximum_retransmissions": 3})
    end.send(1000)
    end.wait(1000 + 2000 + 4000 + 8000 - 1)
    assert [s.at for s in end.drop_sent()] == [0, 1000, 3000, 7000]
    assert not uploads(end)
    end.wait(1)
    assert uploads(end) == [TcpUploadReason.TimeoutExpiration]
    end.expect_nothing()


def test_a_target_asks_for_the_upload_after_the_last_try() -> None:
    """R-TMR-22, R-EVT-10, R-TMR-05: 0 comes up, so the host sends at once, and goes on for R2."""
    end = target_end(parameters={"tcp_maximum_retransmissions": 3})
    end.send(1000)
    end.wait(15_000)
    assert len(end.drop_sent()) == 4
    assert uploads(end) == [TcpUploadReason.TimeoutExpiration]
    end.expect_state(ESTABLISHED)
    move(end, clock=9, parameters={"tcp_maximum_retransmissions": 3})
    assert end.delegated.retransmit_timeout_delta == 0
    assert end.delegated.retransmit_count == 3
    assert end.delegated.total_rt == 7000
    end.wait(0)
    end.expect_data(1)
    assert end.delegated.total_rt == 15_000
    end.expect_state(ESTABLISHED)


def test_each_segment_has_its_own_tries() -> None:
    """R-TMR-22: an ACK of something new starts counting anew."""
    end = Endpoint.established(parameters={"tcp_maximum_retransmissions": 2}, c_wnd=1000, timestamps=True)
    end.send(20_000)
    for _ in range(10):
        end.wait(3000)
        assert end.delegated.retransmit_count == 2
        end.drop_sent()
        end.gets("A", ack=end.snd_una + 500)
        assert end.delegated.retransmit_count == 0
        assert end.delegated.total_rt == 0
    end.expect_state(ESTABLISHED)


@pytest.mark.parametrize("max_rt", [2500, 20_000, 400_000])
def test_max_rt_is_a_limit_of_time(max_rt: int) -> None:
    """R-TMR-23: it replaces the limit of tries, which is smaller or larger."""
    end = Endpoint.established(cached={"max_rt": max_rt}, parameters={"tcp_maximum_retransmissions": 4})
    end.send(1000)
    end.wait(max_rt - 1)
    end.expect_state(ESTABLISHED)
    end.wait(1)
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.TIMED_OUT)


def test_max_rt_all_ones_is_no_limit() -> None:
    """R-TMR-23: retransmission goes on for ever, at the longest interval."""
    end = Endpoint.established(cached={"max_rt": MAX_RT_NO_LIMIT})
    end.send(1000)
    end.wait(100_000_000)
    end.expect_state(ESTABLISHED)
    times = [s.at for s in end.drop_sent()]
    assert len(times) > 1500
    assert times[-1] - times[-2] == 60_000
    end.machine.write_back(end.now)
    assert end.delegated.retransmit_count == 255


def test_the_restart_flag_sets_total_rt_to_zero() -> None:
    """R-TMR-24: MaxRT changed; the time spent so far no longer counts."""
    end = Endpoint.established(cached={"max_rt": 10_000})
    end.send(1000)
    end.wait(7000)
    assert end.delegated.total_rt == 7000
    new = replace(end.machine.cached, max_rt=20_000, flags=TCP_FLAG_MAX_RT_RESTART)
    end.machine.update_cached(new, end.now)
    assert end.delegated.total_rt == 0
    end.wait(19_999)
    end.expect_state(ESTABLISHED)
    end.wait(1)
    end.expect_state(CLOSED)


def test_a_changed_max_rt_without_the_flag_leaves_total_rt() -> None:
    """R-TMR-24: it is the flag that does it."""
    end = Endpoint.established(cached={"max_rt": 10_000})
    end.send(1000)
    end.wait(3500)
    end.machine.update_cached(replace(end.machine.cached, max_rt=20_000), end.now)
    assert end.delegated.total_rt == 3000


@pytest.mark.parametrize("clock", [0, 10**12, -5])
def test_count_and_time_left_go_across(clock: int) -> None:
    """R-TMR-25, R-TMR-05: the next try comes when it would have come, with the next interval behind it."""
    end = Endpoint.established()
    end.send(1000)
    end.wait(3500)
    assert [s.at for s in end.drop_sent()] == [0, 1000, 3000]
    move(end, clock=clock, offloaded=True)
    assert end.delegated.retransmit_count == 2
    assert end.delegated.retransmit_timeout_delta == 3500
    assert end.delegated.total_rt == 3000
    end.wait(3500 + 8000)
    assert [s.at for s in end.drop_sent()] == [7000, 15_000]


def test_nothing_outstanding_is_reported_as_not_running() -> None:
    """R-TMR-25: before anything was sent, and after all was acknowledged."""
    end = Endpoint.established()
    assert retransmit_left(end) == NOT_RUNNING
    end.send(1000)
    assert retransmit_left(end) == 1000
    end.gets("A")
    assert retransmit_left(end) == NOT_RUNNING


def test_a_timer_that_expired_unnoticed_comes_up_as_zero() -> None:
    """R-TMR-05: it was running, and fires at once on the other side."""
    end = target_end()
    end.send(1000)
    end.drop_sent()
    end.now += 5000
    move(end, offloaded=False)
    assert end.delegated.retransmit_timeout_delta == 0
    end.wait(0)
    end.expect("A", seq=1, length=1000)


def test_doubt_after_so_many_retransmissions() -> None:
    """TcpDoubtReachabilityRetransmissions: the owner hears of it once for a segment (R1 of RFC 9293)."""
    end = Endpoint.established(parameters={"tcp_doubt_reachability_retransmissions": 2})
    end.send(1000)
    end.wait(2999)
    assert not end.heard_of(EventKind.DOUBT)
    end.wait(1)
    assert end.heard_of(EventKind.DOUBT)
    end.wait(20_000)
    assert not end.heard_of(EventKind.DOUBT)


# -- delayed ACK


def test_pending_acks_are_sent_before_the_connection_is_given_away() -> None:
    """R-TMR-06: the timer is not carried across; the ACK leaves first, and none follows."""
    end = Endpoint.established()
    end.gets("A", size=100)
    end.expect_nothing()
    assert end.machine.next_deadline() == end.now + 200
    given = move(end, clock=3, offloaded=True)
    assert len(given.last) == 1
    end.expect_ack(101)
    end.wait(10_000)
    end.expect_nothing()


def test_without_pending_acks_nothing_is_sent() -> None:
    """R-TMR-06: only what is pending."""
    end = Endpoint.established()
    end.gets("A", size=100)
    end.wait(200)
    end.expect_ack(101)
    assert move(end).last == []


def test_a_stopped_machine_has_no_timers() -> None:
    """R-EVT-05: after asking for an upload that cannot be declined the target stops."""
    end = Endpoint.in_state(LAST_ACK, offloaded=True, parameters={"tcp_maximum_retransmissions": 1})
    end.wait(5000)
    assert uploads(end) == [TcpUploadReason.TimeoutExpiration]
    end.drop_sent()
    assert end.machine.next_deadline() is None
    end.gets("A")
    end.expect_state(LAST_ACK)
    end.expect_nothing()
