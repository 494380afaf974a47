"""Round trip estimation and retransmission timeout, RFC 6298, on SRtt (times 8) and RttVar (times 4).

Times are whole ticks. SRtt 0 means that there is no sample yet; RttVar may then hold an RTO to begin with.
A round trip shorter than a tick counts as one tick, the clock granularity G of the RFC.
"""

from __future__ import annotations

from typing import Final

from ndisbus.state.tcp import TcpOffloadStateDelegated
from ndisbus.tcp.settings import TcpSettings

__all__ = ["backed_off", "rto", "sample", "seed"]

_USHORT: Final = 0xFFFF


def sample(delegated: TcpOffloadStateDelegated, rtt_ticks: int) -> None:
    """Take one measured round trip into SRtt and RttVar, RFC 6298 (2.2), (2.3); both saturate at 0xFFFF."""
    rtt = rtt_ticks if rtt_ticks > 1 else 1
    s_rtt = delegated.s_rtt
    if s_rtt == 0:
        # SRTT <- R, RTTVAR <- R/2
        s_rtt = rtt << 3
        variation = rtt << 1
    else:
        # RTTVAR <- 3/4 RTTVAR + 1/4 |SRTT - R|, then SRTT <- 7/8 SRTT + 1/8 R
        delta = rtt - (s_rtt >> 3)
        s_rtt += delta
        variation = delegated.rtt_var
        variation += (delta if delta >= 0 else -delta) - (variation >> 2)
    delegated.s_rtt = s_rtt if s_rtt < _USHORT else _USHORT
    delegated.rtt_var = variation if variation < _USHORT else _USHORT


def rto(delegated: TcpOffloadStateDelegated, settings: TcpSettings) -> int:
    """RTO in ticks, not backed off: RFC 6298 (2.1) before a sample, (2.3) to (2.5) after."""
    s_rtt = delegated.s_rtt
    if s_rtt == 0:
        value = delegated.rtt_var
        return value if value > settings.rto_initial else settings.rto_initial
    variation = delegated.rtt_var
    value = (s_rtt >> 3) + (variation if variation > 1 else 1)
    if value < settings.rto_min:
        return settings.rto_min
    return value if value < settings.rto_max else settings.rto_max


def backed_off(delegated: TcpOffloadStateDelegated, settings: TcpSettings, count: int) -> int:
    """RTO doubled ``count`` times, RFC 6298 (5.5), at most ``settings.rto_max``."""
    value = rto(delegated, settings) << (count if count < 32 else 32)
    return value if value < settings.rto_max else settings.rto_max


def seed(delegated: TcpOffloadStateDelegated, ticks: int) -> None:
    """Begin with this RTO instead of the initial one, until there is a sample: RFC 6298 (5.7)."""
    delegated.s_rtt = 0
    delegated.rtt_var = ticks if ticks < _USHORT else _USHORT
