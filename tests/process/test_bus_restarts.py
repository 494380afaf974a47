"""The bus is killed under many hosts of one program: connections in the host go on, the others fail once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial

import pytest

from hoststack import BusUnavailable, Connection, ConnectionReset, LiveHost
from hoststack.model.events import Violation
from tests.process.conftest import until
from tools.torture_stack import RealStack, leftovers, with_peer

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a death is noticed by a pidfd"),
]

HOSTS = 6
KILLS = 2


@pytest.fixture(scope="module")
def stack() -> Iterator[RealStack]:
    with RealStack(with_peer()) as stack:
        yield stack


def echo(connection: Connection, text: bytes) -> None:
    connection.sendall(text)
    assert connection.recv_exactly(len(text)) == text


def _is_replaced(stack: RealStack, old: int) -> bool:
    with suppress(BusUnavailable, FileNotFoundError):
        return bool(stack.ps(2.0)["Processes"]) and stack.pid("bus") != old
    return False


@pytest.mark.parametrize("threaded", [True, False], ids=["threads", "one thread"])
def test_many_hosts_over_restarts_of_the_bus(stack: RealStack, threaded: bool) -> None:
    """Hosts without a thread of their own look only now and then: the next bus is there before they do."""
    with ExitStack() as exits:
        hosts = [
            exits.enter_context(
                LiveHost.attach(
                    f"h{i}",
                    stack.endpoint,
                    addresses=[f"10.77.0.{100 + i}/24"],
                    threaded=threaded,
                    timeout=30,
                )
            )
            for i in range(HOSTS)
        ]
        violations: list[Violation] = []
        for host in hosts:
            host.driver.events.subscribe(Violation, violations.append)
        kept = [host.connect(("10.77.0.2", 7)) for host in hosts]
        for connection in kept:
            connection.settimeout(30)
        for kill in range(KILLS):
            moved = [host.connect(("10.77.0.2", 7)) for host in hosts]
            for host, connection in zip(hosts, moved, strict=True):
                connection.settimeout(30)
                host.offload([connection], timeout=30)
                echo(connection, b"offloaded")
            old = stack.pid("bus")
            assert stack.signal("bus", (signal.SIGKILL, signal.SIGTERM)[kill % 2]) == old
            if not threaded:
                until(partial(_is_replaced, stack, old), "the next bus")
            for connection in moved:
                with pytest.raises(ConnectionReset, match="connection lost: "):
                    connection.recv(1)
                connection.close()
            for host, connection in zip(hosts, kept, strict=True):
                host.wait_bound(30)
                echo(connection, b"in the host %d" % kill)
        assert violations == []
        for connection in kept:
            connection.close()
    until(lambda: not leftovers(stack.ps()), "something is left")
    assert not [line for line in stack.log_lines() if "Traceback" in line]
