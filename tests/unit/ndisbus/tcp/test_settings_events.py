"""Timer lengths in ticks, and events as values."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.errors import LocalProtocolError
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.settings import TcpSettings


def with_ticks(ticks_per_second: int, rto_min_ms: int = 300) -> TcpSettings:
    parameters = NdisTcpConnectionOffloadParameters(ticks_per_second=ticks_per_second)
    return TcpSettings(parameters=parameters, rto_min_ms=rto_min_ms)


@pytest.mark.parametrize("ticks_per_second", [10, 100, 1000])
def test_the_same_times_in_ticks_of_any_granularity(ticks_per_second: int) -> None:
    """R-TMR-02: 10, 100 or 1000 ticks per second. R-TMR-07: FIN_WAIT_2 lasts 120 seconds."""
    settings = with_ticks(ticks_per_second)
    assert settings.fin_wait_2 == 120 * ticks_per_second
    assert settings.time_wait == 60 * ticks_per_second
    assert settings.rto_initial == ticks_per_second
    assert settings.challenge == 300 * ticks_per_second


def test_rounded_up_and_never_nothing() -> None:
    settings = with_ticks(10, rto_min_ms=101)
    assert settings.rto_min == 2
    assert settings.ticks(1) == 1
    assert settings.ticks(0) == 1
    assert settings.ticks(100) == 1


@pytest.mark.parametrize("ticks_per_second", [0, 1, 999, 10_000])
def test_other_granularities_are_refused(ticks_per_second: int) -> None:
    """R-TMR-02."""
    with pytest.raises(LocalProtocolError, match="R-TMR-02"):
        with_ticks(ticks_per_second)


def test_settings_are_shared_and_so_cannot_change() -> None:
    settings = TcpSettings()
    with pytest.raises(FrozenInstanceError):
        settings.offloaded = True  # type: ignore[misc]


def test_events_are_values() -> None:
    assert TcpEvent(EventKind.DATA, 5) == TcpEvent(EventKind.DATA, 5)
    assert TcpEvent(EventKind.DATA, 5) != TcpEvent(EventKind.SENT, 5)
    assert TcpEvent(EventKind.DATA, 5) != 5
    assert len({TcpEvent(EventKind.FIN), TcpEvent(EventKind.FIN), TcpEvent(EventKind.TIMED_OUT, 0, "x")}) == 2
    assert repr(TcpEvent(EventKind.DATA, 5)) == "<data 5>"
    assert repr(TcpEvent(EventKind.TIMED_OUT, 0, "keepalive")) == "<timed-out: keepalive>"
