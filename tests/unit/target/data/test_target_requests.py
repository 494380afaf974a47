"""Posted I/O while no data flows, buffered receive data, receive return."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.enums import NetBufferListInfo
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.lists.nbl import advance, data_of, iter_mdls
from ndisbus.lists.nbl_chain import Attachments
from target import TargetConfig
from target.data.delivery import place
from tests.support.lists import first_of

NO_PUSH = int(NetBufferListInfo.TcpReceiveNoPush)
TRANSFERRED = int(NetBufferListInfo.TcpOffloadBytesTransferred)
OPS = ("send", "receive", "disconnect", "forward")


def received(h: Any) -> list[tuple[int, str, bytes]]:
    """(address, status, bytes placed) of every receive request completed so far."""
    out = []
    for _, wire, frames in [
        (c[0], c[1][1], c[2]) for c in h.calls if c[0] == "NdisTcpOffloadReceiveComplete"
    ]:
        objects = Attachments(wire["NetBufferLists"], frames).read() if "NetBufferLists" in wire else {}
        for a, s in zip(wire["NetBufferList"], wire["Status"], strict=True):
            data = b""
            if a in objects:
                nb = first_of(objects[a])
                count = objects[a].net_buffer_list_info[TRANSFERRED]
                assert nb.data_offset == count
                data = b"".join(bytes(m.data or b"") for m in iter_mdls(nb.mdl_chain))[:count]
            out.append((a, NdisStatus(s).name, data))
    h.calls = [c for c in h.calls if c[0] != "NdisTcpOffloadReceiveComplete"]
    return out


def answer(h: Any, status: NdisStatus, consumed: int) -> tuple[Any, ...]:
    """The indication that waits: its parameters; it is then answered."""
    i = next(i for i, c in enumerate(h.calls) if c[0] == "NdisTcpOffloadReceiveHandler")
    _, params, call_id = h.calls.pop(i)
    h.receive("return", [int(status), consumed], call_id)
    h.pump()
    return tuple(params)


def indicated(h: Any) -> int:
    return sum(c[0] == "NdisTcpOffloadReceiveHandler" for c in h.calls)


@pytest.mark.parametrize("op", OPS)
def test_requests_pend_in_the_order_they_came(h: Any, op: str) -> None:
    """R-SEND-01, R-RECV-01, R-RECV-02, R-DISC-02, R-FWD-04: accepted, queued, nothing
    completed.
    """
    _n, _p, (t,) = h.stack(1)
    a, b, c = h.nbl(b"1"), h.nbl(b"2"), h.nbl(b"3")
    if op == "disconnect":
        h.post(op, t, a, flags=2)
    else:
        h.post(op, t, a, b)
        h.post(op, t, c)
    assert h.take() == []
    io = h.adapter.find(t.context).io
    queue = getattr(io, op + "s")
    assert [x.address for x in queue] == (
        [a.address] if op == "disconnect" else [a.address, b.address, c.address]
    )
    assert h.inspect()[f"posted_{op}s"] == len(queue)
    if op == "disconnect":
        assert queue[0].flags == 2


@pytest.mark.parametrize("op", OPS)
def test_r_disc_15_a_reset_ends_everything_with_request_aborted(h: Any, op: str) -> None:
    """R-DISC-15, R-DISC-16, R-SEND-09, R-FWD-05, R-DIS-05: what is posted, and what still comes; resources
    stay.
    """
    _n, _p, (t,) = h.stack(1)
    before, after = h.nbl(b"1"), h.nbl(b"2")
    h.post(op, t, before)
    assert h.control("indicate", {"event": "abort"}) == {"raised": 1, "not_allowed": 0}
    assert h.calls[0][0] == "NdisTcpOffloadEventHandler"
    h.post(op, t, after)
    assert h.completions(op) == [(before.address, "REQUEST_ABORTED"), (after.address, "REQUEST_ABORTED")]
    assert NdisStatus.REQUEST_ABORTED in ALLOWED_STATUS[op]
    assert NdisStatus.REQUEST_ABORTED.value == 0xC001000C
    assert h.inspect()["tcp"] == 1
    assert h.statuses("terminate", [t]) == ["SUCCESS"]
    assert t.returned is None
    assert t.structures()[2].state == 0


def test_r_recv_11_receives_after_a_fin(h: Any) -> None:
    """R-RECV-11: INVALID_STATE for those posted after the disconnect was indicated; sends go on."""
    _n, _p, (t,) = h.stack(1)
    before, after, send = h.nbl(b"1"), h.nbl(b"2"), h.nbl(b"3")
    h.post("receive", t, before)
    h.control("indicate", {"event": "disconnect"})
    assert h.events() == [(t.handle.address, 2, 0)]
    h.post("receive", t, after)
    h.post("send", t, send)
    assert h.completions() == [(after.address, "INVALID_STATE")]


@pytest.mark.parametrize("op", OPS)
def test_r_init_18_io_after_an_upload_request_goes_back(h: Any, op: str) -> None:
    """R-INIT-18, R-TERM-10, R-TERM-11: UPLOAD_IN_PROGRESS; what was posted before stays for the terminate."""
    _n, _p, (t,) = h.stack(1)
    before, after = h.nbl(b"1"), h.nbl(b"2")
    h.post(op, t, before)
    h.control("indicate", {"reason": "UploadRequested"})
    h.post(op, t, after)
    assert h.completions() == [(after.address, "UPLOAD_IN_PROGRESS")]
    assert h.inspect()[f"posted_{op}s"] == 1


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("status", ["REQUEST_ABORTED", "UPLOAD_IN_PROGRESS"])
def test_knobs_of_the_io_handlers(h: Any, op: str, status: str) -> None:
    _n, _p, (t,) = h.stack(1)
    h.control("knob.set", {"point": op, "status": f"NDIS_STATUS_{status}"})
    a, b = h.nbl(b"1"), h.nbl(b"2")
    h.post(op, t, a)
    h.post(op, t, b)
    assert h.completions() == [(a.address, status)]


def test_completions_carry_what_came_with_the_lists(h: Any) -> None:
    """R-SEND-10: SourceHandle and the call's context area; no bytes were transferred."""
    _n, _p, (t,) = h.stack(1)
    a, b = h.nbl(b"1"), h.nbl(b"2")
    h.post("forward", t, a, context=0x10)
    h.post("forward", t, b, context=0x20)
    h.control("indicate", {"event": "abort"})
    first, second = h.take("NdisTcpOffloadForwardComplete")
    for (_, wire), nbl, context in ((first, a, 0x10), (second, b, 0x20)):
        assert wire["NetBufferList"] == [nbl.address]
        assert wire["Context"] == context
        assert wire["SourceHandle"] == nbl.source_handle
        assert wire["NetBufferLists"][0][0]["NetBufferListInfo"] == {"TcpOffloadBytesTransferred": 0}


