"""Values in error texts: readable, on one line, never a Python repr."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.errors import value_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nil"),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (0.5, "0.5"),
        ("nic0", "'nic0'"),
        ("a\nb\x1b[31m", "'a<U+000A>b<U+001B>[31m'"),
        (b"abc", "3 bytes"),
        ({"Name": "x"}, "a map"),
        ([1, 2], "an array of 2"),
        ((), "an array of 0"),
        (object(), "a value of type object"),
    ],
)
def test_a_value_is_shown_in_words(value: Any, text: str) -> None:
    assert value_text(value) == text
