"""Two TCP machines with applications on them, a bad network between, and machines torn out: by virtual time.

Everything follows from the plan, so a failure is repeated by its seed. Time is in microseconds; each machine
has a clock of its own, in its own ticks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Any, Final

from ndisbus.net.segment import Segment
from ndisbus.state.path import PathOffloadStateConst
from tests.support.tcp_end import End
from tests.support.tcp_network import Direction
from tests.support.tcp_observer import Violation
from tests.support.tcp_offload import schedule
from tests.support.tcp_open import connect, listen
from tests.support.tcp_plan import SECOND, Plan

__all__ = ["Result", "World", "run"]

_LIMIT: Final = 4 * 3600 * SECOND
"""No run lasts longer by its own clock."""
_IDLE: Final = 900 * SECOND
"""Without a byte getting further for so long a connection is stuck: all timers together are shorter."""
_GIVE_UP: Final = 200 * SECOND
"""So long after one end is gone in an error, the application of the other gives up too."""
_STEPS: Final = 3_000_000
_V4: Final = (bytes((10, 77, 0, 1)), bytes((10, 77, 0, 2)))
_V6: Final = (bytes.fromhex("fd77" + "00" * 13 + "01"), bytes.fromhex("fd77" + "00" * 13 + "02"))


@dataclass(slots=True)
class Result:
    """How a run ended. ``outcome``: "delivered", or the orderly error that both ends know of."""

    outcome: str
    virtual_seconds: float
    bytes_delivered: int
    segments: int
    lost: int
    retransmitted: int
    hand_overs: int
    uploads: int
    steps: int


class World:
    """The event queue, the network and both ends."""

    def __init__(self, plan: Plan, trace: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.trace = trace
        self.now = 0
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._moved_at = 0
        rng = Random(plan.seed * 7 + 1)
        streams = [rng.randbytes(end.size) for end in plan.ends]
        addresses = _V6 if plan.ipv6 else _V4
        self.directions = tuple(Direction(path, Random(rng.random())) for path in plan.paths)
        self.ends = tuple(
            End(
                self,
                "AB"[i],
                plan.ends[i],
                PathOffloadStateConst(addresses[i], addresses[1 - i]),
                (40_000, 80) if i == 0 else (80, 40_000),
                streams[i],
                streams[1 - i],
                Random(rng.random()),
            )
            for i in range(2)
        )

    # -- what the ends ask for

    def post(self, at: int, what: Callable[..., None], *args: object) -> None:
        self._count += 1
        heappush(self._queue, (at, self._count, what, args))

    def send(self, end: End, segment: Segment) -> None:
        index = 0 if end is self.ends[0] else 1
        size = end.observer.header + 12 + len(segment.payload)
        arrivals = self.directions[index].arrivals(self.now, size)
        if self.trace is not None:
            self.tell(end, f"{segment!r} -> {', '.join(f'{at / SECOND:.6f}' for at in arrivals) or 'lost'}")
        for at in arrivals:
            self.post(at, self.ends[1 - index].arrive, _copy(segment))

    def tell(self, end: End, what: str) -> None:
        if self.trace is not None:
            self.trace(f"{self.now / SECOND:12.6f} {end.name} {what}")

    def moved(self) -> None:
        self._moved_at = self.now

    def ended(self, end: End) -> None:
        other = self.ends[1] if end is self.ends[0] else self.ends[0]
        if not other.gone and (end.error is not None or other.machine is None):
            self.post(self.now + _GIVE_UP, self._give_up, other)

    def _give_up(self, end: End) -> None:
        if end.machine is None and end.away is None:
            end.gone = True  # the SYN never came
        end.abort()

    # -- the run

    def run(self) -> Result:
        """Play the plan to its end. Raises Violation if something is wrong."""
        plan = self.plan
        a, b = self.ends
        for end in self.ends:
            schedule(end)
        listen(b)
        connect(a)
        if plan.simultaneous_open:
            connect(b)
        if plan.abort is not None:
            self.post(plan.abort[1], self.ends[plan.abort[0]].abort)
        queue = self._queue
        steps = 0
        while queue and not (a.gone and b.gone):
            at, _, what, args = heappop(queue)
            self.now = at
            what(*args)
            steps += 1
            if steps > _STEPS or at > _LIMIT or at - self._moved_at > _IDLE:
                raise Violation(f"stuck after {steps} steps at {at / SECOND:.1f} s: {self._state()}")
        if not (a.gone and b.gone):
            raise Violation(f"stuck, nothing will happen any more: {self._state()}")
        return self._result(steps)

    def _state(self) -> str:
        return "; ".join(
            f"{end.name} {end.machine!r} read {end.read}/{len(end.expected)} written {end.written}/"
            f"{end.plan.size} acknowledged {end.sent} fin {end.heard_fin} gone {end.gone} {end.error or ''}"
            for end in self.ends
        )

    def _result(self, steps: int) -> Result:
        plan = self.plan
        whole = all(end.read == len(end.expected) and end.got_fin for end in self.ends)
        errors = [f"{end.name}: {end.error}" for end in self.ends if end.error]
        if whole:
            outcome = "delivered"
            for end in self.ends:
                if end.error is None and end.sent != end.plan.size:
                    raise Violation(f"{end.name}: {end.sent} of {end.plan.size} bytes reported acknowledged")
        elif not errors:
            raise Violation(f"not delivered, and no error: {self._state()}")
        elif not plan.lossy and plan.abort is None:
            raise Violation(f"an error on a good network: {self._state()}")
        else:
            outcome = "aborted" if plan.abort is not None else "error"
        for end in self.ends:
            if end.announced < end.read:
                raise Violation(f"{end.name}: {end.read} bytes read, {end.announced} announced")
            if plan.abort is None and outcome == "delivered" and end.observer.resets and not end.error:
                raise Violation(f"{end.name}: an RST although all went well")
        if outcome != "delivered":
            outcome = f"{outcome} ({', '.join(errors)})"
        observers = [end.observer for end in self.ends]
        return Result(
            outcome,
            self.now / SECOND,
            sum(end.read for end in self.ends),
            sum(o.segments for o in observers),
            sum(d.lost + d.corrupted for d in self.directions),
            sum(o.retransmitted for o in observers),
            sum(end.hand_overs for end in self.ends),
            sum(end.uploads for end in self.ends),
            steps,
        )


def _copy(segment: Segment) -> Segment:
    """A segment as it comes out at the other end: nothing is shared with the one that went in."""
    return Segment(
        segment.seq,
        segment.ack,
        segment.flags,
        segment.window,
        bytes(segment.payload),
        segment.urgent,
        segment.source_port,
        segment.destination_port,
        segment.ts_val,
        segment.ts_ecr,
        segment.mss,
        segment.window_scale,
        segment.sack_permitted,
        tuple(segment.sack),
    )


def run(
    seed: int,
    *,
    largest: int = 500_000,
    hand_overs: bool = True,
    trace: Callable[[str], None] | None = None,
) -> Result:
    """The run of a seed. Raises Violation, or whatever a machine raises, with the seed in a note.

    ``trace``: is given a line for each segment sent, event and hand-over.
    """
    try:
        return World(Plan.from_seed(seed, largest=largest, hand_overs=hand_overs), trace).run()
    except Exception as error:
        error.add_note(f"seed {seed}: python tools/tcp_streams.py --runs 1 --seed {seed}")
        raise
