"""The collector of cycles, set for processes that move messages."""

from __future__ import annotations

import gc

__all__ = ["tune_gc"]


def tune_gc() -> None:
    """Make the collector of cycles rare, and exempt what is loaded by now.

    Messages are trees, which reference counts free. A list of 100,000 blocks is not walked again and
    again while it is being built.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
