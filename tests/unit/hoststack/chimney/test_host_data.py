"""Data that goes down and comes up with a connection, and I/O on an offloaded one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoststack.chimney import data as data_io
from hoststack.model.events import DataReceived
from hoststack.model.objects import Tcb
from ndisbus.ddi.enums import NetBufferListInfo
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.errors import LocalProtocolError
from ndisbus.lists.blocklist import Key
from ndisbus.lists.nbl import (
    NetBufferList,
    advance,
    chain,
    data_of,
    iter_chain,
    iter_net_buffers,
    locate_in_chain,
    make_net_buffer_list,
    sequence_offset,
)
from ndisbus.lists.nbl_chain import Attachments, NblChain
from ndisbus.state.images import TcpOffloadStateDelegated, unpack_state
from tests.support.host_rig import FAILURE, SUCCESS, Request, Rig

UPLOADING = int(NdisStatus.UPLOAD_IN_PROGRESS)
ABORTED = int(NdisStatus.REQUEST_ABORTED)


def sending(tcb: Tcb, *pieces: bytes, sent: int = 0, again: int = 0) -> None:
    """Give a connection send data: ``sent`` bytes are in flight, the last ``again`` of them to be resent."""
    d = tcb.delegated
    tcb.send_queue = list(pieces)
    d.snd_max = (d.snd_una + sent) & 0xFFFFFFFF
    d.snd_nxt = (d.snd_max - again) & 0xFFFFFFFF


def offered(
    rig: Rig, request: Request
) -> tuple[TcpOffloadStateDelegated, dict[int, NetBufferList], int | None]:
    """Delegated state, attached lists and NetBufferListChain of the last block of an initiate."""
    blocks = rig.blocks(request)
    block = blocks[len(blocks) - 1]
    delegated = unpack_state(block.type, block.state or b"")[2]
    assert isinstance(delegated, TcpOffloadStateDelegated)
    lists = blocks.attachments.read() if blocks.attachments is not None else {}
    return delegated, lists, block.net_buffer_list_chain


def content(first: NetBufferList) -> bytes:
    return b"".join(data_of(nb) for nbl in iter_chain(first) for nb in iter_net_buffers(nbl))


def again(rig: Rig, request: Request, name: str = "NdisInitiateOffload") -> None:
    """Put a request that was looked at back."""
    rig.sent.append(([name, None, request[0]], request[1]))


# -- down --------------------------------------------------------------------------------------


def test_r_osd_01_and_r_osd_02_send_data_goes_down_in_one_chain_with_one_net_buffer_per_list() -> None:
    """R-OSD-01, R-OSD-02: send data goes down in one chain with one net buffer per list."""
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    sending(tcb, b"sent and unacknowledged", b"never sent", b"nor this", sent=23)
    rig.act(lambda h: h.offload([tcb]))
    delegated, lists, first = offered(rig, rig.take("NdisInitiateOffload"))
    assert first is not None
    chained = list(iter_chain(lists[first]))
    assert [sum(1 for _ in iter_net_buffers(n)) for n in chained] == [1, 1, 1]
    assert content(lists[first]) == b"sent and unacknowledgednever sentnor this"
    assert (delegated.send_data_head, delegated.send_data_tail) == (chained[0].address, chained[-1].address)
    assert delegated.buffered_data is None


@given(
    st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=6),
    st.data(),
    st.integers(0, 0xFFFFFFFF),
)
def test_r_osd_04_and_r_osd_05_and_r_osd_08_sequence_numbers_find_their_bytes_in_the_chain(
    pieces: list[bytes], data: st.DataObject, una: int
) -> None:
    """R-OSD-04, R-OSD-05, R-OSD-08: sequence numbers find their bytes in the chain."""
    whole = b"".join(pieces)
    sent = data.draw(st.integers(0, len(whole)))
    back = data.draw(st.integers(0, sent))
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    tcb.delegated.snd_una = una
    sending(tcb, *pieces, sent=sent, again=back)
    rig.act(lambda h: h.offload([tcb]))
    d, lists, first = offered(rig, rig.take("NdisInitiateOffload"))
    assert first is not None
    for sequence, index in ((d.snd_una, 0), (d.snd_nxt, sent - back), (d.snd_max, sent)):
        if index < len(whole):
            _, mdl, at = locate_in_chain(lists[first], sequence_offset(d.snd_una, sequence))
            assert mdl.data is not None
            assert mdl.data[at] == whole[index]


def test_r_osd_05_a_queue_that_is_shorter_than_what_is_in_flight_stays_in_the_host() -> None:
    """R-OSD-05: a queue that is shorter than what is in flight stays in the host."""
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    sending(tcb, b"short", sent=6)
    operation = rig.act(lambda h: h.offload([tcb]))
    assert rig.names() == []
    assert "6 bytes" in operation.reason_of(tcb)
    tcb.delegated.state = TcpOffloadConnectionState.TcpConnectionFinWait1  # one of them is the FIN
    rig.act(lambda h: h.offload([tcb]))
    assert rig.names() == ["NdisInitiateOffload"]


def test_r_osd_09_snd_nxt_beyond_snd_max_stays_in_the_host() -> None:
    """R-OSD-09: snd nxt beyond snd max stays in the host."""
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    sending(tcb, b"0123456789", sent=5)
    tcb.delegated.snd_nxt = tcb.delegated.snd_max + 1
    operation = rig.act(lambda h: h.offload([tcb]))
    assert operation.status_of(tcb) == NdisStatus.INVALID_STATE
    assert rig.names() == []


def test_r_brd_01_and_r_brd_02_and_r_brd_04_buffered_data_goes_down_and_is_freed_on_success() -> None:
    """R-BRD-01, R-BRD-02, R-BRD-04: buffered data goes down and is freed on success."""
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    tcb.receive_buffer = bytearray(b"oldest, read already; newest")
    assert tcb.read(22) == b"oldest, read already; "
    rig.act(lambda h: h.offload([tcb]))
    request = rig.take("NdisInitiateOffload")
    delegated, lists, first = offered(rig, request)
    assert first is None
    assert content(lists[delegated.buffered_data or 0]) == b"newest"
    assert (tcb.read(), tcb.unread_below) == (b"", 6)
    again(rig, request)
    rig.initiated()
    assert tcb.buffered is None
    assert tcb.delegated.buffered_data is None


def test_r_part_03_after_a_failed_initiate_all_data_is_where_it_was() -> None:
    """R-PART-03: after a failed initiate all data is where it was."""
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    sending(tcb, b"one", b"two", sent=3)
    tcb.receive_buffer = bytearray(b"received")
    rig.act(lambda h: h.offload([tcb]))
    rig.act(lambda h: h.send(tcb, b"three"))
    rig.initiated(FAILURE)
    assert tcb.send_queue == [b"one", b"two", b"three"]
    assert tcb.receive_buffer == b"received"
    assert tcb.delegated.send_data_head is None
    assert rig.host.inspect()["posted"] == 0
    assert rig.allocated == 0


def test_what_was_written_during_the_offload_is_posted_after_it() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    rig.act(lambda h: h.offload([tcb]))
    rig.act(lambda h: h.send(tcb, b"late"))
    assert rig.names() == ["NdisInitiateOffload"]
    rig.initiated()
    (handle, wire), frames = rig.take("NdisOffloadTcpSend")
    assert tcb.handle is not None
    assert handle == tcb.handle.address
    assert content(NblChain.from_wire(wire, frames).lists()[0]) == b"late"


# -- up ----------------------------------------------------------------------------------------


def upload(
    rig: Rig, tcb: Tcb, first: NetBufferList | None = None, buffered: NetBufferList | None = None
) -> None:
    """A terminate that hands a chain of send data and buffered data back."""
    d = tcb.delegated
    if buffered is not None:
        d.buffered_data = buffered.address
    if first is not None:
        d.send_data_head = first.address
    rig.act(lambda h: h.terminate([tcb]))
    rig.terminated(
        chains=None if first is None else {tcb: first.address},
        lists=[n for n in (first, buffered) if n is not None] or None,
    )


def handed_over(rig: Rig, *pieces: bytes, sent: int) -> tuple[Tcb, list[NetBufferList]]:
    """A connection that took send data down with it, and the lists that the target holds."""
    _, _, (tcb,) = rig.tree(1)
    sending(tcb, *pieces, sent=sent)
    rig.act(lambda h: h.offload([tcb]))
    request = rig.take("NdisInitiateOffload")
    _, lists, first = offered(rig, request)
    assert first is not None
    again(rig, request)
    rig.initiated()
    return tcb, list(iter_chain(lists[first]))


def test_r_osd_10_and_r_osd_12_and_r_osd_13_send_data_that_is_handed_back_is_queued_again() -> None:
    """R-OSD-10, R-OSD-12, R-OSD-13: send data that is handed back is queued again."""
    rig = Rig()
    tcb, lists = handed_over(rig, b"acknowledged", b"half|unsent", sent=17)
    assert rig.host.inspect()["posted"] == 2
    # The target got the first list and five bytes of the second acknowledged.
    rig.host.protocol_tcp_offload_send_complete(rig.context, NblChain([lists[0].address], statuses=[SUCCESS]))
    half = lists[1].first_net_buffer
    assert half is not None
    advance(half, 5)
    d = tcb.delegated
    d.snd_una = d.snd_nxt = d.snd_max = (d.snd_una + 17) & 0xFFFFFFFF
    upload(rig, tcb, lists[1])
    assert tcb.send_queue == [b"unsent"]
    assert rig.violations() == []
    assert not tcb.lost
    assert rig.host.inspect()["posted"] == 0


def test_r_osd_13_sequence_numbers_beyond_the_data_are_a_violation() -> None:
    """R-OSD-13: sequence numbers beyond the data are a violation."""
    rig = Rig()
    tcb, lists = handed_over(rig, b"0123456789", sent=10)
    nb = lists[0].first_net_buffer
    assert nb is not None
    advance(nb, 9)
    upload(rig, tcb, lists[0])
    assert tcb.lost
    assert rig.violations() == ["R-OSD-13"]


def test_r_osd_12_another_order_is_a_violation_and_the_data_still_comes_home() -> None:
    """R-OSD-12: another order is a violation and the data still comes home."""
    rig = Rig()
    tcb, lists = handed_over(rig, b"first", b"second", sent=11)
    turned = chain(reversed(lists))
    upload(rig, tcb, turned)
    assert tcb.send_queue == [b"first", b"second"]
    assert rig.violations() == ["R-OSD-12"]


def test_r_term_08_lists_that_were_kept_are_a_violation_and_the_data_still_comes_home() -> None:
    """R-TERM-08: lists that were kept are a violation and the data still comes home."""
    rig = Rig()
    tcb, _ = handed_over(rig, b"kept", sent=4)
    rig.act(lambda h: h.terminate([tcb]))
    rig.terminated()
    assert tcb.send_queue == [b"kept"]
    assert rig.host.inspect()["posted"] == 0
    assert rig.violations() == ["R-TERM-08"]


def test_r_term_12_sends_that_come_back_with_upload_in_progress_are_the_hosts_to_send() -> None:
    """R-TERM-12: sends that come back with upload in progress are the hosts to send."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.send(tcb, b"early "))
    rig.act(lambda h: h.send(tcb, b"late"))
    early, late = rig.take("NdisOffloadTcpSend"), rig.take("NdisOffloadTcpSend")
    rig.act(lambda h: h.terminate([tcb]))
    rig.io_complete("ProtocolTcpOffloadSendComplete", late, UPLOADING)
    rig.io_complete("ProtocolTcpOffloadSendComplete", early, UPLOADING)
    rig.terminated()
    assert tcb.send_queue == [b"early ", b"late"]
    assert not tcb.lost


