"""Calls that cross with what NDIS ends by itself: a driver is not at fault for what it could not have read.

Each call that a driver may make is crossed with each end. The driver has sent the call before it reads of
the end, so its inbox stays unread until the call is made. docs/architecture.md has the same table in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ndisbus.core import CoreConfig
from ndisbus.core.ended import MAX_ENDED
from ndisbus.core.terminator import MAX_SWEPT
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisStatusIndication
from ndisbus.lists.blocklist import Key
from ndisbus.lists.frame_lists import PACKET_SIZE
from tests.support.core_bench import NEIGHBOR, OPERATIONS, PATH, TCP, Bench, Client, Host, Im, Nic, oid

LIMITS = CoreConfig()
FAILURE, ABORTED, PENDING = int(NdisStatus.FAILURE), int(NdisStatus.REQUEST_ABORTED), int(NdisStatus.PENDING)
PAUSE = NdisStatusIndication(status_code=int(NdisStatus.OFFLOAD_PAUSE)).to_wire()
STATISTICS = oid(Oid.OID_TCP4_OFFLOAD_STATS, int(NdisRequestType.NdisRequestQueryInformation))


@dataclass
class World:
    """A host above an intermediate driver above a target, with a tree offloaded and lists of both kinds."""

    bench: Bench
    nic: Nic
    im: Im
    host: Host
    objects: list[tuple[int, int, int]]
    #: The objects again, as the intermediate driver has named them further down.
    own: list[int]
    frames: list[int]
    data: int

    @property
    def connection(self) -> int:
        return self.objects[2][1]


def frames_of(client: Client, source: int) -> dict[str, Any]:
    lists = list(client.heap.addresses(1, PACKET_SIZE))
    return {"NetBufferList": lists, "SourceHandle": source, "DataLength": [60]}


@pytest.fixture
def world() -> World:
    bench = Bench(LIMITS)
    nic = bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start("im0")
    im.enable()
    host = bench.client(Host, "host").start("im0")
    handles, own = [host.new_handle() for _ in range(3)], [im.new_handle() for _ in range(3)]
    kinds = (NEIGHBOR, PATH, TCP)
    host.request("initiate", host.columns(*((k, h, None) for k, h in zip(kinds, handles, strict=True))))
    upper = im.pass_on("initiate", *own)
    nic.complete("initiate")
    im.completed("initiate")
    im.send("NdisMInitiateOffloadComplete", im.handle, im.up(upper, "initiate"))
    contexts = host.completed("initiate")[Key.CONTEXT]
    columns = frames_of(im, im.handle)
    im.send("NdisMIndicateReceiveNetBufferLists", im.handle, columns, 0, 1, 0, frames=[bytes(60)])
    host.take("ProtocolReceiveNetBufferLists")
    data = im.heap.address()
    im.send("NdisTcpOffloadReceiveHandler", handles[2], {"NetBufferList": [data]}, 0)
    host.answer(host.take("ProtocolTcpOffloadReceiveIndicate"), 0, 0)
    objects = list(zip(kinds, handles, contexts, strict=True))
    return World(bench, nic, im, host, objects, own, columns["NetBufferList"], data)


# -- what ends -----------------------------------------------------------------------------------------


def unbinding(w: World) -> None:
    w.im.send("goodbye")


def forced(w: World) -> None:
    w.im.send("goodbye")
    w.bench.tick(LIMITS.unbind_limit + 0.1)


def cleaning_up(w: World) -> None:
    """The adapter below is alive, and holds the first terminate of NDIS."""
    w.im.send("NdisIMDeInitializeDeviceInstance", w.im.handle)
    w.bench.tick(LIMITS.unbind_limit + 0.1)
    assert "MiniportTerminateOffload" in w.im.names()


def cleaned_up(w: World) -> None:
    cleaning_up(w)
    while "MiniportTerminateOffload" in w.im.names():
        w.im.complete("terminate")
    assert "ProtocolCloseAdapterCompleteEx" in w.host.names()


def epoch_closed(w: World) -> None:
    client = w.bench.core.registry.client_named("host")
    assert client is not None
    w.bench.core.removal.remove(client, "a test ends it")
    w.bench.route()


def lost(w: World) -> None:
    """The connection's terminate has failed, and the host has read that."""
    w.host.request("terminate", w.host.columns(w.objects[2]))
    w.im.complete("terminate", FAILURE)
    w.host.completed("terminate")


