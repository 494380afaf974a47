"""A connection torn out and put into another machine: in every state, at every instant of a scenario."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.errors import LocalProtocolError
from ndisbus.net.segment import FIN, SYN
from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    SYN_RCVD,
    SYN_SENT,
    SYNCHRONIZED,
    TIME_WAIT,
    V6,
    Endpoint,
    incoming,
)
from tests.unit.ndisbus.tcp.handing import NOT_RUNNING, copies, move

# -- outstanding data


def test_bytes_in_flight_are_acknowledged_and_retransmitted_by_the_successor() -> None:
    """R-OSD-06: SndUna up to SndNxt is in flight: not sent at once, sent again if need be."""
    end = Endpoint.established()
    end.send(3000)
    end.drop_sent()
    given = move(end, offloaded=True)
    assert b"".join(given.send_data) == b"".join(bytes([i % 251]) for i in range(3000))
    end.collect()
    end.expect_nothing()
    end.gets("A", ack=1001)
    assert [e.value for e in end.events(EventKind.SENT)] == [1000]
    end.wait(1000)
    end.expect("A", seq=1001, length=1000)


def test_a_retransmission_in_progress_goes_out_first() -> None:
    """R-OSD-07: from SndNxt to SndMax, before bytes that were never sent."""
    end = Endpoint.established(c_wnd=10_000)
    end.send(4000)
    end.drop_sent()
    end.wait(1000)
    end.drop_sent()
    end.gets("A", ack=1001)
    end.drop_sent()
    d = end.delegated
    assert (end.snd_una, end.relative_out(d.snd_nxt), end.relative_out(d.snd_max)) == (1001, 3001, 4001)
    end.queue(3000)
    move(end, clock=17, offloaded=True)
    end.window = 60_000
    end.gets("A", ack=3001)
    end.expect_data(3001, 4001, 5001)


def test_a_retransmission_that_was_about_to_begin_begins() -> None:
    """R-OSD-07: the timer has expired, nothing was sent yet: SndNxt is SndUna."""
    end = Endpoint.established()
    end.send(4000)
    end.drop_sent()
    end.now += 1000
    end.machine.on_timer(end.now)
    move(end, clock=-3, offloaded=True)
    assert end.delegated.snd_nxt == end.delegated.snd_una
    end.collect()
    end.expect_data(1)
    end.expect_nothing()


def test_bytes_never_sent_follow_before_data_posted_later() -> None:
    """R-OSD-08: beyond SndMax, in order."""
    end = Endpoint.established(c_wnd=2000)
    end.send(3500)
    end.expect_data(1, 1001)
    move(end, offloaded=True)
    end.queue(500)
    end.gets("A", ack=2001)
    end.expect_data(2001)
    end.expect("A", seq=3001, length=1000)


def test_without_a_retransmission_snd_nxt_is_snd_max() -> None:
    """R-OSD-09: at rest, with data in flight, and after a fast retransmission."""
    end = Endpoint.established()
    for size in (0, 100, 5000):
        if size:
            end.send(size)
        assert end.delegated.snd_nxt == end.delegated.snd_max
    end.drop_sent()
    for _ in range(3):
        end.gets("A", ack=1)
    assert len(end.drop_sent()) >= 1
    assert end.delegated.snd_nxt == end.delegated.snd_max


def test_pieces_keep_their_ends() -> None:
    """R-SEND-05: PSH stands where the pieces of the predecessor end, whatever of them was acknowledged."""
    end = Endpoint.established(c_wnd=1000)
    end.queue(1500)
    end.queue(700)
    end.collect()
    end.expect("A", seq=1, length=1000, psh=False)
    end.gets("A")
    end.expect("A", seq=1001, length=1000, psh=True)
    end.gets("A", ack=1101)
    end.drop_sent()
    given = move(end, offloaded=True)
    assert [len(piece) for piece in given.send_data] == [400, 700]
    end.wait(1000)
    end.expect("A", seq=1101, length=1000, psh=True)


# -- options


@pytest.mark.parametrize("addresses", [None, V6])
def test_options_go_on(addresses: Any) -> None:
    """R-STATE-17: timestamps on every segment, SACK sent and honoured, both scale factors applied."""
    more = {"addresses": addresses} if addresses else {}
    end = Endpoint.established(
        timestamps=True, sack=True, scales=(3, 5), receive_window=640_000, send_window=480_000, **more
    )
    move(end, clock=1234, offloaded=True)
    end.send(20_000)
    assert end.delegated.snd_wnd == 480_000
    sent = end.drop_sent()
    assert all(s.segment.ts_val is not None for s in sent)
    assert sent[0].segment.window == 640_000 >> 5
    end.gets("A", ack=1, window=100)
    assert end.delegated.snd_wnd == 800
    end.gets("A", ack=1, window=60_000)
    # A gap: the ACK shows the block.
    end.gets("A", seq=501, size=500, ack=1)
    block = end.sent.popleft().segment
    assert [(end.relative_in(a), end.relative_in(b)) for a, b in block.sack] == [(501, 1001)]
    assert block.ts_val is not None
    end.gets("A", seq=1, size=500, ack=1)
    end.drop_sent()
    # Blocks of the remote end: after three of them the hole is sent again, and no more than the hole.
    first = end.snd_una
    mss = 1000 - 12
    for n in (2, 3, 4):
        block_of = ((first + mss + end.iss) & 0xFFFFFFFF, (first + n * mss + end.iss) & 0xFFFFFFFF)
        end.gets("A", ack=first, options={"sack": (block_of,)})
    again = [s for s in end.drop_sent() if end.relative_out(s.segment.seq) < first + 4 * mss]
    assert [end.relative_out(s.segment.seq) for s in again] == [first]
    end.wait(60_000)
    end.shutdown()
    end.abort()
    assert end.sent
    assert all(s.segment.ts_val is not None for s in end.drop_sent())


def test_without_options_there_are_none() -> None:
    """R-STATE-17: they are used when they are enabled."""
    end = Endpoint.established()
    move(end, offloaded=True)
    end.send(2000)
    end.gets("A", seq=501, size=100)
    assert all(s.segment.ts_val is None and not s.segment.sack for s in end.drop_sent())


# -- timestamps


def test_timestamps_go_on_across_two_clocks() -> None:
    """R-TS-01, R-TS-02, R-TS-03, R-TS-04, R-TS-05: what is sent goes on growing. R-TS-06: the round trip."""
    end = Endpoint.established(timestamps=True)
    end.send(100)
    before = end.sent.popleft().segment.ts_val
    assert before is not None
    end.wait(20)
    move(end, clock=9_999_999, offloaded=True)
    assert end.delegated.ts_time == (before + 20) & 0xFFFFFFFF
    end.wait(5)
    end.gets("A")  # the echo of a timestamp that the predecessor sent
    assert end.delegated.s_rtt == 25 * 8
    end.send(100)
    assert end.sent.popleft().segment.ts_val == (before + 25) & 0xFFFFFFFF
    end.wait(10)
    move(end, clock=-20_000_000, offloaded=False)
    end.wait(7)
    end.send(100)
    assert end.sent.popleft().segment.ts_val == (before + 42) & 0xFFFFFFFF


def test_ts_recent_and_its_age_go_across() -> None:
    """R-TS-07: what is echoed, and for how long it counts against old duplicates (PAWS)."""
    end = Endpoint.established(timestamps=True)
    end.remote_clock += 500
    end.gets("A", size=10)
    end.wait(1000)
    end.drop_sent()
    move(end, clock=123, offloaded=True)
    assert end.delegated.ts_recent == end.remote_clock & 0xFFFFFFFF
    assert end.delegated.ts_recent_age == 1000
    end.gets("A", size=10, options={"ts_val": end.remote_clock - 1})
    end.expect_ack(11)
    assert end.rcv_nxt == 11
    # After 24 days the remote end's clock cannot be known any more.
    end.remote_next = 11
    end.wait(24 * 86_400_000)
    move(end, clock=-5)
    assert end.delegated.ts_recent_age == 24 * 86_400_000 + 1000
    end.gets("A", size=10, options={"ts_val": end.remote_clock - 1})
    assert end.rcv_nxt == 21


# -- received data


def test_unread_data_and_data_out_of_order_go_across() -> None:
    """R-BRD-02: unread data ends before RcvNxt; what lies beyond a gap follows as segments."""
    end = Endpoint.established()
    end.gets("A", size=300)
    end.gets("A", seq=601, size=300)
    end.gets("FA", seq=901)
    end.drop_sent()
    given = move(end, offloaded=True)
    assert b"".join(given.received) == incoming(0, 300)
    assert [(end.relative_in(s.seq), len(s.payload), s.flags & FIN) for s in given.segments] == [
        (601, 300, FIN)
    ]
    end.gets("A", seq=301, size=300)
    assert end.read() == incoming(0, 900)
    end.expect_state(CLOSE_WAIT)
    assert end.machine.at_end


def test_data_out_of_order_may_be_dropped() -> None:
    """R-TERM-16: it was reported by SACK only, so the remote end still has it."""
    end = Endpoint.established(sack=True, timestamps=True)
    end.gets("A", seq=601, size=300)
    end.drop_sent()
    move(end, drop=True)
    end.gets("A", seq=1, size=600)
    assert end.rcv_nxt == 601
    end.gets("A", seq=601, size=300)
    assert end.read() == incoming(0, 900)


def test_the_receive_window_goes_across_with_unread_data() -> None:
    """RcvWnd is the window from RcvNxt; unread data takes room in the successor's buffer too."""
    end = Endpoint.established(receive_window=3000)
    end.gets_all([end.segment("A", size=1000) for _ in range(3)])
    end.expect_ack(3001, window=0)
    move(end, offloaded=True)
    end.read(1000)
    end.expect_ack(3001, window=1000)
    end.read()
    end.expect_ack(3001, window=3000)


