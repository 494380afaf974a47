"""RFC 6298 in whole ticks against the same in real numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.state.tcp import TcpOffloadStateDelegated, rtt_var_to_ticks, srtt_to_ticks
from ndisbus.tcp.rtt import RoundTrip
from ndisbus.tcp.settings import TcpSettings

SETTINGS = TcpSettings()


def state(s_rtt: int = 0, rtt_var: int = 0) -> TcpOffloadStateDelegated:
    return TcpOffloadStateDelegated(s_rtt=s_rtt, rtt_var=rtt_var)


def test_before_a_sample_the_rto_is_one_second() -> None:
    """RFC 6298 (2.1)."""
    assert RoundTrip(state(), SETTINGS).rto() == 1000
    parameters = NdisTcpConnectionOffloadParameters(ticks_per_second=10)
    assert RoundTrip(state(), TcpSettings(parameters=parameters)).rto() == 10


def test_the_first_sample_and_the_second() -> None:
    """R-STATE-08: SRtt is kept times 8, RttVar times 4. RFC 6298 (2.2), (2.3)."""
    d = state()
    RoundTrip(d, SETTINGS).sample(400)
    assert srtt_to_ticks(d.s_rtt) == 400
    assert rtt_var_to_ticks(d.rtt_var) == 200
    assert RoundTrip(d, SETTINGS).rto() == 400 + 4 * 200
    RoundTrip(d, SETTINGS).sample(480)
    assert srtt_to_ticks(d.s_rtt) == 7 / 8 * 400 + 1 / 8 * 480
    assert rtt_var_to_ticks(d.rtt_var) == 3 / 4 * 200 + 1 / 4 * 80
    assert RoundTrip(d, SETTINGS).rto() == 410 + 4 * 170


@settings(deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=200))
def test_whole_ticks_follow_the_real_numbers(samples: list[int]) -> None:
    """RFC 6298 (2.3): what rounding adds never exceeds a few ticks."""
    d = state()
    srtt = rttvar = 0.0
    for r in samples:
        RoundTrip(d, SETTINGS).sample(r)
        if srtt == 0:
            srtt, rttvar = float(r), r / 2
        else:
            rttvar += (abs(srtt - r) - rttvar) / 4
            srtt += (r - srtt) / 8
        assert abs(srtt_to_ticks(d.s_rtt) - srtt) < 2
        assert abs(rtt_var_to_ticks(d.rtt_var) - rttvar) < 3


@settings(deadline=None)
@given(st.lists(st.integers(-5, 2**33), min_size=1, max_size=60))
def test_any_samples_stay_in_their_ushorts(samples: list[int]) -> None:
    d = state()
    for r in samples:
        RoundTrip(d, SETTINGS).sample(r)
        assert 0 < d.s_rtt <= 0xFFFF
        assert 0 <= d.rtt_var <= 0xFFFF
        assert SETTINGS.rto_min <= RoundTrip(d, SETTINGS).rto() <= SETTINGS.rto_max
    d.pack()


@pytest.mark.parametrize("ticks_per_second", [10, 100, 1000])
def test_bounds(ticks_per_second: int) -> None:
    """RFC 6298 (2.4), (2.5): the maximum is at least 60 seconds."""
    parameters = NdisTcpConnectionOffloadParameters(ticks_per_second=ticks_per_second)
    settings = TcpSettings(parameters=parameters)
    d = state()
    for _ in range(50):
        RoundTrip(d, SETTINGS).sample(0)
    assert RoundTrip(d, settings).rto() == settings.rto_min == max(1, ticks_per_second * 3 // 10)
    assert RoundTrip(state(0xFFFF, 0xFFFF), settings).rto() <= settings.rto_max == 60 * ticks_per_second


def test_each_timeout_doubles_up_to_the_maximum() -> None:
    """RFC 6298 (5.5)."""
    d = state()
    RoundTrip(d, SETTINGS).sample(200)
    assert [RoundTrip(d, SETTINGS).rto(n) for n in range(5)] == [600, 1200, 2400, 4800, 9600]
    assert RoundTrip(d, SETTINGS).rto(255) == 60_000


def test_a_lost_syn_starts_data_with_three_seconds() -> None:
    """RFC 6298 (5.7); the first sample then counts as the first."""
    d = state()
    RoundTrip(d, SETTINGS).seed(SETTINGS.syn_rto)
    assert RoundTrip(d, SETTINGS).rto() == 3000
    RoundTrip(d, SETTINGS).sample(400)
    assert RoundTrip(d, SETTINGS).rto() == 1200