def sweeping(w: World) -> None:
    """NDIS terminates the lost connection itself."""
    lost(w)
    w.bench.tick(LIMITS.lost_limit + 0.1)
    assert "MiniportTerminateOffload" in w.im.names()


def swept(w: World) -> None:
    sweeping(w)
    w.im.complete("terminate", FAILURE)


ENDS: dict[str, Callable[[World], None]] = {
    "the adapter is gone": unbinding,
    "the binding is closed by force": forced,
    "NDIS terminates what is left": cleaning_up,
    "NDIS has terminated what was left": cleaned_up,
    "the epoch is closed": epoch_closed,
}
OBJECT_ENDS = {"NDIS terminates a lost object": sweeping, "NDIS has terminated a lost object": swept}


# -- what a protocol calls -----------------------------------------------------------------------------


def blocks(op: str, *which: int) -> Callable[[World], None]:
    def call(w: World) -> None:
        w.host.request(op, w.host.columns(*(w.objects[i] for i in which)))

    return call


def offload(*linkers: int) -> Callable[[World], None]:
    def call(w: World) -> None:
        known = [w.objects[i] for i in linkers]
        w.host.request(
            "initiate", w.host.columns(*known, ((NEIGHBOR, PATH, TCP)[len(known)], w.host.new_handle(), None))
        )

    return call


def io(op: str, *flags: int) -> Callable[[World], None]:
    def call(w: World) -> None:
        lists = {"NetBufferList": [w.host.heap.address()]}
        w.host.send(OPERATIONS[op].request, w.connection, lists, *flags)

    return call


def send_frames(w: World) -> None:
    columns = frames_of(w.host, w.host.binding)
    w.host.send("NdisSendNetBufferLists", w.host.binding, columns, 0, 0, frames=[bytes(60)])


def return_frames(w: World) -> None:
    lists = {"NetBufferList": w.frames, "SourceHandle": w.im.handle}
    w.host.send("NdisReturnNetBufferLists", w.host.binding, lists, 0)


def return_data(w: World) -> None:
    w.host.send("NdisOffloadTcpReceiveReturn", w.host.binding, {"NetBufferList": [w.data]})


#: Call -> how it is made, and the handler that completes it ("" for a call without a completion).
PROTOCOL: dict[str, tuple[Callable[[World], None], str]] = {
    "initiate a neighbor": (offload(), "ProtocolInitiateOffloadComplete"),
    "initiate on linkers": (offload(0, 1), "ProtocolInitiateOffloadComplete"),
    "query": (blocks("query", 2), "ProtocolQueryOffloadComplete"),
    "update": (blocks("update", 0), "ProtocolUpdateOffloadComplete"),
    "invalidate": (blocks("invalidate", 1), "ProtocolInvalidateOffloadComplete"),
    "terminate": (blocks("terminate", 2), "ProtocolTerminateOffloadComplete"),
    "send": (io("send"), "ProtocolTcpOffloadSendComplete"),
    "receive": (io("receive"), "ProtocolTcpOffloadReceiveComplete"),
    "disconnect": (io("disconnect", 1), "ProtocolTcpOffloadDisconnectComplete"),
    "forward": (io("forward"), "ProtocolTcpOffloadForwardComplete"),
    "OID": (
        lambda w: w.host.send("NdisOidRequest", w.host.binding, STATISTICS),
        "ProtocolOidRequestComplete",
    ),
    "send frames": (send_frames, "ProtocolSendNetBufferListsComplete"),
    "return frames": (return_frames, ""),
    "return data": (return_data, ""),
    "close": (lambda w: w.host.send("NdisCloseAdapterEx", w.host.binding), ""),
}
#: What may name a lost object: one more terminate (R-DIS-43), and I/O that was on its way.
OF_LOST = (
    "initiate a neighbor",
    "terminate",
    "send",
    "receive",
    "disconnect",
    "forward",
    "OID",
    "send frames",
)


def complete_frames(w: World) -> None:
    lower = dict(w.im.take("MiniportSendNetBufferLists")[2][1])
    lower.pop("DataLength", None)
    w.im.send("NdisMSendNetBufferListsComplete", w.im.handle, {**lower, "Status": [0]}, 0)


