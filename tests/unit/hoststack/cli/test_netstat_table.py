"""The table of ``hoststack netstat``."""

from __future__ import annotations

import io
import random
from typing import Any, Self

import pytest
from click.testing import CliRunner
from rich.console import Console

from hoststack.cli import netstat
from hoststack.cli.netstat import table
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


def test_the_table_shows_ipv6_addresses_in_brackets() -> None:
    stack = make()
    stack.tcp_connect(("fd00::2", 443), (None, 5001))
    out = io.StringIO()
    Console(file=out, width=120).print(table(connections(stack)))
    assert "[fd00::1]:5001" in out.getvalue()
    assert "[fd00::2]:443" in out.getvalue()
    assert "Offload State" in out.getvalue()


def test_queues_are_shown_to_the_last_digit_on_a_narrow_terminal() -> None:
    rows = connections(make())
    rows.append(
        {
            "Proto": "TCP",
            "LocalAddress": "fd77::31",
            "LocalPort": 60960,
            "ForeignAddress": "fd77::2",
            "ForeignPort": 7,
            "State": "ESTABLISHED",
            "OffloadState": "Offloaded",
            "SendQueue": 102400,
            "ReceiveQueue": 98765,
        }
    )
    out = io.StringIO()
    Console(file=out, width=80).print(table(rows))
    assert " 98765 102400" in out.getvalue()


class Bus:
    """Control requests to a bus with a target and one host."""

    def __init__(self, endpoint: str | None) -> None:
        self.endpoint = endpoint

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def request(self, verb: str, arguments: dict[str, Any], *, command: str) -> Any:
        if verb == "ps":
            kinds = {"target": "miniport", "myhost": "protocol"}
            return {"Processes": [{"Name": n, "Kind": k, "State": "ready"} for n, k in kinds.items()]}
        raise Refused("driver", f"{arguments['Name']}: unknown command {arguments['Command']}")


def test_a_driver_without_a_network_stack_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netstat, "ControlClient", Bus)
    result = CliRunner().invoke(netstat.netstat_command, ["target"])
    assert result.exit_code == 1
    assert "'target' has no network stack; protocol drivers on the bus: myhost" in result.stderr
