"""The errors by which the bus ends a driver's process."""

from __future__ import annotations

from typing import Any

from ndisbus.errors import ChimneyError

__all__ = ["BugChecked", "HelloRefused"]


class BugChecked(ChimneyError):
    """The bus cut this driver off because it broke a rule. ``report`` has the details (BugCheck.to_wire)."""

    def __init__(self, report: dict[str, Any], text: str) -> None:
        super().__init__(text)
        self.report = report


class HelloRefused(ChimneyError):
    """The bus refused this driver: its name is taken, or the protocol versions differ."""
