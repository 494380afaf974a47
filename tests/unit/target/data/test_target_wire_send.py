"""Sends and disconnects of connections that run: bytes to the wire, completions with their acknowledgment."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.ddi.tcp_enums import (
    TCP_DISCONNECT_ABORTIVE_CLOSE,
    TCP_DISCONNECT_GRACEFUL_CLOSE,
    TcpOffloadConnectionState,
)
from ndisbus.lists.nbl import data_of, iter_net_buffers
from ndisbus.net.segment import ACK, FIN, PSH, RST, Segment

ABORT, GRACEFUL = TCP_DISCONNECT_ABORTIVE_CLOSE, TCP_DISCONNECT_GRACEFUL_CLOSE
State = TcpOffloadConnectionState


def text(segments: list[Segment]) -> bytes:
    return b"".join(bytes(s.payload) for s in segments)


# -- sends -------------------------------------------------------------------------------------


def test_r_send_06_a_list_completes_when_all_of_it_is_acknowledged(w: Any) -> None:
    """R-SEND-06, R-SEND-10, R-SEND-11: not before; bytes are counted, the data start has moved past them."""
    t = w.live()
    x = w.nbl(b"hello ", b"world")
    w.post("send", t, x)
    assert text(w.heard()) == b"hello world"
    w.say(t, ACK, 5000, 1005)
    assert w.completions("send") == []
    mine = w.ctx_of(t).io.sends[0].nbl
    assert [data_of(nb) for nb in iter_net_buffers(mine)] == [b" world"]
    w.say(t, ACK, 5000, 1011)
    [(_, wire)] = [c[1] for c in w.calls]
    assert (wire["NetBufferList"], wire["Status"]) == ([x.address], [0])
    [described] = wire["NetBufferLists"][0]
    assert described["NetBufferListInfo"] == {"TcpOffloadBytesTransferred": 11}
    [nb] = described["NetBuffers"]
    assert (nb.get("DataLength", 0), nb["DataOffset"]) == (0, 11)
    assert len(nb["Mdls"]) == 2


def test_r_send_02_first_in_first_out_across_lists_and_calls(w: Any) -> None:
    """R-SEND-02, R-SEND-12, R-SEND-01: one acknowledgment of three lists of two calls completes them in one
    order; an empty list waits for its turn.
    """
    t = w.live()
    a, b, empty, c = w.nbl(b"aa"), w.nbl(b"bbb"), w.nbl(), w.nbl(b"c")
    w.post("send", t, a, b)
    w.post("send", t, empty)
    w.post("send", t, c)
    assert text(w.heard()) == b"aabbbc"
    assert w.completions("send") == []
    w.say(t, ACK, 5000, 1006)
    assert w.completions("send") == [(x.address, "SUCCESS") for x in (a, b, empty, c)]


def test_an_empty_list_with_nothing_before_it_is_complete(w: Any) -> None:
    t = w.live()
    x = w.nbl()
    w.post("send", t, x)
    assert w.completions("send") == [(x.address, "SUCCESS")]
    assert w.heard() == []


def test_r_send_05_psh_ends_each_list(w: Any) -> None:
    """R-SEND-05: on the last segment of each list, and on no other."""
    t = w.live(c_wnd=100_000)
    w.post("send", t, w.nbl(bytes(1460), bytes(1460)), w.nbl(bytes(3000)))
    segments = w.heard()
    ends = {1000 + 2920, 1000 + 5920}
    assert sum(len(s.payload) for s in segments) == 5920
    for s in segments:
        holds_an_end = any(s.seq < end <= s.seq + len(s.payload) for end in ends)
        assert bool(s.flags & PSH) == holds_an_end


def test_sends_wait_for_the_window(w: Any) -> None:
    """R-SEND-01: what cannot be sent yet is queued; with room it goes, in order."""
    t = w.live(snd_wnd=4, max_snd_wnd=4)
    x, y = w.nbl(b"abcd"), w.nbl(b"efgh")
    w.post("send", t, x, y)
    assert text(w.heard()) == b"abcd"
    w.say(t, ACK, 5000, 1004, window=100)
    assert w.completions("send") == [(x.address, "SUCCESS")]
    assert text(w.heard()) == b"efgh"


def test_lost_segments_are_sent_again(w: Any) -> None:
    """And the list completes all the same, once."""
    t = w.live()
    end = w.end(t)
    x = w.nbl(b"lost")
    w.post("send", t, x)
    w.far.frames()
    w.play(end, seconds=5)
    assert bytes(end.received) == b"lost"
    assert w.completions("send") == [(x.address, "SUCCESS")]


@pytest.mark.parametrize("op", ["send", "disconnect", "forward"])
def test_a_knob_keeps_a_request_from_a_connection_that_runs(w: Any, op: str) -> None:
    """Completed with the knob's status, and nothing of it reaches the machine."""
    t = w.live()
    w.control("knob.set", {"point": op, "status": "REQUEST_ABORTED"})
    x = w.nbl(b"never")
    w.post(op, t, x, **({"flags": GRACEFUL} if op == "disconnect" else {}))
    assert w.completions() == [(x.address, "REQUEST_ABORTED")]
    assert w.heard() == []


