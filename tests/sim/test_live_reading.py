"""Applications that read a live connection while it moves: every byte is read once, in order."""

from __future__ import annotations

import pytest

from hoststack.net.errors import ConnectionReset
from tests.support.live_stack import Flow, LiveStack


def stack_with_unread_data(seed: int = 1) -> tuple[LiveStack, Flow]:
    """A connection with 1,000 bytes in its receive buffer that the application has not read."""
    stack = LiveStack(seed)
    stack.ready()
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 1000, seed, lazy=True)
    stack.wait(lambda: flow.socket.available == 1000)
    return stack, flow


@pytest.mark.parametrize("first", [1, 400, 4096])
def test_unread_data_goes_down_with_its_connection_and_is_read_once(first: int) -> None:
    """The driver below delivers it once the connection is there; meanwhile it cannot be read."""
    stack, flow = stack_with_unread_data()
    socket = flow.socket
    operation = stack.act(lambda h: h.offload_sockets([socket]))
    assert not operation.done
    assert (socket.readable, socket.available) == (False, 0)
    assert stack.act(lambda _: socket.recv(first)) is None
    stack.wait(lambda: operation.done)
    assert operation.succeeded
    stack.wait(lambda: socket.available == 1000)
    stack.act(lambda _: flow.pull())
    flow.check()


def test_a_refused_connection_keeps_its_unread_data() -> None:
    """It was only copied, and the application is told that it can be read again."""
    stack, flow = stack_with_unread_data()
    socket = flow.socket
    stack.act(lambda h: h.disable_chimney())
    stack.wait(lambda: not stack.host.can_offload)
    flow.lazy = False
    operation = stack.act(lambda h: h.offload_sockets([socket]))
    stack.wait(lambda: operation.done)
    assert not operation.succeeded
    stack.wait(lambda: flow.done)
    flow.check()


def test_the_end_of_the_stream_is_not_read_before_the_data() -> None:
    """The remote host has closed, and its data was not read, when the connection goes down."""
    stack = LiveStack(1)
    stack.ready()
    socket = stack.connect("10.77.0.2", 80)
    stack.act(lambda _: socket.send(b"GET /bytes/1000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    stack.wait(lambda: socket.tcb.remote_closed)
    unread = socket.available
    assert unread > 1000
    operation = stack.act(lambda h: h.offload_sockets([socket]))
    assert not operation.done
    assert stack.act(lambda _: socket.recv()) is None
    assert not socket.at_end
    stack.wait(lambda: operation.done)
    assert operation.succeeded
    stack.wait(lambda: socket.readable)
    assert len(stack.act(lambda _: socket.recv())) == unread
    assert socket.recv() == b""


@pytest.mark.parametrize("seed", range(1, 31))
def test_reading_at_every_moment_of_a_move(seed: int) -> None:
    """What is read before, during and after each of six moves is what was sent."""
    stack = LiveStack(seed)
    stack.ready()
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 60_000, seed, lazy=seed % 2 == 0)
    for move in range(6):
        stack.sim.run_for(0.002 * (seed % 5))
        if move % 2 == 0:
            operation = stack.act(lambda h: h.offload_sockets([flow.socket]))
        else:
            operation = stack.act(lambda h: h.upload_sockets([flow.socket], idle=True))
        while not operation.done:
            stack.sim.step()
            if stack.sim.rng.random() < 0.2:
                stack.act(lambda _: flow.pull())
        assert operation.succeeded
    flow.lazy = False
    stack.act(lambda _: flow.pull())
    stack.wait(lambda: flow.done)
    flow.check()


@pytest.mark.parametrize("steps", range(0, 40, 3))
def test_a_death_is_not_taken_for_the_end_of_the_stream(steps: int) -> None:
    """The remote host has closed; its data is below when the target dies: that is an error."""
    stack = LiveStack(1)
    stack.ready()
    socket = stack.connect("10.77.0.2", 80)
    stack.act(lambda _: socket.send(b"GET /bytes/1000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    stack.wait(lambda: socket.tcb.remote_closed)
    unread = socket.available
    stack.act(lambda h: h.offload_sockets([socket]))
    for _ in range(steps):
        stack.sim.step()
    stack.sim.kill("target")
    stack.wait(lambda: not stack.host.can_offload)
    stack.sim.restart("target")
    stack.ready()
    got = b""
    try:
        while part := stack.act(lambda _: socket.recv()):
            got += part
    except ConnectionReset:
        assert len(got) in (0, unread)
    else:
        assert len(got) == unread


def test_a_refused_receive_does_not_keep_unread_data_below() -> None:
    """The request that would fetch the data fails; the connection is uploaded, and brings the data."""
    stack, flow = stack_with_unread_data()
    fault = {"Action": "fail", "Call": "NdisOffloadTcpReceive", "Status": "REQUEST_ABORTED", "Times": 2}
    stack.sim.control("fault.add", fault)
    flow.lazy = False
    operation = stack.act(lambda h: h.offload_sockets([flow.socket]))
    stack.wait(lambda: operation.done)
    assert operation.succeeded
    stack.wait(lambda: flow.done)
    flow.check()
