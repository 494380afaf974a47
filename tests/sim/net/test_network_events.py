"""Two stacks while the network changes around them: narrow paths, other routes, neighbors that vanish."""

from __future__ import annotations

import hashlib
import random
import socket

import pytest

from hoststack import (
    Connection,
    ConnectionRefused,
    ConnectionTimedOut,
    SocketError,
    SocketTimeout,
    Unreachable,
)
from hoststack.net import SocketOptions
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.wire.impair import Impairments
from tests.support.net_router import Router
from tests.support.net_world import Host, NetWorld

FAR, FAR6 = "192.0.2.9", "2001:db8::9"


def pair(
    world: NetWorld, here: Host, there: Host, address: str, port: int = 7
) -> tuple[Connection, Connection]:
    """A connection from one host to another, both ends."""
    server = there.network.listen((None, port))
    client = here.network.connect((address, port))
    served = server.accept()[0]
    server.close()
    return client, served


def exchange(client: Connection, served: Connection, size: int = 60_000) -> None:
    """Data each way, which must be the same at the other end."""
    data = random.Random(size).randbytes(size)
    for sender, receiver in ((client, served), (served, client)):
        sender.sendall(data)
        assert hashlib.sha256(receiver.recv_exactly(size)).digest() == hashlib.sha256(data).digest()


def routed(world: NetWorld, router: Router, *, mtu: int | None = None) -> tuple[Host, Host]:
    """A host on the segment, and one behind the router."""
    a = world.host("a")
    b = world.host("b", addresses=[f"{FAR}/24", f"{FAR6}/64"], mtu=mtu)
    for network, gateway in (("0.0.0.0/0", "10.77.0.254"), ("::/0", "fd77::fe")):
        a.stack.add_route(network, a.interface, gateway)
    b.stack.add_route("10.77.0.0/24", b.interface)
    b.stack.add_route("fd77::/64", b.interface)
    # What comes back takes the router as well.
    b.stack.add_route("10.77.0.1/32", b.interface, "10.77.0.254")
    b.stack.add_route("fd77::1/128", b.interface, "fd77::fe")
    for address, host in ((FAR, b), (FAR6, b), ("10.77.0.1", a), ("fd77::1", a)):
        router.knows(address, host.interface.mac)
    return a, b


@pytest.mark.parametrize("address", [FAR, FAR6])
@pytest.mark.parametrize("mtu", [1280, 1300, 1499])
def test_a_narrow_path_is_found_out_and_everything_gets_through(address: str, mtu: int) -> None:
    world = NetWorld()
    router = Router(world, mtu=mtu)
    a, b = routed(world, router)
    client, served = pair(world, a, b, address)
    exchange(client, served)
    assert router.largest <= mtu
    for connection in (client, served):
        assert connection.socket.tcb.path.cached.path_mtu == mtu
    assert client.socket.tcb.delegated.retransmit_count == 0


@pytest.mark.parametrize("old", [False, True])
def test_a_very_narrow_path_of_ipv4(old: bool) -> None:
    """RFC1191-3-FLOOR: DF is cleared, and the router cuts the packets.

    Also with a router that does not tell its MTU (RFC 1191 section 5).
    """
    world = NetWorld()
    router = Router(world, mtu=296)
    router.old = old
    a, b = routed(world, router)
    client, served = pair(world, a, b, FAR)
    exchange(client, served, 10_000)
    assert client.socket.path_entry.mtu == 552
    assert client.socket.path_entry.fragmentable
    assert router.fragments > 40
    assert client.socket.tcb.delegated.retransmit_count == 0


def test_a_path_that_becomes_narrow_in_the_middle_of_a_stream() -> None:
    world = NetWorld()
    router = Router(world)
    a, b = routed(world, router)
    client, served = pair(world, a, b, FAR)
    exchange(client, served, 50_000)
    router.mtu, router.largest = 576, 0
    exchange(client, served, 50_001)
    assert router.largest == 576
    router.mtu = 1500
    world.run(601.0)
    router.largest = 0
    exchange(client, served, 50_000)
    assert router.largest == 1500, "a learned MTU is forgotten after ten minutes"


def test_a_black_hole_is_a_timeout() -> None:
    """There is no packetization layer path MTU discovery (RFC 4821): a silent router is not seen through."""
    world = NetWorld()
    router = Router(world, mtu=1000)
    router.silent = True
    a, b = routed(world, router)
    client, _ = pair(world, a, b, FAR)
    client.sendall(b"x" * 5000)
    client.settimeout(1000.0)
    with pytest.raises(ConnectionTimedOut):
        client.recv()


def test_a_mix_of_mtus_on_one_segment() -> None:
    world = NetWorld(mtu=9000)
    a, b = world.host("a"), world.host("b", mtu=1280)
    client, served = pair(world, a, b, "fd77::2")
    exchange(client, served)
    assert client.socket.tcb.const.remote_mss == 1220


