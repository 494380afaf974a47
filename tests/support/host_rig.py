"""A host driver on a real port, and a test in NDIS's place: hand-made messages in, recorded messages out."""

from __future__ import annotations

import random
from typing import Any

from hoststack.chimney.driver import HostDriver
from hoststack.model import synthetic
from hoststack.model.events import HostEvent, Violation
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisTaskOffload, NdisTaskOffloadHeader, NdisTaskTcpConnectionOffload
from ndisbus.driver.port import DriverPort
from ndisbus.lists.blocklist import BlockList, Form, Key, values
from ndisbus.lists.nbl import NetBufferList
from ndisbus.lists.nbl_chain import Attachments, NblChain
from ndisbus.state.images import pack_state

SUCCESS = int(NdisStatus.SUCCESS)
PARTIAL = int(NdisStatus.OFFLOAD_PARTIAL_SUCCESS)
FAILURE = int(NdisStatus.FAILURE)
PROTOCOL_HANDLE, BINDING_HANDLE = 0x1000, 0x2000

Request = tuple[list[Any], Any]


class Rig:
    """``sent`` is what the host sent and the test has not taken yet: (message, frames)."""

    def __init__(self, *, enabled: bool = True, **options: Any) -> None:
        self.host = HostDriver("host", **options)
        self.port = DriverPort(self.host, {"Name": "host"})
        self.now = 0.0
        self.sent: list[tuple[list[Any], Any]] = []
        self.contexts = 0x900000
        self.rng = random.Random(7)
        self.attach()
        if enabled:
            self.bind()
            self.answer_oids()

    # -- messages ------------------------------------------------------------------------------

    def receive(self, name: str, *args: Any, call_id: int | None = None, frames: Any = ()) -> None:
        self.port.receive([name, call_id, list(args)], frames, self.now)
        self.sent += self.port.drain()

    def take(self, name: str) -> Request:
        """The parameters and frames of the oldest message of this name; it must be there."""
        for i, (message, frames) in enumerate(self.sent):
            if message[0] == name:
                del self.sent[i]
                self.call_id = message[1]
                return message[2], frames
        raise AssertionError(f"the host did not call {name}; it called {self.names()}")

    def names(self) -> list[str]:
        self.sent += self.port.drain()
        return [m[0] for m, _ in self.sent]

    def answer(self, *result: Any) -> None:
        """Answer the call that was taken last."""
        self.receive("return", *result, call_id=self.call_id)

    def returned(self) -> list[Any]:
        """The values of the host's oldest answer."""
        return self.take("return")[0]

    def act(self, action: Any) -> Any:
        self.port.now = self.now
        result = action(self.host)
        self.sent += self.port.drain()
        return result

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.port.on_timer(self.now)
        self.sent += self.port.drain()

    def events(self, kind: type[HostEvent] = HostEvent) -> list[Any]:
        """Take all events, return those of one kind."""
        found = []
        while (event := self.host.next_event()) is not None:
            if isinstance(event, kind):
                found.append(event)
        return found

    def violations(self) -> list[str]:
        return [v.rule for v in self.events(Violation)]

    # -- start ---------------------------------------------------------------------------------

    def attach(self) -> None:
        self.port.hello()
        self.port.drain()
        self.receive("ready", {"Epoch": 1, "AddressSpace": 5})
        self.take("NdisRegisterProtocolDriver")
        self.answer(SUCCESS, PROTOCOL_HANDLE)

    def bind(self, adapter: str = "nic0") -> None:
        self.receive("ProtocolBindAdapterEx", None, 1, {"AdapterName": adapter, "Epoch": 1}, call_id=900)
        self.take("NdisOpenAdapterEx")
        self.answer(SUCCESS, BINDING_HANDLE)
        assert self.returned() == [SUCCESS]

    @property
    def context(self) -> int:
        assert self.host.binding is not None
        return self.host.binding.context

    def answer_oid(self, status: int = SUCCESS, reason: str = "", capacity: int = 100) -> dict[str, Any]:
        """Complete the oldest OID request; a query of capabilities is given some."""
        (_, request), _ = self.take("NdisOidRequest")
        answer = dict(request)
        if request["InformationBuffer"] is None and status == SUCCESS:
            task = NdisTaskOffload(
                task_buffer=NdisTaskTcpConnectionOffload(tcp_connection_offload_capacity=capacity)
            )
            answer["InformationBuffer"] = NdisTaskOffloadHeader.of([task]).to_wire()
        self.receive("ProtocolOidRequestComplete", self.context, answer, status, reason)
        return dict(request)

    def answer_oids(self, capacity: int = 100) -> list[dict[str, Any]]:
        asked = []
        while "NdisOidRequest" in self.names():
            asked.append(self.answer_oid(capacity=capacity))
        return asked

    # -- objects -------------------------------------------------------------------------------

    def tree(self, connections: int = 2, paths: int = 1) -> tuple[Neighbor, list[Path], list[Tcb]]:
        neighbor = synthetic.neighbor(bytes((2, 0, 0, 0, 0, self.rng.randrange(256))))
        found = [synthetic.path(neighbor, bytes((10, 0, 0, 1)), bytes((10, 0, 1, i))) for i in range(paths)]
        tcbs = [t for p in found for t in synthetic.connections(p, connections, rng=self.rng)]
        return neighbor, found, tcbs

    def offloaded(self, connections: int = 2, paths: int = 1) -> tuple[Neighbor, list[Path], list[Tcb]]:
        """A tree that is offloaded already."""
        found = self.tree(connections, paths)
        self.act(lambda h: h.offload(found[2]))
        self.initiated()
        return found

    # -- block lists ---------------------------------------------------------------------------

    @staticmethod
    def blocks(request: Request) -> BlockList:
        """A request's list, to look at."""
        args, frames = request
        columns = dict(args[1])
        attached = columns.pop(Key.NET_BUFFER_LISTS, None)
        block_list = BlockList(Form.PROTOCOL, columns)
        if attached is not None:
            block_list.attachments = Attachments(attached, frames)
        return block_list

    def complete(
        self, name: str, request: Request, status: Any = SUCCESS, *, lists: Any = None, **columns: Any
    ) -> None:
        """Complete a request with a status for all blocks, or one for each."""
        args, _ = request
        wire: dict[str, Any] = {Key.BLOCK: list(args[1][Key.BLOCK]), Key.STATUS: status, **columns}
        frames: Any = ()
        if lists is not None:
            attached = Attachments.of(lists)
            wire[Key.NET_BUFFER_LISTS], frames = attached.wire, attached.frames
        self.receive(name, self.context, wire, frames=frames)

    def initiated(self, status: Any = SUCCESS) -> list[StateObject | None]:
        """Complete an initiate and return what it named; whatever was new and succeeded gets a context."""
        request = self.take("NdisInitiateOffload")
        named = self.named(request)
        wire = request[0][1]
        n = len(wire[Key.BLOCK])
        stored = list(values(wire[Key.CONTEXT], n))
        for i, (handle, one) in enumerate(zip(wire[Key.OFFLOAD_HANDLE], values(status, n), strict=True)):
            if handle is not None and stored[i] is None and one in (SUCCESS, PARTIAL):
                self.contexts += 0x10
                stored[i] = self.contexts
        self.complete("ProtocolInitiateOffloadComplete", request, status, **{Key.CONTEXT: stored})
        return named

    def terminated(
        self, status: Any = SUCCESS, *, chains: dict[Tcb, int] | None = None, lists: Any = None
    ) -> list[StateObject | None]:
        """Complete a terminate and return what it named; delegated structures go back as they are."""
        request = self.take("NdisTerminateOffload")
        named = self.named(request)
        state = [None if o is None else pack_state([o.whole()[2]]) for o in named]
        columns: dict[str, Any] = {Key.STATE: state}
        if chains:
            columns[Key.NBL_CHAIN] = [chains.get(o) if isinstance(o, Tcb) else None for o in named]
        self.complete("ProtocolTerminateOffloadComplete", request, status, lists=lists, **columns)
        return named

    def named(self, request: Request) -> list[StateObject | None]:
        """What each block of a request names."""
        objects = self.host.ndis.heap.objects
        handles = request[0][1][Key.OFFLOAD_HANDLE]
        return [None if h is None else objects[h].owner for h in handles]  # type: ignore[attr-defined]

    def event(self, tcb: Tcb, event_type: int, information: int = 0) -> None:
        assert tcb.handle is not None
        self.receive("ProtocolTcpOffloadEvent", tcb.handle.address, event_type, information)

    def status(self, code: int) -> None:
        self.receive("ProtocolStatusEx", self.context, {"StatusCode": int(code), "StatusBuffer": None})

    def io_complete(
        self, name: str, request: Request, *statuses: int, lists: list[NetBufferList] | None = None
    ) -> None:
        """Complete the net buffer lists of an I/O request."""
        args, _ = request
        chain = NblChain(list(args[1]["NetBufferList"]), statuses=list(statuses))
        if lists is not None:
            chain.attachments = Attachments.of(lists)
        wire, frames = chain.to_wire()
        self.receive(name, self.context, wire, frames=frames)

    # -- ends ----------------------------------------------------------------------------------

    def unbind(self) -> list[Any] | None:
        """Ask for an unbind; the answer, if there is one yet."""
        self.receive("ProtocolUnbindAdapterEx", 1, self.context, call_id=901)
        return self.returned()

    def closed(self) -> None:
        self.receive("ProtocolCloseAdapterCompleteEx", self.context)

    @property
    def allocated(self) -> int:
        """Objects in the host's heap besides the binding."""
        return len(self.host.ndis.heap.objects) - (self.host.binding is not None)
