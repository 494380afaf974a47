"""Frames beside the chimney at the host: out, in, and what becomes of their lists."""

from __future__ import annotations

from typing import Any

import pytest

from hoststack.chimney import frame_path
from ndisbus.ddi.enums import NDIS_RECEIVE_FLAGS_RESOURCES
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import LocalProtocolError, RemoteProtocolError
from tests.support.host_rig import BINDING_HANDLE, Rig

ABORTED = int(NdisStatus.SEND_ABORTED)
FRAMES = [b"a first frame", b"another", b"the third"]
NIC = 0x10000000020


@pytest.fixture
def rig() -> Rig:
    return Rig()


def transmit(rig: Rig, frames: list[bytes]) -> int:
    return int(rig.act(lambda host: host.transmit_frames(frames)))


def sent(rig: Rig) -> tuple[dict[str, Any], list[bytes]]:
    """The columns and the payload of the oldest send."""
    (handle, columns, port, flags), frames = rig.take("NdisSendNetBufferLists")
    assert (handle, port, flags) == (BINDING_HANDLE, 0, 0)
    return columns, list(frames)


def complete(rig: Rig, lists: list[int], status: int = 0) -> None:
    columns = {"NetBufferList": lists, "SourceHandle": BINDING_HANDLE, "Status": [status] * len(lists)}
    rig.receive("ProtocolSendNetBufferListsComplete", rig.context, columns, 0)


def indicate(rig: Rig, frames: list[bytes], flags: int = 0, lists: list[int] | None = None) -> list[int]:
    addresses = lists or [0x90000000010 + 0x30 * i for i in range(len(frames))]
    columns = {"NetBufferList": addresses, "SourceHandle": NIC, "DataLength": [len(f) for f in frames]}
    args = rig.context, columns, 0, len(frames), flags
    rig.receive("ProtocolReceiveNetBufferLists", *args, frames=[b"".join(frames)])
    return addresses


def counters(rig: Rig) -> tuple[int, int, int, int]:
    """(on their way, sent, received, dropped)."""
    i = rig.host.inspect()
    return i["sends"], i["frames out"], i["frames"], i["frames dropped"]


def test_frames_go_out_in_one_call_and_are_accounted(rig: Rig) -> None:
    assert transmit(rig, FRAMES) == 3
    columns, payload = sent(rig)
    assert (columns["SourceHandle"], columns["DataLength"]) == (BINDING_HANDLE, [len(f) for f in FRAMES])
    assert payload == [b"".join(FRAMES)]
    assert counters(rig) == (3, 0, 0, 0)
    complete(rig, columns["NetBufferList"][1:])
    complete(rig, columns["NetBufferList"][:1], ABORTED)
    assert counters(rig) == (0, 2, 0, 1)
    assert rig.host.frames.failed == {"NDIS_STATUS_SEND_ABORTED": 1}
    assert rig.host.frames.drops() == {"ordinary path: NDIS_STATUS_SEND_ABORTED": 1}
    assert rig.violations() == []


def test_a_long_burst_is_several_calls(rig: Rig) -> None:
    assert transmit(rig, [b"frame"] * (2 * frame_path.MAX_BATCH + 1)) == 2 * frame_path.MAX_BATCH + 1
    sizes = []
    while "NdisSendNetBufferLists" in rig.names():
        sizes.append(len(sent(rig)[0]["NetBufferList"]))
    assert sizes == [frame_path.MAX_BATCH, frame_path.MAX_BATCH, 1]


def test_senders_wait_while_many_frames_are_on_their_way(rig: Rig) -> None:
    frames, binding = rig.host.frames, rig.host.binding
    assert frames.takes(binding)
    transmit(rig, [b"frame"] * frame_path.ROOM)
    assert not frames.takes(binding)
    lists = sent(rig)[0]["NetBufferList"]
    complete(rig, lists[:1])
    assert frames.takes(binding)
    assert frames.takes(None), "without a binding frames are dropped, and nothing waits for it"


def test_nothing_is_called_for_nothing(rig: Rig) -> None:
    assert transmit(rig, []) == 0
    assert rig.names() == []


def test_a_full_queue_drops_its_tail(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_path, "MAX_SENDS", 4)
    assert [transmit(rig, FRAMES), transmit(rig, FRAMES), transmit(rig, FRAMES)] == [3, 1, 0]
    assert counters(rig) == (4, 0, 0, 5)
    columns, _ = sent(rig)
    complete(rig, columns["NetBufferList"])
    assert transmit(rig, FRAMES) == 3


def test_an_interface_that_is_down_drops_everything() -> None:
    rig = Rig(enabled=False)
    assert transmit(rig, FRAMES) == 0
    assert rig.names() == []
    assert counters(rig) == (0, 0, 0, 3)


def test_an_empty_frame_is_the_callers_mistake(rig: Rig) -> None:
    with pytest.raises(LocalProtocolError):
        transmit(rig, [b"good", b""])
    assert counters(rig) == (0, 0, 0, 0)


