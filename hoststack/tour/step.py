"""The counters and latencies of one kind of operation."""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["Step"]


class Step:
    """One kind of operation: how much went down, what came back, and how long it took."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests = 0
        self.blocks = 0
        self.completions = 0
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []

    def completed(self, seconds: float) -> None:
        """Count a completion that came ``seconds`` after its request."""
        self.completions += 1
        self.seconds.append(seconds)

    def percentile(self, q: float) -> float | None:
        """The latency in milliseconds at quantile ``q``; None if nothing was measured."""
        if not self.seconds:
            return None
        ordered = sorted(self.seconds)
        return ordered[min(int(len(ordered) * q), len(ordered) - 1)] * 1e3

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "operation": self.name,
            "requests": self.requests,
            "blocks": self.blocks,
            "statuses": dict(self.statuses),
            "p50_ms": self.percentile(0.5),
            "p99_ms": self.percentile(0.99),
            "completions_expected": self.requests,
            "completions_got": self.completions,
        }
