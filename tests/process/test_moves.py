"""Connections of real processes between an initiate and its completion, which a fault delays."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from hoststack import Connection, ConnectionReset, LiveHost
from hoststack.model.operation import Operation
from tests.process.conftest import until
from tools.torture_stack import RealStack, leftovers, with_peer

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def stack() -> Iterator[RealStack]:
    with RealStack(with_peer()) as stack:
        yield stack


def offering(stack: RealStack, host: LiveHost, connection: Connection, seconds: float) -> Operation:
    """An initiate whose completion the bus keeps for a while, after the target has made it."""
    delay = {"Action": "delay", "Call": "NdisMInitiateOffloadComplete", "Driver": "target", "Times": 1}
    number = stack.control("fault.add", {**delay, "Delay": seconds})["Id"]
    operation = host.offload([connection], wait=False)

    def taken() -> bool:
        faults = stack.control("fault.list")["Faults"]
        return any(f["Id"] == number and f["Hits"] for f in faults)

    until(taken, "the target takes the connection")
    assert not operation.done
    return operation


def test_sends_complete_before_the_initiate_and_unread_data_is_read_once(stack: RealStack) -> None:
    """R-CONC-03: the remote end has answered and closed before the connection goes down with both."""
    with LiveHost.attach("early", stack.endpoint, timeout=20) as host:
        with host.connect(("10.77.0.2", 80), timeout=20) as web:
            web.sendall(b"GET /bytes/20000 HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n")
            until(lambda: web.socket.tcb.remote_closed, "the remote end closes")
            operation = offering(stack, host, web, 0.5)
            got = web.recv_all()
            assert operation.done
            assert len(got.partition(b"\r\n\r\n")[2]) == 20_000
        with host.connect(("10.77.0.2", 7), timeout=20) as echo:
            data = os.urandom(200_000)
            echo.sendall(data)
            operation = offering(stack, host, echo, 0.5)  # with what is not acknowledged yet
            assert echo.recv_exactly(len(data)) == data
            assert operation.succeeded
            assert host.driver.violations == 0
    stack.wait_for(lambda survey: not leftovers(survey), "the host left something")


@pytest.mark.parametrize("dies", ["target", "im"])
def test_a_death_while_the_completion_is_on_its_way_up_is_an_error_at_once(
    stack: RealStack, dies: str
) -> None:
    """The target receives and acknowledges, the host hears nothing of it, and then a driver is killed."""
    with LiveHost.attach("late", stack.endpoint, timeout=20) as host:
        connection = host.connect(("10.77.0.2", 19), timeout=20)
        connection.recv_exactly(10_000)
        operation = offering(stack, host, connection, 2.0)
        os.kill(stack.pid(dies), signal.SIGKILL)
        until(lambda: connection.socket.error is not None, "the error")
        connection.recv_exactly(connection.socket.available)
        with pytest.raises(ConnectionReset, match="offload adapter"):
            connection.recv(1)
        until(lambda: operation.done, "the initiate completes")
    stack.wait_for(lambda survey: not leftovers(survey), "the host left something")
