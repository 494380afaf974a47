"""The part of a host driver that every conversation needs: operations, handles, events, waiting.

The conversations (:mod:`hoststack.chimney.initiate`, ``query``, ``update``, ``invalidate``, ``terminate``,
``upload``, ``chimney``, ``io``) are modules of functions that take the engine; they keep their state here
and in the objects, and know one another only through it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from hoststack.chimney.event_channel import EventChannel
from hoststack.chimney.send_data import settle_loss
from hoststack.model.events import HostEvent, OperationDone, Violation
from hoststack.model.life import LIFE, Event, State
from hoststack.model.objects import StateObject, Tcb
from hoststack.model.operation import Operation
from ndisbus.ddi.enums import Layer
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import ProtocolDriver
from ndisbus.errors import ChimneyError, IllegalTransition
from ndisbus.lists.heap import NdisOffloadHandle

if TYPE_CHECKING:
    from hoststack.chimney.trees import Tree
    from ndisbus.ddi.structures import NdisTcpConnectionOffload
    from ndisbus.lists.blocklist import BlockList
    from ndisbus.lists.nbl import NetBufferList

__all__ = ["Binding", "Chimney", "ChimneyState", "Engine", "Posted", "Script"]

#: A composite operation: yields the operations it is made of, one after the other, and returns the
#: reason why it could not do what it should, or None.
Script = Generator[Operation, Operation, str | None]


@dataclass(slots=True, eq=False)
class Binding:
    """The binding to one adapter. ``context`` is what NDIS gives back as ProtocolBindingContext.

    ``mac``, ``mtu`` and ``link_speed`` (bits per second) are what the adapter says of itself, or None.
    """

    context: int
    handle: int
    adapter: str
    capabilities: NdisTcpConnectionOffload | None
    epoch: int
    unbinding: bool = False
    mac: bytes | None = None
    mtu: int | None = None
    link_speed: int | None = None


@dataclass(slots=True, eq=False)
class Posted:
    """A net buffer list in the hands of the driver below."""

    tcb: Tcb
    kind: str
    nbl: NetBufferList


@dataclass(slots=True, eq=False)
class _Waiting:
    """An operation that cannot begin yet; ``start`` says whether it has begun."""

    operation: Operation
    start: Callable[[Operation], bool]
    cancelled: Callable[[Operation], None]


ChimneyState = Literal["unbound", "asking", "enabled", "paused", "refused", "disabled"]


@dataclass(slots=True)
class Chimney:
    """The switch, what is behind it, and why it stands where it does."""

    state: ChimneyState = "unbound"
    status: int = int(NdisStatus.SUCCESS)
    reason: str = ""
    capacity: int = 0
    #: When to ask again after somebody else had it, and how long to wait the next time (seconds).
    retry_at: float | None = None
    retry_delay: float = 0.0
    #: Operations that upload everything at the moment; nothing new is offloaded meanwhile.
    draining: int = 0
    oids: dict[int, Operation] = field(default_factory=dict)


class Engine(ProtocolDriver):
    """Operations and what they need. Not a driver by itself: ``HostDriver`` is."""

    def __init__(self) -> None:
        self.binding: Binding | None = None
        self.chimney = Chimney()
        #: Every connection that was offered and not forgotten.
        self.tcbs: dict[Tcb, None] = {}
        #: Lists in the hands of the driver below: address of the root -> operation.
        self.pending: dict[int, Operation] = {}
        self.waiting: list[_Waiting] = []
        self.posted: dict[int, Posted] = {}
        #: Lists of indications and uploads that go back by NdisOffloadTcpReceiveReturn.
        self.returns: list[int] = []
        #: Objects to be terminated as soon as possible.
        self.uploads: dict[StateObject, None] = {}
        #: Objects whose terminate failed: until when a second one is expected (R-DIS-43), seconds.
        self.limbo: dict[StateObject, float] = {}
        self.due: float | None = None
        self.events = EventChannel()
        self.violations = 0
        #: Segments for connections on their way that were too many to be held back.
        self.segments_dropped = 0
        self._next_id = 0
        self._retrying = False

    # -- events --------------------------------------------------------------------------------

    def emit(self, event: HostEvent) -> None:
        """Tell the subscribers of an event, and queue it for callers that poll."""
        self.events.emit(event)

    def violation(self, rule: str, text: str) -> None:
        """The driver below broke a rule that is seen here only."""
        self.violations += 1
        self.emit(Violation(self.ndis.now(), rule, text))

    def soon(self) -> None:
        """Have on_timer called as soon as the messages at hand are handled."""
        self.due = self.ndis.now()

    # -- operations ----------------------------------------------------------------------------

    def new_operation(self, op: str, objects: Sequence[StateObject] = ()) -> Operation:
        """An operation with a number of its own."""
        self._next_id += 1
        return Operation(self._next_id, op, objects)

    def pass_down(self, operation: Operation, function: Callable[[int, BlockList], None], tree: Tree) -> None:
        """Give a list to the driver below; its completion finds the operation by the list's address."""
        assert self.binding is not None
        operation.aligned = tree.named
        operation.blocks = len(tree.named)
        self.pending[tree.block_list.address] = operation
        function(self.binding.handle, tree.block_list)

    def finish(self, operation: Operation) -> None:
        """An operation is over: tell whoever waits, then begin what waited for its objects."""
        operation.finish()
        self.emit(OperationDone(self.ndis.now(), operation))
        operation.call_back()
        if self.uploads:
            self.soon()
        self.retry()

    def refuse(self, operation: Operation, status: int, reason: str) -> Operation:
        """Nothing goes down; the outcome carries the reason."""
        operation.refused = reason
        operation.statuses = [int(status)] * (len(operation.objects) or 1)
        self.finish(operation)
        return operation

    def begin_or_wait(
        self,
        operation: Operation,
        event: Event,
        start: Callable[[Operation], bool],
        cancelled: Callable[[Operation], None] = lambda _: None,
    ) -> Operation:
        """Begin an operation, or let it wait until what stands in its way has completed.

        The objects of a waiting operation are spoken for: nothing else may begin on them.
        """
        if not start(operation):
            for obj in operation.objects:
                obj.waiting = event
            self.waiting.append(_Waiting(operation, start, cancelled))
        return operation

    def retry(self) -> None:
        """Begin the waiting operations that can begin now, in their order."""
        if self._retrying or not self.waiting or self.binding is None:
            return
        self._retrying = True
        try:
            again = True
            while again:
                again = False
                for entry in list(self.waiting):
                    if entry not in self.waiting:
                        continue  # cancelled by one that was begun just now
                    try:
                        started = entry.start(entry.operation)
                    except ChimneyError as e:
                        # Its caller is long gone: the error becomes the outcome.
                        self.cancel(entry, int(NdisStatus.FAILURE), str(e))
                        again = True
                        continue
                    if started:
                        self.waiting.remove(entry)
                        again = True
        finally:
            self._retrying = False

    def cancel(self, entry: _Waiting, status: int, reason: str) -> None:
        """A waiting operation will not begin any more."""
        self.waiting.remove(entry)
        for obj in entry.operation.objects:
            obj.waiting = None
        entry.cancelled(entry.operation)
        self.refuse(entry.operation, status, reason)

    def cancel_waiting(self, op: str, status: int, reason: str) -> None:
        """Cancel the waiting operations of one kind, or all (``op == ""``)."""
        for entry in list(self.waiting):
            if entry in self.waiting and op in ("", entry.operation.op):
                self.cancel(entry, status, reason)

    def compose(self, op: str, script: Script) -> Operation:
        """Run a script as one operation; a reason that the script returns is its refusal.

        Raises what the script raises at its beginning.
        """
        whole = self.new_operation(op)

        def step(part: Operation | None) -> None:
            try:
                following = next(script) if part is None else script.send(part)
            except StopIteration as stop:
                whole.refused = stop.value
                self.finish(whole)
            except ChimneyError as e:
                if part is None:
                    raise  # the caller is still there to hear of it
                whole.refused = str(e)
                self.finish(whole)
            else:
                following.when_done(step)

        step(None)
        return whole

    # -- objects -------------------------------------------------------------------------------

    def connection_of(self, offload_context: int) -> Tcb | None:
        """The connection that an OffloadContext belongs to; None if it belongs to none."""
        handle = self.ndis.heap.objects.get(offload_context)
        owner = handle.owner if isinstance(handle, NdisOffloadHandle) else None
        return owner if isinstance(owner, Tcb) else None

    def unclaimed(self, objects: Iterable[StateObject], event: Event) -> None:
        """Raise :class:`IllegalTransition` if a waiting operation has spoken for one of the objects."""
        for obj in objects:
            if obj.waiting is not None:
                raise IllegalTransition(repr(obj), f"{obj.state}, waiting to {obj.waiting}", event)

    def drop_handle(self, obj: StateObject) -> None:
        """The object is offloaded no longer: its NDIS_OFFLOAD_HANDLE is freed."""
        if obj.handle is not None:
            self.ndis.heap.free(obj.handle.address)
            obj.handle = None

    def held(self, layer: Layer | None = None) -> list[StateObject]:
        """The objects that have a handle: offloaded, or on their way down or up."""
        owners = [h.owner for h in self.ndis.heap.objects.values() if isinstance(h, NdisOffloadHandle)]
        return [o for o in owners if isinstance(o, StateObject) and (layer is None or layer is o.LAYER)]

    def lose(self, obj: StateObject) -> None:
        """The driver below is gone, and what it knew with it: the object is the host's again."""
        if obj.state not in (State.NEW, State.GONE):
            obj.lost = obj.lost or obj.state is not State.OFFLOADING
            LIFE.advance(obj, Event.LOST)
        obj.queries = 0
        obj.waiting = None
        self.drop_handle(obj)
        if isinstance(obj, Tcb):
            for address in settle_loss(obj):
                self.posted.pop(address, None)