def settle(w: World) -> None:
    """Let the drivers below answer what they were given, the terminates first."""
    im = w.im
    while im.closed is None and "MiniportTerminateOffload" in im.names():
        im.complete("terminate")
    for op in ("initiate", "query", "update", "invalidate"):
        while im.closed is None and OPERATIONS[op].handler in im.names():
            im.complete(op, FAILURE)
    for op in ("send", "receive", "disconnect", "forward"):
        while im.closed is None and OPERATIONS[op].handler in im.names():
            im.complete_nbls(op, ABORTED)
    while im.closed is None and "MiniportOidRequest" in im.names():
        asked = im.take("MiniportOidRequest")
        im.answer(asked, 0, asked[2][1])
    while im.closed is None and "MiniportSendNetBufferLists" in im.names():
        complete_frames(w)


def check(w: World, completion: str, before: Counter[str], *, stale: bool) -> None:
    """No driver is at fault, and the call has one completion; none if the epoch was closed."""
    settle(w)
    assert w.bench.core.bug_checks.reports == []
    if completion:
        assert Counter(w.host.names())[completion] - before[completion] == (0 if stale else 1)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("call", PROTOCOL)
def test_a_protocol_may_call_before_it_has_read_of_an_end(world: World, end: str, call: str) -> None:
    make, completion = PROTOCOL[call]
    ENDS[end](world)
    before = Counter(world.host.names())
    make(world)
    check(world, completion, before, stale=end == "the epoch is closed")


@pytest.mark.parametrize("end", OBJECT_ENDS)
@pytest.mark.parametrize("call", OF_LOST)
def test_a_protocol_does_not_know_that_ndis_terminated_an_object(world: World, end: str, call: str) -> None:
    """R-DIS-43: nothing tells it. Neither it nor the driver below is at fault, whatever comes first."""
    make, completion = PROTOCOL[call]
    OBJECT_ENDS[end](world)
    before = Counter(world.host.names())
    make(world)
    if end == "NDIS terminates a lost object":
        # Events pass as long as the driver below has not completed the terminate.
        world.im.send("NdisTcpOffloadEventHandler", world.connection, 4, 0)
    check(world, completion, before, stale=False)


# -- what a miniport calls -----------------------------------------------------------------------------


def upper_gone(w: World) -> None:
    w.host.send("goodbye")


def upper_closed(w: World) -> None:
    w.host.send("NdisCloseAdapterEx", w.host.binding)


def upper_forced(w: World) -> None:
    cleaning_up(w)


UPPER_ENDS = {
    "the protocol is gone": upper_gone,
    "it closed its binding": upper_closed,
    "by force": upper_forced,
}


def indicate_frames(w: World) -> None:
    columns = frames_of(w.im, w.im.handle)
    w.im.send("NdisMIndicateReceiveNetBufferLists", w.im.handle, columns, 0, 1, 0, frames=[bytes(60)])


def indicate_data(w: World) -> None:
    w.im.send("NdisTcpOffloadReceiveHandler", w.connection, {"NetBufferList": [w.im.heap.address()]}, 0)


def ask_reachability(w: World) -> None:
    w.im.send("NdisMOffloadEventIndicate", w.im.handle, None, 1)


MINIPORT: dict[str, Callable[[World], object]] = {
    "event": lambda w: w.im.send("NdisTcpOffloadEventHandler", w.connection, 4, 0),
    "indicate data": indicate_data,
    "indicate frames": indicate_frames,
    "generic event": ask_reachability,
    "status": lambda w: w.im.send("NdisMIndicateStatusEx", w.im.handle, PAUSE),
    "query complete": lambda w: w.im.complete("query"),
    "receive complete": lambda w: w.im.complete_nbls("receive", ABORTED),
    "send complete": lambda w: w.im.complete_nbls("send"),
    "OID complete": lambda w: w.im.send(
        "NdisMOidRequestComplete", w.im.handle, w.im.take("MiniportOidRequest")[2][1], 0
    ),
    "frames complete": complete_frames,
}