def test_requests_on_what_is_not_offloaded_go_back(w: Any) -> None:
    """R-TERM-11: also where connections run."""
    t = w.live()
    w.run("terminate", [t])
    t.handle.context = 0x5000000BAD0
    x = w.nbl(b"x")
    for op in ("send", "receive", "forward", "disconnect"):
        w.post(op, t, x)
        assert w.completions(op) == [(x.address, "UPLOAD_IN_PROGRESS")]


def test_data_whose_bytes_are_missing_cannot_be_sent(w: Any) -> None:
    t = w.live()
    hollow = w.nbl(b"abc")
    hollow.first_net_buffer.mdl_chain.data = None
    hollow.first_net_buffer.mdl_chain.byte_count = 3
    good = w.nbl(b"ok")
    w.post("send", t, hollow, good)
    assert text(w.heard()) == b"ok"
    assert w.completions("send") == [(hollow.address, "REQUEST_ABORTED")]


def test_r_osd_10_send_data_that_came_with_the_connection_goes_first(w: Any) -> None:
    """R-OSD-08, R-OSD-10: what was never sent, before anything posted later; completed as sends are."""
    first, second = w.nbl(b"A1"), w.nbl(b"A2")
    first.next = second
    t = w.live(chain=first)
    assert text(w.heard()) == b"A1A2"
    later = w.nbl(b"B")
    w.post("send", t, later)
    assert text(w.heard()) == b"B"
    w.say(t, ACK, 5000, 1005)
    assert w.completions("send") == [(x.address, "SUCCESS") for x in (first, second, later)]


def test_r_osd_06_bytes_in_flight_are_acknowledged_and_retransmitted_here(w: Any) -> None:
    """R-OSD-06, R-OSD-09: nothing of it goes out at once, for it is under way; its timer runs on."""
    chain = w.nbl(b"0123456789")
    t = w.live(
        chain=chain, snd_nxt=1010, snd_max=1010, retransmit_timeout_delta=400, retransmit_count=0, s_rtt=800
    )
    assert w.heard() == []
    w.say(t, ACK, 5000, 1004)
    assert w.completions("send") == []
    w.advance(10)
    assert text(w.heard()) == b"456789"
    w.say(t, ACK, 5000, 1010)
    assert w.completions("send") == [(chain.address, "SUCCESS")]


