"""Between an initiate or a terminate and its completion: who owns which byte (hoststack/model/move.py)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hoststack.model.life import State
from hoststack.model.move import Step
from hoststack.model.objects import Tcb
from ndisbus.ddi.enums import NetBufferListInfo
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TcpOffloadEventType, TcpUploadReason
from ndisbus.lists.blocklist import Key
from ndisbus.lists.nbl import NetBufferList, make_net_buffer_list
from ndisbus.lists.nbl_chain import Attachments, NblChain
from tests.support.host_rig import FAILURE, SUCCESS, Request, Rig

ABORTED = int(NdisStatus.REQUEST_ABORTED)
UPLOADING = int(NdisStatus.UPLOAD_IN_PROGRESS)
NOT_ACCEPTED = int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED)


def offered(received: bytes = b"", *pieces: bytes) -> tuple[Rig, Tcb]:
    """A connection whose initiate is under way."""
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    tcb.receive_buffer = bytearray(received) or None
    tcb.send_queue = list(pieces) or None
    rig.act(lambda h: h.offload([tcb]))
    assert tcb.step is Step.OFFERED
    return rig, tcb


def send_complete(rig: Rig, tcb: Tcb, status: int = SUCCESS) -> None:
    """Complete the oldest list that was lent."""
    address = next(iter(tcb.lent or {}))
    wire, _ = NblChain([address], statuses=[status]).to_wire()
    rig.receive("ProtocolTcpOffloadSendComplete", rig.context, wire)


def nbl_with(data: bytes) -> NetBufferList:
    address = itertools.count(0x70000, 16)
    return make_net_buffer_list(lambda: next(address), [data])


def fill(rig: Rig, request: Request, data: bytes, status: int = SUCCESS) -> None:
    """Complete a receive request with data in it."""
    (address,) = request[0][1]["NetBufferList"]
    nbl = nbl_with(data)
    nbl.address = address
    nbl.net_buffer_list_info[NetBufferListInfo.TcpOffloadBytesTransferred] = len(data)
    rig.io_complete("ProtocolTcpOffloadReceiveComplete", request, status, lists=[nbl])


def size_of(request: Request) -> int:
    chain = NblChain.from_wire(request[0][1], request[1])
    (nbl,) = chain.lists()
    assert nbl.first_net_buffer is not None
    return nbl.first_net_buffer.data_length


def indicate(rig: Rig, tcb: Tcb, data: bytes) -> Any:
    assert tcb.handle is not None
    wire, frames = NblChain.of(nbl_with(data)).to_wire()
    rig.receive(
        "ProtocolTcpOffloadReceiveIndicate", tcb.handle.address, wire, SUCCESS, call_id=902, frames=frames
    )
    return rig.returned()


# -- received data -----------------------------------------------------------------------------


def test_r_brd_05_data_that_went_down_cannot_be_read_until_it_is_back_and_is_asked_for() -> None:
    """R-BRD-05: it is not indicated, so the host posts a receive for it, also without a stack."""
    rig, tcb = offered(b"unread")
    assert (tcb.read(), tcb.unread_below) == (b"", 6)
    rig.initiated()
    assert tcb.read() == b""
    request = rig.take("NdisOffloadTcpReceive")
    assert size_of(request) == 6
    fill(rig, request, b"unread")
    assert (tcb.read(), tcb.unread_below) == (b"unread", 0)
    assert rig.names() == []


def test_the_stream_does_not_end_while_data_is_below_in_whatever_pieces_it_comes() -> None:
    rig, tcb = offered(b"three pieces")
    tcb.remote_closed = True
    rig.initiated()
    fill(rig, rig.take("NdisOffloadTcpReceive"), b"three ")
    assert tcb.read() == b"three "
    assert not tcb.at_end
    request = rig.take("NdisOffloadTcpReceive")
    assert size_of(request) == 6
    assert indicate(rig, tcb, b"pie") == [SUCCESS, 3]
    assert tcb.read() == b"pie"
    assert not tcb.at_end
    fill(rig, request, b"ces")
    assert tcb.read() == b"ces"
    assert tcb.at_end


@pytest.mark.parametrize("status", [ABORTED, UPLOADING, SUCCESS])
def test_data_whose_receive_fails_comes_up_with_its_connection(status: int) -> None:
    """A receive that succeeds without data is as useless as one that fails."""
    rig, tcb = offered(b"unread")
    rig.initiated()
    fill(rig, rig.take("NdisOffloadTcpReceive"), b"", status)
    rig.tick()
    assert "NdisTerminateOffload" in rig.names()
    assert (tcb.step, tcb.unread_below) == (Step.RECALLED, 6)
    buffered = nbl_with(b"unread")
    tcb.delegated.buffered_data = buffered.address
    rig.terminated(lists=[buffered])
    assert (tcb.step, tcb.read(), tcb.unread_below) == (Step.IN_HOST, b"unread", 0)
    assert rig.violations() == []


def test_r_brd_07_data_that_does_not_come_up_with_its_connection_is_lost() -> None:
    """R-BRD-07: the target delivers it, or hands it up in BufferedData."""
    rig, tcb = offered(b"unread")
    tcb.remote_closed = True
    rig.initiated()
    rig.act(lambda h: h.terminate([tcb]))
    rig.terminated()
    assert rig.violations() == ["R-BRD-07"]
    assert tcb.step is Step.LOST
    assert not tcb.at_end


def test_r_conc_03_data_is_not_taken_before_the_initiate_has_completed() -> None:
    """R-CONC-03: its place is behind what is still below. It is asked for afterwards."""
    rig, tcb = offered(b"first ")
    assert indicate(rig, tcb, b"second") == [NOT_ACCEPTED, 0]
    rig.initiated()
    request = rig.take("NdisOffloadTcpReceive")
    assert size_of(request) > 6
    fill(rig, request, b"first second")
    assert tcb.read() == b"first second"
    assert rig.names() == []


# -- send data ---------------------------------------------------------------------------------


def test_r_osd_10_lent_data_is_reported_as_sent_before_the_initiate_completes() -> None:
    """R-OSD-10: it comes back as a send does, whenever it is acknowledged (R-CONC-03)."""
    rig, tcb = offered(b"", b"one", b"two")
    rig.act(lambda h: h.send(tcb, b"three"))
    send_complete(rig, tcb)
    assert (tcb.below, tcb.acknowledged) == (3, 3)
    rig.initiated()
    assert tcb.step is Step.BELOW
    send_complete(rig, tcb)
    rig.io_complete("ProtocolTcpOffloadSendComplete", rig.take("NdisOffloadTcpSend"), SUCCESS)
    assert (tcb.below, tcb.lent, rig.host.posted) == (0, None, {})
    assert rig.violations() == []
    rig.act(lambda h: h.terminate([tcb]))
    rig.terminated()
    assert (tcb.step, tcb.send_queue) == (Step.IN_HOST, None)
    assert rig.violations() == []


@pytest.mark.parametrize("status", [SUCCESS, ABORTED])
def test_a_failure_after_sends_completed_is_not_a_refusal(status: int) -> None:
    """The connection is lost, not the bytes: those that were read are still to be had, before the error."""
    rig, tcb = offered(b"unread", b"one", b"two")
    send_complete(rig, tcb, status)
    operation = next(iter(rig.host.pending.values()))
    rig.initiated(FAILURE)
    assert (tcb.step, tcb.state) == (Step.LOST, State.GONE)
    assert "served" in operation.reason_of(tcb)
    assert (tcb.read(), tcb.unread_below) == (b"unread", 0)
    assert rig.host.inspect()["posted"] == 0
    assert rig.allocated == 0
    assert tcb.path.dependents == 0


def test_a_refusal_after_sends_were_handed_back_is_a_refusal() -> None:
    rig, tcb = offered(b"", b"one", b"two")
    rig.act(lambda h: h.send(tcb, b"three"))
    send_complete(rig, tcb, UPLOADING)
    rig.initiated(FAILURE)
    assert tcb.step is Step.IN_HOST
    assert tcb.send_queue == [b"one", b"two", b"three"]
    assert rig.host.inspect()["posted"] == 0


@pytest.mark.parametrize(
    ("event", "information"),
    [
        (TcpOffloadEventType.TcpIndicateRetrieve, TcpUploadReason.HardwareFailure),
        (TcpOffloadEventType.TcpIndicateAbort, 0),
        (TcpOffloadEventType.TcpIndicateDisconnect, 0),
    ],
)
def test_a_failure_after_an_event_of_the_connection_is_not_a_refusal(event: int, information: int) -> None:
    """R-CONC-04: a target should not indicate now, but NDIS does for a removed adapter."""
    rig, tcb = offered(b"unread")
    rig.event(tcb, int(event), int(information))
    rig.initiated(FAILURE)
    rig.tick()
    assert tcb.step is Step.LOST
    assert tcb.read() == b"unread"
    assert rig.names() == []
    assert rig.violations() == []


def test_a_connection_on_offer_is_lost_with_the_bus() -> None:
    rig, tcb = offered(b"unread", b"one")
    rig.act(lambda h: h.detached("the bus is gone"))
    assert tcb.step is Step.LOST
    assert tcb.read() == b"unread"
    assert rig.host.inspect()["posted"] == 0


# -- segments ----------------------------------------------------------------------------------


def test_segments_are_held_while_an_offload_waits_and_forwarded_after_it() -> None:
    """R-CONC-05: the machine is stopped already, and the operation waits for the path."""
    rig = Rig()
    _, (path,), (first, tcb) = rig.tree(2)
    rig.act(lambda h: h.offload([first]))
    rig.act(lambda h: h.offload([tcb]))
    assert tcb.step is Step.IN_HOST
    assert rig.act(lambda h: h.deliver(tcb, [b"segment"]))
    rig.initiated()
    rig.initiated()
    rig.take("NdisOffloadTcpForward")
    assert path.dependents == 2


def test_segments_of_a_lost_connection_are_not_taken() -> None:
    rig, tcb = offered()
    assert rig.act(lambda h: h.deliver(tcb, [b"held"]))
    rig.act(lambda h: h.detached("the bus is gone"))
    assert tcb.held is None
    assert not rig.act(lambda h: h.deliver(tcb, [b"segment"]))


# -- terminates --------------------------------------------------------------------------------


def test_a_connection_that_was_aborted_does_not_wait_for_a_second_terminate() -> None:
    """R-TERM-17: NDIS reports a removed adapter like this."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.terminate([tcb]))
    rig.event(tcb, int(TcpOffloadEventType.TcpIndicateRetrieve), int(TcpUploadReason.HardwareFailure))
    rig.event(tcb, int(TcpOffloadEventType.TcpIndicateAbort))
    rig.terminated(FAILURE)
    assert (tcb.step, tcb.state) == (Step.LOST, State.GONE)
    assert rig.host.limbo == {}


