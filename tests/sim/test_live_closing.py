"""Live connections that are closed, reset or not read from while they are offloaded, or on their way."""

from __future__ import annotations

import random

import pytest

from hoststack.live.nethost import NetHost
from hoststack.model.objects import ConnectionState
from hoststack.model.operation import Operation
from hoststack.net.errors import ConnectionAborted
from hoststack.net.socket import Socket
from hoststack.net.socket_events import SocketEvent
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.wire.impair import Impairments
from tests.support.live_stack import LiveStack


def offload(stack: LiveStack, *sockets: Socket) -> None:
    operation = stack.act(lambda h: h.offload_sockets(sockets))
    stack.wait(lambda: operation.done)
    assert operation.succeeded, operation.counts()


def ready(seed: int = 1, *, impairments: Impairments | None = None) -> LiveStack:
    stack = LiveStack(seed, impairments=impairments)
    stack.ready()
    return stack


def nothing_is_left(stack: LiveStack) -> None:
    """Neither side has a trace of any connection."""
    stack.wait(lambda: not stack.host.offloaded_sockets.sockets, limit=300)
    stack.wait(lambda: not stack.host.stack.transport.sockets, limit=300)
    stack.wait(lambda: not stack.remote.stack.transport.sockets, limit=300)
    counters = stack.host.inspect()
    assert (counters["tcbs"], counters["offloaded"], counters["posted"]) == (0, 0, 0)
    assert not stack.host.offloaded_sockets
    assert stack.violations() == []


@pytest.mark.parametrize("abort", [False, True])
def test_what_is_closed_on_its_way_down_is_closed_when_it_is_there(abort: bool) -> None:
    stack = ready()
    socket = stack.connect("10.77.0.2", 7)
    stack.act(lambda _: socket.send(b"last words"))
    operation = stack.act(lambda h: h.offload_sockets([socket]))
    assert not operation.done
    stack.act(lambda _: socket.abort() if abort else socket.shutdown())
    stack.wait(lambda: operation.done)
    if not abort:
        stack.wait(lambda: socket.tcb.remote_closed)
        assert socket.recv() == b"last words"
        stack.act(lambda _: socket.close())
    nothing_is_left(stack)
    assert isinstance(socket.error, ConnectionAborted) == abort


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("remote_first", [False, True])
def test_what_was_closed_before_it_went_down_ends_there(remote_first: bool, seed: int) -> None:
    """Both sides are closed; the second one while the connection is on its way, or just before."""
    stack = ready(seed)
    socket = stack.connect("10.77.0.2", 80 if remote_first else 7)
    if remote_first:
        request = b"GET /bytes/1000 HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n"
        stack.act(lambda _: socket.send(request))
        stack.wait(lambda: socket.tcb.remote_closed)
    else:
        stack.act(lambda _: socket.send(b"last words"))

    def shut_and_offload(host: NetHost) -> Operation:
        socket.shutdown()
        return host.offload_sockets([socket])

    operation = stack.act(shut_and_offload)
    stack.wait(lambda: operation.done)
    stack.wait(lambda: socket.at_end or bool(socket.available))
    while socket.recv():
        stack.wait(lambda: socket.readable)
    stack.act(lambda _: socket.close())
    nothing_is_left(stack)
    assert socket.error is None


def test_a_reset_on_the_way_up_is_a_reset() -> None:
    stack = ready()
    socket = stack.connect("10.77.0.2", 7)
    offload(stack, socket)
    operation = stack.act(lambda h: h.upload_sockets([socket]))
    assert not operation.done
    stack.act(lambda _: socket.abort())
    stack.wait(lambda: operation.done)
    resets = stack.host.stack.tallies[4].tcp.out_resets
    nothing_is_left(stack)
    assert stack.host.stack.tallies[4].tcp.out_resets >= max(resets, 1)
    assert isinstance(socket.error, ConnectionAborted)


