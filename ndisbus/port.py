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

from ndisbus.blocklist import BlockList, Form, Key
from ndisbus.client import NdisCalls
from ndisbus.codec import RETURN, Message
from ndisbus.ddi import BLOCKS_MINIPORT, BLOCKS_PROTOCOL, CALLS, NBL, Call, Kind, python_name
from ndisbus.driver import Answer, Driver, Reply, Steps
from ndisbus.errors import ChimneyError, LocalProtocolError, RemoteProtocolError
from ndisbus.heap import Heap, NdisOffloadHandle
from ndisbus.nblchain import Attachments, NblChain
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
        self._call_id = 0
        self._replies: dict[int, Reply] = {}
        #: Lists passed down and not completed: root -> (list, request, binding handle).
        self.sent: dict[int, tuple[BlockList, Call, int]] = {}
        #: Lists given to the miniport edge and not completed by it: root -> list.
        self.lent: dict[int, BlockList] = {}
        #: Net buffer lists passed down and not completed: address -> request, and its binding.
        self.sent_nbls: dict[int, tuple[Call, int]] = {}
        #: Binding handle -> ProtocolBindingContext; miniport handle -> MiniportAdapterContext.
        self.bindings: dict[int, int] = {}
        self.adapters: dict[int, int] = {}
        self._handlers: dict[str, tuple[Any, Call]] = {}
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
            entry = self._handlers[name] = (handler, call)
        handler, call = entry
        for i, p in enumerate(call.params):
            if p.carries == BLOCKS_MINIPORT:
                if args[i] is not None:
                    args[i] = self._accept(args[i], frames)
            elif p.carries == BLOCKS_PROTOCOL:
                if args[i] is not None:
                    args[i] = self._take_back(args[i], frames)
            elif p.carries == NBL:
                args[i] = self._take_nbls(call, args[i], frames)
        if name == "MiniportHaltEx":
            self.adapters = {h: c for h, c in self.adapters.items() if c != args[0]}
        result = handler(*args)
        if call.answered:
            if hasattr(result, "send"):
                self._step(result, call_id, None)
            else:
                self._answer(call_id, result)
        elif hasattr(result, "send"):
            self._step(result, None, None)

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

    def _take_back(self, columns: dict[str, Any], frames: Sequence[bytes]) -> BlockList:
        """A completion for the protocol edge: apply what was written to the list we passed down."""
        blocks = columns.pop(Key.BLOCK)
        sent = self.sent.pop(blocks[0], None)
        nbls = columns.pop(Key.NET_BUFFER_LISTS, None)
        if sent is None:
            # Not an answer: a block list of the driver below (NeighborReachabilityQuery).
            columns[Key.BLOCK] = blocks
            block_list = BlockList(Form.PROTOCOL, columns)
        else:
            block_list = sent[0]
            contexts = columns.pop(Key.CONTEXT, None)
            if contexts is not None:
                self._store(block_list, contexts)
            block_list.columns.update(columns)
        block_list.attachments = Attachments(nbls, frames) if nbls is not None else None
        return block_list

    def _store(self, block_list: BlockList, contexts: Any) -> None:
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

    def _take_nbls(self, call: Call, columns: dict[str, Any], frames: Sequence[bytes]) -> NblChain:
        chain = NblChain.from_wire(columns, frames)
        if call.kind is Kind.PROTOCOL_HANDLER and call.op:
            for a in chain.addresses:
                self.sent_nbls.pop(a, None)
        return chain

    # -- handlers that wait --------------------------------------------------------------------

    def _answer(self, call_id: int | None, result: Any) -> None:
        if call_id is None:
            return
        frames: Sequence[bytes] = ()
        if type(result) is not tuple:
            result = (result,)
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
        call = CALLS.get(name)
        if call is None or not call.from_driver:
            raise LocalProtocolError(f"{name} is no function that NDIS offers")
        if len(args) != len(call.params):
            raise LocalProtocolError(f"{name} takes {len(call.params)} parameters, {len(args)} were given")
        if not self.attached:
            from ndisbus.teardown import local_call  # noqa: PLC0415 - it needs the port

            return local_call(self, call, args)
        params: list[Any] = []
        frames: Sequence[bytes] = ()
        for p, a in zip(call.params, args, strict=True):
            if type(a) is int or a is None:
                params.append(a)
            elif p.carries == BLOCKS_PROTOCOL:
                wire, frames = self.pass_down(call, args[0], a)
                params.append(wire)
            elif p.carries == BLOCKS_MINIPORT:
                wire, frames = self.hand_back(call, a)
                params.append(wire)
            elif p.carries == NBL:
                wire, frames = a.to_wire()
                if call.kind is Kind.REQUEST and call.completed_by:
                    for address in a.addresses:
                        self.sent_nbls[address] = (call, args[0])
                params.append(wire)
            elif hasattr(a, "to_wire"):
                params.append(a.to_wire())
            else:
                params.append(int(a) if isinstance(a, int) and not isinstance(a, bool) else a)
        reply: Reply | None = None
        call_id = None
        if call.answered:
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

    def pass_down(self, call: Call, binding: int, block_list: BlockList) -> tuple[dict[str, Any], Sequence[bytes]]:
        """A request's list on its way down, with what NDIS would read through the pointers in it."""
        if block_list.form is not Form.PROTOCOL:
            raise LocalProtocolError(f"{call.name} takes a list in the PROTOCOL form", rule="R-BLK-01")
        columns = block_list.columns
        address = columns[Key.BLOCK][0]
        if address in self.sent:
            raise LocalProtocolError(f"list {address:#x} is already in the hands of the driver below", rule="R-BLK-11")
        wire = dict(columns)
        wire.pop(Key.STATUS, None)
        handles = columns.get(Key.OFFLOAD_HANDLE)
        if handles is not None:
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
        if call.op and self.lent.pop(address, None) is None:
            raise LocalProtocolError(f"{call.name}: list {address:#x} was not given to this driver", rule="R-BLK-10")
        if call.op:
            if Key.STATUS not in columns:
                raise LocalProtocolError(f"{call.name}: Status was not written", rule="R-BLK-09")
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
    return lambda _: port.adapters.__setitem__(args[0], attributes["MiniportAdapterContext"])


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
    "ping": DriverPort._ping,
    "inspect": DriverPort._inspect,
    "control": DriverPort._control,
}