def test_r_term_04_after_a_terminate_nothing_more_is_posted() -> None:
    """R-TERM-04: after a terminate nothing more is posted."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.terminate([tcb]))
    rig.act(lambda h: h.send(tcb, b"queued"))
    with pytest.raises(LocalProtocolError, match="R-TERM-04"):
        rig.act(lambda h: h.receive(tcb, 100))
    with pytest.raises(LocalProtocolError, match="R-TERM-04"):
        rig.act(lambda h: h.disconnect(tcb))
    assert rig.names() == ["NdisTerminateOffload"]
    rig.terminated()
    assert tcb.send_queue == [b"queued"]


def test_r_im_14_send_data_that_must_go_by_the_host_uploads_the_connection() -> None:
    """R-IM-14: send data that must go by the host uploads the connection."""
    rig = Rig()
    _, _, (tcb, _) = rig.offloaded(2)
    rig.act(lambda h: h.send(tcb, b"data"))
    rig.io_complete(
        "ProtocolTcpOffloadSendComplete", rig.take("NdisOffloadTcpSend"), int(NdisStatus.REQUEST_UPLOAD)
    )
    rig.tick()
    assert rig.terminated() == [tcb]
    assert tcb.send_queue == [b"data"]


def test_r_send_09_aborted_sends_are_dropped_with_a_connection_that_is_closed() -> None:
    """R-SEND-09: after a reset their data is discarded."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.send(tcb, b"data"))
    rig.io_complete("ProtocolTcpOffloadSendComplete", rig.take("NdisOffloadTcpSend"), ABORTED)
    tcb.delegated.state = TcpOffloadConnectionState.TcpConnectionClosed
    rig.tick()
    rig.terminated()
    assert not tcb.send_queue
    assert not tcb.lost


