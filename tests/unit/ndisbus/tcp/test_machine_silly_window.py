"""Silly window avoidance at both ends, with TcpSwsPreventionTicks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ndisbus.ddi.tcp_enums import TCP_FLAG_UPDATE_RCV_WND
from tests.unit.ndisbus.tcp.conformance.ladder import Endpoint
from tests.unit.ndisbus.tcp.handing import move

TICKS = 600
PARAMETERS = {"tcp_sws_prevention_ticks": TICKS}


def narrow(window: int, *, sizes: tuple[int, ...] = (5000,)) -> Endpoint:
    """An idle end with data queued in pieces of these sizes; the window was 4000 and is ``window`` now."""
    end = Endpoint.established(send_window=4000, parameters=PARAMETERS)
    end.window = window
    end.gets("A")
    for size in sizes:
        end.queue(size)
    end.collect()
    return end


# -- the sender


def test_less_than_all_three_is_held_back() -> None:
    """R-TMR-26: less than an MSS, not up to the end of a send request, less than half the largest window."""
    end = Endpoint.established(send_window=900, parameters=PARAMETERS)
    end.window = 400
    end.gets("A")
    end.send(5000)
    end.expect_nothing()


def test_a_full_segment_is_not_held_back() -> None:
    """R-TMR-26: an MSS to send."""
    end = narrow(1000)
    end.expect_data(1)
    end.expect_nothing()


def test_the_end_of_a_send_request_is_not_held_back() -> None:
    """R-TMR-26: the window reaches as far as a request does, though more is queued behind it."""
    end = narrow(300, sizes=(200, 5000))
    end.expect("A", seq=1, length=300, psh=True)
    end = narrow(199, sizes=(200, 5000))
    end.expect_nothing()


@pytest.mark.parametrize(("window", "sent"), [(899, 0), (900, 900)])
def test_half_of_the_largest_window_is_not_held_back(window: int, sent: int) -> None:
    """R-TMR-26: MaxSndWnd is 1800; the MSS of 1460 is more than half of that."""
    end = Endpoint.established(mss=1460, send_window=1800, parameters=PARAMETERS)
    end.window = window
    end.gets("A")
    end.send(5000)
    assert sum(len(s.segment.payload) for s in end.drop_sent()) == sent


def test_on_expiry_as_much_as_the_window_allows_is_sent() -> None:
    """R-TMR-27, R-TMR-28: after TcpSwsPreventionTicks, however little it is."""
    end = narrow(300)
    end.wait(TICKS - 1)
    end.expect_nothing()
    end.wait(1)
    end.expect("A", seq=1, length=300, at=TICKS)
    end.expect_nothing()
    # Only once: the next small piece waits anew.
    end.gets("A")
    end.expect_nothing()
    end.wait(TICKS)
    end.expect("A", seq=301, length=300)


def test_a_wider_window_comes_before_the_timer() -> None:
    """R-TMR-26: the condition counts whenever something arrives."""
    end = narrow(300)
    end.wait(100)
    end.window = 4000
    end.gets("A")
    end.expect_data(1, 1001, 2001, 3001)
    end.wait(TICKS)
    end.expect_nothing()


def test_the_timer_is_not_carried_across() -> None:
    """R-TMR-27: the side that takes over starts its own."""
    end = narrow(300)
    end.wait(TICKS - 100)
    move(end, clock=5, offloaded=True, parameters=PARAMETERS)
    end.collect()
    end.wait(TICKS - 1)
    end.expect_nothing()
    end.wait(1)
    end.expect("A", seq=1, length=300)


# -- the receiver


def full(window: int = 6000) -> Endpoint:
    """An end whose receive buffer is full: the remote end has been told of a zero window."""
    end = Endpoint.established(receive_window=window, parameters=PARAMETERS)
    end.gets_all([end.segment("A", size=1000) for _ in range(window // 1000)])
    end.expect_ack(window + 1, window=0)
    end.expect_nothing()
    return end


def test_a_small_gain_is_told_when_the_timer_runs_out() -> None:
    """R-TMR-28: the receive side waits TcpSwsPreventionTicks, then a window update is sent."""
    end = full()
    end.read(300)
    end.expect_nothing()
    end.wait(TICKS - 1)
    end.expect_nothing()
    end.wait(1)
    end.expect_ack(6001, window=300, at=TICKS)
    end.wait(10 * TICKS)
    end.expect_nothing()


def test_a_full_segment_of_gain_is_told_at_once() -> None:
    """R-TMR-28: there is nothing to wait for then; RFC 9293 3.8.6.2.2."""
    end = full()
    end.read(999)
    end.expect_nothing()
    end.read(1)
    end.expect_ack(6001, window=1000)
    end.wait(10 * TICKS)
    end.expect_nothing()


def test_an_open_window_needs_no_timer() -> None:
    """R-TMR-28: as long as a full segment fits, small gains go with the next ACK."""
    end = Endpoint.established(receive_window=6000, parameters=PARAMETERS)
    end.gets("A", size=1000)
    end.gets("A", size=1000)
    end.expect_ack(2001, window=4000)
    end.read(500)
    end.wait(10 * TICKS)
    end.expect_nothing()


def test_the_receive_timer_is_not_carried_across() -> None:
    """R-TMR-27: the successor starts its own."""
    end = full()
    end.read(300)
    end.wait(TICKS - 1)
    move(end, clock=1_000_000, offloaded=True, parameters=PARAMETERS)
    end.collect()
    end.wait(TICKS - 1)
    end.expect_nothing()
    end.wait(1)
    end.expect_ack(6001, window=300)


# -- an update of the receive window


@pytest.mark.parametrize("gain", [10, 6000, 40_000])
def test_a_larger_receive_window_is_advertised(gain: int) -> None:
    """R-STATE-18, R-UPD-09: TCP_FLAG_UPDATE_RCV_WND, and the window differs from RcvWnd."""
    end = Endpoint.established(receive_window=6000)
    cached = replace(end.machine.cached, initial_rcv_wnd=6000 + gain, flags=TCP_FLAG_UPDATE_RCV_WND)
    end.machine.update_cached(cached, end.now)
    end.collect()
    end.expect_ack(1, window=6000 + gain)
    assert end.delegated.rcv_wnd == 6000 + gain


def test_a_smaller_receive_window_takes_nothing_back() -> None:
    """R-STATE-18: what was offered stays offered; the window shrinks as data comes in (RFC 9293 SHLD-14)."""
    end = Endpoint.established(receive_window=6000)
    cached = replace(end.machine.cached, initial_rcv_wnd=2000, flags=TCP_FLAG_UPDATE_RCV_WND)
    end.machine.update_cached(cached, end.now)
    end.collect()
    end.expect_nothing()
    for _ in range(5):
        end.gets("A", size=1000)
        end.read()
        for sent in end.drop_sent():
            edge = end.relative_in(sent.segment.ack) + sent.segment.window
            assert edge == max(6001, end.relative_in(sent.segment.ack) + 2000) or edge == 6001
    assert end.delegated.rcv_wnd <= 2000
