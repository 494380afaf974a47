"""The port: what a driver calls becomes messages, what arrives becomes calls, memory seems shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ndisbus.ddi.call_rows import IO_OPERATIONS, STATE_OPERATIONS
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import Driver, MiniportDriver, ProtocolDriver, Reply
from ndisbus.driver.port import DriverPort
from ndisbus.errors import LocalProtocolError, RemoteProtocolError
from ndisbus.lists.blocklist import BlockList, BlockListBuilder, Form, Key
from ndisbus.lists.heap import Heap
from ndisbus.lists.nbl import make_net_buffer_list
from ndisbus.lists.nbl_chain import Attachments, NblChain
from ndisbus.messages.codec import PROTOCOL_VERSION, Message, decode_packet, encode_packet
from tests.support.toy_drivers import ToyHost, ToyTarget

SPACE, BINDING, HANDLE = 7, 0x10000000050, 0x10000000070
OPS = [o.op for o in STATE_OPERATIONS]


class Rig:
    """A port that has been let in, and a bus that is a test."""

    def __init__(self, driver: Driver) -> None:
        self.port = DriverPort(driver, {"Name": "me"})
        self.port.hello()
        ((hello, _),) = self.port.drain()
        assert hello == ["hello", 1, [PROTOCOL_VERSION, {"Name": "me", "Parts": True}]]
        self.tell("ready", {"Epoch": 3, "AddressSpace": SPACE}, call_id=1)

    def tell(self, name: str, *args: Any, call_id: int | None = None, frames: Sequence[bytes] = ()) -> None:
        """A message from the bus."""
        message: Message = [name, call_id, list(args)]
        if frames:
            message.append(len(frames))
        ((decoded, payload),) = decode_packet([encode_packet([message]), *frames])
        self.port.receive(decoded, payload, 1.5)

    def sent(self) -> list[Message]:
        """What the driver has sent since."""
        return [decode_packet([encode_packet([m]), *f])[0][0] for m, f in self.port.drain()]

    def last(self) -> Message:
        """The only message that the driver has sent."""
        (message,) = self.sent()
        return message


@pytest.fixture
def host() -> tuple[Rig, ToyHost]:
    driver = ToyHost()
    rig = Rig(driver)
    registered = rig.last()
    rig.tell("return", 0, 0x99, call_id=registered[1])
    rig.tell("ProtocolBindAdapterEx", None, 1, {"AdapterName": "nic0"}, call_id=5)
    opened = rig.last()
    rig.tell("return", 0, BINDING, call_id=opened[1])
    rig.sent()
    return rig, driver


@pytest.fixture
def target() -> tuple[Rig, ToyTarget]:
    driver = ToyTarget()
    rig = Rig(driver)
    rig.sent()
    rig.tell("MiniportInitializeEx", HANDLE, None, {"AdapterName": "nic0"}, call_id=5)
    rig.tell("return", 0, call_id=rig.last()[1])
    assert rig.last() == ["return", 5, [0]]
    return rig, driver


def lower_columns(*contexts: int | None) -> dict[str, Any]:
    """A list as NDIS gives it to a miniport."""
    blocks = Heap(99).addresses(len(contexts), 0x98)
    return {
        Key.BLOCK: list(blocks),
        Key.TYPE: 17,
        Key.NEXT: [*blocks[1:], None],
        Key.CELL: [0x50 + i for i in range(len(contexts))],
        Key.NDIS_OFFLOAD_HANDLE: [0x40 + i for i in range(len(contexts))],
        Key.CONTEXT: list(contexts),
        Key.SOURCE_HANDLE: 0x77,
        Key.IM_RESERVED[0]: 0x88,
        Key.STATE: [b"state"] * len(contexts),
    }


# -- handlers that wait --------------------------------------------------------------------------------


def test_a_generator_handler_waits_for_the_answers_and_gives_its_own() -> None:
    class Steps(MiniportDriver):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def miniport_initialize_ex(self, ndis_miniport_handle: int, context: Any, parameters: Any) -> Any:
            self.seen.append((yield self.ndis.m_get_offload_handlers(ndis_miniport_handle, 1)))
            first = self.ndis.m_get_offload_handlers(ndis_miniport_handle, 2)
            second = self.ndis.m_get_offload_handlers(ndis_miniport_handle, 3)
            self.seen.append((yield second))
            self.seen.append((yield first))  # answered before it was waited for
            return NdisStatus.SUCCESS

    driver = Steps()
    rig = Rig(driver)
    rig.tell("MiniportInitializeEx", HANDLE, None, {}, call_id=9)
    asked = rig.last()
    assert asked[0] == "NdisMGetOffloadHandlers"
    assert asked[2] == [HANDLE, 1]
    rig.tell("return", 0, {"table": 1}, call_id=asked[1])
    first, second = rig.sent()
    rig.tell("return", 1, None, call_id=first[1])
    assert driver.seen == [(0, {"table": 1})]
    rig.tell("return", 2, None, call_id=second[1])
    assert driver.seen == [(0, {"table": 1}), (2, None), (1, None)]
    assert rig.last() == ["return", 9, [0]]


def test_plain_values_and_tuples_are_answers(target: tuple[Rig, ToyTarget]) -> None:
    rig, _ = target
    rig.tell("MiniportCheckForHangEx", 5, call_id=1)
    assert rig.last() == ["return", 1, [False]]
    rig.tell("MiniportOidRequest", 5, {"Oid": 3}, call_id=2)
    assert rig.last() == ["return", 2, [0, {"Oid": 3}]]
    assert type(encode_packet([["return", 2, [int(NdisStatus.SUCCESS)]]])) is bytes


def test_an_answer_to_no_call_is_an_error(target: tuple[Rig, ToyTarget]) -> None:
    rig, _ = target
    with pytest.raises(RemoteProtocolError, match="answered call 77"):
        rig.tell("return", 0, call_id=77)


@pytest.mark.parametrize("late", ["return", "refused"])
def test_an_answer_that_comes_after_the_farewell_is_dropped(target: tuple[Rig, ToyTarget], late: str) -> None:
    """The bus may have answered a survey in the very packet that says that the driver is closed."""
    rig, _ = target
    reply = rig.port.control("ps", {})
    call_id = rig.last()[1]
    rig.tell("closed", {"Reason": "left"})
    rig.tell(late, *((0, {}) if late == "return" else ({"Call": "control", "Reason": "x"},)), call_id=call_id)
    assert reply.answer is None
    assert not rig.port.refusals
    with pytest.raises(RemoteProtocolError, match=f"answered call {call_id + 1}"):
        rig.tell("return", 0, call_id=call_id + 1)


def test_a_refused_call_is_answered_in_the_form_of_its_answers(host: tuple[Rig, ToyHost]) -> None:
    """A handler unpacks an answer without a look at it."""
    rig, driver = host
    reply = driver.ndis.open_adapter_ex(0x99, 1, {})
    call_id = rig.last()[1]
    rig.tell("refused", {"Call": "NdisOpenAdapterEx", "Reason": "say hello first"}, call_id=call_id)
    assert reply.answer == (NdisStatus.FAILURE, None)
    reply = driver.ndis.close_adapter_ex(BINDING)
    rig.tell("refused", {"Call": "NdisCloseAdapterEx", "Reason": "x"}, call_id=rig.last()[1])
    assert reply.answer == (NdisStatus.FAILURE,)


def test_a_handler_that_waits_for_its_own_driver_ends_with_the_epoch() -> None:
    """Resumed later, it would answer a call of the former bus to the next one, and use its handles."""
    steps: list[str] = []

    class Halting(MiniportDriver):
        def __init__(self) -> None:
            self.reply = Reply("MiniportHaltEx")

        def miniport_halt_ex(self, miniport_adapter_context: int, halt_action: int) -> Any:
            try:
                yield self.reply
                steps.append("resumed")
                self.ndis.im_de_initialize_device_instance(HANDLE)
            finally:
                steps.append("ended")
            return NdisStatus.SUCCESS

    driver = Halting()
    rig = Rig(driver)
    rig.tell("MiniportHaltEx", 5, 0, call_id=9)
    assert not steps
    rig.port.lost("the bus is gone", 2.0)
    assert steps == ["ended"]
    rig.port.hello()
    rig.sent()
    rig.tell("ready", {"Epoch": 4, "AddressSpace": SPACE + 1})
    driver.ndis.resume(driver.reply, (0,))
    assert (steps, rig.sent()) == (["ended"], [])


def test_a_hello_tells_the_highest_epoch_that_the_driver_has_seen(host: tuple[Rig, ToyHost]) -> None:
    rig, _ = host
    for epoch, told in ((None, 3), (7, 7), (5, 7)):
        if epoch is not None:
            rig.tell("ProtocolBindAdapterEx", None, 1, {"AdapterName": "nic1", "Epoch": epoch}, call_id=6)
        rig.port.lost("the bus is gone", 2.0)
        rig.port.hello()
        assert rig.last()[2][1] == {"Name": "me", "Parts": True, "LastEpoch": told}
        rig.tell("ready", {"Epoch": 1, "AddressSpace": SPACE})
        rig.sent()


@pytest.mark.parametrize("name", ["NdisInitiateOffload", "Frobnicate", "ProtocolStatusEx"])
def test_what_is_no_handler_of_this_driver_is_an_error(target: tuple[Rig, ToyTarget], name: str) -> None:
    rig, _ = target
    with pytest.raises(RemoteProtocolError, match=name):
        rig.tell(name, 1, {})


def test_inspections_commands_and_pings_are_answered(target: tuple[Rig, ToyTarget]) -> None:
    rig, driver = target
    rig.tell("ping", call_id=4)
    assert rig.last() == ["return", 4, [0]]
    driver.held.add(5)
    rig.tell("inspect", call_id=5)
    heap = len(driver.ndis.heap.objects)
    info = {"Counters": {"contexts": 1}, "Sent": 0, "Lent": 0, "Heap": heap}
    assert rig.last() == ["return", 5, [0, info]]
    rig.tell("control", "frobnicate", {}, call_id=6)
    status, reason = rig.last()[2]
    assert status == NdisStatus.FAILURE
    assert "frobnicate" in reason


def test_the_clock_stands_still_in_a_handler(target: tuple[Rig, ToyTarget]) -> None:
    rig, driver = target
    assert driver.ndis.now() == 1.5
    rig.port.on_timer(2.0)
    assert driver.ndis.now() == 2.0


# -- calls ---------------------------------------------------------------------------------------------


def test_a_call_is_a_message_with_the_documented_parameters(target: tuple[Rig, ToyTarget]) -> None:
    rig, driver = target
    driver.ndis.tcp_offload_event_handler(0x5, NdisStatus.SUCCESS, 7)
    assert rig.last() == ["NdisTcpOffloadEventHandler", None, [5, 0, 7]]


@pytest.mark.parametrize(
    ("name", "args", "reason"),
    [
        ("NdisFrobnicate", (), "not a function that NDIS offers"),
        ("MiniportInitiateOffload", (1, 2), "not a function that NDIS offers"),
        ("NdisCloseAdapterEx", (), "takes 1 parameters, 0 were given"),
        ("NdisCloseAdapterEx", (1, 2), "takes 1 parameters, 2 were given"),
    ],
)
def test_calls_that_cannot_be_made(target: tuple[Rig, ToyTarget], name: str, args: Any, reason: str) -> None:
    rig, driver = target
    with pytest.raises(LocalProtocolError, match=reason):
        driver.ndis.call(name, *args)
    assert rig.sent() == []


# -- lists down and back -------------------------------------------------------------------------------


def test_a_request_carries_what_ndis_would_read_through_the_pointers(host: tuple[Rig, ToyHost]) -> None:
    rig, driver = host
    handles = driver.offload(4, 8, 17)
    name, call_id, (binding, columns) = rig.last()
    assert (name, call_id, binding) == ("NdisInitiateOffload", None, BINDING)
    assert columns[Key.OFFLOAD_HANDLE] == [h.address for h in handles]
    assert columns[Key.HANDLE_CELL] == [h.miniport_offload_context for h in handles]
    assert columns[Key.CONTEXT] == [None] * 3
    assert columns[Key.STATE] == [b"state"] * 3
    assert Key.STATUS not in columns


def complete(rig: Rig, op: str, columns: dict[str, Any], context: int) -> None:
    o = STATE_OPERATIONS[OPS.index(op)]
    rig.tell(o.completion_handler, context, columns)


def test_a_completion_is_applied_to_the_very_list_that_was_passed_down(host: tuple[Rig, ToyHost]) -> None:
    """The toy host asserts that it is the same object. PVOIDs are in its handles before it is called."""
    rig, driver = host
    handles = driver.offload(8, 17, 17)
    columns = rig.last()[2][1]
    seen: list[Any] = []
    driver.seen = lambda blocks: seen.append((blocks, [h.context for h in handles]))
    up = {
        Key.BLOCK: columns[Key.BLOCK],
        Key.STATUS: [0, 0, 0xC0000001],
        Key.SOURCE_HANDLE: BINDING,
        Key.CONTEXT: [0xA, 0xB, None],
    }
    ((_, mine),) = driver.lists.values()
    complete(rig, "initiate", up, next(iter(driver.bindings)))
    ((blocks, contexts),) = seen
    assert blocks is mine
    assert contexts == [0xA, 0xB, None]
    assert [b.status for b in blocks] == [0, 0, 0xC0000001]
    assert [b.source_handle for b in blocks] == [BINDING] * 3
    assert blocks.form is Form.PROTOCOL
    assert blocks.columns[Key.OFFLOAD_HANDLE] == [h.address for h in handles]
    assert Key.CONTEXT not in blocks.columns


def test_named_objects_travel_with_the_content_of_their_cells(host: tuple[Rig, ToyHost]) -> None:
    rig, driver = host
    handles = driver.offload(8, 17)
    columns = rig.last()[2][1]
    context = next(iter(driver.bindings))
    complete(
        rig, "initiate", {Key.BLOCK: columns[Key.BLOCK], Key.STATUS: 0, Key.CONTEXT: [0xA, 0xB]}, context
    )
    driver.pass_down("query", [(8, None), (17, handles[1])])
    columns = rig.last()[2][1]
    assert columns[Key.CONTEXT] == [None, 0xB]
    assert columns[Key.HANDLE_CELL] == [None, handles[1].miniport_offload_context]
    complete(rig, "query", {Key.BLOCK: columns[Key.BLOCK], Key.STATUS: 0, Key.STATE: [None, b"now"]}, context)
    assert driver.completed[-1] == ("query", [0, 0])


@pytest.mark.parametrize("op", OPS)
def test_the_completion_of_a_list_that_is_not_outstanding_is_an_error(
    host: tuple[Rig, ToyHost], op: str
) -> None:
    """A doubled completion would otherwise reach the driver as a list out of nowhere."""
    rig, driver = host
    driver.offload(17)
    columns = rig.last()[2][1]
    context = next(iter(driver.bindings))
    up = {Key.BLOCK: columns[Key.BLOCK], Key.STATUS: 0, Key.CONTEXT: [0xA]}
    complete(rig, "initiate", up, context)
    with pytest.raises(RemoteProtocolError, match="not outstanding"):
        complete(rig, op, up, context)
    assert len(driver.completed) == 1


def test_r_blk_11_a_list_that_is_below_is_not_passed_down_again(host: tuple[Rig, ToyHost]) -> None:
    """R-BLK-11."""
    rig, driver = host
    driver.offload(17)
    ((_, blocks),) = driver.lists.values()
    with pytest.raises(LocalProtocolError, match="R-BLK-11"):
        driver.ndis.query_offload_state(BINDING, blocks)
    assert len(rig.sent()) == 1


def test_r_blk_01_each_edge_takes_its_own_form(
    host: tuple[Rig, ToyHost], target: tuple[Rig, ToyTarget]
) -> None:
    """R-BLK-01."""
    _, driver = host
    with pytest.raises(LocalProtocolError, match=r"PROTOCOL form.*R-BLK-01"):
        driver.ndis.initiate_offload(BINDING, BlockList(Form.MINIPORT, {Key.BLOCK: [1]}))
    _, miniport = target
    with pytest.raises(LocalProtocolError, match=r"MINIPORT form.*R-BLK-01"):
        miniport.ndis.m_initiate_offload_complete(HANDLE, BlockList(Form.PROTOCOL, {Key.BLOCK: [1]}))


def test_a_handle_that_is_not_allocated_is_not_passed_down(host: tuple[Rig, ToyHost]) -> None:
    rig, driver = host
    handle = driver.ndis.heap.handle()
    driver.ndis.heap.free(handle.address)
    for count in (1, 2):
        builder = BlockListBuilder(driver.ndis.heap)
        for _ in range(count):
            builder.add(17, handle.address, state=b"")
        with pytest.raises(LocalProtocolError, match=r"is not allocated.*R-IM-08"):
            driver.ndis.initiate_offload(BINDING, builder.build())
    assert rig.sent() == []
    assert rig.port.sent == {}


# -- lists up ------------------------------------------------------------------------------------------


def test_a_miniport_gets_a_list_and_hands_it_back_with_what_it_wrote(target: tuple[Rig, ToyTarget]) -> None:
    rig, driver = target
    driver.hold = True
    columns = lower_columns(None, None)
    context = next(iter(driver.adapters))
    rig.tell("MiniportInitiateOffload", context, columns)
    (lent,) = rig.port.lent.values()
    driver.release()
    name, _, (handle, up) = rig.last()
    assert (name, handle) == ("NdisMInitiateOffloadComplete", HANDLE)
    assert up == {
        Key.BLOCK: columns[Key.BLOCK],
        Key.STATUS: 0,
        Key.SOURCE_HANDLE: 0x77,
        Key.IM_RESERVED[0]: 0x88,
        Key.CONTEXT: sorted(driver.held),
    }
    assert rig.port.lent == {}
    with pytest.raises(LocalProtocolError, match="R-BLK-11"):
        _ = lent.address


@pytest.mark.parametrize(
    ("op", "has_state"), [("initiate", False), ("update", False), ("query", True), ("terminate", True)]
)
def test_state_goes_up_from_a_query_and_a_terminate_only(
    target: tuple[Rig, ToyTarget], op: str, has_state: bool
) -> None:
    rig, driver = target
    driver.held.add(0xA)
    o = STATE_OPERATIONS[OPS.index(op)]
    rig.tell(o.handler, next(iter(driver.adapters)), lower_columns(0xA))
    assert (Key.STATE in rig.last()[2][1]) is has_state


@pytest.mark.parametrize("status", [..., None, [0, None]])
def test_r_blk_09_a_list_without_a_status_is_not_handed_back(
    target: tuple[Rig, ToyTarget], status: Any
) -> None:
    """R-BLK-09: and it is still the driver's, which may write it now."""
    rig, driver = target
    driver.hold = True
    rig.tell("MiniportQueryOffload", next(iter(driver.adapters)), lower_columns(0xA, 0xB))
    (lent,) = rig.port.lent.values()
    if status is not ...:
        lent.columns[Key.STATUS] = status
    with pytest.raises(LocalProtocolError, match="R-BLK-09"):
        driver.ndis.m_query_offload_state_complete(HANDLE, lent)
    assert rig.sent() == []
    lent.columns[Key.STATUS] = [0, 0]
    driver.ndis.m_query_offload_state_complete(HANDLE, lent)
    assert rig.last()[2][1][Key.STATUS] == [0, 0]


