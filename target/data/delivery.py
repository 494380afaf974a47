"""Delivery of received data: the algorithm of the page "delivery-algorithm.md".

Three things enter it (R-DLV-01): data in sequence (:func:`arrived`), requests (:func:`posted`), the push
timer. Data goes into posted requests, and only what they do not hold is indicated (R-RECV-04). While an
indication has not returned nothing else happens, and what came meanwhile is taken up then (R-DLV-03,
R-RECV-05). Data that the host refused, or that came down with the connection, waits for requests (R-IND-06,
R-BRD-05), and what comes after it queues behind it (R-BRD-06, R-DLV-05).

Undelivered data is in one place: in the machine's receive buffer, so that the window shows it, or in
``TcpIo.buffered`` as long as the connection has no machine.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from ndisbus.ddi.enums import NetBufferListInfo
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import Steps
from ndisbus.lists.nbl import NetBufferList, advance, iter_mdls, iter_net_buffers
from ndisbus.lists.nbl_chain import NblChain
from target.data import io, remote_end
from target.model.life import Life

if TYPE_CHECKING:
    from target.hardware.adapter import Adapter
    from target.model.contexts import Posted, TcpContext, TcpIo

__all__ = ["arrived", "place", "posted"]

_NO_PUSH: Final = int(NetBufferListInfo.TcpReceiveNoPush)
_PLACED_BEFORE: Final = int(NetBufferListInfo.TcpReceiveBytesTransferred)
_HASH: Final = int(NetBufferListInfo.NetBufferListHashValue)
_LIVE: Final = frozenset((Life.OFFLOADED, Life.UPDATING, Life.INVALID))


def arrived(adapter: Adapter, tcp: TcpContext) -> None:
    """Data in sequence, or the peer's FIN, has arrived."""
    steps = _deliver(adapter, tcp)
    if steps is not None:
        adapter.ndis.run(steps)


def posted(adapter: Adapter, tcp: TcpContext) -> Steps | None:
    """The host posted receive requests; steps to run if data has to be indicated: they wait for answers."""
    waiting = tcp.io
    assert waiting is not None
    waiting.waiting = False
    _start_at_once(adapter, tcp, waiting)
    return _deliver(adapter, tcp)


# -- the data ----------------------------------------------------------------------------------


def _available(tcp: TcpContext, posted: TcpIo) -> int:
    return len(posted.buffered) if tcp.flow is None else tcp.flow.machine.available


def _look(tcp: TcpContext, posted: TcpIo, count: int) -> bytes:
    """The first ``count`` bytes, which stay."""
    if tcp.flow is None:
        return bytes(posted.buffered[:count])
    out: list[bytes] = []
    for piece in tcp.flow.machine.received.pieces():
        out.append(piece[:count])
        count -= len(out[-1])
        if not count:
            break
    return out[0] if len(out) == 1 else b"".join(out)


def _take(adapter: Adapter, tcp: TcpContext, posted: TcpIo, count: int) -> bytes:
    """The first ``count`` bytes, which are delivered."""
    adopted = min(count, posted.adopted)
    posted.adopted -= adopted
    adapter.hardware.buffered_bytes -= adopted
    if tcp.flow is not None:
        return tcp.flow.machine.read(count)
    data = bytes(posted.buffered[:count])
    del posted.buffered[:count]
    return data


# -- the algorithm -----------------------------------------------------------------------------


def _deliver(adapter: Adapter, tcp: TcpContext) -> Steps | None:
    posted = tcp.io
    if posted is None or posted.indicating:
        return None
    if _available(tcp, posted):
        if posted.receives:
            _fill(adapter, tcp, posted)
        if _may_indicate(adapter, tcp, posted):
            return _indicate(adapter, tcp, posted)
    _finish(adapter, tcp, posted)
    return None


def _may_indicate(adapter: Adapter, tcp: TcpContext, posted: TcpIo) -> bool:
    """Whether what is left is to be indicated now."""
    if posted.waiting or posted.receives or not _available(tcp, posted):
        return False
    if tcp.uploading or tcp.aborted:
        return False
    if adapter.initiating:
        if tcp.flow is not None and not posted.deferred:
            # Not before the initiate has completed (R-CONC-03, R-CONC-04).
            posted.deferred = True
            adapter.indicate(partial(_resume, adapter, tcp, posted))
        return False
    return tcp.life in _LIVE


def _resume(adapter: Adapter, tcp: TcpContext, posted: TcpIo) -> None:
    posted.deferred = False
    if tcp.life in _LIVE:
        arrived(adapter, tcp)


def _fill(adapter: Adapter, tcp: TcpContext, posted: TcpIo) -> None:
    """Fill requests in order; full ones complete, in any mode (R-RECV-02, R-RECV-14)."""
    full: list[Posted] = []
    while posted.receives and (left := _available(tcp, posted)):
        request = posted.receives[0]
        room = sum(nb.data_length for nb in iter_net_buffers(request.nbl))
        count = min(room, left)
        if count:
            request.done += place(request.nbl, _take(adapter, tcp, posted, count))
        if count < room:
            break
        # A request of no bytes is full from the start: it consumes nothing and is completed (R-IND-08).
        full.append(posted.receives.popleft())
    if full:
        posted.push_at = None
    pushed = posted.pushed and not _available(tcp, posted)
    first = posted.receives[0] if posted.receives else None
    if pushed:
        posted.pushed = False  # PSH is remembered with the data, until it is placed (R-OPEN-03)
    if first is not None and first.done and pushed and not _is_non_push(first):
        full.append(posted.receives.popleft())
        posted.push_at = None
        first = None
    if full:
        _complete(adapter, tcp, full)
    if first is not None and first.done and not _is_non_push(first):
        _start_push_timer(adapter, tcp, posted)


