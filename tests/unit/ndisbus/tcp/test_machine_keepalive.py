"""The keepalive timer, and what an update does to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ndisbus.ddi.tcp_enums import (
    TCP_FLAG_KEEP_ALIVE_ENABLED,
    TCP_FLAG_KEEP_ALIVE_RESTART,
    TCP_FLAG_MAX_RT_RESTART,
    TcpUploadReason,
)
from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import CLOSED, ESTABLISHED, Endpoint
from tests.unit.ndisbus.tcp.handing import NOT_RUNNING, move, uploads

TIMEOUT = 10_000
INTERVAL = 700
PROBES = 4


def idle(**options: Any) -> Endpoint:
    """An idle end with short keepalive times."""
    cached = {"ka_timeout": TIMEOUT, "ka_interval": INTERVAL, "ka_probe_count": PROBES}
    return Endpoint.established(keepalive=True, cached=cached, **options)


def probe_times(end: Endpoint) -> list[int]:
    """When the probes went out that were sent since the last call."""
    times = []
    for sent in end.drop_sent():
        # An old number and no data: the receiver answers (RFC 9293 3.8.4).
        assert end.relative_out(sent.segment.seq) == end.snd_una - 1
        assert not sent.segment.payload
        times.append(sent.at)
    return times


def test_first_after_timeout_then_every_interval() -> None:
    """R-TMR-10: KaTimeout idle ticks, then KaInterval between probes, KaProbeCount probes at most."""
    end = idle()
    end.wait(TIMEOUT + (PROBES - 1) * INTERVAL)
    assert probe_times(end) == [TIMEOUT + i * INTERVAL for i in range(PROBES)]
    assert end.delegated.keep_alive_probe_count == PROBES
    end.expect_state(ESTABLISHED)
    end.wait(INTERVAL)
    assert probe_times(end) == []
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.TIMED_OUT)


def test_a_target_asks_for_the_upload() -> None:
    """R-OPEN-01: exhausted keepalive probes are a TimeoutExpiration; the state goes up as it is."""
    end = idle(offloaded=True)
    end.wait(TIMEOUT + PROBES * INTERVAL)
    assert uploads(end) == [TcpUploadReason.TimeoutExpiration]
    end.expect_state(ESTABLISHED)
    assert len(probe_times(end)) == PROBES
    assert end.machine.next_deadline() is None
    # The host's timer fires at once, and knows that there is nothing left to try.
    move(end, clock=1_000_000, offloaded=False)
    end.wait(0)
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.TIMED_OUT)


def test_without_the_flag_there_is_none() -> None:
    """R-TMR-10: the timer is enabled by the cached flag."""
    end = Endpoint.established(cached={"ka_timeout": TIMEOUT})
    assert end.machine.next_deadline() is None
    end.wait(100 * TIMEOUT)
    end.expect_nothing()


def test_every_segment_of_the_remote_end_restarts_it() -> None:
    """R-TMR-10: idle means that nothing came; a restart also forgets the probes."""
    end = idle()
    end.wait(TIMEOUT - 1)
    end.gets("A", size=10)
    end.wait(TIMEOUT - 1)
    end.expect_ack(11)
    end.expect_nothing()
    end.wait(1)
    assert len(probe_times(end)) == 1
    assert end.delegated.keep_alive_probe_count == 1
    end.gets("A")
    assert end.delegated.keep_alive_probe_count == 0
    before = end.elapsed
    end.wait(TIMEOUT)
    assert probe_times(end) == [before + TIMEOUT]


def test_not_while_data_is_outstanding() -> None:
    """R-TMR-10: unanswered data is the retransmission timer's affair."""
    end = idle(parameters={"tcp_maximum_retransmissions": 200})
    end.send(100)
    end.wait(3 * TIMEOUT)
    assert all(len(s.segment.payload) == 100 for s in end.drop_sent())
    assert end.delegated.keep_alive_probe_count == 0