def test_r_blk_10_only_a_list_that_was_given_is_handed_back(target: tuple[Rig, ToyTarget]) -> None:
    """R-BLK-10: neither one of its own nor one twice."""
    rig, driver = target
    columns = {Key.BLOCK: [0x5], Key.STATUS: 0}
    with pytest.raises(LocalProtocolError, match="R-BLK-10"):
        driver.ndis.m_initiate_offload_complete(HANDLE, BlockList(Form.MINIPORT, columns))
    columns = lower_columns(None)
    rig.tell("MiniportInitiateOffload", next(iter(driver.adapters)), columns)
    rig.sent()
    again = BlockList(Form.MINIPORT, {**columns, Key.STATUS: 0})
    with pytest.raises(LocalProtocolError, match="R-BLK-10"):
        driver.ndis.m_initiate_offload_complete(HANDLE, again)


def test_a_list_that_is_given_twice_is_an_error(target: tuple[Rig, ToyTarget]) -> None:
    rig, driver = target
    driver.hold = True
    context = next(iter(driver.adapters))
    rig.tell("MiniportQueryOffload", context, lower_columns(0xA))
    with pytest.raises(RemoteProtocolError, match="given to this driver twice"):
        rig.tell("MiniportQueryOffload", context, lower_columns(0xA))


