"""One connection as an application and the chimney see it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol

from hoststack.net.errors import (
    BrokenPipe,
    ConnectionAborted,
    ConnectionTimedOut,
    SocketError,
    Unreachable,
)
from hoststack.net.socket_events import SocketEvent, error_of
from hoststack.net.timers import Timed
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.net.frames import FrameBuilder
from ndisbus.net.ipv4 import without_df
from ndisbus.net.segment import RST
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.owner import MachineOwner
from ndisbus.tcp.statistics import resent

if TYPE_CHECKING:
    from hoststack.model.objects import Tcb
    from hoststack.net.clock import Clock
    from hoststack.net.hooks import StackHooks
    from hoststack.net.options import SocketOptions
    from hoststack.net.paths import PathEntry
    from hoststack.net.timers import StackTimers
    from ndisbus.net.segment import Segment

__all__ = ["AcceptQueue", "Socket", "SocketOwner"]

_TAGGED: Final = b"\x81\x00"
_OPENING: Final = (State.TcpConnectionSynSent, State.TcpConnectionSynRcvd)


class AcceptQueue(Protocol):
    """The listener in whose queues a connection waits until it is accepted."""

    overflows: int

    @property
    def full(self) -> bool: ...

    def established(self, socket: Socket) -> None: ...

    def dropped(self, socket: Socket) -> None: ...


class SocketOwner(Protocol):
    """What a socket needs of the transport that has it."""

    clock: Clock
    timers: StackTimers
    hooks: StackHooks

    def touch(self, socket: Socket) -> None: ...

    def has_room(self, socket: Socket) -> bool: ...

    def forget(self, socket: Socket) -> None: ...

    def frame_builder(self, socket: Socket) -> FrameBuilder: ...


class Socket(Timed, MachineOwner):
    """One connection.

    ``tcb`` is the object that can be offloaded; its three structures are what ``machine`` works on. While
    the connection is offloaded, or on its way, ``machine`` is None (:mod:`hoststack.net.moving`).
    ``on_event(socket, event)`` may call any method of the socket. ``context`` is the application's.
    """

    __slots__ = (
        "builder",
        "closed",
        "connected",
        "context",
        "error",
        "key",
        "listener",
        "machine",
        "on_event",
        "options",
        "owner",
        "path_entry",
        "shut",
        "soft_error",
        "starved",
        "tcb",
        "touched",
        "waiting",
    )

    def __init__(
        self,
        owner: SocketOwner,
        key: bytes,
        tcb: Tcb,
        path_entry: PathEntry,
        machine: TcpMachine,
        options: SocketOptions,
    ) -> None:
        self.queued = None
        self.owner = owner
        #: Remote address, local address, remote port, local port: as they stand in a segment that arrives.
        self.key = key
        self.tcb = tcb
        self.path_entry = path_entry
        self.machine: TcpMachine | None = machine
        self.options = options
        self.builder: FrameBuilder | None = None
        self.listener: AcceptQueue | None = None
        self.error: SocketError | None = None
        #: What ICMP or the neighbor cache reported last, without ending the connection (RFC 1122 4.2.3.9).
        self.soft_error = ""
        self.on_event: Callable[[Socket, SocketEvent], object] | None = None
        self.context: object = None
        self.connected = False
        #: The application has closed it; the sending side is closed.
        self.closed = self.shut = False
        self.touched = self.starved = False
        #: Whether it waits for room on the link.
        self.waiting = False

    # -- what it is ----------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The connection's TCP state; the last one known in the host, while it is offloaded."""
        return self.tcb.delegated.state

    @property
    def state_text(self) -> str:
        """The state as text. While the connection is offloaded, the host knows only whether it closed it."""
        if self.machine is None and self.closed:
            return "closed by this program"
        return self.state.name.removeprefix("TcpConnection")

    @property
    def local(self) -> tuple[str, int]:
        """Own address and port."""
        return str(ip_address(self.tcb.path.const.source_address)), self.tcb.const.local_port

    @property
    def remote(self) -> tuple[str, int]:
        """The remote end's address and port."""
        return str(ip_address(self.tcb.path.const.destination_address)), self.tcb.const.remote_port

    @property
    def available(self) -> int:
        """Bytes that can be read at once."""
        if self.machine is not None:
            return self.machine.available
        return len(self.tcb.receive_buffer or b"")

    @property
    def unread(self) -> int:
        """Bytes that were received and not read, also those that went down with the connection."""
        return self.available + self.tcb.unread_below

    @property
    def at_end(self) -> bool:
        """The remote end has closed its sending side, and everything was read."""
        return self.tcb.remote_closed and not self.unread

    @property
    def readable(self) -> bool:
        """Whether :meth:`recv` returns something other than None, or raises."""
        return self.error is not None or self.available > 0 or self.at_end

    @property
    def finished(self) -> bool:
        """Whether the connection has ended: it is closed, or waits in TIME_WAIT."""
        return self.state in (State.TcpConnectionClosed, State.TcpConnectionTimeWait)

    @property
    def room(self) -> int:
        """Bytes that :meth:`send` would take."""
        return max(0, self.options.sndbuf - self.unacknowledged)

    @property
    def unacknowledged(self) -> int:
        """Bytes that were sent, or are to be sent, and that the remote end has not acknowledged."""
        return self.tcb.queued + self.tcb.below if self.machine is None else self.machine.queued

    def __str__(self) -> str:
        (host, port), (remote, remote_port) = self.local, self.remote
        return f"{host}:{port} -> {remote}:{remote_port}"

    def __repr__(self) -> str:
        return f"<Socket {self} {self.state_text}>"

    # -- what an application does --------------------------------------------------------------

    def send(self, data: bytes) -> int:
        """Queue as much of ``data`` as the send buffer takes; how many bytes that was.

        After a short count, WRITABLE tells when there is room. Raises the connection's error, or
        :class:`BrokenPipe` after :meth:`shutdown`.
        """
        if self.error is not None:
            raise self.error
        machine = self.machine
        if self.shut:
            raise BrokenPipe(f"{self}: the sending side is closed")
        if machine is not None and machine.state is State.TcpConnectionClosed:
            return 0  # it was reset in this batch; the event that says so follows the present one
        room = self.options.sndbuf - self.unacknowledged
        if len(data) > room:
            self.starved = True
            if room <= 0:
                return 0
            data = data[:room]
        if machine is None:
            self.owner.hooks.send(self.tcb, bytes(data))
        elif data:
            machine.send(data)
            if not self.touched:
                self.owner.touch(self)
        return len(data)

    def recv(self, size: int | None = None) -> bytes | None:
        """Up to ``size`` bytes (all, if None); ``b""`` at the end of the stream, None if nothing is there.

        Raises the connection's error, once what arrived before it was read. The end of the stream comes
        behind data that is still below; if that is lost, it does not come.
        """
        machine = self.machine
        data = self.tcb.read(size) if machine is None else machine.read(size)
        if data:
            if machine is None:
                self.owner.hooks.read(self.tcb)
            elif not self.touched:
                self.owner.touch(self)  # the window may be worth an update
            return data
        if self.at_end or (size == 0 and self.available):
            return b""
        if self.error is not None:
            raise self.error
        return None

    def shutdown(self) -> None:
        """Close the sending side, behind everything that was queued. Doing it again changes nothing.

        Data can be received for as long as the remote end sends it, however long it is silent (RFC 9293 3.6).
        """
        if self.shut:
            return
        self.shut = True
        if self.error is not None:
            return
        if self.machine is None:
            self.owner.hooks.disconnect(self.tcb, abortive=False)
        else:
            self.machine.shutdown()
            self.owner.touch(self)

    def close(self) -> None:
        """Close both sides. Data not read, or coming later, resets the connection (RFC 1122 4.2.2.13)."""
        if self.closed:
            return
        if self.unread:
            self.abort()  # and no FIN before: an abort in LAST_ACK tells the remote end nothing
            return
        self.shutdown()
        self.closed = True
        if self.machine is not None:
            self.machine.close(self.owner.clock.tick)
            self.owner.touch(self)

    def abort(self) -> None:
        """Reset the connection; queued data is lost."""
        self.closed = self.shut = True
        if self.error is None and self.state is not State.TcpConnectionClosed:
            self.error = ConnectionAborted(f"{self}: aborted by this side")
        if self.machine is None:
            self.owner.hooks.disconnect(self.tcb, abortive=True)
        else:
            self.machine.abort()
            self.owner.touch(self)

    def emit(self, event: SocketEvent) -> None:
        """Tell the application."""
        if self.on_event is not None:
            self.on_event(self, event)

    # -- what drives it ------------------------------------------------------------------------

    @property
    def may_send(self) -> bool:
        """Return whether the link takes frames. If not, the socket waits for it."""
        return self.owner.has_room(self)

    def deadline(self) -> float | None:
        return None if self.waiting else self.machine_deadline()

    def on_timer(self, now: float) -> None:
        if not self.may_send:
            return  # it would send again what the link does not take
        assert self.machine is not None
        self.machine.on_timer(self.owner.clock.tick)
        self.owner.touch(self)

    def settled(self, now: float) -> None:
        self.owner.timers.refresh(self)

    def send_segments(self, segments: list[Segment], high: int, now: float) -> None:
        """Put segments into frames and send them, or keep them until the neighbor is found."""
        builder = self.builder
        if builder is None:
            builder = self.builder = self.owner.frame_builder(self)
        hop = self.path_entry.hop
        frames = builder.frames(segments)
        if not frames:
            return
        header = 14 if frames[0][12:14] != _TAGGED else 18
        if self.path_entry.fragmentable:
            frames = [without_df(frame, header) for frame in frames]
        count = self.path_entry.tally.segment_out
        for segment, frame in zip(segments, frames, strict=True):
            again, high = resent(segment, high)
            count(len(frame) - header, again, segment.length, bool(segment.flags & RST))
        if hop.ready(now):
            hop.interface.out += frames
        else:
            source = self.tcb.path.const.source_address
            for frame in frames:
                hop.hold(frame, source, now)

    def tell(self, event: TcpEvent, now: float) -> None:
        """Handle one event of the machine, and tell the application."""
        kind = event.kind
        if kind is EventKind.PROGRESS:
            self.path_entry.hop.confirm(now)
            self.soft_error = ""
        elif kind is EventKind.DATA:
            # The application may have read the data already, when it was told of an earlier event.
            if self.available and self.closed:
                self.abort()
            elif self.available:
                self.emit(SocketEvent.READABLE)
        elif kind is EventKind.SENT:
            self.relieved()
        elif kind is EventKind.CONNECTED:
            self.connected = True
            if self.listener is not None:
                self.listener.established(self)
            self.emit(SocketEvent.CONNECTED)
        elif kind is EventKind.FIN:
            self.tcb.remote_closed = True
            self.emit(SocketEvent.REMOTE_CLOSED)
        elif kind is EventKind.DOUBT:
            self.path_entry.hop.doubt(now)
        elif kind is EventKind.URGENT:
            self.emit(SocketEvent.URGENT)
        elif kind is EventKind.CLOSED:
            if event.text and self.error is None and not self.closed:
                # For example FIN_WAIT_2 ran out, for a target (R-TMR-08) or after the application had closed.
                self.fail(ConnectionTimedOut(f"{self}: timed out, {event.text}"))
            self.owner.forget(self)
            self.emit(SocketEvent.CLOSED)
        else:
            self.tcb.reset = self.tcb.reset or kind is EventKind.RESET
            error = error_of(kind, event.text, str(self), self.soft_error)
            if error is not None:
                self.fail(error)

    def relieved(self) -> None:
        """Bytes were acknowledged: WRITABLE for an application that waits for room, if there is enough."""
        # Not for every byte: a quarter of the buffer is worth a call.
        if self.starved and self.room * 4 >= self.options.sndbuf:
            self.starved = False
            self.emit(SocketEvent.WRITABLE)

    def fail(self, error: SocketError) -> None:
        """Note that the connection is lost, and why. Only the first reason is kept and told."""
        if self.error is None:
            self.error = error
            self.emit(SocketEvent.FAILED)

    def unreachable(self, text: str) -> None:
        """Give up a connection that is not established: the remote end cannot be reached."""
        machine = self.machine
        if machine is not None and self.state in _OPENING:
            self.fail(Unreachable(f"{self}: {text}"))
            machine.give_up(text)
            self.owner.touch(self)

    # -- the chimney ---------------------------------------------------------------------------

    def over(self, error: SocketError | None) -> None:
        """The connection ended while it was offloaded, None: in order; nothing is left to go on with."""
        self.closed = self.shut = True
        self.tcb.delegated.state = State.TcpConnectionClosed
        if error is not None:
            self.fail(error)
        self.owner.forget(self)
        self.emit(SocketEvent.CLOSED)
