"""Frames beside the chimney through the intermediate driver."""

from __future__ import annotations

from typing import Any

import pytest

from imdriver.config import ImConfig
from ndisbus.ddi.enums import NDIS_RECEIVE_FLAGS_RESOURCES
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import LocalProtocolError

ABORTED, PAUSED = int(NdisStatus.SEND_ABORTED), int(NdisStatus.PAUSED)
SOURCE = 0x10000000AB0
LISTS = [0x90000000010 + 0x30 * i for i in range(3)]
FRAMES = b"abbccc"


def packed(source: int, **more: Any) -> dict[str, Any]:
    return {"NetBufferList": list(LISTS), "SourceHandle": source, "DataLength": [1, 2, 3], **more}


def send(bench: Any, adapter: str = "im0-a", **more: Any) -> list[Any]:
    """A send from above; what the driver calls because of it."""
    args = bench.context(adapter), packed(SOURCE, **more), 4, 2
    return list(bench.tell("MiniportSendNetBufferLists", *args, frames=[FRAMES]))


def complete(bench: Any, lists: list[int], context: int, status: int = 0) -> list[Any]:
    """A completion from below; what goes up."""
    columns = {
        "NetBufferList": lists,
        "SourceHandle": bench.binding,
        "Status": [status] * len(lists),
        "Context": context,
    }
    return list(bench.tell("ProtocolSendNetBufferListsComplete", bench.binding_context, columns, 1))


def indicate(bench: Any, flags: int = 0, below: int = 0x77) -> list[Any]:
    args = bench.binding_context, packed(below), 4, 3, flags
    return list(bench.tell("ProtocolReceiveNetBufferLists", *args, frames=[FRAMES]))


def give_back(bench: Any, adapter: str, lists: list[int]) -> list[Any]:
    columns = {"NetBufferList": lists, "SourceHandle": bench.handle(adapter)}
    return list(bench.tell("MiniportReturnNetBufferLists", bench.context(adapter), columns, 1))


def entries(bench: Any) -> tuple[int, int]:
    """(packet entries, lists that are above)."""
    counters = bench.driver.inspect()
    return counters["packet_entries"], counters["packets_above"]


# -- down ----------------------------------------------------------------------------------------------


def test_a_send_goes_down_with_our_source_handle_and_its_payload_untouched(bench: Any) -> None:
    ((name, params, frames),) = send(bench)
    assert name == "NdisSendNetBufferLists"
    entry = params[1].pop("Context")
    assert params == [bench.binding, packed(bench.binding), 4, 2]
    assert frames[0] is FRAMES
    assert bench.driver.ndis.heap.objects[entry].left == 3
    assert entries(bench) == (1, 0)


def test_a_completion_goes_up_with_what_was_there_before(bench: Any) -> None:
    ((_, params, _),) = send(bench, Context=0x5)
    ((name, up, frames),) = complete(bench, LISTS, params[1]["Context"], ABORTED)
    assert name == "NdisMSendNetBufferListsComplete"
    assert up == [
        bench.handle(),
        {"NetBufferList": LISTS, "SourceHandle": SOURCE, "Status": [ABORTED] * 3, "Context": 0x5},
        1,
    ]
    assert frames == ()
    assert entries(bench) == (0, 0)


def test_a_send_may_come_back_in_portions(bench: Any) -> None:
    ((_, params, _),) = send(bench)
    entry = params[1]["Context"]
    for part, left in ((LISTS[1:2], 1), (LISTS[:1], 1), (LISTS[2:], 0)):
        ((_, up, _),) = complete(bench, part, entry)
        assert (up[1]["NetBufferList"], up[1]["SourceHandle"]) == (part, SOURCE)
        assert entries(bench) == (left, 0)


def test_a_send_without_a_driver_below(bench: Any) -> None:
    """On the way out the binding below is given up first; the virtual adapter may still be asked."""
    bench.driver.lower.handle = None
    ((name, params, frames),) = send(bench, Context=0x5)
    assert name == "NdisMSendNetBufferListsComplete"
    expected = {"NetBufferList": LISTS, "SourceHandle": SOURCE, "Status": [PAUSED] * 3, "Context": 0x5}
    assert params == [bench.handle(), expected, 0]
    assert frames == ()
    assert entries(bench) == (0, 0)


def test_a_completion_for_an_adapter_that_was_halted_goes_nowhere(bench: Any) -> None:
    ((_, params, _),) = send(bench)
    bench.ask("MiniportHaltEx", bench.context(), 0)
    assert entries(bench) == (0, 0)
    assert complete(bench, LISTS, params[1]["Context"]) == []


# -- up ------------------------------------------------------------------------------------------------


