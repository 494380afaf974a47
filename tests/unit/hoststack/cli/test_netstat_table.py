"""The table of ``hoststack netstat``."""

from __future__ import annotations

import json
import random
import time
from typing import Any, Self

import pytest
from click.testing import CliRunner

from hoststack.cli import netstat
from hoststack.cli.netstat import lines
from hoststack.live.netstat import connections
from hoststack.net import Interface, NetStack
from ndisbus.runtime.control_client import Refused
from ndisbus.tcp.settings import TcpSettings


def make() -> NetStack:
    stack = NetStack(TcpSettings(), random.Random(1))
    mac = bytes.fromhex("020000000001")
    stack.add_interface(
        Interface("eth0", mac, 1500, ["10.0.0.1/24", "fd00::1/64"], lambda _: None, announce=False)
    )
    return stack


def row(**members: object) -> dict[str, Any]:
    return {
        "Proto": "TCP",
        "LocalAddress": "10.77.0.1",
        "LocalPort": 60960,
        "ForeignAddress": "10.77.0.2",
        "ForeignPort": 7,
        "State": "ESTABLISHED",
        "OffloadState": "Offloaded",
        "SendQueue": 102400,
        "ReceiveQueue": 98765,
    } | members


def test_ipv6_addresses_are_shown_in_brackets() -> None:
    stack = make()
    stack.tcp_connect(("fd00::2", 443), (None, 5001))
    shown = "\n".join(lines(connections(stack)))
    assert "[fd00::1]:5001" in shown
    assert "[fd00::2]:443" in shown
    assert "Offload State" in shown


def test_lines_of_ipv4_connections_fit_eighty_columns() -> None:
    shown = lines([row(), row(LocalAddress="192.168.1.23", OffloadState="Offloading", State="CLOSE_WAIT")])
    assert " 98765 102400" in shown[1]
    assert max(map(len, shown)) <= 80
    assert len(set(map(len, shown))) == 1


class Bus:
    """Control requests to a bus with a target and one host that has ``count`` connections."""

    count = 0

    def __init__(self, endpoint: str | None) -> None:
        self.endpoint = endpoint
        self.asked: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def request(self, verb: str, arguments: dict[str, Any], *, command: str) -> Any:
        if verb == "ps":
            kinds = {"target": "miniport", "myhost": "protocol"}
            return {"Processes": [{"Name": n, "Kind": k, "State": "ready"} for n, k in kinds.items()]}
        if arguments["Name"] != "myhost" or not self.count or arguments["Command"] != "netstat":
            raise Refused("driver", f"{arguments['Name']}: unknown command {arguments['Command']}")
        at = arguments["Arguments"].get("After", [0])[0]
        end = min(at + min(arguments["Arguments"].get("Limit", 500), 500), self.count)
        return {
            "Connections": [row(LocalPort=i) for i in range(at, end)],
            "Next": [end] if end < self.count else None,
            "Total": self.count,
            "Matching": self.count,
            "States": {"ESTABLISHED": self.count},
            "OffloadStates": {"Offloaded": self.count},
            "Read": 0,
            "Statistics": {},
            "Counters": {},
        }


def shown(monkeypatch: pytest.MonkeyPatch, count: int, *arguments: str) -> str:
    monkeypatch.setattr(netstat, "ControlClient", Bus)
    monkeypatch.setattr(Bus, "count", count)
    result = CliRunner().invoke(netstat.netstat_command, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_first_connections_and_a_summary_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, 10_000)
    assert "myhost: 10,000 connections" in text
    assert "10,000 ESTABLISHED" in text
    assert "9,960 more; --all shows them" in text
    assert len(text.splitlines()) < 50
    assert max(map(len, text.splitlines())) <= 80


def test_all_are_shown_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()
    text = shown(monkeypatch, 10_000, "--all")
    assert len(text.splitlines()) == 10_000 + 4
    assert time.monotonic() - begun < 3  # a table of rich took 9 s


def test_json_has_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.loads(shown(monkeypatch, 1234, "--json"))["myhost"]
    assert [c["LocalPort"] for c in answer["Connections"]] == list(range(1234))
    assert answer["Total"] == 1234


def test_a_driver_without_a_network_stack_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netstat, "ControlClient", Bus)
    result = CliRunner().invoke(netstat.netstat_command, ["target"])
    assert result.exit_code == 1
    assert "'target' has no network stack; protocol drivers on the bus: myhost" in result.stderr
