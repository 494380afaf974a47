"""RST and SYN against an offloaded connection: blind reset protection, as a target does it."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    TIME_WAIT,
    Endpoint,
)
from tests.unit.ndisbus.tcp.handing import NOT_RUNNING, move, target_end, uploads

WINDOW = 20_000
CHECK = 300_000  # five minutes
OPEN_STATES = (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK)


def checked(**options: Any) -> Endpoint:
    """A target's end that has just answered an RST in the window but out of order."""
    end = target_end(**options)
    end.gets("R", seq=100)
    end.expect_ack(1, seq=1)
    end.expect_nothing()
    return end


def keepalive_left(end: Endpoint) -> int:
    end.machine.write_back(end.now)
    return end.delegated.keep_alive_timeout_delta


# -- RST


@pytest.mark.parametrize("seq", [0, -WINDOW, WINDOW + 1, WINDOW + 50_000, 1 << 31])
def test_an_rst_outside_the_window_is_dropped_silently(seq: int) -> None:
    """R-BRA-01: no answer, no timer, no event."""
    end = target_end()
    end.gets("R", seq=seq)
    end.expect_nothing()
    end.expect_state(ESTABLISHED)
    assert end.machine.next_deadline() is None
    assert not end.heard


@pytest.mark.parametrize("state", [*OPEN_STATES, TIME_WAIT])
def test_an_rst_of_exactly_rcv_nxt_ends_the_connection(state: Any) -> None:
    """R-BRA-01: RCV.NXT itself raises TcpIndicateAbort, in whatever state."""
    end = Endpoint.in_state(state, offloaded=True)
    end.gets("R", seq=end.remote_next)
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.RESET)
    end.expect_nothing()


def test_an_rst_in_the_window_draws_one_challenge_ack() -> None:
    """R-BRA-02: the first is answered, those after it are not."""
    end = checked()
    for seq in (101, 5000, WINDOW, 100, 2):
        end.gets("R", seq=seq)
        end.expect_nothing()
    end.expect_state(ESTABLISHED)


def test_after_an_acceptable_segment_the_next_rst_is_challenged_again() -> None:
    """R-BRA-02, R-BRA-07: the check is over, and its timer stopped."""
    end = checked()
    end.gets("A")
    assert end.machine.next_deadline() is None
    end.gets("R", seq=100)
    end.expect_ack(1)
    assert keepalive_left(end) == CHECK


def test_an_unacceptable_segment_does_not_end_the_check() -> None:
    """R-BRA-02, R-BRA-07: neither one outside the window nor one with a wrong ACK."""
    end = checked()
    end.gets("A", seq=WINDOW + 100)
    end.gets("A", ack=100_000)
    end.drop_sent()
    end.gets("R", seq=200)
    end.expect_nothing()
    assert keepalive_left(end) == CHECK


# -- SYN


@pytest.mark.parametrize("seq", [0, -100, WINDOW + 1])
def test_a_syn_outside_the_window_is_answered_each_time(seq: int) -> None:
    """R-BRA-03: with an ACK, and the keepalive timer stays as it is."""
    end = target_end()
    for _ in range(20):
        end.gets("S", seq=seq)
        end.expect_ack(1, seq=1)
        end.expect_nothing()
    end.expect_state(ESTABLISHED)
    assert end.machine.next_deadline() is None


@pytest.mark.parametrize("state", OPEN_STATES)
def test_a_syn_of_exactly_rcv_nxt_uploads_in_closed(state: Any) -> None:
    """R-BRA-03, R-IP-06, R-OPEN-01: UploadRequested, state CLOSED; R-DIS-46: it is not answered first."""
    end = Endpoint.in_state(state, offloaded=True)
    end.gets("S", seq=end.remote_next)
    end.expect_nothing()
    end.expect_state(CLOSED)
    assert uploads(end) == [TcpUploadReason.UploadRequested]
    given = end.machine.hand_over(end.now)
    assert given.last == []
    assert end.delegated.state is CLOSED
    assert end.delegated.retransmit_timeout_delta == NOT_RUNNING


def test_a_syn_in_the_window_is_challenged_once_in_three_seconds() -> None:
    """R-BRA-03, R-IP-06: in the window, out of order."""
    end = target_end()
    answered = []
    for _ in range(90):
        end.gets("S", seq=500)
        if end.drop_sent():
            answered.append(end.elapsed)
        end.wait(100)
    assert answered == [0, 3000, 6000]
    end.expect_state(ESTABLISHED)


def test_a_syn_in_the_window_starts_the_check() -> None:
    """R-BRA-04, R-IP-06: blind reset protection for a SYN as for an RST."""
    end = target_end()
    end.gets("S", seq=500)
    end.expect_ack(1)
    assert keepalive_left(end) == CHECK


def test_a_syn_in_time_wait_is_left_to_the_host() -> None:
    """R-IP-06: neither taken nor answered."""
    end = Endpoint.in_state(TIME_WAIT, offloaded=True)
    end.gets("S", seq=end.remote_next + 5)
    end.expect_nothing()
    end.expect_state(TIME_WAIT)


