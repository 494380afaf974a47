"""Received data of connections that run: into requests, by indication, and how the FIN follows it."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.enums import NetBufferListInfo
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.lists.nbl import advance, data_of
from ndisbus.net.segment import ACK, FIN, PSH, RST, URG, Segment
from ndisbus.net.tcp import build
from target import TargetConfig

NO_PUSH = int(NetBufferListInfo.TcpReceiveNoPush)
REFUSED, PARTLY = NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED, NdisStatus.OFFLOAD_DATA_PARTIALLY_ACCEPTED
State = TcpOffloadConnectionState
DISCONNECT, RETRIEVE, ABORT = 2, 3, 4
URGENT_DATA = 5


class RemoteEnd:
    """Sends data in order on one connection."""

    def __init__(self, w: Any, t: Any) -> None:
        self.w, self.t, self.seq = w, t, 5000

    def data(self, payload: bytes, flags: int = ACK) -> None:
        self.w.say(self.t, flags, self.seq, 1000, payload)
        self.seq += len(payload)

    def push(self, payload: bytes) -> None:
        self.data(payload, ACK | PSH)

    def fin(self, payload: bytes = b"") -> None:
        self.data(payload, ACK | FIN)
        self.seq += 1


def received(w: Any) -> list[tuple[int, str, bytes]]:
    """Receive completions so far: (address, status, what was placed)."""
    out = []
    for call in [c for c in w.calls if c[0] == "NdisTcpOffloadReceiveComplete"]:
        w.calls.remove(call)
        wire, frames = call[1][1], call[2]
        contents = iter(frames)
        for nbl, status in zip(wire["NetBufferLists"][0], wire["Status"], strict=True):
            data = b""
            for nb in nbl.get("NetBuffers", []):
                pieces = b"".join(bytes(next(contents)) for m in nb.get("Mdls", []) if "Frame" in m)
                data += pieces[: nb.get("DataOffset", 0)]
            out.append((nbl["NetBufferList"], NdisStatus(status).name, data))
    return out


def push_ticks(w: Any, ticks: int = 50) -> None:
    w.adapter.set_parameters(NdisTcpConnectionOffloadParameters(ticks_per_second=100, tcp_push_ticks=ticks))


# -- the delivery algorithm --------------------------------------------------------------------


def test_r_recv_04_data_goes_into_posted_requests(w: Any) -> None:
    """R-RECV-04, R-RECV-02, R-RECV-14, R-RECV-19, R-DLV-01: full requests and a partly filled one."""
    t = w.live()
    a, b, c = w.nbl(bytes(3)), w.nbl(bytes(4)), w.nbl(bytes(9))
    w.post("receive", t, a, b, c)
    RemoteEnd(w, t).push(b"0123456789")
    assert w.indicated_data == []
    assert received(w) == [
        (a.address, "SUCCESS", b"012"),
        (b.address, "SUCCESS", b"3456"),
        (c.address, "SUCCESS", b"789"),
    ]


def test_r_dlv_01_without_requests_data_is_indicated(w: Any) -> None:
    """R-DLV-01, R-IND-01, R-IND-02, R-IND-03: one list, accepted, kept until it is returned."""
    t = w.live()
    RemoteEnd(w, t).data(b"hello")
    assert w.answer() == b"hello"
    assert w.inspect()["nbls_outstanding"] == 1
    w.receive(
        "MiniportTcpOffloadReceiveReturn", [w.ctx, {"NetBufferList": w.last_indication["NetBufferList"]}]
    )
    assert w.inspect()["nbls_outstanding"] == 0


def test_what_no_request_holds_is_indicated(w: Any) -> None:
    """R-RECV-04: connector B of the algorithm."""
    t = w.live()
    a = w.nbl(bytes(4))
    w.post("receive", t, a)
    RemoteEnd(w, t).data(b"0123456789")
    assert received(w) == [(a.address, "SUCCESS", b"0123")]
    assert w.answer() == b"456789"


@pytest.mark.parametrize(
    ("status", "consumed", "left"),
    [(REFUSED, 0, b"01234567"), (PARTLY, 3, b"34567")],
    ids=["refused", "partly"],
)
def test_r_dlv_05_what_comes_after_refused_data_queues_behind_it(
    w: Any, status: NdisStatus, consumed: int, left: bytes
) -> None:
    """R-DLV-05, R-IND-04, R-IND-05, R-IND-06, R-DIS-18: nothing is indicated before a post."""
    t = w.live()
    remote = RemoteEnd(w, t)
    remote.data(b"0123")
    w.answer(status, consumed)
    remote.data(b"4567")
    w.advance(100)
    assert w.indicated_data == []
    a = w.nbl(bytes(4))
    w.post("receive", t, a)
    assert received(w) == [(a.address, "SUCCESS", left[:4])]
    rest = left[4:]
    assert w.indicated_data == ([rest] if rest else [])


def test_r_dlv_03_what_comes_during_an_indication_is_taken_up_when_it_has_returned(w: Any) -> None:
    """R-DLV-03, R-RECV-05, R-DLV-02: a segment and a post meanwhile; the request comes first (R-IND-07)."""
    t = w.live()
    remote = RemoteEnd(w, t)
    remote.data(b"0123")
    remote.data(b"4567")
    a = w.nbl(bytes(2))
    w.post("receive", t, a)
    assert w.indicated_data == [b"0123"]
    assert received(w) == []
    assert w.answer() == b"0123"
    assert received(w) == [(a.address, "SUCCESS", b"45")]
    assert w.answer() == b"67"


def test_r_dlv_04_a_post_that_finds_no_data_is_queued(w: Any) -> None:
    """R-DLV-04; R-DLV-06: no push timer runs for it."""
    t = w.live()
    w.post("receive", t, w.nbl(bytes(4)))
    w.advance(1000)
    assert w.take() == []


def test_r_recv_15_psh_completes_a_partly_filled_request(w: Any) -> None:
    """R-RECV-15: a segment without PSH does not, one with it does, even if it fills nothing up."""
    t = w.live()
    a = w.nbl(bytes(20))
    w.post("receive", t, a)
    remote = RemoteEnd(w, t)
    remote.data(b"01")
    assert received(w) == []
    remote.push(b"23")
    assert received(w) == [(a.address, "SUCCESS", b"0123")]


def test_r_open_03_psh_is_remembered_with_buffered_data(w: Any) -> None:
    """R-OPEN-03: the request that takes the refused data completes at once."""
    t = w.live()
    RemoteEnd(w, t).push(b"0123")
    w.answer(REFUSED)
    a = w.nbl(bytes(20))
    w.post("receive", t, a)
    assert received(w) == [(a.address, "SUCCESS", b"0123")]


def test_psh_of_a_segment_that_came_early_counts_when_the_gap_is_filled(w: Any) -> None:
    t = w.live()
    a = w.nbl(bytes(20))
    w.post("receive", t, a)
    w.say(t, ACK | PSH, 5002, 1000, b"23")
    assert received(w) == []
    w.say(t, ACK, 5000, 1000, b"01")
    assert received(w) == [(a.address, "SUCCESS", b"0123")]


@pytest.mark.parametrize(
    ("flags", "seq", "ack"), [(ACK | PSH, 900_000, 1000), (ACK | PSH, 5100, 90_000), (PSH, 5100, 0)]
)
def test_psh_of_a_segment_that_is_dropped_means_nothing(w: Any, flags: int, seq: int, ack: int) -> None:
    """R-RECV-15: a forged segment far ahead does not hide the PSH of the true ones."""
    t = w.live()
    a = w.nbl(bytes(20))
    w.post("receive", t, a)
    w.say(t, flags, seq, ack, b"forged")
    RemoteEnd(w, t).push(b"0123")
    assert received(w) == [(a.address, "SUCCESS", b"0123")]


def test_r_recv_16_psh_and_time_mean_nothing_to_a_non_push_request(w: Any) -> None:
    """R-RECV-13, R-RECV-16: it completes when it is full, and only then."""
    t = w.live()
    a = w.nbl(bytes(6))
    a.net_buffer_list_info[NO_PUSH] = 1
    w.post("receive", t, a)
    remote = RemoteEnd(w, t)
    remote.push(b"0123")
    w.advance(1000)
    assert received(w) == []
    remote.data(b"4567")
    assert received(w) == [(a.address, "SUCCESS", b"012345")]


def test_r_dis_17_data_restarts_the_push_timer(w: Any) -> None:
    """R-DIS-17, R-TMR-21, R-TMR-01, R-DLV-06: TcpPushTicks after the last byte, not after the first."""
    push_ticks(w)
    t = w.live()
    a = w.nbl(bytes(20))
    w.post("receive", t, a)
    remote = RemoteEnd(w, t)
    remote.data(b"01")
    w.advance(0.4)
    remote.data(b"23")
    w.advance(0.4)
    assert received(w) == []
    w.advance(0.11)
    assert received(w) == [(a.address, "SUCCESS", b"0123")]


def test_r_recv_18_a_request_that_comes_with_bytes_has_its_timer_started_at_once(w: Any) -> None:
    """R-RECV-18, R-DIS-19."""
    push_ticks(w)
    t = w.live()
    a, plain = w.nbl(bytes(20)), w.nbl(bytes(20))
    a.net_buffer_list_info[int(NetBufferListInfo.TcpReceiveBytesTransferred)] = 5
    w.post("receive", t, a, plain)
    w.advance(0.49)
    assert received(w) == []
    w.advance(0.02)
    assert [r[:2] for r in received(w)] == [(a.address, "SUCCESS")]
    w.advance(10)
    assert received(w) == []


def test_r_ind_08_a_zero_byte_request_lets_data_be_indicated_again(w: Any) -> None:
    """R-IND-08."""
    t = w.live()
    RemoteEnd(w, t).data(b"0123")
    w.answer(REFUSED)
    zero = w.nbl()
    w.post("receive", t, zero)
    assert received(w) == [(zero.address, "SUCCESS", b"")]
    assert w.answer() == b"0123"


def test_r_brd_06_data_that_came_with_the_connection_is_delivered_first(w: Any) -> None:
    """R-BRD-05, R-BRD-06, R-DLV-05: what arrives queues behind it, and is not indicated past it."""
    t = w.live(buffered=w.nbl(b"old "))
    RemoteEnd(w, t).data(b"new")
    assert w.indicated_data == []
    a = w.nbl(bytes(5))
    w.post("receive", t, a)
    assert received(w) == [(a.address, "SUCCESS", b"old n")]
    assert w.answer() == b"ew"
    assert w.inspect()["buffered_bytes"] == 0


def test_r_conc_03_segments_are_processed_during_an_initiate_but_not_indicated(wired: Any) -> None:
    """R-CONC-03, R-CONC-04: acknowledged at once; data, FIN and other events wait for the completion."""
    w = wired(TargetConfig(latency=1.0))
    n, p = w.neighbor(), w.path()
    t = w.tcp(rcv_nxt=5000, snd_una=1000, snd_nxt=1000, snd_max=1000, snd_wnd=9999)
    root = w.request("initiate", [(n, [(p, [t])])])
    t.handle.context = w.adapter.connections()[0].address
    remote = RemoteEnd(w, t)
    remote.data(b"01")
    remote.data(b"23")
    remote.fin()
    assert w.heard()[-1].ack == 5005
    assert w.take() == []
    w.advance(1)
    assert w.done(root)
    assert w.answer() == b"0123"
    assert w.events() == [(t.handle.address, DISCONNECT, 0)]


@pytest.mark.parametrize("both", [False, True], ids=["fin", "fin of both ends"])
def test_r_conc_04_a_fin_without_data_during_an_initiate_is_told_after_it(wired: Any, both: bool) -> None:
    """R-CONC-03, R-CONC-04: nothing else that happens later has to bring it to mind."""
    w = wired(TargetConfig(latency=1.0))
    n, p = w.neighbor(), w.path()
    numbers = {"snd_una": 1000, "snd_nxt": 1000, "snd_max": 1000, "snd_wnd": 9999}
    half_closed = {"state": State.TcpConnectionFinWait2} if both else {}
    t = w.tcp(rcv_nxt=5000, **numbers, **half_closed)
    root = w.request("initiate", [(n, [(p, [t])])])
    t.handle.context = w.adapter.connections()[0].address
    RemoteEnd(w, t).fin()
    assert w.heard()[-1].ack == 5001
    assert w.take() == []
    w.advance(1)
    assert w.done(root)
    assert (t.handle.address, DISCONNECT, 0) in w.events()


def test_undelivered_data_closes_the_window(w: Any) -> None:
    """What the host does not take is in the window; consuming it opens it again."""
    t = w.live(window=4000, rcv_wnd=4000)
    remote = RemoteEnd(w, t)
    remote.data(bytes(1400))
    w.answer(REFUSED)
    remote.data(bytes(1400))
    remote.data(bytes(1200))
    w.advance(0.2)
    assert w.heard()[-1].window == 0
    w.post("receive", t, w.nbl(bytes(4000)))
    [update] = w.heard()
    assert (update.ack, update.window) == (9000, 4000)


def test_an_accepted_indication_opens_the_window(w: Any) -> None:
    """As soon as it has returned, without anything else happening."""
    t = w.live(window=4000, rcv_wnd=4000)
    remote = RemoteEnd(w, t)
    remote.data(bytes(1400))
    remote.data(bytes(1400))
    remote.data(bytes(1200))
    w.advance(0.2)
    assert w.heard()[-1].window == 0
    w.answer()
    w.answer()
    assert w.heard()[-1].window == 4000


def test_nothing_more_is_indicated_once_the_upload_is_asked_for(w: Any) -> None:
    """R-EVT-05, R-BRD-07: what an indication in progress leaves goes up with the connection."""
    t = w.live()
    remote = RemoteEnd(w, t)
    remote.data(b"first ")
    remote.data(b"second")
    w.control("indicate", {"reason": "UploadRequested"})
    w.answer()
    assert w.indicated_data == []
    done = w.run("terminate", [t])
    buffered = done.nbls[t.structures()[2].buffered_data]
    assert data_of(buffered.first_net_buffer) == b"second"


def test_r_ind_11_data_is_acknowledged_as_there_is_room_whatever_the_host_does(w: Any) -> None:
    """R-IND-11, R-RECV-08: the second segment draws an ACK while the first one's indication is under way."""
    t = w.live()
    remote = RemoteEnd(w, t)
    remote.data(b"01")
    remote.data(b"23")
    assert [s.ack for s in w.heard()] == [5004]


