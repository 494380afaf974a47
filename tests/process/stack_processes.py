"""What the tests of whole stacks on real processes share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tools.torture_rig import Rig, Round
from tools.torture_stack import RealStack, three_layers


@contextlib.contextmanager
def tortured(*bus_options: str, seed: int, survivors: tuple[str, ...]) -> Iterator[Rig]:
    """A host that counts, on a stack under honcho; ``survivors`` are the processes that keep their pids."""
    with RealStack(three_layers(*bus_options)) as stack, Rig(stack, seed, survivors=survivors) as rig:
        yield rig


def expect_good(result: Round) -> None:
    """A round without problems, in which something was passed down, and each of it came back."""
    assert not result.problems, "\n".join(result.problems)
    assert 0 < result.requests == result.completions
