"""Urgent data: a target leaves it to the host; a host delivers it in line and says where it ends."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.net.segment import URG
from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import ESTABLISHED, Endpoint, incoming
from tests.unit.ndisbus.tcp.handing import move, target_end, uploads


def urgent(end: Endpoint, *, size: int = 10, **fields: Any) -> None:
    segment = end.segment("UA", size=size, **fields)
    segment.urgent = size
    end.gets_all([segment])


def test_valid_urgent_data_makes_a_target_ask_for_the_upload() -> None:
    """R-IP-07, R-EVT-09: reason ReceivedUrgentData; nothing of the segment is taken or acknowledged."""
    end = target_end()
    urgent(end)
    assert uploads(end) == [TcpUploadReason.ReceivedUrgentData]
    end.wait(100_000)
    end.expect_nothing()
    assert end.rcv_nxt == 1
    assert end.machine.available == 0
    end.expect_state(ESTABLISHED)


@pytest.mark.parametrize(
    "fields", [{"seq": -50}, {"seq": 30_000}, {"seq": 20_001}, {"ack": 5}, {"ack": 1 - 60_001}]
)
def test_urgent_data_out_of_the_window_or_with_a_wrong_ack_is_discarded(fields: dict[str, int]) -> None:
    """R-IP-07: the sequence number and the ACK are checked first."""
    end = target_end()
    urgent(end, **fields)
    assert not uploads(end)
    assert end.rcv_nxt == 1
    end.drop_sent()
    end.gets("A", seq=1, size=100)
    end.wait(200)
    end.expect_ack(101)


def test_after_it_nothing_more_is_acknowledged() -> None:
    """R-IP-08: later segments are not taken either; the host gets them by the ordinary receive path."""
    end = target_end()
    urgent(end, seq=101)
    assert uploads(end) == [TcpUploadReason.ReceivedUrgentData]
    for seq in (1, 111, 211):
        end.gets("A", seq=seq, size=100)
    end.gets("FA", seq=311)
    end.wait(100_000)
    end.expect_nothing()
    given = end.machine.hand_over(end.now)
    assert given.last == []
    assert given.received == []
    assert given.segments == []
    assert end.delegated.rcv_nxt == (end.irs + 1) & 0xFFFFFFFF


def test_what_came_before_it_is_acknowledged_with_the_upload() -> None:
    """R-IP-08, R-TMR-06: the ACK that was pending covers nothing of the urgent segment."""
    end = target_end()
    end.gets("A", size=100)
    urgent(end)
    end.expect_nothing()
    given = end.machine.hand_over(end.now)
    assert [end.relative_in(s.ack) for s in given.last] == [101]


def test_the_host_goes_on_with_the_urgent_segment() -> None:
    """R-IP-08: after the upload it is processed as if it had only just come."""
    end = target_end()
    segment = end.segment("UA", size=10)
    segment.urgent = 4
    end.gets_all([segment])
    move(end, clock=-8, offloaded=False)
    end.gets_all([segment])
    assert [e.value for e in end.events(EventKind.URGENT)] == [4]
    assert end.read() == incoming(0, 10)


def test_a_host_delivers_in_line() -> None:
    """RFC 9293 3.8.5, RFC 6093: URGENT counts the bytes up to the end of the urgent data, unread ones too."""
    end = Endpoint.established()
    end.gets("A", size=20)
    segment = end.segment("UA", size=10)
    segment.urgent = 300
    end.gets_all([segment])
    assert [e.value for e in end.events(EventKind.URGENT)] == [20 + 300]
    assert end.read() == incoming(0, 30)
    # The same pointer again is not told; one further on is.
    segment = end.segment("UA", size=10)
    segment.urgent = 290
    end.gets_all([segment])
    assert not end.heard_of(EventKind.URGENT)
    segment = end.segment("UA", size=10)
    segment.urgent = 1000
    end.gets_all([segment])
    assert [e.value for e in end.events(EventKind.URGENT)] == [10 + 1000]


def test_a_host_marks_the_segments_up_to_the_urgent_data() -> None:
    """RFC 9293 3.8.5: the pointer leads behind the last urgent byte; the retransmission has it too."""
    end = Endpoint.established()
    end.queue(1500)
    end.machine.send(b"!", urgent=True)
    end.queued_out += 1
    end.machine.send(b"x" * 2000)
    end.collect()
    sent = [(s.segment.flags & URG, s.segment.urgent) for s in end.drop_sent()]
    assert sent == [(URG, 1501), (URG, 501), (0, 0), (0, 0)]
    end.wait(1000)
    assert end.sent[0].segment.urgent == 1501
    end.drop_sent()
    end.gets("A", ack=1502)
    assert not [s for s in end.drop_sent() if s.segment.flags & URG]
