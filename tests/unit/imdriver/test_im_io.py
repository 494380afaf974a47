"""TCP chimney I/O through the intermediate driver."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imdriver.entries import ImIoEntry
from ndisbus.ddi.call_rows import IO_OPERATIONS, STATE_OPERATIONS, OperationRow
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import RemoteProtocolError
from ndisbus.lists.heap import ADDRESS_BITS
from ndisbus.lists.nbl import make_net_buffer_list
from ndisbus.lists.nbl_chain import NblChain

SEND, RECEIVE, DISCONNECT, FORWARD = IO_OPERATIONS
ABORTED = int(NdisStatus.REQUEST_ABORTED)
UPLOAD = int(NdisStatus.UPLOAD_IN_PROGRESS)


class Connection:
    """An offloaded connection of one adapter: the value in the upper cell, our handle below it."""

    def __init__(self, bench: Any, upper: Any, nic: Any, adapter: str = "im0-a") -> None:
        (self.above,) = upper.new()
        columns = upper.miniport_list([self.above], kind=17)
        ((_, params, _),) = bench.tell("MiniportInitiateOffload", bench.context(adapter), columns)
        self.below = params[1]["OffloadHandle"][0]
        ((_, params, _),) = bench.tell(
            "ProtocolInitiateOffloadComplete", bench.binding_context, nic.completion(params[1])
        )
        upper.store([self.above], params[1])
        self.bench, self.adapter, self.upper = bench, adapter, upper

    @property
    def entry(self) -> Any:
        return self.bench.port.ndis.heap.objects[self.above.context]

    def io(self, operation: OperationRow, lists: list[int], *extra: Any, **columns: Any) -> Any:
        """Hand a request to the miniport edge; the one call it leads to."""
        chain = {"NetBufferList": lists, "SourceHandle": self.upper.source, **columns}
        args = [self.bench.context(self.adapter), self.above.context, chain, *extra]
        (call,) = self.bench.tell(operation.handler, *args)
        return call


def complete(
    bench: Any, operation: OperationRow, lists: list[int], status: Any = 0, **columns: Any
) -> list[Any]:
    """A completion on the protocol edge; what goes up."""
    statuses = status if type(status) is list else [status] * len(lists)
    chain = {"NetBufferList": lists, "Status": statuses, "SourceHandle": bench.binding, **columns}
    return bench.tell(operation.completion_handler, bench.binding_context, chain)  # type: ignore[no-any-return]


def lists_of(upper: Any, count: int) -> list[int]:
    return [upper.heap.address() for _ in range(count)]


EXTRA: dict[str, tuple[int, ...]] = {"disconnect": (2,)}


@pytest.mark.parametrize("operation", IO_OPERATIONS, ids=lambda o: o.op)
def test_r_im_10_11_a_request_and_its_completion_pass(
    bench: Any, upper: Any, nic: Any, operation: OperationRow
) -> None:
    """R-IM-10, R-IM-11, R-HND-08, R-DIS-09: own handle down, own miniport handle up, one list both ways."""
    connection = Connection(bench, upper, nic)
    lists = lists_of(upper, 2)
    name, params, _ = connection.io(operation, lists, *EXTRA.get(operation.op, ()))
    assert name == operation.request
    assert params[0] == connection.below
    assert params[0] not in (connection.above.address, connection.above.context)
    assert params[1]["NetBufferList"] == lists
    assert bench.counts() == (0, 1, 1)
    ((name, params, _),) = complete(bench, operation, lists, [0, UPLOAD])
    assert name == operation.completion
    assert params[0] == bench.handle()
    assert params[1]["NetBufferList"] == lists
    assert params[1]["Status"] == [0, UPLOAD]
    assert params[1]["SourceHandle"] == upper.source
    assert bench.counts() == (0, 1, 0)


@pytest.mark.parametrize("flags", [1, 2, 3, 0xFFFFFFFF])
def test_r_im_12_disconnect_flags_pass_unchanged(bench: Any, upper: Any, nic: Any, flags: int) -> None:
    """R-IM-12: disconnect flags pass unchanged."""
    _, params, _ = Connection(bench, upper, nic).io(DISCONNECT, lists_of(upper, 1), flags)
    assert params[2] == flags


def test_the_connection_is_told_by_the_value_in_the_cell(bench: Any, upper: Any, nic: Any) -> None:
    """Of two connections the right one; the value designates our entry, whose handle goes down."""
    one, two = Connection(bench, upper, nic), Connection(bench, upper, nic)
    for connection in (two, one):
        _, params, _ = connection.io(SEND, lists_of(upper, 1))
        assert params[0] == connection.below
    assert one.below != two.below


def test_payload_frames_pass_both_ways_untouched(bench: Any, upper: Any, nic: Any) -> None:
    connection = Connection(bench, upper, nic)
    chain = NblChain.of(make_net_buffer_list(upper.heap.address, [b"GET /", b" HTTP/1.1"]))
    columns, frames = chain.to_wire()
    args = [bench.context(), connection.above.context, columns]
    ((_, params, sent),) = bench.tell(SEND.handler, *args, frames=frames)
    assert list(sent) == [b"GET /", b" HTTP/1.1"]
    assert params[1]["NetBufferLists"] is columns["NetBufferLists"]
    opaque = [["what only the ends understand"]]
    given = {"NetBufferList": chain.addresses, "Status": [0], "NetBufferLists": opaque}
    ((_, params, sent),) = bench.tell(SEND.completion_handler, bench.binding_context, given, frames=[b"x"])
    assert params[1]["NetBufferLists"] is opaque
    assert list(sent) == [b"x"]


def test_r_im_15_the_entry_of_a_disconnect_is_freed_by_its_completion(
    bench: Any, upper: Any, nic: Any
) -> None:
    """R-IM-15: the entry of a disconnect is freed by its completion."""
    connection = Connection(bench, upper, nic)
    (nbl,) = lists_of(upper, 1)
    before = set(bench.port.ndis.heap.objects)
    connection.io(DISCONNECT, [nbl], 1)
    (address,) = set(bench.port.ndis.heap.objects) - before
    assert isinstance(bench.port.ndis.heap.objects[address], ImIoEntry)
    complete(bench, DISCONNECT, [nbl])
    assert set(bench.port.ndis.heap.objects) == before
    assert not bench.driver.io


@pytest.mark.parametrize("operation", IO_OPERATIONS, ids=lambda o: o.op)
@pytest.mark.parametrize("keeps_context", [True, False])
def test_r_im_16_the_context_area_says_whose_completion_it_is(
    bench: Any, make_upper: Any, nic: Any, operation: OperationRow, keeps_context: bool
) -> None:
    """R-IM-16: two adapters over one binding; what was left in the list decides, the upper's comes back."""
    hosts = {name: make_upper(8 + i) for i, name in enumerate(("im0-a", "im0-b"))}
    flying = []
    for i, (name, host) in enumerate(hosts.items()):
        (nbl,) = lists_of(host, 1)
        extra = EXTRA.get(operation.op, ())
        _, params, _ = Connection(bench, host, nic, name).io(operation, [nbl], *extra, Context=70 + i)
        context = params[1]["Context"]
        assert context >> ADDRESS_BITS == bench.space
        flying.append((name, host, nbl, context, 70 + i))
    for name, host, nbl, context, theirs in reversed(flying):
        columns = {"Context": context} if keeps_context else {}
        ((_, params, _),) = complete(bench, operation, [nbl], **columns)
        assert params[0] == bench.handle(name)
        assert params[1]["SourceHandle"] == host.source
        assert params[1]["Context"] == theirs