def test_frames_are_handed_over_together_and_their_lists_go_back_at_once(rig: Rig) -> None:
    seen: list[list[bytes]] = []
    rig.host.frames.on_frames = seen.append
    lists = indicate(rig, FRAMES)
    assert seen == [FRAMES]
    back, frames = rig.take("NdisReturnNetBufferLists")
    assert back == [BINDING_HANDLE, {"NetBufferList": lists, "SourceHandle": NIC}, 0]
    assert list(frames) == []
    assert counters(rig) == (0, 0, 3, 0)


def test_lists_go_back_before_the_frames_are_answered(rig: Rig) -> None:
    """What a stack sends in answer comes behind them."""
    rig.host.frames.on_frames = lambda frames: void(rig.host.transmit_frames(frames))
    indicate(rig, FRAMES)
    assert rig.names() == ["NdisReturnNetBufferLists", "NdisSendNetBufferLists"]


def void(_: object) -> None:
    """Drop a value."""


def test_lists_with_resources_do_not_go_back(rig: Rig) -> None:
    seen: list[list[bytes]] = []
    rig.host.frames.on_frames = seen.append
    indicate(rig, FRAMES, NDIS_RECEIVE_FLAGS_RESOURCES)
    assert seen == [FRAMES]
    assert rig.names() == []


def test_without_a_stack_frames_are_counted(rig: Rig) -> None:
    indicate(rig, FRAMES)
    rig.take("NdisReturnNetBufferLists")
    assert counters(rig) == (0, 0, 3, 0)


def test_malformed_descriptors_are_reported_and_go_back(rig: Rig) -> None:
    rig.host.frames.on_frames = lambda frames: pytest.fail(f"{frames}")
    columns = {"NetBufferList": [0x90000000010], "SourceHandle": NIC, "NetBufferLists": [["what"]]}
    rig.receive("ProtocolReceiveNetBufferLists", rig.context, columns, 0, 1, 0)
    rig.take("NdisReturnNetBufferLists")
    assert len(rig.violations()) == 1


def test_the_binding_has_the_address_and_mtu_that_the_adapter_reported() -> None:
    rig = Rig(enabled=False)
    facts = {"CurrentMacAddress": b"\x02\0\0\0\0\1", "MtuSize": 9000}
    rig.receive("ProtocolBindAdapterEx", None, 1, {"AdapterName": "nic0", "Epoch": 1, **facts}, call_id=900)
    rig.take("NdisOpenAdapterEx")
    rig.answer(0, BINDING_HANDLE)
    binding = rig.host.binding
    assert binding is not None
    assert (binding.mac, binding.mtu) == (b"\x02\0\0\0\0\1", 9000)


def test_sends_in_flight_when_the_bus_dies_are_aborted_once(rig: Rig) -> None:
    transmit(rig, FRAMES)
    rig.port.lost("the bus is gone", rig.now)
    assert rig.host.frames.failed == {"NDIS_STATUS_SEND_ABORTED": 3}
    assert counters(rig) == (0, 0, 0, 3)
    assert rig.port.sent_nbls == {}
    assert rig.violations() == []
    assert transmit(rig, FRAMES) == 0


def test_a_send_whose_completion_a_fault_took_away_ends_with_the_binding(rig: Rig) -> None:
    transmit(rig, FRAMES)
    rig.act(lambda host: host.ndis.close_adapter_ex(host.binding.handle))
    rig.take("NdisCloseAdapterEx")
    rig.answer(0)
    rig.receive("ProtocolCloseAdapterCompleteEx", rig.context)
    assert counters(rig) == (0, 0, 0, 3)
    assert rig.port.sent_nbls == {}


def test_a_completion_that_a_fault_held_back_too_long_is_dropped(rig: Rig) -> None:
    """The binding was closed meanwhile, and the send given up with it."""
    transmit(rig, FRAMES)
    columns, _ = sent(rig)
    context = rig.context
    rig.act(lambda host: host.ndis.close_adapter_ex(host.binding.handle))
    rig.take("NdisCloseAdapterEx")
    rig.answer(0)
    rig.receive("ProtocolCloseAdapterCompleteEx", context)
    late = {"NetBufferList": columns["NetBufferList"], "SourceHandle": BINDING_HANDLE, "Status": [0] * 3}
    rig.receive("ProtocolSendNetBufferListsComplete", context, late, 0)
    assert counters(rig) == (0, 0, 0, 3)
    assert rig.violations() == []


def test_a_completion_while_the_binding_is_closing_counts(rig: Rig) -> None:
    """Closing waits for it."""
    transmit(rig, FRAMES)
    columns, _ = sent(rig)
    rig.act(lambda host: host.ndis.close_adapter_ex(host.binding.handle))
    rig.take("NdisCloseAdapterEx")
    rig.answer(0)
    complete(rig, columns["NetBufferList"])
    assert counters(rig) == (0, 3, 0, 0)


def test_a_completion_of_what_was_not_sent_stops_the_driver(rig: Rig) -> None:
    with pytest.raises(RemoteProtocolError, match="not outstanding"):
        complete(rig, [0x99])