def test_r_osd_07_a_retransmission_in_progress_goes_on_before_anything_else(w: Any) -> None:
    """R-OSD-05, R-OSD-07, R-OSD-08: from SndNxt to SndMax, then what was never sent, then later posts."""
    chain = w.nbl(b"aaaa", b"bbbb", b"cccc")
    t = w.live(chain=chain, snd_nxt=1004, snd_max=1008, retransmit_timeout_delta=400)
    w.post("send", t, w.nbl(b"dddd"))
    sent = w.heard()
    assert sent[0].seq == 1004
    assert text(sent) == b"bbbbccccdddd"


# -- graceful disconnects ----------------------------------------------------------------------


def test_r_disc_07_a_fin_follows_the_data_at_once(w: Any) -> None:
    """R-DISC-07, R-DISC-08, R-DISC-09, R-DISC-10, R-DISC-11: FIN without waiting for an acknowledgment; the
    sends complete first, the disconnect when all is acknowledged, with its own list and bytes.
    """
    t = w.live()
    x, last = w.nbl(b"data"), w.nbl(b"final")
    w.post("send", t, x)
    w.post("disconnect", t, last, flags=GRACEFUL)
    segments = w.heard()
    assert text(segments) == b"datafinal"
    assert segments[-1].flags & FIN
    w.say(t, ACK, 5000, 1004)
    assert w.completions() == [(x.address, "SUCCESS")]
    w.say(t, ACK, 5000, 1009)
    assert w.completions() == []
    w.say(t, ACK, 5000, 1010)
    [(name, (_, wire))] = w.take()
    assert name == "NdisTcpOffloadDisconnectComplete"
    assert (wire["NetBufferList"], wire["Status"]) == ([last.address], [0])
    assert wire["NetBufferLists"][0][0]["NetBufferListInfo"] == {"TcpOffloadBytesTransferred": 5}
    assert wire["NetBufferLists"][0][0]["NetBuffers"][0]["DataOffset"] == 5
    assert w.ctx_of(t).delegated.state is State.TcpConnectionFinWait2


def test_r_disc_13_the_receive_half_stays_open(w: Any) -> None:
    """R-DISC-13: segments come in after our FIN; R-DISC-16: nothing is freed."""
    t = w.live()
    w.post("disconnect", t, w.nbl(), flags=GRACEFUL)
    [fin] = w.heard()
    assert fin.flags & FIN and not fin.payload
    w.say(t, ACK | PSH, 5000, 1001, b"more")
    assert w.answer() == b"more"
    assert w.inspect()["tcp"] == 1


def test_a_disconnect_after_the_remote_ends_fin_closes_the_connection(w: Any) -> None:
    """R-DISC-09, R-DISC-16: from LAST_ACK to CLOSED; the disconnect succeeds, the context stays."""
    t = w.live(state=State.TcpConnectionCloseWait)
    d = w.nbl(b"bye")
    w.post("disconnect", t, d, flags=GRACEFUL)
    w.say(t, ACK, 5000, 1004)
    assert w.completions() == [(d.address, "SUCCESS")]
    assert w.ctx_of(t).delegated.state is State.TcpConnectionClosed
    assert w.statuses("terminate", [t]) == ["SUCCESS"]
    assert t.structures()[2].state == State.TcpConnectionClosed


def test_a_reset_ends_a_pending_graceful_disconnect(w: Any) -> None:
    """R-DISC-09, R-DISC-12: REQUEST_ABORTED, as the sends."""
    t = w.live()
    x, d = w.nbl(b"x"), w.nbl(b"y")
    w.post("send", t, x)
    w.post("disconnect", t, d, flags=GRACEFUL)
    w.say(t, RST | ACK, 5000, 1000)
    assert w.completions("send") == [(x.address, "REQUEST_ABORTED")]
    assert w.completions("disconnect") == [(d.address, "REQUEST_ABORTED")]


def test_a_send_after_the_send_half_is_closed_is_aborted(w: Any) -> None:
    t = w.live()
    w.post("disconnect", t, w.nbl(), flags=GRACEFUL)
    w.heard()
    late = w.nbl(b"late")
    w.post("send", t, late)
    assert w.completions("send") == [(late.address, "REQUEST_ABORTED")]
    assert w.heard() == []