# -- chains that come back in other portions --------------------------------------------------------------


def test_a_chain_may_come_back_in_parts(bench: Any, upper: Any, nic: Any) -> None:
    connection = Connection(bench, upper, nic)
    a, b, c = lists_of(upper, 3)
    _, params, _ = connection.io(SEND, [a, b, c])
    context = params[1]["Context"]
    for part, left in (([b], 1), ([c, a], 0)):
        ((_, params, _),) = complete(bench, SEND, part, Context=context)
        assert params[1]["NetBufferList"] == part
        assert bench.counts()[2] == left


def test_lists_of_two_hosts_in_one_completion_are_sorted_out(bench: Any, make_upper: Any, nic: Any) -> None:
    """The driver below may chain what it completes; each host gets its own lists, statuses and data."""
    one, two = make_upper(8), make_upper(9)
    mine = make_net_buffer_list(one.heap.address, [b"one"])
    yours = make_net_buffer_list(two.heap.address, [b"two"])
    Connection(bench, one, nic).io(RECEIVE, [mine.address])
    Connection(bench, two, nic, "im0-b").io(RECEIVE, [yours.address])
    mine.next = yours
    columns, frames = NblChain.of(mine).to_wire()
    columns["Status"] = [0, UPLOAD]
    first, second = bench.tell(RECEIVE.completion_handler, bench.binding_context, columns, frames=frames)
    for (name, params, payload), adapter, host, nbl, status, data in (
        (first, "im0-a", one, mine, 0, b"one"),
        (second, "im0-b", two, yours, UPLOAD, b"two"),
    ):
        assert name == RECEIVE.completion
        assert params[0] == bench.handle(adapter)
        assert params[1]["NetBufferList"] == [nbl.address]
        assert params[1]["Status"] == [status]
        assert params[1]["SourceHandle"] == host.source
        assert list(payload) == [data]
    assert bench.counts()[2] == 0


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_portions_in_any_order_complete_every_list_once(
    make_bench: Any, make_upper: Any, nic: Any, data: st.DataObject
) -> None:
    """R-IM-11, R-IM-16: however completions are cut and mixed, each list reaches its own host once."""
    bench = make_bench().attach()
    hosts = {name: make_upper(8 + i) for i, name in enumerate(("im0-a", "im0-b"))}
    connections = {name: Connection(bench, host, nic, name) for name, host in hosts.items()}
    owner: dict[int, tuple[str, int]] = {}
    for i, count in enumerate(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))):
        name = data.draw(st.sampled_from(sorted(hosts)))
        lists = lists_of(hosts[name], count)
        connections[name].io(SEND, lists, Context=100 + i)
        owner |= dict.fromkeys(lists, (name, 100 + i))
    left = data.draw(st.permutations(list(owner)))
    seen: dict[int, int] = {}
    while left:
        size = data.draw(st.integers(1, len(left)))
        part, left = left[:size], left[size:]
        for _, params, _ in complete(bench, SEND, part, [a & 0xFFFF for a in part]):
            for a, status in zip(params[1]["NetBufferList"], params[1]["Status"], strict=True):
                name, context = owner[a]
                assert params[0] == bench.handle(name)
                assert params[1]["Context"] == context
                assert params[1]["SourceHandle"] == hosts[name].source
                assert status == a & 0xFFFF
                seen[a] = seen.get(a, 0) + 1
    assert seen == dict.fromkeys(owner, 1)
    assert bench.counts()[2] == 0
    assert not bench.driver.io


