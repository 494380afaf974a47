"""Data on offloaded connections: send, receive, disconnect, forward, and indications.

Data for a connection in the host is queued in ``send_queue``; for an offloaded connection it is posted in
net buffer lists. Nothing is posted while the connection moves (R-CONC-01, R-TERM-04, R-FWD-03).
:mod:`hoststack.model.move` is the table of who owns what meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from hoststack.chimney import upload
from hoststack.chimney.engine import Posted
from hoststack.chimney.send_data import bytes_of, size_of
from hoststack.model.events import DataReceived, DataSent
from hoststack.model.life import State
from hoststack.model.move import HANDS_UP, Item, Owner, Step, owner
from hoststack.model.objects import Tcb
from ndisbus.ddi.enums import NetBufferListInfo
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TcpDisconnectFlags
from ndisbus.errors import LocalProtocolError
from ndisbus.lists.nbl import (
    Mdl,
    NetBuffer,
    NetBufferList,
    chain,
    data_of,
    iter_net_buffers,
    make_net_buffer_list,
)
from ndisbus.lists.nbl_chain import NblChain

if TYPE_CHECKING:
    from hoststack.chimney.engine import Engine

__all__ = [
    "completed",
    "deliver",
    "disconnect",
    "fetch",
    "flush",
    "indicated",
    "posted_send",
    "receive",
    "send",
]

#: Most segments that are held back for a connection while it moves.
MAX_HELD: Final = 1024
#: Size of the receive that asks for data that was refused while its connection was on offer.
_REFUSED_SIZE: Final = 65536
_SUCCESS: Final = int(NdisStatus.SUCCESS)
#: Statuses of posted lists whose data the host is to send or process itself (R-TERM-12, R-IM-14).
_COMES_BACK: Final = frozenset(
    int(s) for s in (NdisStatus.UPLOAD_IN_PROGRESS, NdisStatus.REQUEST_UPLOAD, NdisStatus.UPLOAD_REQUESTED)
)


def posted_send(tcb: Tcb, nbl: NetBufferList) -> Posted:
    """The record of a list of send data in the hands of the driver below."""
    return Posted(tcb, "send", nbl)


def send(host: Engine, tcb: Tcb, data: bytes) -> None:
    """Post data for sending, or queue it if nothing may be posted. See :meth:`HostDriver.send`."""
    if not data:
        return
    if owner(tcb.step, Item.WRITTEN) is Owner.HOST:
        tcb.send_queue = [*(tcb.send_queue or ()), bytes(data)]
        return
    assert tcb.handle is not None
    nbl = make_net_buffer_list(host.ndis.heap.address, [bytes(data)])
    if tcb.lent is None:
        tcb.lent = {}
    tcb.lent[nbl.address] = nbl
    tcb.below += len(data)
    host.posted[nbl.address] = posted_send(tcb, nbl)
    host.ndis.offload_tcp_send(tcb.handle.address, NblChain.of(nbl))


def receive(host: Engine, tcb: Tcb, size: int, *, owed: bool = False) -> None:
    """Post a receive buffer. See :meth:`HostDriver.receive`.

    ``owed``: it asks for data that waits below. If it fails, the connection is uploaded and brings the data.
    """
    if not tcb.may_post or tcb.handle is None:
        raise LocalProtocolError(
            f"{tcb!r} is {tcb.state}: a receive can be posted only while it is offloaded", rule="R-TERM-04"
        )
    heap = host.ndis.heap
    mdl = Mdl(heap.address(max(size, 1)), byte_count=size)
    nbl = NetBufferList(heap.address())
    nbl.first_net_buffer = NetBuffer(heap.address(), mdl_chain=mdl, current_mdl=mdl, data_length=size)
    host.posted[nbl.address] = Posted(tcb, "receive", nbl, owed)
    host.ndis.offload_tcp_receive(tcb.handle.address, NblChain.of(nbl))


def fetch(host: Engine, tcb: Tcb) -> None:
    """Ask for received data that waits below for a request, if nothing prevents that.

    BufferedData that went down is not indicated (R-BRD-05), nor is data that was refused (R-IND-06).
    """
    size = tcb.unread_below + (_REFUSED_SIZE if tcb.refused else 0)
    if size and tcb.may_post:
        tcb.refused = False
        receive(host, tcb, size, owed=True)


def disconnect(host: Engine, tcb: Tcb, *, abortive: bool, data: bytes) -> None:
    """Close the sending side, or reset the connection (R-DISC-01). See :meth:`HostDriver.disconnect`."""
    if not tcb.may_post or tcb.handle is None:
        raise LocalProtocolError(
            f"{tcb!r} is {tcb.state}: a disconnect can be posted only while it is offloaded", rule="R-TERM-04"
        )
    if abortive and data:
        raise LocalProtocolError("an abortive disconnect carries no data", rule="R-DISC-01")
    flags = TcpDisconnectFlags.TCP_DISCONNECT_GRACEFUL_CLOSE
    if abortive:
        flags = TcpDisconnectFlags.TCP_DISCONNECT_ABORTIVE_CLOSE
    nbl = make_net_buffer_list(host.ndis.heap.address, [data] if data else [])
    host.posted[nbl.address] = Posted(tcb, "disconnect", nbl)
    host.ndis.offload_tcp_disconnect(tcb.handle.address, NblChain.of(nbl), int(flags))


def deliver(host: Engine, tcb: Tcb, segments: Sequence[bytes]) -> bool:
    """Forward or hold back TCP segments that reached the host. See :meth:`HostDriver.deliver`."""
    if tcb.may_post:
        _forward(host, tcb, segments)
        return True
    step = tcb.step
    if step is Step.LOST or (step is Step.IN_HOST and tcb.waiting is None):
        return False
    _hold(host, tcb, segments)
    return True


def _hold(host: Engine, tcb: Tcb, segments: Iterable[bytes]) -> None:
    """Keep segments while the connection moves, at most ``MAX_HELD``; the remote end resends the others."""
    held = tcb.held
    if held is None:
        held = tcb.held = []
    for segment in segments:
        if len(held) < MAX_HELD:
            held.append(segment)
        else:
            host.segments_dropped += 1


def _forward(host: Engine, tcb: Tcb, segments: Iterable[bytes]) -> None:
    """Post segments: one per net buffer, one net buffer per list (R-FWD-02)."""
    assert tcb.handle is not None
    lists = [make_net_buffer_list(host.ndis.heap.address, [s]) for s in segments]
    first = chain(lists)
    if first is not None:
        host.posted.update({nbl.address: Posted(tcb, "forward", nbl) for nbl in lists})
        host.ndis.offload_tcp_forward(tcb.handle.address, NblChain.of(first))


def flush(host: Engine, tcb: Tcb) -> None:
    """Forward the segments and post the data that were kept while the connection went down (R-CONC-05)."""
    held, tcb.held = tcb.held, None
    if held:
        _forward(host, tcb, held)
    written, tcb.send_queue = tcb.send_queue, None
    for data in written or ():
        send(host, tcb, data)


def completed(host: Engine, kind: str, nbls: NblChain) -> None:
    """ProtocolTcpOffloadXxxComplete: each list has its own status."""
    attached = nbls.attachments.read() if nbls.attachments is not None else {}
    statuses = nbls.statuses if nbls.statuses is not None else [_SUCCESS] * len(nbls)
    for address, status in zip(nbls.addresses, statuses, strict=True):
        posted = host.posted.pop(address, None)
        if posted is None or posted.kind != kind:
            host.violation("R-SEND-01", f"{kind} completion for {address:#x}, which is not posted")
            continue
        tcb = posted.tcb
        if kind == "send":
            _sent(host, tcb, posted.nbl, status)
        elif kind == "receive":
            _received(host, posted, attached.get(address), status)
        elif kind == "forward" and status in _COMES_BACK:
            # The host processes it itself, after the upload (R-TERM-12, R-FWD-05).
            _hold(host, tcb, [data_of(nb) for nb in iter_net_buffers(posted.nbl)])
        elif kind == "disconnect" and status != _SUCCESS:
            _not_closed(host, posted, attached.get(address), status)


def _not_closed(host: Engine, posted: Posted, nbl: NetBufferList | None, status: int) -> None:
    """A disconnect came back: the host closes the connection when it has it again, behind the data of it."""
    tcb = posted.tcb
    # The bytes of it that the remote end has acknowledged lie before SndUna (R-DISC-10).
    left = bytes_of(posted.nbl)[_transferred(nbl) :]
    if status in _COMES_BACK:
        if left:
            tcb.returned = [*(tcb.returned or ()), (posted.nbl.address, left)]
        return
    if left:
        tcb.aborted = [*(tcb.aborted or ()), (posted.nbl.address, left)]
    upload.request(host, tcb)


def _transferred(nbl: NetBufferList | None) -> int:
    """TcpOffloadBytesTransferred of a completed list; 0 if it is not set."""
    return 0 if nbl is None else nbl.net_buffer_list_info.get(NetBufferListInfo.TcpOffloadBytesTransferred, 0)


def _sent(host: Engine, tcb: Tcb, nbl: NetBufferList, status: int) -> None:
    size = size_of(nbl)
    if tcb.lent is not None:
        if tcb.lent.pop(nbl.address, None) is not None:
            tcb.below -= size
        if not tcb.lent:
            tcb.lent = None
    if tcb.state is State.OFFLOADING and status not in _COMES_BACK:
        tcb.served = True
    if status == _SUCCESS:
        tcb.acknowledged += size
        host.emit(DataSent(host.ndis.now(), tcb, size))
    elif status in _COMES_BACK:
        tcb.returned = [*(tcb.returned or ()), (nbl.address, bytes_of(nbl))]
        if status != NdisStatus.UPLOAD_IN_PROGRESS:
            upload.request(host, tcb)
    else:
        # The connection was reset (R-SEND-09). If not, its stream has a hole: it is lost when it is back.
        tcb.aborted = [*(tcb.aborted or ()), (nbl.address, bytes_of(nbl))]
        upload.request(host, tcb)


def _received(host: Engine, posted: Posted, nbl: NetBufferList | None, status: int) -> None:
    tcb = posted.tcb
    size = _transferred(nbl) if status == _SUCCESS else 0
    if size and nbl is not None:
        data = b"".join([bytes(m.data or b"") for m in _mdls(nbl)])[:size]
        _append(host, tcb, data)
    if not posted.owed:
        return
    if not size:
        upload.request(host, tcb)  # the data comes up with its connection
    elif tcb.unread_below:
        fetch(host, tcb)


def _mdls(nbl: NetBufferList) -> Iterable[Mdl]:
    for nb in iter_net_buffers(nbl):
        mdl = nb.mdl_chain
        while mdl is not None:
            yield mdl
            mdl = mdl.next


def _append(host: Engine, tcb: Tcb, data: bytes) -> None:
    if tcb.receive_buffer is None:
        tcb.receive_buffer = bytearray()
    tcb.receive_buffer += data
    tcb.unread_below = max(tcb.unread_below - len(data), 0)
    host.emit(DataReceived(host.ndis.now(), tcb, len(data)))


def indicated(host: Engine, offload_context: int, nbls: NblChain) -> tuple[int, int]:
    """ProtocolTcpOffloadReceiveIndicate: copy all data, return the lists soon (R-IND-03)."""
    tcb = host.connection_of(offload_context)
    if tcb is None:
        host.violation("R-HND-06", f"data for {offload_context:#x}, which is not a connection of this host")
        return int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED), 0
    if tcb.step not in HANDS_UP:
        # Its place is behind data that is still below. It stays there until it is asked for.
        tcb.refused = tcb.served = True
        return int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED), 0
    data = b"".join([bytes_of(nbl) for nbl in nbls.lists()])
    _append(host, tcb, data)
    host.returns += nbls.addresses
    host.soon()
    return _SUCCESS, len(data)
