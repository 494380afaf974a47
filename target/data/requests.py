"""I/O requests of the host on a connection that runs: what happens after they are queued.

On an adapter without a wire, and on a connection that is not served, they stay in their queues.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import Steps
from ndisbus.errors import ChimneyError
from ndisbus.lists.nbl import data_of, iter_net_buffers
from ndisbus.lists.nbl_chain import NblChain
from ndisbus.net.segment import URG, Segment
from ndisbus.net.tcp import parse_segment
from target.data import delivery, io, sending
from target.model.contexts import Posted

if TYPE_CHECKING:
    from target.data.flow import Flow
    from target.hardware.adapter import Adapter

__all__ = ["disconnect", "forward", "receive", "send"]


def send(adapter: Adapter, pointer: int, chain: NblChain) -> None:
    """MiniportTcpOffloadSend."""
    flow = _flow(adapter, pointer)
    queued = io.post(adapter, "send", pointer, chain)
    if queued is not None and flow is not None:
        sending.send(flow, queued[1])
        flow.pump(adapter.ndis.now())


def disconnect(adapter: Adapter, pointer: int, chain: NblChain, flags: int) -> None:
    """MiniportTcpOffloadDisconnect."""
    flow = _flow(adapter, pointer)
    queued = io.post(adapter, "disconnect", pointer, chain, flags)
    if queued is not None and flow is not None:
        sending.disconnect(flow, queued[1])
        flow.pump(adapter.ndis.now())
        sending.fin_acknowledged(flow)


def receive(adapter: Adapter, pointer: int, chain: NblChain) -> Steps | None:
    """MiniportTcpOffloadReceive; steps to run where data has to be indicated."""
    queued = io.post(adapter, "receive", pointer, chain)
    if queued is None:
        return None
    tcp, posted = queued
    steps = delivery.posted(adapter, tcp)
    if tcp.flow is not None:
        for p in posted:
            tcp.flow.habits.posted(adapter, tcp, p)
        if steps is None:
            tcp.flow.pump(adapter.ndis.now())  # what was placed has made room
    return steps


def forward(adapter: Adapter, pointer: int, chain: NblChain) -> None:
    """MiniportTcpOffloadForward: segments that reached the host count as from the wire (R-FWD-06)."""
    flow = _flow(adapter, pointer)
    queued = io.post(adapter, "forward", pointer, chain)
    if queued is not None and flow is not None:
        for posted in queued[1]:
            _process(adapter, flow, posted)


def _flow(adapter: Adapter, pointer: int) -> Flow | None:
    """The connection's machine, made before the request is queued; None if none is to run."""
    tcp = adapter.connection(pointer)
    if adapter.station is None or tcp is None or not tcp.serving:
        return None
    return adapter.station.flow(tcp)


def _process(adapter: Adapter, flow: Flow, posted: Posted) -> None:
    """One list: its segments are the machine's, and it goes back with success (R-FWD-05).

    A segment that makes the machine ask for the upload without having taken it is the host's again.
    """
    status = NdisStatus.SUCCESS
    for segment in _segments(adapter, posted):
        if not flow.tcp.serving:
            status = NdisStatus.UPLOAD_IN_PROGRESS
            break
        flow.feed(segment, adapter.ndis.now())
        if flow.tcp.uploading and segment.flags & URG:
            status = NdisStatus.UPLOAD_IN_PROGRESS
    queue = flow.io.forwards
    if posted in queue:  # an RST among the segments has completed it already
        queue.remove(posted)
        io.complete(adapter, "forward", [posted], status)


def _segments(adapter: Adapter, posted: Posted) -> Iterable[Segment]:
    """The TCP segment of each net buffer, header first (R-FWD-02); the host has verified the checksum."""
    out = []
    for nb in iter_net_buffers(posted.nbl):
        try:
            out.append(parse_segment(data_of(nb), None))
        except ChimneyError:
            adapter.refuse("forwarded segment is not well formed")
    return out
