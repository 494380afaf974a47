"""How the bus ends what a driver began: errors that end its process."""

from __future__ import annotations

from typing import Any

from ndisbus.errors import ChimneyError

__all__ = ["BugChecked", "HelloRefused"]


class BugChecked(ChimneyError):
    """The bus cut this driver off: it broke a rule. ``report`` says where (BugCheck.to_wire)."""

    def __init__(self, report: dict[str, Any], text: str) -> None:
        super().__init__(text)
        self.report = report


class HelloRefused(ChimneyError):
    """The bus did not let this driver in: its name is taken, or the versions differ."""