@pytest.mark.parametrize("op", ["Send", "Disconnect"])
def test_a_connection_that_is_open_is_lost_when_it_is_back_without_data_that_was_aborted(op: str) -> None:
    """It cannot go on: the stream has a hole."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.send(tcb, b"data") if op == "Send" else h.disconnect(tcb, data=b"data"))
    rig.io_complete(f"ProtocolTcpOffload{op}Complete", rig.take(f"NdisOffloadTcp{op}"), ABORTED)
    rig.tick()
    operation = next(iter(rig.host.pending.values()))
    rig.terminated()
    assert tcb.lost
    assert "hole" in operation.reason_of(tcb)
    assert rig.violations() == []


def test_a_connection_whose_disconnect_failed_is_uploaded_so_that_the_host_closes_it() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.disconnect(tcb))
    rig.io_complete("ProtocolTcpOffloadDisconnectComplete", rig.take("NdisOffloadTcpDisconnect"), ABORTED)
    rig.tick()
    rig.terminated()
    assert not tcb.lost


def test_r_brd_08_and_r_brd_09_uploaded_receive_data_is_copied_and_its_lists_given_back() -> None:
    """R-BRD-08, R-BRD-09: uploaded receive data is copied and its lists given back."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    tcb.receive_buffer = bytearray(b"old ")
    address = iter(range(0x70000, 0x80000, 16))
    buffered = chain([make_net_buffer_list(lambda: next(address), [p]) for p in (b"new ", b"er")])
    assert buffered is not None
    upload(rig, tcb, buffered=buffered)
    assert [e.size for e in rig.events(DataReceived)] == [6]
    rig.tick()
    (binding, wire), _ = rig.take("NdisOffloadTcpReceiveReturn")
    assert binding == 0x2000
    assert wire["NetBufferList"] == [n.address for n in iter_chain(buffered)]
    assert tcb.read() == b"old new er"
    assert tcb.delegated.buffered_data is None


