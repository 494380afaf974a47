"""Windows: shrinking, zero, probing, and the receiver's updates (RFC 9293 3.8.6)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import CLOSED, ESTABLISHED, Endpoint, incoming

RTO = 1000


def shrunk(window: int) -> Endpoint:
    """Four segments are outstanding when the window shrinks."""
    end = Endpoint.established(send_window=8000)
    end.send(4000)
    end.expect_data(1, 1001, 2001, 3001)
    end.gets("A", size=1, ack=1, window=window)
    end.wait(200)
    end.expect_ack(2)
    return end


def test_nothing_new_is_sent_when_the_usable_window_is_negative() -> None:
    """RFC9293-MUST-34, RFC9293-SHLD-15: a remote end may take its window back."""
    end = shrunk(2000)
    end.send(4000)
    end.expect_nothing()
    end.gets("A", ack=2001, window=2000)
    end.expect_nothing()
    end.gets("A", ack=4001, window=2000)
    end.expect_data(4001, 5001)


def test_old_data_inside_the_shrunken_window_is_retransmitted() -> None:
    """RFC9293-SHLD-16: between SND.UNA and SND.UNA+SND.WND as ever."""
    end = shrunk(2000)
    end.wait(RTO)
    end.expect("A", seq=1)
    sent = end.drop_sent()
    assert all(end.relative_out(s.segment.seq) + len(s.segment.payload) <= 2001 for s in sent)
    end.expect_state(ESTABLISHED)


def test_no_timeout_for_data_beyond_the_right_edge() -> None:
    """RFC9293-SHLD-17, RFC9293-MUST-35: a window shrunk to zero is probed, the connection stays."""
    end = shrunk(0)
    for _ in range(40):
        end.until_sent()
        end.drop_sent()
        end.gets("A", ack=1, window=0)
    assert end.elapsed > 600_000
    end.expect_state(ESTABLISHED)
    assert not end.heard_of(EventKind.TIMED_OUT)
    end.gets("A", ack=4001, window=8000)
    assert end.machine.queued == 0


def zero_window(**options: Any) -> Endpoint:
    """Everything is acknowledged, the window is zero, 3000 bytes wait."""
    end = Endpoint.established(send_window=1000, **options)
    end.send(4000)
    end.expect_data(1)
    end.gets("A", ack=1001, window=0)
    end.expect_nothing()
    return end


def test_a_zero_window_is_probed() -> None:
    """RFC9293-MUST-36, RFC9293-MUST-35, RFC9293-SHLD-29.

    With at least one byte, after the retransmission timeout.
    R-RFC-01, R-RFC-02: zero-window probing, as RFC 1122 has it.
    """
    end = zero_window()
    end.wait(RTO - 1)
    end.expect_nothing()
    end.wait(1)
    probe = end.expect("A", seq=1001)
    assert len(probe.payload) >= 1
    end.expect_nothing()


def test_probes_come_less_and_less_often() -> None:
    """RFC9293-SHLD-30, RFC1122-4.2.2.17: each interval is about twice the last."""
    end = zero_window()
    end.wait(20_000)
    times = [sent.at for sent in end.drop_sent()]
    assert len(times) >= 4
    gaps = [after - before for before, after in pairwise(times)]
    for shorter, longer in pairwise(gaps):
        assert longer >= 2 * shorter


def test_a_zero_window_may_last() -> None:
    """RFC9293-MUST-37, RFC9293-MAY-8.

    As long as probes are answered the connection stays, here for half a day.
    """
    end = zero_window()
    while end.elapsed < 12 * 3_600_000:
        end.until_sent()
        end.drop_sent()
        end.gets("A", ack=1001, window=0)
    end.expect_state(ESTABLISHED)
    end.gets("A", ack=1001, window=10_000)
    end.expect_data(1001, 2001, 3001)


def test_the_window_reopens_by_itself() -> None:
    """RFC9293-MUST-36: an update that comes is used at once, and probing ends."""
    end = zero_window()
    end.wait(RTO)
    end.drop_sent()
    end.gets("A", ack=1001, window=10_000)
    end.expect_data(1001, 2001, 3001)
    end.gets("A", ack=4001, window=10_000)
    end.wait(300_000)
    end.expect_nothing()


def test_a_lost_window_update_is_made_up_for_by_a_probe() -> None:
    """RFC9293-MUST-36: the answer to the probe tells the window that has opened in between."""
    end = zero_window()
    end.wait(RTO)
    probe = end.expect("A", seq=1001)
    taken = len(probe.payload)
    end.gets("A", ack=1001 + taken, window=10_000)
    rest = b"".join(bytes(sent.segment.payload) for sent in end.drop_sent())
    assert len(rest) == 3000 - taken


def test_a_probe_that_is_accepted_advances_the_stream_by_what_it_carried() -> None:
    """RFC9293-3.8.6.1-BYTE.

    The probe's bytes are part of the stream and are not sent twice as different data.
    """
    end = zero_window()
    end.wait(RTO)
    taken = len(end.expect("A", seq=1001).payload)
    end.gets("A", ack=1001 + taken, window=0)
    assert sum(e.value for e in end.events(EventKind.SENT)) == 1000 + taken
    end.gets("A", ack=1001 + taken, window=5000)
    first = end.sent[0].segment
    assert end.relative_out(first.seq) == 1001 + taken


def test_probing_without_any_answer_ends() -> None:
    """RFC9293-MUST-20, RFC9293-3.10.8-USER: a remote end that is gone is noticed."""
    end = zero_window(parameters={"tcp_maximum_retransmissions": 4})
    end.wait(100_000)
    end.expect_state(ESTABLISHED)
    end.wait(200_000)
    assert end.heard_of(EventKind.TIMED_OUT)
    end.expect_state(CLOSED)


@pytest.mark.parametrize("idle", [0, 500_000])
def test_an_outage_while_the_window_is_closed_ends_nothing(idle: int) -> None:
    """RFC9293-SHLD-11: R2 of 100 s is for probes too. It begins with the first that is not answered."""
    end = Endpoint.established()
    end.send(1000)
    end.gets("A", ack=1001, window=0)
    end.wait(idle)
    end.drop_sent()
    end.send(1000)
    for _ in range(2):
        end.wait(90_000)
        end.expect_state(ESTABLISHED)
        assert end.drop_sent()
        end.gets("A", ack=1001, window=0)
    end.gets("A", ack=1001, window=60_000)
    end.drop_sent()
    end.gets("A", ack=2001)
    assert end.machine.queued == 0


def test_no_probe_without_anything_to_send() -> None:
    """RFC9293-3.8.6.1-NEEDED: a zero window alone is not a reason to probe."""
    end = Endpoint.established(send_window=1000)
    end.send(1000)
    end.expect_data(1)
    end.gets("A", ack=1001, window=0)
    end.wait(300_000)
    end.expect_nothing()


def test_a_fin_behind_a_zero_window_gets_through_in_the_end() -> None:
    """RFC9293-3.8.6.1-FIN: nothing but a FIN left to send is something left to send."""
    end = Endpoint.established(send_window=1000)
    end.send(1000)
    end.expect_data(1)
    end.gets("A", ack=1001, window=0)
    end.shutdown()
    end.wait(5000)
    sent = end.drop_sent()
    assert sent
    end.gets("A", ack=1001, window=1000)
    end.wait(5000)
    sent += end.drop_sent()
    assert any(s.segment.flags & 1 and end.relative_out(s.segment.seq) == 1001 for s in sent)


def test_the_window_offered_follows_the_buffer() -> None:
    """RFC9293-3.8.6.2.2-EDGE: it shrinks by what came in and was not read; the right edge stays."""
    end = Endpoint.established(receive_window=10_000)
    end.gets("A", size=1000)
    end.gets("A", size=1000)
    end.expect_ack(2001, window=8000)


def test_a_small_read_moves_no_edge() -> None:
    """RFC9293-MUST-39, RFC9293-3.8.6.2.2-SWS, RFC1122-4.2.3.3.

    Less than a segment and than half the buffer.
    R-RFC-01, R-RFC-05: RFC 813, and silly windows are avoided though that is only recommended.
    """
    end = Endpoint.established(receive_window=10_000)
    for _ in range(10):
        end.gets("A", size=1000)
    end.drop_sent()
    end.read(100)
    end.wait(300)
    assert not [s for s in end.drop_sent() if end.relative_in(s.segment.ack) + s.segment.window > 10_001]


def test_a_large_read_moves_the_edge_and_says_so() -> None:
    """RFC9293-3.8.6.2.2-SWS: by a whole segment or half of the buffer, in an ACK of its own."""
    end = Endpoint.established(receive_window=10_000)
    for _ in range(10):
        end.gets("A", size=1000)
    end.wait(500)
    end.drop_sent()
    assert end.read(6000) == incoming(0, 6000)
    end.expect_ack(10_001, window=6000)


def test_a_small_buffer_opens_by_halves() -> None:
    """RFC9293-3.8.6.2.2-SWS: Fr * RCV.BUFF when that is less than a segment."""
    end = Endpoint.established(receive_window=1000, mss=1460)
    end.gets("A", size=1000)
    end.wait(300)
    end.drop_sent()
    end.read(400)
    end.expect_nothing()
    end.read(100)
    end.expect_ack(1001, window=500)


def test_a_closed_window_does_not_stay_closed_for_a_reader() -> None:
    """RFC9293-3.8.6.2.2-SWS: everything read, the whole buffer is offered again."""
    end = Endpoint.established(receive_window=4000)
    for _ in range(4):
        end.gets("A", size=1000)
    end.wait(300)
    end.drop_sent()
    end.read()
    end.expect_ack(4001, window=4000)


@pytest.mark.parametrize("window", [1, 500, 999])
def test_a_tiny_window_does_not_stall(window: int) -> None:
    """RFC9293-MUST-60: less than a segment, for good: the stream flows all the same."""
    end = Endpoint.established(send_window=window)
    total = 3 * window + 100
    end.send(total)
    acked = 1
    for _ in range(200):
        end.wait(600)
        for sent in end.drop_sent():
            acked = max(acked, end.relative_out(sent.segment.seq) + len(sent.segment.payload))
        end.gets("A", ack=acked, window=window)
        if acked > total:
            break
    assert acked == total + 1
