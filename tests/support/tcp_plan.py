"""What happens in one simulated TCP connection, all of it drawn from a seed.

Times are microseconds of virtual time unless a name says otherwise; sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final

from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.tcp.settings import TcpSettings

__all__ = ["EndPlan", "HandOver", "Impairments", "Plan", "settings_of"]

MS: Final = 1000
SECOND: Final = 1_000_000


@dataclass(slots=True, kw_only=True)
class Impairments:
    """What one direction of the network does to segments. Probabilities are per segment."""

    loss: float = 0.0
    burst_start: float = 0.0
    """Probability that a time of heavy loss begins (Gilbert-Elliott)."""
    burst_end: float = 1.0
    corruption: float = 0.0
    """Corrupted segments fail their checksum: they are lost too, and counted by themselves."""
    duplication: float = 0.0
    delay: int = 0
    jitter: int = 0
    reordering: bool = False
    """Whether jitter may change the order."""
    rate: int = 0
    """Bytes per second, 0: no limit."""
    queue: int = 0
    """Bytes that may wait for their turn at that rate; more are dropped."""

    @property
    def lossy(self) -> bool:
        """Whether an orderly failure can be the network's doing."""
        return self.loss + self.corruption > 0.01 or self.burst_start > 0 or bool(self.rate)


@dataclass(slots=True, kw_only=True)
class HandOver:
    """The machine is torn out at ``at`` and its successor starts ``gap`` later."""

    at: int
    gap: int
    origin: int
    """Where the successor's clock starts, in ticks."""
    offloaded: bool
    drop_segments: bool
    """Whether the out-of-order segments are dropped on the way (R-TERM-16)."""


@dataclass(slots=True, kw_only=True)
class EndPlan:
    """One end of the connection: its TCP, and the application on it."""

    ticks_per_second: int
    origin: int
    iss: int
    mtu: int
    receive_window: int
    window_scale: int | None
    timestamps: bool
    sack: bool
    nagle: bool
    keepalive: bool
    ack_frequency: int
    delayed_ack_ms: int
    max_retransmissions: int
    size: int
    write_chunk: int
    write_interval: int
    write_limit: int
    read_chunk: int
    """0: everything there is."""
    read_interval: int
    stalls: list[tuple[int, int]]
    """(after so many bytes were read, for so long): the reader sleeps."""
    close: str
    """When the send half is closed: "at once" behind the data, "after theirs", or "later"."""
    close_delay: int
    lateness: int
    """Timers are served up to so much late."""
    hand_overs: list[HandOver] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)
    new_windows: list[tuple[int, int]] = field(default_factory=list)
    new_mtus: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Plan:
    """A whole run. ``ends``: the one that connects, the one that listens."""

    seed: int
    ends: tuple[EndPlan, EndPlan]
    paths: tuple[Impairments, Impairments]
    ipv6: bool
    simultaneous_open: bool
    abort: tuple[int, int] | None
    """(end, time): that application aborts then."""

    @property
    def lossy(self) -> bool:
        return self.paths[0].lossy or self.paths[1].lossy

    @classmethod
    def from_seed(cls, seed: int, *, largest: int = 500_000, hand_overs: bool = True) -> Plan:
        """The plan of a seed. ``largest``: bytes an end sends at most."""
        rng = Random(seed)
        ipv6 = rng.random() < 0.3
        calm = rng.random() < 0.25
        paths = (_impairments(rng, calm), _impairments(rng, calm))
        ends = (_end(rng, ipv6, largest), _end(rng, ipv6, largest))
        if ends[0].close == ends[1].close == "after theirs":
            ends[rng.randrange(2)].close = "at once"
        for end, other in (ends, ends[::-1]):
            if other.receive_window < 3_000:
                # Every few bytes take a round trip.
                end.size = min(end.size, other.receive_window * 60)
        if hand_overs:
            for end in ends:
                _hand_overs(rng, end)
        abort = (rng.randrange(2), int(rng.expovariate(1 / SECOND))) if rng.random() < 0.03 else None
        return cls(
            seed=seed,
            ends=ends,
            paths=paths,
            ipv6=ipv6,
            simultaneous_open=rng.random() < 0.05,
            abort=abort,
        )