def test_malformed_descriptors_end_the_request(h: Any) -> None:
    _n, _p, (t,) = h.stack(1)
    h.receive(
        "MiniportTcpOffloadSend",
        [h.ctx, t.context, {"NetBufferList": [0x70000009990], "NetBufferLists": [7]}],
    )
    assert h.completions() == [(0x70000009990, "REQUEST_ABORTED")]


# -- buffered receive data ---------------------------------------------------------------------


def test_r_init_16_the_copy_is_the_targets_own(h: Any) -> None:
    """R-INIT-16, R-BRD-05: copied before the completion; not indicated on the target's own initiative."""
    _n, _p, (t,) = h.stack(1, buffered=h.nbl(b"abc", b"def"))
    assert bytes(h.adapter.find(t.context).io.buffered) == b"abcdef"
    assert h.take() == []
    assert h.inspect()["buffered_bytes"] == 6


def test_r_brd_03_no_room_for_the_copy(make: Any) -> None:
    """R-BRD-03: FAILURE for that connection alone."""
    h = make(TargetConfig(buffered_data_bytes=5))
    _n, p, _ = h.stack(0)
    a, b, c = h.tcp(buffered=h.nbl(b"abc")), h.tcp(buffered=h.nbl(b"def")), h.tcp(buffered=h.nbl(b"gh"))
    assert h.statuses("initiate", [(p, [a, b, c])]) == [
        "OFFLOAD_PARTIAL_SUCCESS",
        "SUCCESS",
        "FAILURE",
        "SUCCESS",
    ]
    h.run("terminate", [a, c])
    assert h.inspect()["buffered_bytes"] == 0


