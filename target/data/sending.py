"""Sends and disconnects of a connection with a machine: bytes to it, completions as they are acknowledged.

Each list is one piece to the machine, so that PSH stands where a list ends (R-SEND-05). Lists complete in the
order in which they came (R-SEND-02), a graceful disconnect after all sends before it (R-DISC-08).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ndisbus.ddi.enums import TCP_DISCONNECT_ABORTIVE_CLOSE, TcpOffloadConnectionState
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import ChimneyError
from ndisbus.lists.nbl import NetBufferList, advance, data_of, iter_net_buffers
from target.data import io
from target.model.contexts import Posted

if TYPE_CHECKING:
    from target.data.flow import Flow

__all__ = ["acknowledged", "contents", "disconnect", "fin_acknowledged", "send"]

_OPEN: Final = frozenset(
    (TcpOffloadConnectionState.TcpConnectionEstablished, TcpOffloadConnectionState.TcpConnectionCloseWait)
)
_CLOSED: Final = TcpOffloadConnectionState.TcpConnectionClosed
_FIN_ACKNOWLEDGED: Final = frozenset(
    (
        TcpOffloadConnectionState.TcpConnectionFinWait2,
        TcpOffloadConnectionState.TcpConnectionTimeWait,
        _CLOSED,
    )
)


def contents(posted: Posted) -> bytes:
    """The bytes of a list, all net buffers together; notes down how many they are (``posted.size``).

    Raises ChimneyError for a list whose bytes are not all there.
    """
    pieces = [data_of(nb) for nb in iter_net_buffers(posted.nbl)]
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    posted.size = len(data)
    return data


def send(flow: Flow, posted: Iterable[Posted]) -> None:
    """Lists that were posted, already queued: their bytes are the machine's now (R-SEND-01, R-SEND-02)."""
    adapter, queue, machine = flow.adapter, flow.io.sends, flow.machine
    for p in posted:
        data = _readable(flow, p)
        if data is None or machine.state not in _OPEN:
            # The send half is closed, or the bytes are missing: it cannot be sent, now or ever.
            adapter.refuse("send that cannot be carried out")
            queue.remove(p)
            io.complete(adapter, "send", [p], NdisStatus.REQUEST_ABORTED)
        elif data:
            machine.send(data)
    acknowledged(flow, 0)


def acknowledged(flow: Flow, count: int) -> None:
    """The peer acknowledged ``count`` more bytes: what is complete goes back (R-SEND-06, R-SEND-10).

    The rest of a list that was acknowledged in part begins where the peer's knowledge ends (R-OSD-04).
    """
    sends = flow.io.sends
    done: list[Posted] = []
    while sends:
        first = sends[0]
        count -= _advance(first, count)
        if first.done < first.size:
            break
        done.append(sends.popleft())
    if done:
        io.complete(flow.adapter, "send", done, NdisStatus.SUCCESS)
    for p in flow.io.disconnects:
        if not count:
            break
        count -= _advance(p, count)


def disconnect(flow: Flow, posted: Iterable[Posted]) -> None:
    """Disconnects that were posted, already queued."""
    for p in posted:
        if p.flags & TCP_DISCONNECT_ABORTIVE_CLOSE:
            _abort(flow, p)
            return
        data = _readable(flow, p)
        if data and flow.machine.state in _OPEN:
            flow.machine.send(data)
        # A FIN behind all data, which need not be acknowledged before (R-DISC-07).
        flow.machine.shutdown()


def _abort(flow: Flow, posted: Posted) -> None:
    """An RST, at once (R-DISC-03, R-DISC-05, R-DISC-06); the sends end before the disconnect (R-DISC-04)."""
    adapter, tcp = flow.adapter, flow.tcp
    flow.io.disconnects.remove(posted)
    flow.reset()
    tcp.aborted = True
    io.finish_all(adapter, tcp, NdisStatus.REQUEST_ABORTED)
    io.complete(adapter, "disconnect", [posted], NdisStatus.SUCCESS)


def fin_acknowledged(flow: Flow) -> None:
    """Complete graceful disconnects once FIN and data were acknowledged (R-DISC-08, R-DISC-09)."""
    pending, machine = flow.io.disconnects, flow.machine
    if not pending or flow.io.sends or machine.state not in _FIN_ACKNOWLEDGED:
        return
    if machine.state is _CLOSED and (machine.error or machine.stopped):
        return  # it was not LAST_ACK that led there
    done = list(pending)
    pending.clear()
    io.complete(flow.adapter, "disconnect", done, NdisStatus.SUCCESS)


def _readable(flow: Flow, posted: Posted) -> bytes | None:
    try:
        return contents(posted)
    except ChimneyError:
        posted.size = 0
        return None


def _advance(posted: Posted, count: int) -> int:
    """Move a list's data start past ``count`` bytes at most, freeing no MDL (R-SEND-11); how many it had."""
    left = count = min(count, posted.size - posted.done)
    if left:
        nbl: NetBufferList = posted.nbl
        for nb in iter_net_buffers(nbl):
            n = min(nb.data_length, left)
            advance(nb, n)
            left -= n
        posted.done += count
    return count