def test_r_rss_01_the_hash_value_marks_all_data(w: Any) -> None:
    """R-RSS-01: indications and completions of requests alike."""
    t = w.live(const={"hash_value": 0xCAFE})
    remote = RemoteEnd(w, t)
    remote.data(b"0")
    w.answer()
    name = "NetBufferListHashValue"
    assert w.last_indication["NetBufferLists"][0][0]["NetBufferListInfo"] == {name: 0xCAFE}
    w.post("receive", t, w.nbl(bytes(1)))
    remote.data(b"1")
    [(_, wire)] = w.take("NdisTcpOffloadReceiveComplete")
    assert wire["NetBufferLists"][0][0]["NetBufferListInfo"][name] == 0xCAFE


def test_the_receive_backlog_is_what_is_buffered(w: Any) -> None:
    """What the host needs to know to post enough."""
    t = w.live()
    RemoteEnd(w, t).data(b"0123")
    w.answer(REFUSED)
    w.run("query", [t])
    assert t.structures()[2].receive_backlog_size == 4


# -- FIN ---------------------------------------------------------------------------------------


def test_r_disc_14_a_fin_is_told_when_all_data_before_it_is_consumed(w: Any) -> None:
    """R-DISC-14: not while data is refused; the FIN itself is acknowledged long before; R-DISC-16."""
    t = w.live()
    RemoteEnd(w, t).fin(b"last")
    assert w.ctx_of(t).delegated.state is State.TcpConnectionCloseWait
    w.answer(REFUSED)
    w.advance(10)
    assert w.events() == []
    assert w.heard()[-1].ack == 5005
    a = w.nbl(bytes(4))
    w.post("receive", t, a)
    assert [c[0] for c in w.calls] == ["NdisTcpOffloadReceiveComplete", "NdisTcpOffloadEventHandler"]
    assert w.events() == [(t.handle.address, DISCONNECT, 0)]
    late = w.nbl(bytes(4))
    w.post("receive", t, late)
    assert (late.address, "INVALID_STATE") in w.completions("receive")
    assert w.inspect()["tcp"] == 1


