"""Delivery of received data to the host (DDI page delivery-algorithm).

Three things start it (R-DLV-01): data in sequence (:func:`arrived`), receive requests (:func:`posted`), the
push timer. Data is placed in posted requests (:func:`_fill`); only data for which there is no request is
indicated (R-RECV-04). Until an indication has returned, nothing else is delivered (R-DLV-03, R-RECV-05).
Data that the host refused, or that came down with the connection, waits for a request (R-IND-06, R-BRD-05),
and later data queues behind it (R-BRD-06, R-DLV-05).

Undelivered data is in one place: in the machine's receive buffer, so that the window accounts for it, or in
``TcpIo.buffered`` while the connection does not have a machine.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from ndisbus.ddi.enums import NetBufferListInfo
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import Steps
from ndisbus.lists.nbl import NetBufferList, advance, iter_mdls, iter_net_buffers
from ndisbus.lists.nbl_chain import NblChain
from target.data.completion import complete
from target.data.remote_end import fin_received
from target.model.life import Life

if TYPE_CHECKING:
    from target.hardware.adapter import Adapter
    from target.model.contexts import TcpContext
    from target.model.posted import Posted, TcpIo

__all__ = ["arrived", "place", "posted"]

_NO_PUSH: Final = int(NetBufferListInfo.TcpReceiveNoPush)
_PLACED_BEFORE: Final = int(NetBufferListInfo.TcpReceiveBytesTransferred)
_HASH: Final = int(NetBufferListInfo.NetBufferListHashValue)
_LIVE: Final = frozenset((Life.OFFLOADED, Life.UPDATING, Life.INVALID))


def arrived(adapter: Adapter, tcp: TcpContext) -> None:
    """Deliver data in sequence, or the remote end's FIN, that has arrived."""
    steps = _deliver(adapter, tcp)
    if steps is not None:
        adapter.ndis.run(steps)


def posted(adapter: Adapter, tcp: TcpContext) -> Steps | None:
    """Deliver into receive requests that the host has posted. Returns steps to run if data is indicated."""
    io = tcp.io
    assert io is not None
    io.waiting = False
    _start_at_once(adapter, tcp, io)
    return _deliver(adapter, tcp)


# -- the data ----------------------------------------------------------------------------------


def _available(tcp: TcpContext, io: TcpIo) -> int:
    return len(io.buffered) if tcp.flow is None else len(tcp.flow.machine.received)


def _look(tcp: TcpContext, io: TcpIo, count: int) -> bytes:
    """Return the first ``count`` undelivered bytes without removing them."""
    if tcp.flow is None:
        return bytes(io.buffered[:count])
    out: list[bytes] = []
    for piece in tcp.flow.machine.received.pieces():
        out.append(piece[:count])
        count -= len(out[-1])
        if not count:
            break
    return out[0] if len(out) == 1 else b"".join(out)


def _take(adapter: Adapter, tcp: TcpContext, io: TcpIo, count: int) -> bytes:
    """Remove and return the first ``count`` undelivered bytes."""
    adopted = min(count, io.adopted)
    io.adopted -= adopted
    adapter.hardware.buffered_bytes -= adopted
    if tcp.flow is not None:
        return tcp.flow.machine.read(count)
    data = bytes(io.buffered[:count])
    del io.buffered[:count]
    return data


# -- the algorithm -----------------------------------------------------------------------------


def _deliver(adapter: Adapter, tcp: TcpContext) -> Steps | None:
    io = tcp.io
    if io is None or io.indicating:
        return None
    if tcp.life is Life.OFFLOADING:
        _defer(adapter, tcp, io)
        return None
    if _available(tcp, io):
        if io.receives:
            _fill(adapter, tcp, io)
        if _may_indicate(adapter, tcp, io):
            return _indicate(adapter, tcp, io)
    _finish(adapter, tcp, io)
    return None


