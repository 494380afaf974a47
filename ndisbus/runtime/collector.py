"""Garbage collection in processes that move messages."""

from __future__ import annotations

import gc

__all__ = ["tune_gc"]


def tune_gc() -> None:
    """Make the cycle collector run rarely, and exclude the objects that exist now.

    Messages are trees, which reference counts free. The collector must not walk a list of 100,000 blocks
    repeatedly while the list is built.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