def _is_non_push(request: Posted) -> bool:
    return bool(request.nbl.net_buffer_list_info.get(_NO_PUSH))


def _start_push_timer(adapter: Adapter, tcp: TcpContext, posted: TcpIo) -> None:
    """A partly filled push request completes when the push timer expires; data restarts it (R-DIS-17)."""
    ticks = adapter.parameters
    posted.push_at = adapter.ndis.now() + ticks.tcp_push_ticks / ticks.ticks_per_second
    if posted.push_set is None or posted.push_set > posted.push_at:
        posted.push_set = posted.push_at
        adapter.timers.push(posted.push_at, partial(_push_timer_expired, adapter, tcp, posted))


def _push_timer_expired(adapter: Adapter, tcp: TcpContext, posted: TcpIo, now: float) -> None:
    """One that was stopped, or restarted, fires all the same (R-DLV-06)."""
    if posted.push_set is not None and posted.push_set <= now:
        posted.push_set = None
    due = posted.push_at
    if due is None or not posted.receives:
        return
    if due > now:
        if posted.push_set is None:
            posted.push_set = due
            adapter.timers.push(due, partial(_push_timer_expired, adapter, tcp, posted))
        return
    posted.push_at = None
    _complete(adapter, tcp, [posted.receives.popleft()])


def _start_at_once(adapter: Adapter, tcp: TcpContext, posted: TcpIo) -> None:
    """A push request that comes down with data in it has its timer started at once (R-RECV-18, R-DIS-19)."""
    first = posted.receives[0] if posted.receives else None
    if first is None or first.done or posted.push_at is not None or not first.has_descriptor:
        return
    if first.nbl.net_buffer_list_info.get(_PLACED_BEFORE) and not _is_non_push(first):
        _start_push_timer(adapter, tcp, posted)


def _complete(adapter: Adapter, tcp: TcpContext, requests: list[Posted]) -> None:
    value = tcp.const.hash_value
    if value:
        for request in requests:
            request.nbl.net_buffer_list_info[_HASH] = value
    io.complete(adapter, "receive", requests, NdisStatus.SUCCESS)


def _finish(adapter: Adapter, tcp: TcpContext, posted: TcpIo) -> None:
    """Everything before the peer's FIN was consumed: tell of the FIN (R-DISC-14).

    A request that is partly filled goes back first, in any mode: no byte will ever be added (R-OPEN-02).
    """
    if not posted.fin_pending or _available(tcp, posted) or tcp.life not in _LIVE:
        return
    posted.fin_pending = False
    if posted.receives and posted.receives[0].done:
        posted.push_at = None
        _complete(adapter, tcp, [posted.receives.popleft()])
    remote_end.fin_received(adapter, tcp)


def _indicate(adapter: Adapter, tcp: TcpContext, posted: TcpIo) -> Steps:
    """Indicate what no request holds, RcvIndicationSize bytes at a time (R-IND-09), until it is refused."""
    while _may_indicate(adapter, tcp, posted):
        left = _available(tcp, posted)
        offered = min(tcp.cached.rcv_indication_size or left, left)
        nbl = adapter.chimney_pool.lend(_look(tcp, posted, offered))
        if tcp.const.hash_value:
            nbl.net_buffer_list_info[_HASH] = tcp.const.hash_value  # R-RSS-01
        posted.indicating = True
        adapter.indicating[tcp.address] = tcp
        if tcp.flow is not None:
            tcp.flow.habits.indicated(adapter, tcp)
        status, consumed = yield adapter.ndis.tcp_offload_receive_handler(
            tcp.ndis_handle, NblChain.of(nbl), int(NdisStatus.SUCCESS)
        )
        posted.indicating = False
        adapter.indicating.pop(tcp.address, None)
        if tcp.life is Life.GONE:
            return
        _answered(adapter, tcp, posted, nbl, offered, status, consumed or 0)
        if posted.receives:
            # Posted from inside the indication: requests come before further indications (R-IND-07).
            posted.waiting = False
            if _available(tcp, posted):
                _fill(adapter, tcp, posted)
    _finish(adapter, tcp, posted)
    if tcp.flow is not None:
        tcp.flow.pump(adapter.ndis.now())  # what was consumed has made room
    adapter.pipeline.run(adapter.ndis.now())


def _answered(
    adapter: Adapter,
    tcp: TcpContext,
    posted: TcpIo,
    nbl: NetBufferList,
    offered: int,
    status: int,
    consumed: int,
) -> None:
    """The host accepted all, some or none; only with all does it keep the list (R-IND-03 to R-IND-06)."""
    if status == NdisStatus.SUCCESS:
        taken = offered
    else:
        taken = min(consumed, offered) if status == NdisStatus.OFFLOAD_DATA_PARTIALLY_ACCEPTED else 0
        adapter.chimney_pool.take_back(nbl.address)
        posted.waiting = True
    _take(adapter, tcp, posted, taken)
    if not _available(tcp, posted):
        posted.waiting = posted.pushed = False


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
            # The first bytes give a buffer that can be written to; the next ones find it.
            memory = mdl.data if type(mdl.data) is bytearray else bytearray(mdl.data or b"")
            if len(memory) < offset + count:
                memory += bytes(offset + count - len(memory))
            memory[offset : offset + count] = data[done : done + count]
            mdl.data = memory
            done, left, offset = done + count, left - count, 0
        advance(nb, size)
    return done
