"""TCP above the datagrams: which connection a segment belongs to, new connections, and who is owed a turn.

A connection that anything happened to is *touched*: it has its turn at the end of the batch, when its events
are told and everything it owes the peer is sent in one go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from hoststack.model.objects import Tcb
from hoststack.net import opening, output
from hoststack.net.errors import AddressInUse, Unreachable
from hoststack.net.isn import InitialSequenceNumbers, PortPicker
from hoststack.net.listener import Listener
from hoststack.net.socket import Socket, SocketEvent
from ndisbus.ddi.enums import TcpOffloadConnectionState as State
from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.net import tcp
from ndisbus.net.checksum import pseudo_header
from ndisbus.net.frames import FrameBuilder
from ndisbus.net.peek import connection_key
from ndisbus.net.segment import ACK, RST, SYN
from ndisbus.tcp.ending import answer_closed, answer_listen
from ndisbus.tcp.machine import TcpMachine

if TYPE_CHECKING:
    from hoststack.net.options import SocketOptions
    from hoststack.net.paths import Way
    from hoststack.net.stack import NetStack
    from ndisbus.net.segment import Segment

__all__ = ["Transport"]

#: How far beyond the last number of an old connection in TIME_WAIT the new one begins (RFC 9293 3.6.1).
_REUSE_DISTANCE: Final = 250_000
#: Part of a tick by which a deadline in seconds may be short of the tick it stands for (rounding).
_ROUNDING: Final = 1e-3

_TIME_WAIT: Final = State.TcpConnectionTimeWait
_SYN_RCVD: Final = State.TcpConnectionSynRcvd


class Transport:
    """The connections of a stack, by what their segments show."""

    __slots__ = (
        "_isn",
        "_ports",
        "listeners",
        "sockets",
        "stack",
        "tick",
        "ticks_per_second",
        "timers",
        "touched",
    )

    def __init__(self, stack: NetStack) -> None:
        self.stack = stack
        self.timers = stack.timers
        self.ticks_per_second = stack.settings.parameters.ticks_per_second
        #: The clock of the machines.
        self.tick = 0
        self.sockets: dict[bytes, Socket] = {}
        self.listeners: dict[tuple[bytes, int], Listener] = {}
        self.touched: deque[Socket] = deque()
        self._isn = InitialSequenceNumbers(stack.rng)
        self._ports = PortPicker(stack.rng)

    def at(self, now: float) -> int:
        """``now`` in ticks."""
        return int(now * self.ticks_per_second + _ROUNDING)

    def timestamp(self, key: bytes, tick: int) -> int:
        """The first timestamp of a connection: it only grows between two hosts (RFC 7323 5.4, RFC 6191)."""
        return (self._isn.keyed(key[:-4]) + tick) & 0xFFFFFFFF

    # -- turns ---------------------------------------------------------------------------------

    def touch(self, socket: Socket) -> None:
        """Give a socket its turn at the end of the batch."""
        if not socket.touched:
            socket.touched = True
            self.touched.append(socket)

    def settle(self, now: float) -> None:
        """Give everybody their turn, until nobody wants one."""
        touched = self.touched
        tick = self.tick
        while touched:
            socket = touched.popleft()
            socket.touched = False
            socket.settle(now, tick)

    # -- segments ------------------------------------------------------------------------------

    def arrived(self, source: bytes, destination: bytes, segment: Segment, data: bytes, now: float) -> None:
        """A segment off the hot path, checksum verified; ``data``: the same as bytes."""
        key = connection_key(source, destination, segment.source_port, segment.destination_port)
        self.deliver(key, segment, data, now)

    def deliver_bytes(self, key: bytes, data: bytes, now: float) -> None:
        """A segment (header and payload) that was kept somewhere; dropped and counted if it is not whole."""
        size = (len(key) - 4) // 2
        pseudo = pseudo_header(key[:size], key[size : 2 * size], tcp.PROTOCOL)
        try:
            segment = tcp.parse_segment(data, pseudo)
        except DecodeError as e:
            self.stack.count(str(e))
        else:
            self.deliver(key, segment, data, now)

    def deliver(self, key: bytes, segment: Segment, data: bytes, now: float) -> None:
        """Give a segment to its connection, or to a listener, or answer that there is none."""
        socket = self.sockets.get(key)
        if socket is None:
            self._stranger(key, segment, now)
            return
        machine = socket.machine
        if machine is None:
            if not self.stack.hooks.segments(socket.tcb, [data]):
                self.stack.count("tcp: nobody serves it")
            return
        if segment.flags & SYN and machine.accepts_reuse(segment) and self._reuse(socket, segment, now):
            return
        if socket.listener is not None and self._no_room(socket, segment):
            return
        machine.receive(segment, self.tick)
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
        self.stack.count("tcp: accept queue full")
        return True

    def _reuse(self, old: Socket, syn: Segment, now: float) -> bool:
        """A new connection in place of one in TIME_WAIT (RFC 9293 3.6.1), if somebody listens."""
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
            self.stack.count("tcp: no connection")
            self._reply(key, answer_closed(segment))
            return
        wanted, answer = answer_listen(segment)
        if wanted:
            self._opened(listener, key, segment, now, self._isn(key, now))
        elif answer is not None:
            self.stack.count("tcp: no connection")
            self._reply(key, answer)

    def _reply(self, key: bytes, segment: Segment | None) -> None:
        """Send a segment that belongs to no connection."""
        if segment is None:
            return
        size = (len(key) - 4) // 2
        remote, local = key[:size], key[size : 2 * size]
        counters = self.stack.tallies[4 if size == 4 else 6].tcp
        counters.out_segments += 1
        counters.out_resets += bool(segment.flags & RST)
        payload = tcp.build(segment, pseudo_header(local, remote, tcp.PROTOCOL))
        output.send(self.stack, local, remote, tcp.PROTOCOL, payload, dont_fragment=True)

    # -- opening -------------------------------------------------------------------------------

    def _listener(self, address: bytes, port: int) -> Listener | None:
        """Who listens at an own address and port: on just that one, on the family, or on everything."""
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
            self.stack.count("tcp: accept queue full" if listener.full else "tcp: SYN queue full")
            return
        size = (len(key) - 4) // 2
        remote, local = key[:size], key[size : 2 * size]
        way = self.stack.paths.get(local, remote)
        if way is None:
            self.stack.count("output: no route")
            return
        options = listener.options
        tcb, machine = opening.passive(self, way, key, syn, isn, options, self.at(now))
        socket = self._add(key, tcb, way, machine, options)
        socket.listener = listener
        listener.half_open[socket] = None
        self.touch(socket)

    def established(self, socket: Socket) -> None:
        """A connection is through its handshake: a listener's moves to the accept queue."""
        listener = socket.listener
        if listener is not None and socket in listener.half_open:
            del listener.half_open[socket]
            listener.ready.append(socket)
            if listener.on_accept is not None:
                listener.on_accept(listener)

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
        stack = self.stack
        route = stack.routes.lookup(destination)
        if route is None:
            raise Unreachable(f"no route to {stack.show(destination)}")
        if destination in stack.local_addresses:
            raise Unreachable(f"{stack.show(destination)} is an address of this host, which has no loopback")
        if destination in route.interface.groups or destination[0] == 0xFF or 224 <= destination[0] < 240:
            raise Unreachable(f"{stack.show(destination)} is no address of a single host")
        source = local[0] or route.interface.source_for(route.next_hop(destination))
        if source is None:
            raise Unreachable(f"{route.interface!r} has no address to reach {stack.show(destination)} from")
        if source not in stack.local_addresses:
            raise Unreachable(f"{stack.show(source)} is no address of this host")
        way = stack.paths.get(source, destination)
        assert way is not None
        key, isn = self._four_tuple(source, local[1], destination, port, now)
        tcb, machine = opening.active(self, way, key, isn, options, self.at(now))
        socket = self._add(key, tcb, way, machine, options)
        socket.on_event = on_event
        self.touch(socket)
        return socket

    def _four_tuple(
        self, source: bytes, own_port: int, destination: bytes, port: int, now: float
    ) -> tuple[bytes, int]:
        """The key of a new connection and its ISN; an own port of 0 is chosen here. Raises AddressInUse."""
        taken = {p for _, p in self.listeners}

        def key_of(own: int) -> bytes:
            return connection_key(destination, source, port, own)

        def free(own: int) -> bool:
            return own not in taken and key_of(own) not in self.sockets

        def waiting(own: int) -> bool:
            return own not in taken and self._may_reuse(key_of(own))

        if own_port:
            key = key_of(own_port)
            if key in self.sockets and not self._may_reuse(key):
                raise AddressInUse(f"port {own_port} has a connection to that address and port already")
        else:
            seed = source + destination + port.to_bytes(2, "big")
            chosen = self._ports.pick(seed, free) or self._ports.pick(seed, waiting)
            if chosen is None:
                raise AddressInUse(f"all {len(self._ports.ports)} ephemeral ports are in use")
            key = key_of(chosen)
        old = self.sockets.get(key)
        if old is None:
            return key, self._isn(key, now)
        isn = (old.tcb.delegated.snd_max + _REUSE_DISTANCE) & 0xFFFFFFFF
        self._end(old)
        return key, isn

    def _may_reuse(self, key: bytes) -> bool:
        """Whether a connection in TIME_WAIT may give way to ours: timestamps tell them apart (RFC 6191)."""
        old = self.sockets.get(key)
        machine = None if old is None else old.machine
        return machine is not None and machine.state is _TIME_WAIT and machine.stamped

    def _add(self, key: bytes, tcb: Tcb, way: Way, machine: TcpMachine, options: SocketOptions) -> Socket:
        socket = Socket(self, key, tcb, way, machine, options)
        way.users += 1
        self.sockets[key] = socket
        return socket

    def forget(self, socket: Socket) -> None:
        """The connection is over: its four-tuple is free."""
        if self.sockets.get(socket.key) is not socket:
            return
        del self.sockets[socket.key]
        socket.way.users -= 1
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
        if port == 0:
            used = {p for _, p in self.listeners} | {s.tcb.const.local_port for s in self.sockets.values()}
            found = self._ports.pick(b"", lambda p: p not in used)
            if found is None:
                raise AddressInUse("no port is left to listen on")
            port = found
        if not 0 < port <= 0xFFFF:
            raise LocalProtocolError(f"{port} is no TCP port")
        if (address, port) in self.listeners:
            raise AddressInUse(f"somebody listens on port {port} already")
        listener = Listener(self, address, port, backlog, options, on_accept)
        self.listeners[address, port] = listener
        return listener

    def unlisten(self, listener: Listener) -> None:
        """The listener is closed."""
        self.listeners.pop((listener.address, listener.port), None)

    # -- what sockets need ---------------------------------------------------------------------

    def machine(
        self, tcb: Tcb, now: float, send_data: Iterable[bytes] = (), received: Iterable[bytes] = ()
    ) -> TcpMachine:
        """A machine that goes on with a connection."""
        return TcpMachine(
            tcb.const,
            tcb.cached,
            tcb.delegated,
            path_const=tcb.path.const,
            path_cached=tcb.path.cached,
            settings=self.stack.settings,
            now=self.at(now),
            send_data=send_data,
            received=received,
        )

    def frame_builder(self, socket: Socket) -> FrameBuilder:
        """What makes the frames of a connection."""
        tcb = socket.tcb
        neighbor = socket.way.hop.neighbor
        return FrameBuilder(
            tcb.const,
            tcb.cached,
            tcb.path.const,
            tcb.path.cached,
            neighbor.const,
            neighbor.cached,
            source_mac=socket.way.hop.interface.mac,
            next_id=self.stack.identification.next_v4,
        )

    # -- what happens below --------------------------------------------------------------------

    def over(self, way: Way) -> list[Socket]:
        """The connections over a path. Looked for, as this is rare and a list per path is not cheap."""
        return [s for s in self.sockets.values() if s.way is way]