def test_a_redirect_in_the_middle_of_a_stream() -> None:
    world = NetWorld()
    first, second = Router(world), Router(world, number=253)
    a, b = routed(world, first)
    for address, host in ((FAR, b), ("10.77.0.1", a)):
        second.knows(address, host.interface.mac)
    client, served = pair(world, a, b, FAR)
    exchange(client, served, 20_000)
    before = first.forwarded
    first.redirect_to = second.addresses[0]
    exchange(client, served, 40_000)
    assert client.socket.path_entry.hop.address == second.addresses[0]
    assert second.forwarded > 10
    # The other host has no address on the second router's network, and believes no redirect to it.
    assert first.forwarded > before
    second.down, first.redirect_to = True, None
    exchange(client, served, 1000)
    assert client.socket.path_entry.hop.address == first.addresses[0], "back to the first one"


def test_unreachable_messages_of_a_router() -> None:
    world = NetWorld()
    router = Router(world)
    a, _ = routed(world, router)
    router.unreachable = 1
    with pytest.raises(SocketTimeout, match="last heard: host unreachable"):
        a.network.connect((FAR, 7), timeout=10.0)
    with pytest.raises(Unreachable, match="host unreachable; gave up"):
        a.network.connect((FAR, 7), timeout=1000.0)
    router.unreachable = 13
    began = world.now()
    with pytest.raises(Unreachable, match="administratively prohibited"):
        a.network.connect((FAR, 7))
    assert world.now() - began < 0.1


def test_a_neighbor_that_is_gone_for_a_while_and_comes_back_with_another_address() -> None:
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    client, served = pair(world, a, b, "10.77.0.2")
    exchange(client, served, 10_000)
    b.tap.change = lambda frame: None
    client.sendall(b"are you there?")
    world.run(9.0)
    assert client.socket.unacknowledged
    b.tap.change = None
    b.stack.replug(b.interface, bytes.fromhex("0200000000bb"), 1500)
    assert served.recv_exactly(14) == b"are you there?"
    exchange(client, served, 10_000)
    assert client.socket.tcb.path.neighbor.cached.dl_destination_address == bytes.fromhex("0200000000bb")


@pytest.mark.parametrize("address", ["10.77.0.2", "fd77::2"])
def test_a_neighbor_that_is_gone_for_good(address: str) -> None:
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    client, _ = pair(world, a, b, address)
    b.tap.change = lambda frame: None
    client.sendall(b"are you there?")
    client.settimeout(1000.0)
    with pytest.raises(Unreachable, match=f"neighbor {address} does not answer"):
        client.recv()
    assert not a.stack.transport.sockets


def test_more_clients_than_the_backlog_takes_are_all_served_in_the_end() -> None:
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    server = b.network.listen((None, 7), backlog=4)
    clients = [a.stack.tcp_connect(("10.77.0.2", 7)) for _ in range(40)]
    world.run(0.5)
    assert server.listener.full
    assert server.listener.overflows > 0
    served = 0
    for _ in range(40):
        with server.accept()[0] as connection:
            connection.sendall(b"hello")
            served += 1
        world.run(0.1)
    world.run(5.0)
    assert served == 40
    assert [c.recv() for c in clients] == [b"hello"] * 40


def test_a_thousand_connections_that_come_and_go_leave_nothing() -> None:
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    listener = b.stack.tcp_listen(None, 7, backlog=1000)
    clients = [a.stack.tcp_connect((("10.77.0.2", "fd77::2")[i % 2], 7)) for i in range(1000)]
    assert world.run_until(lambda: len(listener.ready) == 1000, 20.0)
    assert len({c.local[1] for c in clients[::2]}) == 500
    others = [listener.accept() for _ in clients]
    for client in clients:
        client.send(b"x" * 100)
    world.run(1.0)
    for other in others:
        assert other is not None
        assert other.recv() == b"x" * 100
        other.close()
    world.run(1.0)
    for client in clients:
        client.close()
    world.run(200.0)
    assert not a.stack.transport.sockets
    assert not b.stack.transport.sockets
    assert a.stack.next_deadline() is None or len(a.stack.timers) < 100


def test_simultaneous_open() -> None:
    """RFC 9293 3.5 figure 7: two active opens become one connection."""
    world = NetWorld()
    slow = Impairments(delay=0.05)
    a, b = world.host("a", egress=slow), world.host("b", egress=slow)
    a.network.ping("10.77.0.2")
    b.network.ping("10.77.0.1")
    one = a.stack.tcp_connect(("10.77.0.2", 5000), (None, 6000))
    two = b.stack.tcp_connect(("10.77.0.1", 6000), (None, 5000))
    assert world.run_until(lambda: one.connected and two.connected, 5.0)
    one.send(b"to b")
    two.send(b"to a")
    world.run(1.0)
    assert (two.recv(), one.recv()) == (b"to b", b"to a")


