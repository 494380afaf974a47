"""The blocking sockets: what they wait for, and how clearly they say what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest

from hoststack import (
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    AddressInUse,
    Connection,
    ConnectionRefused,
    ConnectionReset,
    ConnectionState,
    ConnectionTimedOut,
    LocalProtocolError,
    NotConnected,
    SocketError,
    SocketOptions,
    SocketTimeout,
    Unreachable,
)
from hoststack.api.scripts import drive
from hoststack.api.socket_scripts import send, send_all
from hoststack.net import Socket, SocketEvent
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
    with b.network.listen((None, 7)) as server, a.network.connect((address, 7)) as client:
        assert client.getpeername() == (address, 7)
        connection = server.accept()[0]
        assert connection.getpeername() == client.getsockname()
        with connection:
            client.sendall(b"ping")
            assert connection.recv_exactly(4) == b"ping"
            connection.sendall(b"p" + b"o" * 100_000)
            connection.shutdown(SHUT_WR)
            assert client.recv_all() == b"p" + b"o" * 100_000
        client.close()
        client.close()
        connection.wait_closed()
        client.wait_closed()


def test_iterating(a: Host, b: Host) -> None:
    server = b.network.listen((None, 7))
    client = a.network.connect(("10.77.0.2", 7))
    served = next(iter(server))
    served.sendall(b"abc")
    served.close()
    assert b"".join(client) == b"abc"
    assert client.recv() == b""


def test_sendall_waits_for_room_and_drain_for_the_acknowledgment(a: Host, b: Host) -> None:
    small = SocketOptions(rcvbuf=20_000, sndbuf=20_000)
    server = b.network.listen((None, 7), options=small)
    client = a.network.connect(("10.77.0.2", 7), options=small)
    served = server.accept()[0]
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


def test_no_host_there(world: NetWorld, a: Host) -> None:
    world.quiet()
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


def test_a_remote_end_that_falls_silent(world: NetWorld, a: Host, b: Host) -> None:
    server = b.network.listen((None, 7))
    client = a.network.connect(("10.77.0.2", 7), timeout=5.0)
    server.accept()[0]
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
    server = b.network.listen((None, 7))
    client = a.network.connect(("10.77.0.2", 7))
    server.accept()[0].abort()
    with pytest.raises(ConnectionReset, match=r"10\.77\.0\.2:7: reset by the remote end"):
        client.recv()


def test_a_stream_that_ends_too_early(a: Host, b: Host) -> None:
    server = b.network.listen((None, 7))
    client = a.network.connect(("10.77.0.2", 7))
    served = server.accept()[0]
    served.sendall(b"abc")
    served.close()
    with pytest.raises(NotConnected, match="the stream ended after 3 of 5 bytes"):
        client.recv_exactly(5)


def test_no_connection_comes_and_a_port_twice(a: Host) -> None:
    server = a.network.listen((None, 7), timeout=3.0)
    with pytest.raises(SocketTimeout, match="no connection within 3 s"):
        server.accept()[0]
    with pytest.raises(AddressInUse):
        a.network.listen((None, 7))
    server.close()
    with pytest.raises(NotConnected):
        server.accept()[0]


def test_a_ping_takes_the_time_it_takes(world: NetWorld, a: Host, b: Host) -> None:
    world.quiet()
    assert a.network.ping("10.77.0.2") == 0.0
    assert a.network.ping("fd77::2", size=5000) == 0.0


# -- as socket.socket ------------------------------------------------------------------------------


def pair(a: Host, b: Host) -> tuple[Connection, Connection]:
    """Both ends of a connection."""
    with b.network.listen(("", 7)) as server:
        client = a.network.connect(("10.77.0.2", 7))
        return client, server.accept()[0]


def test_names_of_the_ends(a: Host, b: Host) -> None:
    with b.network.listen(("10.77.0.2", 0)) as server:
        assert server.getsockname()[0] == "10.77.0.2"
        client = a.network.connect(server.getsockname(), source_address=("10.77.0.1", 4711))
        assert client.getsockname() == ("10.77.0.1", 4711)
        assert client.getpeername() == server.getsockname()
        served, address = server.accept()
        assert address == client.getsockname() == served.getpeername()
    assert b.network.listen(("", 9)).getsockname() == ("", 9)


def test_timeouts(a: Host, b: Host) -> None:
    client, served = pair(a, b)
    assert client.gettimeout() == 60.0
    client.settimeout(None)
    assert client.gettimeout() is None
    assert client.getblocking()
    served.sendall(b"x")
    assert client.recv(1) == b"x"
    client.setblocking(False)
    assert client.gettimeout() == 0.0
    assert not client.getblocking()
    with pytest.raises(BlockingIOError):
        client.recv(1)
    with pytest.raises(ValueError, match="-1"):
        client.settimeout(-1.0)


def test_a_timeout_of_none_waits_for_as_long_as_it_takes(world: NetWorld, a: Host, b: Host) -> None:
    deaf(b)
    began = world.now()
    with pytest.raises(ConnectionTimedOut, match="timed out"):
        a.network.connect(("10.77.0.2", 9), timeout=None)
    assert world.now() - began > 60.0


def test_shutting_down_one_direction_and_both(a: Host, b: Host) -> None:
    client, served = pair(a, b)
    client.shutdown(SHUT_WR)
    assert served.recv() == b""
    with pytest.raises(BrokenPipeError, match="sending side is closed"):
        client.sendall(b"more")
    served.sendall(b"still")
    assert client.recv_exactly(5) == b"still"
    client.shutdown(SHUT_RD)
    assert client.recv() == b""
    served.shutdown(SHUT_RDWR)
    assert served.recv() == b""
    with pytest.raises(BrokenPipeError):
        served.send(b"more")
    with pytest.raises(ValueError, match="SHUT_RD"):
        client.shutdown(3)


def test_send_and_recv_into(a: Host, b: Host) -> None:
    client, served = pair(a, b)
    assert client.send(memoryview(b"abc")) == 3
    buffer = bytearray(5)
    assert served.recv_into(buffer) == 3
    client.sendall(bytearray(b"defg"))
    assert served.recv_into(memoryview(buffer)[3:], 1) == 1
    assert buffer == b"abcd\0"
    client.close()
    assert served.recv_exactly(3) == b"efg"
    assert served.recv_into(buffer) == 0


def test_a_connection_that_was_closed_here_is_not_used_again(a: Host, b: Host) -> None:
    client, _ = pair(a, b)
    client.close()
    for use in (client.recv, lambda: client.sendall(b"x"), client.makefile, lambda: client.shutdown(SHUT_WR)):
        with pytest.raises(NotConnected, match="was closed by this program"):
            use()


def test_there_is_no_descriptor(a: Host, b: Host) -> None:
    client, _ = pair(a, b)
    assert "fileno" not in dir(client)
    with pytest.raises(OSError, match="fileno"):
        client.makefile("rb").fileno()


def test_files_keep_the_connection_open(a: Host, b: Host) -> None:
    client, served = pair(a, b)
    with client.makefile("rw", encoding="ascii", newline="\n") as file:
        client.close()
        file.write("one\ntwo\n")
        file.flush()
        lines = served.makefile("rb")
        assert lines.readline() == b"one\n"
        assert lines.readline() == b"two\n"
        served.sendall(b"three\n")
        assert file.readline() == "three\n"
        assert (client.socket.closed, client.files) == (False, 1)
    assert (client.socket.closed, client.files) == (True, 0)
    assert lines.read() == b""
    with pytest.raises(ValueError, match="not valid"):
        served.makefile("a")


def test_http_client_talks_through_a_connection(a: Host, b: Host) -> None:
    client, served = pair(a, b)
    served.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    http = HTTPConnection("remote")
    http.sock = client
    http.request("GET", "/")
    response = http.getresponse()
    assert (response.status, response.read()) == (200, b"hello")
    assert served.recv().startswith(b"GET / HTTP/1.1\r\n")
    http.close()
    assert client.socket.closed


def test_a_host_without_a_chimney_says_so(a: Host, b: Host) -> None:
    client, _ = pair(a, b)
    assert client.served_by is ConnectionState.IN_HOST
    with pytest.raises(LocalProtocolError, match="has no chimney"):
        client.offload()


def test_timeouts_below_zero_are_refused_before_anything_happens(a: Host, b: Host) -> None:
    for seconds in (-1.0, float("nan")):
        for use in (
            lambda: a.network.listen(("", 7), timeout=seconds),  # noqa: B023 - called at once
            lambda: a.network.connect(("10.77.0.2", 7), timeout=seconds),  # noqa: B023
            lambda: a.network.ping("10.77.0.2", timeout=seconds),  # noqa: B023
        ):
            with pytest.raises(ValueError, match="a timeout is None or at least 0 seconds"):
                use()
    a.network.listen(("", 7)).close()


def test_a_number_of_bytes_below_zero_is_refused(a: Host, b: Host) -> None:
    client, served = pair(a, b)
    served.sendall(b"abc")
    assert client.recv_exactly(1) == b"a"
    for use in (lambda: client.recv(-1), lambda: client.recv_exactly(-1), lambda: client.recv_into(b"", -1)):
        with pytest.raises(ValueError, match="at least 0, not -1"):
            use()
    assert client.recv() == b"bc"


def test_a_callback_sends_on_a_connection_that_was_reset_in_the_same_batch(a: Host, b: Host) -> None:
    """The data is told before the reset. Sending is neither possible then, nor tried again and again."""
    client, served = pair(a, b)
    found: list[str] = []

    def cannot_wait(done: Callable[[], object], seconds: float) -> bool:
        assert not done()
        raise LocalProtocolError("a callback cannot wait")

    def on_event(socket: Socket, event: SocketEvent) -> None:
        if event is SocketEvent.READABLE:
            for script in (send_all(socket, memoryview(b"answer"), 5), send(socket, b"answer", 5)):
                try:
                    drive(script, cannot_wait)
                except LocalProtocolError as error:
                    found.append(str(error))

    client.socket.on_event = on_event

    def send_and_reset() -> None:
        served.socket.send(b"question")
        b.stack.flush()
        served.socket.abort()

    b.network.act(send_and_reset)
    assert a.network.wait(lambda: client.socket.error, 5)
    assert found == ["a callback cannot wait"] * 2
    with pytest.raises(ConnectionReset):
        client.sendall(b"answer")


def test_a_number_of_bytes_of_zero_does_not_wait(a: Host, b: Host) -> None:
    with b.network.listen((None, 7)), a.network.connect(("10.77.0.2", 7)) as client:
        client.settimeout(0)
        assert client.recv(0) == b""


@pytest.mark.parametrize("port", [0, 70_000])
def test_a_port_out_of_range_is_named(a: Host, port: int) -> None:
    with pytest.raises(LocalProtocolError, match=rf"10\.77\.0\.2, port {port}: a TCP port is 1\.\.65535"):
        a.network.connect(("10.77.0.2", port))
    with pytest.raises(LocalProtocolError, match=r"own port 70000: a TCP port is 1\.\.65535, or 0"):
        a.network.connect(("10.77.0.2", 7), source_address=(None, 70_000))


@pytest.mark.parametrize(
    "address",
    ["10.77.0.2", ("10.77.0.2", "7"), ("10.77.0.2",), ("10.77.0.2", 7, 0), ("10.77.0.2", 7, 0, 0), (5, 7), 7],
)
def test_an_address_of_another_form_is_named(a: Host, address: Any) -> None:
    form = r" is a tuple \(host, port\), such as \('10\.77\.0\.2', 7\)"
    with pytest.raises(TypeError, match="^address" + form):
        a.network.connect(address)
    with pytest.raises(TypeError, match="^address" + form):
        a.network.listen(address)
    with pytest.raises(TypeError, match="^source_address" + form):
        a.network.connect(("10.77.0.2", 7), source_address=address)


def test_an_ipv6_address_may_have_four_elements(a: Host, b: Host) -> None:
    address: Any = ("fd77::2", 7, 0, 0)
    with b.network.listen(("::", 7)), a.network.connect(address) as client:
        assert client.getpeername() == ("fd77::2", 7)


def test_a_timeout_names_both_ends_of_the_connection(a: Host, b: Host) -> None:
    with b.network.listen((None, 7)), a.network.connect(("10.77.0.2", 7), timeout=5) as client:
        own, port = client.getsockname()
        with pytest.raises(SocketTimeout) as caught:
            client.recv()
        assert str(caught.value) == f"{own}:{port} -> 10.77.0.2:7: received nothing within 5 s"


def test_a_connection_that_is_closed_while_it_waits_says_so(
    a: Host, b: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread closes it while this one waits for more."""
    client, _ = pair(a, b)

    def recv(size: int) -> bytes:
        client.close()
        return b""

    monkeypatch.setattr(client, "recv", recv)
    with pytest.raises(NotConnected, match="closed by this program"):
        client.recv_exactly(5)