# -- data ----------------------------------------------------------------------------------------------


def offloaded(rig: Rig, driver: ToyHost) -> Any:
    """A connection that is offloaded."""
    (handle,) = driver.offload(17)
    columns = rig.last()[2][1]
    up = {Key.BLOCK: columns[Key.BLOCK], Key.STATUS: 0, Key.CONTEXT: [0xA]}
    complete(rig, "initiate", up, next(iter(driver.bindings)))
    return handle


def test_a_chain_goes_down_with_its_payload_and_comes_back_by_address(host: tuple[Rig, ToyHost]) -> None:
    rig, driver = host
    handle = offloaded(rig, driver)
    address = driver.post("send", handle, b"payload")
    ((message, frames),) = rig.port.drain()
    assert message[0] == "NdisOffloadTcpSend"
    assert message[2][0] == handle.address
    assert message[2][1]["NetBufferList"] == [address]
    assert [bytes(f) for f in frames] == [b"payload"]
    assert message[3] == 1
    back = {"NetBufferList": [address], "Status": [0]}
    rig.tell("ProtocolTcpOffloadSendComplete", next(iter(driver.bindings)), back)
    assert driver.sends == {address: 0}
    assert rig.port.sent_nbls == {}


@pytest.mark.parametrize("case", ["never posted", "posted otherwise", "twice", "one of two"])
def test_completions_of_lists_that_are_not_outstanding_are_errors(
    host: tuple[Rig, ToyHost], case: str
) -> None:
    """Nothing of such a call reaches the driver, and what was outstanding still is."""
    rig, driver = host
    address = driver.post("send", offloaded(rig, driver))
    lists = {"never posted": [5], "one of two": [address, 5]}.get(case, [address])
    back = {"NetBufferList": lists, "Status": [0] * len(lists)}
    name = (
        "ProtocolTcpOffloadReceiveComplete"
        if case == "posted otherwise"
        else "ProtocolTcpOffloadSendComplete"
    )
    context = next(iter(driver.bindings))
    if case == "twice":
        rig.tell(name, context, back)
    with pytest.raises(RemoteProtocolError, match="not outstanding"):
        rig.tell(name, context, back)
    assert driver.sends == {address: 0 if case == "twice" else None}
    assert (address in rig.port.sent_nbls) is (case != "twice")


