"""What netlink tells: the real kernel's answers, and answers made up where the real ones cannot be had."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from hoststack.inventory.facts import NO_MAC
from hoststack.inventory.kernel import Kernel, address_bytes, interface_name
from hoststack.inventory.tcp_info import read_socket

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has netlink")
LOCALHOST = bytes([127, 0, 0, 1])


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with Kernel() as made:
        yield made


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.4", "::1"])
def test_loopback_is_reached_over_the_loopback_interface(kernel: Kernel, address: str) -> None:
    route = kernel.route(address_bytes(address))
    assert route is not None
    assert route.local
    assert route.interface == "lo"
    assert route.gateway is None


def test_every_neighbor_has_an_address_and_a_link_address_of_6_bytes(kernel: Kernel) -> None:
    for neighbor in kernel.neighbors():
        assert len(neighbor.next_hop) in (4, 16)
        assert len(neighbor.mac) == 6
    assert kernel.route(LOCALHOST) is not None, "a later question is answered"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_a_connection_is_told_as_its_owner_reads_it(kernel: Kernel, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = "::" if address.startswith("::ffff") else address
    with (
        socket.create_server((bound, 0), family=family, dualstack_ipv6=bound == "::") as listener,
        socket.socket(family) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
        client.connect((address, listener.getsockname()[1]))
        server, _ = listener.accept()
        with server:
            client.sendall(b"x" * 100)
            assert len(server.recv(100, socket.MSG_WAITALL)) == 100
            here = address_bytes(client.getsockname()[0])
            end = (here, client.getsockname()[1], here, listener.getsockname()[1])
            told, read = dict(kernel.connections())[end], read_socket(client)
    assert told.info.snd_wscale != told.info.rcv_wscale
    same = ("state", "options", "snd_wscale", "rcv_wscale", "snd_mss", "rtt", "snd_cwnd", "rcv_wnd")
    assert [getattr(told.info, name) for name in same] == [getattr(read.info, name) for name in same]
    assert (told.options.rcvbuf, told.options.mtu) == (read.options.rcvbuf, read.options.mtu)
    assert (told.options.queued, told.options.unsent) == (0, 0)


class Messages:
    """Stands in for pyroute2's socket: gives the answers, or raises what it was given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    def route(self, _command: str, **question: Any) -> Any:
        self.asked.append(question)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer]

    def get_neighbours(self, family: int) -> Any:
        return [self.answer] if family == socket.AF_INET else []


class Answer(dict[str, Any]):
    """A message or an attribute with attributes; ``get`` looks for attributes, as pyroute2's does."""


def test_a_route_with_gateway_and_mtu(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Answer(type=1, RTA_OIF=1, RTA_GATEWAY="192.0.2.254", RTA_METRICS=Answer(RTAX_MTU=1400))
    monkeypatch.setattr(kernel, "_routes", Messages(answer))
    route = kernel.route(bytes([198, 51, 100, 7]))
    assert route is not None
    assert (route.interface, route.gateway, route.mtu, route.local) == (
        "lo",
        bytes([192, 0, 2, 254]),
        1400,
        False,
    )


def test_a_gateway_of_the_other_ip_version(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Answer(type=1, RTA_OIF=1, RTA_VIA={"family": socket.AF_INET6, "addr": "fe80::1"})
    monkeypatch.setattr(kernel, "_routes", Messages(answer))
    route = kernel.route(bytes([198, 51, 100, 7]))
    assert route is not None
    assert route.gateway == address_bytes("fe80::1")


def test_a_link_local_question_names_its_interface(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = Messages(Answer(type=1, RTA_OIF=1))
    monkeypatch.setattr(kernel, "_routes", messages)
    kernel.route(address_bytes("fe80::1"), "lo")
    assert messages.asked == [{"dst": "fe80::1", "oif": socket.if_nametoindex("lo")}]


def test_no_route_is_an_answer_and_any_other_refusal_an_error(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - only Linux has it

    monkeypatch.setattr(kernel, "_routes", Messages(NetlinkError(101, "unreachable")))
    assert kernel.route(LOCALHOST) is None
    monkeypatch.setattr(kernel, "_routes", Messages(NetlinkError(1, "not permitted")))
    with pytest.raises(PermissionError, match="not permitted"):
        kernel.route(LOCALHOST)


@pytest.mark.parametrize(("text", "mac"), [("02:fc:00:00:00:05", "02fc00000005"), ("192.0.2.1", "")])
def test_a_neighbor_with_the_age_of_its_confirmation(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, text: str, mac: str
) -> None:
    """A link address that is not of Ethernet (a tunnel's) counts as none."""
    answer = Answer(ifindex=1, state=2, NDA_DST="192.0.2.1", NDA_LLADDR=text)
    answer["NDA_CACHEINFO"] = {"ndm_confirmed": 250}
    monkeypatch.setattr(kernel, "_routes", Messages(answer))
    monkeypatch.setattr(os, "sysconf", lambda _name: 100)
    (neighbor,) = kernel.neighbors()
    assert (neighbor.next_hop, neighbor.interface, neighbor.state) == (bytes([192, 0, 2, 1]), "lo", 2)
    assert neighbor.mac == (bytes.fromhex(mac) or NO_MAC)
    assert neighbor.confirmed_ms == 2500


def test_an_index_without_an_interface_is_named_by_its_number() -> None:
    assert interface_name(2**31 - 1) == f"if{2**31 - 1}"


def test_a_system_without_netlink_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(OSError, match="no netlink sockets"):
        Kernel()
