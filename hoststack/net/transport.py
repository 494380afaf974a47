"""The TCP connections of a stack: finding the one for a segment, opening new ones, and giving them turns.

A connection to which something happened is *touched*. Its turn comes at the end of the batch: then the
application is told, and everything that is due is sent at once.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from hoststack.model.objects import Tcb
from hoststack.net.errors import AddressConflict, AddressInUse, Unreachable
from hoststack.net.listener import Listener
from hoststack.net.opening import Opening
from hoststack.net.ports import Ports
from hoststack.net.socket import Socket
from hoststack.net.socket_events import SocketEvent
from hoststack.net.turns import Turns
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.net import tcp
from ndisbus.net.checksum import pseudo_header
from ndisbus.net.frames import FrameBuilder
from ndisbus.net.peek import connection_key
from ndisbus.net.segment import ACK, RST, SYN
from ndisbus.tcp.ending import answer_closed, answer_listen
from ndisbus.tcp.machine import TcpMachine

if TYPE_CHECKING:
    from hoststack.net.clock import Clock
    from hoststack.net.detection import Conflict
    from hoststack.net.hooks import StackHooks
    from hoststack.net.interface import Interface
    from hoststack.net.interfaces import Interfaces
    from hoststack.net.neighbors import NeighborEntry
    from hoststack.net.options import SocketOptions
    from hoststack.net.output import DatagramSender
    from hoststack.net.paths import PathEntry, PathTable
    from hoststack.net.routes import RoutingTable
    from hoststack.net.statistics import Statistics
    from hoststack.net.timers import StackTimers
    from ndisbus.net.identification import IpIdentification
    from ndisbus.net.segment import Segment
    from ndisbus.randomness import Randomness
    from ndisbus.tcp.settings import TcpSettings

__all__ = ["Transport"]

#: How far beyond the last number of an old connection in TIME_WAIT the new one begins (RFC 9293 3.6.1).
_REUSE_DISTANCE: Final = 250_000
_TIME_WAIT: Final = State.TcpConnectionTimeWait
_SYN_RCVD: Final = State.TcpConnectionSynRcvd


class Transport:
    """The connections of a stack, by what their segments show."""

    __slots__ = (
        "_identification",
        "_paths",
        "_routes",
        "_sender",
        "_settings",
        "_statistics",
        "clock",
        "hooks",
        "interfaces",
        "listeners",
        "opening",
        "ports",
        "sockets",
        "timers",
        "turns",
    )

    def __init__(
        self,
        *,
        settings: TcpSettings,
        rng: Randomness,
        clock: Clock,
        statistics: Statistics,
        timers: StackTimers,
        hooks: StackHooks,
        interfaces: Interfaces,
        routes: RoutingTable,
        paths: PathTable,
        sender: DatagramSender,
        identification: IpIdentification,
    ) -> None:
        self._settings = settings
        self.clock = clock
        self._statistics = statistics
        self.timers = timers
        self.hooks = hooks
        self.interfaces = interfaces
        self._routes = routes
        self._paths = paths
        self._sender = sender
        self._identification = identification
        self.opening = Opening(settings, rng)
        self.sockets: dict[bytes, Socket] = {}
        self.listeners: dict[tuple[bytes, int], Listener] = {}
        self.ports = Ports(self.sockets, self.listeners, rng)
        self.turns = Turns(clock)

    # -- turns ---------------------------------------------------------------------------------

    def touch(self, socket: Socket) -> None:
        """Give a socket its turn at the end of the batch."""
        self.turns.touch(socket)

    def has_room(self, socket: Socket) -> bool:
        """Return whether a socket's link takes frames. If not, the socket waits for it."""
        return self.turns.has_room(socket)

    # -- segments ------------------------------------------------------------------------------

    def arrived(self, source: bytes, destination: bytes, segment: Segment, data: bytes, now: float) -> None:
        """Deliver a segment from the slow path. Its checksum was verified; ``data`` is the same as bytes."""
        key = connection_key(source, destination, segment.source_port, segment.destination_port)
        self.deliver(key, segment, data, now)

    def deliver_bytes(self, key: bytes, data: bytes, now: float) -> None:
        """Deliver a segment (header and payload) that was kept; drop and count it if it is not whole."""
        size = (len(key) - 4) // 2
        pseudo = pseudo_header(key[:size], key[size : 2 * size], tcp.PROTOCOL)
        try:
            segment = tcp.parse_segment(data, pseudo)
        except DecodeError as e:
            self._statistics.count(str(e))
        else:
            self.deliver(key, segment, data, now)

    def deliver(self, key: bytes, segment: Segment, data: bytes, now: float) -> None:
        """Give a segment to its connection or to a listener; without either, answer it with a reset."""
        socket = self.sockets.get(key)
        if socket is None:
            self._stranger(key, segment, now)
            return
        machine = socket.machine
        if machine is None:
            if not self.hooks.segments(socket.tcb, [data]):
                self._statistics.count("tcp: not wanted by the chimney")
            return
        if segment.flags & SYN and machine.accepts_reuse(segment) and self._reuse(socket, segment, now):
            return
        if socket.listener is not None and self._no_room(socket, segment):
            return
        socket.deliver(segment, self.clock.tick, now)
        self.touch(socket)

    def _no_room(self, socket: Socket, segment: Segment) -> bool:
        """Whether a segment would establish a connection that the accept queue has no room for."""
        listener = socket.listener
        if (
            listener is None
            or not listener.full
            or segment.flags & RST
            or socket.state is not _SYN_RCVD
            or not segment.flags & ACK
        ):
            return False
        listener.overflows += 1
        self._statistics.count("tcp: accept queue full")
        return True

    def _reuse(self, old: Socket, syn: Segment, now: float) -> bool:
        """A new connection in place of one in TIME_WAIT (RFC 9293 3.6.1), if the port is listened on."""
        listener = self._listener(old.tcb.path.const.source_address, syn.destination_port)
        if listener is None:
            return False
        isn = (old.tcb.delegated.snd_max + _REUSE_DISTANCE) & 0xFFFFFFFF
        self._end(old)
        self._opened(listener, old.key, syn, now, isn)
        return True

    def _end(self, socket: Socket) -> None:
        """Forget a connection in TIME_WAIT before its time."""
        self.forget(socket)
        if socket.machine is not None:
            socket.machine.give_up("its place was taken by a new connection")
            socket.machine.events.clear()
        socket.emit(SocketEvent.CLOSED)

    def _stranger(self, key: bytes, segment: Segment, now: float) -> None:
        size = (len(key) - 4) // 2
        local = key[size : 2 * size]
        listener = self._listener(local, segment.destination_port)
        if listener is None:
            self._statistics.count("tcp: no connection")
            self._reply(key, answer_closed(segment))
            return
        wanted, answer = answer_listen(segment)
        if wanted:
            self._opened(listener, key, segment, now, self.opening.isn(key, now))
        elif answer is not None:
            self._statistics.count("tcp: no connection")
            self._reply(key, answer)

    def _reply(self, key: bytes, segment: Segment | None) -> None:
        """Send a segment that belongs to no connection."""
        if segment is None:
            return
        size = (len(key) - 4) // 2
        remote, local = key[:size], key[size : 2 * size]
        counters = self._statistics.tallies[4 if size == 4 else 6].tcp
        counters.out_segments += 1
        counters.out_resets += bool(segment.flags & RST)
        payload = tcp.build(segment, pseudo_header(local, remote, tcp.PROTOCOL))
        self._sender.send(local, remote, tcp.PROTOCOL, payload, dont_fragment=True)

    # -- opening -------------------------------------------------------------------------------

    def _listener(self, address: bytes, port: int) -> Listener | None:
        """The listener for an own address and port: of that address, of its family, or of all addresses."""
        listeners = self.listeners
        return (
            listeners.get((address, port))
            or listeners.get((bytes(len(address)), port))
            or listeners.get((b"", port))
        )

    def _opened(self, listener: Listener, key: bytes, syn: Segment, now: float, isn: int) -> None:
        """A SYN for a listener: a connection in SYN_RCVD, if the queues have room."""
        if listener.full or len(listener.half_open) >= listener.syn_backlog:
            listener.overflows += 1
            self._statistics.count("tcp: accept queue full" if listener.full else "tcp: SYN queue full")
            return
        size = (len(key) - 4) // 2
        remote, local = key[:size], key[size : 2 * size]
        entry = self._paths.get(local, remote)
        if entry is None:
            self._statistics.count("output: no route")
            return
        options = listener.options
        tcb, machine = self.opening.passive(entry, key, syn, isn, options, self.clock.at(now))
        socket = self._add(key, tcb, entry, machine, options)
        socket.listener = listener
        listener.half_open[socket] = None
        self.touch(socket)

    def connect(
        self,
        remote: tuple[bytes, int],
        local: tuple[bytes | None, int],
        options: SocketOptions,
        on_event: Callable[[Socket, SocketEvent], object] | None,
        now: float,
    ) -> Socket:
        """See :meth:`NetStack.tcp_connect`."""
        destination, port = remote
        route = self._routes.lookup(destination)
        if route is None:
            raise Unreachable(f"no route to {ip_address(destination)}")
        if self.interfaces.owns(destination):
            raise Unreachable(f"{ip_address(destination)} is an address of this host, which has no loopback")
        if destination in route.interface.groups or destination[0] == 0xFF or 224 <= destination[0] < 240:
            raise Unreachable(f"{ip_address(destination)} is not the address of a single host")
        source = local[0] or route.interface.source_for(route.next_hop(destination))
        if source is None:
            raise Unreachable(f"{route.interface!r} has no address to reach {ip_address(destination)} from")
        if not self.interfaces.owns(source):
            raise Unreachable(f"{ip_address(source)} is not an address of this host")
        entry = self._paths.get(source, destination)
        assert entry is not None
        key = self.ports.for_connection(source, local[1], destination, port)
        isn = self._numbers(key, now)
        tcb, machine = self.opening.active(entry, key, isn, options, self.clock.at(now))
        socket = self._add(key, tcb, entry, machine, options)
        socket.on_event = on_event
        self.touch(socket)
        return socket

    def _numbers(self, key: bytes, now: float) -> int:
        """The ISN of a new connection, which takes the place of an old one in TIME_WAIT."""
        old = self.sockets.get(key)
        if old is None:
            return self.opening.isn(key, now)
        isn = (old.tcb.delegated.snd_max + _REUSE_DISTANCE) & 0xFFFFFFFF
        self._end(old)
        return isn

    def _add(
        self, key: bytes, tcb: Tcb, entry: PathEntry, machine: TcpMachine, options: SocketOptions
    ) -> Socket:
        socket = Socket(self, key, tcb, entry, machine, options)
        entry.users += 1
        self.sockets[key] = socket
        return socket

    def forget(self, socket: Socket) -> None:
        """The connection is over: its four-tuple is free."""
        if self.sockets.get(socket.key) is not socket:
            return
        del self.sockets[socket.key]
        socket.path_entry.users -= 1
        socket.builder = None
        self.timers.drop(socket)
        listener = socket.listener
        if listener is not None:
            listener.dropped(socket)

    def listen(
        self,
        address: bytes,
        port: int,
        backlog: int,
        options: SocketOptions,
        on_accept: Callable[[Listener], object] | None,
    ) -> Listener:
        """See :meth:`NetStack.tcp_listen`."""
        port = port or self.ports.for_listener()
        if not 0 < port <= 0xFFFF:
            raise LocalProtocolError(f"port {port}: a TCP port is 1..65535")
        if (address, port) in self.listeners:
            raise AddressInUse(f"port {port} is already listened on")
        listener = Listener(address, port, backlog, options, on_accept=on_accept, on_close=self._unlisten)
        self.listeners[address, port] = listener
        return listener

    def _unlisten(self, listener: Listener) -> None:
        """Forget a listener that is closed."""
        self.listeners.pop((listener.address, listener.port), None)

    # -- what sockets need ---------------------------------------------------------------------

    def frame_builder(self, socket: Socket) -> FrameBuilder:
        """Make the builder of a connection's frames."""
        tcb = socket.tcb
        neighbor = socket.path_entry.hop.neighbor
        return FrameBuilder(
            tcb.const,
            tcb.cached,
            tcb.path.const,
            tcb.path.cached,
            neighbor.const,
            neighbor.cached,
            source_mac=socket.path_entry.hop.interface.mac,
            next_id=self._identification.next_v4,
        )

    # -- what happens below --------------------------------------------------------------------

    def over(self, entry: PathEntry) -> list[Socket]:
        """The connections over a path. This is rare, so a search is cheaper than a list per path."""
        return [s for s in self.sockets.values() if s.path_entry is entry]

    def path_mtu_changed(self, entry: PathEntry) -> None:
        """PathMtu of a path has changed: connections cut their segments anew, or the target is told."""
        for socket in self.over(entry):
            if socket.machine is not None:
                socket.machine.path_changed(self.clock.tick)
                self.touch(socket)
        if entry.path.is_away:
            self.hooks.path_mtu(entry.path)

    def path_moved(self, entry: PathEntry) -> None:
        """A path has another next hop: the frames of its connections need new headers."""
        for socket in self.over(entry):
            socket.builder = None

    def neighbor_failed(self, entry: NeighborEntry, now: float) -> None:
        """A neighbor does not answer: attempts to connect through it are over, others may be soon."""
        text = f"neighbor {entry.neighbor.name} does not answer"
        for socket in list(self.sockets.values()):
            if socket.path_entry.hop is entry:
                socket.soft_error = text
                socket.unreachable(text)

    def address_lost(self, interface: Interface, conflict: Conflict) -> None:
        """Another host has an own address: end the connections that use it."""
        for socket in list(self.sockets.values()):
            if socket.tcb.path.const.source_address == conflict.address:
                socket.fail(AddressConflict(f"{socket}: {conflict}"))
                if socket.machine is None:
                    self.hooks.disconnect(socket.tcb, abortive=True)
                else:
                    socket.machine.give_up(str(conflict))
                    self.touch(socket)

    def replugged(self, interface: Interface) -> None:
        """An interface has a new MAC address or MTU: its connections send soon, with new headers."""
        for socket in self.sockets.values():
            socket.builder = None
            if socket.machine is not None and socket.path_entry.hop.interface is interface:
                socket.machine.hurry(self.clock.tick)
                self.timers.refresh(socket)