@pytest.mark.parametrize("outcome", ["sent", "refused", "handed back"])
def test_send_data_that_goes_along_with_a_connection_is_known(
    host: tuple[Rig, ToyHost], outcome: str
) -> None:
    """R-OSD-10, R-DIS-16: completed as sends are, or handed back; not, if the connection was refused."""
    rig, driver = host
    heap = driver.ndis.heap
    nbl = make_net_buffer_list(heap.address, [b"unsent"])
    handle = heap.handle()
    builder = BlockListBuilder(heap)
    builder.add(17, handle.address, state=b"", net_buffer_list_chain=nbl.address)
    blocks = builder.build()
    blocks.attachments = Attachments.of([nbl])
    driver.lists[blocks.address] = ("initiate", blocks)
    driver.sends[nbl.address] = None
    driver.ndis.initiate_offload(BINDING, blocks)
    columns = rig.last()[2][1]
    assert columns[Key.NBL_CHAIN] == [nbl.address]
    context = next(iter(driver.bindings))
    status, stored = (0xC0000001, None) if outcome == "refused" else (0, 0xA)
    up = {
        Key.BLOCK: columns[Key.BLOCK],
        Key.STATUS: status,
        Key.CONTEXT: [stored],
        Key.NBL_CHAIN: [nbl.address],
    }
    complete(rig, "initiate", up, context)
    back = {"NetBufferList": [nbl.address], "Status": [0]}
    if outcome == "handed back":
        driver.pass_down("terminate", [(17, handle)])
        columns = rig.last()[2][1]
        up = {Key.BLOCK: columns[Key.BLOCK], Key.STATUS: 0, Key.NBL_CHAIN: [nbl.address]}
        up[Key.NET_BUFFER_LISTS] = [[{"NetBufferList": nbl.address}]]
        complete(rig, "terminate", up, context)
    if outcome == "sent":
        rig.tell("ProtocolTcpOffloadSendComplete", context, back)
        assert driver.sends == {nbl.address: 0}
    with pytest.raises(RemoteProtocolError, match="not outstanding"):
        rig.tell("ProtocolTcpOffloadSendComplete", context, back)
    assert rig.port.sent_along == set()


