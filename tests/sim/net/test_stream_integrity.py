"""Whole streams between two stacks over bad links, and connections torn out of their machines meanwhile."""

from __future__ import annotations

import hashlib
import random
from ipaddress import ip_address

import pytest

from hoststack.net import Socket, SocketEvent, SocketOptions
from hoststack.net.errors import Unreachable
from ndisbus.ddi.tcp_enums import OFFLOADABLE_TCP_STATES
from ndisbus.state.images import TcpOffloadStateDelegated
from ndisbus.tcp.settings import TcpSettings
from ndisbus.wire.impair import Bursts, Impairments
from tests.support.net_world import Host, NetWorld


class End:
    """One end of a connection: sends what it was given, hashes what arrives, closes when it has sent all."""

    def __init__(self, rng: random.Random, size: int) -> None:
        self.rng = rng
        self.data = rng.randbytes(size)
        self.at = 0
        self.received = hashlib.sha256()
        self.count = 0
        self.socket: Socket | None = None
        self.ended = False
        self.lazy = rng.random() < 0.3

    def take(self, socket: Socket) -> None:
        self.socket = socket
        socket.on_event = self.on_event
        if socket.available:
            self.on_event(socket, SocketEvent.READABLE)
        if socket.tcb.remote_closed:
            self.on_event(socket, SocketEvent.REMOTE_CLOSED)
        self.pump()

    def on_event(self, socket: Socket, event: SocketEvent) -> None:
        if event in (SocketEvent.CONNECTED, SocketEvent.WRITABLE):
            self.pump()
        elif event is SocketEvent.READABLE and not self.lazy:
            self.drain()
        elif event is SocketEvent.REMOTE_CLOSED:
            self.lazy = False
            self.drain()

    def drain(self) -> None:
        assert self.socket is not None
        while data := self.socket.recv(self.rng.choice((100, 5000, None))):
            self.received.update(data)
            self.count += len(data)
        self.ended = self.socket.at_end

    def pump(self) -> None:
        assert self.socket is not None
        while self.at < len(self.data) and not self.socket.shut:
            piece = self.data[self.at : self.at + self.rng.randrange(1, 9000)]
            taken = self.socket.send(piece)
            self.at += taken
            if taken < len(piece):
                return
        if self.at == len(self.data):
            self.socket.shutdown()


def options(rng: random.Random) -> SocketOptions:
    return SocketOptions(
        timestamps=rng.random() < 0.6,
        sack=rng.random() < 0.6,
        window_scaling=rng.random() < 0.6,
        nagle=rng.random() < 0.5,
        mss=rng.choice((None, None, 200, 536, 1300)),
        rcvbuf=rng.choice((2_000, 8_000, 65_535, 300_000)),
        sndbuf=rng.choice((3_000, 16_000, 262_144)),
    )


def impairments(rng: random.Random) -> Impairments:
    if rng.random() < 0.15:
        return Impairments()
    return Impairments(
        loss=rng.choice((0.0, 0.01, 0.05, 0.2)),
        bursts=Bursts(0.01, 0.3) if rng.random() < 0.2 else None,
        corrupt=rng.choice((0.0, 0.0, 0.02)),
        duplicate=rng.choice((0.0, 0.0, 0.05)),
        delay=rng.choice((0.0, 0.001, 0.03)),
        jitter=rng.choice((0.0, 0.002)),
        reorder=rng.choice((0.0, 0.0, 0.1)),
        rate=rng.choice((None, None, 2e6)),
    )


def tear(world: NetWorld, host: Host, socket: Socket) -> None:
    """Take the connection out of its machine, through bytes, and let a new machine continue."""
    if socket.machine is None or socket.state not in OFFLOADABLE_TCP_STATES:
        return
    host.stack.detach(socket, world.now())
    socket.tcb.delegated = TcpOffloadStateDelegated.unpack_from(socket.tcb.delegated.pack())
    host.stack.flush()
    host.stack.attach(socket, world.now())