def test_r_open_02_a_partly_filled_request_completes_before_the_fin_is_told(w: Any) -> None:
    """R-OPEN-02: a non-push one, which would wait for ever; one that is empty stays posted."""
    t = w.live()
    a, b = w.nbl(bytes(9)), w.nbl(bytes(9))
    for x in (a, b):
        x.net_buffer_list_info[NO_PUSH] = 1
    w.post("receive", t, a, b)
    RemoteEnd(w, t).fin(b"last")
    assert [c[0] for c in w.calls] == ["NdisTcpOffloadReceiveComplete", "NdisTcpOffloadEventHandler"]
    assert received(w) == [(a.address, "SUCCESS", b"last")]
    assert w.inspect()["posted_receives"] == 1


def test_a_fin_without_data_is_told_at_once_and_once(w: Any) -> None:
    t = w.live()
    remote = RemoteEnd(w, t)
    remote.fin()
    assert w.events() == [(t.handle.address, DISCONNECT, 0)]
    w.say(t, ACK | FIN, 5000, 1000)
    w.advance(100)
    assert w.events() == []


# -- RST ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["send", "receive", "disconnect"])
def test_r_disc_15_an_acceptable_rst_is_told_at_once(w: Any, op: str) -> None:
    """R-DISC-15, R-BRA-01, R-DIS-15, R-SEND-09, R-DISC-17: though data is unconsumed; requests end with
    REQUEST_ABORTED, also those that come later; segments that come later are the host's.
    """
    t = w.live()
    x = w.nbl(bytes(4))
    if op == "receive":
        w.post("receive", t, x)
    else:
        RemoteEnd(w, t).data(b"1")
        w.answer(REFUSED)
        w.post(op, t, x)
    seq = w.ctx_of(t).delegated.rcv_nxt
    w.say(t, RST, seq, 0)
    assert w.events() == [(t.handle.address, ABORT, 0)]
    assert w.completions(op) == [(x.address, "REQUEST_ABORTED")]
    later = w.nbl(b"y")
    w.post(op, t, later)
    assert w.completions(op) == [(later.address, "REQUEST_ABORTED")]
    w.heard()
    frame = w.say(t, ACK, seq, 1000, b"late")
    assert w.ordinary() == [frame]
    w.advance(1000)
    assert w.heard() == []
    assert w.inspect()["tcp"] == 1
    # With its FIN under way the connection was in neither of the two states that count.
    assert w.adapter.stats.v4.tcp.reset_established == (op != "disconnect")


