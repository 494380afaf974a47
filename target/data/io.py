"""Send, receive, disconnect and forward requests: queued in order, and completed in order.

Every request is accepted and pends (R-SEND-01, R-RECV-01, R-DISC-02, R-FWD-04). What cannot be served is
completed at once with the status that says why; the rest waits in the queues of the connection, where the
TCP machine will find it. Whatever happens to the connection, each list is completed exactly once: by the
functions here, or by being handed back in NetBufferListChain (R-DIS-16).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from ndisbus.ddi.enums import NetBufferListInfo, TcpUploadReason
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import DecodeError
from ndisbus.lists.nbl import NetBufferList, chain, chain_to_wire, iter_net_buffers
from ndisbus.lists.nbl_chain import Attachments, NblChain
from target.hardware.adapter import Adapter
from target.model import events
from target.model.contexts import Posted, TcpContext, TcpIo
from target.model.life import Life

__all__ = ["complete", "finish_all", "finish_receives", "finish_rest", "post", "receive_return", "take_sends"]

_COMPLETIONS: Final = {
    "send": "NdisTcpOffloadSendComplete",
    "receive": "NdisTcpOffloadReceiveComplete",
    "disconnect": "NdisTcpOffloadDisconnectComplete",
    "forward": "NdisTcpOffloadForwardComplete",
}
_TRANSFERRED: Final = int(NetBufferListInfo.TcpOffloadBytesTransferred)


def queue_of(io: TcpIo, op: str) -> deque[Posted]:
    """The queue of one kind of request."""
    if op == "send":
        return io.sends
    return io.receives if op == "receive" else io.disconnects if op == "disconnect" else io.forwards


def post(
    adapter: Adapter, op: str, pointer: int, lists: NblChain, flags: int = 0
) -> tuple[TcpContext, list[Posted]] | None:
    """A request of the host. The connection and its lists if they were queued, None if completed."""
    tcp = adapter.connection(pointer)
    status = _verdict(adapter, op, tcp)
    posted = [
        Posted(
            address,
            lists.source_handle,
            attachments=lists.attachments,
            call_context=lists.context,
            flags=flags,
        )
        for address in lists.addresses
    ]
    if lists.attachments is not None and status is None:
        try:
            lists.attachments.read()
        except DecodeError:
            adapter.refuse("net buffer lists of a request are not well formed")
            status = NdisStatus.REQUEST_ABORTED
    if status is not None or tcp is None:
        complete(adapter, op, posted, status or NdisStatus.UPLOAD_IN_PROGRESS, describe=False)
        return None
    queue_of(adapter.io(tcp), op).extend(posted)
    return tcp, posted


def _verdict(adapter: Adapter, op: str, tcp: TcpContext | None) -> NdisStatus | None:
    """The status a new request ends with at once, or None if it is queued."""
    if adapter.knobs.at(op) and (status := adapter.knobs.fire(op)) is not None:
        return status
    if tcp is None:
        adapter.refuse(f"{op} on a connection that is not offloaded")
        return NdisStatus.UPLOAD_IN_PROGRESS
    io = tcp.io
    if tcp.aborted:
        return NdisStatus.REQUEST_ABORTED
    if tcp.life is Life.TERMINATING or adapter.uploading:
        return NdisStatus.UPLOAD_IN_PROGRESS
    if op == "send" and not tcp.may_send:
        # Whoever goes on sending has not heard, or not heeded, the request made at the invalidate (R-EVT-08).
        events.request_upload(adapter, tcp, TcpUploadReason.InvalidState)
        return NdisStatus.UPLOAD_IN_PROGRESS
    if tcp.uploading:
        return NdisStatus.UPLOAD_IN_PROGRESS
    if op == "receive" and io is not None and io.fin_received:
        return NdisStatus.INVALID_STATE
    return None


def complete(
    adapter: Adapter, op: str, posted: Iterable[Posted], status: NdisStatus, *, describe: bool = True
) -> None:
    """Complete requests, all with one status; lists of one call go back in one chain.

    TcpOffloadBytesTransferred says what was transferred (R-SEND-10, R-RECV-12). Received bytes travel with
    their lists; otherwise the contents are the host's own and stay there. ``describe``: whether the lists
    themselves go along.
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
    """End everything that is posted on a connection: an RST, corrupt hardware."""
    if tcp.io is None:
        return
    sends = list(tcp.io.sends)
    tcp.io.sends.clear()
    complete(adapter, "send", sends, status)
    finish_receives(adapter, tcp, status)
    finish_rest(adapter, tcp, status)


def finish_receives(adapter: Adapter, tcp: TcpContext, status: NdisStatus) -> None:
    """End posted receive requests in order; bytes placed already are delivered first (R-BRD-07)."""
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
    """End posted disconnects and forwards."""
    io = tcp.io
    if io is None:
        return
    for op in ("disconnect", "forward"):
        queue = queue_of(io, op)
        posted = list(queue)
        queue.clear()
        complete(adapter, op, posted, status)


def take_sends(tcp: TcpContext) -> tuple[NetBufferList, list[int]]:
    """Outstanding sends chained in the order in which they came, and the addresses of those with data.

    The first list, and at least one address (R-OSD-02, R-OSD-12). The queue is empty afterwards.
    """
    assert tcp.io is not None
    nbls = [p.nbl for p in tcp.io.sends]
    tcp.io.sends.clear()
    first = chain(nbls)
    assert first is not None
    with_data = [x.address for x in nbls if any(nb.data_length for nb in iter_net_buffers(x))]
    return first, with_data or [nbls[0].address, nbls[-1].address]


def receive_return(adapter: Adapter, lists: NblChain) -> None:
    """Lists we indicated, or handed up with a connection, are ours again (R-IND-12, R-BRD-09)."""
    for address in lists.addresses:
        if not adapter.chimney_pool.take_back(address):
            adapter.refuse("receive return of a list that was not lent")
