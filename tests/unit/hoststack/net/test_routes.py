"""Routes: the longest prefix wins."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from hoststack.net.interface import Interface
from hoststack.net.routes import Route, RoutingTable

ETH = Interface("eth0", b"\x02\0\0\0\0\1", 1500, ["10.0.0.1/8"], lambda frames: None)


def route(network: str, gateway: str | None = None) -> Route:
    return Route(ip_network(network), ETH, None if gateway is None else ip_address(gateway).packed)


def lookup(table: RoutingTable, address: str) -> str | None:
    found = table.lookup(ip_address(address).packed)
    return None if found is None else str(found.network)


def test_the_longest_prefix_wins_whatever_the_order() -> None:
    networks = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.77.0.0/16",
        "10.77.3.0/24",
        "10.77.3.9/32",
        "fd77::/64",
        "::/0",
    ]
    for order in (networks, networks[::-1]):
        table = RoutingTable()
        for network in order:
            table.add(route(network))
        assert lookup(table, "10.77.3.9") == "10.77.3.9/32"
        assert lookup(table, "10.77.3.8") == "10.77.3.0/24"
        assert lookup(table, "10.77.4.8") == "10.77.0.0/16"
        assert lookup(table, "10.1.2.3") == "10.0.0.0/8"
        assert lookup(table, "192.0.2.1") == "0.0.0.0/0"
        assert lookup(table, "fd77::5") == "fd77::/64"
        assert lookup(table, "2001:db8::1") == "::/0"
        assert len(list(table)) == len(networks)


def test_without_a_route_there_is_none() -> None:
    table = RoutingTable()
    table.add(route("10.77.0.0/24"))
    assert lookup(table, "10.78.0.1") is None
    assert lookup(table, "fd77::1") is None


def test_a_removed_route_uncovers_the_shorter_one_and_one_to_the_same_network_replaces() -> None:
    table = RoutingTable()
    short, long = route("10.0.0.0/8"), route("10.77.0.5/32", "10.0.0.9")
    table.add(short)
    table.add(long)
    found = table.lookup(ip_address("10.77.0.5").packed)
    assert found is long
    assert found.next_hop(ip_address("10.77.0.5").packed) == ip_address("10.0.0.9").packed
    replacement = route("10.77.0.5/32")
    table.add(replacement)
    assert table.lookup(ip_address("10.77.0.5").packed) is replacement
    with pytest.raises(KeyError):
        table.remove(long)
    table.remove(replacement)
    assert lookup(table, "10.77.0.5") == "10.0.0.0/8"


def test_a_connected_network_is_its_own_next_hop() -> None:
    address = ip_address("10.1.1.1").packed
    assert route("10.0.0.0/8").next_hop(address) == address