def test_r_bra_01_an_rst_outside_the_window_is_dropped(w: Any) -> None:
    """R-BRA-01: silently."""
    t = w.live()
    w.say(t, RST, 5000 + 65536, 0)
    w.say(t, RST, 4999, 0)
    w.advance(1)
    assert w.heard() == []
    assert w.events() == []


# -- urgent data -------------------------------------------------------------------------------


def test_r_ip_07_urgent_data_asks_for_the_upload(w: Any) -> None:
    """R-IP-07, R-IP-08, R-EVT-09: it and all later segments wait, unacknowledged, for the terminate, and come
    up the ordinary path when it has been carried out, in order.
    """
    t = w.live()
    remote = RemoteEnd(w, t)
    remote.data(b"before")
    w.answer()
    urgent = w.say(t, ACK | URG, 5006, 1000, b"now!", urgent=4)
    assert w.events() == [(t.handle.address, RETRIEVE, URGENT_DATA)]
    later = w.say(t, ACK, 5010, 1000, b"and then")
    w.advance(10)
    assert w.ordinary() == []
    assert w.heard() == []
    root = w.request("terminate", [t])
    names = [c[0] for c in w.calls]
    assert names == ["NdisMTerminateOffloadComplete", "NdisMIndicateReceiveNetBufferLists"]
    assert w.done(root).status == [NdisStatus.SUCCESS]
    assert w.ordinary() == [urgent, later]
    assert w.heard() == []
    assert t.structures()[2].rcv_nxt == 5006


