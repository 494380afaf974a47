"""The error for a rule that a driver broke, and the names that drivers and adapters may have."""

from __future__ import annotations

from typing import Final

from ndisbus.errors import RemoteProtocolError

__all__ = ["NAME_LIMIT", "Violation", "free_name"]

#: Longest name of a driver or an adapter, in characters.
NAME_LIMIT: Final = 64


class Violation(RemoteProtocolError):
    """A driver broke a rule: in ``parameter`` of its call, ``rule`` of docs/rules.md."""

    def __init__(self, parameter: str, reason: str, rule: str = "") -> None:
        super().__init__(reason, rule=rule)
        self.parameter = parameter


def free_name(stem: str, taken: set[str]) -> str:
    """Return the first free name with this stem: letters as suffix first, then numbers."""
    for suffix in (*"abcdefghijklmnopqrstuvwxyz", *map(str, range(len(taken) + 1))):
        name = f"{stem}-{suffix}"
        if name not in taken:
            return name
    raise AssertionError("more names than there are adapters")