# -- what is not passed on ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("knob", [True, False])
def test_r_im_14_without_memory_a_send_is_not_passed_on(
    bench: Any, upper: Any, nic: Any, count: int, knob: bool
) -> None:
    """R-IM-14: REQUEST_UPLOAD in the first list, UPLOAD_REQUESTED in the rest; by the knob and for real."""
    connection = Connection(bench, upper, nic)
    heap = bench.port.ndis.heap
    if knob:
        bench.driver.control("no-memory", {"sends": 1})
    else:
        heap._next = heap._top
    lists = lists_of(upper, count)
    name, params, _ = connection.io(SEND, lists, Context=7)
    assert name == "NdisTcpOffloadSendComplete"
    assert params[0] == bench.handle()
    assert params[1]["NetBufferList"] == lists
    expected = [NdisStatus.REQUEST_UPLOAD] + [NdisStatus.UPLOAD_REQUESTED] * (count - 1)
    assert params[1]["Status"] == expected
    assert (params[1]["SourceHandle"], params[1]["Context"]) == (upper.source, 7)
    assert bench.counts() == (0, 1, 0)
    if knob:
        assert bench.driver.control("no-memory", {}) == {"armed": 0, "fired": 1}
        assert connection.io(SEND, lists)[0] == "NdisOffloadTcpSend"


