"""The host's network stack: sans-I/O, frames in and frames out, everything driven by the time it is told.

::

    stack = NetStack(TcpSettings(), random.Random(1))
    stack.add_interface(Interface("eth0", mac, 1500, ["10.77.0.1/24", "fd77::1/64"], transmit))
    socket = stack.tcp_connect(("10.77.0.2", 7))
    ...
    stack.receive(interface, frames, now)       # frames that arrived
    stack.on_timer(now)                         # at next_deadline(), and after the application did something

Whatever the application does (connect, send, close) is carried out at the end of the call in whose course it
was done, or, done outside of any, at the next call: :meth:`NetStack.next_deadline` is in the past then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from hoststack.net import control, datagrams, redirects
from hoststack.net.control import Ping, RateLimit
from hoststack.net.discovery import Discovery
from hoststack.net.errors import Unreachable
from hoststack.net.hooks import StackHooks
from hoststack.net.neighbors import NeighborCache
from hoststack.net.options import DEFAULT_OPTIONS
from hoststack.net.paths import PathTable
from hoststack.net.routes import Route, RoutingTable
from hoststack.net.timers import Timed, TimerQueue
from hoststack.net.transport import Transport
from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.net.ethernet import ETHERTYPE_ARP, EthernetHeader, is_group
from ndisbus.net.identification import IpIdentification
from ndisbus.net.malformed import TRUNCATED
from ndisbus.net.peek import connection_key, peek
from ndisbus.net.reassembly import Reassembler
from ndisbus.net.segment import SYN
from ndisbus.net.tcp import PROTOCOL as TCP
from ndisbus.net.tcp import parse_frame
from ndisbus.randomness import Randomness
from ndisbus.tcp.statistics import FamilyStats

if TYPE_CHECKING:
    from hoststack.model.objects import Neighbor, Path, Tcb
    from hoststack.net.interface import Interface
    from hoststack.net.listener import Listener
    from hoststack.net.neighbors import NeighborEntry
    from hoststack.net.options import SocketOptions
    from hoststack.net.paths import Way
    from hoststack.net.socket import Socket, SocketEvent
    from ndisbus.net.peek import FrameInfo
    from ndisbus.tcp.settings import TcpSettings

__all__ = ["NetStack"]


class _Fragments(Timed):
    """The timer of reassembly."""

    __slots__ = ("stack",)

    def __init__(self, stack: NetStack) -> None:
        self.queued = None
        self.stack = stack

    def deadline(self) -> float | None:
        return self.stack.reassembler.next_deadline()

    def on_timer(self, now: float) -> None:
        datagrams.reassembly_expired(self.stack, now)


class NetStack:
    """See the module. ``settings``: TCP's, with the clock's granularity; ``rng``: where secrets come from."""

    def __init__(
        self,
        settings: TcpSettings,
        rng: Randomness,
        *,
        hooks: StackHooks | None = None,
        now: float = 0.0,
    ) -> None:
        self.settings = settings
        self.rng = rng
        self.hooks = hooks or StackHooks()
        #: The latest time that the stack was told (seconds).
        self.now = now
        #: How often what happened that is worth counting: packets dropped, by reason, and the like.
        self.counters: Counter[str] = Counter()
        #: What management reports, by IP version; for offloaded connections the target does (R-STAT-09).
        self.tallies = {4: FamilyStats(), 6: FamilyStats()}
        self.interfaces: dict[str, Interface] = {}
        self.local_addresses: dict[bytes, Interface] = {}
        self.routes = RoutingTable()
        #: Routes that redirects made, by destination.
        self.redirects: dict[bytes, Route] = {}
        self.timers = TimerQueue()
        parameters = settings.parameters
        self.neighbors = NeighborCache(self, parameters.nce_stale_ticks / parameters.ticks_per_second)
        self.paths = PathTable(self)
        self.discovery = Discovery(self)
        self.reassembler = Reassembler()
        self.identification = IpIdentification(upper=False, start=rng.getrandbits(15))
        self.error_limit = RateLimit()
        self.pings: dict[tuple[int, int], Ping] = {}
        self.transport = Transport(self)
        self.transport.tick = self.transport.at(now)
        self._fragments = _Fragments(self)
        self.ping_number = rng.getrandbits(16) << 16
        self._pending = False

    # -- set-up --------------------------------------------------------------------------------

    def add_interface(self, interface: Interface) -> None:
        """Put an interface into service: its addresses, its connected networks, its announcements."""
        if interface.name in self.interfaces:
            raise LocalProtocolError(f"there is an interface {interface.name} already")
        for address in interface.local:
            if address in self.local_addresses:
                raise LocalProtocolError(f"{self.show(address)} is on another interface already")
        self.interfaces[interface.name] = interface
        for address, own in interface.local.items():
            self.local_addresses[address] = interface
            self.routes.add(Route(own.network, interface))
        if interface.announce:
            self.discovery.announce(interface, self.now)
        self.soon()

    def replug(self, interface: Interface, mac: bytes, mtu: int) -> None:
        """The interface is on an adapter again, the same or another one, with its address and MTU."""
        interface.move(mac, mtu)
        for way in self.paths:
            if way.hop.interface is interface:
                way.refit(mtu)
        for socket in self.transport.sockets.values():
            socket.builder = None  # its frames bear the old address
            if socket.machine is not None and socket.way.hop.interface is interface:
                socket.machine.hurry(self.transport.tick)
                self.timers.refresh(socket)
        if interface.announce:
            self.discovery.announce(interface, self.now)
        self.soon()

    def add_route(
        self, network: str | IPv4Network | IPv6Network, interface: Interface, gateway: str | None = None
    ) -> Route:
        """Add a route; ``0.0.0.0/0`` and ``::/0`` are the default ones."""
        hop = None if gateway is None else ip_address(gateway).packed
        route = Route(ip_network(network), interface, hop)
        if hop is not None and len(hop) * 8 != route.network.max_prefixlen:
            raise LocalProtocolError(f"{gateway} is no gateway to {network}")
        self.routes.add(route)
        return route

    # -- driving it ----------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Tell the time; it never goes back."""
        if now > self.now:
            self.now = now
            self.transport.tick = self.transport.at(now)

    def receive(self, interface: Interface, frames: list[bytes], now: float) -> None:
        """Ethernet frames have arrived. Whatever is wrong with one, it is dropped and counted."""
        self.advance(now)
        transport = self.transport
        sockets = transport.sockets
        touched = transport.touched
        accepts = interface.accepts
        vlan = interface.vlan_id
        tick = transport.tick
        tallies = self.tallies
        for frame in frames:
            try:
                info = peek(frame)
                if frame[:6] not in accepts:
                    self.count("ethernet: not for us")
                    continue
                if vlan and info.vlan != vlan:
                    self.count("ethernet: other VLAN")
                    continue
                tally = tallies.get(info.version)
                if tally is not None:
                    tally.datagram_in(info.end - info.l3)
                if info.protocol == TCP and not info.fragment and not info.options:
                    socket = sockets.get(info.key)
                    if socket is not None and socket.listener is None and socket.machine is not None:
                        machine = socket.machine
                        segment = parse_frame(frame, info)
                        if not segment.flags & SYN:
                            if tally is not None:
                                tally.ip.in_delivers += 1
                                tally.tcp.in_segments += 1
                            if machine.ack_now and machine.gaps is not None:
                                # Out of order: an ACK for each, as the peer counts them (RFC 5681 3.2).
                                socket.output(machine.transmit(tick), now)
                            machine.receive(segment, tick)
                            if not socket.touched:
                                socket.touched = True
                                touched.append(socket)
                            continue
                self._receive(interface, frame, info, now)
            except DecodeError as e:
                self.count(str(e))
                self._malformed(frame, e)
        self.flush()

    def _malformed(self, frame: bytes, error: DecodeError) -> None:
        """Count what is no whole packet or segment where management looks for it (R-STAT-05, R-STAT-08)."""
        version = {b"\x08\x00": 4, b"\x86\xdd": 6}.get(frame[12:14])
        if version is None:
            return
        tally = self.tallies[version]
        if error.where == "tcp":
            tally.tcp.in_segments += 1
            tally.tcp.in_errors += 1
        elif error.where in ("ipv4", "ipv6"):
            if error.detail == TRUNCATED:
                tally.ip.in_truncated_packets += 1
            else:
                tally.ip.in_header_errors += 1

    def _receive(self, interface: Interface, frame: bytes, info: FrameInfo, now: float) -> None:
        """A frame off the hot path."""
        source_mac = frame[6:12]
        if is_group(source_mac):
            self.count("ethernet: bad source")
        elif info.version:
            packet = frame[info.l3 : info.end]
            receive = datagrams.receive_ipv4 if info.version == 4 else datagrams.receive_ipv6
            receive(self, interface, packet, source_mac, is_group(frame), now)
        elif info.ethertype == ETHERTYPE_ARP:
            self.discovery.arp_input(interface, frame[info.l3 :], now)
        else:
            self.count("ethernet: unknown type")

    def next_deadline(self) -> float | None:
        """When :meth:`on_timer` is wanted (seconds); in the past if something waits to be carried out."""
        if self._pending or self.transport.touched:
            return self.now
        return self.timers.next_deadline()

    def on_timer(self, now: float) -> None:
        """Let time pass, and carry out what waits. Too early or too late is all right."""
        self.advance(now)
        self.timers.run(now)
        self.flush()

    def soon(self) -> None:
        """There is something to send at the end of the batch."""
        self._pending = True

    def flush(self) -> None:
        """Carry out what the application did, and send what there is to send."""
        self.transport.settle(self.now)
        self._pending = False
        for interface in self.interfaces.values():
            interface.flush()

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
        :class:`AddressInUse` if no port is left, :class:`LocalProtocolError` for what is no address.
        """
        destination, port = self._address(remote[0]), remote[1]
        own, own_port = local or (None, 0)
        source = None if own is None else self._address(own)
        if not 0 < port <= 0xFFFF or not 0 <= own_port <= 0xFFFF:
            raise LocalProtocolError(f"{own_port} -> {port}: ports are 1..65535")
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
        if any(packed) and packed not in self.local_addresses:
            raise Unreachable(f"{address} is no address of this host")
        return self.transport.listen(packed, port, backlog, options, on_accept)

    def ping(self, destination: str, size: int = 56) -> Ping:
        """Send an echo request with ``size`` bytes. Raises :class:`Unreachable` without a route."""
        return control.ping(self, self._address(destination), size)

    def _address(self, text: str) -> bytes:
        try:
            return ip_address(text).packed
        except ValueError:
            raise LocalProtocolError(f"{text!r} is no IP address") from None

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
        """Somebody else, such as a target, saw progress through this neighbor (R-NUD-11, R-NUD-12)."""
        entry = self.neighbors.entry_of(neighbor)
        if entry is not None:
            entry.confirm(self.now)

    def doubt(self, neighbor: Neighbor) -> None:
        """The neighbor is to be probed now; without an answer it is lost (R-NUD-11)."""
        entry = self.neighbors.entry_of(neighbor)
        if entry is not None:
            entry.doubt(self.now)

    def follow(self, paths: Iterable[Path], neighbor: Neighbor) -> None:
        """Paths were relinked by their owner: the host's own segments take the new next hop too."""
        entry = self.neighbors.entry_of(neighbor)
        if entry is None:
            raise LocalProtocolError(f"{neighbor!r} is in no neighbor cache")
        for path in paths:
            way = self.paths.of(path)
            if way is not None and way.hop is not entry:
                way.move(entry)
                for socket in self.transport.over(way):
                    socket.builder = None

    def stamp(self, entry: NeighborEntry, now: float) -> None:
        """Write the neighbor's reachability age into its structures, as they are handed over (R-NUD-01)."""
        self.neighbors.stamp(entry, now, self.transport.ticks_per_second)

    # -- for the parts -------------------------------------------------------------------------

    def count(self, reason: str) -> None:
        """Something happened that is worth counting."""
        self.counters[reason] += 1

    def show(self, address: bytes) -> str:
        """An address for people."""
        return str(ip_address(address))

    def ethernet(self, interface: Interface, mac: bytes, ethertype: int) -> bytes:
        """The header of a frame that belongs to no connection."""
        vlan = interface.vlan_id or None
        return EthernetHeader(mac, interface.mac, ethertype, vlan).build()

    def reassembly_changed(self) -> None:
        """A fragment came: its datagram has a deadline."""
        self.timers.refresh(self._fragments)

    def path_mtu_changed(self, way: Way) -> None:
        """PathMtu of a path is another one: connections cut their segments anew, or the target is told."""
        tick = self.transport.tick
        for socket in self.transport.over(way):
            if socket.machine is not None:
                socket.machine.path_changed(tick)
                self.transport.touch(socket)
        if way.path.is_away:
            self.hooks.path_mtu(way.path)

    def neighbor_changed(self, entry: NeighborEntry) -> None:
        """A neighbor has another link address; frames of connections see that by themselves."""
        if entry.neighbor.is_away:
            self.hooks.neighbor_changed(entry.neighbor)

    def neighbor_failed(self, entry: NeighborEntry, now: float) -> None:
        """A neighbor does not answer: attempts to connect through it are over, others may be soon."""
        text = f"neighbor {entry.neighbor.name} does not answer"
        for socket in list(self.transport.sockets.values()):
            if socket.way.hop is entry:
                socket.soft_error = text
                socket.unreachable(text)
        for key, ping in list(self.pings.items()):
            route = self.routes.lookup(ping.destination)
            if route is not None and route.next_hop(ping.destination) == entry.address:
                ping.error = text
                del self.pings[key]
        redirects.forget(self, entry)
        if entry.neighbor.is_offloaded:
            self.hooks.neighbor_lost(entry.neighbor)