def test_data_that_cannot_be_read_refuses_the_connection(h: Any) -> None:
    _n, p, _ = h.stack(0)
    absent, hollow = h.nbl(b"abc"), h.nbl(b"abc")
    lost = h.tcp(buffered=absent)
    lost.lists = []
    hollow.first_net_buffer.mdl_chain.data = None
    hollow.first_net_buffer.mdl_chain.byte_count = 3
    missing = h.tcp(chain=h.nbl(b"x"))
    missing.lists = []
    spec = [(p, [lost, h.tcp(buffered=hollow), missing, h.tcp(buffered=h.nbl(b"ok"))])]
    assert h.statuses("initiate", spec) == [
        "OFFLOAD_PARTIAL_SUCCESS",
        "FAILURE",
        "FAILURE",
        "FAILURE",
        "SUCCESS",
    ]


def test_r_part_04_send_data_of_a_refused_connection_is_left_alone(make: Any) -> None:
    """R-PART-04: neither completed nor changed."""
    h = make(TargetConfig(tcp_entries=0))
    _n, p, _ = h.stack(0)
    t = h.tcp(chain=h.nbl(b"data"))
    done = h.run("initiate", [(p, [t])])
    assert [c[0] for c in h.calls] == []
    assert "NetBufferLists" not in done.wire
    assert done.wire["NetBufferListChain"] == [None, t.chain.address]


def test_r_osd_03_send_data_that_came_with_a_connection_waits_first_in_line(h: Any) -> None:
    """R-OSD-03, R-OSD-10: the host's own buffers, before anything posted later; completed like
    any send.
    """
    first, second = h.nbl(b"A"), h.nbl(b"B")
    first.next = second
    _n, _p, (t,) = h.stack(1, chain=first)
    later = h.nbl(b"C")
    h.post("send", t, later)
    queue = h.adapter.find(t.context).io.sends
    assert [x.address for x in queue] == [first.address, second.address, later.address]
    assert data_of(queue[0].nbl.first_net_buffer) == b"A"
    h.control("indicate", {"event": "abort"})
    # Those that came with the block list have NDIS's routing value from there.
    wires = [c[1][1] for c in h.calls if c[0] == "NdisTcpOffloadSendComplete"]
    assert {w["SourceHandle"] for w in wires} == {later.source_handle}
    assert h.completions("send") == [(x.address, "REQUEST_ABORTED") for x in (first, second, later)]


def test_r_brd_05_data_fills_posted_requests_and_only_the_rest_is_indicated(h: Any) -> None:
    """R-BRD-05, R-RECV-02, R-RECV-12, R-RECV-14, R-IND-01, R-IND-02: in order, full ones
    complete, the
    remainder is one indication with status SUCCESS, made after the completions."""
    _n, _p, (t,) = h.stack(1, buffered=h.nbl(b"0123456789"))
    a, b = h.nbl(bytes(3)), h.nbl(bytes(2), bytes(2))
    h.post("receive", t, a, b)
    assert [c[0] for c in h.calls] == ["NdisTcpOffloadReceiveComplete", "NdisTcpOffloadReceiveHandler"]
    assert received(h) == [(a.address, "SUCCESS", b"012"), (b.address, "SUCCESS", b"3456")]
    handle, wire, status = h.calls[0][1]
    assert (handle, status) == (t.handle.address, NdisStatus.SUCCESS)
    assert len(wire["NetBufferList"]) == 1
    assert h.inspect()["nbls_outstanding"] == 1
    answer(h, NdisStatus.SUCCESS, 3)
    assert h.inspect()["buffered_bytes"] == 0
    assert h.inspect()["nbls_outstanding"] == 1
    h.receive("MiniportTcpOffloadReceiveReturn", [h.ctx, {"NetBufferList": wire["NetBufferList"]}])
    assert h.inspect()["nbls_outstanding"] == 0


