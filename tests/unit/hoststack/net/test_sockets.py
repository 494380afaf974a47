"""The blocking sockets: what they wait for, and how clearly they say what went wrong."""

from __future__ import annotations

import pytest

from hoststack.api.sockets import (
    AddressInUse,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimedOut,
    NotConnected,
    SocketError,
    SocketOptions,
    SocketTimeout,
    Unreachable,
)
from ndisbus.errors import ChimneyError
from tests.support.net_world import Host, NetWorld


@pytest.fixture
def world() -> NetWorld:
    return NetWorld()


@pytest.fixture
def a(world: NetWorld) -> Host:
    return world.host("a")


@pytest.fixture
def b(world: NetWorld, a: Host) -> Host:
    return world.host("b")


@pytest.mark.parametrize("address", ["10.77.0.2", "fd77::2"])
def test_a_conversation(a: Host, b: Host, address: str) -> None:
    with b.network.listen(None, 7) as server, a.network.connect((address, server.port)) as client:
        assert client.remote == (address, 7)
        connection = server.accept()
        assert connection.remote == client.local
        with connection:
            client.sendall(b"ping")
            assert connection.recv_exactly(4) == b"ping"
            connection.sendall(b"p" + b"o" * 100_000)
            connection.shutdown()
            assert client.recv_all() == b"p" + b"o" * 100_000
        client.close()
        client.close()
        connection.wait_closed()
        client.wait_closed()


def test_iterating(a: Host, b: Host) -> None:
    server = b.network.listen(None, 7)
    client = a.network.connect(("10.77.0.2", 7))
    served = next(iter(server))
    served.sendall(b"abc")
    served.close()
    assert b"".join(client) == b"abc"
    assert client.recv() == b""


def test_sendall_waits_for_room_and_drain_for_the_acknowledgment(a: Host, b: Host) -> None:
    small = SocketOptions(rcvbuf=20_000, sndbuf=20_000)
    server = b.network.listen(None, 7, options=small)
    client = a.network.connect(("10.77.0.2", 7), options=small)
    served = server.accept()
    client.sendall(b"x" * 30_000)
    client.settimeout(5.0)
    with pytest.raises(SocketTimeout, match="could send nothing within 5 s"):
        client.sendall(b"x" * 30_000)
    with pytest.raises(SocketTimeout, match="not acknowledged within 5 s"):
        client.drain()
    assert served.recv(1 << 20)
    served.settimeout(1.0)
    while not served.socket.finished:
        try:
            served.recv()
        except SocketTimeout:
            break
    client.drain()
    assert client.socket.unacknowledged == 0


def test_refused(a: Host, b: Host) -> None:
    with pytest.raises(ConnectionRefused, match=r"10\.77\.0\.2:9: refused") as caught:
        a.network.connect(("10.77.0.2", 9))
    assert isinstance(caught.value, SocketError)
    assert isinstance(caught.value, ChimneyError)
    assert isinstance(caught.value, ConnectionRefusedError)


def test_nobody_there(world: NetWorld, a: Host) -> None:
    began = world.now()
    with pytest.raises(Unreachable, match=r"neighbor 10\.77\.0\.77 does not answer"):
        a.network.connect(("10.77.0.77", 9))
    assert world.now() - began == pytest.approx(3.0, abs=0.1)
    with pytest.raises(Unreachable, match=r"no route to 192\.0\.2\.1"):
        a.network.connect(("192.0.2.1", 9))
    with pytest.raises(Unreachable, match="does not answer"):
        a.network.ping("10.77.0.77")
    with pytest.raises(Unreachable, match="no route"):
        a.network.ping("192.0.2.1")


def deaf(host: Host) -> None:
    """Let a host hear nothing but ARP."""
    host.tap.change = lambda frame: frame if frame[12:14] == b"\x08\x06" else None


def test_an_attempt_has_the_applications_deadline_and_tcps_own(world: NetWorld, a: Host, b: Host) -> None:
    deaf(b)
    began = world.now()
    with pytest.raises(SocketTimeout, match=r"10\.77\.0\.2:9: no connection within 2 s"):
        a.network.connect(("10.77.0.2", 9), timeout=2.0)
    assert world.now() - began == pytest.approx(2.0, abs=0.01)
    assert not a.stack.transport.sockets
    with pytest.raises(ConnectionTimedOut, match="timed out"):
        a.network.connect(("10.77.0.2", 9), timeout=1000.0)
    with pytest.raises(SocketTimeout, match="no echo within 1 s"):
        a.network.ping("10.77.0.2", timeout=1.0)


def test_a_peer_that_falls_silent(world: NetWorld, a: Host, b: Host) -> None:
    server = b.network.listen(None, 7)
    client = a.network.connect(("10.77.0.2", 7), timeout=5.0)
    server.accept()
    deaf(b)
    client.sendall(b"hello?")
    with pytest.raises(SocketTimeout, match="received nothing within 5 s"):
        client.recv()
    client.settimeout(1000.0)
    with pytest.raises(ConnectionTimedOut, match="timed out"):
        client.recv()
    with pytest.raises(ConnectionTimedOut):
        client.sendall(b"anyone?")


def test_reset(a: Host, b: Host) -> None:
    server = b.network.listen(None, 7)
    client = a.network.connect(("10.77.0.2", 7))
    server.accept().abort()
    with pytest.raises(ConnectionReset, match=r"10\.77\.0\.2:7: reset by the peer"):
        client.recv()


def test_a_stream_that_ends_too_early(a: Host, b: Host) -> None:
    server = b.network.listen(None, 7)
    client = a.network.connect(("10.77.0.2", 7))
    served = server.accept()
    served.sendall(b"abc")
    served.close()
    with pytest.raises(NotConnected, match="ended 2 bytes before 5"):
        client.recv_exactly(5)


def test_nobody_connects_and_a_port_twice(a: Host) -> None:
    server = a.network.listen(None, 7, timeout=3.0)
    with pytest.raises(SocketTimeout, match="nobody connected within 3 s"):
        server.accept()
    with pytest.raises(AddressInUse):
        a.network.listen(None, 7)
    server.close()
    with pytest.raises(NotConnected):
        server.accept()


def test_a_ping_takes_the_time_it_takes(world: NetWorld, a: Host, b: Host) -> None:
    assert a.network.ping("10.77.0.2") == 0.0
    assert a.network.ping("fd77::2", size=5000) == 0.0
