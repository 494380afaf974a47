"""Completing send, receive, disconnect and forward requests.

Each posted list is completed exactly once, whatever happens to its connection. Either a function of this
module completes it, or a terminate hands it back in NetBufferListChain (R-DIS-16).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from ndisbus.ddi.enums import NetBufferListInfo
from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.nbl import NetBufferList, chain, chain_to_wire, iter_net_buffers
from ndisbus.lists.nbl_chain import Attachments, NblChain
from target.hardware.adapter import Adapter
from target.model.contexts import TcpContext
from target.model.posted import Posted, TcpIo

__all__ = [
    "complete",
    "finish_all",
    "finish_receives",
    "finish_rest",
    "queue_of",
    "receive_return",
    "take_sends",
]

_COMPLETIONS: Final = {
    "send": "NdisTcpOffloadSendComplete",
    "receive": "NdisTcpOffloadReceiveComplete",
    "disconnect": "NdisTcpOffloadDisconnectComplete",
    "forward": "NdisTcpOffloadForwardComplete",
}
_TRANSFERRED: Final = int(NetBufferListInfo.TcpOffloadBytesTransferred)


def queue_of(io: TcpIo, op: str) -> deque[Posted]:
    """Return the queue of one kind of request."""
    if op == "send":
        return io.sends
    return io.receives if op == "receive" else io.disconnects if op == "disconnect" else io.forwards


def complete(
    adapter: Adapter, op: str, posted: Iterable[Posted], status: NdisStatus, *, describe: bool = True
) -> None:
    """Complete requests, all with one status. Lists of one call go back in one chain.

    TcpOffloadBytesTransferred is set to the bytes transferred (R-SEND-10, R-RECV-12). Received bytes travel
    with their lists. The contents of other lists belong to the host and are not sent back. ``describe``:
    whether the lists themselves travel, not only their addresses.
    """
    for (source_handle, context), group in groupby(posted, key=lambda p: (p.source_handle, p.call_context)):
        items = list(group)
        lists = NblChain(
            [p.address for p in items], source_handle=source_handle, statuses=[int(status)] * len(items)
        )
        lists.context = context
        if describe and any(p.has_descriptor for p in items):
            lists.attachments = _describe(op, items, status)
        adapter.ndis.call(_COMPLETIONS[op], adapter.handle, lists)


def _describe(op: str, items: list[Posted], status: NdisStatus) -> Attachments:
    nbls = []
    for p in items:
        nbl = p.nbl
        nbl.status = int(status)
        nbl.net_buffer_list_info[_TRANSFERRED] = p.done
        nbls.append(nbl)
    first = chain(nbls)
    assert first is not None
    if op == "receive" and any(p.done for p in items):
        return Attachments.of([first])
    return Attachments([chain_to_wire(first, None)], [])


def finish_all(adapter: Adapter, tcp: TcpContext, status: NdisStatus) -> None:
    """Complete everything posted on a connection, after an RST or a hardware failure."""
    if tcp.io is None:
        return
    sends = list(tcp.io.sends)
    tcp.io.sends.clear()
    complete(adapter, "send", sends, status)
    finish_receives(adapter, tcp, status)
    finish_rest(adapter, tcp, status)


def finish_receives(adapter: Adapter, tcp: TcpContext, status: NdisStatus) -> None:
    """Complete posted receive requests in order. A request that has bytes in it succeeds (R-BRD-07)."""
    io = tcp.io
    if io is None or not io.receives:
        return
    receives = list(io.receives)
    io.receives.clear()
    io.push_at = None
    if receives[0].done and status is NdisStatus.UPLOAD_IN_PROGRESS:
        complete(adapter, "receive", receives[:1], NdisStatus.SUCCESS)
        del receives[0]
    complete(adapter, "receive", receives, status)


def finish_rest(adapter: Adapter, tcp: TcpContext, status: NdisStatus) -> None:
    """Complete posted disconnects and forwards."""
    io = tcp.io
    if io is None:
        return
    for op in ("disconnect", "forward"):
        queue = queue_of(io, op)
        posted = list(queue)
        queue.clear()
        complete(adapter, op, posted, status)


def take_sends(tcp: TcpContext) -> tuple[NetBufferList, list[int]]:
    """Remove the outstanding sends from their queue. Returns the first list of their chain, and addresses.

    The addresses are those of the lists with data, or of the first and last list if none has data (R-OSD-02,
    R-OSD-12).
    """
    assert tcp.io is not None
    nbls = [p.nbl for p in tcp.io.sends]
    tcp.io.sends.clear()
    first = chain(nbls)
    assert first is not None
    with_data = [x.address for x in nbls if any(nb.data_length for nb in iter_net_buffers(x))]
    return first, with_data or [nbls[0].address, nbls[-1].address]


def receive_return(adapter: Adapter, lists: NblChain) -> None:
    """Take back lists that were indicated, or handed up with a connection (R-IND-12, R-BRD-09)."""
    for address in lists.addresses:
        if not adapter.chimney_pool.take_back(address):
            adapter.refuse("receive return of a list that was not lent")
