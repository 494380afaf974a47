"""Many connections that send at once: the link pushes back, and nothing is lost (issue 7, fault 13)."""

from __future__ import annotations

from functools import partial

import pytest

from hoststack.net import Socket, SocketEvent
from tests.support.narrow_link import NarrowLink
from tests.support.net_world import Host, NetWorld

#: Frames a second of the link, and connections: about a second of work for it in each direction.
RATE = 2000.0
CROWD = 1500


def _all_connected(sockets: list[Socket]) -> bool:
    return all(s.connected for s in sockets)


class Meeting:
    """Two hosts on narrow links. ``b`` echoes what it gets on port 7."""

    def __init__(self, *, room: int = 64, limit: int = 512) -> None:
        self.world = NetWorld()
        self.links: list[NarrowLink] = []

        def narrow(link: object) -> NarrowLink:
            self.links.append(NarrowLink(link, rate=RATE, room=room, limit=limit))  # type: ignore[arg-type]
            return self.links[-1]

        self.a = self.world.host("a", wrap=narrow)
        self.b = self.world.host("b", wrap=narrow)
        for host in (self.a, self.b):
            host.tap.change = lambda frame, tap=host.tap: tap.sent.clear() or tap.received.clear() or frame
        self.heard: dict[Socket, bytes] = {}
        self.failed: list[Socket] = []
        self.b.stack.tcp_listen(None, 7, backlog=4096, on_accept=self._accept)

    def _accept(self, listener: object) -> None:
        while (server := listener.accept()) is not None:  # type: ignore[attr-defined]
            server.on_event = self._echo

    def _echo(self, socket: Socket, event: SocketEvent) -> None:
        if event is SocketEvent.READABLE:
            socket.send(socket.recv() or b"")

    def _happened(self, socket: Socket, event: SocketEvent) -> None:
        if event is SocketEvent.READABLE:
            self.heard[socket] = self.heard.get(socket, b"") + (socket.recv() or b"")
        elif event is SocketEvent.FAILED:
            self.failed.append(socket)

    def connect(self, count: int) -> list[Socket]:
        made: list[Socket] = []
        for at in range(0, count, 100):
            wave = [
                self.a.stack.tcp_connect(("10.77.0.2", 7), on_event=self._happened)
                for _ in range(min(100, count - at))
            ]
            made += wave
            assert self.world.run_until(partial(_all_connected, wave), 60.0)
        self.world.run(2.0)
        return made

    def retransmitted(self, host: Host) -> int:
        return host.stack.tallies[4].tcp.retransmitted_segments


def test_a_crowd_that_sends_at_once_loses_nothing() -> None:
    meeting = Meeting()
    crowd = meeting.connect(CROWD)
    messages = {s: b"%d." % i * 20 for i, s in enumerate(crowd)}
    for socket, message in messages.items():
        assert socket.send(message) == len(message)
    assert meeting.world.run_until(lambda: meeting.heard == messages, 120.0)
    assert meeting.failed == []
    assert [link.dropped for link in meeting.links] == [0, 0]
    assert all(link.longest < 512 for link in meeting.links)


def test_a_connection_with_much_to_send_does_not_keep_the_others_waiting() -> None:
    meeting = Meeting()
    bulk, *others = meeting.connect(51)
    bulk.send(bytes(250_000))
    meeting.world.run(0.05)
    for socket in others:
        socket.send(b"short")
    started = meeting.world.now()
    assert meeting.world.run_until(lambda: all(meeting.heard.get(s) == b"short" for s in others), 60.0)
    assert meeting.world.now() - started < 0.5
    assert len(meeting.heard.get(bulk, b"")) < 250_000
    assert meeting.world.run_until(lambda: len(meeting.heard[bulk]) == 250_000, 60.0)
    assert [link.dropped for link in meeting.links] == [0, 0]


@pytest.mark.parametrize("closed", [0.5, 5.0])
def test_timers_stand_still_while_a_connection_waits_for_the_link(closed: float) -> None:
    """What did not leave is neither sent again nor given up."""
    meeting = Meeting(room=16)
    crowd = meeting.connect(100)
    link = meeting.links[0]
    link.open = False
    for socket in crowd:
        socket.send(b"x" * 100)
    meeting.world.run(closed)
    assert meeting.a.stack.transport.turns.waiting > 0
    assert meeting.retransmitted(meeting.a) == 0
    assert link.longest <= 2 * 64 + 16
    link.open = True
    assert meeting.world.run_until(lambda: len(meeting.heard) == len(crowd), 60.0)
    assert meeting.failed == []
    assert link.dropped == 0


def test_one_that_is_ended_while_it_waits_says_so() -> None:
    meeting = Meeting(room=1)
    crowd = meeting.connect(100)
    meeting.links[0].open = False
    for socket in crowd:
        socket.send(b"x" * 100)
    meeting.world.run(0.1)
    for socket in crowd:
        socket.abort()
    meeting.links[0].open = True
    meeting.world.run(5.0)
    assert meeting.a.stack.transport.sockets == {}
    assert meeting.b.stack.transport.sockets == {}
    assert meeting.a.stack.transport.turns.waiting == 0
