"""TCP chimney I/O through NDIS: net buffer lists down by handle, up by SourceHandle."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.call_rows import IO_OPERATIONS, OperationRow
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.lists.blocklist import Key
from ndisbus.lists.nbl import make_net_buffer_list
from ndisbus.lists.nbl_chain import Attachments, NblChain
from tests.support.core_bench import PATH, TCP, Bench, Host, Im, Nic

ABORTED, FAILURE = int(NdisStatus.REQUEST_ABORTED), int(NdisStatus.FAILURE)
OPS = [o.op for o in IO_OPERATIONS]
EVERY_OP = pytest.mark.parametrize("operation", IO_OPERATIONS, ids=OPS)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def nic(bench: Bench) -> Nic:
    return bench.client(Nic, "nic").start("nic0")


@pytest.fixture
def host(bench: Bench, nic: Nic) -> Host:
    return bench.client(Host, "host").start("nic0")


def post(host: Host, op: str, handle: Any, *addresses: int, frames: Any = (), **columns: Any) -> list[int]:
    """Pass net buffer lists down; returns their addresses."""
    o = IO_OPERATIONS[OPS.index(op)]
    lists = list(addresses) or [host.heap.address()]
    extra = [0] if op == "disconnect" else []
    host.send(o.request, handle, {"NetBufferList": lists, **columns}, *extra, frames=frames)
    return lists


def outstanding(bench: Bench) -> int:
    """Everything that any miniport still holds."""
    below = [len(a.nbls) + len(a.requests) + len(a.oids) for a in bench.core.registry.adapters.values()]
    above = [int(b.outstanding) + len(b.io) for b in bench.core.registry.bindings.values()]
    return sum(below) + sum(above)


# -- down and up ---------------------------------------------------------------------------------------


@EVERY_OP
def test_r_hnd_08_and_r_hnd_09_by_handle_above_and_by_context_below(
    bench: Bench, host: Host, nic: Nic, operation: OperationRow
) -> None:
    """R-HND-08, R-HND-09, R-DIS-29: NDIS takes what the cell holds out of the caller's handle."""
    ((_, handle, context),) = host.offload(nic, TCP)
    (address,) = post(
        host, operation.op, handle, frames=[b"payload"], NetBufferLists=[[{"NetBufferList": 9}]]
    )
    message, frames = nic.take_with_frames(operation.handler)
    adapter_context, given, lists, *rest = message[2]
    assert (adapter_context, given) == (nic.contexts["nic0"], context)
    assert lists["NetBufferList"] == [address]
    assert lists["NetBufferLists"] == [[{"NetBufferList": 9}]]
    assert list(frames) == [b"payload"]
    assert len(rest) == (operation.op == "disconnect")
    assert host.names() == []
    nic.send(operation.completion, nic.handle, {**lists, "Status": [0], "NetBufferLists": None})
    context_of, done = host.take(operation.completion_handler)[2]
    assert context_of == host.contexts_of["nic0"]
    assert (done["NetBufferList"], done["Status"]) == ([address], [0])
    assert "NetBufferLists" not in done
    assert outstanding(bench) == 0


def test_flags_of_a_disconnect_go_down_as_they_are(host: Host, nic: Nic) -> None:
    ((_, handle, _),) = host.offload(nic, TCP)
    host.send("NdisOffloadTcpDisconnect", handle, {"NetBufferList": [host.heap.address()]}, 0x2)
    assert nic.take("MiniportTcpOffloadDisconnect")[2][3] == 0x2


def test_the_context_area_of_a_list_comes_back_as_it_was(host: Host, nic: Nic) -> None:
    ((_, handle, _),) = host.offload(nic, TCP)
    post(host, "send", handle, Context=0x1234)
    lower = nic.take("MiniportTcpOffloadSend")[2][2]
    assert lower["Context"] == 0x1234
    back = {"NetBufferList": lower["NetBufferList"], "SourceHandle": lower["SourceHandle"], "Status": [0]}
    nic.send("NdisTcpOffloadSendComplete", nic.handle, back)
    assert host.take("ProtocolTcpOffloadSendComplete")[2][1]["Context"] == 0x1234


