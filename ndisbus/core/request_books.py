"""The books of block-list requests: what a driver below holds, and what is offloaded through a binding.

A list that goes down changes from the PROTOCOL form to the MINIPORT form: a few columns are replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ndisbus.core.model import NblRequest
from ndisbus.ddi.call_rows import IO_OPERATIONS
from ndisbus.lists.blocklist import Key

if TYPE_CHECKING:
    from ndisbus.core.io import Io
    from ndisbus.core.model import Binding, Request
    from ndisbus.core.outbound import Outbound
    from ndisbus.messages.codec import Message

__all__ = ["RequestBooks"]

_SEND: Final = next(o for o in IO_OPERATIONS if o.op == "send")
#: Columns that a driver below does not see, or that NDIS replaces.
_STRIPPED: Final = frozenset((*Key.NDIS_RESERVED, *Key.SCRATCH, Key.NET_BUFFER_LISTS))


class RequestBooks:
    """Passes requests down and records what is offloaded."""

    __slots__ = ("io", "out")

    def __init__(self, out: Outbound, io: Io) -> None:
        self.out = out
        self.io = io

    def pass_down(self, request: Request, frames: Sequence[bytes]) -> None:
        """Give the list to the driver below in the MINIPORT form (R-BLK-02), and record the request."""
        binding, adapter = request.binding, request.binding.adapter
        if request.operation.op == "initiate":
            fresh = request.handles
            if None in fresh or request.contexts.count(None) != len(fresh):
                fresh = [
                    h
                    for h, c in zip(request.handles, request.contexts, strict=True)
                    if h is not None and c is None
                ]
            binding.offloading.update(fresh)
            for handle, addresses in request.chains.items():
                along = NblRequest(_SEND, binding, handle, None, along=True)
                self.io.lend(binding, addresses, along)
        elif request.operation.op == "terminate":
            binding.terminating.update(request.handles)
        adapter.requests[request.root] = request
        binding.outstanding += 1
        binding.lists += 1
        columns = request.columns
        lower = dict(columns)
        if not _STRIPPED.isdisjoint(lower):
            for key in _STRIPPED:
                lower.pop(key, None)
        lower[Key.NDIS_OFFLOAD_HANDLE] = request.handles
        lower[Key.CELL] = request.cells
        lower[Key.SOURCE_HANDLE] = binding.handle
        if Key.NET_BUFFER_LISTS in columns:
            # Lent to the driver below. NDIS does not need them and does not keep them.
            lower[Key.NET_BUFFER_LISTS] = columns.pop(Key.NET_BUFFER_LISTS)
        columns.pop(Key.STATE, None)
        message: Message = [request.operation.handler, None, [adapter.context, lower]]
        if frames:
            message.append(len(frames))
        self.out.send(adapter.driver, message, frames)

    def forget(self, binding: Binding, handles: Sequence[int | None]) -> None:
        """Forget objects that are not offloaded through the binding any more."""
        objects, lost = binding.objects, binding.lost
        for handle in handles:
            if handle is not None and objects.pop(handle, None) is None and lost:
                lost.pop(handle, None)
