"""ICMP and ICMPv6: echoes, errors that concern our connections, errors we send, redirects.

What an error does to a connection follows RFC 1122 4.2.3.9 and RFC 5927: it must quote a segment that is in
flight. «Fragmentation needed» lowers the path MTU. A hard error ends an attempt to connect and nothing else.
A soft error is remembered, and told if the connection later times out. Source quenches are ignored
(RFC 6633).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from hoststack.net.paths import plateau
from ndisbus.errors import DecodeError
from ndisbus.net import icmp, icmpv6, nd, tcp
from ndisbus.net.icmp import Echo, Original, ParameterProblem, Redirect, TimeExceeded, Unreachable
from ndisbus.net.icmpv6 import TooBig
from ndisbus.net.peek import connection_key

if TYPE_CHECKING:
    from hoststack.net.clock import Clock
    from hoststack.net.discovery import Discovery
    from hoststack.net.interface import Interface
    from hoststack.net.interfaces import Interfaces
    from hoststack.net.output import DatagramSender
    from hoststack.net.paths import PathTable
    from hoststack.net.pings import Pings
    from hoststack.net.redirects import Redirects
    from hoststack.net.socket import Socket
    from hoststack.net.statistics import Statistics
    from ndisbus.net.ipv4 import Ipv4Header
    from ndisbus.net.ipv6 import Ipv6Header

__all__ = ["Control", "RateLimit"]

_UNSPECIFIED_6: Final = bytes(16)
#: Codes of Destination Unreachable: text, and whether an attempt to connect is over (RFC 1122 4.2.3.9; RFC
#: 1812 5.2.7.1 for the prohibitions).
_UNREACHABLE_4: Final = {
    icmp.NET_UNREACHABLE: ("network unreachable", False),
    icmp.HOST_UNREACHABLE: ("host unreachable", False),
    icmp.PROTOCOL_UNREACHABLE: ("protocol unreachable", True),
    icmp.PORT_UNREACHABLE: ("port unreachable", True),
    5: ("source route failed", False),
    9: ("network administratively prohibited", True),
    10: ("host administratively prohibited", True),
    13: ("communication administratively prohibited", True),
}
_UNREACHABLE_6: Final = {
    icmpv6.NO_ROUTE: ("no route to destination", False),
    icmpv6.ADMINISTRATIVELY_PROHIBITED: ("communication administratively prohibited", True),
    2: ("beyond the scope of the source address", True),
    icmpv6.ADDRESS_UNREACHABLE: ("address unreachable", False),
    icmpv6.PORT_UNREACHABLE: ("port unreachable", True),
    5: ("source address failed policy", True),
    6: ("route to destination rejected", True),
}


class RateLimit:
    """A token bucket for ICMP errors (RFC 1812 4.3.2.8; RFC 4443 2.4 (f)).

    ``rate``: per second; ``burst``: at once.
    """

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float = 100.0, burst: float = 50.0) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more may be sent at ``now``."""
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Control:
    """Handles ICMP messages. ``sockets``: the connections, by what their segments show."""

    __slots__ = (
        "_clock",
        "_discovery",
        "_interfaces",
        "_limit",
        "_paths",
        "_pings",
        "_redirects",
        "_sender",
        "_sockets",
        "_statistics",
    )

    def __init__(
        self,
        *,
        clock: Clock,
        statistics: Statistics,
        interfaces: Interfaces,
        discovery: Discovery,
        paths: PathTable,
        redirects: Redirects,
        sender: DatagramSender,
        pings: Pings,
        sockets: Mapping[bytes, Socket],
    ) -> None:
        self._clock = clock
        self._statistics = statistics
        self._interfaces = interfaces
        self._discovery = discovery
        self._paths = paths
        self._redirects = redirects
        self._sender = sender
        self._pings = pings
        self._sockets = sockets
        self._limit = RateLimit()

    def icmp_input(
        self, interface: Interface, header: Ipv4Header, payload: bytes, unicast: bool, now: float
    ) -> None:
        """An ICMP message. Raises DecodeError."""
        message = icmp.parse(payload)
        if isinstance(message, Echo):
            self._echo(header.source, header.destination, message, unicast, now)
        elif isinstance(message, Unreachable):
            if message.code == icmp.FRAGMENTATION_NEEDED:
                self._too_big(message.original, message.next_hop_mtu, now)
            else:
                text, hard = _UNREACHABLE_4.get(message.code, (f"unreachable, code {message.code}", False))
                self._error(message.original, text, hard)
        elif isinstance(message, TimeExceeded):
            self._error(message.original, "time exceeded", False)
        elif isinstance(message, ParameterProblem):
            self._error(message.original, "parameter problem", False)
        elif isinstance(message, Redirect):
            quoted = self._quoted(message.original)
            if quoted is not None and len(quoted.destination) == 4:
                self._redirects.arrived(
                    interface, header.source, quoted.destination, message.gateway, b"", now
                )
        else:
            self._statistics.count(f"icmp: type {message.type}")

    def icmpv6_input(
        self,
        interface: Interface,
        header: Ipv6Header,
        payload: bytes,
        source_mac: bytes,
        unicast: bool,
        now: float,
    ) -> None:
        """An ICMPv6 message, neighbor discovery included. Raises DecodeError."""
        message = icmpv6.parse(payload, header.source, header.destination, header.hop_limit)
        if isinstance(message, nd.NeighborSolicitation):
            self._discovery.solicited(interface, header, message, source_mac, now)
        elif isinstance(message, nd.NeighborAdvertisement):
            self._discovery.advertised(interface, message, source_mac, now)
        elif header.source == _UNSPECIFIED_6:
            self._statistics.count("icmpv6: bad address")
        elif isinstance(message, Echo):
            self._echo(header.source, header.destination, message, unicast, now)
        elif isinstance(message, TooBig):
            self._too_big(message.original, message.mtu, now)
        elif isinstance(message, Unreachable):
            text, hard = _UNREACHABLE_6.get(message.code, (f"unreachable, code {message.code}", False))
            self._error(message.original, text, hard)
        elif isinstance(message, TimeExceeded):
            self._error(message.original, "time exceeded", False)
        elif isinstance(message, ParameterProblem):
            self._error(message.original, "parameter problem", False)
        elif isinstance(message, nd.Redirect6):
            mac = message.target_mac or b""
            # A target that is the destination itself says that it is on the link after all (RFC 4861 8.3).
            self._redirects.arrived(interface, header.source, message.destination, message.target, mac, now)
        else:
            # Router solicitations are for routers; advertisements are not used, routes are configured.
            self._statistics.count(f"icmpv6: ignored {type(message).__name__}")

    # -- echo --------------------------------------------------------------------------------------

    def _echo(self, source: bytes, destination: bytes, message: Echo, unicast: bool, now: float) -> None:
        if message.reply:
            self._pings.replied(message, now)
            return
        if not unicast:
            self._statistics.count("icmp: echo to a group")  # may be ignored, RFC 1122 3.2.2.6
            return
        reply = Echo(message.identifier, message.sequence, message.data, reply=True)
        self._send(destination, source, reply)

    def _send(self, source: bytes, destination: bytes, message: icmpv6.Icmpv6Message | Redirect) -> bool:
        if len(source) == 4:
            assert isinstance(message, icmp.IcmpMessage)
            return self._sender.send(source, destination, icmp.PROTOCOL, icmp.build(message))
        assert isinstance(message, icmpv6.Icmpv6Message)
        payload = icmpv6.build(message, source, destination)
        return self._sender.send(source, destination, icmpv6.PROTOCOL, payload)

    def send_error(
        self,
        source: bytes,
        destination: bytes,
        message: Unreachable | TimeExceeded | ParameterProblem,
    ) -> None:
        """Send an error message, unless too many were sent lately. RFC 1122 3.2.2: when one may be sent."""
        if self._limit.take(self._clock.now):
            self._send(source, destination, message)
        else:
            self._statistics.count("icmp: error rate limit")

    # -- errors ------------------------------------------------------------------------------------

    def _quoted(self, data: bytes) -> Original | None:
        """What an error message quotes, if it is something that we may have sent."""
        try:
            quoted = icmp.original(data)
        except DecodeError as e:
            self._statistics.count(f"icmp: quotes {e}")
            return None
        if quoted.source not in self._interfaces.local:
            self._statistics.count("icmp: quotes a stranger")
            return None
        return quoted

    def _error(self, data: bytes, text: str, hard: bool) -> None:
        quoted = self._quoted(data)
        if quoted is None:
            return
        if quoted.protocol == tcp.PROTOCOL:
            if not quoted.fragment:
                self._connection_error(quoted, text, hard)
        else:
            self._pings.failed(quoted.destination, text)

    def _in_flight(self, quoted: Original) -> Socket | None:
        """The connection of a quoted segment, if that may be one that is under way (RFC 5927 4.1).

        The sequence numbers of an offloaded connection are the target's: the four-tuple must do there.
        """
        key = connection_key(quoted.destination, quoted.source, quoted.destination_port, quoted.source_port)
        socket = self._sockets.get(key)
        if socket is not None and socket.machine is not None:
            d = socket.tcb.delegated
            outstanding = (d.snd_max - d.snd_una) & 0xFFFFFFFF
            if (quoted.sequence - d.snd_una) & 0xFFFFFFFF >= max(outstanding, 1):
                socket = None
        if socket is None:
            self._statistics.count("icmp: quotes nothing in flight")
        return socket

    def _connection_error(self, quoted: Original, text: str, hard: bool) -> None:
        socket = self._in_flight(quoted)
        if socket is not None:
            socket.soft_error = text
            if hard:
                # Ends an attempt to connect; for a connection that is established it is only a hint.
                socket.unreachable(text)

    def _too_big(self, data: bytes, mtu: int, now: float) -> None:
        """Fragmentation needed, or packet too big: the path MTU."""
        quoted = self._quoted(data)
        if quoted is None:
            return
        entry = self._paths.find(quoted.source, quoted.destination)
        if entry is None:
            self._statistics.count("icmp: too big for no path")
            return
        if quoted.protocol == tcp.PROTOCOL and self._in_flight(quoted) is None:
            return
        if mtu == 0 and len(quoted.source) == 4:
            # A router from before RFC 1191: the total length of the packet that it quotes was too long. Many
            # such errors are under way when the first arrives; one about a longer packet tells nothing new.
            size = int.from_bytes(data[2:4], "big")
            if size > entry.mtu:
                return
            mtu = plateau(size)
        entry.learn(mtu, now)
