"""Demultiplexing, resets for strangers, listeners and their queues, ports, sockets' own rules."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hoststack.model.rss import tcp_hash
from hoststack.net import Listener, Socket, SocketEvent, SocketOptions
from hoststack.net.errors import (
    AddressInUse,
    BrokenPipe,
    ConnectionAborted,
    ConnectionRefused,
    ConnectionReset,
    Unreachable,
)
from hoststack.net.isn import EPHEMERAL_PORTS, InitialSequenceNumbers, PortPicker
from ndisbus.ddi.tcp_enums import TcpCachedFlags, TcpConstFlags
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.errors import LocalProtocolError
from ndisbus.net.segment import ACK, FIN, PSH, RST, SYN, Segment
from tests.support.net_bench import IP, IP6, REMOTE, REMOTE6, Bench


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.know_remote()
    return bench


def segment(
    flags: int, *, seq: int = 1000, ack: int = 0, port: int = 5000, to: int = 80, **more: Any
) -> Segment:
    return Segment(
        seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, flags, 5000, source_port=port, destination_port=to, **more
    )


def give(bench: Bench, *segments: Segment) -> list[Segment]:
    return bench.segments(bench.give(*(bench.tcp(s) for s in segments)))


def opened(bench: Bench, listener: Listener, *, port: int = 5000, **syn: Any) -> tuple[Segment, int]:
    """Shake hands with a listener from ``port``; its SYN-ACK, and the number of our first byte."""
    (answer,) = give(bench, segment(SYN, port=port, to=listener.port, **syn))
    assert answer.flags == SYN | ACK
    give(bench, segment(ACK, seq=1001, ack=answer.seq + 1, port=port, to=listener.port))
    return answer, 1001


# -- strangers


@pytest.mark.parametrize(
    ("flags", "payload", "answer"),
    [
        (SYN, b"", (0, 1001, RST | ACK)),
        (FIN, b"abc", (0, 1004, RST | ACK)),
        (0, b"abc", (0, 1003, RST | ACK)),
        (ACK, b"", (777, 0, RST)),
        (SYN | ACK, b"", (777, 0, RST)),
        (RST, b"", None),
        (RST | ACK, b"", None),
    ],
)
def test_a_segment_without_a_connection_is_reset(
    bench: Bench, flags: int, payload: bytes, answer: tuple[int, int, int] | None
) -> None:
    """RFC 9293 3.10.7.1."""
    found = give(bench, segment(flags, ack=777 if flags & ACK else 0, payload=payload))
    if answer is None:
        assert found == []
    else:
        (reset,) = found
        assert (reset.seq, reset.ack, reset.flags) == answer
        assert (reset.source_port, reset.destination_port) == (80, 5000)
    assert bench.count("tcp: no connection") == 1


def test_the_same_over_ipv6(bench: Bench) -> None:
    (frame,) = bench.give(bench.tcp(segment(SYN), source=REMOTE6, destination=IP6))
    (reset,) = bench.segments([frame])
    assert reset.flags == RST | ACK


def test_damaged_segments_are_counted_and_dropped(bench: Bench) -> None:
    socket, syn = bench.connected()
    good = bench.tcp(segment(ACK, seq=9001, ack=syn.seq + 1, port=80, to=syn.source_port, payload=b"abc"))
    assert bench.give(good[:-1] + b"X") == []
    assert bench.count("tcp: bad checksum") == 1
    assert socket.recv() is None
    bench.give(good)
    assert socket.recv() == b"abc"


# -- listeners


def test_a_listener_shakes_hands_and_hands_out_connections_in_order(bench: Bench) -> None:
    seen: list[Listener] = []
    listener = bench.stack.tcp_listen(None, 80, on_accept=seen.append)
    for port in (5001, 5002):
        opened(bench, listener, port=port)
    assert seen == [listener, listener]
    first, second = listener.accept(), listener.accept()
    assert first is not None
    assert second is not None
    assert (first.remote, second.remote) == (("10.77.0.2", 5001), ("10.77.0.2", 5002))
    assert first.local == ("10.77.0.1", 80)
    assert first.connected
    assert listener.accept() is None


def test_a_listener_of_one_address_hears_only_that_and_goes_before_the_wildcard(bench: Bench) -> None:
    everybody = bench.stack.tcp_listen(None, 80)
    six = bench.stack.tcp_listen("::", 80)
    four = bench.stack.tcp_listen("10.77.0.1", 80)
    opened(bench, four)
    assert (len(everybody.ready), len(six.ready), len(four.ready)) == (0, 0, 1)
    bench.give(bench.tcp(segment(SYN), source=REMOTE6, destination=IP6))
    assert (len(everybody.half_open), len(six.half_open)) == (0, 1)
    four.close()
    bench.stack.flush()
    bench.take()
    opened(bench, everybody, port=5003)
    assert len(everybody.ready) == 1
    only = bench.stack.tcp_listen("10.77.0.1", 81)
    (reset,) = bench.segments(
        bench.give(bench.tcp(segment(SYN, to=only.port), source=REMOTE6, destination=IP6))
    )
    assert reset.flags & RST


def test_a_port_has_one_listener(bench: Bench) -> None:
    listener = bench.stack.tcp_listen(None, 80)
    with pytest.raises(AddressInUse):
        bench.stack.tcp_listen(None, 80)
    bench.stack.tcp_listen("10.77.0.1", 80)
    listener.close()
    bench.stack.tcp_listen(None, 80)
    with pytest.raises(Unreachable):
        bench.stack.tcp_listen("10.77.0.3", 80)
    with pytest.raises(LocalProtocolError):
        bench.stack.tcp_listen(None, 70000)
    assert bench.stack.tcp_listen(None, 0).port in EPHEMERAL_PORTS


def test_a_full_accept_queue_drops_syns_and_the_end_of_handshakes(bench: Bench) -> None:
    listener = bench.stack.tcp_listen(None, 80, backlog=2)
    (late,) = give(bench, segment(SYN, port=5009))
    opened(bench, listener, port=5001)
    opened(bench, listener, port=5002)
    assert listener.full
    assert give(bench, segment(SYN, port=5003)) == []
    assert give(bench, segment(ACK, seq=1001, ack=late.seq + 1, port=5009)) == []
    assert len(listener.half_open) == 1
    assert listener.overflows == 2
    assert bench.count("tcp: accept queue full") == 2
    # As soon as there is room, the handshake that was held up is completed by the SYN-ACK sent again.
    assert listener.accept() is not None
    bench.run(1.1)
    assert any(s.flags == SYN | ACK and s.destination_port == 5009 for s in bench.segments())
    give(bench, segment(ACK, seq=1001, ack=late.seq + 1, port=5009))
    assert len(listener.ready) == 2


def test_a_full_syn_queue_drops_syns(bench: Bench) -> None:
    listener = bench.stack.tcp_listen(None, 80, backlog=4)
    for port in range(6000, 6050):
        give(bench, segment(SYN, port=port))
    assert len(listener.half_open) == listener.syn_backlog == 16
    assert bench.count("tcp: SYN queue full") == 34
    # A reset by the remote end makes room.
    give(bench, segment(RST, seq=1001, port=6000))
    (again,) = give(bench, segment(SYN, port=7000))
    assert again.flags == SYN | ACK


def test_half_open_connections_time_out_and_leave_no_trace(bench: Bench) -> None:
    listener = bench.stack.tcp_listen(None, 80)
    give(bench, segment(SYN))
    for _ in range(300):
        bench.run(1.0)
        bench.answer_resolution()
        bench.take()
    assert not listener.half_open
    assert not bench.stack.transport.sockets


def test_a_listener_that_closes_resets_what_was_not_accepted(bench: Bench) -> None:
    listener = bench.stack.tcp_listen(None, 80)
    opened(bench, listener, port=5001)
    give(bench, segment(SYN, port=5002))
    listener.close()
    bench.stack.flush()
    assert {(s.destination_port, bool(s.flags & RST)) for s in bench.segments()} == {
        (5001, True),
        (5002, True),
    }
    assert not bench.stack.transport.sockets
    (reset,) = give(bench, segment(SYN, port=5003))
    assert reset.flags == RST | ACK


def test_a_connection_reset_before_it_was_accepted_leaves_the_queue(bench: Bench) -> None:
    listener = bench.stack.tcp_listen(None, 80)
    _, seq = opened(bench, listener)
    give(bench, segment(RST, seq=seq))
    assert listener.accept() is None


def test_options_of_a_listener_go_to_its_connections(bench: Bench) -> None:
    options = SocketOptions(
        timestamps=False, sack=False, nagle=False, keepalive=True, rcvbuf=10_000, ttl=9, tos=4
    )
    listener = bench.stack.tcp_listen(None, 80, options=options)
    (answer,) = give(bench, segment(SYN, mss=700, window_scale=3, sack_permitted=True, ts_val=1))
    assert (answer.ts_val, answer.sack_permitted, answer.window_scale) == (None, False, 0)
    (socket,) = listener.half_open
    const, cached = socket.tcb.const, socket.tcb.cached
    assert const.flags == TcpConstFlags.TCP_FLAG_WINDOW_SCALING_ENABLED
    assert const.remote_mss == 700
    assert cached.flags == TcpCachedFlags.TCP_FLAG_KEEP_ALIVE_ENABLED
    assert (cached.initial_rcv_wnd, cached.ttl_or_hop_limit, cached.tos_or_traffic_class) == (10_000, 9, 4)


# -- opening


def test_a_connection_gets_the_hash_of_receive_side_scaling(bench: Bench) -> None:
    """R-RSS-01: worked out once, by the host, when the connection begins."""
    socket, syn = bench.connected()
    assert socket.tcb.const.hash_value == tcp_hash(IP, syn.source_port, REMOTE, 80)
    six = bench.stack.tcp_connect(("fd77::2", 80))
    assert six.tcb.const.hash_value == tcp_hash(IP6, six.local[1], REMOTE6, 80)
    assert six.tcb.cached.flow_label == six.tcb.const.hash_value & 0xFFFFF


def test_the_syn_offers_what_the_options_say(bench: Bench) -> None:
    bench.stack.tcp_connect(("10.77.0.2", 80))
    bench.stack.tcp_connect(
        ("10.77.0.2", 80),
        options=SocketOptions(timestamps=False, sack=False, window_scaling=False, mss=500, rcvbuf=1_000_000),
    )
    bench.stack.flush()
    full, bare = bench.segments()
    assert full.ts_val is not None
    assert (full.mss, full.sack_permitted, full.window_scale) == (1460, True, 3)
    assert (bare.mss, bare.ts_val, bare.sack_permitted, bare.window_scale) == (500, None, False, None)
    assert bare.window == 0xFFFF


def test_connections_that_share_addresses_share_their_path_and_neighbor(bench: Bench) -> None:
    """R-STATE-05."""
    a, _ = bench.connected(port=80)
    b, _ = bench.connected(port=81)
    six = bench.stack.tcp_connect(("fd77::2", 80))
    assert a.tcb.path is b.tcb.path
    assert a.tcb.path.neighbor is b.tcb.path.neighbor
    assert six.tcb.path is not a.tcb.path
    assert a.path_entry.users == 2


def test_the_structures_are_the_machines_own(bench: Bench) -> None:
    socket, _ = bench.connected()
    machine, tcb = socket.machine, socket.tcb
    assert machine.const is tcb.const
    assert machine.cached is tcb.cached
    assert machine.delegated is tcb.delegated
    assert machine.path_cached is tcb.path.cached


@pytest.mark.parametrize(
    ("remote", "local", "error"),
    [
        (("192.0.2.1", 80), None, Unreachable),
        (("10.77.0.255", 80), None, Unreachable),
        (("224.0.0.1", 80), None, Unreachable),
        (("10.77.0.1", 80), None, Unreachable),
        (("10.77.0.2", 80), ("10.77.0.3", 0), Unreachable),
        (("10.77.0.2", 80), ("fd77::1", 0), LocalProtocolError),
        (("10.77.0.2", 0), None, LocalProtocolError),
        (("10.77.0.2", 80), (None, 70000), LocalProtocolError),
        (("host.example", 80), None, LocalProtocolError),
    ],
)
def test_what_cannot_be_connected_to(bench: Bench, remote: Any, local: Any, error: type[Exception]) -> None:
    bench.stack.add_route("224.0.0.0/4", bench.interface)
    with pytest.raises(error):
        bench.stack.tcp_connect(remote, local)
    assert not bench.stack.transport.sockets


def test_a_local_port_may_be_chosen_and_is_taken_once(bench: Bench) -> None:
    socket = bench.stack.tcp_connect(("10.77.0.2", 80), ("10.77.0.1", 1234))
    assert socket.local == ("10.77.0.1", 1234)
    with pytest.raises(AddressInUse):
        bench.stack.tcp_connect(("10.77.0.2", 80), (None, 1234))
    assert bench.stack.tcp_connect(("10.77.0.2", 81), (None, 1234)).local[1] == 1234


def test_ephemeral_ports_run_out_and_come_back(bench: Bench) -> None:
    bench.stack.transport.ports.picker = PortPicker(random.Random(1), range(50000, 50004))
    bench.stack.tcp_listen(None, 50001)
    sockets = [bench.stack.tcp_connect(("10.77.0.2", 80)) for _ in range(3)]
    assert {s.local[1] for s in sockets} == {50000, 50002, 50003}
    with pytest.raises(AddressInUse, match="ephemeral"):
        bench.stack.tcp_connect(("10.77.0.2", 80))
    bench.stack.tcp_connect(("10.77.0.2", 81))
    sockets[1].abort()
    bench.stack.flush()
    assert bench.stack.tcp_connect(("10.77.0.2", 80)).local == sockets[1].local


def test_initial_sequence_numbers_depend_on_four_tuple_key_and_clock() -> None:
    """RFC 6528."""
    isn, other = InitialSequenceNumbers(random.Random(1)), InitialSequenceNumbers(random.Random(2))
    assert isn(b"a", 5.0) == InitialSequenceNumbers(random.Random(1))(b"a", 5.0)
    assert isn(b"a", 5.0) != other(b"a", 5.0)
    assert isn(b"a", 5.0) != isn(b"b", 5.0)
    assert (isn(b"a", 6.0) - isn(b"a", 5.0)) & 0xFFFFFFFF == 250_000


def test_ports_to_one_destination_do_not_show_how_many_others_there_are() -> None:
    """RFC 6056 3.3.3: the sequence of each destination begins elsewhere."""
    picker = PortPicker(random.Random(1))
    starts = {picker.pick(bytes((i,)), lambda p: True) for i in range(50)}
    assert len(starts) > 45
    assert picker.pick(b"x", lambda p: False) is None


# -- TIME_WAIT


def closed_actively(bench: Bench, **options: Any) -> tuple[Socket, Segment]:
    """A connection of ours in TIME_WAIT, and its SYN."""
    socket, syn = bench.connected(
        options=SocketOptions(**options), ts_val=77 if options.get("timestamps", True) else None
    )
    socket.close()
    bench.stack.flush()
    (fin,) = [s for s in bench.segments() if s.flags & FIN]
    more = {"ts_val": 78, "ts_ecr": fin.ts_val or 0} if fin.ts_val is not None else {}
    give(bench, segment(FIN | ACK, seq=9001, ack=fin.seq + 1, port=80, to=syn.source_port, **more))
    assert socket.state is State.TcpConnectionTimeWait
    return socket, syn


def test_a_connection_stays_in_time_wait_for_two_segment_lifetimes(bench: Bench) -> None:
    heard: list[SocketEvent] = []
    socket, _ = closed_actively(bench)
    socket.on_event = lambda s, e: heard.append(e)
    bench.run(59.0)
    assert socket.key in bench.stack.transport.sockets
    bench.run(2.0)
    assert socket.key not in bench.stack.transport.sockets
    assert heard == [SocketEvent.CLOSED]
    assert socket.path_entry.users == 0


def test_a_new_syn_takes_the_place_of_a_connection_in_time_wait(bench: Bench) -> None:
    """RFC 9293 3.6.1; the new initial sequence number lies beyond the old ones."""
    old, syn = closed_actively(bench, timestamps=False)
    listener = bench.stack.tcp_listen(None, syn.source_port)
    (answer,) = give(bench, segment(SYN, seq=500_000, port=80, to=syn.source_port))
    assert answer.flags == SYN | ACK
    assert (answer.seq - old.tcb.delegated.snd_max) & 0xFFFFFFFF < 0x7FFFFFFF
    assert answer.ack == 500_001
    give(bench, segment(ACK, seq=500_001, ack=answer.seq + 1, port=80, to=syn.source_port))
    socket = listener.accept()
    assert socket is not None
    assert socket is not old


def test_an_old_syn_or_one_without_a_listener_leaves_time_wait_alone(bench: Bench) -> None:
    old, syn = closed_actively(bench, timestamps=False)
    (ack,) = give(bench, segment(SYN, seq=500_000, port=80, to=syn.source_port))
    assert not ack.flags & (SYN | RST)
    bench.stack.tcp_listen(None, syn.source_port)
    bench.take()
    give(bench, segment(SYN, seq=8000, port=80, to=syn.source_port))
    assert bench.stack.transport.sockets[old.key] is old


def test_a_port_in_time_wait_is_used_again_if_timestamps_tell_the_connections_apart(bench: Bench) -> None:
    bench.stack.transport.ports.picker = PortPicker(random.Random(1), range(50000, 50001))
    old, _ = closed_actively(bench)
    new = bench.stack.tcp_connect(("10.77.0.2", 80))
    bench.stack.flush()
    (syn,) = bench.segments()
    assert new.local == old.local
    assert 0 < (syn.seq - old.tcb.delegated.snd_max) & 0xFFFFFFFF < 0x7FFFFFFF
    assert syn.ts_val is not None


def test_without_timestamps_it_is_not(bench: Bench) -> None:
    bench.stack.transport.ports.picker = PortPicker(random.Random(1), range(50000, 50001))
    closed_actively(bench, timestamps=False)
    with pytest.raises(AddressInUse):
        bench.stack.tcp_connect(("10.77.0.2", 80))


# -- sockets


def test_the_send_buffer_is_bounded_and_tells_when_it_has_room(bench: Bench) -> None:
    socket, syn = bench.connected(options=SocketOptions(sndbuf=10_000, nagle=False))
    heard: list[SocketEvent] = []
    socket.on_event = lambda s, e: heard.append(e)
    assert socket.send(b"x" * 8_000) == 8_000
    assert socket.send(b"x" * 8_000) == 2_000
    assert socket.send(b"x") == 0
    assert socket.room == 0
    bench.stack.flush()
    seq = syn.seq + 1
    for acked, expected in ((1_000, []), (2_000, [SocketEvent.WRITABLE]), (3_000, [])):
        heard.clear()
        seq += acked
        give(bench, segment(ACK, seq=9001, ack=seq, port=80, to=syn.source_port))
        assert heard == expected
    assert socket.room == 6_000


def test_room_and_a_reset_that_arrive_together(bench: Bench) -> None:
    """Who writes as soon as there is room is told of the reset, and no misuse is made of it."""
    socket, syn = bench.connected(options=SocketOptions(sndbuf=4_000, nagle=False))
    heard: list[SocketEvent] = []
    taken: list[int] = []

    def write(_: Socket, event: SocketEvent) -> None:
        heard.append(event)
        if event is SocketEvent.WRITABLE:
            taken.append(socket.send(b"more"))

    socket.on_event = write
    assert socket.send(b"x" * 5_000) == 4_000
    bench.stack.flush()
    room = segment(ACK, seq=9001, ack=syn.seq + 4_001, port=80, to=syn.source_port)
    give(bench, room, segment(RST, seq=9001, port=80, to=syn.source_port))
    assert taken == [0]
    assert heard == [SocketEvent.WRITABLE, SocketEvent.FAILED, SocketEvent.CLOSED]
    assert isinstance(socket.error, ConnectionReset)


def test_the_receive_buffer_is_the_window(bench: Bench) -> None:
    socket, syn = bench.connected(options=SocketOptions(rcvbuf=4_000, timestamps=False))
    acks: list[Segment] = []
    for i in range(5):
        data = segment(
            ACK | PSH, seq=9001 + 1000 * i, ack=syn.seq + 1, port=80, to=syn.source_port, payload=b"y" * 1000
        )
        acks += give(bench, data)
    assert socket.available == 4_000
    assert acks[-1].window == 0
    assert acks[-1].ack == 13_001
    assert socket.recv(500) == b"y" * 500
    assert socket.recv() == b"y" * 3500
    assert socket.recv() is None
    bench.stack.flush()
    (update,) = bench.segments()
    assert update.window == 4_000


def test_a_refused_connection(bench: Bench) -> None:
    heard: list[SocketEvent] = []
    socket = bench.stack.tcp_connect(("10.77.0.2", 80), on_event=lambda s, e: heard.append(e))
    bench.stack.flush()
    (syn,) = bench.segments()
    give(bench, segment(RST | ACK, seq=0, ack=syn.seq + 1, port=80, to=syn.source_port))
    assert isinstance(socket.error, ConnectionRefused)
    assert isinstance(socket.error, ConnectionRefusedError)
    assert "10.77.0.2:80" in str(socket.error)
    assert heard == [SocketEvent.FAILED, SocketEvent.CLOSED]
    with pytest.raises(ConnectionRefused):
        socket.send(b"x")
    with pytest.raises(ConnectionRefused):
        socket.recv()


def test_a_reset_connection_still_gives_what_came_before(bench: Bench) -> None:
    socket, syn = bench.connected()
    to = syn.source_port
    give(bench, segment(ACK, seq=9001, ack=syn.seq + 1, port=80, to=to, payload=b"last words"))
    give(bench, segment(RST, seq=9011, port=80, to=to))
    assert socket.tcb.reset
    assert socket.recv(4) == b"last"
    assert socket.recv() == b" words"
    with pytest.raises(ConnectionReset, match="reset by the remote end"):
        socket.recv()


def test_closing_with_unread_data_resets(bench: Bench) -> None:
    """RFC 1122 4.2.2.13."""
    socket, syn = bench.connected()
    give(bench, segment(ACK, seq=9001, ack=syn.seq + 1, port=80, to=syn.source_port, payload=b"unread"))
    socket.close()
    bench.stack.flush()
    assert bench.segments()[-1].flags & RST
    assert isinstance(socket.error, ConnectionAborted)
    assert not bench.stack.transport.sockets


def test_closing_with_unread_data_resets_a_connection_that_the_remote_end_has_closed(bench: Bench) -> None:
    """RFC 9293 3.10.5: an ABORT in CLOSE_WAIT sends a RST, one in LAST_ACK does not."""
    socket, syn = bench.connected()
    arriving = segment(ACK | FIN, seq=9001, ack=syn.seq + 1, port=80, to=syn.source_port, payload=b"unread")
    give(bench, arriving)
    socket.close()
    bench.stack.flush()
    assert bench.segments()[-1].flags & RST
    assert isinstance(socket.error, ConnectionAborted)


def test_data_for_a_closed_socket_resets(bench: Bench) -> None:
    socket, syn = bench.connected()
    socket.close()
    bench.stack.flush()
    assert bench.segments()[-1].flags & FIN
    answers = give(
        bench, segment(ACK, seq=9001, ack=syn.seq + 2, port=80, to=syn.source_port, payload=b"late")
    )
    assert answers[-1].flags & RST


def test_what_was_read_as_soon_as_the_connection_was_there_does_not_reset_it(bench: Bench) -> None:
    """The end of the handshake and the request come together: the answer, and an orderly close."""

    def serve(listener: Listener) -> None:
        socket = listener.accept()
        assert socket is not None
        assert socket.recv() == b"request"
        socket.send(b"answer")
        socket.close()

    listener = bench.stack.tcp_listen(None, 80, on_accept=serve)
    (answer,) = give(bench, segment(SYN))
    ack = answer.seq + 1
    found = give(bench, segment(ACK, seq=1001, ack=ack), segment(ACK, seq=1001, ack=ack, payload=b"request"))
    assert not any(s.flags & RST for s in found)
    assert b"".join(s.payload for s in found) == b"answer"
    assert found[-1].flags & FIN
    assert not listener.ready


def test_half_close(bench: Bench) -> None:
    socket, syn = bench.connected()
    to = syn.source_port
    socket.send(b"question")
    socket.shutdown()
    socket.shutdown()
    with pytest.raises(BrokenPipe):
        socket.send(b"more")
    bench.stack.flush()
    assert bench.segments()[-1].flags & FIN
    end = syn.seq + 1 + 8 + 1
    give(bench, segment(ACK, seq=9001, ack=end, port=80, to=to, payload=b"answer"))
    assert socket.state is State.TcpConnectionFinWait2
    assert socket.recv() == b"answer"
    assert socket.recv() is None
    give(bench, segment(ACK | FIN, seq=9007, ack=end, port=80, to=to))
    assert socket.recv() == b""
    assert socket.at_end


def test_a_remote_end_that_never_closes_its_half_is_given_up_once_the_application_has_closed(
    bench: Bench,
) -> None:
    """RFC9293-3.6.1-FW2: FIN_WAIT_2 then lasts 120 s. While the application reads, it may last for hours."""
    socket, syn = bench.connected()
    socket.shutdown()
    bench.stack.flush()
    give(bench, segment(ACK, seq=9001, ack=syn.seq + 2, port=80, to=syn.source_port))
    assert socket.state is State.TcpConnectionFinWait2
    bench.run(7200.0)
    assert socket.recv() is None
    give(bench, segment(ACK, seq=9001, ack=syn.seq + 2, port=80, to=syn.source_port, payload=b"late"))
    assert socket.recv() == b"late"
    socket.close()
    bench.stack.flush()
    bench.run(119.0)
    assert bench.stack.transport.sockets
    bench.run(2.0)
    assert not bench.stack.transport.sockets


@pytest.mark.parametrize("closed", [False, True])
def test_a_connection_that_comes_up_in_fin_wait_2_waits_as_its_application_does(
    bench: Bench, closed: bool
) -> None:
    """RFC9293-3.6.1-FW2, R-TMR-09: the timer that comes up counts if the application has closed."""
    socket, syn = bench.connected()
    socket.shutdown()
    bench.stack.flush()
    give(bench, segment(ACK, seq=9001, ack=syn.seq + 2, port=80, to=syn.source_port))
    bench.stack.detach(socket, bench.now)
    if closed:
        socket.close()
    socket.tcb.delegated.retransmit_timeout_delta = 70_000
    bench.stack.attach(socket, bench.now)
    bench.run(69.0)
    assert len(bench.stack.transport.sockets) == 1
    bench.run(100.0)
    assert len(bench.stack.transport.sockets) == (not closed)


def test_events_in_their_order(bench: Bench) -> None:
    heard: list[SocketEvent] = []
    bench.know_remote()
    socket = bench.stack.tcp_connect(("10.77.0.2", 80), on_event=lambda s, e: heard.append(e))
    bench.stack.flush()
    (syn,) = bench.segments()
    to = syn.source_port
    give(bench, segment(SYN | ACK, seq=9000, ack=syn.seq + 1, port=80, to=to))
    give(bench, segment(ACK | FIN, seq=9001, ack=syn.seq + 1, port=80, to=to, payload=b"all"))
    assert heard == [SocketEvent.CONNECTED, SocketEvent.READABLE, SocketEvent.REMOTE_CLOSED]
    socket.recv()
    socket.close()
    bench.stack.flush()
    give(bench, segment(ACK, seq=9005, ack=syn.seq + 2, port=80, to=to))
    assert heard[-1] is SocketEvent.CLOSED
    assert socket.error is None


def test_segments_out_of_order_are_each_acknowledged_though_they_come_together(bench: Bench) -> None:
    """RFC 5681 3.2: the remote end counts duplicate ACKs; one for all of them would not do."""
    socket, syn = bench.connected(options=SocketOptions(sack=False, timestamps=False))
    to = syn.source_port
    lost_first = [
        segment(ACK, seq=9001 + 100 * i, ack=syn.seq + 1, port=80, to=to, payload=b"z" * 100)
        for i in range(1, 6)
    ]
    answers = give(bench, *lost_first)
    assert [a.ack for a in answers] == [9001] * 5
    (answer,) = give(bench, segment(ACK, seq=9001, ack=syn.seq + 1, port=80, to=to, payload=b"z" * 100))
    assert answer.ack == 9601
    assert socket.available == 600


def test_a_callback_may_use_the_stack(bench: Bench) -> None:
    """An echo, a new connection and a close from within callbacks."""

    def on_event(socket: Socket, event: SocketEvent) -> None:
        if event is SocketEvent.READABLE:
            data = socket.recv()
            assert data
            socket.send(data)
            bench.stack.tcp_connect(("10.77.0.2", 99))
        elif event is SocketEvent.REMOTE_CLOSED:
            socket.close()

    def on_accept(listener: Listener) -> None:
        socket = listener.accept()
        assert socket is not None
        socket.on_event = on_event

    listener = bench.stack.tcp_listen(None, 80, on_accept=on_accept)
    answer, seq = opened(bench, listener)
    found = give(bench, segment(ACK | FIN | PSH, seq=seq, ack=answer.seq + 1, payload=b"hello"))
    assert any(s.payload == b"hello" for s in found)
    assert any(s.flags & FIN for s in found)
    assert any(s.flags == SYN and s.destination_port == 99 for s in found)


def test_options_out_of_range_are_refused() -> None:
    for bad in (
        {"mss": 40},
        {"ttl": 0},
        {"tos": 256},
        {"rcvbuf": 0},
        {"keep_idle": 0},
        {"user_timeout": -1},
        {"priority": 8},
    ):
        with pytest.raises(LocalProtocolError, match=next(iter(bad))):
            SocketOptions(**bad)  # type: ignore[arg-type]
    assert SocketOptions().max_rt(1000) == 0
    assert SocketOptions(user_timeout=2.5).max_rt(1000) == 2500
    assert SocketOptions(user_timeout=float("inf")).max_rt(1000) == 0xFFFFFFFF