def settings_of(plan: EndPlan, *, offloaded: bool) -> TcpSettings:
    """The TCP settings of an end, as a host's or as a target's machine has them."""
    tps = plan.ticks_per_second
    parameters = NdisTcpConnectionOffloadParameters(
        ticks_per_second=tps,
        tcp_ack_frequency=plan.ack_frequency,
        tcp_delayed_ack_ticks=max(1, plan.delayed_ack_ms * tps // 1000),
        tcp_maximum_retransmissions=plan.max_retransmissions,
        tcp_sws_prevention_ticks=max(1, tps // 2),
        tcp_push_ticks=max(1, tps // 2),
        nce_stale_ticks=30 * tps,
    )
    return TcpSettings(parameters=parameters, offloaded=offloaded)


def _impairments(rng: Random, calm: bool) -> Impairments:
    delay = rng.choice([0, 50, 500, 5 * MS, 20 * MS, 80 * MS, 300 * MS])
    if calm:
        return Impairments(delay=delay)
    result = Impairments(delay=delay)
    if rng.random() < 0.6:
        result.loss = rng.choice([0.001, 0.01, 0.03, 0.05, 0.1, 0.2])
    elif rng.random() < 0.4:
        result.burst_start = rng.choice([0.002, 0.01, 0.02])
        result.burst_end = rng.choice([0.15, 0.3, 0.6])
    if rng.random() < 0.3:
        result.corruption = rng.choice([0.001, 0.01, 0.02])
        result.loss = max(0.0, result.loss - result.corruption)
    if rng.random() < 0.4:
        result.duplication = rng.choice([0.01, 0.05, 0.3])
    if rng.random() < 0.6:
        result.jitter = rng.choice([100, MS, 10 * MS, 100 * MS])
        result.reordering = rng.random() < 0.6
    if rng.random() < 0.25:
        result.rate = rng.choice([20_000, 200_000, 2_000_000])
        result.queue = rng.choice([10_000, 60_000, 1_000_000])
    return result


def _size(rng: Random, largest: int) -> int:
    choice = rng.random()
    if choice < 0.06:
        return 0
    if choice < 0.25:
        return rng.randint(1, 100)
    if choice < 0.5:
        return rng.randint(1, 8_000)
    if choice < 0.95:
        return rng.randint(1, min(120_000, largest))
    return rng.randint(1, largest)


def _near_wraparound(rng: Random) -> int:
    choice = rng.random()
    if choice < 0.4:
        return (0x1_0000_0000 - rng.randint(0, 40_000)) & 0xFFFFFFFF
    if choice < 0.5:
        return 0x8000_0000 - rng.randint(0, 40_000)
    return rng.getrandbits(32)


def _origin(rng: Random) -> int:
    """A clock's reading at time 0: its low 32 bits wrap soon in half the cases."""
    return rng.choice([rng.getrandbits(20), 0x1_0000_0000 - rng.randint(1, 60_000), rng.getrandbits(40)])


def _end(rng: Random, ipv6: bool, largest: int) -> EndPlan:
    size = _size(rng, largest)
    mtu = rng.choice([1280, 1500, 1500, 9000] if ipv6 else [296, 576, 1280, 1500, 1500, 9000])
    window = rng.choice([1, 500, 2_000, 8_192, 32_768, 65_535, 65_535, 262_144, 1_000_000])
    chunk = rng.choice([1, 10, 400, 1460, 8_192, 65_536])
    if chunk < 400:
        size = min(size, chunk * 200)
    read_chunk = rng.choice([0, 0, 0, 1_000, 10_000, 50_000])
    stalls = [
        (rng.randint(0, largest // 8), int(rng.choice([0.3, 2, 10, 40]) * SECOND * rng.random()))
        for _ in range(rng.choice([0, 0, 0, 1, 2]))
    ]
    return EndPlan(
        ticks_per_second=rng.choice([10, 100, 1000, 1000]),
        origin=_origin(rng),
        iss=_near_wraparound(rng),
        mtu=mtu,
        receive_window=window,
        window_scale=rng.choice([None, *(s for s in (0, 0, 2, 7, 10, 14) if window >> s >= 4)]),
        timestamps=rng.random() < 0.6,
        sack=rng.random() < 0.6,
        nagle=rng.random() < 0.5,
        keepalive=rng.random() < 0.3,
        ack_frequency=rng.choice([1, 2, 2, 2, 4]),
        delayed_ack_ms=rng.choice([40, 100, 200]),
        max_retransmissions=rng.choice([5, 8, 12, 15]),
        size=size,
        write_chunk=chunk,
        write_interval=rng.choice([0, 0, 0, 300, 3 * MS, 50 * MS]),
        write_limit=rng.choice([1, 5_000, 64_000, 1 << 30]),
        read_chunk=read_chunk,
        read_interval=rng.choice([0, 500, 20 * MS]),
        stalls=stalls,
        close=rng.choice(["at once", "at once", "after theirs", "later"]),
        close_delay=rng.randint(0, 20 * SECOND),
        lateness=rng.choice([0, 0, 0, 5 * MS, 60 * MS]),
    )


def _hand_overs(rng: Random, end: EndPlan) -> None:
    # Most of a run's traffic is soon over: moments are dense at the beginning.
    scale = rng.choice([50 * MS, 500 * MS, 5 * SECOND])
    offloaded = False
    at = 0
    for _ in range(rng.choice([0, 1, 2, 4, 8, 20])):
        at += int(rng.expovariate(1 / scale)) + 1
        offloaded = not offloaded if rng.random() < 0.9 else offloaded
        end.hand_overs.append(
            HandOver(
                at=at,
                gap=rng.choice([0, 0, 50, 2 * MS, 200 * MS]),
                origin=_origin(rng),
                offloaded=offloaded,
                drop_segments=rng.random() < 0.3,
            )
        )
        at += 200 * MS
    end.queries = [int(rng.expovariate(1 / scale)) for _ in range(rng.choice([0, 0, 3]))]
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        # A window that its scale cannot express is always zero, and the connection waits for ever.
        window = max(rng.choice([4_000, 20_000, 65_535, 200_000]), 4 << (end.window_scale or 0))
        end.new_windows.append((int(rng.expovariate(1 / scale)), window))
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        smallest = 1280 if end.mtu >= 1280 else end.mtu
        end.new_mtus.append((int(rng.expovariate(1 / scale)), rng.randint(smallest, end.mtu)))