def test_an_upload_ends_a_pending_graceful_disconnect(w: Any) -> None:
    """R-DISC-09, R-DISC-12: UPLOAD_IN_PROGRESS, with the bytes acknowledged so far."""
    t = w.live()
    d = w.nbl(b"abcdef")
    w.post("disconnect", t, d, flags=GRACEFUL)
    w.say(t, ACK, 5000, 1002)
    w.request("terminate", [t])
    wire = next(c[1][1] for c in w.calls if c[0] == "NdisTcpOffloadDisconnectComplete")
    assert w.completions("disconnect") == [(d.address, "UPLOAD_IN_PROGRESS")]
    assert wire["NetBufferLists"][0][0]["NetBufferListInfo"] == {"TcpOffloadBytesTransferred": 2}
    assert wire["NetBufferLists"][0][0]["NetBuffers"][0]["DataOffset"] == 2


# -- abortive disconnects ----------------------------------------------------------------------


@pytest.mark.parametrize("state", [4, 5, 7])
def test_an_abort_of_an_established_connection_is_counted(w: Any, state: int) -> None:
    """ResetEstablished: from ESTABLISHED and CLOSE_WAIT, and from no other state."""
    t = w.live(state=state)
    w.post("disconnect", t, w.nbl(), flags=ABORT)
    assert [s.flags & RST for s in w.heard()][-1]
    assert w.adapter.stats.v4.tcp.reset_established == (state != 5)


def test_r_disc_03_an_abortive_disconnect_sends_an_rst(w: Any) -> None:
    """R-DISC-03, R-DISC-04, R-DISC-05, R-DISC-06: at once; sends end before the disconnect does; nothing is
    acknowledged any more, and no data is indicated.
    """
    t = w.live()
    x, d = w.nbl(b"x"), w.nbl()
    w.say(t, ACK, 5000, 1000, b"unconsumed")
    assert w.indicated_data == [b"unconsumed"]
    w.post("send", t, x)
    w.heard()
    w.post("disconnect", t, d, flags=ABORT)
    [rst] = w.heard()
    assert rst.flags & RST
    assert (rst.seq, rst.payload) == (1001, b"")
    assert [c[0] for c in w.calls if "Complete" in c[0]] == [
        "NdisTcpOffloadSendComplete",
        "NdisTcpOffloadDisconnectComplete",
    ]
    assert w.completions() == [(x.address, "REQUEST_ABORTED"), (d.address, "SUCCESS")]
    w.answer()
    w.say(t, ACK, 5010, 1000, b"late")
    w.advance(100)
    assert w.heard() == []
    assert w.indicated_data == []
    assert w.adapter.stats.v4.tcp.out_resets == 1
    assert w.statuses("terminate", [t]) == ["SUCCESS"]
    assert t.structures()[2].state == State.TcpConnectionClosed
    assert t.structures()[2].buffered_data is None


@pytest.mark.parametrize(
    "what",
    [
        {"flags": ACK, "seq": 999_999, "ack": 1000, "payload": b"far out of the window"},
        {"flags": ACK, "seq": 5000, "ack": 77_000},
        {"flags": RST, "seq": 5100, "ack": 0},
        {"flags": RST | ACK, "seq": 5000, "ack": 1000},
    ],
)
def test_r_disc_03_nothing_else_makes_it_send_an_rst(w: Any, what: dict[str, Any]) -> None:
    """R-DISC-03: nonsense draws an ACK at most; nor do a terminate and a segment after it."""
    t = w.live()
    w.say(t, **what)
    late = w.builder(t).frame(Segment(5000, 1000, ACK, 1, b"x"))
    w.run("terminate", [t])
    w.put(late)
    w.advance(1000)
    assert not any(s.flags & RST for s in w.heard())


