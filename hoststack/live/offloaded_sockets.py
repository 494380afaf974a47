"""Sockets whose connection is below: what applications do with them, and how they come back to the stack.

The stack's machine of such a socket is stopped. The application goes on: what it sends, reads and closes is
passed down, and what the driver below reports is passed up to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.chimney import data, upload
from hoststack.model.life import State
from hoststack.net.errors import (
    ConnectionAborted,
    ConnectionReset,
    ConnectionTimedOut,
    NotConnected,
    SocketError,
)
from hoststack.net.socket_events import SocketEvent, error_of
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState, TcpUploadReason
from ndisbus.errors import ChimneyError, LocalProtocolError
from ndisbus.tcp.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hoststack.chimney.driver import HostDriver
    from hoststack.model.objects import Tcb
    from hoststack.model.operation import Operation
    from hoststack.net.socket import Socket
    from hoststack.net.stack import NetStack

__all__ = ["OffloadedSockets"]

_CLOSED: Final = TcpOffloadConnectionState.TcpConnectionClosed


def _ends(socket: Socket) -> str:
    (own, own_port), (other, port) = socket.local, socket.remote
    return f"{own}:{own_port} -> {other}:{port}"


def _loss(socket: Socket, why: str) -> ConnectionReset:
    return ConnectionReset(f"{_ends(socket)}: connection lost: the offload adapter {why}")


def _aborted(socket: Socket) -> bool:
    return isinstance(socket.error, ConnectionAborted)


def _why_closed(socket: Socket, tcb: Tcb, shut_below: bool) -> SocketError | None:
    """The error of a connection that came back CLOSED; None after an orderly close.

    ``shut_below``: the remote end has acknowledged the FIN. Then it has sent its own, although the host may
    not have been told: the target tells it behind all data, and the terminate may have come before.
    """
    if tcb.reset:
        return error_of(EventKind.RESET, "", _ends(socket), "")
    if tcb.upload_reason == TcpUploadReason.TimeoutExpiration:
        return ConnectionTimedOut(f"{_ends(socket)}: timed out while it was offloaded")
    if _aborted(socket) or shut_below or (socket.shut and tcb.remote_closed):
        return None
    return ConnectionReset(f"{_ends(socket)}: the connection was closed while it was offloaded")


class OffloadedSockets:
    """The sockets of ``stack`` whose connections ``driver`` has offloaded, or is moving."""

    __slots__ = ("_closing", "_driver", "_shut", "_stack", "lost", "sockets")

    def __init__(self, driver: HostDriver, stack: NetStack) -> None:
        self._driver = driver
        self._stack = stack
        #: The sockets whose machine is stopped, by their connection.
        self.sockets: dict[Tcb, Socket] = {}
        #: Connections that the application closed while they moved; True: by a reset.
        self._closing: dict[Tcb, bool] = {}
        #: Connections whose sending side was closed before they went down, or by a disconnect that succeeded.
        self._shut: set[Tcb] = set()
        #: Sockets whose connection was lost below, until a reset is sent to the remote end.
        self.lost: list[Socket] = []

    def __len__(self) -> int:
        """How much is remembered: 0 if nothing is offloaded or moving."""
        return len(self.sockets) + len(self._closing) + len(self._shut) + len(self.lost)

    # -- down ----------------------------------------------------------------------------------

    def offload(self, sockets: Sequence[Socket]) -> Operation:
        """Stop the machines of sockets and offload their connections. See ``NetHost.offload_sockets``."""
        wrong = [s for s in sockets if s.machine is None]
        if wrong and wrong[0].closed:
            raise NotConnected(f"{_ends(wrong[0])}: it was closed by this program")
        if wrong:
            raise LocalProtocolError(
                f"{_ends(wrong[0])} is not served by the host's stack, so it cannot be offloaded",
                rule="R-INIT-02",
            )
        now = self._driver.ndis.now()
        self._stack.advance(now)
        detached: list[Socket] = []
        try:
            for s in sockets:
                self._stack.detach(s, now)
                detached.append(s)
                self.sockets[s.tcb] = s
                if s.shut:
                    self._shut.add(s.tcb)
            self._stack.flush()  # the last acknowledgments go ahead of the initiate
            return self._driver.offload([s.tcb for s in sockets])
        except ChimneyError:
            for s in detached:
                del self.sockets[s.tcb]
                self._shut.discard(s.tcb)
                self._stack.attach(s, now)
            raise

    def operation_done(self, tcb: Tcb) -> None:
        """An operation on the connection is done: it may be offloaded now, or the host's again."""
        if tcb in self._closing and tcb.may_post:
            self._driver.disconnect(tcb, abortive=self._closing.pop(tcb))
        if tcb in self.sockets and tcb.may_post:
            self._upload_if_over(tcb)
        self.take_back(tcb)

    # -- up ------------------------------------------------------------------------------------

    def take_back(self, tcb: Tcb) -> None:
        """Give a connection that is the host's again to its socket; do nothing while it is below."""
        socket = self.sockets.get(tcb)
        if socket is None or tcb.is_offloaded or tcb.waiting is not None:
            return
        if tcb.state in (State.OFFLOADING, State.FAILED):
            return
        del self.sockets[tcb]
        self._closing.pop(tcb, None)
        shut_below = tcb in self._shut
        self._shut.discard(tcb)
        self._driver.forget(tcb)
        now = self._driver.ndis.now()
        self._stack.advance(now)
        if tcb.lost:
            self._lose(socket, tcb)
        elif tcb.reset or tcb.delegated.state is _CLOSED:
            error = _why_closed(socket, tcb, shut_below)
            tcb.remote_closed = tcb.remote_closed or error is None
            socket.over(error)
        else:
            self._stack.attach(socket, now)
            if socket.available:
                socket.emit(SocketEvent.READABLE)
            socket.relieved()
        self._driver.soon()

    def _lose(self, socket: Socket, tcb: Tcb) -> None:
        """End a connection whose state was lost below: data may be lost that the target acknowledged."""
        removed = self._driver.binding is None
        error = _loss(socket, "was removed" if removed else "did not hand back all of its state")
        if tcb.delegated.state is _CLOSED:
            socket.over(error)  # the remote end needs no reset
        else:
            socket.fail(error)
            self.lost.append(socket)
            self.reset_lost()

    def reset_lost(self) -> None:
        """Send a reset to the remote ends of lost connections, if there is an adapter to send it through."""
        binding = self._driver.binding
        if binding is None or binding.unbinding:
            return
        lost, self.lost = self.lost, []
        for socket in lost:
            self._stack.attach(socket, self._driver.ndis.now())
            socket.abort()
        self._driver.soon()

    # -- what the application does -------------------------------------------------------------

    def close(self, tcb: Tcb, *, abortive: bool) -> None:
        """Close the sending side, or reset. A connection that moves is closed when it has arrived."""
        if tcb.may_post:
            self._driver.disconnect(tcb, abortive=abortive)
        elif tcb in self.sockets:
            self._closing[tcb] = abortive or self._closing.get(tcb, False)

    def read(self, tcb: Tcb) -> None:
        """Ask for refused data once the application has read half of the receive buffer (R-IND-06)."""
        if tcb.refused and tcb.may_post:
            socket = self.sockets[tcb]
            room = socket.options.rcvbuf - socket.available
            if 2 * room >= socket.options.rcvbuf:
                tcb.refused = False
                data.receive(self._driver, tcb, room, owed=True)

    # -- what the driver below reports ---------------------------------------------------------

    def refuses(self, tcb: Tcb) -> bool:
        """Whether to refuse indicated data because the receive buffer is full.

        The data stays below until :meth:`read` asks for it, and closes the window that the target advertises.
        """
        socket = self.sockets.get(tcb)
        if socket is None or socket.available < socket.options.rcvbuf:
            return False
        tcb.refused = True
        return True

    def received(self, tcb: Tcb) -> None:
        """Data is in the receive buffer. After a close by the application, it is answered by a reset.

        RFC 1122 section 4.2.2.13 asks for the reset, as for a connection in the host.
        """
        socket = self.sockets.get(tcb)
        if socket is None:
            return
        if not socket.closed:
            socket.emit(SocketEvent.READABLE)
            return
        tcb.receive_buffer = None
        if socket.error is None:
            socket.abort()

    def sent(self, tcb: Tcb) -> None:
        """The remote end has acknowledged data: there may be room for more."""
        socket = self.sockets.get(tcb)
        if socket is not None:
            socket.relieved()

    def disconnected(self, tcbs: Iterable[Tcb]) -> None:
        """Disconnects of these connections succeeded."""
        for tcb in tcbs:
            if tcb in self.sockets:
                self._shut.add(tcb)
                self._upload_if_over(tcb)

    def remote_closed(self, tcb: Tcb) -> None:
        """The remote end has sent a FIN."""
        socket = self.sockets.get(tcb)
        if socket is not None:
            socket.emit(SocketEvent.REMOTE_CLOSED)
        self._upload_if_over(tcb)

    def aborted(self, tcb: Tcb) -> None:
        """The driver below has lost the connection, or the remote end has reset it.

        If the hardware failed, also by the removal of its adapter, it is not known what was acknowledged: the
        application has the error at once. What a reset leaves unread comes up with the connection.
        """
        socket = self.sockets.get(tcb)
        if socket is not None and tcb.upload_reason == TcpUploadReason.HardwareFailure:
            socket.fail(_loss(socket, "failed or was removed"))

    def _upload_if_over(self, tcb: Tcb) -> None:
        """Upload a connection whose two sides are closed; until then the target keeps it (R-DISC-16)."""
        if tcb in self._shut and (tcb.remote_closed or _aborted(self.sockets[tcb])):
            upload.request(self._driver, tcb)
