"""Sends and disconnects of a running connection: its machine gets the bytes, acknowledged lists complete.

The machine gets each list as one piece, so that PSH is set at the end of a list (R-SEND-05). Lists complete
in the order in which they came (R-SEND-02). A graceful disconnect completes after all sends before it
(R-DISC-08).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TCP_DISCONNECT_ABORTIVE_CLOSE, TcpOffloadConnectionState
from ndisbus.errors import ChimneyError
from ndisbus.lists.nbl import NetBufferList, advance, data_of, iter_net_buffers
from target.data.completion import complete, finish_all
from target.hardware.adapter import Adapter
from target.model.contexts import TcpContext
from target.model.posted import Posted

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
    """Return the bytes of all net buffers of a list. Sets ``posted.size`` to their number.

    Raises ChimneyError if the list does not carry all its bytes.
    """
    pieces = [data_of(nb) for nb in iter_net_buffers(posted.nbl)]
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    posted.size = len(data)
    return data


def send(adapter: Adapter, tcp: TcpContext, posted: Iterable[Posted]) -> None:
    """Give the bytes of queued lists to the machine (R-SEND-01, R-SEND-02)."""
    assert tcp.io is not None
    assert tcp.flow is not None
    queue, machine = tcp.io.sends, tcp.flow.machine
    for p in posted:
        data = _readable(p)
        if data is None or machine.state not in _OPEN:
            # The send half is closed, or bytes are missing: the list can never be sent.
            adapter.refuse("send that cannot be carried out")
            queue.remove(p)
            complete(adapter, "send", [p], NdisStatus.REQUEST_ABORTED)
        elif data:
            machine.send(data)
    acknowledged(adapter, tcp, 0)


def acknowledged(adapter: Adapter, tcp: TcpContext, count: int) -> None:
    """Complete the lists whose last bytes are among ``count`` newly acknowledged bytes (R-SEND-06,
    R-SEND-10).

    A list that is partly acknowledged then begins at its first unacknowledged byte (R-OSD-04).
    """
    assert tcp.io is not None
    sends = tcp.io.sends
    done: list[Posted] = []
    while sends:
        first = sends[0]
        count -= _advance(first, count)
        if first.done < first.size:
            break
        done.append(sends.popleft())
    if done:
        complete(adapter, "send", done, NdisStatus.SUCCESS)
    for p in tcp.io.disconnects:
        if not count:
            break
        count -= _advance(p, count)


def disconnect(adapter: Adapter, tcp: TcpContext, posted: Iterable[Posted]) -> None:
    """Carry out queued disconnects."""
    assert tcp.flow is not None
    machine = tcp.flow.machine
    for p in posted:
        if p.flags & TCP_DISCONNECT_ABORTIVE_CLOSE:
            _abort(adapter, tcp, p)
            return
        data = _readable(p)
        if data and machine.state in _OPEN:
            machine.send(data)
        # The FIN follows all data. The data need not be acknowledged first (R-DISC-07).
        machine.shutdown()


def _abort(adapter: Adapter, tcp: TcpContext, posted: Posted) -> None:
    """Send an RST at once (R-DISC-03, R-DISC-05, R-DISC-06). Sends end before the disconnect (R-DISC-04)."""
    assert tcp.io is not None
    assert tcp.flow is not None
    tcp.io.disconnects.remove(posted)
    tcp.flow.reset()
    tcp.aborted = True
    finish_all(adapter, tcp, NdisStatus.REQUEST_ABORTED)
    complete(adapter, "disconnect", [posted], NdisStatus.SUCCESS)


def fin_acknowledged(adapter: Adapter, tcp: TcpContext) -> None:
    """Complete graceful disconnects if FIN and data have been acknowledged (R-DISC-08, R-DISC-09)."""
    assert tcp.io is not None
    assert tcp.flow is not None
    pending, machine = tcp.io.disconnects, tcp.flow.machine
    if not pending or tcp.io.sends or machine.state not in _FIN_ACKNOWLEDGED:
        return
    if machine.state is _CLOSED and (machine.error or machine.stopped):
        return  # CLOSED was not reached from LAST_ACK
    done = list(pending)
    pending.clear()
    complete(adapter, "disconnect", done, NdisStatus.SUCCESS)


def _readable(posted: Posted) -> bytes | None:
    try:
        return contents(posted)
    except ChimneyError:
        posted.size = 0
        return None


def _advance(posted: Posted, count: int) -> int:
    """Move a list's data start by at most ``count`` bytes, freeing no MDL (R-SEND-11).

    Returns the distance.
    """
    left = count = min(count, posted.size - posted.done)
    if left:
        nbl: NetBufferList = posted.nbl
        for nb in iter_net_buffers(nbl):
            n = min(nb.data_length, left)
            advance(nb, n)
            left -= n
        posted.done += count
    return count
