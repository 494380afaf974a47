"""The driver's side of NDIS, sans-I/O: one port hosts one driver.

Messages from the bus go in by :meth:`DriverPort.receive`, messages to the bus are collected in
``outbox``; the process runtime and the simulation move them. Where real drivers share memory a message
carries what was written, and the port applies it to the driver's own objects before it calls the
handler, so a driver's code reads as if the memory were shared.

When the bus goes away, or closes this driver's epoch, the port takes NDIS's place for a moment: it
fails whatever the driver was waiting for through the ordinary handlers, unbinds it and halts its
adapters (:mod:`ndisbus.teardown`). A driver therefore has one way of losing its neighbours, not two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ndisbus.blocklist import BlockList, Form, Key, values
from ndisbus.client import NdisCalls
from ndisbus.codec import RETURN, Message
from ndisbus.ddi import BLOCKS_MINIPORT, BLOCKS_PROTOCOL, CALLS, NBL, Call, Kind, python_name
from ndisbus.driver import Answer, Driver, Reply, Steps
from ndisbus.errors import ChimneyError, LocalProtocolError, RemoteProtocolError
from ndisbus.heap import Heap, NdisOffloadHandle
from ndisbus.nblchain import Attachments, NblChain, chain_addresses
from ndisbus.status import NdisStatus

__all__ = ["PROTOCOL_VERSION", "DriverPort", "Ndis", "Outgoing"]

#: Version of the handshake and of everything behind it.
PROTOCOL_VERSION = 1

#: A message and its payload frames.
Outgoing = tuple[Message, Sequence[bytes]]

_UP_ALWAYS = (
    Key.BLOCK,
    Key.STATUS,
    Key.SOURCE_HANDLE,
    *Key.IM_RESERVED,
    *Key.PROTOCOL_RESERVED,
    Key.CONTEXT,
    Key.NBL_CHAIN,
)


#: The object's own state was offloaded.
_TAKEN = (int(NdisStatus.SUCCESS), int(NdisStatus.OFFLOAD_PARTIAL_SUCCESS))


def _send_data(block_list: BlockList) -> dict[int, list[int]]:
    """The outstanding send data that goes along with the blocks of an initiate: index -> net buffer lists."""
    pointers = block_list.columns.get(Key.NBL_CHAIN)
    if pointers is None or block_list.attachments is None:
        return {}
    chains = chain_addresses(block_list.attachments.wire, Key.NET_BUFFER_LISTS)
    return {
        i: chains[p] for i, p in enumerate(values(pointers, len(block_list))) if p is not None and p in chains
    }


#: A handler: the bound method, its call, its parameters that are memory, whether it is answered, and
#: whether the port takes note of it.
_Entry = tuple[Any, Call, tuple[tuple[int, str], ...], bool, bool]

_NOTICED = frozenset(
    (
        "MiniportHaltEx",
        "MiniportInitializeEx",
        "ProtocolCloseAdapterCompleteEx",
        "ProtocolOidRequestComplete",
    )
)


def _memory_of(call: Call) -> tuple[tuple[int, str], ...]:
    """The parameters that carry lists, by index."""
    kinds = (BLOCKS_MINIPORT, BLOCKS_PROTOCOL, NBL)
    return tuple((i, p.carries) for i, p in enumerate(call.params) if p.carries in kinds)


#: What a driver may call: the call, what its parameters carry, whether it is answered.
_PLANS = {
    c.name: (c, tuple(p.carries for p in c.params), c.answered) for c in CALLS.values() if c.from_driver
}


class Ndis(NdisCalls):
    """What a driver holds of NDIS: the functions it may call, its heap and the clock."""

    def __init__(self, port: DriverPort) -> None:
        self._port = port
        self.call = port.call  # type: ignore[method-assign]
        self.heap = Heap(0)

    def now(self) -> float:
        """The time of the event being handled, in seconds. It does not move while a handler runs."""
        return self._port.now

    @property
    def attached(self) -> bool:
        """Whether the bus knows this driver at the moment."""
        return self._port.attached

    def resume(self, reply: Reply, answer: Answer) -> None:
        """Let a handler go on that waits for a :class:`Reply` of the driver's own making."""
        self._port.resume(reply, answer)