# -- segments ----------------------------------------------------------------------------------


def test_what_is_held_back_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_io, "MAX_HELD", 3)
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    rig.act(lambda h: h.offload([tcb]))
    assert rig.act(lambda h: h.deliver(tcb, [b"1", b"2"]))
    assert rig.act(lambda h: h.deliver(tcb, [b"3", b"4", b"5"]))
    assert tcb.held == [b"1", b"2", b"3"]
    assert rig.host.inspect()["segments dropped"] == 2


def test_r_conc_05_and_r_fwd_02_segments_are_held_back_during_the_offload_and_then_forwarded() -> None:
    """R-CONC-05, R-FWD-02: segments are held back during the offload and then forwarded."""
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    assert not rig.act(lambda h: h.deliver(tcb, [b"the host's own"]))
    rig.act(lambda h: h.offload([tcb]))
    assert rig.act(lambda h: h.deliver(tcb, [b"segment 1", b"segment 2"]))
    assert rig.names() == ["NdisInitiateOffload"]
    rig.initiated()
    (handle, wire), frames = rig.take("NdisOffloadTcpForward")
    assert tcb.handle is not None
    assert handle == tcb.handle.address
    lists = NblChain.from_wire(wire, frames).lists()
    assert [[data_of(nb) for nb in iter_net_buffers(n)] for n in lists] == [[b"segment 1"], [b"segment 2"]]
    assert tcb.held is None


