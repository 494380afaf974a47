"""Frames beside the chimney at the target: to the wire, from the wire, and whose their lists are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.heap import Heap
from ndisbus.lists.nbl import NetBuffer, NetBufferList, chain, make_net_buffer_list
from ndisbus.lists.nbl_chain import NblChain
from target import TargetConfig
from target.data import frames as frame_io
from tests.support.target_harness import Harness

SOURCE = 0x10000000AB0
FRAMES = [bytes([n]) * (60 + n) for n in range(3)]
COMPLETE, INDICATE = "NdisMSendNetBufferListsComplete", "NdisMIndicateReceiveNetBufferLists"


@pytest.fixture
def h() -> Harness:
    return Harness(TargetConfig(mtu=1500, receive_buffers=10))


@pytest.fixture
def wire(h: Harness) -> list[bytes]:
    """The frames that the adapter sends."""
    out: list[bytes] = []
    h.adapter.link = SimpleNamespace(send=lambda frame, now: out.append(frame), takes=lambda _mac: True)
    return out


def send(h: Harness, lists: NblChain) -> list[int]:
    """A send of the host; the statuses of its lists."""
    lists.source_handle = SOURCE
    columns, frames = lists.to_wire()
    h.receive("MiniportSendNetBufferLists", [h.ctx, columns, 0, 0], frames=[bytes(f) for f in frames])
    ((handle, done, flags),) = h.take(COMPLETE)
    assert (handle, flags) == (h.adapter.handle, 0)
    assert done["NetBufferList"] == lists.addresses
    assert done["SourceHandle"] == SOURCE
    assert done.keys() == {"NetBufferList", "SourceHandle", "Status"}
    return list(done["Status"])


def plain(*frames: bytes) -> NblChain:
    return NblChain.of_frames(Heap(7), frames)


def receive(h: Harness, frames: list[bytes]) -> list[Any]:
    """Frames from the wire; the indications that they lead to."""
    frame_io.receive(h.adapter, frames)
    return h.take(INDICATE)


def give_back(h: Harness, lists: list[int]) -> None:
    columns = {"NetBufferList": lists, "SourceHandle": h.adapter.handle}
    h.receive("MiniportReturnNetBufferLists", [h.ctx, columns, 0])
    h.pump()


# -- out -----------------------------------------------------------------------------------------------


def test_every_frame_goes_to_the_wire_in_its_order(h: Harness, wire: list[bytes]) -> None:
    assert send(h, plain(*FRAMES)) == [0, 0, 0]
    assert wire == FRAMES


def test_lists_may_have_several_net_buffers_in_pieces(h: Harness, wire: list[bytes]) -> None:
    heap = Heap(7)
    lists: list[NetBufferList] = []
    for frame in FRAMES:
        nbl = make_net_buffer_list(heap.address, [frame[:20], frame[20:]])
        second = make_net_buffer_list(heap.address, [frame]).first_net_buffer
        assert nbl.first_net_buffer is not None
        assert isinstance(second, NetBuffer)
        nbl.first_net_buffer.next = second
        lists.append(nbl)
    first = chain(lists)
    assert first is not None
    both = NblChain.of(first)
    both.statuses = None
    assert send(h, both) == [0, 0, 0]
    assert wire == [f for f in FRAMES for _ in range(2)]


@pytest.mark.parametrize(("length", "good"), [(13, False), (14, True), (1518, True), (1519, False)])
def test_a_frame_has_a_header_and_no_more_than_the_mtu_behind_it(
    h: Harness, wire: list[bytes], length: int, good: bool
) -> None:
    """18 bytes of header with an 802.1Q tag; what is wrong with one frame is not wrong with the next."""
    verdict = 0 if good else int(NdisStatus.INVALID_LENGTH)
    assert send(h, plain(bytes(length), FRAMES[0])) == [verdict, 0]
    assert wire == [bytes(length)] * good + FRAMES[:1]


def test_without_a_wire_nothing_is_sent(h: Harness) -> None:
    assert h.adapter.link is None
    assert send(h, plain(*FRAMES)) == [int(NdisStatus.FAILURE)] * 3


def test_while_the_hardware_hangs_nothing_is_sent(h: Harness, wire: list[bytes]) -> None:
    h.control("hang", {})
    assert send(h, plain(*FRAMES)) == [int(NdisStatus.RESET_IN_PROGRESS)] * 3
    h.ask("MiniportResetEx", [h.ctx])
    assert send(h, plain(*FRAMES)) == [0] * 3
    assert wire == FRAMES


def test_descriptors_that_are_not_well_formed_fail(h: Harness, wire: list[bytes]) -> None:
    lists = NblChain([16])
    lists.attachments = NblChain.of(make_net_buffer_list(Heap(7).address, [b"x"])).attachments
    assert lists.attachments is not None
    lists.attachments.wire = [[{"NetBufferList": 16, "Surprise": 1}]]
    lists.attachments.frames = ()
    assert send(h, lists) == [int(NdisStatus.FAILURE)]
    assert wire == []


# -- in ------------------------------------------------------------------------------------------------


def test_frames_of_the_wire_are_indicated_together_from_the_receive_pool(h: Harness) -> None:
    ((handle, columns, port, count, flags),) = receive(h, FRAMES)
    assert (handle, port, count, flags) == (h.adapter.handle, 0, 3, 0)
    assert (columns["SourceHandle"], columns["DataLength"]) == (handle, [len(f) for f in FRAMES])
    assert h.inspect()["nbls_outstanding"] == 3
    give_back(h, columns["NetBufferList"][1:])
    assert h.inspect()["nbls_outstanding"] == 1
    give_back(h, columns["NetBufferList"][:1])
    assert h.inspect()["nbls_outstanding"] == 0


def test_what_finds_no_list_is_dropped_and_counted(h: Harness) -> None:
    ((_, columns, *_),) = receive(h, [FRAMES[0]] * 8)
    assert [p[3] for p in receive(h, FRAMES)] == [2]
    assert receive(h, FRAMES) == []
    assert h.adapter.refusals["frame received without a buffer"] == 4
    give_back(h, columns["NetBufferList"])
    assert [p[3] for p in receive(h, FRAMES)] == [3]


def test_what_is_no_frame_is_dropped_and_counted(h: Harness) -> None:
    assert receive(h, [b"", b"x" * 13]) == []
    ((_, columns, *_),) = receive(h, [b"", FRAMES[0]])
    assert columns["DataLength"] == [len(FRAMES[0])]
    assert h.adapter.refusals["frame received that is too short"] == 3


def test_a_long_burst_is_several_indications() -> None:
    h = Harness(TargetConfig(receive_buffers=1000))
    assert [p[3] for p in receive(h, [FRAMES[0]] * 600)] == [256, 256, 88]


def test_a_return_of_what_was_not_indicated_is_counted(h: Harness) -> None:
    give_back(h, [h.adapter.heap.address()])
    assert h.adapter.refusals["return of a list that was not indicated"] == 1


# -- life ----------------------------------------------------------------------------------------------


def test_r_reg_12_an_orderly_halt_waits_for_indicated_frames(h: Harness, wire: list[bytes]) -> None:
    """R-REG-12: the halt is answered only when the last list of an ordinary indication has come back.

    Until then nothing is sent any more, and nothing is indicated.
    """
    ((_, columns, *_),) = receive(h, FRAMES)
    assert h.ask("MiniportHaltEx", [h.ctx, 0]) == []
    assert send(h, plain(*FRAMES)) == [int(NdisStatus.PAUSED)] * 3
    assert receive(h, FRAMES) == []
    give_back(h, columns["NetBufferList"][:2])
    assert h.driver.adapters
    give_back(h, columns["NetBufferList"][2:])
    assert h.driver.adapters == {}
    assert wire == []


def test_r_reg_09_an_indicated_list_has_exactly_one_net_buffer(h: Harness) -> None:
    """R-REG-09: in the packed form there is no other, and the pool makes no other."""
    frame_io.receive(h.adapter, FRAMES)
    h.pump()
    ((params, frames),) = [(p, f) for name, p, f in h.calls if name == INDICATE]
    lists = NblChain.from_wire(params[1], frames).lists()
    assert [nbl.first_net_buffer is not None for nbl in lists] == [True] * 3
    assert [nbl.first_net_buffer.next for nbl in lists if nbl.first_net_buffer] == [None] * 3


def test_the_adapter_says_who_it_is() -> None:
    """Each adapter of a target has an address of its own."""
    h = Harness(TargetConfig(adapters=("nic0", "nic1"), mtu=9000, link_speed=10**9))
    said = [
        (a["CurrentMacAddress"], a["MtuSize"], a["XmitLinkSpeed"], a["RcvLinkSpeed"]) for a in h.attributes
    ]
    assert said == [(bytes([2, 0, 0, 0, 0, n]), 9000, 10**9, 10**9) for n in (1, 2)]