class DriverPort:
    """Hosts one driver. See the module's text.

    ``identity`` goes into the hello: name, pid and the like (docs/protocol.md, "Hello").
    """

    def __init__(self, driver: Driver, identity: dict[str, Any]) -> None:
        self.driver = driver
        self.identity = identity
        self.outbox: list[Outgoing] = []
        self.attached = False
        self.now = 0.0
        self.epoch = 0
        #: What the bus said when it let us in (limits, seed) or threw us out (reason, report).
        self.ready_info: dict[str, Any] = {}
        self.closed_info: dict[str, Any] | None = None
        #: What the bus refused without anybody waiting for an answer: a hello, a late message.
        self.refusals: list[dict[str, Any]] = []
        self._call_id = 0
        self._replies: dict[int, Reply] = {}
        #: Lists passed down and not completed: root -> (list, request, binding handle).
        self.sent: dict[int, tuple[BlockList, Call, int]] = {}
        #: Lists given to the miniport edge and not completed by it: root -> list.
        self.lent: dict[int, BlockList] = {}
        #: Net buffer lists passed down and not completed: address -> request, binding, context in the list.
        self.sent_nbls: dict[int, tuple[Call, int | None, int | None]] = {}
        #: Net buffer lists that went down with the connections of an initiate, as their send data.
        self.sent_along: set[int] = set()
        #: OID requests passed down and not completed: (binding handle, request).
        self.sent_oids: list[tuple[int, dict[str, Any]]] = []
        #: Binding handle -> ProtocolBindingContext; miniport handle -> MiniportAdapterContext.
        self.bindings: dict[int, int] = {}
        self.adapters: dict[int, int] = {}
        #: Adapters being initialised: call id -> miniport handle, and their contexts as far as known.
        self._initializing: dict[int | None, int] = {}
        self._attributed: dict[int, int] = {}
        self._handlers: dict[str, _Entry] = {}
        self.ndis = Ndis(self)
        driver.ndis = self.ndis

    # -- the connection ------------------------------------------------------------------------

    def hello(self) -> None:
        """Ask the bus to be let in."""
        self.closed_info = None
        self._call_id += 1
        self.outbox.append((["hello", self._call_id, [PROTOCOL_VERSION, self.identity]], ()))

    def goodbye(self) -> None:
        """Leave in an orderly way: the bus treats it as a removal at once, without waiting."""
        if self.attached:
            self.outbox.append((["goodbye", None, []], ()))

    def control(self, verb: str, arguments: dict[str, Any]) -> Reply:
        """A control request over the driver's own connection (docs/protocol.md, "Control").

        Its answer is (0, result), or (NDIS_STATUS_FAILURE, reason) when the bus refuses.
        """
        self._call_id += 1
        reply = self._replies[self._call_id] = Reply("control")
        self.outbox.append((["control", self._call_id, [verb, arguments]], ()))
        return reply

    def drain(self) -> list[Outgoing]:
        """Take what is to be sent."""
        out, self.outbox = self.outbox, []
        return out

    def lost(self, reason: str, now: float) -> None:
        """The bus is gone (or threw us out): fail what is in flight, keep what is the driver's own."""
        from ndisbus.teardown import tear_down  # noqa: PLC0415 - it needs the port

        self.now = now
        if self.attached:
            self.attached = False
            self._initializing.clear()
            self._attributed.clear()
            tear_down(self, reason)
        self.outbox.clear()

    def next_deadline(self) -> float | None:
        """When :meth:`on_timer` is due."""
        return self.driver.next_deadline()

    def on_timer(self, now: float) -> None:
        """Let the driver's timers run."""
        self.now = now
        deadline = self.driver.next_deadline()
        if deadline is not None and deadline <= now:
            self.driver.on_timer(now)

    # -- from the bus --------------------------------------------------------------------------

    def receive(self, message: Message, frames: Sequence[bytes], now: float) -> None:
        """Handle one message from the bus."""
        self.now = now
        name, call_id, args = message[0], message[1], message[2]
        entry = self._handlers.get(name)
        if entry is None:
            if name == RETURN:
                self._returned(call_id, tuple(args))
                return
            if name in _CONTROL:
                _CONTROL[name](self, call_id, args)
                return
            call = CALLS.get(name)
            if call is None or call.from_driver:
                raise RemoteProtocolError(f"the bus sent {name!r}, which is no handler")
            handler = getattr(self.driver, python_name(name), None)
            if handler is None:
                raise RemoteProtocolError(f"the bus sent {name!r}, which this driver has no edge for")
            entry = self._handlers[name] = (handler, call, _memory_of(call), call.answered, name in _NOTICED)
        handler, call, memory, answered, noticed = entry
        for i, carries in memory:
            if args[i] is None:
                continue
            if carries == BLOCKS_MINIPORT:
                args[i] = self._accept(args[i], frames)
            elif carries == BLOCKS_PROTOCOL:
                args[i] = self._take_back(call, args[i], frames)
            else:
                args[i] = self._take_nbls(call, args[i], frames)
        if noticed:
            self._notice(name, call_id, args)
        result = handler(*args)
        if answered:
            if hasattr(result, "send"):
                self._step(result, call_id, None)
            else:
                self._answer(call_id, result)
        elif hasattr(result, "send"):
            self._step(result, None, None)

    def _notice(self, name: str, call_id: int | None, args: list[Any]) -> None:
        """Keep the books that a teardown would need."""
        if name == "MiniportHaltEx":
            self.adapters = {h: c for h, c in self.adapters.items() if c != args[0]}
        elif name == "ProtocolOidRequestComplete":
            self._oid_completed(args[0], args[1])
        elif name == "ProtocolCloseAdapterCompleteEx":
            if not self.bindings:
                self.sent_along.clear()  # what a dead driver had of it came home with its connections
        else:
            self._initializing[call_id] = args[0]

    def _accept(self, columns: dict[str, Any], frames: Sequence[bytes]) -> BlockList:
        """A request for the miniport edge: the list is ours until we complete it."""
        block_list = BlockList(Form.MINIPORT, columns)
        nbls = columns.pop(Key.NET_BUFFER_LISTS, None)
        if nbls is not None:
            block_list.attachments = Attachments(nbls, frames)
        address = columns[Key.BLOCK][0]
        if address in self.lent:
            raise RemoteProtocolError(f"list {address:#x} was given to this driver twice")
        self.lent[address] = block_list
        return block_list

    def _take_back(self, call: Call, columns: dict[str, Any], frames: Sequence[bytes]) -> BlockList:
        """A completion for the protocol edge: apply what was written to the list we passed down.

        Raises :class:`RemoteProtocolError` for the completion of a list that is not outstanding.
        """
        blocks = columns.pop(Key.BLOCK)
        sent = self.sent.pop(blocks[0], None)
        nbls = columns.pop(Key.NET_BUFFER_LISTS, None)
        if sent is None:
            # Not an answer: a block list of the driver below (NeighborReachabilityQuery).
            if call.op:
                raise RemoteProtocolError(
                    f"{call.name}: list {blocks[0]:#x} is not outstanding", rule="R-BLK-10"
                )
            columns[Key.BLOCK] = blocks
            block_list = BlockList(Form.PROTOCOL, columns)
        else:
            block_list = sent[0]
            if call.op == "initiate":
                # What was not offloaded took no data along.
                statuses = values(columns[Key.STATUS], len(blocks))
                for i, addresses in _send_data(block_list).items():
                    if statuses[i] not in _TAKEN:
                        self.sent_along.difference_update(addresses)
            elif call.op == "terminate" and nbls is not None:
                # A list that is handed back is completed by that act (R-DIS-16).
                for chain in chain_addresses(nbls, Key.NET_BUFFER_LISTS).values():
                    self.sent_along.difference_update(chain)
                    for a in chain:
                        self.sent_nbls.pop(a, None)
            contexts = columns.pop(Key.CONTEXT, None)
            if contexts is not None:
                self._store(block_list, contexts, sent[2])
            block_list.columns.update(columns)
        block_list.attachments = Attachments(nbls, frames) if nbls is not None else None
        return block_list

    def _store(self, block_list: BlockList, contexts: Any, binding: int) -> None:
        """The PVOIDs that the driver below stored into our cells. NULL means it left the cell alone."""
        handles = block_list.columns.get(Key.OFFLOAD_HANDLE)
        objects = self.ndis.heap.objects
        if type(handles) is not list:
            handles = [handles] * len(block_list)
        if type(contexts) is not list:
            contexts = [contexts] * len(block_list)
        for handle, context in zip(handles, contexts, strict=True):
            if context is not None and handle is not None:
                anchor = objects.get(handle)
                if isinstance(anchor, NdisOffloadHandle):
                    anchor.context = context
                    anchor.binding = binding

    def _take_nbls(self, call: Call, columns: dict[str, Any], frames: Sequence[bytes]) -> NblChain:
        chain = NblChain.from_wire(columns, frames)
        if call.kind is Kind.PROTOCOL_HANDLER and call.op:
            sends = call.op == "send"
            for a in chain.addresses:
                sent = self.sent_nbls.get(a)
                if not (sent is not None and sent[0].op == call.op) and not (sends and a in self.sent_along):
                    raise RemoteProtocolError(f"{call.name}: {a:#x} is not outstanding", rule="R-IM-11")
            for a in chain.addresses:
                self.sent_nbls.pop(a, None)
                self.sent_along.discard(a)
        return chain

    def _oid_completed(self, context: int, request: dict[str, Any]) -> None:
        """Take an OID request off the list; its RequestId is the requester's, and need not be unique."""
        for i, (binding, sent) in enumerate(self.sent_oids):
            same = all(sent.get(k) == request.get(k) for k in ("Oid", "RequestType", "RequestId"))
            if same and self.bindings.get(binding, context) == context:
                del self.sent_oids[i]
                return

    # -- handlers that wait --------------------------------------------------------------------

    def _answer(self, call_id: int | None, result: Any) -> None:
        if call_id is None:
            return
        frames: Sequence[bytes] = ()
        if type(result) is not tuple:
            result = (result,)
        handle = self._initializing.pop(call_id, None)
        if handle is not None and result[0] == NdisStatus.SUCCESS and handle in self._attributed:
            # Only an adapter whose initialisation succeeded is ever halted.
            self.adapters[handle] = self._attributed.pop(handle)
        values: list[Any] = []
        for v in result:
            if isinstance(v, BlockList):
                cols = {k: c for k, c in v.columns.items() if k in (Key.BLOCK, Key.STATE, Key.STATUS)}
                values.append(cols)
            else:
                values.append(int(v) if isinstance(v, int) and not isinstance(v, bool) else v)
        self.outbox.append(([RETURN, call_id, values], frames))

    def _step(self, generator: Steps, call_id: int | None, answer: Answer | None) -> None:
        """Run a generator handler until it waits again or is through."""
        while True:
            try:
                reply = generator.send(answer)  # type: ignore[arg-type]
            except StopIteration as stop:
                if call_id is not None:
                    self._answer(call_id, stop.value)
                return
            if reply.answer is None:
                reply.generator = (generator, call_id)
                return
            answer = reply.answer

    def step(self, generator: Steps) -> None:
        """Run a generator handler whose result nobody waits for."""
        self._step(generator, None, None)

    def take_replies(self) -> list[Reply]:
        """Give up all answers that are still awaited."""
        replies = list(self._replies.values())
        self._replies.clear()
        return replies

    def _returned(self, call_id: int | None, answer: Answer) -> None:
        reply = self._replies.pop(call_id or 0, None)
        if reply is None:
            raise RemoteProtocolError(f"the bus answered call {call_id}, which is not waiting")
        self.resume(reply, answer)

    def resume(self, reply: Reply, answer: Answer) -> None:
        """An answer has come: note what NDIS gave out, and let the handler that waits go on."""
        reply.answer = answer
        if reply.note is not None and answer[0] == 0:
            reply.note(answer)
        if reply.generator is not None:
            generator, call_id = reply.generator
            self._step(generator, call_id, answer)

    # -- from the driver -----------------------------------------------------------------------

    def call(self, name: str, *args: Any) -> Reply | None:
        """Call an NDIS function by its DDI name; the methods of :class:`Ndis` all end up here.

        Returns a :class:`Reply` for functions that return something. Raises
        :class:`LocalProtocolError` where the call breaks a rule that is seen from here.
        """
        plan = _PLANS.get(name)
        if plan is None:
            raise LocalProtocolError(f"{name} is no function that NDIS offers")
        call, carried, answered = plan
        if len(args) != len(carried):
            raise LocalProtocolError(f"{name} takes {len(carried)} parameters, {len(args)} were given")
        if not self.attached:
            from ndisbus.teardown import local_call  # noqa: PLC0415 - it needs the port

            return local_call(self, call, args)
        params: list[Any] = []
        frames: Sequence[bytes] = ()
        for carries, a in zip(carried, args):  # noqa: B905 - as long as one another, see above
            if type(a) is int or a is None:
                params.append(a)
            elif carries == BLOCKS_PROTOCOL:
                wire, frames = self.pass_down(call, args[0], a)
                params.append(wire)
            elif carries == BLOCKS_MINIPORT:
                wire, frames = self.hand_back(call, a)
                params.append(wire)
            elif carries == NBL:
                wire, frames = a.to_wire()
                if call.kind is Kind.REQUEST and call.completed_by:
                    anchor = self.ndis.heap.objects.get(args[0])
                    through = anchor.binding if isinstance(anchor, NdisOffloadHandle) else None
                    self.sent_nbls.update(dict.fromkeys(a.addresses, (call, through, a.context)))
                params.append(wire)
            elif hasattr(a, "to_wire"):
                params.append(a.to_wire())
            else:
                params.append(int(a) if isinstance(a, int) and not isinstance(a, bool) else a)
        if name == "NdisOidRequest":
            self.sent_oids.append((args[0], params[1]))
        reply: Reply | None = None
        call_id = None
        if answered:
            self._call_id += 1
            call_id = self._call_id
            reply = self._replies[call_id] = Reply(name)
            if name in _NOTES:
                reply.note = _NOTES[name](self, args)
        message: Message = [name, call_id, params]
        if frames:
            message.append(len(frames))
        self.outbox.append((message, frames))
        return reply

    def pass_down(
        self, call: Call, binding: int, block_list: BlockList
    ) -> tuple[dict[str, Any], Sequence[bytes]]:
        """A request's list on its way down, with what NDIS would read through the pointers in it."""
        if block_list.form is not Form.PROTOCOL:
            raise LocalProtocolError(f"{call.name} takes a list in the PROTOCOL form", rule="R-BLK-01")
        columns = block_list.columns
        address = columns[Key.BLOCK][0]
        if address in self.sent:
            raise LocalProtocolError(
                f"list {address:#x} is already in the hands of the driver below", rule="R-BLK-11"
            )
        wire = dict(columns)
        wire.pop(Key.STATUS, None)
        handles = columns.get(Key.OFFLOAD_HANDLE)
        if handles is not None:
            if type(handles) is not list:
                handles = [handles] * len(block_list)
            objects: dict[int, Any] = self.ndis.heap.objects
            try:
                if len(handles) == 1:
                    h = objects[handles[0]] if handles[0] is not None else None
                    wire[Key.HANDLE_CELL] = [None if h is None else h.address + 0x10]
                    wire[Key.CONTEXT] = [None if h is None else h.context]
                else:
                    anchors = [None if a is None else objects[a] for a in handles]
                    wire[Key.HANDLE_CELL] = [None if h is None else h.address + 0x10 for h in anchors]
                    wire[Key.CONTEXT] = [None if h is None else h.context for h in anchors]
            except KeyError as e:
                raise LocalProtocolError(
                    f"{call.name}: OffloadHandle {e.args[0]:#x} is not allocated", rule="R-IM-08"
                ) from None
        self.sent[address] = (block_list, call, binding)
        if call.op == "initiate":
            # Send data that goes along comes back as sends do (R-OSD-10).
            for addresses in _send_data(block_list).values():
                self.sent_along.update(addresses)
        if block_list.attachments is None:
            return wire, ()
        wire[Key.NET_BUFFER_LISTS] = block_list.attachments.wire
        return wire, block_list.attachments.frames

    def hand_back(self, call: Call, block_list: BlockList) -> tuple[dict[str, Any], Sequence[bytes]]:
        """A list on its way up; from now on it is not the driver's any more (R-BLK-11)."""
        if block_list.form is not Form.MINIPORT:
            raise LocalProtocolError(f"{call.name} takes a list in the MINIPORT form", rule="R-BLK-01")
        columns = block_list.columns
        address = columns[Key.BLOCK][0]
        if call.op:
            if address not in self.lent:
                reason = f"{call.name}: list {address:#x} was not given to this driver"
                raise LocalProtocolError(reason, rule="R-BLK-10")
            status = columns.get(Key.STATUS)
            if status is None or (type(status) is list and None in status):
                raise LocalProtocolError(
                    f"{call.name}: Status was not written in every block", rule="R-BLK-09"
                )
            del self.lent[address]
            wire = {k: columns[k] for k in _UP_ALWAYS if k in columns}
            if call.op in ("query", "terminate") and Key.STATE in columns:
                wire[Key.STATE] = columns[Key.STATE]
        else:
            wire = dict(columns)
        attachments = block_list.attachments
        if call.op:
            block_list.release()
        if attachments is None or call.op == "initiate":
            return wire, ()
        wire[Key.NET_BUFFER_LISTS] = attachments.wire
        return wire, attachments.frames

    # -- control messages of the bus -----------------------------------------------------------

    def _ready(self, call_id: int | None, args: list[Any]) -> None:
        info = args[0]
        self.ready_info = info
        self.epoch = info["Epoch"]
        self.ndis.heap = Heap(info["AddressSpace"])
        self.attached = True
        steps = self.driver.driver_entry()
        if steps is not None:
            self._step(steps, None, None)

    def _closed(self, call_id: int | None, args: list[Any]) -> None:
        self.closed_info = args[0]
        self.lost(str(args[0].get("Reason", "the bus closed this epoch")), self.now)

    def _refused(self, call_id: int | None, args: list[Any]) -> None:
        """The bus did not accept a message: an answer to whoever waits for one, else noted down."""
        reply = self._replies.pop(call_id or 0, None)
        if reply is not None:
            self.resume(reply, (int(NdisStatus.FAILURE), args[0]["Reason"]))
            return
        self.refusals.append(args[0])

    def _ping(self, call_id: int | None, args: list[Any]) -> None:
        self.outbox.append(([RETURN, call_id, [0]], ()))

    def _inspect(self, call_id: int | None, args: list[Any]) -> None:
        info = {
            "Counters": {str(k): int(v) for k, v in self.driver.inspect().items()},
            "Sent": len(self.sent),
            "Lent": len(self.lent),
            "Heap": len(self.ndis.heap.objects),
        }
        self.outbox.append(([RETURN, call_id, [0, info]], ()))

    def _control(self, call_id: int | None, args: list[Any]) -> None:
        try:
            result = self.driver.control(str(args[0]), dict(args[1]))
        except ChimneyError as e:
            self.outbox.append(([RETURN, call_id, [int(NdisStatus.FAILURE), str(e)]], ()))
        else:
            self.outbox.append(([RETURN, call_id, [0, result]], ()))


