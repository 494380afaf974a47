"""The host's network stack: sans-I/O, frames in and frames out, everything driven by the time it is told.

::

    stack = NetStack(TcpSettings(), random.Random(1))
    stack.add_interface(Interface("eth0", mac, 1500, ["10.77.0.1/24", "fd77::1/64"], transmit))
    socket = stack.tcp_connect(("10.77.0.2", 7))
    ...
    stack.receive(interface, frames, now)       # frames that arrived
    stack.on_timer(now)                         # at next_deadline(), and after the application did something

What an application does in a callback (connect, send, close) is carried out at the end of the call that led
to the callback. What it does at other times is carried out by the next call; until then
:meth:`NetStack.next_deadline` is in the past.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from hoststack.net import moving
from hoststack.net.detection import EMULATED, Conflict, DetectionTiming
from hoststack.net.errors import Unreachable
from hoststack.net.hooks import StackHooks
from hoststack.net.options import DEFAULT_OPTIONS
from hoststack.net.parts import Parts
from hoststack.net.pings import Ping
from hoststack.net.routes import Route
from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.net.ethernet import ETHERTYPE_ARP, is_group
from ndisbus.net.peek import connection_key, peek
from ndisbus.net.segment import SYN
from ndisbus.net.tcp import PROTOCOL as TCP
from ndisbus.net.tcp import parse_frame
from ndisbus.randomness import Randomness

if TYPE_CHECKING:
    from hoststack.model.objects import Neighbor, Path, Tcb
    from hoststack.net.interface import Interface
    from hoststack.net.listener import Listener
    from hoststack.net.options import SocketOptions
    from hoststack.net.socket import Socket
    from hoststack.net.socket_events import SocketEvent
    from ndisbus.net.peek import FrameInfo
    from ndisbus.tcp.settings import TcpSettings
    from ndisbus.tcp.statistics import FamilyStats

__all__ = ["NetStack"]

#: Bytes of an ARP packet.
_ARP_SIZE: Final = 28


class NetStack:
    """See the module. ``settings``: TCP's, with the clock's granularity; ``rng``: where secrets come from."""

    def __init__(
        self,
        settings: TcpSettings,
        rng: Randomness,
        *,
        hooks: StackHooks | None = None,
        timing: DetectionTiming = EMULATED,
        now: float = 0.0,
    ) -> None:
        self.settings = settings
        self._rng = rng
        parts = Parts(settings, rng, hooks or StackHooks(), timing, now)
        self.clock = parts.clock
        self.statistics = parts.statistics
        self.timers = parts.timers
        self.interfaces = parts.interfaces
        self.routes = parts.routes
        self.detection = parts.detection
        self.neighbors = parts.neighbors
        self.paths = parts.paths
        self.redirects = parts.redirects
        self.sender = parts.sender
        self.transport = parts.transport
        self.datagrams = parts.datagrams
        self._link = parts.link
        self._discovery = parts.discovery
        self._pings = parts.pings
        self.detection.on_conflict.append(self._replace_link_local)

    @property
    def now(self) -> float:
        """The latest time that the stack was told, in seconds."""
        return self.clock.now

    @property
    def counters(self) -> Counter[str]:
        """How often something happened that is worth counting: packets dropped, by reason, and the like."""
        return self.statistics.counters

    @property
    def tallies(self) -> dict[int, FamilyStats]:
        """What management reports, by IP version; offloaded connections count in the target (R-STAT-09)."""
        return self.statistics.tallies

    # -- set-up --------------------------------------------------------------------------------

    def add_interface(self, interface: Interface) -> None:
        """Put an interface into service: its addresses, its connected networks, its announcements."""
        self.interfaces.add(interface)
        for own in interface.local.values():
            self.routes.add(Route(own.network, interface))
        for address in interface.local:
            self.detection.start(interface, address)
        self.interfaces.soon()

    def add_address(self, interface: Interface, address: IPv4Interface | IPv6Interface) -> None:
        """Add an address to an interface. Raises LocalProtocolError for one that is already ours."""
        packed = self.interfaces.extend(interface, address)
        route = self.routes.lookup(packed)
        if route is None or route.network != address.network:
            self.routes.add(Route(address.network, interface))
        self.detection.start(interface, packed)
        self.interfaces.soon()

    def _replace_link_local(self, interface: Interface, conflict: Conflict) -> None:
        """Make a link-local address at random when the one of the MAC address is taken (RFC 8981 3.3)."""
        if conflict.address == interface.made:
            own = IPv6Interface((b"\xfe\x80" + bytes(6) + self._rng.randbytes(8), 64))
            interface.made = own.ip.packed
            self.add_address(interface, own)

    def replug(self, interface: Interface, mac: bytes, mtu: int) -> None:
        """Continue on an adapter that was replaced or came back, with its MAC address and MTU."""
        interface.move(mac, mtu)
        for entry in self.paths:
            if entry.hop.interface is interface:
                entry.refit(mtu)
        self.transport.replugged(interface)
        self._link.forget_echoes()
        self.detection.replugged(interface)
        self.interfaces.soon()

    def add_route(
        self, network: str | IPv4Network | IPv6Network, interface: Interface, gateway: str | None = None
    ) -> Route:
        """Add a route; ``0.0.0.0/0`` and ``::/0`` are the default ones."""
        hop = None if gateway is None else ip_address(gateway).packed
        route = Route(ip_network(network), interface, hop)
        if hop is not None and len(hop) * 8 != route.network.max_prefixlen:
            raise LocalProtocolError(f"gateway {gateway}: its IP version is not that of {network}")
        self.routes.add(route)
        return route

    # -- driving it ----------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Tell the time; it never goes back."""
        self.clock.advance(now)

    def receive(self, interface: Interface, frames: list[bytes], now: float) -> None:
        """Handle Ethernet frames that arrived. A frame that cannot be used is dropped and counted."""
        self.advance(now)
        transport = self.transport
        sockets = transport.sockets
        touched = transport.turns.touched
        accepts = interface.accepts
        vlan = interface.vlan_id
        tick = self.clock.tick
        count = self.statistics.count
        tallies = self.statistics.tallies
        for frame in frames:
            try:
                info = peek(frame)
                if frame[:6] not in accepts:
                    count("ethernet: not for us")
                    continue
                if vlan and info.vlan != vlan:
                    count("ethernet: other VLAN")
                    continue
                tally = tallies.get(info.version)
                if tally is not None:
                    tally.datagram_in(info.end - info.l3)
                if info.protocol == TCP and not info.fragment and not info.options:
                    socket = sockets.get(info.key)
                    if socket is not None and socket.listener is None and socket.machine is not None:
                        segment = parse_frame(frame, info)
                        if not segment.flags & SYN:
                            if tally is not None:
                                tally.ip.in_delivers += 1
                                tally.tcp.in_segments += 1
                            socket.deliver(segment, tick, now)
                            if not socket.touched:
                                socket.touched = True
                                touched.append(socket)
                            continue
                self._receive(interface, frame, info, now)
            except DecodeError as e:
                self.statistics.malformed(frame, e)
        self.flush()

    def _receive(self, interface: Interface, frame: bytes, info: FrameInfo, now: float) -> None:
        """Handle a frame that does not belong to a connection of this stack's own machines."""
        source_mac = frame[6:12]
        if is_group(source_mac):
            self.statistics.count("ethernet: bad source")
        elif source_mac == interface.mac and self._link.is_echo(
            whole := frame[: info.end or info.l3 + _ARP_SIZE]
        ):
            self.statistics.count("ethernet: echo")
            self.detection.echoed(interface, whole)
        elif info.version:
            packet = frame[info.l3 : info.end]
            datagrams = self.datagrams
            receive = datagrams.receive_ipv4 if info.version == 4 else datagrams.receive_ipv6
            receive(interface, packet, source_mac, is_group(frame), now)
        elif info.ethertype == ETHERTYPE_ARP:
            self._discovery.arp_input(interface, frame[info.l3 :], now)
        else:
            self.statistics.count("ethernet: unknown type")

    def next_deadline(self) -> float | None:
        """When to call :meth:`on_timer` (seconds); in the past if something waits to be carried out."""
        if self.interfaces.pending or self.transport.turns.due:
            return self.now
        return self.timers.next_deadline()

    def on_timer(self, now: float) -> None:
        """Let time pass, and carry out what waits. The call may come early or late."""
        self.advance(now)
        self.timers.run(now)
        self.flush()

    def flush(self) -> None:
        """Carry out what the application did, and send what there is to send."""
        self.transport.turns.settle(self.clock.now)
        self.interfaces.flush()

    # -- for applications ----------------------------------------------------------------------

    def tcp_connect(
        self,
        remote: tuple[str, int],
        local: tuple[str | None, int] | None = None,
        options: SocketOptions = DEFAULT_OPTIONS,
        *,
        on_event: Callable[[Socket, SocketEvent], object] | None = None,
    ) -> Socket:
        """Begin to connect to an address and port; ``local``: the own ones, None and 0 for any.

        The outcome is CONNECTED or FAILED. Raises :class:`Unreachable` without a route,
        :class:`AddressInUse` if no port is left, :class:`LocalProtocolError` for what is not an address.
        """
        destination, port = self._address(remote[0]), remote[1]
        own, own_port = local or (None, 0)
        source = None if own is None else self._address(own)
        if not 0 < port <= 0xFFFF:
            raise LocalProtocolError(f"{remote[0]}, port {port}: a TCP port is 1..65535")
        if not 0 <= own_port <= 0xFFFF:
            raise LocalProtocolError(
                f"own port {own_port}: a TCP port is 1..65535, or 0 for any that is free"
            )
        if source is not None and len(source) != len(destination):
            raise LocalProtocolError(f"{own} and {remote[0]} are of different families")
        return self.transport.connect((destination, port), (source, own_port), options, on_event, self.now)

    def tcp_listen(
        self,
        address: str | None,
        port: int,
        backlog: int = 128,
        options: SocketOptions = DEFAULT_OPTIONS,
        *,
        on_accept: Callable[[Listener], object] | None = None,
    ) -> Listener:
        """Accept connections. ``address``: None for all, ``0.0.0.0`` or ``::`` for all of a family.

        ``port``: 0 for any that is free. Raises :class:`AddressInUse`.
        """
        packed = b"" if address is None else self._address(address)
        if any(packed) and not self.interfaces.owns(packed):
            raise Unreachable(f"{address} is not an address of this host")
        return self.transport.listen(packed, port, backlog, options, on_accept)

    def ping(self, destination: str, size: int = 56) -> Ping:
        """Send an echo request with ``size`` bytes. Raises :class:`Unreachable` without a route."""
        return self._pings.send(self._address(destination), size)

    def _address(self, text: str) -> bytes:
        try:
            return ip_address(text).packed
        except ValueError:
            raise LocalProtocolError(f"{text}: not an IP address") from None

    # -- for the chimney -----------------------------------------------------------------------

    def socket_of(self, tcb: Tcb) -> Socket | None:
        """The socket of a connection object, None once the connection is over."""
        ends = tcb.path.const
        key = connection_key(
            ends.destination_address, ends.source_address, tcb.const.remote_port, tcb.const.local_port
        )
        socket = self.transport.sockets.get(key)
        return socket if socket is not None and socket.tcb is tcb else None

    def confirm(self, neighbor: Neighbor) -> None:
        """The target saw progress through this neighbor (R-NUD-11, R-NUD-12)."""
        entry = self.neighbors.entry_of(neighbor)
        if entry is not None:
            entry.confirm(self.now)

    def doubt(self, neighbor: Neighbor) -> None:
        """Probe the neighbor now; without an answer it is lost (R-NUD-11)."""
        entry = self.neighbors.entry_of(neighbor)
        if entry is not None:
            entry.doubt(self.now)

    def follow(self, paths: Iterable[Path], neighbor: Neighbor) -> None:
        """Paths were relinked by their owner: the host's own segments take the new next hop too."""
        hop = self.neighbors.entry_of(neighbor)
        if hop is None:
            raise LocalProtocolError(f"{neighbor!r} is not in the neighbor cache of this stack")
        for path in paths:
            entry = self.paths.of(path)
            if entry is not None and entry.hop is not hop:
                entry.move(hop)

    def detach(self, socket: Socket, now: float) -> None:
        """Take a connection out of its machine; see :func:`hoststack.net.moving.detach`."""
        moving.detach(self.transport, socket, now)

    def attach(self, socket: Socket, now: float) -> None:
        """Give a connection a machine again; see :func:`hoststack.net.moving.attach`."""
        moving.attach(self.transport, socket, now)
