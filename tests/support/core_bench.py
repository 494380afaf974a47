"""NDIS on a bench: clients whose messages are written by hand, so that they can be wrong.

A :class:`Bench` holds one core. A :class:`Client` is a process that says what a test makes it say; what NDIS
sends it lies in its inbox until the test takes it. :class:`Nic`, :class:`Host` and :class:`Im` know the
ordinary registration sequences. Every message passes through the codec, as on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from ndisbus.core import BugCheck, CoreConfig, NdisCore
from ndisbus.ddi.call_rows import IO_OPERATIONS, STATE_OPERATIONS
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.characteristics import (
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
)
from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.structures import (
    NdisOidRequest,
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
    NdisTcpConnectionOffload,
)
from ndisbus.lists.blocklist import BlockListBuilder, Key, values
from ndisbus.lists.heap import Heap
from ndisbus.messages.codec import PROTOCOL_VERSION, RETURN, Message, decode_packet, encode_packet

P = TypeVar("P", bound="Client")

OPERATIONS = {o.op: o for o in (*STATE_OPERATIONS, *IO_OPERATIONS)}
PROVIDER: tuple[dict[str, Any], ...] = (
    NdisProviderChimneyOffloadGenericCharacteristics.full().to_wire(),
    NdisProviderChimneyOffloadTcpCharacteristics.full().to_wire(),
)
CLIENT: tuple[dict[str, Any], ...] = (
    NdisClientChimneyOffloadGenericCharacteristics.full().to_wire(),
    NdisClientChimneyOffloadTcpCharacteristics.full().to_wire(),
)
CAPABILITIES = NdisTcpConnectionOffload(tcp_connection_offload_capacity=1000).to_wire()
NEIGHBOR, PATH, TCP = 4, 8, 17


def oid(number: int, kind: int, buffer: Any = None, request_id: int | None = 7) -> dict[str, Any]:
    """An NDIS_OID_REQUEST as a map."""
    return NdisOidRequest(
        request_type=int(kind), oid=int(number), information_buffer=buffer, request_id=request_id
    ).to_wire()


def task_offload(enable: bool = True) -> dict[str, Any]:
    """A set of OID_TCP_TASK_OFFLOAD that enables the chimney, or disables everything."""
    tasks = [NdisTaskOffload(task_buffer=NdisTaskTcpConnectionOffload())] if enable else []
    header = NdisTaskOffloadHeader.of(tasks)
    return oid(Oid.OID_TCP_TASK_OFFLOAD, NdisRequestType.NdisRequestSetInformation, header)


def disables(request: dict[str, Any]) -> bool:
    """Whether an OID request disables the chimney. NDIS makes such a set for a protocol that has left."""
    task = request["Oid"] == Oid.OID_TCP_TASK_OFFLOAD
    sets = request["RequestType"] == NdisRequestType.NdisRequestSetInformation
    return task and sets and not request["InformationBuffer"]["Tasks"]


class Bench:
    """One core and its clock."""

    def __init__(self, config: CoreConfig | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.core = NdisCore(config or CoreConfig(), self.events.append)
        self.now = 0.0
        self.clients: dict[str, Client] = {}

    def client(self, kind: type[P], name: str, **arguments: Any) -> P:
        """A client that has said hello."""
        made = kind(self, name, **arguments)
        self.clients[name] = made
        made.hello()
        return made

    def route(self) -> None:
        """Move what NDIS has sent into the inboxes."""
        while sent := self.core.drain():
            for key, message, frames in sent:
                for decoded, payload in decode_packet([encode_packet([message]), *frames]):
                    self.clients[key].arrived(decoded, payload)

    def tick(self, seconds: float) -> None:
        """Let time pass; everything that becomes due happens at its moment."""
        end = self.now + seconds
        while (due := self.core.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.core.on_timer(self.now)
            self.route()
        self.now = end

    @property
    def bug_check(self) -> BugCheck:
        """The only bug check there is."""
        (report,) = self.core.bug_checks.reports
        return report


class Client:
    """A process on the bus."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        self.name = name
        self.inbox: list[tuple[Message, Sequence[bytes]]] = []
        self.closed: dict[str, Any] | None = None
        self.refusals: list[dict[str, Any]] = []
        #: Answers MiniportCheckForHangEx, inspections, and requests to disable the chimney by itself.
        self.responsive = True
        self._calls = 0

    def hello(self) -> None:
        """Be let in."""
        self.closed = None
        self.send("hello", PROTOCOL_VERSION, {"Name": self.name, "Pid": 1})
        self.ready = self.take("ready")[2][0]
        self.space: int = self.ready["AddressSpace"]
        self.heap = Heap(self.space)

    def arrived(self, message: Message, frames: Sequence[bytes]) -> None:
        """A message from NDIS."""
        name, args = message[0], message[2]
        if name == "closed":
            self.closed = args[0]
        elif name == "refused":
            self.refusals.append(args[0])
        elif name == "MiniportCheckForHangEx" and self.responsive:
            self.answer(message, False)
        elif name == "inspect" and self.responsive:
            self.answer(message, 0, {"Counters": {"things": 3}, "Sent": 1, "Lent": 2, "Heap": 4})
        elif name == "MiniportOidRequest" and self.responsive and disables(args[1]):
            self.answer(message, 0, args[1])
        else:
            self.inbox.append((message, frames))

    # -- out -----------------------------------------------------------------------------------

    def send(self, name: str, *params: Any, call_id: int | None = None, frames: Sequence[bytes] = ()) -> None:
        """Send a message; a call id is made up if it is answered."""
        if call_id is None and (name not in CALLS or CALLS[name].answered):
            call_id = self.next_id()
        message: Message = [name, call_id, list(params)]
        if frames:
            message.append(len(frames))
        for decoded, payload in decode_packet([encode_packet([message]), *frames]):
            self.bench.core.receive(self.name, decoded, payload, self.bench.now)
        self.bench.route()

    def next_id(self) -> int:
        """A fresh call id."""
        self._calls += 1
        return self._calls

    def call(self, name: str, *params: Any) -> list[Any]:
        """A call that NDIS answers at once."""
        call_id = self.next_id()
        self.send(name, *params, call_id=call_id)
        return self.returned(call_id)

    def answer(self, message: Message, *values: Any) -> None:
        """Answer a call of NDIS's."""
        self.send(RETURN, *values, call_id=message[1])

    def control(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """A control request that is answered at once."""
        status, result = self.call("control", verb, arguments)
        assert status == 0
        assert isinstance(result, dict)
        return result

    # -- in ------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """What lies in the inbox."""
        return [message[0] for message, _ in self.inbox]

    def take(self, name: str) -> Message:
        """The oldest message of that name."""
        return self.take_with_frames(name)[0]

    def take_with_frames(self, name: str) -> tuple[Message, Sequence[bytes]]:
        """The oldest message of that name, and its payload."""
        for i, (message, frames) in enumerate(self.inbox):
            if message[0] == name:
                del self.inbox[i]
                return message, frames
        raise AssertionError(f"{self.name} was sent no {name}, but {self.names()}")

    def returned(self, call_id: int) -> list[Any]:
        """The answer to one of its calls."""
        for i, (message, _) in enumerate(self.inbox):
            if message[0] == RETURN and message[1] == call_id:
                del self.inbox[i]
                return list(message[2])
        raise AssertionError(f"call {call_id} of {self.name} was not answered, but {self.names()}")

    def set_options(self, name: str, tables: Iterable[dict[str, Any]]) -> None:
        """Handle MiniportSetOptions or ProtocolSetOptions."""
        asked = self.take(name)
        for table in tables:
            assert self.call("NdisSetOptionalHandlers", asked[2][0], table) == [0]
        self.answer(asked, 0)


class Nic(Client):
    """A miniport driver."""

    def start(self, *adapters: str, chimney: bool = True, capabilities: Any = CAPABILITIES) -> Nic:
        """Register, and bring all adapters up."""
        self.register_miniport(adapters, chimney=chimney)
        for name in adapters:
            self.initialize(name, capabilities)
        return self

    def register_miniport(self, adapters: Sequence[str], *, chimney: bool = True) -> None:
        """NdisMRegisterMiniportDriver with what belongs to it."""
        self.handles: dict[str, int] = {}
        self.contexts: dict[str, int] = {}
        call_id = self.next_id()
        path = {"Name": self.name, "Adapters": list(adapters)}
        self.send("NdisMRegisterMiniportDriver", 0x5, path, call_id=call_id)
        self.set_options("MiniportSetOptions", PROVIDER if chimney else ())
        status, self.driver_handle = self.returned(call_id)
        assert status == 0

    def initialize(self, name: str, capabilities: Any = CAPABILITIES) -> None:
        """Handle MiniportInitializeEx."""
        asked = self.take("MiniportInitializeEx")
        assert asked[2][2]["AdapterName"] == name
        self.handles[name] = asked[2][0]
        self.contexts[name] = self.heap.address()
        attributes = {
            "MiniportAdapterContext": self.contexts[name],
            "TcpConnectionOffloadCapabilities": capabilities,
        }
        assert self.call("NdisMSetMiniportAttributes", asked[2][0], attributes) == [0]
        self.answer(asked, 0)

    @property
    def handle(self) -> int:
        """NdisMiniportHandle of its first adapter."""
        return next(iter(self.handles.values()))

    def given(self, op: str) -> dict[str, Any]:
        """The columns of the oldest request of an operation that it was given."""
        return dict(self.take(OPERATIONS[op].handler)[2][-1])

    def up(self, lower: dict[str, Any], op: str, status: Any = 0, **changes: Any) -> dict[str, Any]:
        """The columns with which a list goes back up; new objects get a context where they succeed.

        ``changes`` replaces or, with ``...``, leaves out columns; keys as in :class:`Key` by attribute.
        """
        n = len(lower[Key.BLOCK])
        kept = (Key.BLOCK, Key.SOURCE_HANDLE, *Key.IM_RESERVED, *Key.PROTOCOL_RESERVED, Key.NBL_CHAIN)
        columns = {k: lower[k] for k in kept if k in lower}
        columns[Key.STATUS] = status
        contexts = list(values(lower.get(Key.CONTEXT), n))
        if op == "initiate":
            cells, statuses = values(lower.get(Key.CELL), n), values(status, n)
            for i in range(n):
                if cells[i] is not None and contexts[i] is None and statuses[i] in (0, 0x40020004):
                    contexts[i] = self.heap.address()
        columns[Key.CONTEXT] = contexts
        for name, column in changes.items():
            key = getattr(Key, name)
            for k in key if isinstance(key, tuple) else (key,):
                if column is ...:
                    columns.pop(k, None)
                else:
                    columns[k] = column
        return columns

    def complete(self, op: str, status: Any = 0, **changes: Any) -> dict[str, Any]:
        """Complete the oldest request of an operation; returns the columns it was given."""
        lower = self.given(op)
        self.send(OPERATIONS[op].completion, self.handle, self.up(lower, op, status, **changes))
        return lower

    def complete_nbls(self, op: str, status: int = 0) -> dict[str, Any]:
        """Complete the lists of the oldest I/O request; returns the columns it was given."""
        asked = self.take(OPERATIONS[op].handler)
        lower = dict(asked[2][2])
        back = {**lower, "Status": [status] * len(lower["NetBufferList"])}
        back.pop("NetBufferLists", None)
        self.send(OPERATIONS[op].completion, self.handle, back)
        return lower


class Host(Client):
    """A protocol driver."""

    def start(self, *bind: str, chimney: bool = True, enable: bool = True) -> Host:
        """Register, bind to the adapters that are up, and enable the chimney of the first."""
        self.register_protocol(list(bind), chimney=chimney)
        for _ in range(self.names().count("ProtocolBindAdapterEx")):
            self.bind()
        if enable:
            self.enable()
        return self

    def register_protocol(self, bind: list[str] | str, *, chimney: bool = True) -> None:
        """NdisRegisterProtocolDriver with what belongs to it."""
        self.bindings: dict[str, int] = {}
        self.contexts_of: dict[str, int] = {}
        call_id = self.next_id()
        path = {"Name": self.name, "Bind": bind}
        self.send("NdisRegisterProtocolDriver", 0x6, path, call_id=call_id)
        self.set_options("ProtocolSetOptions", CLIENT if chimney else ())
        status, self.protocol_handle = self.returned(call_id)
        assert status == 0

    def bind(self) -> str:
        """Handle ProtocolBindAdapterEx; returns the adapter's name."""
        asked = self.take("ProtocolBindAdapterEx")
        name = str(asked[2][2]["AdapterName"])
        context = self.heap.address()
        opened = self.call("NdisOpenAdapterEx", self.protocol_handle, context, {"AdapterName": name})
        assert opened[0] == 0
        self.bindings[name], self.contexts_of[name] = opened[1], context
        self.answer(asked, 0)
        return name

    @property
    def binding(self) -> int:
        """The NdisBindingHandle of the adapter it was bound to first, the latest one by that name."""
        return next(iter(self.bindings.values()))

    def enable(self, enable: bool = True) -> tuple[int, str]:
        """Set OID_TCP_TASK_OFFLOAD; whatever miniport is asked grants it. Returns status and reason."""
        self.send("NdisOidRequest", self.binding, task_offload(enable))
        for client in list(self.bench.clients.values()):
            while "MiniportOidRequest" in client.names():
                asked = client.take("MiniportOidRequest")
                client.answer(asked, 0, asked[2][1])
        done = self.take("ProtocolOidRequestComplete")
        return int(done[2][2]), str(done[2][3])

    def new_handle(self) -> int:
        """An NDIS_OFFLOAD_HANDLE with its cell behind it."""
        return self.heap.address(0x20)

    def columns(self, *blocks: Sequence[Any], **changes: Any) -> dict[str, Any]:
        """A tree for a request: (type, handle or None, context or None) per block, in traversal order.

        State follows what is new; ``changes`` as in :meth:`Nic.up`.
        """
        builder = BlockListBuilder(self.heap)
        for kind, handle, context in blocks:
            builder.add(kind, handle, state=b"state" if handle is not None and context is None else None)
        columns = builder.build().columns
        handles = values(columns.get(Key.OFFLOAD_HANDLE), len(blocks))
        columns[Key.HANDLE_CELL] = [None if h is None else h + 0x10 for h in handles]
        columns[Key.CONTEXT] = [context for _, _, context in blocks]
        for name, column in changes.items():
            key = getattr(Key, name)
            for k in key if isinstance(key, tuple) else (key,):
                if column is ...:
                    columns.pop(k, None)
                else:
                    columns[k] = column
        return columns

    def request(self, op: str, columns: dict[str, Any], frames: Sequence[bytes] = ()) -> None:
        """Pass a list down through its first binding."""
        self.send(OPERATIONS[op].request, self.binding, columns, frames=frames)

    def completed(self, op: str) -> dict[str, Any]:
        """The columns of the oldest completion of an operation that it was sent."""
        done = self.take(OPERATIONS[op].completion_handler)
        assert done[2][0] in self.contexts_of.values()
        return dict(done[2][1])

    def offload(self, nic: Nic, *types: int) -> list[tuple[int, int, int]]:
        """Have a tree of new objects offloaded; returns (type, handle, context) of each."""
        types = types or (NEIGHBOR, PATH, TCP)
        handles = [self.new_handle() for _ in types]
        self.request("initiate", self.columns(*((t, h, None) for t, h in zip(types, handles, strict=True))))
        nic.complete("initiate")
        done = self.completed("initiate")
        assert values(done[Key.STATUS], len(types)) == [0] * len(types)
        return list(zip(types, handles, done[Key.CONTEXT], strict=True))


class Im(Nic, Host):
    """An intermediate driver: one adapter above, one binding below."""

    def start(self, *adapters: str, below: str = "nic0", chimney: bool = True, **_: Any) -> Im:
        """Register both edges, bind below, bring the adapters up."""
        self.register_miniport((), chimney=chimney)
        self.register_protocol([below], chimney=chimney)
        self.bind()
        for name in adapters:
            self.expose(name)
        return self

    def expose(self, name: str) -> None:
        """NdisIMInitializeDeviceInstanceEx with what belongs to it."""
        call_id = self.next_id()
        device = self.heap.address()
        self.send("NdisIMInitializeDeviceInstanceEx", self.driver_handle, name, device, call_id=call_id)
        self.initialize(name)
        assert self.returned(call_id) == [0, self.handles[name]]

    def pass_on(self, op: str, *handles: int | None, **changes: Any) -> dict[str, Any]:
        """Repeat the oldest request downward, with its own handles; returns what it was given."""
        upper = self.given(op)
        columns = {k: v for k, v in upper.items() if k not in (Key.CELL, Key.NDIS_OFFLOAD_HANDLE)}
        columns[Key.OFFLOAD_HANDLE] = list(handles)
        columns[Key.HANDLE_CELL] = [None if h is None else h + 0x10 for h in handles]
        columns[Key.IM_RESERVED[0]] = self.heap.address()
        for name, column in changes.items():
            columns[getattr(Key, name)] = column
        self.request(op, columns)
        return upper