@pytest.mark.parametrize(
    ("seq", "ack"), [(5000 + 65536, 1000), (4000, 1000), (5000, 9999)], ids=["beyond", "old", "ack"]
)
def test_r_ip_07_invalid_urgent_data_is_discarded(w: Any, seq: int, ack: int) -> None:
    """R-IP-07: outside the window, or acknowledging what was never sent."""
    t = w.live()
    w.say(t, ACK | URG, seq, ack, b"now!", urgent=4)
    assert w.events() == []
    assert w.ctx_of(t).io is None or w.ctx_of(t).io.held == []
    w.run("terminate", [t])
    assert w.ordinary() == []


def test_what_is_held_is_bounded(wired: Any) -> None:
    """What does not fit is dropped and counted; the remote end will send it again."""
    w = wired(TargetConfig(held_bytes=200))
    t = w.live()
    w.say(t, ACK | URG, 5000, 1000, b"now!", urgent=4)
    for _ in range(5):
        w.say(t, ACK, 5004, 1000, bytes(40))
    assert len(w.ctx_of(t).io.held) == 2
    assert w.adapter.stats.v4.ip.in_discards == 4


# -- forwards ----------------------------------------------------------------------------------


def segment(seq: int, payload: bytes, flags: int = ACK, ack: int = 1000, **kw: Any) -> bytes:
    """A TCP segment as the host forwards it: header first, its checksum verified (so none is made)."""
    return build(Segment(seq, ack, flags, 65535, payload, source_port=80, destination_port=5000, **kw), 0)