@pytest.mark.parametrize("operation", [RECEIVE, DISCONNECT, FORWARD], ids=lambda o: o.op)
def test_without_memory_other_requests_are_aborted(
    bench: Any, upper: Any, nic: Any, operation: OperationRow
) -> None:
    connection = Connection(bench, upper, nic)
    heap = bench.port.ndis.heap
    heap._next = heap._top
    name, params, _ = connection.io(operation, lists_of(upper, 1), *EXTRA.get(operation.op, ()))
    assert (name, params[1]["Status"]) == (operation.completion, [ABORTED])


def test_a_connection_that_is_not_there_is_refused(bench: Any, upper: Any, make_upper: Any, nic: Any) -> None:
    connection = Connection(bench, upper, nic)
    other = Connection(bench, make_upper(10), nic, "im0-b")
    for context in (0xDEAD, connection.below, other.above.context):
        chain = {"NetBufferList": lists_of(upper, 2)}
        ((name, params, _),) = bench.tell(SEND.handler, bench.context(), context, chain)
        assert (name, params[1]["Status"]) == (SEND.completion, [ABORTED, ABORTED])
    assert bench.driver.inspect()["refused"] == 3


def test_i_o_still_passes_while_the_connection_is_being_terminated(bench: Any, upper: Any, nic: Any) -> None:
    """The target answers it with UPLOAD_IN_PROGRESS; that is not for a driver in between to say."""
    connection = Connection(bench, upper, nic)
    columns = upper.miniport_list([connection.above])
    ((_, params, _),) = bench.tell("MiniportTerminateOffload", bench.context(), columns)
    (nbl,) = lists_of(upper, 1)
    assert connection.io(SEND, [nbl])[0] == SEND.request
    gone = nic.completion(params[1])
    bench.tell("ProtocolTerminateOffloadComplete", bench.binding_context, gone)
    complete(bench, SEND, [nbl], UPLOAD)
    assert bench.counts() == (0, 0, 0)
    assert connection.io(SEND, [nbl])[0] == SEND.completion


def test_a_list_is_below_once(bench: Any, upper: Any, nic: Any) -> None:
    """The second request with it fails; the first one's completion is dropped for it, the rest goes up."""
    connection = Connection(bench, upper, nic)
    a, b = lists_of(upper, 2)
    connection.io(SEND, [a, b])
    name, params, _ = connection.io(RECEIVE, [a])
    assert (name, params[1]["Status"]) == (RECEIVE.completion, [ABORTED])
    assert bench.counts()[2] == 1
    ((_, params, _),) = complete(bench, SEND, [a, b])
    assert params[1]["NetBufferList"] == [b]
    assert bench.counts()[2] == 0
    assert connection.io(RECEIVE, [a])[0] == RECEIVE.request


def test_completions_of_lists_that_are_not_below_are_errors(bench: Any, upper: Any, nic: Any) -> None:
    """Nothing is completed upward and nothing is freed by them."""
    connection = Connection(bench, upper, nic)
    (nbl,) = lists_of(upper, 1)
    _, params, _ = connection.io(SEND, [nbl])
    context = params[1]["Context"]
    before = len(bench.calls)
    for operation, lists in ((SEND, [0x99]), (SEND, [nbl, 0x99]), (RECEIVE, [nbl])):
        with pytest.raises(RemoteProtocolError, match="R-IM-11"):
            complete(bench, operation, lists, Context=context)
    assert len(bench.calls) == before
    assert bench.counts()[2] == 1
    complete(bench, SEND, [nbl])
    assert bench.counts()[2] == 0


