"""The five state-manipulation operations on their way down, through a binding.

NDIS checks the list, records what it lends, and changes the PROTOCOL form into the MINIPORT form by replacing
a few columns. :mod:`ndisbus.core.completions` has the way up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.lent import failed_columns, same
from ndisbus.core.model import AdapterState, Request
from ndisbus.core.sizes import why_too_large
from ndisbus.core.violation import Violation
from ndisbus.ddi.call_rows import STATE_OPERATIONS, OperationRow
from ndisbus.ddi.state_types import Layer
from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.blocklist import Key
from ndisbus.lists.heap import ADDRESS_BITS, space_of
from ndisbus.lists.nbl_chain import chain_addresses
from ndisbus.lists.validate import DOWN_COLUMNS, check_columns, check_nodes, check_tree

if TYPE_CHECKING:
    from ndisbus.core.clock import Clock
    from ndisbus.core.model import Binding, Client, Handler, Handlers, Injected
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.registry import Registry
    from ndisbus.core.request_books import RequestBooks
    from ndisbus.core.terminator import Terminator
    from ndisbus.messages.codec import Message

__all__ = ["Requests"]

_FAILURE: Final = int(NdisStatus.FAILURE)


class Requests:
    """Serves requests on block lists."""

    __slots__ = ("books", "clock", "injected", "out", "registry", "terminator")

    def __init__(
        self,
        clock: Clock,
        out: Outbound,
        registry: Registry,
        injected: Injected,
        books: RequestBooks,
        terminator: Terminator,
    ) -> None:
        self.clock = clock
        self.out = out
        self.registry = registry
        self.injected = injected
        self.books = books
        self.terminator = terminator

    def handlers(self) -> Handlers:
        """Return the handlers by name of call."""
        return {o.request: self._down(o) for o in STATE_OPERATIONS}

    def _down(self, operation: OperationRow) -> Handler:
        """Return the handler of a request such as NdisInitiateOffload."""
        where = f"{operation.request}.OffloadBlockList"

        def down(client: Client, message: Message, frames: Sequence[bytes]) -> None:
            handle, wire = message[2]
            columns = check_columns(wire, where, DOWN_COLUMNS)
            context = client.ended.crossed(handle)
            if context is not None:
                self._too_late(client, operation, handle, context, columns)
                return
            binding = self.registry.binding_of(client, handle)
            request = self._examine(operation, where, client, binding, columns)
            status = self.injected.status
            refusal = self._why_not(request) or why_too_large(request, frames)
            if status is not None and not refusal:
                if operation.op == "terminate":
                    # It fails only for the driver above. Objects offloaded below must still be terminated.
                    request.verdict = status
                else:
                    self._refuse_request(request, "a fault was injected", status)
                    return
            if refusal:
                self._refuse_request(request, refusal)
                return
            self.books.pass_down(request, frames)

        return down

    def _examine(
        self, operation: OperationRow, where: str, client: Client, binding: Binding, columns: dict[str, Any]
    ) -> Request:
        """Check a request's list and record what is lent with it."""
        blocks: list[int] = columns[Key.BLOCK]
        n = len(blocks)
        root = blocks[0]
        low = client.space << ADDRESS_BITS
        high = low + (1 << ADDRESS_BITS)
        adapter = binding.adapter
        twin = adapter.requests.get(root)
        if twin is not None and twin.binding.protocol is client:
            raise Violation(
                "OffloadBlockList", f"list {root:#x} is already outstanding on {adapter.name}", "R-BLK-11"
            )
        if low <= root < high:
            if n > 1 and not (low <= min(blocks) and max(blocks) < high):
                raise Violation(
                    "OffloadBlockList.Block",
                    "a block does not lie in the address space of the driver",
                    "R-BLK-11",
                )
            layers = check_tree(columns, where)
        else:
            upper = self._lent_to(client, root)
            if upper is None or upper.blocks != blocks:
                raise Violation(
                    "OffloadBlockList.Block",
                    f"{root:#x} neither lies in the address space of {client.name} nor was lent to it",
                    "R-BLK-11",
                )
            if upper.operation is not operation:
                given = upper.operation
                reason = f"{root:#x} was given by {given.handler}; pass it on by {given.request}"
                raise Violation("OffloadBlockList", reason, "R-IM-01")
            for key in (Key.NEXT, Key.DEPENDENT, Key.TYPE):
                if not same(columns.get(key), upper.columns.get(key), n):
                    raise Violation(
                        f"OffloadBlockList.{key}", "a list was changed on its way down", "R-IM-04"
                    )
            layers = upper.layers
        handles = columns.pop(Key.OFFLOAD_HANDLE, None)
        cells = columns.pop(Key.HANDLE_CELL, None)
        contexts = columns.get(Key.CONTEXT)
        if type(handles) is not list:
            handles = [handles] * n
        if type(cells) is not list:
            cells = [cells] * n
        if type(contexts) is not list:
            contexts = [contexts] * n
        for key, col in ((Key.OFFLOAD_HANDLE, handles), (Key.HANDLE_CELL, cells)):
            if n == 1:
                if col[0] is None or low <= col[0] < high:
                    continue
            else:
                held = col if None not in col else [v for v in col if v is not None]
                if not held or (low <= min(held) and max(held) < high):
                    continue
            raise Violation(
                f"OffloadBlockList.{key}", "points into the address space of another driver", "R-HND-07"
            )
        if n == 1:
            paired = (handles[0] is None) is (cells[0] is None)
        else:
            paired = [h is None for h in handles] == [c is None for c in cells]
        if not paired:
            raise Violation(
                "OffloadBlockList.OffloadHandle", "a handle without a cell, or the reverse", "R-IM-08"
            )
        self._check_objects(operation, binding, handles, contexts, layers)
        request = Request(
            operation, binding, root, blocks, layers, handles, cells, contexts, columns, self.clock.now
        )
        if operation.op == "initiate":
            check_nodes(columns, handles, contexts, where)
            if columns.get(Key.NBL_CHAIN) is not None:
                request.chains = self._send_data(client, request, where)
        return request

    def _send_data(self, client: Client, request: Request, where: str) -> dict[int, list[int]]:
        """Record send data that goes down with new connections. It comes back as sends do (R-OSD-10)."""
        columns = request.columns
        attached = chain_addresses(columns.get(Key.NET_BUFFER_LISTS) or (), f"{where}.NetBufferLists")
        pointers = columns[Key.NBL_CHAIN]
        if type(pointers) is not list:
            pointers = [pointers] * len(request.blocks)
        chains: dict[int, list[int]] = {}
        held = request.binding.adapter.nbls
        for i, (handle, pointer) in enumerate(zip(request.handles, pointers, strict=True)):
            if pointer is None:
                continue
            at = f"OffloadBlockList.NetBufferListChain[{i}]"
            if handle is None or request.contexts[i] is not None or request.layers[i] != Layer.TCP:
                raise Violation(at, "only a connection that is being offloaded brings send data", "R-BLK-14")
            if pointer not in attached:
                raise Violation(at, f"{pointer:#x} does not name a list of this message", "R-BLK-14")
            chains[handle] = attached.pop(pointer)
            for a in chains[handle]:
                if space_of(a) != client.space and not any(a in own.nbls for own in client.adapters):
                    raise Violation(at, f"{a:#x} does not lie in the address space of the driver", "R-IM-10")
                if a in held:
                    raise Violation(at, f"{a:#x} is already outstanding on {request.binding.adapter.name}")
        return chains

    def _lent_to(self, client: Client, root: int) -> Request | None:
        for adapter in client.adapters:
            request = adapter.requests.get(root)
            if request is not None:
                return request
        return None

    def _check_objects(
        self,
        operation: OperationRow,
        binding: Binding,
        handles: list[int | None],
        contexts: list[int | None],
        layers: list[int],
    ) -> None:
        """Check that named objects are offloaded through this binding, and that offered ones are not yet."""
        objects, offloading, terminating = binding.objects, binding.offloading, binding.terminating
        initiating = operation.op == "initiate"
        if len(handles) > 16 and _in_order(operation.op, binding, handles, contexts, layers):
            return
        for handle, context, layer in zip(handles, contexts, layers):  # noqa: B905 - made equally long above
            if handle is None:
                continue
            if offloading and handle in offloading:
                rule = "R-INIT-02" if initiating else "R-CONC-01"
                raise Violation("OffloadBlockList.OffloadHandle", f"{handle:#x} is being offloaded", rule)
            if context is None:
                if not initiating:
                    reason = f"{handle:#x} does not name an offloaded object: its cell holds NULL"
                    raise Violation("OffloadBlockList.OffloadHandle", reason, "R-HND-04")
                if handle in objects:
                    raise Violation(
                        "OffloadBlockList.OffloadHandle", f"{handle:#x} is already offloaded", "R-INIT-02"
                    )
                continue
            known = objects.get(handle)
            if known is None and operation.op == "terminate":
                known = binding.lost.get(handle)  # its first terminate failed; one more may follow (R-DIS-43)
                if known is None and handle in binding.swept:
                    continue
            if known is None and not binding.adapter.alive:
                continue  # it was lost with its adapter: the request fails and is not passed down
            if known is None:
                raise Violation(
                    "OffloadBlockList.OffloadHandle",
                    f"{handle:#x} is not offloaded through this binding",
                    "R-HND-04",
                )
            if known != (layer, context):
                if known[1] == context:
                    stands, belongs = Layer(layer).name, Layer(known[0]).name
                    reason = f"the object {handle:#x} is of layer {belongs}, its block of layer {stands}"
                    raise Violation("OffloadBlockList.Type", reason, "R-BLK-05")
                raise Violation(
                    "OffloadBlockList.*MiniportOffloadContext",
                    f"the cell of {handle:#x} holds {context:#x}, the driver below stored {known[1]:#x}",
                    "R-HND-04",
                )
            if terminating and handle in terminating and handle not in binding.swept:
                raise Violation(
                    "OffloadBlockList.OffloadHandle", f"{handle:#x} is being terminated", "R-HND-04"
                )
        if (initiating or operation.op == "terminate") and len(handles) > 1:
            named = [h for h in handles if h is not None] if None in handles else handles
            if len(set(named)) != len(named):
                twice = next(h for h, count in Counter(named).items() if count > 1)
                reason = f"two blocks of the list name {twice:#x}"
                raise Violation("OffloadBlockList.OffloadHandle", reason, "R-HND-07")

    def _why_not(self, request: Request) -> str:
        """Return why a request is not passed down and fails at once; "" if it is passed down."""
        binding, adapter = request.binding, request.binding.adapter
        if not adapter.alive:
            return f"adapter {adapter.name} is gone"
        if request.root in adapter.requests:
            # The driver that passed it down before is dead. The driver below has not handed it back yet.
            return f"{adapter.driver.name} still has list {request.root:#x}"
        if request.operation.op == "terminate" and any(h in binding.swept for h in request.handles):
            return "NDIS terminated its objects, since the second terminate did not come in time"
        if request.operation.op != "initiate":
            return ""
        if adapter.state is not AdapterState.UP:
            return f"adapter {adapter.name} is closing"
        if not adapter.driver.handlers >= {"provider-generic", "provider-tcp"}:
            return f"{adapter.driver.name} has not registered chimney handlers [R-REG-10]"
        if not binding.protocol.handlers >= {"client-generic", "client-tcp"}:
            return f"{binding.protocol.name} has not registered chimney handlers [R-REG-02]"
        if adapter.chimney_owner is not binding:
            owner = adapter.chimney_owner
            who = f"{owner.protocol.name} has" if owner else "no protocol has"
            return f"{binding.protocol.name} has not enabled the chimney of {adapter.name} ({who}) [R-OID-08]"
        return ""

    def _refuse_request(self, request: Request, reason: str, status: int = _FAILURE) -> None:
        """Fail a request that was not passed down, with ``status`` in every block."""
        self.out.emit("request.refused", op=request.operation.op, list=request.root, reason=reason)
        binding = request.binding
        if request.operation.op == "terminate":
            if binding.adapter.alive:
                self.terminator.refused(binding, request.handles)
            else:
                self.books.forget(binding, request.handles)
        columns = failed_columns(request.blocks, request.handles, request.columns, status)
        columns[Key.SOURCE_HANDLE] = binding.handle
        self.out.send(
            binding.protocol, [request.operation.completion_handler, None, [binding.context, columns]]
        )

    def _too_late(
        self, client: Client, operation: OperationRow, handle: int, context: int, columns: dict[str, Any]
    ) -> None:
        """Fail a request on a binding that NDIS has closed by force. Nothing is left below it."""
        blocks = columns[Key.BLOCK]
        handles = columns.get(Key.OFFLOAD_HANDLE)
        if type(handles) is not list:
            handles = [handles] * len(blocks)
        failed = failed_columns(blocks, handles, columns, _FAILURE)
        failed[Key.SOURCE_HANDLE] = handle
        self.out.send(client, [operation.completion_handler, None, [context, failed]])


def _in_order(
    op: str, binding: Binding, handles: list[int | None], contexts: list[int | None], layers: list[int]
) -> bool:
    """Check a long list fast: True if every block clearly names what it should, False to check each one."""
    if None in handles or (binding.offloading and not binding.offloading.isdisjoint(handles)):
        return False
    if op in ("initiate", "terminate") and len(set(handles)) != len(handles):
        return False
    if op == "initiate":
        return contexts.count(None) == len(contexts) and binding.objects.keys().isdisjoint(handles)
    if binding.terminating and not binding.terminating.isdisjoint(handles):
        return False
    known: list[Any] = list(map(binding.objects.get, handles))  # type: ignore[arg-type]
    return None not in known and [k[0] for k in known] == layers and [k[1] for k in known] == contexts
