"""Sequence number arithmetic modulo 2**32 (RFC 9293 3.4). Arguments and results are 0..2**32-1.

Two numbers that lie exactly 2**31 apart have no order: all four comparisons are False for them.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MASK", "between", "ge", "gt", "le", "lt", "seq_add", "seq_diff"]

MASK: Final = 0xFFFFFFFF


def seq_add(seq: int, n: int) -> int:
    """Return ``seq`` moved by ``n``, which may be negative."""
    return (seq + n) & 0xFFFFFFFF


def seq_diff(a: int, b: int) -> int:
    """Return a - b as a signed number, -2**31..2**31-1: how far ``a`` lies beyond ``b``."""
    return ((a - b + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def lt(a: int, b: int) -> bool:
    """Return whether a < b."""
    return 0 < (b - a) & 0xFFFFFFFF < 0x80000000


def le(a: int, b: int) -> bool:
    """Return whether a <= b."""
    return (b - a) & 0xFFFFFFFF < 0x80000000


def gt(a: int, b: int) -> bool:
    """Return whether a > b."""
    return 0 < (a - b) & 0xFFFFFFFF < 0x80000000


def ge(a: int, b: int) -> bool:
    """Return whether a >= b."""
    return (a - b) & 0xFFFFFFFF < 0x80000000


def between(left: int, seq: int, right: int) -> bool:
    """Return whether left <= seq < right, for a range below 2**32 numbers.

    An empty range contains nothing.
    """
    return (seq - left) & 0xFFFFFFFF < (right - left) & 0xFFFFFFFF
