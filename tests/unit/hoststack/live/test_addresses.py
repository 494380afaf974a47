"""Default addresses of hosts."""

from __future__ import annotations

import random
from ipaddress import ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoststack.live.addresses import default_addresses
from hoststack.live.nethost import NetHost


@given(st.text(max_size=30), st.integers(0, 223))
def test_default_addresses_follow_from_the_name_and_keep_clear_of_the_procfile(
    name: str, attempt: int
) -> None:
    four, six = map(ip_interface, default_addresses(name, attempt))
    assert default_addresses(name, attempt) == (str(four), str(six))
    # The remote host and the tour's host have the numbers below.
    assert 16 <= four.ip.packed[-1] < 240
    assert str(six.ip) == f"fd77::{four.ip.packed[-1]}"
    assert four.network == ip_interface("10.77.0.1/24").network
    assert six.network == ip_interface("fd77::1/64").network


@given(st.text(max_size=30))
def test_the_attempts_of_a_host_go_through_all_addresses(name: str) -> None:
    assert len({default_addresses(name, i) for i in range(224)}) == 224


@pytest.mark.parametrize("addresses", ["10.77.0.20/24", ip_interface("10.77.0.20/24")])
def test_one_address_instead_of_a_list_is_named(addresses: Any) -> None:
    with pytest.raises(TypeError, match=r"^addresses is a list, such as \['10\.77\.0\.20/24'\]"):
        NetHost(addresses=addresses, rng=random.Random(1))
