"""Much at once on real processes, in a small version: ``tools/big_tree.py`` and ``tools/many_hosts.py``."""

from __future__ import annotations

import pytest

from tools import big_tree, many_hosts


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the variables that both set."""
    for name in ("NDISBUS_RUNTIME_DIR", "NDISBUS_ENDPOINT"):
        monkeypatch.setenv(name, "")


def test_a_list_in_parts_goes_down_and_up() -> None:
    result = big_tree.measure(40_000)
    assert result["blocks"] == 40_000
    # The second host and the control client were served meanwhile.
    assert result["small_host_median_s"] < 1
    assert result["control_longest_s"] < 5


def test_many_hosts_on_one_intermediate_driver() -> None:
    result = many_hosts.measure(hosts=14, processes=2, rounds=2, connections=5)
    assert len(result["round_s"]) == 2
    assert result["ps_lines"] < 90
