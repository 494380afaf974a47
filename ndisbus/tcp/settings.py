"""Settings that all connections of one host, or of one target, share: times of timers, and limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters

__all__ = ["TcpSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSettings:
    """Times are given in milliseconds and converted to ticks once. A timer has at least one tick.

    ``offloaded``: the machine is a target's. It asks for an upload where a host's machine aborts, and leaves
    urgent data and an in-order SYN to the host (R-EVT-09, R-BRA-03).
    ``rto_*_ms``: RFC 6298 (2.1), (2.4), (2.5). The RFC asks for a lower bound of 1 s; ours is shorter.
    ``syn_rto_ms``: RTO when data begins after a SYN was lost, RFC 6298 (5.7).
    ``msl_ms``: TIME_WAIT lasts twice this time. ``fin_wait_2_ms``: R-TMR-07, on a
    target, and on a host whose user has closed both halves.
    ``r2_ms``: R2 of RFC 9293 3.8.3, SHLD-11. A host gives up once what it sent this time after the first
    transmission, or later, is not acknowledged either. A target counts instead (R-TMR-22).
    ``connect_retries``: how often a SYN or SYN,ACK is repeated before the attempt ends. 7 repetitions take
    183 s; three minutes is the minimum (RFC 9293 3.8.3, MUST-23).
    ``challenge_ms``, ``syn_challenge_ms``: blind reset protection, R-BRA-04 and R-BRA-03.
    """

    parameters: NdisTcpConnectionOffloadParameters = field(default_factory=NdisTcpConnectionOffloadParameters)
    offloaded: bool = False
    rto_min_ms: int = 300
    rto_max_ms: int = 60_000
    rto_initial_ms: int = 1_000
    syn_rto_ms: int = 3_000
    msl_ms: int = 30_000
    fin_wait_2_ms: int = 120_000
    r2_ms: int = 100_000
    connect_retries: int = 7
    challenge_ms: int = 300_000
    syn_challenge_ms: int = 3_000

    # In ticks, for the hot path.
    rto_min: int = field(init=False)
    rto_max: int = field(init=False)
    rto_initial: int = field(init=False)
    syn_rto: int = field(init=False)
    time_wait: int = field(init=False)
    fin_wait_2: int = field(init=False)
    r2: int = field(init=False)
    challenge: int = field(init=False)
    syn_challenge: int = field(init=False)

    def __post_init__(self) -> None:
        """Compute the ticks.

        Raises LocalProtocolError unless TicksPerSecond is 10, 100 or 1000 (R-TMR-02).
        """
        self.parameters.validate()
        for name, ms in (
            ("rto_min", self.rto_min_ms),
            ("rto_max", self.rto_max_ms),
            ("rto_initial", self.rto_initial_ms),
            ("syn_rto", self.syn_rto_ms),
            ("time_wait", 2 * self.msl_ms),
            ("fin_wait_2", self.fin_wait_2_ms),
            ("r2", self.r2_ms),
            ("challenge", self.challenge_ms),
            ("syn_challenge", self.syn_challenge_ms),
        ):
            object.__setattr__(self, name, self.ticks(ms))

    def ticks(self, ms: int) -> int:
        """Return ``ms`` milliseconds in ticks of 1/TicksPerSecond s, rounded up, at least 1."""
        return max(1, -(-ms * self.parameters.ticks_per_second // 1000))
