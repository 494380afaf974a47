"""A connection leaves its machine for the chimney and comes back."""

from __future__ import annotations

from typing import Any

import pytest

from hoststack.chimney.send_data import why_not_sendable
from hoststack.net import SocketEvent
from hoststack.net.errors import BrokenPipe, ConnectionReset
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.errors import LocalProtocolError
from ndisbus.net import fragments, tcp
from ndisbus.net.checksum import pseudo_header
from ndisbus.net.ipv4 import Ipv4Header
from ndisbus.net.segment import ACK, FIN, PSH, Segment
from ndisbus.state.images import TcpOffloadStateDelegated
from tests.support.net_bench import IP, REMOTE, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def connected(bench: Bench) -> tuple[Any, Any]:
    """A connected socket, and how the remote end sends on it: ``remote(offset, payload, acked, flags)``."""
    socket, syn = bench.connected()

    def remote(at: int, payload: bytes = b"", acked: int = 0, flags: int = ACK) -> bytes:
        return bench.tcp(
            Segment(
                9001 + at, (syn.seq + 1 + acked) & 0xFFFFFFFF, flags, 65535, payload, 0, 80, syn.source_port
            )
        )

    return socket, remote


def test_what_was_owed_is_sent_before_the_connection_goes(bench: Bench) -> None:
    """R-TMR-06: a delayed ACK leaves before the state does."""
    socket, remote = connected(bench)
    assert bench.give(remote(0, b"one segment")) == [], "the ACK is delayed"
    bench.stack.detach(socket, bench.now)
    bench.stack.flush()
    (ack,) = bench.segments()
    assert ack.ack == 9012
    assert not ack.payload


def test_everything_is_in_the_tcb(bench: Bench) -> None:
    """R-OSD-05, R-BRD-02: what is in the queues and what the sequence numbers say agree."""
    socket, remote = connected(bench)
    socket.send(b"sent and lost")
    bench.stack.flush()
    bench.give(remote(0, b"unread"))
    bench.give(remote(10, b"out of order"))
    socket.send(b" never sent")
    bench.stack.detach(socket, bench.now)
    bench.stack.flush()
    tcb = socket.tcb
    assert socket.machine is None
    assert b"".join(tcb.send_queue or ()) == b"sent and lost never sent"
    assert tcb.in_flight in (13, 24)
    assert why_not_sendable(tcb) == ""
    assert tcb.receive_buffer == b"unread"
    assert tcb.delegated.rcv_nxt == 9007
    assert tcb.held is not None
    (held,) = tcb.held
    pseudo = pseudo_header(REMOTE, IP, tcp.PROTOCOL)
    segment = tcp.parse_segment(held, pseudo)
    assert (segment.seq, segment.payload) == (9011, b"out of order")
    assert tcb.path.neighbor.cached.host_reachability_delta < 1000
    with pytest.raises(LocalProtocolError):
        bench.stack.detach(socket, bench.now)


def test_it_goes_on_as_if_nothing_had_been(bench: Bench) -> None:
    socket, remote = connected(bench)
    socket.send(b"lost")
    bench.give(remote(0, b"one "))
    bench.give(remote(8, b"three"))
    bench.take()
    for _ in range(3):
        bench.stack.detach(socket, bench.now)
        # Through their bytes, as the chimney has it.
        socket.tcb.delegated = TcpOffloadStateDelegated.unpack_from(socket.tcb.delegated.pack())
        bench.stack.flush()
        bench.stack.attach(socket, bench.now)
        bench.stack.flush()
    with pytest.raises(LocalProtocolError):
        bench.stack.attach(socket, bench.now)
    bench.take()
    bench.give(remote(4, b"two "))
    assert socket.recv() == b"one two three"
    bench.run(1.0)
    assert any(s.payload == b"lost" for s in bench.segments())
    bench.give(remote(13, acked=4))
    assert socket.unacknowledged == 0
    assert socket.connected


def test_segments_for_a_connection_that_is_away_are_handed_on(bench: Bench) -> None:
    """R-IP-03, R-IP-04: fragments and packets with options come to the host, which passes the segment on."""
    socket, remote = connected(bench)
    bench.stack.detach(socket, bench.now)
    whole = remote(0, b"x" * 900)
    packet = whole[14:]
    payload = packet[20:]
    bench.give(whole)
    options = Ipv4Header(REMOTE, IP, tcp.PROTOCOL, options=bytes((148, 4, 0, 0))).build(payload)
    bench.give(bench.frame(0x0800, options))
    pieces = fragments.fragment(Ipv4Header(REMOTE, IP, tcp.PROTOCOL, identification=5).build(payload), 576)
    assert len(pieces) == 2
    bench.give(*(bench.frame(0x0800, p) for p in pieces))
    assert bench.hooks.calls == [("segments", socket.tcb, [payload])] * 3
    damaged = whole[:-1] + b"?"
    bench.give(damaged)
    assert len(bench.hooks.calls) == 3
    assert socket.tcb.delegated.rcv_nxt == 9001


