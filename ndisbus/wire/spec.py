"""A link as text: ``cable:NAME``, ``tap:NAME`` or ``none``, with options behind a question mark.

``cable:lan?loss=1%&delay=10ms&out.rate=10mbit&capture=lan.pcapng``. An impairment holds for both
directions, with ``in.`` or ``out.`` before it for one. Parsing only; :mod:`ndisbus.wire.open` opens.
"""

from __future__ import annotations

from dataclasses import dataclass

from ndisbus.wire.impair import UNIMPAIRED, Impairments

__all__ = ["LinkSpec", "parse_link"]


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """What a spec says. ``kind`` is cable, tap or none; ``mtu`` is None where the link knows its own."""

    kind: str
    name: str = ""
    station: str | None = None
    mtu: int | None = None
    netns: str | None = None
    seed: int = 0
    ingress: Impairments = UNIMPAIRED
    egress: Impairments = UNIMPAIRED
    capture: str | None = None
    trace: str | None = None


def parse_link(text: str) -> LinkSpec:
    """Raises :class:`ndisbus.wire.link.LinkError` naming the part that is wrong."""
    raise NotImplementedError