# -- receive return ----------------------------------------------------------------------------------


def test_r_dis_10_a_receive_return_names_the_binding(bench: Any, make_upper: Any, nic: Any) -> None:
    """R-DIS-10: Lists of several indications at once, not completed, nothing kept."""
    chain = {"NetBufferList": [0x30, 0x40], "SourceHandle": 5}
    calls = bench.tell("MiniportTcpOffloadReceiveReturn", bench.context("im0-b"), chain)
    assert calls == [("NdisOffloadTcpReceiveReturn", [bench.binding, chain], ())]
    assert bench.counts() == (0, 0, 0)


def test_a_receive_return_without_a_driver_below_is_dropped(bench: Any) -> None:
    bench.driver.lower.handle = None
    assert bench.tell("MiniportTcpOffloadReceiveReturn", bench.context(), {"NetBufferList": [0x30]}) == []


# -- ends --------------------------------------------------------------------------------------------


def test_a_halted_adapter_leaves_no_i_o_behind(bench: Any, upper: Any, nic: Any) -> None:
    connection = Connection(bench, upper, nic)
    lists = lists_of(upper, 2)
    connection.io(SEND, lists)
    event = {"NetEvent": "NetEventReconfigure", "Buffer": {"RemoveAdapter": "im0-a"}}
    assert bench.ask("ProtocolNetPnPEvent", None, event) == [0]
    assert bench.counts() == (0, 0, 0)
    assert complete(bench, SEND, lists) == []
    assert not bench.driver.orphans
    with pytest.raises(RemoteProtocolError, match="R-IM-11"):
        complete(bench, SEND, lists)


def test_when_the_bus_is_lost_every_list_is_given_back(bench: Any, make_upper: Any, nic: Any) -> None:
    for i, name in enumerate(("im0-a", "im0-b")):
        host = make_upper(8 + i)
        connection = Connection(bench, host, nic, name)
        connection.io(SEND, lists_of(host, 2))
        connection.io(RECEIVE, lists_of(host, 1))
    assert bench.counts() == (0, 2, 4)
    bench.port.lost("the bus is gone", 3.0)
    assert not bench.port.ndis.heap.objects
    assert not bench.driver.io


def test_i_o_through_a_stack(make_stack: Any, make_upper: Any) -> None:
    """R-IM-10, R-IM-16: each layer leaves its own context in the list and gives back the one above."""
    stack, upper = make_stack(2), make_upper()
    top, bottom = stack.benches
    (h,) = upper.new()
    initiate = STATE_OPERATIONS[0]
    wire = stack.down(initiate, upper.miniport_list([h]))
    done = stack.up(initiate, stack.nic.completion(wire))
    nbl = upper.heap.address()
    ((_, params, _),) = top.tell(
        SEND.handler,
        top.context(),
        done["*MiniportOffloadContext"][0],
        {"NetBufferList": [nbl], "SourceHandle": 1},
    )
    between = top.port.ndis.heap.objects[params[0]].context
    given = {**params[1], "SourceHandle": top.binding}
    ((_, params, _),) = bottom.tell(SEND.handler, bottom.context(), between, given)
    assert params[0] == wire["OffloadHandle"][0]
    assert params[1]["Context"] != given["Context"]
    back = {
        "NetBufferList": [nbl],
        "Status": [0],
        "SourceHandle": bottom.binding,
        "Context": params[1]["Context"],
    }
    ((_, params, _),) = bottom.tell(SEND.completion_handler, bottom.binding_context, back)
    assert params[1] == {**given, "Status": [0]}
    ((_, params, _),) = top.tell(SEND.completion_handler, top.binding_context, params[1])
    assert params[1] == {"NetBufferList": [nbl], "SourceHandle": 1, "Status": [0]}
