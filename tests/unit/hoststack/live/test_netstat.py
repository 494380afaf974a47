"""The rows of netstat."""

from __future__ import annotations

import random

from hoststack.live.netstat import connections
from hoststack.net import Interface, NetStack
from ndisbus.tcp.settings import TcpSettings


def make() -> NetStack:
    stack = NetStack(TcpSettings(), random.Random(1))
    mac = bytes.fromhex("020000000001")
    stack.add_interface(
        Interface("eth0", mac, 1500, ["10.0.0.1/24", "fd00::1/64"], lambda _: None, announce=False)
    )
    return stack


def test_listeners_come_first_and_connections_by_their_ports() -> None:
    stack = make()
    stack.tcp_listen(None, 80)
    stack.tcp_listen("10.0.0.1", 8080)
    stack.tcp_connect(("fd00::2", 443), (None, 5001))
    stack.tcp_connect(("10.0.0.2", 443), (None, 5000))
    rows = connections(stack)
    assert [(r["LocalAddress"], r["LocalPort"], r["State"]) for r in rows] == [
        ("*", 80, "LISTENING"),
        ("10.0.0.1", 8080, "LISTENING"),
        ("10.0.0.1", 5000, "SYN_SENT"),
        ("fd00::1", 5001, "SYN_SENT"),
    ]
    assert {r["OffloadState"] for r in rows} == {"InHost"}