@pytest.mark.parametrize(
    ("status", "consumed", "left"),
    [
        (NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED, 0, b"3456789"),
        (NdisStatus.OFFLOAD_DATA_PARTIALLY_ACCEPTED, 4, b"789"),
    ],
)
def test_r_ind_06_refused_data_waits_for_the_next_post(
    h: Any, status: NdisStatus, consumed: int, left: bytes
) -> None:
    """R-IND-04, R-IND-05, R-IND-06, R-IND-07, R-IND-08: the list is ours again; the rest is kept; a
    request comes
    first; a zero-byte request consumes nothing, completes, and lets the rest be indicated again."""
    _n, _p, (t,) = h.stack(1, buffered=h.nbl(b"0123456789"))
    h.post("receive", t, h.nbl(bytes(3)))
    received(h)
    answer(h, status, consumed)
    assert h.inspect()["nbls_outstanding"] == 0
    assert bytes(h.adapter.find(t.context).io.buffered) == left
    h.advance(100)
    assert indicated(h) == 0
    zero = h.nbl()
    h.post("receive", t, zero)
    assert received(h) == [(zero.address, "SUCCESS", b"")]
    assert indicated(h) == 1
    answer(h, NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED, 0)
    rest = h.nbl(bytes(len(left)))
    h.post("receive", t, rest)
    assert received(h) == [(rest.address, "SUCCESS", left)]
    assert indicated(h) == 0


def test_r_recv_05_no_completion_while_an_indication_has_not_returned(h: Any) -> None:
    """R-RECV-05, R-IND-07: a request posted meanwhile queues, and is filled when the refusal is in."""
    _n, _p, (t,) = h.stack(1, buffered=h.nbl(b"abcdef"))
    h.post("receive", t, h.nbl(bytes(2)))
    received(h)
    more = h.nbl(bytes(4))
    h.post("receive", t, more)
    assert received(h) == []
    answer(h, NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED, 0)
    assert received(h) == [(more.address, "SUCCESS", b"cdef")]
    assert indicated(h) == 0


def test_r_term_09_a_terminate_waits_for_an_indication_to_return(h: Any) -> None:
    """R-TERM-09: and what came behind it waits, too."""
    _n, p, (t, other) = h.stack(2, chain=None)
    h.run("terminate", [t])
    t = h.tcp(buffered=h.nbl(b"abc"))
    h.run("initiate", [(p, [t])])
    h.post("receive", t, h.nbl(bytes(1)))
    received(h)
    terminate = h.request("terminate", [t])
    query = h.request("query", [other])
    assert h.done(terminate) is None
    answer(h, NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED, 0)
    assert h.done(terminate).status == [NdisStatus.SUCCESS]
    assert h.done(query).status == [NdisStatus.SUCCESS]
    assert h.inspect()["nbls_outstanding"] == 1  # what was refused went up in BufferedData


def test_r_recv_15_a_partly_filled_push_request_completes_when_the_push_timer_expires(h: Any) -> None:
    """R-RECV-15: not before."""
    h.adapter.parameters = NdisTcpConnectionOffloadParameters(ticks_per_second=100, tcp_push_ticks=50)
    _n, _p, (t,) = h.stack(1, buffered=h.nbl(b"abc"))
    request = h.nbl(bytes(8))
    h.post("receive", t, request)
    assert received(h) == []
    h.advance(0.49)
    assert received(h) == []
    h.advance(0.02)
    assert received(h) == [(request.address, "SUCCESS", b"abc")]