@pytest.mark.parametrize("clock", [0, 5_000_000_000, -7777])
def test_count_and_time_left_go_across(clock: int) -> None:
    """R-TMR-12, R-TMR-05: unanswered probes and the time to the next one are carried across and resumed."""
    end = idle()
    end.wait(TIMEOUT + INTERVAL + 100)
    assert len(probe_times(end)) == 2
    move(end, clock=clock, offloaded=True)
    assert end.delegated.keep_alive_probe_count == 2
    assert end.delegated.keep_alive_timeout_delta == INTERVAL - 100
    end.wait(2 * INTERVAL - 100)
    assert probe_times(end) == [TIMEOUT + 2 * INTERVAL, TIMEOUT + 3 * INTERVAL]
    move(end, clock=-clock, offloaded=False)
    end.wait(INTERVAL)
    assert probe_times(end) == []
    end.expect_state(CLOSED)


def test_time_left_before_the_first_probe_goes_across() -> None:
    """R-TMR-12: and not a whole KaTimeout anew."""
    end = idle()
    end.wait(TIMEOUT - 500)
    move(end, clock=31)
    end.wait(499)
    assert probe_times(end) == []
    end.wait(1)
    assert probe_times(end) == [TIMEOUT]


def test_zero_coming_up_fires_at_once() -> None:
    """R-TMR-05: 0 means that it was running."""
    end = idle()
    end.wait(TIMEOUT - 500)
    end.now += 600  # the machine has not been called since it expired
    move(end)
    assert end.delegated.keep_alive_timeout_delta == 0
    end.wait(0)
    assert len(probe_times(end)) == 1


def update(end: Endpoint, **changes: Any) -> None:
    end.machine.update_cached(replace(end.machine.cached, **changes), end.now)
    end.collect()


def test_the_restart_flag_restarts_the_timer_from_zero() -> None:
    """R-TMR-11: even if nothing but the flag is new."""
    end = idle()
    end.wait(TIMEOUT - 1)
    update(end, flags=TCP_FLAG_KEEP_ALIVE_ENABLED | TCP_FLAG_KEEP_ALIVE_RESTART)
    end.wait(TIMEOUT - 1)
    assert probe_times(end) == []
    end.wait(1)
    assert len(probe_times(end)) == 1


@pytest.mark.parametrize("flag", [TCP_FLAG_KEEP_ALIVE_RESTART, TCP_FLAG_MAX_RT_RESTART])
def test_either_flag_resets_what_changed(flag: int) -> None:
    """R-UPD-11, R-DIS-13: the count if KaProbeCount changed, the timer if KaTimeout or KaInterval did."""
    flags = TCP_FLAG_KEEP_ALIVE_ENABLED | flag
    end = idle()
    end.wait(TIMEOUT)
    end.drop_sent()
    update(end, flags=flags, ka_probe_count=PROBES + 1)
    assert end.delegated.keep_alive_probe_count == 0
    end.wait(INTERVAL if flag == TCP_FLAG_MAX_RT_RESTART else TIMEOUT)
    end.drop_sent()
    assert end.delegated.keep_alive_probe_count == 1
    for change in ({"ka_timeout": TIMEOUT + 5}, {"ka_interval": INTERVAL + 5}):
        before = end.elapsed
        update(end, flags=flags, **change)
        assert end.delegated.keep_alive_probe_count == 1
        end.wait(TIMEOUT + 4)
        end.wait(1)
        times = probe_times(end)
        assert times[0] - before == TIMEOUT + 5
        end.gets("A")
        end.wait(TIMEOUT + 5)
        probe_times(end)


def test_without_a_flag_a_change_restarts_nothing() -> None:
    """R-UPD-11: new values count from the next time on."""
    end = idle()
    end.wait(TIMEOUT - 100)
    update(end, ka_timeout=10 * TIMEOUT, ka_probe_count=PROBES + 1)
    end.wait(100)
    assert probe_times(end) == [TIMEOUT]
    assert end.delegated.keep_alive_probe_count == 1


def test_the_flag_can_be_switched_off_and_on() -> None:
    """R-UPD-03, R-TMR-10: cached values take effect when they are updated."""
    end = idle()
    end.wait(TIMEOUT - 1)
    update(end, flags=0)
    assert end.machine.next_deadline() is None
    end.machine.write_back(end.now)
    assert end.delegated.keep_alive_timeout_delta == NOT_RUNNING
    update(end, flags=TCP_FLAG_KEEP_ALIVE_ENABLED)
    assert end.machine.next_deadline() == end.now + TIMEOUT
