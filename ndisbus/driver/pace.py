"""Loops over many objects in a handler: they tell NDIS now and then that they advance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

__all__ = ["STEP", "paced"]

T = TypeVar("T")

#: Objects between two calls: well below the time that NDIS waits for a sign of life, also on a busy machine.
STEP: Final = 8192


def paced(items: Iterable[T], working: Callable[[], None]) -> Iterator[T]:
    """Iterate over ``items``, and call ``working`` (``ndis.working``) after each :data:`STEP` of them."""
    remaining = iter(items)
    while chunk := list(islice(remaining, STEP)):
        yield from chunk
        if len(chunk) < STEP:
            return
        working()
