"""What applications do with connections that are offloaded or on their way: closing them, and not reading.

The stack's sockets remember what concerns a machine; here is what concerns the chimney.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hoststack.chimney import upload
from hoststack.net.errors import ConnectionAborted, ConnectionReset, ConnectionTimedOut, SocketError
from ndisbus.ddi.enums import TcpUploadReason

if TYPE_CHECKING:
    from hoststack.live.nethost import NetHost
    from hoststack.model.objects import Tcb
    from hoststack.net.socket import Socket

__all__ = ["Meanwhile", "why_closed"]


def _aborted(socket: Socket) -> bool:
    return isinstance(socket.error, ConnectionAborted)


def why_closed(socket: Socket, tcb: Tcb) -> SocketError | None:
    """The error of a connection that came back CLOSED; None if that was in order."""
    if tcb.upload_reason == TcpUploadReason.TimeoutExpiration:
        return ConnectionTimedOut(f"{socket!r}: timed out while it was offloaded")
    if _aborted(socket) or (socket.shut and tcb.remote_closed):
        return None
    return ConnectionReset(f"{socket!r}: was closed while it was offloaded")


class Meanwhile:
    """Of the connections in ``host.away``."""

    __slots__ = ("closing", "host", "refused", "shut")

    def __init__(self, host: NetHost) -> None:
        self.host = host
        #: Closed by the application on the way; True: reset.
        self.closing: dict[Tcb, bool] = {}
        #: Closed by a disconnect that succeeded.
        self.shut: set[Tcb] = set()
        #: Those whose data was refused because their receive buffer is full.
        self.refused: set[Tcb] = set()

    def __len__(self) -> int:
        """Entries; none when nothing is away."""
        return len(self.closing) + len(self.shut) + len(self.refused)

    def home(self, tcb: Tcb) -> None:
        """It is the host's again."""
        self.closing.pop(tcb, None)
        self.shut.discard(tcb)
        self.refused.discard(tcb)

    # -- closing -------------------------------------------------------------------------------

    def close(self, tcb: Tcb, *, abortive: bool) -> None:
        """The application closes a connection. One on its way is closed when it is where it goes."""
        if tcb.may_post:
            self.host.disconnect(tcb, abortive=abortive)
        elif tcb in self.host.away:
            self.closing[tcb] = abortive or self.closing.get(tcb, False)

    def arrived(self, tcb: Tcb) -> None:
        """It may be offloaded now: what was closed on the way down is closed below."""
        if tcb in self.closing and tcb.may_post:
            self.host.disconnect(tcb, abortive=self.closing.pop(tcb))

    def disconnected(self, tcbs: Iterable[Tcb]) -> None:
        """Disconnects of them succeeded."""
        for tcb in tcbs:
            if tcb in self.host.away:
                self.shut.add(tcb)
                self.over(tcb)

    def over(self, tcb: Tcb) -> None:
        """Upload a connection on which nobody sends any more; until then the target keeps it (R-DISC-16).

        For one in TIME_WAIT the target asks itself; of one that is CLOSED it has nothing more to say.
        """
        if tcb in self.shut and (tcb.remote_closed or _aborted(self.host.away[tcb])):
            upload.request(self.host, tcb)

    # -- reading -------------------------------------------------------------------------------

    def refuses(self, tcb: Tcb) -> bool:
        """Whether the receive buffer has no room for what is indicated; the peer's window shows it then."""
        socket = self.host.away.get(tcb)
        if socket is None or socket.available < socket.options.rcvbuf:
            return False
        self.refused.add(tcb)
        return True

    def read(self, tcb: Tcb) -> None:
        """The application has read: what was refused is asked for once half the buffer is free (R-IND-06)."""
        if tcb in self.refused and tcb.may_post:
            socket = self.host.away[tcb]
            room = socket.options.rcvbuf - socket.available
            if 2 * room >= socket.options.rcvbuf:
                self.refused.discard(tcb)
                self.host.receive(tcb, room)

    def unwanted(self, socket: Socket) -> None:
        """Data for an application that has closed: a reset, as in the host (RFC 1122 4.2.2.13)."""
        socket.tcb.receive_buffer = None
        if socket.error is None:
            socket.abort()