def test_r_fwd_03_and_r_term_05_and_r_term_14_nothing_is_forwarded_during_or_after_a_terminate() -> None:
    """R-FWD-03, R-TERM-05, R-TERM-14: nothing is forwarded during or after a terminate."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.deliver(tcb, [b"before"]))
    request = rig.take("NdisOffloadTcpForward")
    rig.act(lambda h: h.terminate([tcb]))
    assert rig.act(lambda h: h.deliver(tcb, [b"during"]))
    rig.io_complete("ProtocolTcpOffloadForwardComplete", request, UPLOADING)
    rig.terminated()
    assert rig.names() == []
    assert sorted(tcb.held or []) == [b"before", b"during"]


@pytest.mark.parametrize("status", [SUCCESS, ABORTED])
def test_r_fwd_05_accepted_and_aborted_segments_are_done_with(status: int) -> None:
    """R-FWD-05: accepted and aborted segments are done with."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.deliver(tcb, [b"segment"]))
    rig.io_complete("ProtocolTcpOffloadForwardComplete", rig.take("NdisOffloadTcpForward"), status)
    assert tcb.held is None
    assert rig.host.inspect()["posted"] == 0


# -- receive, disconnect, indications ----------------------------------------------------------


def test_a_posted_buffer_brings_as_many_bytes_as_its_list_says() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.receive(tcb, 100))
    request = rig.take("NdisOffloadTcpReceive")
    posted = NblChain.from_wire(request[0][1], request[1]).lists()[0]
    assert posted.first_net_buffer is not None
    assert posted.first_net_buffer.data_length == 100
    mdl = posted.first_net_buffer.mdl_chain
    assert mdl is not None
    assert mdl.data is None
    mdl.data = b"hello, and what lay there before"
    posted.net_buffer_list_info[NetBufferListInfo.TcpOffloadBytesTransferred] = 5
    rig.io_complete("ProtocolTcpOffloadReceiveComplete", request, SUCCESS, lists=[posted])
    assert tcb.read() == b"hello"


