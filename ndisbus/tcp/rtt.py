"""Round trip estimation and retransmission timeout, RFC 6298, on SRtt (times 8) and RttVar (times 4).

Times are whole ticks. SRtt 0 means that there is no sample yet. RttVar may then hold an RTO to start with. A
round trip shorter than a tick counts as one tick, the clock granularity G of the RFC.
"""

from __future__ import annotations

from typing import ClassVar, Final

from ndisbus.state.tcp import TcpOffloadStateDelegated
from ndisbus.tcp.settings import TcpSettings

__all__ = ["RoundTrip"]

_USHORT: Final = 0xFFFF


class RoundTrip:
    """The estimate, which lives in the structure, and the measurement in progress.

    At most one round trip is measured per window of data (RFC 6298 3). With timestamps the echo in the first
    ACK beyond ``segment`` measures it. Without them one segment that is sent once is timed (Karn's
    algorithm). A successor starts a new measurement.
    """

    OWNS: ClassVar = ("rtt_var", "s_rtt")

    __slots__ = ("_delegated", "at", "segment", "settings")

    segment: int
    """An ACK beyond this sequence number may be a sample. Never before SndUna - 1 and never beyond SndMax."""
    at: int
    """When the segment that begins at ``segment`` was sent. -1 while no segment is timed."""

    def __init__(self, delegated: TcpOffloadStateDelegated, settings: TcpSettings) -> None:
        self._delegated = delegated
        self.settings = settings
        self.segment = (delegated.snd_una - 1) & 0xFFFFFFFF
        self.at = -1

    # -- the measurement

    def time(self, seq: int, now: int) -> None:
        """Start to time the segment that begins at ``seq`` and leaves now."""
        self.segment = seq
        self.at = now

    def drop(self) -> None:
        """Stop timing: something is sent again, so an ACK may be for either copy (Karn)."""
        self.at = -1

    def expect_after(self, seq: int) -> None:
        """Take the next sample from an ACK beyond ``seq``."""
        self.segment = seq

    def timed(self, now: int) -> bool:
        """Take the sample of the timed segment, which is acknowledged. Returns False if none was timed."""
        if self.at < 0:
            return False
        self.sample(now - self.at)
        self.at = -1
        return True

    def echoed(self, ticks: int) -> bool:
        """Take the sample of an echoed timestamp. Returns False if the echo cannot be right."""
        if not 0 <= ticks <= self.settings.rto_max:
            return False
        self.sample(ticks)
        return True

    def established(self, lost: bool) -> None:
        """End the handshake. ``lost``: a SYN was sent again, and nothing was measured (RFC 6298 5.7)."""
        if lost:
            self.seed(self.settings.syn_rto)
        self.at = -1
        self.segment = self._delegated.snd_una

    # -- the estimate

    def sample(self, ticks: int) -> None:
        """Enter one round trip into SRtt and RttVar, RFC 6298 (2.2), (2.3). Both saturate at 0xFFFF."""
        delegated = self._delegated
        rtt = ticks if ticks > 1 else 1
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

    def seed(self, ticks: int) -> None:
        """Start with this RTO instead of the initial one, until there is a sample: RFC 6298 (5.7)."""
        self._delegated.s_rtt = 0
        self._delegated.rtt_var = ticks if ticks < _USHORT else _USHORT

    def rto(self, doublings: int = 0) -> int:
        """Return the RTO in ticks: RFC 6298 (2.1) before a sample, (2.3) to (2.5) after it.

        It is doubled ``doublings`` times (5.5). It is at least RtoMin once there is a sample, and at most
        RtoMax always.
        """
        delegated = self._delegated
        settings = self.settings
        s_rtt = delegated.s_rtt
        value = delegated.rtt_var
        if s_rtt:
            value = (s_rtt >> 3) + (value if value > 1 else 1)
            if value < settings.rto_min:
                value = settings.rto_min
        elif value < settings.rto_initial:
            value = settings.rto_initial
        if doublings:
            value <<= doublings if doublings < 32 else 32
        return value if value < settings.rto_max else settings.rto_max
