"""Statistics of what was measured."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["percentile"]


def percentile(found: Iterable[float], q: float) -> float | None:
    """The value below which a share ``q`` of the values lies; None without values."""
    ordered = sorted(found)
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)] if ordered else None