@pytest.mark.parametrize(
    "seed", [*range(40), *(pytest.param(s, marks=pytest.mark.soak) for s in range(40, 600))]
)
def test_every_byte_arrives_once_and_in_order_in_both_directions(seed: int) -> None:
    rng = random.Random(seed)
    world = NetWorld(seed)
    # Patient hosts: at 20 % loss five retransmissions in a row are lost now and then.
    settings = TcpSettings(fin_wait_2_ms=2_000_000, r2_ms=2_000_000)
    settings.parameters.tcp_maximum_retransmissions = 40
    a, b = (world.host(n, settings=settings, egress=impairments(rng)) for n in "ab")
    # What is tested is streams: who does not answer three ARP requests in a row is unreachable, rightly.
    for host, other, number in ((a, b, 2), (b, a, 1)):
        for own in (f"10.77.0.{number}", f"fd77::{number}"):
            packed = ip_address(own).packed
            entry = host.stack.neighbors.get(host.interface, packed)
            entry.heard(other.interface.mac, world.now())
            entry.confirm(world.now())
    ends = [End(rng, rng.choice((0, 1, 5_000, 60_000))) for _ in range(2)]
    listener = b.stack.tcp_listen(None, 7, options=options(rng))

    def accepted(_: object) -> None:
        socket = listener.accept()
        assert socket is not None
        ends[1].take(socket)

    listener.on_accept = accepted
    address = rng.choice(("10.77.0.2", "fd77::2"))
    client = a.stack.tcp_connect((address, 7), options=options(rng), on_event=ends[0].on_event)
    ends[0].socket = client
    # Silly window timers do not go with a connection (R-TMR-27): torn all the time, it may wait for ever.
    tears = rng.choice((0, 3, 20, 60))

    def done() -> bool:
        return all(e.ended for e in ends) or (not client.connected and client.error is not None)

    limit = 10_000.0
    step = rng.choice((0.01, 0.2))
    while not done() and limit > 0:
        world.run_until(done, step)
        limit -= step
        step = min(step * 1.02, 10.0)
        for host, end in zip((a, b), ends, strict=True):
            if end.socket is not None and not end.socket.error:
                if end.lazy and end.socket.available and rng.random() < 0.5:
                    end.drain()
                if tears and end.socket.connected and rng.random() < 0.5:
                    tears -= 1
                    tear(world, host, end.socket)
    assert done(), (client, client.error, ends[1].socket, a.stack.counters, b.stack.counters)
    if client.error is not None:
        # A burst swallowed the SYN and three questions about the neighbor: an orderly end.
        assert isinstance(client.error, Unreachable)
        assert ends[0].count == ends[1].count == 0
        return
    for mine, theirs in (ends, ends[::-1]):
        assert mine.received.digest() == hashlib.sha256(theirs.data).digest()
        assert mine.count == len(theirs.data)
    for end in ends:
        assert end.socket is not None
        end.socket.close()
    world.run(2500.0)
    for host in (a, b):
        assert not host.stack.transport.sockets
        assert all(not entry.users for entry in host.stack.paths)


@pytest.mark.parametrize("address", ["10.77.0.2", "fd77::2"])
def test_a_long_stream_each_way_at_once_at_five_percent_loss(address: str) -> None:
    world = NetWorld(9)
    bad = Impairments(loss=0.05, delay=0.001)
    a, b = world.host("a", egress=bad), world.host("b", egress=bad)
    rng = random.Random(1)
    ends = [End(rng, 1_000_000), End(rng, 1_000_000)]
    for end in ends:
        end.lazy = False
    listener = b.stack.tcp_listen(None, 7)
    listener.on_accept = lambda server: ends[1].take(server.accept())  # type: ignore[arg-type]
    ends[0].socket = a.stack.tcp_connect((address, 7), on_event=ends[0].on_event)
    assert world.run_until(lambda: all(e.ended for e in ends), 120.0)
    for mine, other in (ends, ends[::-1]):
        assert mine.received.digest() == hashlib.sha256(other.data).digest()
