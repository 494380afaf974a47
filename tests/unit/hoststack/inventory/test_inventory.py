"""The inventory of the real machine, its degradations, and the tree that its connections form."""

from __future__ import annotations

import dataclasses
import random
import socket
import subprocess
import sys
from collections import namedtuple
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoststack.inventory import inventory as inventory_module
from hoststack.inventory.facts import NUD_REACHABLE, ConnectionFacts, InterfaceFacts, Inventory, NeighborFacts
from hoststack.inventory.inventory import connection_facts, group, read_inventory
from hoststack.inventory.kernel import Route
from hoststack.inventory.loopback import LoopbackConnections
from hoststack.inventory.machine import Hop, Machine, parse_arp_table
from ndisbus.ddi.tcp_enums import OFFLOADABLE_TCP_STATES, TcpOffloadConnectionState

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel through Linux interfaces")
State = TcpOffloadConnectionState
REAL_STATES = [state for state in State if state is not State.TcpConnectionMaxState]
ETHERNET = InterfaceFacts(
    "eth0", 1500, bytes.fromhex("020000000001"), (bytes([192, 0, 2, 2]), bytes(15) + b"\2"), (24, 64), False
)
LOOPBACK = InterfaceFacts("lo", 65536, bytes(6), (bytes([127, 0, 0, 1]), bytes(15) + b"\1"), (8, 128), True)
GATEWAY = Hop("eth0", bytes([192, 0, 2, 1]), 1500)


def a_connection(
    local: bytes = bytes([192, 0, 2, 2]),
    remote: bytes = bytes([198, 51, 100, 7]),
    ports: tuple[int, int] = (40000, 443),
    state: State = State.TcpConnectionEstablished,
    hop: Hop = GATEWAY,
    **changes: Any,
) -> ConnectionFacts:
    end = (local, ports[0], remote, ports[1])
    facts = connection_facts(end, state, hop)
    return dataclasses.replace(facts, **changes)


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    """Connections in every state, between few addresses, over few next hops; every end is unique."""
    found: dict[tuple[object, ...], ConnectionFacts] = {}
    for _ in range(draw(st.integers(0, 40))):
        size = draw(st.sampled_from([4, 16]))
        local, remote, next_hop = (bytes(size - 1) + bytes([draw(st.integers(1, 3))]) for _ in range(3))
        ports = draw(st.integers(1, 5)), draw(st.integers(1, 5))
        hop = Hop(
            draw(st.sampled_from(["eth0", "eth1"])), next_hop, draw(st.sampled_from([1280, 1400, 1500]))
        )
        exact = draw(st.booleans())
        facts = a_connection(
            local, remote, ports, draw(st.sampled_from(REAL_STATES)), hop, own=exact, exact=exact
        )
        found[local, remote, ports] = facts
    known = draw(st.lists(st.sampled_from(list(found.values())), max_size=5)) if found else []
    neighbors = {
        (c.interface, c.next_hop): NeighborFacts(c.next_hop, c.interface, b"\2\0\0\0\0\1", NUD_REACHABLE)
        for c in known
    }
    return Inventory(tuple(found.values()), tuple(neighbors.values()), (), ())


@given(inventories())
def test_r_state_05_a_path_has_one_interface_and_mtu_and_a_neighbor_one_next_hop(
    inventory: Inventory,
) -> None:
    """R-STATE-05: a path has one interface and mtu and a neighbor one next hop."""
    seen_neighbors = set()
    for neighbor_group in group(inventory):
        neighbor = neighbor_group.neighbor
        assert (neighbor.interface, neighbor.next_hop) not in seen_neighbors
        seen_neighbors.add((neighbor.interface, neighbor.next_hop))
        pairs = [(path.local_address, path.remote_address) for path in neighbor_group.paths]
        assert len(pairs) == len(set(pairs))
        for path in neighbor_group.paths:
            for connection in path.connections:
                assert connection.interface == neighbor.interface
                assert connection.next_hop == neighbor.next_hop
                assert connection.local_address == path.local_address
                assert connection.remote_address == path.remote_address
            told = [c.path_mtu for c in path.connections if c.exact]
            assert path.mtu == min(told or [c.path_mtu for c in path.connections])