def test_a_chain_may_come_back_in_portions_and_portions_of_several_together(
    bench: Bench, host: Host, nic: Nic
) -> None:
    ((_, handle, _),) = host.offload(nic, TCP)
    first = post(host, "receive", handle, *host.heap.addresses(3))
    second = post(host, "receive", handle, *host.heap.addresses(2))
    source = nic.take("MiniportTcpOffloadReceive")[2][2]["SourceHandle"]
    for part, statuses in (([first[0]], [0]), ([first[1], first[2], second[0]], [0, ABORTED, 0])):
        columns = {"NetBufferList": part, "Status": statuses, "SourceHandle": source}
        nic.send("NdisTcpOffloadReceiveComplete", nic.handle, columns)
        done = host.take("ProtocolTcpOffloadReceiveComplete")[2][1]
        assert (done["NetBufferList"], done["Status"]) == (part, statuses)
        assert "Context" not in done
    assert outstanding(bench) == 1 + 1 + 1  # second[1]: on the adapter, and twice on the binding


def test_lists_of_several_bindings_in_one_call_are_sorted_out_with_their_data(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """Each protocol gets its own lists and bytes, and nothing of the other's."""
    host.enable(False)
    other = bench.client(Host, "other").start("nic0")
    other_handle = other.offload(nic, TCP)[0][1]
    other.enable(False)
    host.enable()
    handle = host.offload(nic, TCP)[0][1]
    mine, theirs = post(host, "receive", handle), post(other, "receive", other_handle)
    lists = []
    for address, data in ((mine[0], b"mine"), (theirs[0], b"theirs")):
        nbl = make_net_buffer_list(nic.heap.address, [data])
        nbl.address = address
        lists.append(nbl)
    lists[0].next = lists[1]
    chain = NblChain.of(lists[0])
    chain.statuses = [0, 0]
    columns, frames = chain.to_wire()
    nic.inbox.clear()
    nic.send("NdisTcpOffloadReceiveComplete", nic.handle, columns, frames=frames)
    for owner, addresses, data in ((host, mine, b"mine"), (other, theirs, b"theirs")):
        message, payload = owner.take_with_frames("ProtocolTcpOffloadReceiveComplete")
        done = message[2][1]
        assert done["NetBufferList"] == addresses
        assert done["SourceHandle"] == owner.binding
        assert list(payload) == [data]
        assert Attachments(done["NetBufferLists"], payload).read().keys() == set(addresses)


def test_an_intermediate_driver_passes_the_same_lists_on(bench: Bench, nic: Nic) -> None:
    im = bench.client(Im, "im").start("im0")
    im.enable()
    host = bench.client(Host, "host").start("im0")
    handle, own = offload_through(im, host, nic)
    (address,) = post(host, "send", handle, Context=0x1)
    asked = im.take("MiniportTcpOffloadSend")[2][2]
    assert (asked["SourceHandle"], asked["Context"]) == (host.binding, 0x1)
    im.send("NdisOffloadTcpSend", own, {**asked, "Context": 0x2})
    below = nic.complete_nbls("send")
    assert (below["NetBufferList"], below["SourceHandle"]) == ([address], im.binding)
    done = im.take("ProtocolTcpOffloadSendComplete")[2][1]
    assert done["Context"] == 0x2
    im.send("NdisTcpOffloadSendComplete", im.handle, {**done, "Context": 0x1, "SourceHandle": host.binding})
    assert host.take("ProtocolTcpOffloadSendComplete")[2][1]["Context"] == 0x1
    assert outstanding(bench) == 0


# -- what is refused -----------------------------------------------------------------------------------

HANDLES: dict[str, Any] = {
    "never offloaded": lambda h, n, o: h.new_handle(),
    "context": lambda h, n, o: o[1][2],
    "path": lambda h, n, o: o[0][1],
    "null": lambda h, n, o: None,
    "stranger's": lambda h, n, o: n.heap.address(),
}


@EVERY_OP
@pytest.mark.parametrize("what", HANDLES)
def test_r_hnd_08_only_the_handle_of_an_offloaded_connection_will_do(
    bench: Bench, host: Host, nic: Nic, operation: OperationRow, what: str
) -> None:
    """R-HND-08."""
    objects = host.offload(nic, PATH, TCP)
    post(host, operation.op, HANDLES[what](host, nic, objects))
    report = bench.bug_check
    assert (report.driver, report.call, report.parameter, report.rule) == (
        "host",
        operation.request,
        "NdisOffloadHandle",
        "R-HND-08",
    )
    assert operation.handler not in nic.names()


def test_r_hnd_08_nor_that_of_another_protocol(bench: Bench, host: Host, nic: Nic) -> None:
    """R-HND-08."""
    other = bench.client(Host, "other").start("nic0", enable=False)
    post(other, "send", host.offload(nic, TCP)[0][1])
    assert (bench.bug_check.driver, bench.bug_check.rule) == ("other", "R-HND-08")
    assert nic.names() == []


@pytest.mark.parametrize(
    "case", ["twice", "stranger's", "chain twice", "empty", "no pointer", "unknown member"]
)
def test_lists_that_cannot_be_passed_down(bench: Bench, host: Host, nic: Nic, case: str) -> None:
    ((_, handle, _),) = host.offload(nic, TCP)
    lists: dict[str, Any] = {"NetBufferList": [host.heap.address()]}
    if case == "twice":
        host.send("NdisOffloadTcpSend", handle, lists)
    elif case == "stranger's":
        lists["NetBufferList"] = [nic.heap.address()]
    elif case == "chain twice":
        lists["NetBufferList"] *= 2
    elif case == "empty":
        lists["NetBufferList"] = []
    elif case == "no pointer":
        lists["NetBufferList"] = [None]
    else:
        lists["NetBuffers"] = []
    host.send("NdisOffloadTcpSend", handle, lists)
    assert bench.bug_check.driver == "host"
    assert bench.bug_check.parameter.startswith("NetBufferList")
    assert nic.names().count("MiniportTcpOffloadSend") == (case == "twice")


def test_a_disconnect_carries_one_list(bench: Bench, host: Host, nic: Nic) -> None:
    ((_, handle, _),) = host.offload(nic, TCP)
    post(host, "disconnect", handle, *host.heap.addresses(2))
    assert bench.bug_check.rule == "R-DISC-01"


@EVERY_OP
def test_only_legal_statuses_go_up(operation: OperationRow) -> None:
    allowed = {int(s) for s in ALLOWED_STATUS[operation.op]}
    for status in [int(s) for s in NdisStatus] + [1]:
        bench = Bench()
        nic = bench.client(Nic, "nic").start("nic0")
        host = bench.client(Host, "host").start("nic0")
        post(host, operation.op, host.offload(nic, TCP)[0][1])
        nic.complete_nbls(operation.op, status)
        done = host.take(operation.completion_handler)[2][1]
        if status in allowed:
            assert done["Status"] == [status]
            assert bench.core.bug_checks.reports == []
        else:
            assert bench.bug_check.driver == "nic"
            assert bench.bug_check.parameter == "NetBufferList.Status"
            assert bench.bug_check.rule
            assert done["Status"] == [ABORTED]


CHANGES: dict[str, Any] = {
    "no status": {"Status": None},
    "source handle": {"SourceHandle": 0x5},
    "no source handle": {"SourceHandle": None},
    "another list": {"NetBufferList": [0x99]},
    "status per list": {"Status": [0, 0]},
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_wrong_completion_is_a_bug_check_and_the_list_comes_back(
    bench: Bench, host: Host, nic: Nic, what: str
) -> None:
    ((_, handle, _),) = host.offload(nic, TCP)
    (address,) = post(host, "send", handle)
    lower = nic.take("MiniportTcpOffloadSend")[2][2]
    nic.send("NdisTcpOffloadSendComplete", nic.handle, {**lower, "Status": [0], **CHANGES[what]})
    assert bench.bug_check.driver == "nic"
    assert bench.bug_check.parameter.startswith("NetBufferList")
    done = host.take("ProtocolTcpOffloadSendComplete")[2][1]
    assert (done["NetBufferList"], done["Status"]) == ([address], [ABORTED])
    assert "ProtocolTcpOffloadSendComplete" not in host.names()


@pytest.mark.parametrize("second", ["send", "receive"])
def test_a_list_is_completed_once_and_by_its_own_completion(
    bench: Bench, host: Host, nic: Nic, second: str
) -> None:
    ((_, handle, _),) = host.offload(nic, TCP)
    post(host, "send", handle)
    lower = nic.take("MiniportTcpOffloadSend")[2][2]
    back = {**lower, "Status": [0]}
    if second == "send":
        nic.send("NdisTcpOffloadSendComplete", nic.handle, back)
        nic.send("NdisTcpOffloadSendComplete", nic.handle, back)
    else:
        nic.send("NdisTcpOffloadReceiveComplete", nic.handle, back)
    assert (bench.bug_check.rule, bench.bug_check.parameter) == ("R-IM-11", "NetBufferList")
    assert host.names().count("ProtocolTcpOffloadSendComplete") == 1


# -- crossing a removal --------------------------------------------------------------------------------


@EVERY_OP
def test_a_request_that_crosses_the_removal_comes_back_aborted(
    bench: Bench, host: Host, nic: Nic, operation: OperationRow
) -> None:
    ((_, handle, _),) = host.offload(nic, TCP)
    nic.send("goodbye")
    for h in (handle, host.new_handle()):  # also for one that was offloaded and forgotten just now
        (address,) = post(host, operation.op, h, Context=0x9)
        context, done = host.take(operation.completion_handler)[2]
        assert context == host.contexts_of["nic0"]
        assert (done["NetBufferList"], done["Status"], done["Context"]) == ([address], [ABORTED], 0x9)
    assert bench.core.bug_checks.reports == []


def offload_through(im: Im, host: Host, nic: Nic) -> tuple[int, int]:
    """Have a connection offloaded through an intermediate driver; returns the host's handle and its own."""
    handle, own = host.new_handle(), im.new_handle()
    host.request("initiate", host.columns((TCP, handle, None)))
    upper = im.pass_on("initiate", own)
    nic.complete("initiate")
    im.completed("initiate")
    im.send("NdisMInitiateOffloadComplete", im.handle, im.up(upper, "initiate"))
    host.completed("initiate")
    return handle, own


def test_a_list_that_a_dead_driver_passed_down_is_not_given_twice(bench: Bench, nic: Nic) -> None:
    """The host passes it down again, through the next intermediate driver, before the target gave it back."""
    im = bench.client(Im, "im").start("im0")
    im.enable()
    host = bench.client(Host, "host").start("im0")
    handle, own = offload_through(im, host, nic)
    lists = post(host, "send", handle)
    im.send("NdisOffloadTcpSend", own, im.take("MiniportTcpOffloadSend")[2][2])
    im.send("goodbye")
    host.take("ProtocolTcpOffloadSendComplete")
    host.answer(host.take("ProtocolUnbindAdapterEx"), 0)
    im.hello()
    im.start("im0")
    im.enable()
    host.bind()
    host.enable()
    handle, own = offload_through(im, host, nic)
    post(host, "send", handle, *lists)
    im.send("NdisOffloadTcpSend", own, im.take("MiniportTcpOffloadSend")[2][2])
    assert im.take("ProtocolTcpOffloadSendComplete")[2][1]["Status"] == [ABORTED]
    assert nic.names().count("MiniportTcpOffloadSend") == 1
    assert bench.core.bug_checks.reports == []


# -- receive return ------------------------------------------------------------------------------------


def test_r_dis_10_and_r_dis_45_receive_return_goes_by_binding_and_is_not_answered(
    host: Host, nic: Nic
) -> None:
    """R-DIS-10: one return may cover several connections. R-DIS-45: nothing comes back."""
    lists = {"NetBufferList": [nic.heap.address(), nic.heap.address()]}
    host.send("NdisOffloadTcpReceiveReturn", host.binding, lists, call_id=77)
    assert nic.take("MiniportTcpOffloadReceiveReturn")[2] == [nic.contexts["nic0"], lists]
    assert host.names() == []


def test_a_receive_return_to_a_dead_adapter_goes_nowhere(bench: Bench, host: Host, nic: Nic) -> None:
    nic.send("goodbye")
    host.send("NdisOffloadTcpReceiveReturn", host.binding, {"NetBufferList": [1]})
    assert bench.core.bug_checks.reports == []
    host.send("NdisOffloadTcpReceiveReturn", host.binding + 1, {"NetBufferList": [1]})
    assert bench.bug_check.parameter == "NdisBindingHandle"


# -- send data that goes along with a connection -------------------------------------------------------


def offer(host: Host, count: int = 2, **changes: Any) -> tuple[int, list[int]]:
    """Offer a connection with outstanding send data; returns its handle and the lists."""
    handle, lists = host.new_handle(), list(host.heap.addresses(count))
    columns = host.columns((TCP, handle, None), NBL_CHAIN=[lists[0]])
    columns[Key.NET_BUFFER_LISTS] = [[{"NetBufferList": a} for a in lists]]
    columns |= changes
    host.request("initiate", columns)
    return handle, lists


def test_r_osd_10_send_data_that_went_along_is_completed_like_any_other(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """R-OSD-10: even before the initiate completes; each list once."""
    _, lists = offer(host)
    nic_columns = nic.given("initiate")
    back = {"NetBufferList": lists[:1], "Status": [0], "SourceHandle": nic_columns[Key.SOURCE_HANDLE]}
    nic.send("NdisTcpOffloadSendComplete", nic.handle, back)
    assert host.take("ProtocolTcpOffloadSendComplete")[2][1]["NetBufferList"] == lists[:1]
    nic.send("NdisMInitiateOffloadComplete", nic.handle, nic.up(nic_columns, "initiate"))
    host.completed("initiate")
    nic.send("NdisTcpOffloadSendComplete", nic.handle, {**back, "NetBufferList": lists[1:]})
    assert host.take("ProtocolTcpOffloadSendComplete")[2][1]["NetBufferList"] == lists[1:]
    assert outstanding(bench) == 0
    nic.send("NdisTcpOffloadSendComplete", nic.handle, back)
    assert bench.bug_check.rule == "R-IM-11"


def test_send_data_of_what_was_not_offloaded_was_never_below(bench: Bench, host: Host, nic: Nic) -> None:
    _, lists = offer(host)
    nic.complete("initiate", FAILURE)
    host.completed("initiate")
    assert outstanding(bench) == 0
    assert host.names() == []
    handle = host.offload(nic, TCP)[0][1]
    post(host, "send", handle, *lists)  # they are free for another use


def test_send_data_comes_home_with_its_connection_when_the_driver_dies(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """What a connection on offer took along comes home with it; what an offloaded one has is completed."""
    handle, lists = offer(host)
    nic.complete("initiate")
    host.completed("initiate")
    posted = post(host, "send", handle)
    offer(host)
    nic.send("goodbye")
    assert host.take("ProtocolTcpOffloadSendComplete")[2][1]["NetBufferList"] == [*lists, *posted]
    assert "ProtocolTcpOffloadSendComplete" not in host.names()
    host.answer(host.take("ProtocolUnbindAdapterEx"), 0)
    assert bench.core.registry.bindings == {}


def terminate(host: Host, nic: Nic, handle: int, lists: list[int], status: int = 0) -> None:
    """Terminate a connection and hand these lists back."""
    binding = host.bench.core.registry.bindings[host.binding]
    _, context = binding.objects.get(handle) or binding.lost[handle]
    host.request("terminate", host.columns((TCP, handle, context)))
    lower = nic.given("terminate")
    columns = nic.up(lower, "terminate", status)
    if lists:
        columns[Key.NBL_CHAIN] = [lists[0]]
        columns[Key.NET_BUFFER_LISTS] = [[{"NetBufferList": a} for a in lists]]
    nic.send("NdisMTerminateOffloadComplete", nic.handle, columns)


@pytest.mark.parametrize("along", [True, False])
def test_r_dis_16_a_list_that_is_handed_back_is_completed_by_that_act(
    bench: Bench, host: Host, nic: Nic, along: bool
) -> None:
    """R-DIS-16: posted or gone along with the connection; it may be posted again afterwards."""
    if along:
        handle, lists = offer(host)
        nic.complete("initiate")
        host.completed("initiate")
    else:
        handle = host.offload(nic, TCP)[0][1]
        lists = post(host, "send", handle, *host.heap.addresses(2))
    terminate(host, nic, handle, lists)
    done = host.completed("terminate")
    assert done[Key.NBL_CHAIN] == [lists[0]]
    assert done[Key.NET_BUFFER_LISTS] == [[{"NetBufferList": a} for a in lists]]
    assert outstanding(bench) == 0
    assert host.names() == []
    post(host, "send", host.offload(nic, TCP)[0][1], *lists)
    assert bench.core.bug_checks.reports == []


@pytest.mark.parametrize("op", OPS)
def test_r_term_08_everything_posted_is_completed_before_the_terminate(
    bench: Bench, host: Host, nic: Nic, op: str
) -> None:
    """R-TERM-08: a target that completes the terminate first is cut off, and the lists come back."""
    handle = host.offload(nic, TCP)[0][1]
    lists = post(host, op, handle)
    terminate(host, nic, handle, [])
    assert (bench.bug_check.driver, bench.bug_check.rule) == ("nic", "R-TERM-08")
    operation = IO_OPERATIONS[OPS.index(op)]
    order = [
        n for n in host.names() if n in (operation.completion_handler, "ProtocolTerminateOffloadComplete")
    ]
    assert order == [operation.completion_handler, "ProtocolTerminateOffloadComplete"]
    assert host.take(operation.completion_handler)[2][1]["NetBufferList"] == lists
    assert host.completed("terminate")[Key.STATUS] == FAILURE


def test_a_terminate_that_fails_keeps_what_is_posted_for_the_second_one(
    bench: Bench, host: Host, nic: Nic
) -> None:
    handle = host.offload(nic, TCP)[0][1]
    post(host, "receive", handle)
    terminate(host, nic, handle, [], FAILURE)
    host.completed("terminate")
    nic.complete_nbls("receive", ABORTED)
    assert host.take("ProtocolTcpOffloadReceiveComplete")
    terminate(host, nic, handle, [], FAILURE)
    assert bench.core.bug_checks.reports == []


BAD: dict[str, Any] = {
    "no such list": {Key.NET_BUFFER_LISTS: []},
    "nothing attached": {Key.NET_BUFFER_LISTS: None},
    "no map": {Key.NET_BUFFER_LISTS: [[1]]},
    "no address": {Key.NET_BUFFER_LISTS: [[{"NetBufferList": None}]]},
    "twice": {Key.NET_BUFFER_LISTS: [[{"NetBufferList": 5}, {"NetBufferList": 5}]]},
    "stranger's": {Key.NBL_CHAIN: [5], Key.NET_BUFFER_LISTS: [[{"NetBufferList": 5}]]},
}


@pytest.mark.parametrize("what", BAD)
def test_send_data_that_does_not_come_along_is_a_bug_check(
    bench: Bench, host: Host, nic: Nic, what: str
) -> None:
    changes = {k: v for k, v in BAD[what].items() if v is not None}
    if changes != BAD[what]:
        columns = host.columns((TCP, host.new_handle(), None), NBL_CHAIN=[host.heap.address()])
        host.request("initiate", columns)
    else:
        offer(host, **changes)
    assert bench.bug_check.driver == "host"
    assert nic.names() == []


def test_only_new_connections_bring_send_data(bench: Bench, host: Host, nic: Nic) -> None:
    lists = [host.heap.address()]
    columns = host.columns((PATH, host.new_handle(), None), NBL_CHAIN=[lists[0]])
    columns[Key.NET_BUFFER_LISTS] = [[{"NetBufferList": a} for a in lists]]
    host.request("initiate", columns)
    assert bench.bug_check.rule == "R-BLK-14"


# -- received data that the layers above have ----------------------------------------------------------

RETURN_DOWN = "MiniportTcpOffloadReceiveReturn"


def indicated(host: Host, nic: Nic, status: int | None = 0) -> int:
    """A list with data of a new connection, and the host's answer to it; None: none yet."""
    ((_, handle, _),) = host.offload(nic, TCP)
    address = nic.heap.address()
    call_id = nic.next_id()
    nic.send(
        "NdisTcpOffloadReceiveHandler",
        handle,
        {"NetBufferList": [address]},
        0,
        call_id=call_id,
        frames=[b"x"],
    )
    if status is not None:
        host.answer(host.take("ProtocolTcpOffloadReceiveIndicate"), status, 1 if status == 0 else 0)
    return address


def handed_back(nic: Nic) -> list[int]:
    """The lists that came down, one call or several."""
    found: list[int] = []
    while RETURN_DOWN in nic.names():
        context, columns = nic.take(RETURN_DOWN)[2]
        assert context == nic.contexts["nic0"]
        found += columns["NetBufferList"]
    return found


def buffered(host: Host, nic: Nic, *, send: bool = False) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """A terminate that the host made; how the driver below completes it, with data it had not delivered."""
    ((_, handle, context),) = host.offload(nic, TCP)
    address = nic.heap.address()
    lists = [[{"NetBufferList": address}]]
    changes: dict[str, Any] = {}
    if send:
        (sent,) = post(host, "send", handle, host.heap.address())
        nic.take("MiniportTcpOffloadSend")
        lists.append([{"NetBufferList": sent}])
        changes["NBL_CHAIN"] = [sent]
    changes["NET_BUFFER_LISTS"] = lists
    return address, host.columns((TCP, handle, context)), changes


def test_what_a_dead_protocol_kept_of_received_data_goes_back(host: Host, nic: Nic) -> None:
    """Returned, refused and unanswered lists are not the dead protocol's."""
    kept, returned = indicated(host, nic), indicated(host, nic)
    indicated(host, nic, int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED))
    host.send("NdisOffloadTcpReceiveReturn", host.binding, {"NetBufferList": [returned]})
    assert handed_back(nic) == [returned]
    indicated(host, nic, None)
    host.send("goodbye")
    assert handed_back(nic) == [kept]


def test_a_list_returned_from_inside_its_indication_is_not_returned_again(host: Host, nic: Nic) -> None:
    address = indicated(host, nic, None)
    host.send("NdisOffloadTcpReceiveReturn", host.binding, {"NetBufferList": [address]})
    host.answer(host.take("ProtocolTcpOffloadReceiveIndicate"), 0, 1)
    assert handed_back(nic) == [address]
    host.send("goodbye")
    assert handed_back(nic) == []


def test_an_indication_accepted_after_the_binding_closed_goes_back_at_once(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """The lists of a binding that is closing are NDIS's to return; what the protocol returns is too late."""
    kept, asked = indicated(host, nic), indicated(host, nic, None)
    host.send("NdisCloseAdapterEx", host.binding, call_id=host.next_id())
    assert handed_back(nic) == [kept]
    host.answer(host.take("ProtocolTcpOffloadReceiveIndicate"), 0, 1)
    assert handed_back(nic) == [asked]
    host.send("NdisOffloadTcpReceiveReturn", host.binding, {"NetBufferList": [kept, asked]})
    assert handed_back(nic) == []
    assert bench.core.bug_checks.reports == []


@pytest.mark.parametrize("send", [False, True])
def test_r_brd_09_data_in_a_terminate_is_with_the_driver_above_until_it_returns_it(
    host: Host, nic: Nic, send: bool
) -> None:
    """R-BRD-09: also of a protocol that dies before; what comes home as its send data is its own."""
    address, columns, changes = buffered(host, nic, send=send)
    host.request("terminate", columns)
    nic.complete("terminate", **changes)
    host.completed("terminate")
    assert handed_back(nic) == []
    host.send("goodbye")
    assert handed_back(nic) == [address]


def test_data_in_a_terminate_that_ndis_made_goes_back_at_once(host: Host, nic: Nic) -> None:
    """A protocol died and left a connection with unread data."""
    address, _, changes = buffered(host, nic)
    host.send("goodbye")
    nic.complete("terminate", **changes)
    assert handed_back(nic) == [address]


def test_received_data_of_a_dead_adapter_goes_nowhere(bench: Bench, host: Host, nic: Nic) -> None:
    indicated(host, nic)
    nic.send("goodbye")
    host.send("goodbye")
    assert bench.core.bug_checks.reports == []
    assert bench.core.registry.bindings == {}
