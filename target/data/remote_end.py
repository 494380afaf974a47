"""Actions of the remote end: a FIN and an RST become events."""

from __future__ import annotations

from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState, TcpOffloadEventType
from target.data.completion import finish_all
from target.hardware.adapter import Adapter
from target.hardware.events import raise_event
from target.model.contexts import TcpContext

__all__ = ["fin_received", "rst_received"]


def fin_received(adapter: Adapter, tcp: TcpContext) -> None:
    """Indicate a FIN: everything before it was consumed, and the receive half is closed (R-DISC-14)."""
    adapter.io(tcp).fin_received = True
    raise_event(adapter, tcp, TcpOffloadEventType.TcpIndicateDisconnect)


def rst_received(adapter: Adapter, tcp: TcpContext) -> None:
    """Indicate an acceptable RST at once, and end everything outstanding (R-DISC-15).

    The connection keeps its resources until the host terminates it (R-DISC-16).
    """
    tcp.aborted = True
    tcp.delegated.state = TcpOffloadConnectionState.TcpConnectionClosed
    raise_event(adapter, tcp, TcpOffloadEventType.TcpIndicateAbort)
    finish_all(adapter, tcp, NdisStatus.REQUEST_ABORTED)