def test_r_disc_01_a_disconnect_is_one_list_with_one_net_buffer() -> None:
    """R-DISC-01: a disconnect is one list with one net buffer."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.disconnect(tcb, data=b"bye"))
    rig.act(lambda h: h.disconnect(tcb, abortive=True))
    for flags, data in ((1, b"bye"), (2, b"")):
        (_, wire, given), frames = rig.take("NdisOffloadTcpDisconnect")
        (nbl,) = NblChain.from_wire(wire, frames).lists()
        assert given == flags
        assert [data_of(nb) for nb in iter_net_buffers(nbl)] == [data]
    with pytest.raises(LocalProtocolError, match="R-DISC-01"):
        rig.act(lambda h: h.disconnect(tcb, abortive=True, data=b"x"))


def test_final_data_of_a_disconnect_that_comes_back_is_the_hosts_to_send() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.disconnect(tcb, data=b"bye"))
    rig.io_complete("ProtocolTcpOffloadDisconnectComplete", rig.take("NdisOffloadTcpDisconnect"), UPLOADING)
    rig.act(lambda h: h.terminate([tcb]))
    rig.terminated()
    assert tcb.send_queue == [b"bye"]


def indicate(rig: Rig, handle: int, data: bytes, address: int = 0x7000) -> list[int]:
    addresses = iter(range(address, address + 0x100, 16))
    nbl = make_net_buffer_list(lambda: next(addresses), [data])
    wire, frames = NblChain.of(nbl).to_wire()
    rig.receive("ProtocolTcpOffloadReceiveIndicate", handle, wire, SUCCESS, call_id=55, frames=frames)
    answer: list[int] = rig.returned()
    return answer


def test_r_ind_03_indicated_data_is_consumed_whole_and_the_lists_go_back_in_one_call() -> None:
    """R-IND-03: indicated data is consumed whole and the lists go back in one call."""
    rig = Rig()
    _, _, (a, b) = rig.offloaded(2)
    assert a.handle is not None
    assert b.handle is not None
    assert indicate(rig, a.handle.address, b"12345", 0x7000) == [SUCCESS, 5]
    assert indicate(rig, b.handle.address, b"678", 0x7100) == [SUCCESS, 3]
    assert (a.read(), b.read()) == (b"12345", b"678")
    rig.tick()
    (_, wire), _ = rig.take("NdisOffloadTcpReceiveReturn")
    assert wire["NetBufferList"] == [0x7000, 0x7100]
    rig.tick()
    assert rig.names() == []


def test_data_for_a_stranger_is_not_accepted() -> None:
    rig = Rig()
    assert indicate(rig, 0x123, b"12345") == [int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED), 0]
    assert rig.violations() == ["R-HND-06"]


def test_a_completion_for_what_is_not_posted_is_a_violation() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.send(tcb, b"data"))
    (_, wire), _ = rig.take("NdisOffloadTcpSend")
    for _ in range(2):
        chain = NblChain(list(wire["NetBufferList"]), statuses=[SUCCESS])
        rig.host.protocol_tcp_offload_send_complete(rig.context, chain)
    assert rig.violations() == ["R-SEND-01"]
    assert tcb.acknowledged == 4


def test_r_hnd_08_i_o_names_the_connection_by_its_handle() -> None:
    """R-HND-08: i o names the connection by its handle."""
    rig = Rig()
    _, _, (_, tcb) = rig.offloaded(2)
    assert tcb.handle is not None
    rig.act(lambda h: h.send(tcb, b"x"))
    rig.act(lambda h: h.receive(tcb, 1))
    rig.act(lambda h: h.disconnect(tcb))
    for name in ("Send", "Receive", "Disconnect"):
        args, _ = rig.take(f"NdisOffloadTcp{name}")
        assert args[0] == tcb.handle.address


def test_r_brd_07_buffered_data_that_did_not_travel_is_a_violation() -> None:
    """R-BRD-07: buffered data that did not travel is a violation."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    tcb.delegated.buffered_data = 0x4444
    rig.act(lambda h: h.terminate([tcb]))
    rig.terminated()
    assert tcb.lost
    assert rig.violations() == ["R-BRD-07"]


def test_a_chain_that_did_not_travel_is_a_violation() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.terminate([tcb]))
    rig.terminated(chains={tcb: 0x5555})
    assert tcb.lost
    assert rig.violations() == ["R-OSD-12"]


def test_attachments_of_all_connections_travel_with_one_tree() -> None:
    rig = Rig()
    _, _, tcbs = rig.tree(3)
    for i, tcb in enumerate(tcbs):
        sending(tcb, bytes([i]) * 3)
    rig.act(lambda h: h.offload(tcbs))
    blocks = rig.blocks(rig.take("NdisInitiateOffload"))
    assert isinstance(blocks.attachments, Attachments)
    lists = blocks.attachments.read()
    chains = blocks.columns[Key.NBL_CHAIN]
    assert chains[:2] == [None, None]
    assert [content(lists[c]) for c in chains[2:]] == [b"\0\0\0", b"\1\1\1", b"\2\2\2"]
