"""Impairments: a link that loses, corrupts, duplicates, slows, delays and reorders frames, by a seed.

Sans-I/O. A frame of one direction passes these in order: loss (bursts, then uniform), corruption,
duplication, the rate limit, delay and jitter, reordering. Each kind in each direction draws from its own
generator, so switching one kind on does not change what the others do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ndisbus.errors import LocalProtocolError
from ndisbus.randomness import Randomness
from ndisbus.wire.link import ETHERNET_HEADER, Link, LinkWrapper

__all__ = ["UNIMPAIRED", "Bursts", "FaultCounters", "ImpairedLink", "Impairments"]


class Bursts(NamedTuple):
    """Loss in bursts (Gilbert-Elliott): for each frame, the chances to change state and to be lost."""

    to_bad: float
    to_good: float
    loss_bad: float = 1.0
    loss_good: float = 0.0


@dataclass(frozen=True, slots=True)
class Impairments:
    """What happens to frames of one direction. Probabilities are per frame, times in seconds.

    ``jitter`` adds at most this time to ``delay`` without changing the order. A reordered frame is held until
    1 to ``reorder_gap`` later frames have passed it, at most for ``reorder_hold``. A corrupted frame has one
    bit flipped behind its Ethernet header. ``rate`` is in bits per second, with ``rate_burst`` bytes at once.
    ``limit`` is the most frames that are kept. Raises LocalProtocolError for values out of range.
    """

    loss: float = 0.0
    bursts: Bursts | None = None
    corrupt: float = 0.0
    duplicate: float = 0.0
    rate: float | None = None
    rate_burst: int = 15_000
    delay: float = 0.0
    jitter: float = 0.0
    reorder: float = 0.0
    reorder_gap: int = 3
    reorder_hold: float = 0.02
    limit: int = 1000

    def __post_init__(self) -> None:
        chances = {k: getattr(self, k) for k in ("loss", "corrupt", "duplicate", "reorder")}
        if self.bursts is not None:
            chances |= self.bursts._asdict()
            if self.bursts.to_bad and not self.bursts.to_good and self.bursts.loss_bad == 1.0:
                raise LocalProtocolError(
                    "bursts: to_good is 0, so the first burst would never end; make it greater than 0"
                )
        for name, chance in chances.items():
            if not 0.0 <= chance <= 1.0:
                raise LocalProtocolError(f"{name}: {chance} is not between 0 and 1")
        for name in ("delay", "jitter", "reorder_hold"):
            # Written so that NaN is refused too.
            if not 0.0 <= getattr(self, name) <= 3600.0:
                raise LocalProtocolError(f"{name}: {getattr(self, name)} is not between 0 and 3600 seconds")
        for name in ("rate_burst", "reorder_gap", "limit"):
            if getattr(self, name) < 1:
                raise LocalProtocolError(f"{name}: {getattr(self, name)} is less than 1")
        if self.rate is not None and not self.rate > 0:
            raise LocalProtocolError(f"rate: {self.rate} bits per second is not above 0")


#: No impairments: frames pass unchanged and at once.
UNIMPAIRED: Final = Impairments()


class FaultCounters:
    """Counters of one direction: frames that came, frames that went on, and frames of each impairment."""

    __slots__ = (
        "burst_lost",
        "corrupted",
        "delivered",
        "duplicated",
        "frames",
        "lost",
        "overflowed",
        "reordered",
    )

    def __init__(self) -> None:
        self.frames = 0
        self.delivered = 0
        self.lost = 0
        self.burst_lost = 0
        self.corrupted = 0
        self.duplicated = 0
        self.overflowed = 0
        self.reordered = 0

    def to_wire(self) -> dict[str, int]:
        """Return the counters as a map: ``Frames``, ``BurstLost`` and so on."""
        return {"".join(w.capitalize() for w in k.split("_")): getattr(self, k) for k in self.__slots__}


class _Held(NamedTuple):
    """A reordered frame: how many later frames must still pass it, and when it goes on at the latest."""

    left: int
    until: float
    frame: bytes
    what: str
    passed: bool = False


class _Direction:
    """One direction: frames are put in, and taken out when they are due."""

    __slots__ = ("_bad", "_held", "_impairments", "_line", "_queue", "_ready", "_rng", "counters")

    def __init__(self, impairments: Impairments, make: Callable[[str], Randomness]) -> None:
        self.set(impairments)
        self.counters = FaultCounters()
        kinds = ("bursts", "loss", "corrupt", "duplicate", "jitter", "reorder")
        self._rng = {kind: make(kind) for kind in kinds}
        #: Gilbert-Elliott: whether the state is the bad one.
        self._bad = False
        #: (due time, frame, what was done to it), in the order of due times.
        self._queue: deque[tuple[float, bytes, str]] = deque()
        self._held: list[_Held] = []
        #: When the last frame of the queue is due, and when the rate limit's bucket is empty.
        self._ready = self._line = float("-inf")

    def set(self, impairments: Impairments) -> None:
        """Use other impairments from the next frame on."""
        # NO_IMPAIRMENTS is recognised by identity.
        self._impairments = UNIMPAIRED if impairments == UNIMPAIRED else impairments

    def put(self, frame: bytes, now: float) -> tuple[str, bool]:
        """Take a frame. Returns what is done to it as text ("" for nothing), and whether it goes on."""
        i, c = self._impairments, self.counters
        c.frames += 1
        if i is UNIMPAIRED and not self._held and not self._queue:
            self._queue.append((now, frame, ""))
            return "", True
        if self._is_lost(i):
            return "lost", False
        what = ""
        if i.corrupt and self._rng["corrupt"].random() < i.corrupt and len(frame) > ETHERNET_HEADER:
            bit = self._rng["corrupt"].randrange(ETHERNET_HEADER * 8, len(frame) * 8)
            damaged = bytearray(frame)
            damaged[bit >> 3] ^= 0x80 >> (bit & 7)
            frame = bytes(damaged)
            c.corrupted += 1
            what = f"corrupted: bit {bit & 7} of byte {bit >> 3} flipped"
        double = bool(i.duplicate) and self._rng["duplicate"].random() < i.duplicate
        first = self._schedule(i, frame, what, now)
        if double:
            c.duplicated += 1
            # A new object: a capture distinguishes frames by identity.
            again = self._schedule(i, bytes(bytearray(frame)), f"{what}; duplicate".lstrip("; "), now)
            return "; ".join(w for w in (first[0], "duplicated") if w), first[1] or again[1]
        return first

    def take(self, now: float) -> list[tuple[bytes, str]]:
        """Return the frames that are due, in the order in which they go on."""
        out: list[tuple[bytes, str]] = []
        queue = self._queue
        while True:
            first = min(self._held, key=lambda h: h.until) if self._held else None
            if first is not None and first.until <= now and (not queue or first.until < queue[0][0]):
                self._held.remove(first)
                self.counters.reordered += first.passed
                out.append((first.frame, first.what))
            elif queue and queue[0][0] <= now:
                out.append(queue.popleft()[1:])
            else:
                self.counters.delivered += len(out)
                return out

    def next_deadline(self) -> float | None:
        """Return when :meth:`take` has the next frame; None if no frame waits."""
        due = min((h.until for h in self._held), default=None)
        if self._queue and (due is None or self._queue[0][0] < due):
            return self._queue[0][0]
        return due

    def clear(self) -> None:
        """Drop the frames that are on their way."""
        self._queue.clear()
        self._held.clear()

    def _is_lost(self, i: Impairments) -> bool:
        if i.bursts is not None:
            rng, b = self._rng["bursts"], i.bursts
            if rng.random() < (b.to_good if self._bad else b.to_bad):
                self._bad = not self._bad
            if rng.random() < (b.loss_bad if self._bad else b.loss_good):
                self.counters.burst_lost += 1
                return True
        if i.loss and self._rng["loss"].random() < i.loss:
            self.counters.lost += 1
            return True
        return False

    def _schedule(self, i: Impairments, frame: bytes, what: str, now: float) -> tuple[str, bool]:
        if len(self._queue) + len(self._held) >= i.limit:
            self.counters.overflowed += 1
            return f"{what}; dropped: {i.limit} frames wait".lstrip("; "), False
        ready = now
        if i.rate is not None:
            # A token bucket, kept as the time when it is empty: a frame leaves once the bucket has room.
            self._line = max(self._line, now) + len(frame) * 8 / i.rate
            ready = max(now, self._line - i.rate_burst * 8 / i.rate)
        ready += i.delay
        if i.jitter:
            ready += i.jitter * self._rng["jitter"].random()
        self._ready = ready = max(ready, self._ready)
        if i.reorder and self._rng["reorder"].random() < i.reorder:
            left = self._rng["reorder"].randint(1, i.reorder_gap)
            what = f"{what}; held back".lstrip("; ")
            self._held.append(_Held(left, ready + i.reorder_hold, frame, what))
            return what, True
        self._queue.append((ready, frame, what))
        if self._held:
            self._pass_held(ready)
        return what, True

    def _pass_held(self, ready: float) -> None:
        """Count one more frame that passes held frames. Held frames that enough frames passed follow it."""
        still = []
        for h in self._held:
            if h.left > 1:
                still.append(h._replace(left=h.left - 1, passed=True))
            else:
                self.counters.reordered += 1
                self._queue.append((ready, h.frame, h.what))
        self._held = still


class ImpairedLink(LinkWrapper):
    """``inner`` with impairments. ``rng`` is used only to seed each direction and kind.

    ``ingress`` applies to received frames, ``egress`` to sent ones. ``on_fault(direction, frame, what, now)``
    is called for each frame that was changed, except by delays. ``direction`` is "in" or "out". A sent frame
    is given as it came from the caller, a received one as it is handed on.
    """

    __slots__ = ("_egress", "_ingress", "on_fault")

    def __init__(
        self,
        inner: Link,
        rng: Randomness,
        *,
        ingress: Impairments = UNIMPAIRED,
        egress: Impairments = UNIMPAIRED,
    ) -> None:
        super().__init__(inner)
        base, make = rng.getrandbits(64), type(rng)
        self._ingress = _Direction(ingress, lambda kind: make(f"{base}/in/{kind}"))
        self._egress = _Direction(egress, lambda kind: make(f"{base}/out/{kind}"))
        self.on_fault: Callable[[str, bytes, str, float], object] | None = None

    @property
    def faults(self) -> dict[str, FaultCounters]:
        """Return the counters of ``in`` and ``out``."""
        return {"in": self._ingress.counters, "out": self._egress.counters}

    def faults_to_wire(self) -> dict[str, Any]:
        """Return the counters as maps, under ``In`` and ``Out``."""
        return {k.capitalize(): c.to_wire() for k, c in self.faults.items()}

    def impair(self, *, ingress: Impairments | None = None, egress: Impairments | None = None) -> None:
        """Use other impairments from the next frame on. Frames on their way are not affected."""
        if ingress is not None:
            self._ingress.set(ingress)
        if egress is not None:
            self._egress.set(egress)

    def send(self, frame: bytes, now: float) -> None:
        """Send a frame through the impairments: see :class:`ndisbus.wire.link.Link`."""
        what, _ = self._egress.put(frame, now)
        if what and self.on_fault is not None:
            self.on_fault("out", frame, what, now)
        self._send_due(now)

    def receive(self, now: float) -> list[bytes]:
        """Return the frames that have arrived and are due. Also sends the frames that are due."""
        self._send_due(now)
        ingress, tell = self._ingress, self.on_fault
        for frame in self._inner.receive(now):
            what, goes_on = ingress.put(frame, now)
            if not goes_on and tell is not None:
                tell("in", frame, what, now)
        frames = []
        for frame, what in ingress.take(now):
            frames.append(frame)
            if what and tell is not None:
                tell("in", frame, what, now)
        return frames

    def next_deadline(self) -> float | None:
        """Return when the next frame of either direction is due, or the inner link's deadline if earlier."""
        times = (self._inner.next_deadline(), self._ingress.next_deadline(), self._egress.next_deadline())
        return min((t for t in times if t is not None), default=None)

    def close(self) -> None:
        """Close the inner link. Frames on their way are lost."""
        self._ingress.clear()
        self._egress.clear()
        self._inner.close()

    def _send_due(self, now: float) -> None:
        send = self._inner.send
        for frame, _ in self._egress.take(now):
            send(frame, now)