def test_a_connection_that_the_remote_closed_first_comes_home_when_it_is_closed_here() -> None:
    """R-DISC-16: the target keeps a closed connection until the host terminates it, so the host does."""
    stack = ready()
    socket = stack.connect("10.77.0.2", 80)
    seen: list[SocketEvent] = []
    socket.on_event = lambda _, event: seen.append(event)
    offload(stack, socket)
    stack.act(lambda _: socket.send(b"GET /bytes/9 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    stack.wait(lambda: socket.tcb.remote_closed)
    data = socket.recv()
    assert data is not None
    assert data.endswith(bytes(range(9)))
    stack.act(lambda _: socket.close())
    nothing_is_left(stack)
    assert socket.error is None
    assert seen[-1] is SocketEvent.CLOSED
    assert SocketEvent.FAILED not in seen
    assert socket.state is TcpOffloadConnectionState.TcpConnectionClosed


def test_a_connection_that_was_reset_while_it_was_offloaded_comes_home() -> None:
    """R-DISC-16: as for a FIN."""
    stack = ready()
    socket = stack.connect("10.77.0.2", 7)
    offload(stack, socket)
    stack.act(lambda _: socket.abort())
    nothing_is_left(stack)
    assert isinstance(socket.error, ConnectionAborted)


def test_a_reset_right_behind_a_fin_is_in_order() -> None:
    """The FIN is not acknowledged and never will be: SndMax lies beyond the data, and that does no harm."""
    stack = ready()
    socket = stack.connect("10.77.0.2", 7)
    offload(stack, socket)
    stack.act(lambda _: socket.shutdown())
    stack.act(lambda _: socket.abort())
    nothing_is_left(stack)
    assert isinstance(socket.error, ConnectionAborted)


def test_what_is_to_be_uploaded_before_it_is_down_brings_its_data_back() -> None:
    stack = ready()
    socket = stack.connect("10.77.0.2", 7)
    stack.act(lambda _: socket.send(b"unread"))
    stack.wait(lambda: socket.available == 6)
    down = stack.act(lambda h: h.offload_sockets([socket]))
    up = stack.act(lambda h: h.upload_sockets([socket]))
    assert not down.done
    stack.wait(lambda: up.done)
    assert socket.tcb.connection_state is ConnectionState.IN_HOST
    assert socket.recv() == b"unread"
    stack.act(lambda _: socket.close())
    nothing_is_left(stack)


def test_an_application_does_not_read_an_offloaded_connection_and_the_remote_end_stops() -> None:
    """R-IND-06: what the receive buffer does not hold is refused, and comes when it is asked for."""
    stack = ready(impairments=Impairments(delay=0.01))
    socket = stack.connect("10.77.0.2", 80)
    offload(stack, socket)
    size = 2_000_000
    request = f"GET /bytes/{size} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
    stack.act(lambda _: socket.send(request))
    stack.sim.run_for(20)
    kept = socket.available
    assert socket.options.rcvbuf <= kept < 2 * socket.options.rcvbuf
    stack.sim.run_for(20)
    assert socket.available == kept
    got = bytearray()

    def read() -> bool:
        got.extend(stack.act(lambda _: socket.recv(10_000)) or b"")
        assert socket.available < 3 * socket.options.rcvbuf
        return socket.at_end

    stack.wait(read, limit=300)
    body = bytes(got).partition(b"\r\n\r\n")[2]
    assert body == (bytes(range(256)) * (size // 256 + 1))[:size]
    stack.act(lambda _: socket.close())
    nothing_is_left(stack)


def test_data_for_a_closed_socket_resets_an_offloaded_connection_as_it_does_in_the_host() -> None:
    stack = ready(impairments=Impairments(delay=0.01))
    socket = stack.connect("10.77.0.2", 19)
    offload(stack, socket)
    stack.wait(lambda: socket.available > 10_000)
    stack.act(lambda _: socket.recv())
    stack.act(lambda _: socket.close())
    nothing_is_left(stack)
    assert isinstance(socket.error, ConnectionAborted)
    assert stack.remote.stack.counters["tcp: no connection"] == 0


@pytest.mark.parametrize("seed", range(6))
def test_data_of_a_disconnect_that_the_remote_end_has_in_part_is_not_sent_twice(seed: int) -> None:
    """R-DISC-10: the rest of it begins behind the bytes that the completion says were acknowledged."""
    stack = ready(seed, impairments=Impairments(delay=0.01))
    socket = stack.connect("10.77.0.2", 7)
    offload(stack, socket)
    data = random.Random(seed).randbytes(100_000)
    socket.shut = True
    stack.act(lambda h: h.disconnect(socket.tcb, data=data))
    stack.sim.run_for(0.03 + 0.02 * seed)
    up = stack.act(lambda h: h.upload_sockets([socket]))
    stack.wait(lambda: up.done)
    got = bytearray()

    def read() -> bool:
        got.extend(stack.act(lambda _: socket.recv()) or b"")
        return socket.at_end or socket.error is not None

    stack.wait(read, limit=300)
    assert socket.error is None
    assert bytes(got) == data
