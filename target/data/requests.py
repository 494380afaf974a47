"""Send, receive, disconnect and forward requests of the host: the way down.

Every request is accepted and pends (R-SEND-01, R-RECV-01, R-DISC-02, R-FWD-04). A request that cannot be
served is completed at once with the status that says why (:func:`refusal`). The others wait in the queues of
their connection. The TCP machine of a served connection works on them. On an adapter without a wire, and on a
connection that is not served, they stay in the queues.
"""

from __future__ import annotations

from collections.abc import Iterable

from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.driver.base import Steps
from ndisbus.errors import ChimneyError, DecodeError
from ndisbus.lists.nbl import data_of, iter_net_buffers
from ndisbus.lists.nbl_chain import NblChain
from ndisbus.net.segment import URG, Segment
from ndisbus.net.tcp import parse_segment
from target.data import delivery, sending
from target.data.completion import complete, queue_of
from target.data.machines import flow_of
from target.hardware.adapter import Adapter
from target.hardware.events import request_upload
from target.model.contexts import TcpContext
from target.model.flow import Flow
from target.model.life import Life
from target.model.posted import Posted

__all__ = ["disconnect", "forward", "receive", "refusal", "send"]


def send(adapter: Adapter, pointer: int, chain: NblChain) -> None:
    """MiniportTcpOffloadSend."""
    queued = _post(adapter, "send", pointer, chain)
    if queued is not None:
        tcp, flow, posted = queued
        if flow is not None:
            sending.send(adapter, tcp, posted)
            flow.pump(adapter.ndis.now())


def disconnect(adapter: Adapter, pointer: int, chain: NblChain, flags: int) -> None:
    """MiniportTcpOffloadDisconnect."""
    queued = _post(adapter, "disconnect", pointer, chain, flags)
    if queued is not None:
        tcp, flow, posted = queued
        if flow is not None:
            sending.disconnect(adapter, tcp, posted)
            flow.pump(adapter.ndis.now())
            sending.fin_acknowledged(adapter, tcp)


def receive(adapter: Adapter, pointer: int, chain: NblChain) -> Steps | None:
    """MiniportTcpOffloadReceive. Returns steps to run if data has to be indicated."""
    queued = _post(adapter, "receive", pointer, chain)
    if queued is None:
        return None
    tcp, _, posted = queued
    steps = delivery.posted(adapter, tcp)
    if tcp.flow is not None:
        for request in posted:
            tcp.flow.receive_posted(request)
        if steps is None:
            tcp.flow.pump(adapter.ndis.now())  # placing data has made room in the window
    return steps


def forward(adapter: Adapter, pointer: int, chain: NblChain) -> None:
    """MiniportTcpOffloadForward: process segments that reached the host as if from the wire (R-FWD-06)."""
    queued = _post(adapter, "forward", pointer, chain)
    if queued is not None:
        tcp, flow, posted = queued
        if flow is not None:
            for request in posted:
                _forward_one(adapter, tcp, flow, request)


# -- posting -----------------------------------------------------------------------------------


def refusal(adapter: Adapter, op: str, tcp: TcpContext | None) -> NdisStatus | None:
    """Return None if a request may be posted now, or the status with which it ends at once.

    A send on an invalid connection also repeats the upload request made at the invalidate (R-EVT-08).
    """
    if adapter.knobs.at(op) and (status := adapter.knobs.fire(op)) is not None:
        return status
    if tcp is None:
        adapter.refuse(f"{op} on a connection that is not offloaded")
        return NdisStatus.UPLOAD_IN_PROGRESS
    if tcp.aborted:
        return NdisStatus.REQUEST_ABORTED
    if tcp.life is Life.TERMINATING or adapter.uploading:
        return NdisStatus.UPLOAD_IN_PROGRESS
    if op == "send" and tcp.invalid:
        request_upload(adapter, tcp, TcpUploadReason.InvalidState)
        return NdisStatus.UPLOAD_IN_PROGRESS
    if tcp.uploading:
        return NdisStatus.UPLOAD_IN_PROGRESS
    if op == "receive" and tcp.io is not None and tcp.io.fin_received:
        return NdisStatus.INVALID_STATE
    return None


def _post(
    adapter: Adapter, op: str, pointer: int, lists: NblChain, flags: int = 0
) -> tuple[TcpContext, Flow | None, list[Posted]] | None:
    """Queue a request. Returns connection, flow (if served) and lists; None if the request was completed.

    A receive request does not make a flow: buffered data is delivered without one.
    """
    tcp = adapter.connection(pointer)
    status = refusal(adapter, op, tcp)
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
    flow: Flow | None = None
    if op != "receive" and adapter.link is not None and tcp.serving:
        # Before the lists are queued: a new machine takes queued lists as sends that came down with it.
        flow = flow_of(adapter, tcp)
    queue_of(adapter.io(tcp), op).extend(posted)
    return tcp, flow, posted


# -- forwarded segments ------------------------------------------------------------------------


def _forward_one(adapter: Adapter, tcp: TcpContext, flow: Flow, posted: Posted) -> None:
    """Process the segments of one list and complete it with success (R-FWD-05).

    A segment that causes the upload and is not processed goes back to the host (UPLOAD_IN_PROGRESS).
    """
    assert tcp.io is not None
    status = NdisStatus.SUCCESS
    for segment in _segments(adapter, posted):
        if not tcp.serving:
            status = NdisStatus.UPLOAD_IN_PROGRESS
            break
        flow.feed(segment, adapter.ndis.now())
        if tcp.uploading and segment.flags & URG:
            status = NdisStatus.UPLOAD_IN_PROGRESS
    queue = tcp.io.forwards
    if posted in queue:  # otherwise an RST among the segments has completed it
        queue.remove(posted)
        complete(adapter, "forward", [posted], status)


def _segments(adapter: Adapter, posted: Posted) -> Iterable[Segment]:
    """Return the TCP segment in each net buffer, from its header on (R-FWD-02).

    The host verified checksums.
    """
    out = []
    for nb in iter_net_buffers(posted.nbl):
        try:
            out.append(parse_segment(data_of(nb), None))
        except ChimneyError:
            adapter.refuse("forwarded segment is not well formed")
    return out
