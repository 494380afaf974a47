"""What idle connections cost: memory and timers."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from hoststack.net import Socket
from tests.support.net_world import NetWorld

#: Bytes per connection and end, all objects together, beyond its buffers.
LIMIT = 4096


def grown(count: int, address: str) -> float:
    """Open ``count`` connections that have been used and are idle now; bytes that each end of one takes."""
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    for host in (a, b):
        # The taps are not to remember a hundred thousand frames.
        host.tap.change = lambda frame, tap=host.tap: tap.sent.clear() or tap.received.clear() or frame
    accepted: list[Socket | None] = []
    listener = b.stack.tcp_listen(None, 7, backlog=count)
    listener.on_accept = lambda server: accepted.append(server.accept())
    clients = [a.stack.tcp_connect((address, 7))]
    world.run(1.0)

    def open_all(how_many: int) -> None:
        for at in range(0, how_many, 500):
            clients.extend(a.stack.tcp_connect((address, 7)) for _ in range(min(500, how_many - at)))
            world.run(0.1)

    gc.collect()
    tracemalloc.start(1)
    try:
        before = tracemalloc.get_traced_memory()[0]
        open_all(count)
        for client in clients:
            client.send(b"hello")
        world.run(1.0)
        for other in accepted:
            assert other is not None
            assert other.recv() == b"hello"
            other.send(b"hello yourself")
        world.run(2.0)
        assert all(c.recv() == b"hello yourself" for c in clients)
        world.run(60.0)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(accepted) == count + 1
    assert all(c.connected for c in clients)
    # Nothing is in flight and keepalive is off: nothing is due.
    assert a.stack.next_deadline() is None
    return (after - before) / count / 2


@pytest.mark.parametrize("address", ["10.77.0.2", "fd77::2"])
def test_an_idle_connection_takes_little_memory(address: str) -> None:
    assert grown(200, address) < LIMIT


@pytest.mark.soak
def test_ten_thousand_idle_connections_take_little_memory() -> None:
    assert grown(10_000, "10.77.0.2") < LIMIT
