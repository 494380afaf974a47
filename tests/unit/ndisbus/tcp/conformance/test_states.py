"""The states and what leads from one to the other, as RFC 9293 3.3.2 draws it; the diagram of docs/tcp.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from tests.unit.ndisbus.tcp.conformance.ladder import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    SYN_RCVD,
    SYN_SENT,
    TIME_WAIT,
    Endpoint,
)

PAGE: Final = Path(__file__).resolve().parents[5] / "docs/tcp.md"

NAMES: Final = {
    CLOSED: "CLOSED",
    SYN_SENT: "SYN_SENT",
    SYN_RCVD: "SYN_RCVD",
    ESTABLISHED: "ESTABLISHED",
    FIN_WAIT_1: "FIN_WAIT_1",
    FIN_WAIT_2: "FIN_WAIT_2",
    CLOSE_WAIT: "CLOSE_WAIT",
    CLOSING: "CLOSING",
    LAST_ACK: "LAST_ACK",
    TIME_WAIT: "TIME_WAIT",
}


def begin(state: State) -> Endpoint:
    """A connection in that state, whose remote end sends nothing by itself."""
    if state is SYN_SENT:
        return Endpoint.opening()
    if state is SYN_RCVD:
        return Endpoint.accepting()
    return Endpoint.in_state(state, parameters={"tcp_maximum_retransmissions": 3})


def fin_with_its_ack(end: Endpoint) -> None:
    end.gets("FA")


def fin_alone(end: Endpoint) -> None:
    end.gets("FA", ack=end.seen - 1)


def in_vain(end: Endpoint) -> None:
    if end.state in (ESTABLISHED, CLOSE_WAIT):
        end.send(1)
    end.wait(1_000_000)


def two_minutes(end: Endpoint) -> None:
    """The 120 s of FIN_WAIT_2: the user has closed both halves."""
    if end.state is FIN_WAIT_2:
        end.close()
    end.wait(120_000)


EVENTS: Final[dict[str, Callable[[Endpoint], None]]] = {
    "CLOSE": lambda end: end.shutdown(),
    "ABORT": lambda end: end.abort(),
    "RST": lambda end: end.gets(
        "RA" if end.state is SYN_SENT else "R", ack=1 if end.state is SYN_SENT else None
    ),
    "SYN": lambda end: end.gets("S", seq=0),
    "SYN,ACK": lambda end: end.gets("SA", seq=0, ack=1),
    "ACK of SYN": lambda end: end.gets("A", seq=1, ack=1),
    "ACK of FIN": lambda end: end.gets("A"),
    "FIN": fin_alone,
    "FIN with ACK of FIN": fin_with_its_ack,
    "no answer": in_vain,
    "120 s": two_minutes,
    "2 MSL": lambda end: end.wait(60_000),
}

MOVES: Final[dict[tuple[State, str], State]] = {
    (SYN_SENT, "SYN,ACK"): ESTABLISHED,
    (SYN_SENT, "SYN"): SYN_RCVD,
    (SYN_SENT, "CLOSE"): CLOSED,
    (SYN_SENT, "ABORT"): CLOSED,
    (SYN_SENT, "RST"): CLOSED,
    (SYN_SENT, "no answer"): CLOSED,
    (SYN_RCVD, "ACK of SYN"): ESTABLISHED,
    (SYN_RCVD, "ABORT"): CLOSED,
    (SYN_RCVD, "RST"): CLOSED,
    (SYN_RCVD, "no answer"): CLOSED,
    (ESTABLISHED, "CLOSE"): FIN_WAIT_1,
    (ESTABLISHED, "FIN"): CLOSE_WAIT,
    (ESTABLISHED, "ABORT"): CLOSED,
    (ESTABLISHED, "RST"): CLOSED,
    (ESTABLISHED, "no answer"): CLOSED,
    (FIN_WAIT_1, "ACK of FIN"): FIN_WAIT_2,
    (FIN_WAIT_1, "FIN"): CLOSING,
    (FIN_WAIT_1, "FIN with ACK of FIN"): TIME_WAIT,
    (FIN_WAIT_1, "ABORT"): CLOSED,
    (FIN_WAIT_1, "RST"): CLOSED,
    (FIN_WAIT_1, "no answer"): CLOSED,
    (FIN_WAIT_2, "FIN"): TIME_WAIT,
    (FIN_WAIT_2, "ABORT"): CLOSED,
    (FIN_WAIT_2, "RST"): CLOSED,
    (FIN_WAIT_2, "120 s"): CLOSED,
    (CLOSE_WAIT, "CLOSE"): LAST_ACK,
    (CLOSE_WAIT, "ABORT"): CLOSED,
    (CLOSE_WAIT, "RST"): CLOSED,
    (CLOSE_WAIT, "no answer"): CLOSED,
    (CLOSING, "ACK of FIN"): TIME_WAIT,
    (CLOSING, "ABORT"): CLOSED,
    (CLOSING, "RST"): CLOSED,
    (CLOSING, "no answer"): CLOSED,
    (LAST_ACK, "ACK of FIN"): CLOSED,
    (LAST_ACK, "ABORT"): CLOSED,
    (LAST_ACK, "RST"): CLOSED,
    (LAST_ACK, "no answer"): CLOSED,
    (TIME_WAIT, "ABORT"): CLOSED,
    (TIME_WAIT, "RST"): CLOSED,
    (TIME_WAIT, "2 MSL"): CLOSED,
}


@pytest.mark.parametrize(
    ("state", "event"), MOVES, ids=[f"{NAMES[state]}-{event}".replace(" ", "_") for state, event in MOVES]
)
def test_a_move(state: State, event: str) -> None:
    """RFC9293-3.3.2-STATES: each arrow of the state diagram."""
    end = begin(state)
    EVENTS[event](end)
    assert end.state is MOVES[state, event]


NOTHING: Final = [
    *(
        (state, "SYN")
        for state in (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT)
    ),
    *(
        (state, "SYN,ACK")
        for state in (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT)
    ),
    *((state, "CLOSE") for state in (SYN_RCVD, FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK, TIME_WAIT)),
    *((state, "FIN") for state in (SYN_SENT, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT)),
    *((state, "ACK of FIN") for state in (ESTABLISHED, FIN_WAIT_2, CLOSE_WAIT, TIME_WAIT)),
    *((state, "no answer") for state in (ESTABLISHED, CLOSE_WAIT)),
]
"""What leaves the state as it is; for "no answer" there is nothing to be answered here."""


@pytest.mark.parametrize(
    ("state", "event"), NOTHING, ids=[f"{NAMES[state]}-{event}".replace(" ", "_") for state, event in NOTHING]
)
def test_no_move(state: State, event: str) -> None:
    """RFC9293-3.3.2-STATES: what is not an arrow of the diagram changes nothing; an idle connection lasts."""
    end = begin(state)
    if event == "no answer":
        end.wait(1_000_000)
    else:
        EVENTS[event](end)
    end.expect_state(state)


def test_the_diagram_of_the_page() -> None:
    """RFC9293-3.3.2-STATES: docs/tcp.md shows these arrows and no others; the two OPENs begin it."""
    text = PAGE.read_text(encoding="utf-8")
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    drawn = {
        (before, event, after)
        for before, after, events in re.findall(r"^    (\w+) --> (\w+): (.*)$", diagram, re.MULTILINE)
        for event in events.split(", ")
    }
    opened = {
        ("CLOSED", "active OPEN", "SYN_SENT"),
        ("LISTEN", "SYN", "SYN_RCVD"),
        ("CLOSED", "passive OPEN", "LISTEN"),
    }
    assert drawn == {(NAMES[a], event, NAMES[b]) for (a, event), b in MOVES.items()} | opened