# -- every state


@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_every_state_goes_on(state: TcpOffloadConnectionState) -> None:
    """R-STATE-06, R-STATE-04: from each state the connection comes to its end in the successor."""
    end = Endpoint.in_state(state)
    move(end, clock=321, offloaded=True)
    end.expect_state(state)
    if state in (ESTABLISHED, CLOSE_WAIT):
        end.send(500)
        end.expect("A", length=500)
        end.gets("A")
        end.shutdown()
        end.expect("FA")
    if end.state in (FIN_WAIT_1, CLOSING, LAST_ACK):
        end.wait(1000)  # the FIN again
        end.drop_sent()
        end.gets("A")
    if end.state is FIN_WAIT_2:
        end.gets("FA", size=100)
        assert end.read() == incoming(0, 100)
        end.expect_ack(102)
    if end.state is TIME_WAIT:
        end.wait(60_000)
    end.expect_state(CLOSED)


@pytest.mark.parametrize("state", [FIN_WAIT_1, CLOSING, LAST_ACK])
def test_a_fin_that_was_sent_is_not_sent_twice(state: TcpOffloadConnectionState) -> None:
    """R-OSD-05: SndMax lies beyond the data and the FIN, so it is known that the FIN is out."""
    end = Endpoint.in_state(state)
    move(end, offloaded=True)
    end.collect()
    end.expect_nothing()
    end.gets("A")
    end.expect_nothing()
    assert end.state in (FIN_WAIT_2, TIME_WAIT, CLOSED)