@given(inventories())
def test_r_state_06_exactly_the_offloadable_connections_are_in_the_tree_once(inventory: Inventory) -> None:
    """R-STATE-06: exactly the offloadable connections are in the tree once."""
    inside = [c for g in group(inventory) for path in g.paths for c in path.connections]
    banned = {
        State.TcpConnectionClosed,
        State.TcpConnectionListen,
        State.TcpConnectionSynSent,
        State.TcpConnectionSynRcvd,
        State.TcpConnectionTimeWait,
    }
    expected = [c for c in inventory.connections if c.state not in banned]
    assert len(inside) == len(expected)
    assert set(inside) == set(expected)


@given(inventories(), st.integers(0, 2**32))
def test_the_order_of_the_tree_does_not_depend_on_the_order_of_reading(
    inventory: Inventory, seed: int
) -> None:
    shuffled = list(inventory.connections)
    random.Random(seed).shuffle(shuffled)
    assert group(dataclasses.replace(inventory, connections=tuple(shuffled))) == group(inventory)


def test_the_neighbor_tables_entry_is_the_one_in_the_tree_and_ipv4_comes_first() -> None:
    v6 = a_connection(b"\0" * 15 + b"\2", b"\0" * 15 + b"\3", hop=Hop("eth0", b"\0" * 15 + b"\3", 1500))
    entry = NeighborFacts(bytes([192, 0, 2, 1]), "eth0", bytes.fromhex("02fc00000005"), NUD_REACHABLE, 12)
    tree = group(Inventory((v6, a_connection()), (entry,), (), ()))
    assert [g.neighbor for g in tree] == [entry, NeighborFacts(v6.next_hop, "eth0", bytes(6), 0)]
    assert [(g.paths[0].family, str(g.paths[0])) for g in tree] == [
        (4, "192.0.2.2 -> 198.51.100.7"),
        (6, "::2 -> ::3"),
    ]


def test_one_who_knows_the_mtu_outvotes_those_who_assume_one() -> None:
    guessed = a_connection(ports=(1, 1), path_mtu=1280)
    told = a_connection(ports=(2, 1), path_mtu=1400, own=True, exact=True)
    (only,) = group(Inventory((guessed, told), (), (), ()))
    assert only.paths[0].mtu == 1400


# --- the real machine -------------------------------------------------------------------------------


@LINUX_ONLY
def test_own_connections_are_read_in_full_and_the_servers_ends_are_left_out() -> None:
    with LoopbackConnections(16) as connections:
        read = read_inventory(connections.clients, peers=connections.servers)
        servers = {sock.getsockname()[1] for sock in connections.servers}
        ports = [sock.getsockname()[1] for sock in connections.clients]
    own = [c for c in read.connections if c.own]
    assert [c.local_port for c in own] == ports
    assert all(c.exact and c.srtt_us > 0 and c.interface == "lo" for c in own)
    assert {c.state for c in own} == {
        State.TcpConnectionEstablished,
        State.TcpConnectionFinWait2,
        State.TcpConnectionCloseWait,
    }
    assert not [c for c in read.connections if not c.own and c.local_port in servers]
    ends = [(c.local_address, c.local_port, c.remote_address, c.remote_port) for c in read.connections]
    assert len(ends) == len(set(ends))


@LINUX_ONLY
def test_loopback_makes_few_paths_on_one_neighbor_for_each_ip_version() -> None:
    with LoopbackConnections(16) as connections:
        tree = group(read_inventory(connections.clients, include_others=False))
    assert sum(len(path.connections) for g in tree for path in g.paths) == 16
    assert len(tree) <= 2
    assert sum(len(g.paths) for g in tree) <= 5
    for neighbor_group in tree:
        assert neighbor_group.neighbor.interface == "lo"
        assert neighbor_group.neighbor.mac == bytes(6)


