"""The driver's side of NDIS, sans-I/O: one port hosts one driver.

Messages from the bus go in by :meth:`DriverPort.receive`. Messages to the bus are collected in ``outbox``.
The process runtime and the simulation move them. Where real drivers share memory, a message carries what was
written. The port applies it to the driver's own objects before it calls the handler. So a driver's code reads
as if the memory were shared.

When the bus has gone, or closes this driver's epoch, the port takes the place of NDIS. It fails what the
driver waits for through the ordinary handlers, unbinds it and halts its adapters
(:mod:`ndisbus.driver.teardown`). So a driver loses its neighbors in one way only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ndisbus.ddi.call import BLOCKS_MINIPORT, BLOCKS_PROTOCOL, NBL, Call, python_name
from ndisbus.ddi.call_rows import PACKET_SEND
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import Answer, Driver, Reply, Steps, kind_of
from ndisbus.driver.ndis import Ndis
from ndisbus.driver.notes import NOTES
from ndisbus.driver.replies import Replies, refusal
from ndisbus.driver.shared_memory import SharedMemory
from ndisbus.errors import ChimneyError, LocalProtocolError, RemoteProtocolError
from ndisbus.lists.blocklist import BlockList, Key
from ndisbus.lists.heap import Heap
from ndisbus.lists.validate import MAX_BLOCKS
from ndisbus.messages.codec import PROTOCOL_VERSION, RETURN, Message
from ndisbus.messages.parts import PART, PARTS_KEY, Assembly

__all__ = ["DriverPort", "Ndis", "Outgoing"]

#: A message and its payload frames.
Outgoing = tuple[Message, Sequence[bytes]]

#: A handler: the bound method, its call, its parameters that are memory, whether it is answered, and
#: whether the port records it.
_Entry = tuple[Any, Call, tuple[tuple[int, str], ...], bool, bool]

_NOTICED = frozenset(
    (
        "MiniportHaltEx",
        "MiniportInitializeEx",
        "ProtocolBindAdapterEx",
        "ProtocolCloseAdapterCompleteEx",
        "ProtocolOidRequestComplete",
    )
)


def _memory_of(call: Call) -> tuple[tuple[int, str], ...]:
    """Return the parameters that carry lists, by index."""
    return tuple((i, p.carries) for i, p in enumerate(call.params) if p.carries in _LISTS)


_LISTS = (BLOCKS_MINIPORT, BLOCKS_PROTOCOL, NBL)
#: Functions that a driver may call: the call, what its parameters carry, whether it is answered.
_PLANS = {
    c.name: (c, tuple(p.carries for p in c.params), c.answered) for c in CALLS.values() if c.from_driver
}


class DriverPort(SharedMemory):
    """Hosts one driver; see the docstring of the module.

    ``identity`` goes into the hello: name, pid and the like (docs/protocol.md, "Hello and goodbye").
    """

    def __init__(self, driver: Driver, identity: dict[str, Any]) -> None:
        super().__init__()
        self.driver = driver
        self.identity = identity
        self.outbox: list[Outgoing] = []
        self.attached = False
        #: Whether the driver gives back what it holds, because its process ends.
        self.departing = False
        self.now = 0.0
        #: Called by handlers that take long; see :meth:`Ndis.working`.
        self.working: Callable[[], None] = lambda: None
        self.epoch = 0
        #: The highest epoch that this driver had or was shown. A later bus begins above it.
        self._last_epoch = 0
        #: What the bus said when it admitted us (limits, seed) or closed the epoch (reason, report).
        self.ready_info: dict[str, Any] = {}
        self.closed_info: dict[str, Any] | None = None
        #: Refusals without a call that waits: of a hello, or of a late message.
        self.refusals: list[dict[str, Any]] = []
        self.replies = Replies()
        #: Binding handle -> ProtocolBindingContext; miniport handle -> MiniportAdapterContext.
        self.bindings: dict[int, int] = {}
        self.adapters: dict[int, int] = {}
        #: Adapters being initialised: call id -> miniport handle, and their contexts as far as known.
        self._initializing: dict[int | None, int] = {}
        self.attributed: dict[int, int] = {}
        self._handlers: dict[str, _Entry] = {}
        self._assembly = Assembly(MAX_BLOCKS)
        self.passes_on = kind_of(driver) == "intermediate"
        self.ndis = Ndis(self)
        driver.ndis = self.ndis

    # -- the connection ------------------------------------------------------------------------

    def hello(self) -> None:
        """Ask the bus to admit this driver."""
        self.closed_info = None
        identity = {**self.identity, PARTS_KEY: True}
        if self._last_epoch:
            identity["LastEpoch"] = self._last_epoch
        self.outbox.append((["hello", self.replies.next_id(), [PROTOCOL_VERSION, identity]], ()))

    def depart(self) -> None:
        """Let the driver give back what it holds; see :meth:`departed`."""
        self.departing = self.attached and self.driver.depart()

    def departed(self) -> bool:
        """Return whether the driver has nothing to give back, or gives nothing back."""
        return not (self.attached and self.departing) or self.driver.departed()

    def goodbye(self) -> None:
        """Leave in an orderly way. The bus treats it as a removal at once."""
        if self.attached:
            idle = [{"Idle": True}] if self.departing and self.driver.departed() else []
            self.outbox.append((["goodbye", None, idle], ()))

    def control(self, verb: str, arguments: dict[str, Any]) -> Reply:
        """Send a control request on the driver's own connection (docs/protocol.md, "Control requests").

        Its answer is (0, result), or (NDIS_STATUS_FAILURE, reason) if the bus refuses.
        """
        call_id, reply = self.replies.expect("control")
        self.outbox.append((["control", call_id, [verb, arguments]], ()))
        return reply

    def drain(self) -> list[Outgoing]:
        """Return what is to be sent, and forget it."""
        out, self.outbox = self.outbox, []
        return out

    def lost(self, reason: str, now: float) -> None:
        """Handle the loss of the bus or the epoch: fail what is in flight, keep the driver's own objects."""
        from ndisbus.driver.teardown import tear_down  # noqa: PLC0415 - it needs the port

        self.now = now
        self._assembly.clear()
        if self.attached:
            self.attached = False
            self._initializing.clear()
            self.attributed.clear()
            tear_down(self, reason)
        self.outbox.clear()

    def next_deadline(self) -> float | None:
        """Return when :meth:`on_timer` is due; None: never."""
        return self.driver.next_deadline()

    def on_timer(self, now: float) -> None:
        """Run the driver's timers."""
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
            if name == PART:
                joined = self._assembly.add(message, frames)
                if joined is not None:
                    self.receive(*joined, now)
                return
            call = CALLS.get(name)
            if call is None or call.from_driver:
                raise RemoteProtocolError(f"the bus sent '{name}', which is not a handler")
            handler = getattr(self.driver, python_name(name), None)
            if handler is None:
                raise RemoteProtocolError(f"the bus sent '{name}', for which this driver has no edge")
            entry = self._handlers[name] = (handler, call, _memory_of(call), call.answered, name in _NOTICED)
        handler, call, memory, answered, noticed = entry
        for i, carries in memory:
            if args[i] is None:
                continue
            if carries == BLOCKS_MINIPORT:
                args[i] = self.accept(args[i], frames)
            elif carries == BLOCKS_PROTOCOL:
                args[i] = self.take_back(call, args[i], frames)
            elif call.op == PACKET_SEND.op and not call.completed_by and self.is_stale(args[0], args[i]):
                return
            else:
                args[i] = self.take_nbls(call, args[i], frames)
        if noticed:
            self._notice(name, call_id, args)
        result = handler(*args)
        if answered:
            if hasattr(result, "send"):
                self._step(result, call_id, None)
            else:
                self._answer(call_id, result)
        elif result is not None and hasattr(result, "send"):
            self._step(result, None, None)

    def _notice(self, name: str, call_id: int | None, args: list[Any]) -> None:
        """Record what a teardown or the next hello would need."""
        if name == "MiniportHaltEx":
            self.adapters = {h: c for h, c in self.adapters.items() if c != args[0]}
        elif name == "ProtocolOidRequestComplete":
            self._oid_completed(args[0], args[1])
        elif name == "ProtocolCloseAdapterCompleteEx":
            if not self.bindings:
                self.sent_along.clear()  # lists that a dead driver had came back with their connections
            self.forget_sends(args[0])
        else:
            # An adapter to initialise, or one to bind to.
            self._last_epoch = max(self._last_epoch, args[2].get("Epoch", 0))
            if name == "MiniportInitializeEx":
                self._initializing[call_id] = args[0]

    def _oid_completed(self, context: int, request: dict[str, Any]) -> None:
        """Remove an OID request from the books. Its RequestId is the requester's, and may not be unique."""
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
        if handle is not None and result[0] == NdisStatus.SUCCESS and handle in self.attributed:
            # Only an adapter whose initialisation succeeded is ever halted.
            self.adapters[handle] = self.attributed.pop(handle)
        values: list[Any] = []
        for v in result:
            if isinstance(v, BlockList):
                cols = {k: c for k, c in v.columns.items() if k in (Key.BLOCK, Key.STATE, Key.STATUS)}
                values.append(cols)
            else:
                values.append(int(v) if isinstance(v, int) and not isinstance(v, bool) else v)
        self.outbox.append(([RETURN, call_id, values], frames))

    def _step(self, generator: Steps, call_id: int | None, answer: Answer | None) -> None:
        """Run a generator handler until it waits again or has ended."""
        while True:
            try:
                reply = generator.send(answer)  # type: ignore[arg-type]
            except StopIteration as stop:
                if call_id is not None:
                    self._answer(call_id, stop.value)
                return
            if reply.answer is None:
                self.replies.suspend(reply, generator, call_id)
                return
            answer = reply.answer

    def step(self, generator: Steps) -> None:
        """Run a generator handler whose result is not needed."""
        self._step(generator, None, None)

    def _returned(self, call_id: int | None, answer: Answer) -> None:
        reply = self.replies.answered(call_id)
        if reply is not None:
            self.resume(reply, answer)

    def resume(self, reply: Reply, answer: Answer) -> None:
        """Handle an answer: record what NDIS gave out, and resume the handler that waits."""
        reply.answer = answer
        if reply.note is not None and answer[0] == 0:
            reply.note(answer)
        waiting = self.replies.wake(reply)
        if waiting is not None:
            self._step(*waiting, answer)

    # -- from the driver -----------------------------------------------------------------------

    def call(self, name: str, *args: Any) -> Reply | None:
        """Call an NDIS function by its DDI name. All methods of :class:`Ndis` use this.

        Returns a :class:`Reply` for functions that return something. Raises :class:`LocalProtocolError` if
        the call breaks a rule that can be checked here.
        """
        plan = _PLANS.get(name)
        if plan is None:
            raise LocalProtocolError(f"{name} is not a function that NDIS offers")
        call, carried, answered = plan
        if len(args) != len(carried):
            raise LocalProtocolError(f"{name} takes {len(carried)} parameters, {len(args)} were given")
        if not self.attached:
            from ndisbus.driver.teardown import local_call  # noqa: PLC0415 - it needs the port

            return local_call(self, call, args)
        params, frames = self.outgoing(call, carried, args)
        if name == "NdisOidRequest":
            self.sent_oids.append((args[0], params[1]))
        reply: Reply | None = None
        call_id = None
        if answered:
            note = NOTES[name](self, args) if name in NOTES else None
            call_id, reply = self.replies.expect(name, note)
        message: Message = [name, call_id, params]
        if frames:
            message.append(len(frames))
        self.outbox.append((message, frames))
        return reply

    # -- control messages of the bus -----------------------------------------------------------

    def _ready(self, call_id: int | None, args: list[Any]) -> None:
        info = args[0]
        self.ready_info = info
        self.epoch = info["Epoch"]
        self._last_epoch = max(self._last_epoch, self.epoch)
        self.divides = info.get(PARTS_KEY) is True
        self.ndis.heap = Heap(info["AddressSpace"])
        self.attached = True
        if (steps := self.driver.driver_entry()) is not None:
            self._step(steps, None, None)

    def _closed(self, call_id: int | None, args: list[Any]) -> None:
        self.closed_info = args[0]
        self.lost(str(args[0].get("Reason", "the bus closed this epoch")), self.now)

    def _refused(self, call_id: int | None, args: list[Any]) -> None:
        """Handle a refused message: answer the call that waits, or record the refusal."""
        reply = self.replies.refused(call_id)
        if reply is not None:
            self.resume(reply, refusal(reply.name, args[0]["Reason"]))
        elif not self.replies.given_up(call_id):
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


_CONTROL: dict[str, Any] = {
    "ready": DriverPort._ready,
    "closed": DriverPort._closed,
    "refused": DriverPort._refused,
    "ping": DriverPort._ping,
    "inspect": DriverPort._inspect,
    "control": DriverPort._control,
}