def test_simultaneous_close() -> None:
    """RFC 9293 3.6 figure 13."""
    world = NetWorld()
    slow = Impairments(delay=0.05)
    a, b = world.host("a", egress=slow), world.host("b", egress=slow)
    client, served = pair(world, a, b, "10.77.0.2")
    client.socket.shutdown()
    served.socket.shutdown()
    world.run(0.5)
    assert client.socket.state is State.TcpConnectionTimeWait
    assert served.socket.state is State.TcpConnectionTimeWait
    assert client.recv() == served.recv() == b""


def test_zero_windows_open_again() -> None:
    """The persist algorithm: a reader that pauses for minutes, and whose window update is lost."""
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    client, served = pair(world, a, b, "10.77.0.2")
    client.socket.send(b"x" * 262_144)
    world.run(5.0)
    assert served.socket.available == 262_144
    assert client.socket.send(b"y" * 50_000) == 50_000
    world.run(300.0)
    b.tap.change = lambda frame: None
    assert served.socket.recv() == b"x" * 262_144
    world.run(0.1)
    b.tap.change = None
    assert served.socket.recv() is None
    served.settimeout(100.0)
    assert served.recv_exactly(50_000) == b"y" * 50_000


def test_keepalive_finds_a_dead_remote_host_and_keeps_a_living_one() -> None:
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    server = b.network.listen((None, 7))
    options = SocketOptions(keepalive=True, keep_idle=60.0, keep_interval=5.0, keep_count=3)
    client = a.network.connect(("10.77.0.2", 7), options=options)
    server.accept()[0]
    world.run(3600.0)
    assert client.socket.error is None
    b.tap.change = lambda frame: frame if frame[12:14] == b"\x08\x06" else None
    client.settimeout(120.0)
    with pytest.raises(SocketError) as caught:
        client.recv()
    assert isinstance(caught.value, (ConnectionTimedOut, Unreachable))


def test_a_crashed_remote_host_answers_with_a_reset() -> None:
    """RFC 9293 3.5.1: half-open connections."""
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    client, served = pair(world, a, b, "10.77.0.2")
    b.stack.transport.forget(served.socket)
    client.sendall(b"still there?")
    with pytest.raises(SocketError, match="reset by the remote end"):
        client.recv()
    with pytest.raises(ConnectionRefused):
        a.network.connect(("10.77.0.2", 7))


def test_two_runs_of_one_seed_are_the_same_to_the_byte() -> None:
    def frames() -> list[bytes]:
        world = NetWorld(5)
        bad = Impairments(loss=0.1, delay=0.001, jitter=0.002)
        a, b = world.host("a", egress=bad), world.host("b", egress=bad)
        client, served = pair(world, a, b, "fd77::2")
        exchange(client, served, 30_000)
        return [*a.tap.sent, *b.tap.sent]

    assert frames() == frames()


def test_connections_on_a_vlan() -> None:
    world = NetWorld()
    a, b, c = world.host("a", vlan_id=5), world.host("b", vlan_id=5), world.host("c", vlan_id=6)
    client, served = pair(world, a, b, "10.77.0.2")
    exchange(client, served, 10_000)
    assert {frame[12:16] for frame in a.tap.sent} == {b"\x81\0\0\5"}
    with pytest.raises(Unreachable):
        c.network.connect(("10.77.0.1", 7))


def test_an_outage_of_a_minute_and_a_half_ends_no_connection() -> None:
    """RFC9293-SHLD-11: both hosts are sending when the cable is cut, and R2 is 100 s."""
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    client, served = pair(world, a, b, "10.77.0.2")
    exchange(client, served, 1000)
    for host in (a, b):
        host.tap.change = lambda frame: None
    client.sendall(b"there")
    served.sendall(b"back")
    world.run(90.0)
    for host in (a, b):
        host.tap.change = None
    world.run(80.0)
    assert served.recv_exactly(5) == b"there"
    assert client.recv_exactly(4) == b"back"
    exchange(client, served, 1000)


def test_a_half_closed_connection_answers_after_an_hour() -> None:
    """RFC9293-3.6.1-FW2: a request, its end, and a reply that takes an hour to compute."""
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    client, served = pair(world, a, b, "10.77.0.2")
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert served.recv_exactly(8) == b"question"
    assert served.recv() == b""
    world.run(3600.0)
    served.sendall(b"answer")
    served.close()
    assert client.recv_exactly(6) == b"answer"
    assert client.recv() == b""


def test_a_handshake_is_three_segments() -> None:
    """RFC9293-3.8.6.2.2-ACCEPT: the accepting host sends a SYN,ACK and nothing else."""
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    world.quiet()
    pair(world, a, b, "10.77.0.2")
    world.run(10.0)
    assert len([f for f in b.tap.sent if f[12:14] == b"\x08\x00"]) == 1
    assert len([f for f in a.tap.sent if f[12:14] == b"\x08\x00"]) == 2