def test_what_is_attached_to_a_list_goes_through_unread() -> None:
    """An intermediate driver passes it on as it came, frames and all."""

    class Between(MiniportDriver, ProtocolDriver):
        def miniport_initiate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
            handle = self.ndis.heap.handle()
            block_list.overlay_protocol([handle.address])
            self.ndis.initiate_offload(BINDING, block_list)

    rig = Rig(Between())
    columns = lower_columns(None)
    columns[Key.NET_BUFFER_LISTS] = [["opaque"]]
    rig.tell("MiniportInitiateOffload", 1, columns, frames=[b"payload"])
    ((message, frames),) = rig.port.drain()
    assert message[0] == "NdisInitiateOffload"
    assert message[2][1][Key.NET_BUFFER_LISTS] == [["opaque"]]
    assert list(frames) == [b"payload"]


@pytest.mark.parametrize("operation", IO_OPERATIONS, ids=[o.op for o in IO_OPERATIONS])
def test_a_miniport_that_supports_no_io_returns_the_lists(operation: Any) -> None:
    """The base class: the host is to do it itself."""

    class Plain(MiniportDriver):
        def adapter_handle(self, miniport_adapter_context: int) -> int:
            return HANDLE

    rig = Rig(Plain())
    extra = [0] if operation.op == "disconnect" else []
    rig.tell(operation.handler, 1, 2, {"NetBufferList": [5], "SourceHandle": 6}, *extra)
    assert rig.last()[::2] == [
        operation.completion,
        [HANDLE, {"NetBufferList": [5], "SourceHandle": 6, "Status": [int(NdisStatus.UPLOAD_IN_PROGRESS)]}],
    ]


