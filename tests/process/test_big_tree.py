"""A long list on real processes, in parts: ``tools/big_tree.py`` with fewer blocks."""

from __future__ import annotations

import pytest

from tools.big_tree import measure


def test_a_list_in_parts_goes_down_and_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NDISBUS_RUNTIME_DIR", "NDISBUS_ENDPOINT"):
        monkeypatch.setenv(name, "")  # measure() sets them; this restores them in the end
    result = measure(40_000)
    assert result["blocks"] == 40_000
    # The second host and the control client were served meanwhile.
    assert result["small_host_median_s"] < 1
    assert result["control_longest_s"] < 5
