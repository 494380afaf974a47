"""Defaults of a live host."""

from __future__ import annotations

from ipaddress import ip_interface

from hypothesis import given
from hypothesis import strategies as st

from hoststack.api.live import default_addresses


@given(st.text(max_size=30))
def test_default_addresses_follow_from_the_name_and_are_nobody_else_s(name: str) -> None:
    four, six = map(ip_interface, default_addresses(name))
    assert default_addresses(name) == (str(four), str(six))
    # The peer and the tour's host have the numbers below.
    assert 16 <= four.ip.packed[-1] < 240
    assert four.network == ip_interface("10.77.0.1/24").network
    assert six.network == ip_interface("fd77::1/64").network


def test_hosts_of_different_names_have_different_addresses() -> None:
    names = ("myhost", "livehost", "customhost", "host", "a", "b")
    assert len({default_addresses(n) for n in names}) == len(names)
