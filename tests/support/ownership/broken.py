"""The error of a run that has shown something to be wrong."""

from __future__ import annotations

__all__ = ["Broken"]


class Broken(AssertionError):
    """What the run has shown to be wrong."""