def test_timestamps_do_not_shield_a_syn() -> None:
    """R-BRA-03: a SYN is judged by its number, whatever timestamp it has or has not."""
    end = target_end(timestamps=True)
    end.gets("S", seq=end.remote_next, options={"ts_val": None})
    assert uploads(end) == [TcpUploadReason.UploadRequested]


# -- the check


def test_the_check_starts_the_timer_with_five_minutes() -> None:
    """R-BRA-04: keepalive is not enabled, so it was not running."""
    end = checked()
    assert end.machine.next_deadline() == end.now + CHECK
    assert keepalive_left(end) == CHECK


def test_a_timer_that_would_expire_later_is_restarted() -> None:
    """R-BRA-04: keepalive after two hours becomes five minutes."""
    end = checked(keepalive=True)
    assert keepalive_left(end) == CHECK


def test_a_timer_that_expires_earlier_stands() -> None:
    """R-DIS-38: the earlier expiry wins."""
    end = target_end(keepalive=True, cached={"ka_timeout": CHECK - 1000})
    end.wait(500)
    end.gets("R", seq=100)
    end.expect_ack(1)
    assert keepalive_left(end) == CHECK - 1500


@pytest.mark.parametrize(("count", "interval"), [(3, 400), (0, 0)])
def test_without_an_acceptable_segment_it_probes_and_goes_up(count: int, interval: int) -> None:
    """R-BRA-05, R-OPEN-01: KaProbeCount probes every KaInterval, 10 and a second if zero, then CLOSED."""
    end = checked(cached={"ka_probe_count": count, "ka_interval": interval})
    count = count or 10
    interval = interval or 1000
    end.wait(CHECK + count * interval - 1)
    times = [s.at for s in end.drop_sent()]
    assert times == [CHECK + i * interval for i in range(count)]
    end.expect_state(ESTABLISHED)
    end.wait(1)
    end.expect_state(CLOSED)
    assert uploads(end) == [TcpUploadReason.TimeoutExpiration]
    end.expect_nothing()


def test_probes_sent_before_the_offload_count() -> None:
    """R-BRA-05: a host had sent two of four; the target sends two more."""
    end = Endpoint.established(
        keepalive=True, cached={"ka_timeout": 1000, "ka_interval": 500, "ka_probe_count": 4}
    )
    end.wait(1500)
    assert len(end.drop_sent()) == 2
    move(end, clock=77, offloaded=True)
    end.gets("R", seq=100)
    end.expect_ack(1)
    end.wait(1000)
    assert len(end.drop_sent()) == 2
    end.expect_state(ESTABLISHED)
    end.wait(500)
    end.expect_state(CLOSED)
    assert uploads(end) == [TcpUploadReason.TimeoutExpiration]


def test_an_upload_during_the_check_returns_its_progress() -> None:
    """R-BRA-06: probes sent, and the time to the next one."""
    end = checked(cached={"ka_probe_count": 5, "ka_interval": 1000})
    end.wait(CHECK + 1400)
    assert len(end.drop_sent()) == 2
    end.machine.hand_over(end.now)
    assert end.delegated.keep_alive_probe_count == 2
    assert end.delegated.keep_alive_timeout_delta == 600


def test_the_check_goes_on_after_an_upload() -> None:
    """R-BRA-06: the host sends the probes that are left, though its user asked for no keepalive."""
    end = checked(cached={"ka_probe_count": 5, "ka_interval": 1000})
    end.wait(CHECK + 1400)
    end.drop_sent()
    move(end, clock=-5, offloaded=False)
    end.wait(600 + 3000)
    assert len(end.drop_sent()) == 3
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.TIMED_OUT)


def test_normal_keepalive_resumes() -> None:
    """R-BRA-07: when an acceptable segment arrives and the option is on."""
    end = checked(keepalive=True, cached={"ka_timeout": 7_200_000})
    end.wait(CHECK + 100)
    assert len(end.drop_sent()) == 1
    end.gets("A")
    assert end.delegated.keep_alive_probe_count == 0
    assert keepalive_left(end) == 7_200_000


def test_the_target_never_answers_with_an_rst() -> None:
    """R-DISC-03: an abortive disconnect is the only occasion; R-STATE-17: with a timestamp."""
    for state in (*OPEN_STATES, TIME_WAIT):
        end = Endpoint.in_state(state, offloaded=True)
        for flags in ("R", "S", "SA", "A", "FA", "RA", "UA", ""):
            for seq in (-50_000, 0, 50, 50_000):
                for ack in (-90_000, 1, 90_000):
                    end.gets(flags, seq=seq, ack=ack, size=3)
                    end.wait(50)
        assert not [s for s in end.drop_sent() if s.segment.flags & 4]
    for state in (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT):
        end = Endpoint.in_state(state, offloaded=True, timestamps=True)
        end.abort()
        assert end.expect_reset().ts_val is not None
        end.expect_nothing()
        end.expect_state(CLOSED)
