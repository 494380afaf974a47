"""What the peer of a connection did: where the TCP machine will report a FIN and an RST."""

from __future__ import annotations

from ndisbus.ddi.enums import TcpOffloadConnectionState, TcpOffloadEventType
from ndisbus.ddi.status import NdisStatus
from target.data import io
from target.hardware.adapter import Adapter
from target.model.contexts import TcpContext
from target.model.events import raise_event

__all__ = ["fin_received", "rst_received"]


def fin_received(adapter: Adapter, tcp: TcpContext) -> None:
    """The peer's FIN, after everything before it was consumed: the receive half is closed (R-DISC-14)."""
    adapter.io(tcp).fin_received = True
    raise_event(adapter, tcp, TcpOffloadEventType.TcpIndicateDisconnect)


def rst_received(adapter: Adapter, tcp: TcpContext) -> None:
    """An acceptable RST: told at once, and everything outstanding ends (R-DISC-15).

    What the connection holds is kept until the host terminates it (R-DISC-16).
    """
    tcp.aborted = True
    tcp.delegated.state = TcpOffloadConnectionState.TcpConnectionClosed
    raise_event(adapter, tcp, TcpOffloadEventType.TcpIndicateAbort)
    io.finish_all(adapter, tcp, NdisStatus.REQUEST_ABORTED)
