"""Impairments: a link that loses, delays, reorders, doubles and corrupts frames, by a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ndisbus.wire.link import Link, LinkWrapper

if TYPE_CHECKING:
    import random

__all__ = ["Bursts", "ImpairedLink", "Impairments"]


class Bursts(NamedTuple):
    """Loss in bursts (Gilbert-Elliott): probabilities, per frame, of the changes and of loss in each state."""

    to_bad: float
    to_good: float
    loss_bad: float = 1.0
    loss_good: float = 0.0


@dataclass(frozen=True, slots=True)
class Impairments:
    """What happens to frames of one direction. Probabilities are per frame, times in seconds.

    ``jitter`` adds up to so much to ``delay`` without changing the order. A reordered frame is held until 1 to
    ``reorder_gap`` later ones have passed it, at most for ``reorder_hold``. A corrupted frame has one bit
    flipped behind its Ethernet header. ``rate`` is in bits a second, with ``rate_burst`` bytes at once;
    ``limit`` is how many frames are kept at most.
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


class ImpairedLink(LinkWrapper):
    """``inner`` with impairments; ``rng`` gives the seed of each direction and kind, and nothing else."""

    def __init__(
        self,
        inner: Link,
        rng: random.Random,
        *,
        ingress: Impairments = Impairments(),
        egress: Impairments = Impairments(),
    ) -> None:
        super().__init__(inner)