@LINUX_ONLY
def test_a_connection_of_another_process_is_read_in_full_over_netlink_and_with_defaults_without() -> None:
    program = "import socket,sys;s=socket.create_connection(('127.0.0.1',int(sys.argv[1])));sys.stdin.read()"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        port = listener.getsockname()[1]
        with subprocess.Popen([sys.executable, "-c", program, str(port)], stdin=subprocess.PIPE) as child:
            server, peer = listener.accept()
            with server:
                read = read_inventory([server])
                less = read_inventory([server], use_netlink=False)
            assert child.stdin is not None
            child.stdin.close()
            child.wait(20)
    (own,) = [c for c in read.connections if c.own]
    (other,) = [c for c in read.connections if c.local_port == peer[1]]
    assert (own.exact, other.own, other.exact) == (True, False, True)
    assert other.srtt_us > 0
    assert (other.snd_wscale, other.rcv_wscale) == (own.rcv_wscale, own.snd_wscale)
    (guess,) = [c for c in less.connections if c.local_port == peer[1]]
    assert (guess.own, guess.exact, guess.state) == (False, False, other.state)
    assert other.state is State.TcpConnectionEstablished
    assert (other.local_address, other.remote_address) == (own.remote_address, own.local_address)
    assert any("no TCP_INFO of" in note for note in less.notes)
    assert not any("no TCP_INFO of" in note for note in read.notes)
    assert any("in LISTEN left out" in note for note in read.notes)


@LINUX_ONLY
def test_without_netlink_the_same_tree_is_read_and_a_note_says_so() -> None:
    with LoopbackConnections(8) as connections:
        full = read_inventory(connections.clients, include_others=False)
        less = read_inventory(connections.clients, include_others=False, use_netlink=False)
    layout = [[(p.local_address, p.remote_address, p.mtu) for p in g.paths] for g in group(full)]
    assert [[(p.local_address, p.remote_address, p.mtu) for p in g.paths] for g in group(less)] == layout
    assert "neighbor table of IPv6: only netlink gives it" in less.notes
    assert full.notes == ()


def test_a_user_who_may_not_list_connections_gets_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(kind: str) -> list[object]:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", denied)
    read = read_inventory([])
    assert read.connections == ()
    assert "other connections: this user may not list them (psutil: access denied)" in read.notes


Listed = namedtuple("Listed", "laddr raddr status pid")
Address = namedtuple("Address", "ip port")


def test_r_state_06_others_are_listed_in_offloadable_states_only_and_the_rest_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R-STATE-06: others are listed in offloadable states only and the rest counted."""
    names = inventory_module._STATES
    rows = [
        Listed(Address("127.0.0.1", number), Address("127.0.0.1", 9), name, 1)
        for number, name in enumerate(names, start=100)
    ]
    monkeypatch.setattr(psutil, "net_connections", lambda kind: rows)
    read = read_inventory([])
    assert {c.state for c in read.connections} == OFFLOADABLE_TCP_STATES
    left_out = {name for name, state in names.items() if state not in OFFLOADABLE_TCP_STATES}
    assert {note.split()[4] for note in read.notes if "left out" in note} == left_out


def test_r_state_07_an_ipv4_address_mapped_into_ipv6_is_4_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-STATE-07: an ipv4 address mapped into ipv6 is 4 bytes."""
    row = Listed(Address("::ffff:127.0.0.1", 1), Address("::ffff:127.0.0.2", 2), "ESTABLISHED", None)
    monkeypatch.setattr(psutil, "net_connections", lambda kind: [row, row])
    (only,) = read_inventory([]).connections
    assert (only.family, only.local_address, only.remote_address) == (4, b"\x7f\0\0\1", b"\x7f\0\0\2")


def test_an_unconnected_socket_is_left_out_with_a_note_and_a_closed_one_is_an_error() -> None:
    with socket.socket() as unconnected:
        read = read_inventory([unconnected], include_others=False)
    assert read.connections == ()
    assert any("not connected; left out" in note for note in read.notes)
    with pytest.raises(OSError, match="Bad file descriptor"):
        read_inventory([unconnected], include_others=False)