def test_a_fin_that_was_not_sent_yet_is_sent_behind_the_data() -> None:
    """R-OSD-08: in FIN_WAIT_1 the FIN follows the last byte of the data handed over."""
    end = Endpoint.established(c_wnd=1000)
    end.send(2500)
    end.shutdown()
    end.expect_data(1)
    move(end, offloaded=True)
    end.collect()
    end.expect_nothing()
    end.gets("A")
    end.expect("A", seq=1001, length=1000)
    end.expect("FA", seq=2001, length=500)
    end.gets("A")
    end.expect_state(FIN_WAIT_2)


@pytest.mark.parametrize("passive", [False, True])
def test_even_a_handshake_goes_on(passive: bool) -> None:
    """Nothing offloads a connection before ESTABLISHED (R-STATE-06), but a machine can be replaced."""
    if passive:
        end = Endpoint.accepting()
        end.expect("SA")
        end.expect_state(SYN_RCVD)
    else:
        end = Endpoint.opening()
        end.expect("S")
        end.expect_state(SYN_SENT)
    move(end)
    end.wait(1000)
    again = end.sent.popleft().segment
    assert again.flags & SYN
    assert again.mss == 1460
    end.remote_next = 1 if passive else 0
    end.gets("A" if passive else "SA", ack=1)
    end.expect_state(ESTABLISHED)
    end.drop_sent()
    end.send(100)
    end.expect("A", seq=1, length=100)


