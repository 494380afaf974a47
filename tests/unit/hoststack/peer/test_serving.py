"""The remote host and clients that vanish."""

from __future__ import annotations

from hoststack.peer.serving import SERVING, Servants
from tests.support.net_world import NetWorld


def test_the_connections_of_a_client_that_has_vanished_are_ended() -> None:
    world = NetWorld()
    remote, client = world.host("remote"), world.host("client")
    servants = Servants(remote.stack, options=SERVING)
    connections = [client.network.connect(("10.77.0.1", port)) for port in (7, 9, 80)]
    connections[0].sendall(b"hello")
    assert connections[0].recv_exactly(5) == b"hello"
    assert len(servants.serving) == 3
    world.run(300)
    assert len(servants.serving) == 3  # idle is not gone
    client.tap.change = lambda frame: None
    world.run(300)
    assert not servants.serving