def _may_indicate(adapter: Adapter, tcp: TcpContext, io: TcpIo) -> bool:
    """Return whether undelivered data must be indicated now."""
    if io.waiting or io.receives or not _available(tcp, io):
        return False
    if tcp.uploading or tcp.aborted:
        return False
    if adapter.initiating:
        if tcp.flow is not None:
            _defer(adapter, tcp, io)
        return False
    return tcp.life in _LIVE


def _defer(adapter: Adapter, tcp: TcpContext, io: TcpIo) -> None:
    """Deliver when no initiate is in progress any more (R-CONC-03, R-CONC-04)."""
    if not io.deferred:
        io.deferred = True
        adapter.indicate(partial(_resume, adapter, tcp, io))


def _resume(adapter: Adapter, tcp: TcpContext, io: TcpIo) -> None:
    io.deferred = False
    if tcp.life in _LIVE:
        arrived(adapter, tcp)


def _fill(adapter: Adapter, tcp: TcpContext, io: TcpIo) -> None:
    """Fill posted requests in order. Full ones complete, push or non-push (R-RECV-02, R-RECV-14)."""
    full: list[Posted] = []
    while io.receives and (left := _available(tcp, io)):
        request = io.receives[0]
        room = sum(nb.data_length for nb in iter_net_buffers(request.nbl))
        count = min(room, left)
        if count:
            request.done += place(request.nbl, _take(adapter, tcp, io, count))
        if count < room:
            break
        # A request of zero bytes is full from the start: it completes without consuming data (R-IND-08).
        full.append(io.receives.popleft())
    if full:
        io.push_at = None
    pushed = io.pushed and not _available(tcp, io)
    first = io.receives[0] if io.receives else None
    if pushed:
        io.pushed = False  # PSH counts until its data has been placed (R-OPEN-03)
    if first is not None and first.done and pushed and not _is_non_push(first):
        full.append(io.receives.popleft())
        io.push_at = None
        first = None
    if full:
        _complete(adapter, tcp, full)
    if first is not None and first.done and not _is_non_push(first):
        _start_push_timer(adapter, tcp, io)


def _is_non_push(request: Posted) -> bool:
    return bool(request.nbl.net_buffer_list_info.get(_NO_PUSH))


def _start_push_timer(adapter: Adapter, tcp: TcpContext, io: TcpIo) -> None:
    """Start the timer that completes a partly filled push request; more data restarts it (R-DIS-17)."""
    ticks = adapter.parameters
    io.push_at = adapter.ndis.now() + ticks.tcp_push_ticks / ticks.ticks_per_second
    if io.push_set is None or io.push_set > io.push_at:
        io.push_set = io.push_at
        adapter.timers.push(io.push_at, partial(_push_timer_expired, adapter, tcp, io))


def _push_timer_expired(adapter: Adapter, tcp: TcpContext, io: TcpIo, now: float) -> None:
    """Complete the first request if it is due. A stopped or restarted timer also fires (R-DLV-06)."""
    if io.push_set is not None and io.push_set <= now:
        io.push_set = None
    due = io.push_at
    if due is None or not io.receives:
        return
    if due > now:
        if io.push_set is None:
            io.push_set = due
            adapter.timers.push(due, partial(_push_timer_expired, adapter, tcp, io))
        return
    io.push_at = None
    _complete(adapter, tcp, [io.receives.popleft()])


def _start_at_once(adapter: Adapter, tcp: TcpContext, io: TcpIo) -> None:
    """Start the push timer of a push request that came down with data in it (R-RECV-18, R-DIS-19)."""
    first = io.receives[0] if io.receives else None
    if first is None or first.done or io.push_at is not None or not first.has_descriptor:
        return
    if first.nbl.net_buffer_list_info.get(_PLACED_BEFORE) and not _is_non_push(first):
        _start_push_timer(adapter, tcp, io)