def test_r_recv_16_a_partly_filled_non_push_request_waits(h: Any) -> None:
    """R-RECV-16, R-RECV-13: no timer; a terminate delivers what it holds first (R-BRD-07)."""
    _n, _p, (t,) = h.stack(1, buffered=h.nbl(b"abc"))
    request, behind = h.nbl(bytes(8)), h.nbl(bytes(8))
    request.net_buffer_list_info[NO_PUSH] = 1
    h.post("receive", t, request, behind)
    h.advance(1000)
    assert received(h) == []
    h.request("terminate", [t])
    assert received(h) == [(request.address, "SUCCESS", b"abc"), (behind.address, "UPLOAD_IN_PROGRESS", b"")]


def test_a_push_timer_of_a_request_that_is_gone_does_nothing(h: Any) -> None:
    _n, _p, (t,) = h.stack(1, buffered=h.nbl(b"abc"))
    request = h.nbl(bytes(8))
    h.post("receive", t, request)
    h.control("indicate", {"event": "abort"})
    assert received(h) == [(request.address, "REQUEST_ABORTED", b"abc")]
    h.advance(1000)
    assert received(h) == []


def test_r_ind_09_rcv_indication_size_is_heeded(h: Any) -> None:
    """R-IND-09."""
    _n, _p, (t,) = h.stack(1, buffered=h.nbl(b"0123456789"))
    h.adapter.find(t.context).cached.rcv_indication_size = 4
    h.post("receive", t, h.nbl())
    sizes = []
    while indicated(h):
        wire = next(c[1][1] for c in h.calls if c[0] == "NdisTcpOffloadReceiveHandler")
        sizes.append(wire["NetBufferLists"][0][0]["NetBuffers"][0]["DataLength"])
        answer(h, NdisStatus.SUCCESS, sizes[-1])
    assert sizes == [4, 4, 2]


def test_r_conc_03_no_receive_indication_before_the_initiate_is_complete(h: Any) -> None:
    """R-CONC-03: even if a request was posted too early (NDIS would not let it through)."""
    _n, p, _ = h.stack(0)
    h.control("latency", {"seconds": 1})
    t = h.tcp(buffered=h.nbl(b"0123456789"))
    root = h.request("initiate", [(p, [t])])
    t.handle.context = h.adapter.connections()[0].address
    h.post("receive", t, h.nbl(bytes(2)))
    assert indicated(h) == 0
    h.advance(1)
    assert h.done(root)
    h.post("receive", t, h.nbl())
    assert indicated(h) == 1


def test_r_ind_12_receive_return_takes_lists_of_several_indications(h: Any) -> None:
    """R-IND-12, R-BRD-09: counted; a list that was never lent is counted as such and harms nothing."""
    pool = h.adapter.chimney_pool
    lists = [pool.lend(b"x").address for _ in range(3)]
    assert h.inspect()["nbls_outstanding"] == 3
    h.receive("MiniportTcpOffloadReceiveReturn", [h.ctx, {"NetBufferList": [*lists[:2], 0x70000000990]}])
    assert h.inspect()["nbls_outstanding"] == 1
    assert h.inspect()["refused: receive return of a list that was not lent"] == 1
    assert h.take() == []


def test_place_writes_where_the_data_begins(h: Any) -> None:
    """R-RECV-12: into the second half of a partly filled buffer, across MDLs, no further than
    its end.
    """
    nbl = h.nbl(b"....", b"....")
    advance(nbl.first_net_buffer, 2)
    assert place(nbl, b"abcde") == 5
    mdls = list(iter_mdls(nbl.first_net_buffer.mdl_chain))
    assert [bytes(m.data or b"") for m in mdls] == [b"..ab", b"cde."]
    assert nbl.first_net_buffer.data_length == 1
    assert place(nbl, b"xyz") == 1
    assert place(nbl, b"xyz") == 0
    assert bytes(mdls[1].data or b"") == b"cdex"
