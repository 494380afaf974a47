"""rtnetlink messages: the layout against bytes written out by hand, and the kernel's own answers."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoststack.inventory.netlink import (
    NetlinkError,
    RouteNetlink,
    messages,
    neighbor_request,
    parse_neighbor,
    parse_route,
    route_request,
)

# The layouts below are those of a little-endian machine; on another one the kernel's are others.
pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="bytes are written out in little endian")
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has rtnetlink")


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def test_requests_byte_by_byte() -> None:
    assert route_request(bytes([192, 0, 2, 1]), 5) == bytes.fromhex(
        "24000000 1a00 0100 05000000 00000000"  # nlmsghdr: 36 bytes, RTM_GETROUTE, NLM_F_REQUEST
        "02 20 00 00 00 00 00 00 00000000"  # rtmsg: AF_INET, 32 bits of destination
        "0800 0100 c0000201"  # RTA_DST
    )
    assert neighbor_request(6) == bytes.fromhex(
        "1c000000 1e00 0103 06000000 00000000"  # nlmsghdr: RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP
        "00 000000 00000000 0000 00 00"  # ndmsg: every family
    )


def test_a_link_local_question_names_its_interface() -> None:
    assert route_request(bytes(16), 1, 3).endswith(bytes.fromhex("0800 0400 03000000"))


def test_a_route_with_gateway_and_mtu() -> None:
    body = struct.pack("=8BI", socket.AF_INET, 32, 0, 0, 254, 0, 0, 1, 0)
    body += attribute(4, struct.pack("=I", 2)) + attribute(5, bytes([192, 0, 2, 254]))
    body += attribute(8, attribute(2, struct.pack("=I", 1400)))
    route = parse_route(body)
    assert (route.interface_index, route.gateway, route.mtu, route.local) == (
        2,
        bytes([192, 0, 2, 254]),
        1400,
        False,
    )


def test_an_on_link_route_and_a_local_one() -> None:
    on_link = struct.pack("=8BI", socket.AF_INET, 32, 0, 0, 254, 0, 0, 1, 0) + attribute(4, b"\2\0\0\0")
    local = struct.pack("=8BI", socket.AF_INET, 32, 0, 0, 255, 0, 0, 2, 0) + attribute(4, b"\1\0\0\0")
    assert (parse_route(on_link).gateway, parse_route(on_link).local) == (None, False)
    assert parse_route(local).local


def test_a_neighbor_with_the_age_of_its_confirmation() -> None:
    body = struct.pack("=BxxxiHBB", socket.AF_INET, 2, 0x02, 0, 1)
    body += attribute(1, bytes([192, 0, 2, 1])) + attribute(2, bytes.fromhex("02fc00000005"))
    body += attribute(3, struct.pack("=4I", 250, 1, 2, 3))
    neighbor = parse_neighbor(body, clock_ticks=100)
    assert neighbor is not None
    assert neighbor.address == bytes([192, 0, 2, 1])
    assert neighbor.link_address == bytes.fromhex("02fc00000005")
    assert (neighbor.interface_index, neighbor.state, neighbor.confirmed_ms) == (2, 2, 2500)


def test_a_bridges_entry_is_no_neighbor_of_ours() -> None:
    assert parse_neighbor(struct.pack("=BxxxiHBB", 7, 2, 0x02, 0, 1), clock_ticks=100) is None


@given(st.binary(max_size=120))
def test_whatever_arrives_is_read_or_refused_by_name(data: bytes) -> None:
    for read in (lambda: list(messages(data)), lambda: parse_route(data), lambda: parse_neighbor(data, 100)):
        with suppress(NetlinkError):  # any other exception fails the test
            read()


def test_a_message_that_is_cut_short_is_refused() -> None:
    whole = neighbor_request(1)
    assert [kind for kind, _sequence, _body in messages(whole + whole)] == [30, 30]
    with pytest.raises(NetlinkError, match="does not fit"):
        list(messages(whole[:-1]))
    with pytest.raises(NetlinkError, match="within a message header"):
        list(messages(whole + b"\0"))


@LINUX_ONLY
def test_the_kernel_sends_loopback_over_the_loopback_interface() -> None:
    with RouteNetlink() as netlink:
        for address in ("127.0.0.1", "127.0.0.4"):
            route = netlink.route(socket.inet_aton(address))
            assert route is not None
            assert route.local
            assert socket.if_indextoname(route.interface_index) == "lo"


@LINUX_ONLY
def test_the_neighbor_dump_ends_and_a_later_question_is_answered() -> None:
    with RouteNetlink() as netlink:
        for neighbor in netlink.neighbors():
            assert len(neighbor.address) in (4, 16)
        assert netlink.route(socket.inet_aton("127.0.0.1")) is not None