def test_a_terminate_that_waited_for_a_refused_offload_says_which_objects_it_left_out() -> None:
    """An upload of everything that waits for it goes on, too."""
    rig, tcb = offered(b"unread")
    upload = rig.act(lambda h: h.terminate([tcb]))
    everything = rig.act(lambda h: h.upload_everything())
    rig.initiated(FAILURE)
    assert (upload.done, list(upload.objects), upload.left_out) == (True, [], [tcb])
    assert everything.done
    assert tcb.step is Step.IN_HOST


def test_an_initiate_forgets_what_an_earlier_move_left() -> None:
    rig, tcb = offered(b"unread")
    rig.event(tcb, int(TcpOffloadEventType.TcpIndicateAbort))
    rig.initiated(FAILURE)
    rig.act(lambda h: h.offload([tcb]))
    rig.initiated(FAILURE)
    assert not tcb.reset
    assert tcb.read() == b"unread"


def test_the_image_goes_down_with_pointers_and_the_structure_keeps_none() -> None:
    """R-STATE-12: only an initiate and a terminate use them."""
    rig, tcb = offered(b"unread", b"one")
    d = tcb.delegated
    assert (d.send_data_head, d.send_data_tail, d.buffered_data) == (None, None, None)
    (args, frames) = rig.take("NdisInitiateOffload")
    assert len(Attachments(args[1][Key.NET_BUFFER_LISTS], frames).read()) == 2