def _opened(port: DriverPort, args: tuple[Any, ...]) -> Callable[[Answer], None]:
    return lambda answer: port.bindings.__setitem__(answer[1], args[1])


def _closed(port: DriverPort, args: tuple[Any, ...]) -> Callable[[Answer], None]:
    return lambda _: void(port.bindings.pop(args[0], None))


def _attributes(port: DriverPort, args: tuple[Any, ...]) -> Callable[[Answer], None]:
    attributes = args[1] if isinstance(args[1], dict) else args[1].to_wire()
    return lambda _: port._attributed.__setitem__(args[0], attributes["MiniportAdapterContext"])


def _halted(port: DriverPort, args: tuple[Any, ...]) -> Callable[[Answer], None]:
    return lambda _: void(port.adapters.pop(args[0], None))


def void(_: object) -> None:
    """Drop a value."""


#: What the port notes down for its teardown when NDIS answers these calls with success.
_NOTES: dict[str, Callable[[DriverPort, tuple[Any, ...]], Callable[[Answer], None]]] = {
    "NdisOpenAdapterEx": _opened,
    "NdisCloseAdapterEx": _closed,
    "NdisMSetMiniportAttributes": _attributes,
    "NdisIMDeInitializeDeviceInstance": _halted,
}

_CONTROL: dict[str, Any] = {
    "ready": DriverPort._ready,
    "closed": DriverPort._closed,
    "refused": DriverPort._refused,
    "ping": DriverPort._ping,
    "inspect": DriverPort._inspect,
    "control": DriverPort._control,
}