@LINUX_ONLY
def test_without_tcp_info_the_state_of_own_sockets_comes_from_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackConnections(6) as connections:
        exact = read_inventory(connections.clients, include_others=False)
        monkeypatch.delattr(socket, "TCP_INFO")
        guessed = read_inventory(connections.clients, include_others=False)
    assert [c.state for c in guessed.connections] == [c.state for c in exact.connections]
    assert not any(c.exact for c in guessed.connections)
    assert any(note.startswith("TCP_INFO: ") and note.endswith("(6 times)") for note in guessed.notes)


# --- routes and neighbors ---------------------------------------------------------------------------


class Kernel:
    """A kernel with one default gateway, that refuses to answer when told to."""

    def __init__(self, mtu: int | None = None, fail: bool = False) -> None:
        self.mtu, self.fail = mtu, fail
        self.asked: list[bytes] = []

    def route(self, destination: bytes, interface: str = "") -> Route | None:
        self.asked.append(destination)
        if self.fail:
            raise TimeoutError("timed out")
        gateway = None if destination[:3] == bytes([192, 0, 2]) else bytes([192, 0, 2, 1])
        return Route("wan", gateway, self.mtu, False)

    def neighbors(self) -> list[NeighborFacts]:
        if self.fail:
            raise TimeoutError("timed out")
        return [NeighborFacts(bytes([192, 0, 2, 1]), "wan", b"\2" * 6, NUD_REACHABLE, 30)]


HERE = bytes([192, 0, 2, 2])
FAR = bytes([198, 51, 100, 7])
NEAR = bytes([192, 0, 2, 9])


def test_a_far_address_goes_by_the_gateway_with_the_routes_mtu_and_is_asked_once() -> None:
    kernel = Kernel(mtu=1300)
    machine = Machine((ETHERNET, LOOPBACK), kernel)
    hop = machine.hop(HERE, FAR)
    assert machine.hop(HERE, FAR) == hop
    assert (hop.next_hop, hop.mtu) == (bytes([192, 0, 2, 1]), 1300)
    assert machine.hop(HERE, NEAR).next_hop == NEAR
    assert kernel.asked == [FAR, NEAR]


@pytest.mark.parametrize("routes", [None, Kernel(fail=True)])
def test_without_routes_the_prefix_decides_and_the_gateway_is_unknown(routes: Kernel | None) -> None:
    machine = Machine((ETHERNET, LOOPBACK), routes)
    assert machine.hop(HERE, NEAR) == Hop("eth0", NEAR, 1500)
    assert machine.hop(HERE, FAR) == Hop("eth0", bytes(4), 1500)
    assert machine.hop(bytes([10, 0, 0, 1]), FAR) == Hop("?", bytes(4), 1500)


def test_an_address_of_this_machine_is_reached_over_loopback_with_a_legal_ipv4_mtu() -> None:
    machine = Machine((ETHERNET, LOOPBACK), None)
    assert machine.hop(HERE, HERE) == Hop("lo", bytes([127, 0, 0, 1]), 65535)
    v6 = ETHERNET.addresses[1]
    assert machine.hop(v6, v6) == Hop("lo", bytes(15) + b"\1", 65536)


def test_neighbors_come_from_the_kernels_table_and_a_missing_one_is_noted() -> None:
    name = "wan"
    machine = Machine((), Kernel())
    known, missing = machine.neighbors([(name + "x", FAR), (name, bytes([192, 0, 2, 1]))] * 2)
    assert known == NeighborFacts(bytes([192, 0, 2, 1]), name, b"\2" * 6, NUD_REACHABLE, 30)
    assert missing == NeighborFacts(FAR, name + "x", bytes(6), 0)
    assert machine.notes == [f"neighbor 198.51.100.7 on {name}x: no link address is known"]


def test_the_arp_table_of_proc() -> None:
    text = (
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        "192.0.2.1        0x1         0x2         02:fc:00:00:00:05     *        eth0\n"
        "192.0.2.9        0x1         0x0         00:00:00:00:00:00     *        eth0\n"
    )
    assert parse_arp_table(text) == [
        NeighborFacts(bytes([192, 0, 2, 1]), "eth0", bytes.fromhex("02fc00000005"), NUD_REACHABLE),
        NeighborFacts(bytes([192, 0, 2, 9]), "eth0", bytes(6), 0),
    ]