@pytest.mark.parametrize("operation", STATE_OPERATIONS, ids=OPS)
def test_a_miniport_that_supports_no_chimney_fails_the_lists(operation: Any) -> None:
    class Plain(MiniportDriver):
        def adapter_handle(self, miniport_adapter_context: int) -> int:
            return HANDLE

    rig = Rig(Plain())
    rig.tell(operation.handler, 1, lower_columns(None))
    name, _, (handle, up) = rig.last()
    assert (name, handle, up[Key.STATUS]) == (operation.completion, HANDLE, NdisStatus.FAILURE)


# -- the connection ------------------------------------------------------------------------------------


def test_each_attachment_has_an_address_space_of_its_own(target: tuple[Rig, ToyTarget]) -> None:
    rig, driver = target
    assert driver.ndis.heap.space == SPACE
    before = driver.ndis.attached
    old = driver.ndis.heap
    rig.tell("closed", {"Reason": "for a test", "Epoch": 3})
    assert (before, driver.ndis.attached) == (True, False)
    assert rig.port.closed_info == {"Reason": "for a test", "Epoch": 3}
    rig.port.hello()
    rig.sent()
    rig.tell("ready", {"Epoch": 4, "AddressSpace": SPACE + 1}, call_id=9)
    assert driver.ndis.heap is not old
    assert driver.ndis.heap.space == SPACE + 1
    assert rig.port.epoch == 4
    assert rig.last()[0] == "NdisMRegisterMiniportDriver"


def test_goodbye_is_said_only_where_hello_was(target: tuple[Rig, ToyTarget]) -> None:
    rig, _ = target
    rig.port.goodbye()
    assert rig.last()[0] == "goodbye"
    rig.port.lost("gone", 2.0)
    rig.port.goodbye()
    assert rig.sent() == []


def test_a_chain_of_lists_in_an_indication_is_an_nbl_chain() -> None:
    class Taker(ProtocolDriver):
        def protocol_tcp_offload_receive_indicate(
            self, offload_context: int, chain: NblChain, status: int
        ) -> Any:
            assert chain.attachments is not None
            return NdisStatus.SUCCESS, sum(len(f) for f in chain.attachments.frames)

    rig = Rig(Taker())
    nbl = make_net_buffer_list(Heap(9).address, [b"12345"])
    columns, frames = NblChain.of(nbl).to_wire()
    columns.pop("Status")
    rig.tell("ProtocolTcpOffloadReceiveIndicate", 5, columns, 0, call_id=8, frames=frames)
    assert rig.last() == ["return", 8, [0, 5]]
