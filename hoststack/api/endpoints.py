"""What a connection and a server say of themselves, in blocking programs and in asyncio programs alike."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoststack.model.objects import ConnectionState, Tcb
    from hoststack.net.listener import Listener
    from hoststack.net.socket import Socket

__all__ = ["ConnectionEnds", "ServerEnd"]


class ConnectionEnds:
    """The two ends of a connection, and who serves it. ``socket`` is the sans-I/O socket behind it."""

    socket: Socket

    def __str__(self) -> str:
        return str(self.socket)

    def __repr__(self) -> str:
        return f"<Connection {self} {self.socket.state_text}>"

    def getsockname(self) -> tuple[str, int]:
        """Own address and port."""
        return self.socket.local

    def getpeername(self) -> tuple[str, int]:
        """Address and port of the remote end."""
        return self.socket.remote

    @property
    def tcb(self) -> Tcb:
        """The connection's state object, by which an :class:`Operation` names it."""
        return self.socket.tcb

    @property
    def served_by(self) -> ConnectionState:
        """Who serves the connection now: IN_HOST, OFFLOADED, or on its way."""
        return self.socket.tcb.connection_state


class ServerEnd:
    """Where a server listens. ``listener`` is the sans-I/O listener behind it."""

    listener: Listener

    def __repr__(self) -> str:
        return f"<Server {self.listener!r}>"

    def getsockname(self) -> tuple[str, int]:
        """The address and port that it listens on; ``""`` is every address."""
        listener = self.listener
        return (str(ip_address(listener.address)) if listener.address else ""), listener.port
