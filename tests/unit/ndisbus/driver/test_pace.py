"""Long loops of handlers."""

from __future__ import annotations

import pytest

from ndisbus.driver.pace import STEP, paced


@pytest.mark.parametrize(
    ("count", "signs"), [(0, 0), (1, 0), (STEP - 1, 0), (STEP, 1), (3 * STEP, 3), (3 * STEP + 1, 3)]
)
def test_a_long_loop_says_that_it_advances(count: int, signs: int) -> None:
    said: list[None] = []
    assert list(paced(range(count), lambda: said.append(None))) == list(range(count))
    assert len(said) == signs