def test_what_was_held_meanwhile_is_processed_by_the_host(bench: Bench) -> None:
    """R-TERM-05, R-TERM-12."""
    socket, remote = connected(bench)
    heard: list[SocketEvent] = []
    socket.on_event = lambda s, e: heard.append(e)
    bench.stack.detach(socket, bench.now)
    frame, end = remote(0, b"forwarded"), remote(9, flags=ACK | FIN)
    socket.tcb.held = [frame[34:], b"rubbish", end[34:]]
    bench.stack.attach(socket, bench.now)
    bench.stack.flush()
    assert heard == [SocketEvent.READABLE, SocketEvent.REMOTE_CLOSED]
    assert socket.recv() == b"forwarded"
    assert socket.at_end
    assert bench.count("tcp: short header") == 1


def test_an_application_goes_on_while_the_connection_is_away(bench: Bench) -> None:
    socket, _ = connected(bench)
    bench.stack.detach(socket, bench.now)
    assert socket.send(b"abc") == 3
    assert socket.tcb.send_queue == [b"abc"]
    socket.tcb.receive_buffer = bytearray(b"delivered")
    assert socket.available == 9
    assert socket.recv(4) == b"deli"
    assert socket.recv() == b"vered"
    assert socket.recv() is None
    socket.shutdown()
    assert bench.hooks.calls == [("disconnect", socket.tcb, False)]
    with pytest.raises(BrokenPipe):
        socket.send(b"more")
    assert socket.deadline() is None
    bench.run(1000.0)


def test_a_close_that_could_not_be_told_is_made_up_for(bench: Bench) -> None:
    """Data that came back unsent goes first, then the FIN."""
    socket, _ = connected(bench)
    bench.stack.detach(socket, bench.now)
    bench.take()
    socket.send(b"unsent")
    socket.close()
    bench.stack.attach(socket, bench.now)
    bench.stack.flush()
    (segment,) = bench.segments()
    assert segment.payload == b"unsent"
    assert segment.flags == FIN | ACK | PSH
    assert socket.state is State.TcpConnectionFinWait1


def test_a_fin_of_the_remote_end_while_it_was_away_is_remembered(bench: Bench) -> None:
    socket, _ = connected(bench)
    bench.stack.detach(socket, bench.now)
    d = socket.tcb.delegated
    d.state = State.TcpConnectionCloseWait
    d.rcv_nxt += 1
    bench.stack.attach(socket, bench.now)
    assert socket.recv() == b""
    socket.send(b"still possible")
    bench.stack.flush()
    assert bench.segments()[-1].ack == 9002


def test_a_connection_that_ended_while_it_was_away(bench: Bench) -> None:
    socket, _ = connected(bench)
    heard: list[SocketEvent] = []
    socket.on_event = lambda s, e: heard.append(e)
    bench.stack.detach(socket, bench.now)
    socket.over(ConnectionReset("gone"))
    assert heard == [SocketEvent.FAILED, SocketEvent.CLOSED]
    assert socket.key not in bench.stack.transport.sockets
    with pytest.raises(ConnectionReset):
        socket.recv()
    assert bench.stack.socket_of(socket.tcb) is None


def test_unread_data_of_a_connection_that_ended_while_it_was_away_can_be_read(bench: Bench) -> None:
    """It went down with the connection and came back with it; then the stream ends."""
    socket, peer = connected(bench)
    bench.give(peer(0, b"unread", flags=ACK | PSH | FIN))
    socket.shutdown()
    bench.stack.flush()
    bench.stack.detach(socket, bench.now)
    below, socket.tcb.receive_buffer = socket.tcb.receive_buffer, None
    socket.tcb.unread_below = 6
    assert (socket.readable, socket.unread, socket.available) == (False, 6, 0)
    assert socket.recv() is None
    socket.tcb.receive_buffer, socket.tcb.unread_below = below, 0
    socket.over(None)
    assert socket.readable
    assert socket.recv() == b"unread"
    assert socket.recv() == b""
    assert socket.at_end


def test_the_socket_of_a_tcb(bench: Bench) -> None:
    socket, _ = connected(bench)
    found = [bench.stack.socket_of(socket.tcb)]
    bench.stack.detach(socket, bench.now)
    assert [*found, bench.stack.socket_of(socket.tcb)] == [socket, socket]
