"""TCP chimney I/O: net buffer lists down by NDIS_OFFLOAD_HANDLE, up by SourceHandle.

NDIS reads addresses, SourceHandle and Status; what a list holds is passed on unread, its payload frames
uncopied. The driver below gets the PVOID it stored for the connection (R-HND-09): the cell itself lies
in another process, so the message carries what the cell holds (R-DIS-29).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.base import Core, Violation
from ndisbus.core.model import BindingState, NblRequest
from ndisbus.ddi import CALLS, Operation
from ndisbus.enums import Layer
from ndisbus.heap import space_of
from ndisbus.nblchain import check_nbl_columns
from ndisbus.status import ALLOWED_STATUS, NdisStatus

if TYPE_CHECKING:
    from ndisbus.codec import Message
    from ndisbus.core.model import Adapter, Binding, Peer

__all__ = ["IoPart"]

_ABORTED: Final = int(NdisStatus.REQUEST_ABORTED)


class IoPart(Core):
    """Send, receive, disconnect, forward and receive return."""

    def io_handlers(self) -> dict[str, Callable[[Peer, Message, Sequence[bytes]], None]]:
        """Handlers of the calls that are no plain request or completion."""
        return {"NdisOffloadTcpReceiveReturn": self._receive_return}

    def find_object(self, peer: Peer, handle: Any, parameter: str) -> tuple[Binding, int, int]:
        """The binding, layer and PVOID of an object ``peer`` offloaded. :class:`Violation` if there is none."""
        if type(handle) is int:
            for binding in peer.bindings:
                known = binding.objects.get(handle)
                if known is not None:
                    return binding, known[0], known[1]
                if handle in binding.offloading:
                    raise Violation(parameter, f"{handle:#x} is being offloaded", "R-CONC-01")
        text = f"{handle:#x}" if type(handle) is int else repr(handle)
        raise Violation(parameter, f"{text} names no object that {peer.name} has offloaded", "R-HND-08")

    def io_down(self, operation: Operation) -> Callable[[Peer, Message, Sequence[bytes]], None]:
        """The handler of a request such as NdisOffloadTcpSend."""

        def down(peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
            args = message[2]
            columns = check_nbl_columns(args[1], f"{operation.request}.NetBufferList")
            addresses: list[int] = columns["NetBufferList"]
            if operation.op == "disconnect" and len(addresses) != 1:
                raise Violation("NetBufferList", "a disconnect carries exactly one list", "R-DISC-01")
            try:
                binding, layer, context = self.find_object(peer, args[0], "NdisOffloadHandle")
            except Violation:
                if not self._gone(peer, args[0]):
                    raise
                self._return_down(peer, operation, columns)
                return
            if layer != Layer.TCP:
                raise Violation("NdisOffloadHandle", f"{args[0]:#x} is no connection", "R-HND-08")
            adapter = binding.adapter
            for a in addresses:
                if a in adapter.nbls:
                    raise Violation("NetBufferList", f"{a:#x} is outstanding on {adapter.name} already")
                if space_of(a) != peer.space and not any(a in own.nbls for own in peer.adapters):
                    raise Violation("NetBufferList", f"{a:#x} lies in a stranger's address space", "R-IM-10")
            if not adapter.alive:
                self._complete_nbls(binding, operation, addresses, [_ABORTED] * len(addresses), columns, ())
                return
            for a in addresses:
                adapter.nbls[a] = NblRequest(
                    operation, binding, args[0], columns.get("SourceHandle"), columns.get("Context"), self.now
                )
            binding.outstanding += len(addresses)
            lower = dict(columns)
            lower["SourceHandle"] = binding.handle
            lower.pop("Status", None)
            params = [adapter.context, context, lower, *args[2:]]
            self.send(adapter.driver, _message(operation.handler, params, frames), frames)

        return down

    def _gone(self, peer: Peer, handle: Any) -> bool:
        """Whether a handle is the peer's own but names nothing any more: a request that crossed a removal."""
        return type(handle) is int and space_of(handle) == peer.space and bool(peer.bindings) and any(
            not b.adapter.alive or b.state is not BindingState.OPEN for b in peer.bindings
        )

    def _return_down(self, peer: Peer, operation: Operation, columns: dict[str, Any]) -> None:
        n = len(columns["NetBufferList"])
        upper: dict[str, Any] = {k: columns[k] for k in ("NetBufferList", "SourceHandle", "Context") if k in columns}
        upper["Status"] = [_ABORTED] * n
        self.send(peer, [operation.completion_handler, None, [peer.bindings[0].context, upper]])

    def io_up(self, operation: Operation) -> Callable[[Peer, Message, Sequence[bytes]], None]:
        """The handler of a completion such as NdisTcpOffloadSendComplete."""
        allowed = frozenset(int(s) for s in ALLOWED_STATUS[operation.op])

        def up(peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
            args = message[2]
            adapter = self.adapter_of(peer, args[0], "NdisMiniportHandle")
            columns = check_nbl_columns(args[1], f"{operation.completion}.NetBufferList")
            addresses: list[int] = columns["NetBufferList"]
            statuses: list[int] | None = columns.get("Status")
            if statuses is None:
                raise Violation("NetBufferList.Status", "not written")
            if not allowed.issuperset(statuses):
                wrong = next(s for s in statuses if s not in allowed)
                raise Violation("NetBufferList.Status", f"{wrong:#x} is not legal for {operation.op}", "R-SEND-07")
            # One call may gather lists of several requests; NDIS sorts them out by binding.
            groups: dict[int, list[int]] = {}
            for i, a in enumerate(addresses):
                request = adapter.nbls.get(a)
                if request is None or request.operation is not operation:
                    raise Violation("NetBufferList", f"{a:#x} is not outstanding as {operation.op} on {adapter.name}", "R-IM-11")
                groups.setdefault(request.binding.handle, []).append(i)
            source = columns.get("SourceHandle")
            if len(groups) == 1 and source != next(iter(groups)):
                raise Violation("NetBufferList.SourceHandle", "not the value that NDIS stored there", "R-IM-11")
            for indexes in groups.values():
                mine = [addresses[i] for i in indexes]
                binding = adapter.nbls[mine[0]].binding
                first = adapter.nbls[mine[0]]
                part = columns if len(groups) == 1 else {**columns, "NetBufferLists": None}
                part = {**part, "SourceHandle": first.source_handle}
                if first.context is not None:
                    part["Context"] = first.context
                for a in mine:
                    del adapter.nbls[a]
                binding.outstanding -= len(mine)
                self._complete_nbls(binding, operation, mine, [statuses[i] for i in indexes], part, frames)
                if binding.state is not BindingState.OPEN:
                    self.settle(binding)

        return up

    def _complete_nbls(
        self,
        binding: Binding,
        operation: Operation,
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
        self.send(
            binding.protocol, _message(operation.completion_handler, [binding.context, upper], frames), frames
        )

    def abort_nbls(self, adapter: Adapter) -> None:
        """Return every list a dead adapter still holds: NDIS_STATUS_REQUEST_ABORTED in each."""
        while adapter.nbls:
            first = next(iter(adapter.nbls.values()))
            mine = [
                a
                for a, r in adapter.nbls.items()
                if r.binding is first.binding and r.operation is first.operation and r.context == first.context
            ]
            for a in mine:
                del adapter.nbls[a]
            first.binding.outstanding -= len(mine)
            columns = {"Context": first.context}
            self._complete_nbls(first.binding, first.operation, mine, [_ABORTED] * len(mine), columns, ())
            if first.binding.state is not BindingState.OPEN:
                self.settle(first.binding)

    def _receive_return(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        """NdisOffloadTcpReceiveReturn names the binding (R-DIS-10) and is not answered (R-DIS-45)."""
        binding = self.binding_of(peer, message[2][0])
        columns = check_nbl_columns(message[2][1], "NdisOffloadTcpReceiveReturn.NetBufferList")
        adapter = binding.adapter
        if adapter.alive:
            handler = CALLS["NdisOffloadTcpReceiveReturn"].leads_to
            self.send(adapter.driver, _message(handler, [adapter.context, columns], frames), frames)


def _message(name: str, params: list[Any], frames: Sequence[bytes]) -> Message:
    return [name, None, params, len(frames)] if frames else [name, None, params]