@pytest.mark.parametrize("end", UPPER_ENDS)
@pytest.mark.parametrize("call", MINIPORT)
def test_a_miniport_may_call_before_it_has_read_of_an_end_above(world: World, end: str, call: str) -> None:
    w = world
    w.host.request("query", w.host.columns(w.objects[2]))
    for op in ("receive", "send"):
        io(op)(w)
    send_frames(w)
    w.host.send("NdisOidRequest", w.host.binding, STATISTICS)
    w.im.answer(asked := w.im.take("MiniportOidRequest"), PENDING, asked[2][1])
    w.im.inbox.append((asked, ()))
    UPPER_ENDS[end](w) if end != "by force" else w.im.send("NdisIMDeInitializeDeviceInstance", w.im.handle)
    if end == "by force":
        w.bench.tick(LIMITS.unbind_limit + 0.1)
    MINIPORT[call](w)
    assert w.bench.core.bug_checks.reports == []


# -- until it is read ----------------------------------------------------------------------------------


def read_everything(w: World) -> None:
    """The host answers a call that NDIS makes after the end."""
    client = w.bench.core.registry.client_named("host")
    assert client is not None
    w.bench.core.out.call(client, "ping", [], lambda _: None)
    w.bench.route()
    w.host.answer(w.host.take("ping"), 0)


def test_an_answer_to_an_earlier_call_shows_nothing(world: World) -> None:
    forced(world)
    world.host.answer(world.host.take("ProtocolUnbindAdapterEx"), PENDING)
    PROTOCOL["OID"][0](world)
    assert world.bench.core.bug_checks.reports == []


@pytest.mark.parametrize("call", [c for c, (_, completion) in PROTOCOL.items() if completion])
def test_a_protocol_that_has_read_of_the_end_is_at_fault(world: World, call: str) -> None:
    """R-HND-08."""
    forced(world)
    read_everything(world)
    PROTOCOL[call][0](world)
    assert world.bench.bug_check.driver == "host"


@pytest.mark.parametrize("call", ["return frames", "return data", "close"])
def test_what_gives_back_is_never_a_fault(world: World, call: str) -> None:
    forced(world)
    read_everything(world)
    PROTOCOL[call][0](world)
    assert world.bench.core.bug_checks.reports == []


def test_a_dropped_message_leaves_the_doubt(world: World) -> None:
    """Where a fault keeps messages back, an answer does not show what was read."""
    rule = {"Call": "ProtocolCloseAdapterCompleteEx", "Action": "drop"}
    world.nic.control("fault.add", **rule)
    forced(world)
    assert "ProtocolCloseAdapterCompleteEx" not in world.host.names()
    read_everything(world)
    PROTOCOL["OID"][0](world)
    assert world.bench.core.bug_checks.reports == []


def test_what_is_remembered_is_bounded() -> None:
    bench = Bench(LIMITS)
    nic = bench.client(Nic, "nic").start("nic0")
    host = bench.client(Host, "host").start("nic0", enable=False)
    client = bench.core.registry.client_named("host")
    assert client is not None
    for _ in range(MAX_ENDED + 3):
        nic.send("goodbye")
        bench.tick(LIMITS.unbind_limit + 0.1)
        nic.hello()
        nic.start("nic0")
        host.bind()
    assert len(client.ended._all) == MAX_ENDED
    assert not client.ended.unread  # each offer that it answered came after the end of the one before
    assert MAX_SWEPT < 1 << 17


def test_the_table_has_every_call() -> None:
    """What is not in it names nothing that NDIS ends by itself."""
    crossed = {o.request for o in OPERATIONS.values()} | {o.completion for o in OPERATIONS.values()}
    crossed |= {"NdisOidRequest", "NdisCloseAdapterEx", "NdisSendNetBufferLists", "NdisReturnNetBufferLists"}
    crossed |= {"NdisOffloadTcpReceiveReturn", "NdisTcpOffloadEventHandler", "NdisTcpOffloadReceiveHandler"}
    crossed |= {"NdisMOffloadEventIndicate", "NdisMIndicateStatusEx", "NdisMIndicateReceiveNetBufferLists"}
    crossed |= {"NdisMSendNetBufferListsComplete", "NdisMOidRequestComplete"}
    begin = {
        "NdisMRegisterMiniportDriver",
        "NdisRegisterProtocolDriver",
        "NdisSetOptionalHandlers",
        "NdisMSetMiniportAttributes",
        "NdisMGetOffloadHandlers",
        "NdisIMInitializeDeviceInstanceEx",
        "NdisIMDeInitializeDeviceInstance",
        "NdisOpenAdapterEx",
    }
    assert crossed | begin == {c.name for c in CALLS.values() if c.from_driver}