def test_a_frame_goes_up_on_every_adapter_and_back_when_all_have_returned_it(bench: Any) -> None:
    calls = indicate(bench)
    assert [(n, p) for n, p, _ in calls] == [
        ("NdisMIndicateReceiveNetBufferLists", [bench.handle(a), packed(bench.handle(a)), 4, 3, 0])
        for a in ("im0-a", "im0-b")
    ]
    assert all(f[0] is FRAMES for _, _, f in calls)
    assert entries(bench) == (0, 3)
    assert give_back(bench, "im0-a", LISTS) == []
    ((name, params, _),) = give_back(bench, "im0-b", LISTS[1:])
    assert name == "NdisReturnNetBufferLists"
    assert params == [bench.binding, {"NetBufferList": LISTS[1:], "SourceHandle": 0x77}, 1]
    ((_, params, _),) = give_back(bench, "im0-b", LISTS[:1])
    assert params[1]["NetBufferList"] == LISTS[:1]
    assert entries(bench) == (0, 0)


def test_lists_with_resources_are_not_waited_for(bench: Any) -> None:
    calls = indicate(bench, NDIS_RECEIVE_FLAGS_RESOURCES)
    assert [p[4] for _, p, _ in calls] == [NDIS_RECEIVE_FLAGS_RESOURCES] * 2
    assert entries(bench) == (0, 0)


def test_frames_go_back_at_once_while_there_is_no_adapter_above(make_bench: Any) -> None:
    bench = make_bench(ImConfig(adapters=())).attach()
    ((name, params, _),) = indicate(bench)
    assert name == "NdisReturnNetBufferLists"
    assert params[1] == {"NetBufferList": LISTS, "SourceHandle": 0x77}


def test_lists_of_an_adapter_that_is_gone_are_not_returned(bench: Any) -> None:
    """Protocols above may be late with what a dead driver below had indicated."""
    indicate(bench)
    bench.held.add("NdisIMDeInitializeDeviceInstance")
    bench.close(bench.binding)
    assert give_back(bench, "im0-a", LISTS) == give_back(bench, "im0-b", LISTS) == []
    assert entries(bench) == (0, 0)


def test_lists_that_come_back_to_an_adapter_that_was_halted_go_down(bench: Any) -> None:
    """An indication and the halt crossed: no driver above takes the lists, and NDIS returns them at once."""
    indicate(bench)
    assert give_back(bench, "im0-b", LISTS) == []
    context = bench.context("im0-a")
    bench.ask("MiniportHaltEx", context, 0)
    columns = {"NetBufferList": LISTS, "SourceHandle": 1}
    ((name, params, _),) = bench.tell("MiniportReturnNetBufferLists", context, columns, 1)
    assert name == "NdisReturnNetBufferLists"
    assert params[:2] == [bench.binding, {"NetBufferList": LISTS, "SourceHandle": 0x77}]
    assert entries(bench) == (0, 0)


def test_frames_that_come_through_a_closed_binding_are_dropped(bench: Any) -> None:
    """A fault held them back until the driver was bound anew; NDIS has returned them by then."""
    old = bench.binding_context
    bench.close(bench.binding)
    bench.bind()
    assert bench.binding_context != old
    args = old, packed(0x77), 0, 3, 0
    assert bench.tell("ProtocolReceiveNetBufferLists", *args, frames=[FRAMES]) == []
    assert entries(bench) == (0, 0)


def test_a_detached_driver_keeps_nothing(bench: Any) -> None:
    send(bench)
    indicate(bench)
    bench.port.lost("the bus is gone", 2.0)
    assert entries(bench) == (0, 0)


# -- facts ---------------------------------------------------------------------------------------------

FACTS = {
    "CurrentMacAddress": b"\x02\0\0\0\0\1",
    "MtuSize": 1500,
    "XmitLinkSpeed": 10**10,
    "RcvLinkSpeed": 10**9,
}


def told(bench: Any) -> list[dict[str, Any]]:
    """What NDIS was told of each virtual adapter."""
    return [p[1] for name, p, _ in bench.calls if name == "NdisMSetMiniportAttributes"]


def bound(bench: Any, **facts: Any) -> Any:
    bench.attach(bind=False)
    parameters = {"AdapterName": "nic0", "TcpConnectionOffloadCapabilities": None, "Epoch": 1, **facts}
    assert bench.ask("ProtocolBindAdapterEx", None, bench.ndis.address(), parameters) == [0]
    return bench


def test_what_the_adapter_below_says_of_itself_is_said_above(make_bench: Any) -> None:
    bench = bound(make_bench(ImConfig()), **FACTS)
    assert [{k: t[k] for k in FACTS} for t in told(bench)] == [FACTS, FACTS]


def test_a_virtual_adapter_may_have_an_address_of_its_own(make_bench: Any) -> None:
    mac = b"\x02\0\0\0\0\7"
    bench = bound(make_bench(ImConfig(macs={"im0-b": mac})), **FACTS)
    assert [t["CurrentMacAddress"] for t in told(bench)] == [FACTS["CurrentMacAddress"], mac]
    assert [t["MtuSize"] for t in told(bench)] == [1500, 1500]


def test_nothing_is_made_up(make_bench: Any) -> None:
    bench = bound(make_bench(ImConfig()))
    assert [{k: t[k] for k in FACTS} for t in told(bench)] == [dict.fromkeys(FACTS)] * 2


@pytest.mark.parametrize("mac", [b"", bytes(5), bytes(7), b"\x01\0\0\0\0\1"])
def test_what_is_no_address_of_a_station(mac: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="unicast"):
        ImConfig(macs={"im0-a": mac})
