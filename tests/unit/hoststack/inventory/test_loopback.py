"""Loopback connections: real sockets, both IP versions, states that vary, nothing left behind."""

from __future__ import annotations

import errno
import gc
import resource
import socket
import sys
import warnings
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from hoststack.inventory import loopback
from hoststack.inventory.loopback import LoopbackConnections
from hoststack.inventory.tcp_info import LINUX_STATE_NAMES, read_socket
from ndisbus.errors import LocalProtocolError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads states through TCP_INFO")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def state_of(sock: socket.socket) -> str:
    info = read_socket(sock).info
    return LINUX_STATE_NAMES[info.state or 0]


def descriptors() -> int:
    gc.collect()  # what another test left to the collector is not ours
    return int(psutil.Process().num_fds())


def test_64_by_default_with_both_ends_joined() -> None:
    with LoopbackConnections() as connections:
        assert len(connections.clients) == len(connections.servers) == 64
        for client, server in zip(connections.clients, connections.servers, strict=True):
            assert client.getpeername() == server.getsockname()
            assert server.getpeername() == client.getsockname()


@pytest.mark.skipif(not has_ipv6(), reason="::1 is not usable on this machine")
def test_ipv4_and_ipv6_share_the_connections_and_ipv4_has_four_paths() -> None:
    with LoopbackConnections(64) as connections:
        assert Counter(c.family for c in connections.clients) == {socket.AF_INET: 32, socket.AF_INET6: 32}
        ipv4 = Counter(c.getpeername()[0] for c in connections.clients if c.family == socket.AF_INET)
        assert ipv4 == {f"127.0.0.{n}": 8 for n in (1, 2, 3, 4)}
        assert connections.notes == ()


def test_states_vary_and_each_end_is_in_the_state_of_its_part() -> None:
    with LoopbackConnections(32) as connections:
        ends = Counter(
            (state_of(client), state_of(server))
            for client, server in zip(connections.clients, connections.servers, strict=True)
        )
    assert ends == {
        ("ESTABLISHED", "ESTABLISHED"): 24,
        ("FIN_WAIT2", "CLOSE_WAIT"): 4,
        ("CLOSE_WAIT", "FIN_WAIT2"): 4,
    }


def test_the_round_trip_of_each_has_been_measured() -> None:
    with LoopbackConnections(8) as connections:
        for client in connections.clients:
            info = read_socket(client).info
            assert info.rtt
            assert info.last_data_recv is not None


def test_nothing_stays_open_and_nothing_warns() -> None:
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with LoopbackConnections(10) as connections:
            held = (*connections.clients, *connections.servers)
            ends = {(sock.getsockname()[:2], sock.getpeername()[:2]) for sock in held}
            assert descriptors() == before + 20, "the listeners are closed once all are connected"
    assert descriptors() == before
    assert all(sock.fileno() == -1 for sock in held)
    left = [
        c for c in psutil.net_connections(kind="tcp") if c.raddr and (tuple(c.laddr), tuple(c.raddr)) in ends
    ]
    assert left == [], "not even in TIME_WAIT"


def test_a_second_close_does_nothing() -> None:
    before = descriptors()
    connections = LoopbackConnections(2)
    with connections:
        connections.close()
        assert connections.clients == ()
    assert descriptors() == before


def test_too_few_descriptors_is_said_and_gives_back_what_was_opened() -> None:
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 12, hard))
    try:
        with pytest.raises(LocalProtocolError, match="need 400 descriptors"), LoopbackConnections(200):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors() == before


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(count: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"{count} loopback connections"):
        LoopbackConnections(count)


def refuse(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    real = socket.create_server

    def create_server(address: tuple[str, int], **rest: Any) -> socket.socket:
        if address[0] in addresses:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return real(address, **rest)

    monkeypatch.setattr(socket, "create_server", create_server)


def test_addresses_that_the_machine_lacks_are_noted_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "::1", "127.0.0.3", "127.0.0.4")
    with LoopbackConnections(6) as connections:
        peers = Counter(c.getpeername()[0] for c in connections.clients)
        notes = connections.notes
    assert peers == {"127.0.0.1": 3, "127.0.0.2": 3}
    assert [note.split()[2] for note in notes] == ["127.0.0.3", "127.0.0.4", "::1"]


def test_no_loopback_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "::1")
    with pytest.raises(LocalProtocolError, match="no loopback address is usable"), LoopbackConnections(1):
        pass


def test_a_stranger_who_connects_first_is_not_taken_for_our_own() -> None:
    with (
        ExitStack() as stack,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), timeout=20) as stranger,
    ):
        listener.settimeout(20)
        client, server = loopback._connect(listener, stack)
        assert server.getpeername() == client.getsockname()
        assert stranger.recv(1) == b"", "the stranger was turned away"
