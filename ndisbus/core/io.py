"""TCP chimney I/O: net buffer lists down by NDIS_OFFLOAD_HANDLE, up by SourceHandle.

NDIS reads addresses, SourceHandle and Status. It passes on the contents of a list unread, and its payload
frames without a copy. The driver below gets the PVOID that it stored for the connection (R-HND-09). The cell
lies in another process, so the message carries the cell's value (R-DIS-29).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import BindingState, NblRequest
from ndisbus.core.violation import Violation
from ndisbus.ddi.call_rows import IO_OPERATIONS, OperationRow
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.state_types import Layer
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.errors import value_text
from ndisbus.lists.heap import space_of
from ndisbus.lists.nbl import chain
from ndisbus.lists.nbl_chain import Attachments, check_nbl_columns

if TYPE_CHECKING:
    from ndisbus.core.model import Adapter, Binding, Client, Handler, Handlers, Injected
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.registry import Registry
    from ndisbus.messages.codec import Message

__all__ = ["Io"]

_ABORTED: Final = int(NdisStatus.REQUEST_ABORTED)
#: The rule that an illegal Status breaks, by operation.
_LEGAL: Final = {
    "send": "R-SEND-07",
    "receive": "R-RECV-09",
    "disconnect": "R-DISC-09",
    "forward": "R-FWD-05",
}


class Io:
    """Passes on send, receive, disconnect, forward and receive return."""

    __slots__ = ("injected", "out", "registry")

    def __init__(self, out: Outbound, registry: Registry, injected: Injected) -> None:
        self.out = out
        self.registry = registry
        self.injected = injected

    def handlers(self) -> Handlers:
        """Return the handlers by name of call."""
        found: Handlers = {"NdisOffloadTcpReceiveReturn": self._receive_return}
        for o in IO_OPERATIONS:
            found[o.request] = self._down(o)
            found[o.completion] = self._up(o)
        return found

    def _find_object(self, client: Client, handle: Any, parameter: str) -> tuple[Binding, int, int]:
        """Return binding, layer and PVOID of a client's object. Raises :class:`Violation` if it has none."""
        if type(handle) is int:
            for binding in client.bindings:
                known = binding.objects.get(handle)
                if known is not None:
                    return binding, known[0], known[1]
                if handle in binding.offloading:
                    raise Violation(parameter, f"{handle:#x} is being offloaded", "R-CONC-01")
        text = f"{handle:#x}" if type(handle) is int else value_text(handle)
        raise Violation(
            parameter, f"{text} does not name an object that {client.name} has offloaded", "R-HND-08"
        )

    def _down(self, operation: OperationRow) -> Handler:
        """Return the handler of a request such as NdisOffloadTcpSend."""

        def down(client: Client, message: Message, frames: Sequence[bytes]) -> None:
            args = message[2]
            columns = check_nbl_columns(args[1], f"{operation.request}.NetBufferList")
            addresses: list[int] = columns["NetBufferList"]
            status = self.injected.status
            if operation.op == "disconnect" and len(addresses) != 1:
                raise Violation("NetBufferList", "a disconnect carries exactly one list", "R-DISC-01")
            try:
                binding, layer, context = self._find_object(client, args[0], "NdisOffloadHandle")
            except Violation:
                gone = self._gone(client, args[0])
                if gone is None:
                    raise
                self._return_down(client, operation, gone, columns)
                return
            if layer != Layer.TCP:
                raise Violation("NdisOffloadHandle", f"{args[0]:#x} is not a connection", "R-HND-08")
            adapter = binding.adapter
            if binding.state is BindingState.CLOSING and not client.ended.forced(binding.handle):
                raise Violation("NdisOffloadHandle", f"the binding to {adapter.name} is closed")
            if binding.state is BindingState.CLOSING or args[0] in binding.terminating:
                # The driver below has the terminate already, and may complete it before it reads this.
                status = _ABORTED
            for a in addresses:
                twin = adapter.nbls.get(a)
                if twin is not None and twin.binding.protocol is client:
                    raise Violation("NetBufferList", f"{a:#x} is already outstanding on {adapter.name}")
                if twin is not None:
                    status = (
                        _ABORTED  # its earlier sender is dead, and the list is not back from the driver below
                    )
                if space_of(a) != client.space and not any(a in own.nbls for own in client.adapters):
                    raise Violation(
                        "NetBufferList", f"{a:#x} does not lie in the address space of the driver", "R-IM-10"
                    )
            if not adapter.alive:
                status = _ABORTED
            if status is not None:
                columns.pop("NetBufferLists", None)  # the contents stay with the sender
                self._complete_nbls(binding, operation, addresses, [status] * len(addresses), columns, ())
                return
            request = NblRequest(operation, binding, args[0], columns.get("Context"))
            self.lend(binding, addresses, request)
            lower = dict(columns)
            lower["SourceHandle"] = binding.handle
            lower.pop("Status", None)
            params = [adapter.context, context, lower, *args[2:]]
            self.out.send(adapter.driver, _message(operation.handler, params, frames), frames)

        return down

    def lend(self, binding: Binding, addresses: list[int], request: NblRequest) -> None:
        """Record the lists that a request lends to the driver below."""
        binding.adapter.nbls.update(dict.fromkeys(addresses, request))
        binding.io.setdefault(request.offload_handle, set()).update(addresses)
        binding.outstanding += len(addresses)

    def take(self, adapter: Adapter, address: int) -> NblRequest:
        """Remove a list from the books: the driver below does not have it any more."""
        request = adapter.nbls.pop(address)
        binding, handle = request.binding, request.offload_handle
        binding.outstanding -= 1
        held = binding.io[handle]
        held.discard(address)
        if not held:
            del binding.io[handle]
        return request

    def _gone(self, client: Client, handle: Any) -> int | None:
        """Return the binding context for a request that crossed a removal, so that its handle is unknown.

        Returns None if nothing that it could have named was removed.
        """
        if type(handle) is not int or space_of(handle) != client.space:
            return None
        for b in client.bindings:
            if (
                self.injected.late
                or handle in b.lost
                or handle in b.swept
                or not b.adapter.alive
                or b.state is not BindingState.OPEN
            ):
                return b.context
        return client.ended.crossed_any()

    def _return_down(
        self, client: Client, operation: OperationRow, context: int, columns: dict[str, Any]
    ) -> None:
        n = len(columns["NetBufferList"])
        upper: dict[str, Any] = {
            k: columns[k] for k in ("NetBufferList", "SourceHandle", "Context") if k in columns
        }
        upper["Status"] = [_ABORTED] * n
        self.out.send(client, [operation.completion_handler, None, [context, upper]])

    def _up(self, operation: OperationRow) -> Handler:
        """Return the handler of a completion such as NdisTcpOffloadSendComplete."""
        allowed = frozenset(int(s) for s in ALLOWED_STATUS[operation.op])

        def up(client: Client, message: Message, frames: Sequence[bytes]) -> None:
            args = message[2]
            adapter = self.registry.adapter_of(client, args[0], "NdisMiniportHandle")
            columns = check_nbl_columns(args[1], f"{operation.completion}.NetBufferList")
            addresses: list[int] = columns["NetBufferList"]
            statuses: list[int] | None = columns.get("Status")
            if statuses is None:
                raise Violation("NetBufferList.Status", "not written")
            if not allowed.issuperset(statuses):
                wrong = next(s for s in statuses if s not in allowed)
                raise Violation(
                    "NetBufferList.Status",
                    f"{wrong:#x} is not legal for {operation.op}",
                    _LEGAL[operation.op],
                )
            # One call may complete lists of several requests. NDIS sorts them by binding.
            groups: dict[int, list[int]] = {}
            for i, a in enumerate(addresses):
                request = adapter.nbls.get(a)
                if request is None and self.injected.late:
                    continue  # a fault delayed this call, and the list has been completed since
                if request is None or request.operation is not operation:
                    reason = f"{a:#x} is not outstanding as {operation.op} on {adapter.name}"
                    raise Violation("NetBufferList", reason, "R-IM-11")
                groups.setdefault(request.binding.handle, []).append(i)
            if len(groups) == 1 and columns.get("SourceHandle") not in groups:
                raise Violation(
                    "NetBufferList.SourceHandle", "not the value that NDIS stored there", "R-IM-11"
                )
            for indexes in groups.values():
                mine = [addresses[i] for i in indexes]
                binding = adapter.nbls[mine[0]].binding
                part = (columns, frames) if len(groups) == 1 else _part(columns, frames, mine)
                contexts = {self.take(adapter, a).context for a in mine}
                # Lists of several requests have no common context. The driver finds each list itself.
                part[0]["Context"] = contexts.pop() if len(contexts) == 1 else None
                self._complete_nbls(binding, operation, mine, [statuses[i] for i in indexes], *part)
                binding.came_back()

        return up

    def _complete_nbls(
        self,
        binding: Binding,
        operation: OperationRow,
        addresses: list[int],
        statuses: list[int],
        columns: dict[str, Any],
        frames: Sequence[bytes],
    ) -> None:
        upper = {k: v for k, v in columns.items() if v is not None}
        upper["NetBufferList"], upper["Status"] = addresses, statuses
        upper["SourceHandle"] = binding.handle
        if frames and "NetBufferLists" not in upper:
            frames = ()
        self.out.send(
            binding.protocol, _message(operation.completion_handler, [binding.context, upper], frames), frames
        )

    def abort(self, adapter: Adapter, binding: Binding | None = None) -> None:
        """Return the lists that a dead adapter holds, or those of one binding, with REQUEST_ABORTED."""
        mine = [a for a, r in adapter.nbls.items() if binding is None or r.binding is binding]
        if mine:
            self.give_back(adapter, mine, _ABORTED)

    def give_back(self, adapter: Adapter, addresses: list[int], status: int) -> None:
        """Complete lists in place of a driver below that cannot, or must not, complete them."""
        groups: dict[tuple[int, str, int | None], list[int]] = {}
        for a in addresses:
            r = adapter.nbls[a]
            if r.along:
                self.take(adapter, a)
                continue
            groups.setdefault((r.binding.handle, r.operation.op, r.context), []).append(a)
        for (_, _, context), mine in groups.items():
            first = adapter.nbls[mine[0]]
            for a in mine:
                self.take(adapter, a)
            columns = {"Context": context}
            self._complete_nbls(first.binding, first.operation, mine, [status] * len(mine), columns, ())
        for handle in {handle: None for handle, _, _ in groups}:
            bound = self.registry.bindings.get(handle)
            if bound is not None:
                bound.came_back()

    def _receive_return(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        """NdisOffloadTcpReceiveReturn: it names the binding (R-DIS-10) and has no answer (R-DIS-45)."""
        columns = check_nbl_columns(message[2][1], "NdisOffloadTcpReceiveReturn.NetBufferList")
        if message[2][0] in client.ended:
            return  # the call crossed the end of the binding, where NDIS returned the lists
        binding = self.registry.binding_of(client, message[2][0])
        adapter = binding.adapter
        for a in columns["NetBufferList"]:
            binding.kept.pop(a, None)
        if adapter.alive:
            handler = CALLS["NdisOffloadTcpReceiveReturn"].leads_to
            self.out.send(adapter.driver, _message(handler, [adapter.context, columns], frames), frames)

    def take_back_received(self, binding: Binding) -> None:
        """Return the received lists that the protocol of a closing binding did not return."""
        addresses = [a for a, answered in binding.kept.items() if answered]
        for a in addresses:
            del binding.kept[a]
        self.hand_back_received(binding.adapter, addresses)

    def hand_back_received(self, adapter: Adapter, addresses: list[int]) -> None:
        """Return lists with received data to the driver below, in place of the driver above."""
        if addresses and adapter.alive:
            handler = CALLS["NdisOffloadTcpReceiveReturn"].leads_to
            self.out.send(adapter.driver, [handler, None, [adapter.context, {"NetBufferList": addresses}]])


def _message(name: str, params: list[Any], frames: Sequence[bytes]) -> Message:
    return [name, None, params, len(frames)] if frames else [name, None, params]


def _part(
    columns: dict[str, Any], frames: Sequence[bytes], addresses: list[int]
) -> tuple[dict[str, Any], Sequence[bytes]]:
    """Return the columns and frames of some lists of a call. Raises :class:`DecodeError`."""
    if columns.get("NetBufferLists") is None:
        return dict(columns), ()
    objects = Attachments(columns["NetBufferLists"], frames).read()
    first = chain(objects[a] for a in addresses if a in objects)
    if first is None:
        return {**columns, "NetBufferLists": None}, ()
    attached = Attachments.of([first])
    return {**columns, "NetBufferLists": attached.wire}, attached.frames