# -- what the parameters say -------------------------------------------------------------------


def test_r_oid_15_acks_by_count_and_by_time(w: Any) -> None:
    """R-OID-15, R-OID-14: at the latest after TcpAckFrequency segments, and after TcpDelayedAckTicks."""
    w.adapter.set_parameters(
        NdisTcpConnectionOffloadParameters(
            ticks_per_second=100, tcp_ack_frequency=4, tcp_delayed_ack_ticks=7, tcp_push_ticks=9
        )
    )
    t = w.live()
    w.post("receive", t, w.nbl(bytes(100)))
    for i in range(3):
        w.say(t, ACK, 5000 + i, 1000, b"x")
        assert w.heard() == []
    w.say(t, ACK, 5003, 1000, b"x")
    assert [s.ack for s in w.heard()] == [5004]
    w.say(t, ACK, 5004, 1000, b"x")
    w.advance(0.069)
    assert w.heard() == []
    w.advance(0.001)
    assert [s.ack for s in w.heard()] == [5005]


@pytest.mark.parametrize("threshold", [2, 3])
def test_r_oid_16_duplicate_acks_make_it_retransmit(w: Any, threshold: int) -> None:
    """R-OID-16, R-OID-14: after TcpDuplicateAckThreshold of them, long before the timer; the first hole."""
    w.adapter.set_parameters(NdisTcpConnectionOffloadParameters(tcp_duplicate_ack_threshold=threshold))
    t = w.live()
    w.post("send", t, w.nbl(bytes(1460 * 6)))
    w.heard()
    for _ in range(threshold - 1):
        w.say(t, ACK, 5000, 1000)
    assert all(s.seq != 1000 for s in w.heard())
    w.say(t, ACK, 5000, 1000)
    assert w.heard()[0].seq == 1000


# -- what is cut short -------------------------------------------------------------------------


def test_r_send_07_what_follows_a_failed_list_fails_too(w: Any) -> None:
    """R-SEND-07, R-SEND-08: a reset in the middle of a chain: one list is partly sent, and says how far it
    came; it and all behind it are aborted, and none of them is sent any more.
    """
    t = w.live(c_wnd=6)
    a, b, c, d = (w.nbl(x * 4) for x in (b"a", b"b", b"c", b"d"))
    w.post("send", t, a, b, c, d)
    w.say(t, ACK, 5000, 1006)
    w.heard()
    w.say(t, RST, 5000, 0)
    calls = [c[1][1] for c in w.calls if c[0] == "NdisTcpOffloadSendComplete"]
    transferred = {
        n["NetBufferList"]: n["NetBufferListInfo"]["TcpOffloadBytesTransferred"]
        for wire in calls
        for n in wire["NetBufferLists"][0]
    }
    assert [transferred[x.address] for x in (a, b, c, d)] == [4, 2, 0, 0]
    assert w.completions("send") == [
        (a.address, "SUCCESS"),
        *((x.address, "REQUEST_ABORTED") for x in (b, c, d)),
    ]
    w.advance(100)
    assert w.heard() == []


def test_r_dis_28_a_list_may_have_any_number_of_net_buffers(w: Any) -> None:
    """R-DIS-28, R-SEND-11: for sends; the data start of each moves by what was acknowledged of it."""
    t = w.live()
    x, more = w.nbl(b"first"), w.nbl(b"second", b" third")
    x.first_net_buffer.next = more.first_net_buffer
    w.post("send", t, x)
    assert text(w.heard()) == b"firstsecond third"
    w.say(t, ACK, 5000, 1008)
    mine = w.ctx_of(t).io.sends[0].nbl
    assert [data_of(nb) for nb in iter_net_buffers(mine)] == [b"", b"ond third"]
    w.say(t, ACK, 5000, 1017)
    assert w.completions("send") == [(x.address, "SUCCESS")]