def test_r_fwd_06_forwarded_segments_are_delivered_like_those_from_the_wire(w: Any) -> None:
    """R-FWD-05, R-FWD-06: completed with success, in order; acknowledged on the wire."""
    t = w.live()
    a, b = w.nbl(segment(5000, b"01")), w.nbl(segment(5002, b"23", ACK | PSH))
    request = w.nbl(bytes(10))
    w.post("receive", t, request)
    w.post("forward", t, a, b)
    assert w.completions("forward") == [(a.address, "SUCCESS"), (b.address, "SUCCESS")]
    assert received(w) == [(request.address, "SUCCESS", b"0123")]
    assert [s.ack for s in w.heard()] == [5004]


def test_a_forwarded_segment_that_cannot_be_read_is_dropped(w: Any) -> None:
    t = w.live()
    a = w.nbl(b"no segment")
    w.post("forward", t, a)
    assert w.completions("forward") == [(a.address, "SUCCESS")]
    assert w.inspect()["refused: forwarded segment is not well formed"] == 1


def test_r_fwd_05_a_forwarded_rst_aborts_what_is_behind_it(w: Any) -> None:
    """R-FWD-05: REQUEST_ABORTED for what an RST cut off, and each list once."""
    t = w.live()
    a, b, c = (w.nbl(segment(5000, b"01")), w.nbl(segment(5002, b"", RST)), w.nbl(segment(5002, b"x")))
    w.post("forward", t, a, b, c)
    done = w.completions("forward")
    assert done[0] == (a.address, "SUCCESS")
    assert sorted(done[1:]) == sorted([(b.address, "REQUEST_ABORTED"), (c.address, "REQUEST_ABORTED")])
    assert w.events() == [(t.handle.address, ABORT, 0)]


