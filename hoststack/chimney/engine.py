"""What every conversation of the driver needs: operations, handles, events, and waiting.

A conversation (``initiate``, ``query``, ``update``, ``data``, ``switch``, ...) is a module of functions that
take the engine. Their common state is here and in the state objects. The engine imports none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hoststack.chimney.adapter import Binding, Chimney
from hoststack.chimney.event_channel import EventChannel
from hoststack.chimney.frame_path import FramePath
from hoststack.chimney.send_data import settle_loss
from hoststack.model.events import HostEvent, OperationDone, Violation
from hoststack.model.life import LIFE, Event, State
from hoststack.model.objects import StateObject, Tcb
from hoststack.model.operation import Operation
from ndisbus.ddi.state_types import Layer
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import ProtocolDriver
from ndisbus.errors import ChimneyError, IllegalTransition
from ndisbus.lists.heap import NdisOffloadHandle

if TYPE_CHECKING:
    from hoststack.chimney.trees import Tree
    from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
    from ndisbus.lists.blocklist import BlockList
    from ndisbus.lists.nbl import NetBufferList

__all__ = ["Engine", "Posted", "Script"]

#: A composite operation: yields its operations one after the other, gets each back when it is done, and
#: returns the reason why it failed, or None.
Script = Generator[Operation, Operation, str | None]


@dataclass(slots=True, eq=False)
class Posted:
    """A net buffer list in the hands of the driver below."""

    tcb: Tcb
    kind: str
    nbl: NetBufferList
    #: A receive that asks for data of which the host knows that it waits below.
    owed: bool = False


@dataclass(slots=True, eq=False)
class _Waiting:
    """An operation that cannot begin yet. ``start`` tries to begin it, and returns whether it has begun."""

    operation: Operation
    start: Callable[[Operation], bool]
    cancelled: Callable[[Operation], None]


class Engine(ProtocolDriver):
    """The state of a host driver, and what its conversations share. ``HostDriver`` is the driver.

    ``parameters`` are set when the chimney is opened. ``upload_policy(tcb, reason)`` decides about the
    upload requests that a host may decline (R-EVT-06).
    """

    def __init__(
        self,
        parameters: NdisTcpConnectionOffloadParameters,
        upload_policy: Callable[[Tcb, int], bool],
    ) -> None:
        self.parameters = parameters
        self.upload_policy = upload_policy
        self.binding: Binding | None = None
        self.chimney = Chimney()
        self.frames = FramePath(self, self.violation)
        #: Every connection that was offloaded once and not forgotten since.
        self.tcbs: dict[Tcb, None] = {}
        #: Block lists in the hands of the driver below, by the address of the root.
        self.pending: dict[int, Operation] = {}
        self.waiting: list[_Waiting] = []
        #: Net buffer lists in the hands of the driver below, by their address.
        self.posted: dict[int, Posted] = {}
        #: Lists of indications and uploads that are to be returned by NdisOffloadTcpReceiveReturn.
        self.returns: list[int] = []
        #: Objects to be terminated as soon as possible.
        self.uploads: dict[StateObject, None] = {}
        #: Objects whose terminate failed, with the time until which a second one is expected (R-DIS-43).
        self.limbo: dict[StateObject, float] = {}
        #: When :meth:`soon` wants on_timer to be called.
        self.due: float | None = None
        self.events = EventChannel()
        self.violations = 0
        #: Segments that were dropped because too many were held back for a moving connection.
        self.segments_dropped = 0
        self._next_id = 0
        self._retrying = False

    # -- events --------------------------------------------------------------------------------

    def emit(self, event: HostEvent) -> None:
        """Tell the subscribers of an event, and queue it for callers that poll."""
        self.events.emit(event)

    def violation(self, rule: str, text: str) -> None:
        """Count and report a rule that the driver below broke and that only this side can see."""
        self.violations += 1
        self.emit(Violation(self.ndis.now(), rule, text))

    def soon(self) -> None:
        """Have on_timer called as soon as the messages that have arrived are handled."""
        self.due = self.ndis.now()

    def why_gone(self) -> str:
        """Say why nothing can be asked of the adapter now; ``""`` if it can.

        A binding that ends is still there until NDIS has closed it, but nothing new may name it.
        """
        if self.binding is None:
            return "the host is not bound to an adapter"
        if self.binding.unbinding:
            return f"the binding to {self.binding.adapter} is being closed"
        return ""

    # -- operations ----------------------------------------------------------------------------

    def new_operation(self, op: str, objects: Sequence[StateObject] = ()) -> Operation:
        """Make an operation with the next number."""
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
        """Finish an operation: report it, then begin the operations that waited for its objects."""
        operation.finish()
        self.emit(OperationDone(self.ndis.now(), operation))
        operation.call_back()
        if self.uploads:
            self.soon()
        self.retry()

    def refuse(self, operation: Operation, status: int, reason: str) -> Operation:
        """Finish an operation that is not passed down; its outcome carries the reason."""
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
        """Begin an operation, or let it wait until the operations in its way have completed.

        The objects of a waiting operation are claimed: no other operation may begin on them.
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
                        continue  # cancelled by an operation that began in this loop
                    # It does not wait while it begins: it may be done, and called back, before this returns.
                    index = self.waiting.index(entry)
                    del self.waiting[index]
                    try:
                        started = entry.start(entry.operation)
                    except ChimneyError as e:
                        # The call that started it has returned: the error becomes the outcome.
                        self.waiting.append(entry)
                        self.cancel(entry, int(NdisStatus.FAILURE), str(e))
                        started = True
                    if started:
                        again = True
                    else:
                        self.waiting.insert(index, entry)
        finally:
            self._retrying = False

    def cancel(self, entry: _Waiting, status: int, reason: str) -> None:
        """Refuse a waiting operation."""
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
        """Run a script as one operation. If the script returns a reason, the operation is refused with it.

        Raises what the script raises before its first operation.
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
                    raise  # the caller is still waiting for this call to return
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
        """Raise :class:`IllegalTransition` if a waiting operation has claimed one of the objects."""
        for obj in objects:
            if obj.waiting is not None:
                raise IllegalTransition(repr(obj), f"{obj.state}, waiting to {obj.waiting}", event)

    def drop_handle(self, obj: StateObject) -> None:
        """Free the NDIS_OFFLOAD_HANDLE of an object that is not offloaded any more."""
        if obj.handle is not None:
            self.ndis.heap.free(obj.handle.address)
            obj.handle = None

    def held(self, layer: Layer | None = None) -> list[StateObject]:
        """The objects that have a handle: offloaded, or on their way down or up."""
        owners = [h.owner for h in self.ndis.heap.objects.values() if isinstance(h, NdisOffloadHandle)]
        return [o for o in owners if isinstance(o, StateObject) and (layer is None or layer is o.LAYER)]

    def count_loss(self, obj: StateObject) -> None:
        """Count a connection that was lost through the binding."""
        if self.binding is not None and isinstance(obj, Tcb):
            self.binding.lost += 1

    def lose(self, obj: StateObject) -> None:
        """Take an object back whose delegated state was lost with the driver below.

        The driver may have served a connection that was on offer, too (R-CONC-03), so that is lost as well.
        """
        if obj.state not in (State.NEW, State.GONE):
            obj.lost = obj.lost or obj.state is not State.OFFLOADING or isinstance(obj, Tcb)
            LIFE.advance(obj, Event.LOST)
            self.count_loss(obj)
        obj.queries = 0
        obj.waiting = None
        self.drop_handle(obj)
        if isinstance(obj, Tcb):
            for address in settle_loss(obj):
                self.posted.pop(address, None)
