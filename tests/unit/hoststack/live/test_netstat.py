"""The rows of netstat."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hoststack.live.netstat import MOST_ROWS, answer, connections
from hoststack.net import Interface, NetStack
from ndisbus.errors import LocalProtocolError
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


def crowd(count: int) -> NetStack:
    stack = make()
    stack.tcp_listen(None, 80)
    for i in range(count):
        stack.tcp_connect(("10.0.0.2", 1 + i % 5), (None, 5000 + i // 5))
    return stack


def slices(stack: NetStack, **arguments: Any) -> list[dict[str, Any]]:
    found = [answer(stack, arguments)]
    while found[-1]["Next"] is not None:
        found.append(answer(stack, {**arguments, "After": found[-1]["Next"]}))
    return found


def test_slices_are_the_whole_list() -> None:
    stack = crowd(37)
    whole = connections(stack)
    for limit in (1, 7, 37, 38, 39, 500):
        found = slices(stack, Limit=limit)
        assert [r for s in found for r in s["Connections"]] == whole
        assert all(len(s["Connections"]) <= limit for s in found)
        assert found[0]["Total"] == found[0]["Matching"] == 38
        assert found[0]["States"] == {"LISTENING": 1, "SYN_SENT": 37}
        assert found[0]["OffloadStates"] == {"InHost": 38}


def test_an_answer_is_bounded() -> None:
    stack = crowd(MOST_ROWS + 50)
    assert [len(s["Connections"]) for s in slices(stack)] == [MOST_ROWS, 51]
    assert len(answer(stack, {"Limit": 10 * MOST_ROWS})["Connections"]) == MOST_ROWS


def test_rows_are_chosen_by_state() -> None:
    stack = crowd(12)
    [found] = slices(stack, State="LISTENING")
    assert [r["State"] for r in found["Connections"]] == ["LISTENING"]
    assert (found["Total"], found["Matching"]) == (13, 1)
    assert slices(stack, OffloadState="Offloaded")[0]["Connections"] == []


@pytest.mark.parametrize(
    "arguments",
    [{"After": 3}, {"After": [1]}, {"After": ["a", 1, "", "", 0]}, {"Limit": "x"}, {"Limit": -1}],
    ids=str,
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError, match="expected"):
        answer(crowd(3), arguments)