def test_a_forwarded_segment_with_urgent_data_stays_the_hosts(w: Any) -> None:
    """R-FWD-05, R-IP-08: UPLOAD_IN_PROGRESS, and so for what is behind it; the host processes them itself."""
    t = w.live()
    a, b = w.nbl(segment(5000, b"now!", ACK | URG, urgent=4)), w.nbl(segment(5004, b"x"))
    w.post("forward", t, a, b)
    assert w.events() == [(t.handle.address, RETRIEVE, URGENT_DATA)]
    assert w.completions("forward") == [(x.address, "UPLOAD_IN_PROGRESS") for x in (a, b)]


# -- requests in unusual shapes ----------------------------------------------------------------


def test_r_recv_07_completions_need_not_match_posts(w: Any) -> None:
    """R-RECV-07: requests of one post in two calls, requests of two posts in one."""
    t = w.live()
    remote = RemoteEnd(w, t)
    a, b, c = w.nbl(bytes(1)), w.nbl(bytes(1)), w.nbl(bytes(1))
    w.post("receive", t, a, b)
    w.post("receive", t, c)
    remote.data(b"1")
    assert [r[0] for r in received(w)] == [a.address]
    remote.data(b"23")
    assert len(w.take("NdisTcpOffloadReceiveComplete")) == 1
    assert w.inspect()["posted_receives"] == 0


def test_r_recv_09_bytes_of_an_aborted_request_count(w: Any) -> None:
    """R-RECV-09: what was placed before the RST is there."""
    t = w.live()
    a = w.nbl(bytes(9))
    w.post("receive", t, a)
    RemoteEnd(w, t).data(b"0123")
    w.say(t, RST, 5004, 0)
    [(_, wire)] = w.take("NdisTcpOffloadReceiveComplete")
    assert [NdisStatus(s).name for s in wire["Status"]] == ["REQUEST_ABORTED"]
    assert wire["NetBufferLists"][0][0]["NetBufferListInfo"]["TcpOffloadBytesTransferred"] == 4


def test_r_recv_17_a_partly_filled_non_push_request_is_filled_further(w: Any) -> None:
    """R-RECV-17: behind its data start, which has moved past what is in it."""
    t = w.live()
    a = w.nbl(b"old...")
    a.net_buffer_list_info[NO_PUSH] = 1
    a.net_buffer_list_info[int(NetBufferListInfo.TcpReceiveBytesTransferred)] = 3
    advance(a.first_net_buffer, 3)
    w.post("receive", t, a)
    RemoteEnd(w, t).data(b"new")
    assert received(w) == [(a.address, "SUCCESS", b"oldnew")]


def test_r_dis_41_a_receive_return_succeeds_during_an_upload(w: Any) -> None:
    """R-DIS-41, R-IND-12: it has neither a completion nor a failing result."""
    t = w.live()
    RemoteEnd(w, t).data(b"x")
    w.answer()
    w.control("indicate", {"reason": "UploadRequested"})
    w.take()
    w.receive(
        "MiniportTcpOffloadReceiveReturn", [w.ctx, {"NetBufferList": w.last_indication["NetBufferList"]}]
    )
    assert w.take() == []
    assert w.inspect()["nbls_outstanding"] == 0


def test_r_dis_06_the_refusal_is_data_not_accepted(w: Any) -> None:
    """R-DIS-06: NDIS_STATUS_OFFLOAD_DATA_NOT_ACCEPTED gives the list back at once."""
    t = w.live()
    RemoteEnd(w, t).data(b"x")
    assert NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED.symbol == "NDIS_STATUS_OFFLOAD_DATA_NOT_ACCEPTED"
    w.answer(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED)
    assert w.inspect()["nbls_outstanding"] == 0
