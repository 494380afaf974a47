"""The five state-manipulation operations: down through a binding, up by SourceHandle, exactly once.

Down, NDIS checks the list, notes down what it lends, and turns the PROTOCOL form into the MINIPORT form
by replacing a few columns. Up, it compares what comes back with what it lent: the same blocks, the same
SourceHandle, ImReserved and ProtocolReserved, a legal Status in every block. A difference is a bug check
of the driver that handed the list back, never a silent misdelivery.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.blocklist import BLOCK_SIZE, Key
from ndisbus.core.base import Core, Violation
from ndisbus.core.model import AdapterState, BindingState, Request
from ndisbus.ddi import STATE_OPERATIONS, Operation
from ndisbus.enums import Layer, OffloadStateType
from ndisbus.heap import ADDRESS_BITS
from ndisbus.status import ALLOWED_STATUS, NdisStatus
from ndisbus.validate import DOWN_COLUMNS, UP_COLUMNS, check_columns, check_tree

if TYPE_CHECKING:
    from ndisbus.codec import Message
    from ndisbus.core.model import Adapter, Binding, Peer

__all__ = ["RequestPart", "same"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
_PARTIAL: Final = int(NdisStatus.OFFLOAD_PARTIAL_SUCCESS)
_FAILURE: Final = int(NdisStatus.FAILURE)
_ALLOWED: Final = {o.op: frozenset(int(s) for s in ALLOWED_STATUS[o.op]) for o in STATE_OPERATIONS}
#: What a driver below must hand back exactly as it was given (R-BLK-12, R-BLK-13, R-IM-05).
_LENT: Final = (*Key.IM_RESERVED, *Key.PROTOCOL_RESERVED)
#: What travels up besides: written by the driver below, or to be applied by the upper one.
_STRIPPED: Final = frozenset((*Key.NDIS_RESERVED, *Key.SCRATCH, Key.NET_BUFFER_LISTS))
_CARRIED: Final = (Key.BLOCK, Key.STATUS, *_LENT, Key.STATE, Key.NBL_CHAIN, Key.NET_BUFFER_LISTS)
_TERMINATE: Final = next(o for o in STATE_OPERATIONS if o.op == "terminate")
_DELEGATED: Final = {
    Layer.NEIGHBOR: int(OffloadStateType.NeighborOffloadDelegatedState),
    Layer.PATH: int(OffloadStateType.Ip4OffloadDelegatedState),
    Layer.TCP: int(OffloadStateType.TcpOffloadDelegatedState),
}


def same(a: Any, b: Any, n: int) -> bool:
    """Whether two columns hold the same values, spread out or not."""
    if a == b:
        return True
    if type(a) is list:
        return a == (b if type(b) is list else [b] * n)
    return type(b) is list and b == [a] * n


def _listed(col: Any, n: int) -> list[Any]:
    return col if type(col) is list else [col] * n


class RequestPart(Core):
    """Requests and completions of block lists."""

    # -- down ----------------------------------------------------------------------------------

    def state_down(self, operation: Operation) -> Callable[[Peer, Message, Sequence[bytes]], None]:
        """The handler of a request such as NdisInitiateOffload."""
        where = f"{operation.request}.OffloadBlockList"

        def down(peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
            args = message[2]
            binding = self.binding_of(peer, args[0])
            columns = check_columns(args[1], where, DOWN_COLUMNS)
            request = self._examine(operation, where, peer, binding, columns)
            if self.injected_status is not None:
                self._refuse_request(request, "a fault was injected", self.injected_status)
                return
            refusal = self._why_not(operation, binding)
            if refusal:
                self._refuse_request(request, refusal)
                return
            self._pass_down(request, frames)

        return down

    def _examine(
        self, operation: Operation, where: str, peer: Peer, binding: Binding, columns: dict[str, Any]
    ) -> Request:
        """Check a request's list and take note of what is lent with it."""
        blocks: list[int] = columns[Key.BLOCK]
        n = len(blocks)
        root = blocks[0]
        low = peer.space << ADDRESS_BITS
        high = low + (1 << ADDRESS_BITS)
        adapter = binding.adapter
        if root in adapter.requests:
            raise Violation("OffloadBlockList", f"list {root:#x} is outstanding on {adapter.name} already", "R-BLK-11")
        if low <= root < high:
            if n > 1 and not (low <= min(blocks) and max(blocks) < high):
                raise Violation("OffloadBlockList.Block", "a block lies in a stranger's address space", "R-BLK-11")
            layers = check_tree(columns, where)
        else:
            upper = self._lent_to(peer, root)
            if upper is None or upper.blocks != blocks:
                raise Violation(
                    "OffloadBlockList.Block",
                    f"{root:#x} lies in a stranger's address space and was not lent to {peer.name}",
                    "R-BLK-11",
                )
            for key in (Key.NEXT, Key.DEPENDENT, Key.TYPE):
                if not same(columns.get(key), upper.columns.get(key), n):
                    raise Violation(f"OffloadBlockList.{key}", "a list was changed on its way down", "R-IM-04")
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
            raise Violation(f"OffloadBlockList.{key}", "points into a stranger's address space", "R-HND-07")
        if n == 1:
            paired = (handles[0] is None) is (cells[0] is None)
        else:
            paired = [h is None for h in handles] == [c is None for c in cells]
        if not paired:
            raise Violation("OffloadBlockList.OffloadHandle", "a handle without a cell, or the reverse", "R-IM-08")
        self._check_objects(operation, binding, handles, contexts)
        return Request(operation, binding, root, blocks, layers, handles, cells, contexts, columns, self.now)

    def _lent_to(self, peer: Peer, root: int) -> Request | None:
        for adapter in peer.adapters:
            request = adapter.requests.get(root)
            if request is not None:
                return request
        return None

    def _check_objects(
        self, operation: Operation, binding: Binding, handles: list[int | None], contexts: list[int | None]
    ) -> None:
        """Objects named by a request are offloaded through this binding, offered ones are not yet."""
        objects, offloading = binding.objects, binding.offloading
        initiating = operation.op == "initiate"
        for handle, context in zip(handles, contexts):  # noqa: B905 - made equally long just above
            if handle is None:
                continue
            if offloading and handle in offloading:
                rule = "R-INIT-02" if initiating else "R-CONC-01"
                raise Violation("OffloadBlockList.OffloadHandle", f"{handle:#x} is being offloaded", rule)
            if context is None:
                if not initiating:
                    reason = f"{handle:#x} names no offloaded object: its cell holds NULL"
                    raise Violation("OffloadBlockList.OffloadHandle", reason, "R-HND-04")
                if handle in objects:
                    raise Violation("OffloadBlockList.OffloadHandle", f"{handle:#x} is offloaded already", "R-INIT-02")
                continue
            known = objects.get(handle)
            if known is None:
                raise Violation(
                    "OffloadBlockList.OffloadHandle", f"{handle:#x} is not offloaded through this binding", "R-HND-04"
                )
            if known[1] != context:
                raise Violation(
                    "OffloadBlockList.*MiniportOffloadContext",
                    f"the cell of {handle:#x} holds {context:#x}, the driver below stored {known[1]:#x}",
                    "R-HND-04",
                )

    def _why_not(self, operation: Operation, binding: Binding) -> str:
        """Why a request is not passed down at all; it then fails at once. Empty if it is."""
        adapter = binding.adapter
        if not adapter.alive:
            return f"adapter {adapter.name} is gone"
        if operation.op != "initiate":
            return ""
        if adapter.state is not AdapterState.UP:
            return f"adapter {adapter.name} is closing"
        if not adapter.driver.handlers >= {"provider-generic", "provider-tcp"}:
            return f"{adapter.driver.name} registered no chimney handlers [R-REG-10]"
        if not binding.protocol.handlers >= {"client-generic", "client-tcp"}:
            return f"{binding.protocol.name} registered no chimney handlers [R-REG-02]"
        if adapter.chimney_owner is not binding:
            owner = adapter.chimney_owner
            who = f"{owner.protocol.name} has it" if owner else "nobody has"
            return f"{binding.protocol.name} has not enabled the chimney of {adapter.name} ({who}) [R-OID-08]"
        return ""

    def _refuse_request(self, request: Request, reason: str, status: int = _FAILURE) -> None:
        """Fail a request that was not passed down: every block FAILURE, nothing below has seen it."""
        self.emit("request.refused", op=request.operation.op, list=request.root, reason=reason)
        binding = request.binding
        if request.operation.op == "terminate":
            self._forget(binding, request)
        columns = self._failed(request, status)
        columns[Key.SOURCE_HANDLE] = binding.handle
        self.send(binding.protocol, [request.operation.completion_handler, None, [binding.context, columns]])

    def _pass_down(self, request: Request, frames: Sequence[bytes]) -> None:
        binding, adapter = request.binding, request.binding.adapter
        if request.operation.op == "initiate":
            for handle, context in zip(request.handles, request.contexts, strict=True):
                if handle is not None and context is None:
                    binding.offloading.add(handle)
        adapter.requests[request.root] = request
        binding.outstanding += 1
        columns = request.columns
        lower = dict(columns)
        if not _STRIPPED.isdisjoint(lower):
            for key in _STRIPPED:
                lower.pop(key, None)
        lower[Key.NDIS_OFFLOAD_HANDLE] = request.handles
        lower[Key.CELL] = request.cells
        lower[Key.SOURCE_HANDLE] = binding.handle
        if Key.NET_BUFFER_LISTS in columns:
            # Lent to the driver below; NDIS itself has no use for them and does not keep them.
            lower[Key.NET_BUFFER_LISTS] = columns.pop(Key.NET_BUFFER_LISTS)
        columns.pop(Key.STATE, None)
        message: Message = [request.operation.handler, None, [adapter.context, lower]]
        if frames:
            message.append(len(frames))
        self.send(adapter.driver, message, frames)

    # -- up ------------------------------------------------------------------------------------

    def state_up(self, operation: Operation) -> Callable[[Peer, Message, Sequence[bytes]], None]:
        """The handler of a completion such as NdisMInitiateOffloadComplete."""
        where = f"{operation.completion}.OffloadBlockList"
        allowed = _ALLOWED[operation.op]

        def up(peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
            args = message[2]
            adapter = self.adapter_of(peer, args[0], "NdisMiniportHandle")
            columns = check_columns(args[1], where, UP_COLUMNS)
            blocks = columns[Key.BLOCK]
            request = adapter.requests.get(blocks[0])
            if request is None or request.operation is not operation:
                reason = f"list {blocks[0]:#x} is not outstanding on {adapter.name}"
                if request is not None:
                    reason = f"list {blocks[0]:#x} belongs to {request.operation.request}"
                raise Violation("OffloadBlockList", reason, "R-BLK-10")
            self._compare(request, columns, allowed)
            if operation.op == "initiate":
                self._offloaded(request, columns)
            self._complete(adapter, request, columns, frames)

        return up

    def _compare(self, request: Request, columns: dict[str, Any], allowed: frozenset[int]) -> None:
        """What comes back must be what was lent, with a legal Status in every block."""
        n = len(request.blocks)
        if columns[Key.BLOCK] != request.blocks:
            raise Violation("OffloadBlockList.Block", "not the blocks that were given", "R-BLK-10")
        source = columns.get(Key.SOURCE_HANDLE)
        if source != request.binding.handle and not same(source, request.binding.handle, n):
            raise Violation(
                "OffloadBlockList.SourceHandle",
                f"not the value {request.binding.handle:#x} that NDIS stored there: "
                "the completion would go to a stranger's binding",
                "R-IM-05" if request.binding.adapter.virtual else "R-BLK-12",
            )
        for key in _LENT:
            given, back = request.columns.get(key), columns.get(key)
            if given != back and not same(given, back, n):
                rule = "R-IM-05" if request.binding.adapter.virtual else "R-BLK-12"
                raise Violation(f"OffloadBlockList.{key}", "not handed back as it was given", rule)
        status = columns.get(Key.STATUS)
        if status is None or (type(status) is list and None in status):
            raise Violation("OffloadBlockList.Status", "not written in every block", "R-BLK-09")
        if status == _SUCCESS:
            return
        written = set(status) if type(status) is list else {status}
        if not written <= allowed:
            wrong = sorted(written - allowed)
            text = ", ".join(f"{v:#x}" for v in wrong)
            raise Violation("OffloadBlockList.Status", f"{text} is not legal for {request.operation.op}", _LEGAL[request.operation.op])
        if written != {_SUCCESS} and None in request.handles:
            for i, handle in enumerate(request.handles):
                if handle is None and _listed(status, n)[i] != _SUCCESS:
                    raise Violation(f"OffloadBlockList.Status[{i}]", "a placeholder always succeeds", "R-TREE-02")

    def _offloaded(self, request: Request, columns: dict[str, Any]) -> None:
        """Take note of the objects that an initiate offloaded, and of the PVOIDs stored for them."""
        n = len(request.blocks)
        statuses = _listed(columns[Key.STATUS], n)
        stored = _listed(columns.get(Key.CONTEXT), n)
        objects = request.binding.objects
        low = request.binding.adapter.driver.space << ADDRESS_BITS
        high = low + (1 << ADDRESS_BITS)
        for i, (handle, before, status, after) in enumerate(
            zip(request.handles, request.contexts, statuses, stored, strict=True)
        ):
            if handle is None:
                continue
            if before is None and (status == _SUCCESS or status == _PARTIAL):
                if after is None:
                    raise Violation(
                        f"OffloadBlockList.*MiniportOffloadContext[{i}]", "offloaded, but the cell holds NULL", "R-HND-02"
                    )
                if not low <= after < high:
                    raise Violation(
                        f"OffloadBlockList.*MiniportOffloadContext[{i}]",
                        f"{after:#x} lies in a stranger's address space",
                        "R-HND-02",
                    )
                objects[handle] = (request.layers[i], after)
            elif after != before:
                raise Violation(
                    f"OffloadBlockList.*MiniportOffloadContext[{i}]", "written although nothing was offloaded", "R-HND-03"
                )

    def _complete(
        self, adapter: Adapter, request: Request, columns: dict[str, Any], frames: Sequence[bytes]
    ) -> None:
        """A request is over: take it off the books and tell the driver above, if it still lives."""
        binding = request.binding
        del adapter.requests[request.root]
        adapter.completed += 1
        binding.outstanding -= 1
        op = request.operation.op
        if op == "initiate":
            binding.offloading.difference_update(request.handles)  # type: ignore[arg-type]
        elif op == "terminate":
            self._forget(binding, request)
        if request.then is not None:
            request.then()
        elif not binding.protocol.closed:
            upper: dict[str, Any] = {k: columns[k] for k in _CARRIED if k in columns}
            upper[Key.SOURCE_HANDLE] = binding.handle
            if op == "initiate" and Key.CONTEXT in columns:
                upper[Key.CONTEXT] = columns[Key.CONTEXT]
            message: Message = [request.operation.completion_handler, None, [binding.context, upper]]
            if frames:
                message.append(len(frames))
            self.send(binding.protocol, message, frames)
        if binding.state is not BindingState.OPEN:
            self.settle(binding)

    def _forget(self, binding: Binding, request: Request) -> None:
        objects = binding.objects
        for handle in request.handles:
            if handle is not None:
                objects.pop(handle, None)

    def fail_up(self, adapter: Adapter, request: Request, status: int) -> None:
        """Complete an outstanding request on behalf of a driver that cannot any more (design, "Killed")."""
        self._complete(adapter, request, self._failed(request, status), ())

    def _failed(self, request: Request, status: int) -> dict[str, Any]:
        """The columns of a completion that nobody below made: lent columns as they were, one status."""
        columns: dict[str, Any] = {Key.BLOCK: request.blocks, Key.STATUS: status}
        if None in request.handles:
            # A placeholder always succeeds (R-TREE-02).
            columns[Key.STATUS] = [_SUCCESS if h is None else status for h in request.handles]
        for key in _LENT:
            if key in request.columns:
                columns[key] = request.columns[key]
        return columns

    # -- requests of NDIS's own ----------------------------------------------------------------

    def ndis_terminate(self, binding: Binding, handles: list[int], then: Callable[[], None]) -> None:
        """Terminate objects on behalf of a protocol that is no more: one list of siblings, one layer."""
        layer = binding.objects[handles[0]][0]
        blocks = list(self.heap.addresses(len(handles), BLOCK_SIZE))
        n = len(blocks)
        contexts = [binding.objects[h][1] for h in handles]
        columns: dict[str, Any] = {
            Key.BLOCK: blocks,
            Key.TYPE: _DELEGATED[Layer(layer)],
            Key.REVISION: 1,
            Key.SIZE: BLOCK_SIZE,
            Key.NEXT: [*blocks[1:], None],
            Key.CONTEXT: contexts,
        }
        request = Request(
            _TERMINATE, binding, blocks[0], blocks, [layer] * n, list(handles), [h + 0x10 for h in handles], list(contexts), columns, self.now
        )
        request.then = then
        self._pass_down(request, ())


_LEGAL: Final = {
    "initiate": "R-INIT-04",
    "query": "R-QRY-04",
    "update": "R-UPD-10",
    "invalidate": "R-INV-06",
    "terminate": "R-TERM-17",
}
