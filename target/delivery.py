"""Delivery of buffered receive data: into posted requests, and only a remainder by indication (R-BRD-05).

Data taken over with a connection waits here for the host's requests; data from the wire will queue behind it
(R-BRD-06), so this is where the delivery algorithm of the TCP machine goes on. Completions and indications of
one connection never overlap: while an indication has not returned, new requests only queue (R-RECV-05).
"""

from __future__ import annotations

from typing import Final

from ndisbus.driver import Steps
from ndisbus.enums import NetBufferListInfo
from ndisbus.nbl import NetBufferList, advance, iter_mdls, iter_net_buffers
from ndisbus.nblchain import NblChain
from ndisbus.status import NdisStatus
from target import io
from target.adapter import Adapter
from target.contexts import Posted, TcpContext, TcpIo
from target.life import Life

__all__ = ["deliver", "place"]

_NO_PUSH: Final = int(NetBufferListInfo.TcpReceiveNoPush)
_LIVE: Final = frozenset((Life.OFFLOADED, Life.UPDATING, Life.INVALID))


def deliver(adapter: Adapter, tcp: TcpContext) -> Steps | None:
    """The host posted a receive request: deliver what is buffered.

    Returns steps to run if data must be indicated; they wait for the host's answer.
    """
    posted = tcp.io
    if posted is None:
        return None
    posted.refused = False
    if posted.indicating or not posted.buffered:
        return None
    _fill(adapter, tcp, posted)
    return _indicate(adapter, tcp, posted) if posted.buffered else None


def _fill(adapter: Adapter, tcp: TcpContext, posted: TcpIo) -> None:
    """Fill requests in order; full ones complete, in any mode (R-RECV-02, R-RECV-14)."""
    full: list[Posted] = []
    before = len(posted.buffered)
    while posted.receives and posted.buffered:
        request = posted.receives[0]
        placed = place(request.nbl, posted.buffered)
        del posted.buffered[:placed]
        request.done += placed
        if any(nb.data_length for nb in iter_net_buffers(request.nbl)):
            break
        # A request of no bytes is full from the start: it consumes nothing and is completed (R-IND-08).
        full.append(posted.receives.popleft())
    adapter.hardware.buffered_bytes -= before - len(posted.buffered)
    if full:
        io.complete(adapter, "receive", full, NdisStatus.SUCCESS)
        posted.push_at = None
    _start_push_timer(adapter, tcp, posted)


def _start_push_timer(adapter: Adapter, tcp: TcpContext, posted: TcpIo) -> None:
    """A partly filled push request completes when the push timer expires (R-RECV-15, R-RECV-16)."""
    request = posted.receives[0] if posted.receives else None
    if request is None or not request.done or request.nbl.net_buffer_list_info.get(_NO_PUSH):
        return
    ticks = adapter.parameters
    due = adapter.ndis.now() + ticks.tcp_push_ticks / ticks.ticks_per_second
    posted.push_at = due

    def expire(_now: float) -> None:
        if posted.push_at == due and posted.receives and posted.receives[0] is request:
            posted.push_at = None
            posted.receives.popleft()
            io.complete(adapter, "receive", [request], NdisStatus.SUCCESS)

    adapter.timers.set(due, expire)


def _indicate(adapter: Adapter, tcp: TcpContext, posted: TcpIo) -> Steps:
    """Indicate what did not fit, RcvIndicationSize bytes at a time (R-IND-09), until the host refuses."""
    while posted.buffered and not posted.refused and tcp.life in _LIVE and not tcp.uploading:
        size = tcp.cached.rcv_indication_size or len(posted.buffered)
        nbl = adapter.chimney_pool.lend(bytes(posted.buffered[:size]))
        offered = min(size, len(posted.buffered))
        posted.indicating = True
        adapter.indicating[tcp.address] = tcp
        status, consumed = yield adapter.ndis.tcp_offload_receive_handler(
            tcp.ndis_handle, NblChain.of(nbl), int(NdisStatus.SUCCESS)
        )
        posted.indicating = False
        adapter.indicating.pop(tcp.address, None)
        _answered(adapter, posted, nbl, offered, status, consumed or 0)
        if posted.receives:
            # Posted from inside the indication: requests come before further indications (R-IND-07).
            posted.refused = False
            _fill(adapter, tcp, posted)
    adapter.pipeline.run(adapter.ndis.now())


def _answered(
    adapter: Adapter, posted: TcpIo, nbl: NetBufferList, offered: int, status: int, consumed: int
) -> None:
    """The host accepted all, some or none; only with all does it keep the list (R-IND-03 to R-IND-06)."""
    if status == NdisStatus.SUCCESS:
        taken = offered
    else:
        taken = min(consumed, offered) if status == NdisStatus.OFFLOAD_DATA_PARTIALLY_ACCEPTED else 0
        adapter.chimney_pool.take_back(nbl.address)
        posted.refused = True
    del posted.buffered[:taken]
    adapter.hardware.buffered_bytes -= taken


def place(nbl: NetBufferList, data: bytes | bytearray) -> int:
    """Copy bytes to the data start of a list, and advance it past them (R-RECV-12); how many fitted."""
    done = 0
    for nb in iter_net_buffers(nbl):
        size = min(nb.data_length, len(data) - done)
        left, offset = size, nb.current_mdl_offset
        for mdl in iter_mdls(nb.current_mdl):
            if not left:
                break
            count = min(mdl.byte_count - offset, left)
            memory = bytearray(mdl.data or b"")
            if len(memory) < offset + count:
                memory += bytes(offset + count - len(memory))
            memory[offset : offset + count] = data[done : done + count]
            mdl.data = memory
            done, left, offset = done + count, left - count, 0
        advance(nb, size)
    return done