def test_afterwards_the_machine_is_dead() -> None:
    """The structures belong to the successor: the predecessor neither sends nor takes anything."""
    end = Endpoint.established(keepalive=True)
    end.send(5000)
    end.drop_sent()
    old = end.machine
    before = copies(old)
    old.hand_over(end.now)
    handed = copies(old)
    assert before[2].snd_una == handed[2].snd_una
    old.receive(end.segment("A", ack=1001, size=10), end.now + 5)
    old.on_timer(end.now + 10**9)
    assert old.transmit(end.now + 10**9) == []
    assert old.next_deadline() is None
    assert copies(old) == handed


def test_a_closed_connection_has_no_timers() -> None:
    """R-QRY-06: and its state says so."""
    end = Endpoint.established(keepalive=True)
    end.gets("R", seq=1)
    given = move(end)
    end.expect_state(CLOSED)
    assert given.send_data == []
    assert end.delegated.retransmit_timeout_delta == NOT_RUNNING
    assert end.delegated.keep_alive_timeout_delta == NOT_RUNNING
    with pytest.raises(LocalProtocolError):
        end.machine.send(b"x")


def test_a_query_disturbs_nothing() -> None:
    """R-QRY-03: write_back gives the current values; the machine goes on, to the tick."""
    times = []
    for queries in (0, 7):
        end = Endpoint.established(timestamps=True, keepalive=True, cached={"ka_timeout": 50_000})
        end.send(1000)
        for _ in range(queries):
            end.machine.write_back(end.now)
            end.wait(100)
        end.at(20_000)
        times.append([(s.at, s.segment.ts_val) for s in end.drop_sent()])
    assert times[0] == times[1]


# -- every instant


def _download(end: Endpoint, point: Callable[[], None]) -> None:
    for n in range(0, 3000, 500):
        end.gets("A", seq=n + 1, size=500)
        point()
    end.gets("A", seq=4001, size=500)
    point()
    end.gets("A", seq=3501, size=500)
    point()
    end.read(1000)
    point()
    end.gets("A", seq=3001, size=500)
    point()
    end.gets("FA", seq=4501)
    point()
    end.wait(500)
    end.read()
    point()
    end.shutdown()
    point()
    end.gets("A")


def _upload(end: Endpoint, point: Callable[[], None]) -> None:
    end.send(30_000)
    point()
    for _ in range(4):
        end.gets("A", ack=1)  # a loss
        point()
    end.gets("A", ack=5001)
    point()
    end.wait(2500)  # another, found by the timer
    point()
    end.gets("A", ack=8001)
    point()
    end.shutdown()
    point()
    end.window = 0
    end.gets("A", ack=9001)
    point()
    end.wait(3000)  # two window probes
    point()
    end.window = 60_000
    end.gets("A", ack=9001)
    point()
    while end.snd_una < 30_002:
        end.gets("A", ack=min(end.snd_una + 2000, end.seen))
        point()
    end.gets("FA")
    point()


def _history(
    scenario: Callable[[Endpoint, Callable[[], None]], None], where: int, **options: Any
) -> tuple[list[Any], Endpoint, int]:
    end = Endpoint.established(timestamps=True, sack=False, **options)
    count = 0

    def point() -> None:
        nonlocal count
        if count == where:
            move(end, clock=count * 1000 - 3000, offloaded=count % 2 == 0)
            end.collect()
        count += 1

    scenario(end, point)
    stream: dict[int, int] = {}
    for sent in end.drop_sent():
        for i, byte in enumerate(bytes(sent.segment.payload)):
            number = end.relative_out(sent.segment.seq) + i
            assert stream.setdefault(number, byte) == byte
    seen = [end.state, end.rcv_nxt, end.snd_una, sorted(stream.items()), end.seen]
    return seen, end, count


@pytest.mark.parametrize("scenario", [_download, _upload])
def test_torn_out_at_every_instant(scenario: Callable[[Endpoint, Callable[[], None]], None]) -> None:
    """R-STATE-04, R-OSD-06, R-BRD-02: the remote end gets the same bytes, ACKs and end as without."""
    expected, _, points = _history(scenario, -1)
    assert points > 12
    for where in range(points):
        got, _, _ = _history(scenario, where)
        assert got == expected, f"torn out at point {where}"