def _complete(adapter: Adapter, tcp: TcpContext, requests: list[Posted]) -> None:
    value = tcp.const.hash_value
    if value:
        for request in requests:
            request.nbl.net_buffer_list_info[_HASH] = value
    complete(adapter, "receive", requests, NdisStatus.SUCCESS)


def _finish(adapter: Adapter, tcp: TcpContext, io: TcpIo) -> None:
    """Indicate the remote end's FIN if everything before it has been consumed (R-DISC-14).

    A partly filled request is completed first, push or non-push: no more data will come (R-OPEN-02).
    """
    if not io.fin_pending or _available(tcp, io) or tcp.life not in _LIVE:
        return
    io.fin_pending = False
    if io.receives and io.receives[0].done:
        io.push_at = None
        _complete(adapter, tcp, [io.receives.popleft()])
    fin_received(adapter, tcp)


def _indicate(adapter: Adapter, tcp: TcpContext, io: TcpIo) -> Steps:
    """Indicate undelivered data, RcvIndicationSize bytes at a time (R-IND-09), until the host refuses."""
    while _may_indicate(adapter, tcp, io):
        left = _available(tcp, io)
        offered = min(tcp.cached.rcv_indication_size or left, left)
        nbl = adapter.chimney_pool.lend(_look(tcp, io, offered))
        if tcp.const.hash_value:
            nbl.net_buffer_list_info[_HASH] = tcp.const.hash_value  # R-RSS-01
        io.indicating = True
        adapter.indicating[tcp.address] = tcp
        if tcp.flow is not None:
            tcp.flow.data_indicated()
        status, consumed = yield adapter.ndis.tcp_offload_receive_handler(
            tcp.ndis_handle, NblChain.of(nbl), int(NdisStatus.SUCCESS)
        )
        io.indicating = False
        adapter.indicating.pop(tcp.address, None)
        if tcp.life is Life.GONE:
            return
        _answered(adapter, tcp, io, nbl, offered, status, consumed or 0)
        if io.receives:
            # Posted while the indication was running: requests come before further indications (R-IND-07).
            io.waiting = False
            if _available(tcp, io):
                _fill(adapter, tcp, io)
    _finish(adapter, tcp, io)
    if tcp.flow is not None:
        tcp.flow.pump(adapter.ndis.now())  # consumed data has made room in the window
    adapter.pipeline.run(adapter.ndis.now())


def _answered(
    adapter: Adapter,
    tcp: TcpContext,
    io: TcpIo,
    nbl: NetBufferList,
    offered: int,
    status: int,
    consumed: int,
) -> None:
    """Consume what the host accepted. It keeps the list only if it accepted all (R-IND-03 to R-IND-06)."""
    if status == NdisStatus.SUCCESS:
        taken = offered
    else:
        taken = min(consumed, offered) if status == NdisStatus.OFFLOAD_DATA_PARTIALLY_ACCEPTED else 0
        adapter.chimney_pool.take_back(nbl.address)
        io.waiting = True
    _take(adapter, tcp, io, taken)
    if not _available(tcp, io):
        io.waiting = io.pushed = False


def place(nbl: NetBufferList, data: bytes | bytearray) -> int:
    """Copy bytes to the data start of a list and advance past them (R-RECV-12). Returns the number copied."""
    done = 0
    for nb in iter_net_buffers(nbl):
        size = min(nb.data_length, len(data) - done)
        left, offset = size, nb.current_mdl_offset
        for mdl in iter_mdls(nb.current_mdl):
            if not left:
                break
            count = min(mdl.byte_count - offset, left)
            # The first bytes replace the buffer by a writable one, which later bytes use.
            memory = mdl.data if type(mdl.data) is bytearray else bytearray(mdl.data or b"")
            if len(memory) < offset + count:
                memory += bytes(offset + count - len(memory))
            memory[offset : offset + count] = data[done : done + count]
            mdl.data = memory
            done, left, offset = done + count, left - count, 0
        advance(nb, size)
    return done
