"""ICMP and ICMPv6: echoes, errors that concern our connections, errors we send, redirects.

What an error does to a connection follows RFC 1122 4.2.3.9 and RFC 5927: it must quote a segment that is in
flight; «fragmentation needed» lowers the path MTU; a hard error ends an attempt to connect and nothing else;
a soft error is remembered and told if the connection later times out. Source quenches are ignored (RFC 6633).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.net import errors, output, redirects
from hoststack.net.paths import plateau
from ndisbus.errors import DecodeError
from ndisbus.net import icmp, icmpv6, nd, tcp
from ndisbus.net.icmp import Echo, Original, ParameterProblem, Redirect, TimeExceeded, Unreachable
from ndisbus.net.icmpv6 import TooBig
from ndisbus.net.peek import connection_key

if TYPE_CHECKING:
    from hoststack.net.interface import Interface
    from hoststack.net.socket import Socket
    from hoststack.net.stack import NetStack
    from ndisbus.net.ipv4 import Ipv4Header
    from ndisbus.net.ipv6 import Ipv6Header

__all__ = ["Ping", "RateLimit", "icmp_input", "icmpv6_input", "ping", "send_error"]

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


#: Echo requests that wait for their reply; the oldest are forgotten.
MAX_PINGS: Final = 1024


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


class Ping:
    """One echo request. ``seconds``: the round trip, once the reply is there; ``error``: why none comes."""

    __slots__ = ("data", "destination", "error", "seconds", "sent")

    def __init__(self, destination: bytes, sent: float) -> None:
        self.destination = destination
        self.sent = sent
        self.seconds: float | None = None
        self.data = b""
        self.error = ""

    @property
    def done(self) -> bool:
        """Whether there is a reply or an error."""
        return self.seconds is not None or bool(self.error)


def icmp_input(
    stack: NetStack, interface: Interface, header: Ipv4Header, payload: bytes, unicast: bool, now: float
) -> None:
    """An ICMP message. Raises DecodeError."""
    message = icmp.parse(payload)
    if isinstance(message, Echo):
        _echo(stack, header.source, header.destination, message, unicast, now)
    elif isinstance(message, Unreachable):
        if message.code == icmp.FRAGMENTATION_NEEDED:
            _too_big(stack, message.original, message.next_hop_mtu, now)
        else:
            text, hard = _UNREACHABLE_4.get(message.code, (f"unreachable, code {message.code}", False))
            _error(stack, message.original, text, hard)
    elif isinstance(message, TimeExceeded):
        _error(stack, message.original, "time exceeded", False)
    elif isinstance(message, ParameterProblem):
        _error(stack, message.original, "parameter problem", False)
    elif isinstance(message, Redirect):
        quoted = _quoted(stack, message.original)
        if quoted is not None and len(quoted.destination) == 4:
            redirects.arrived(stack, interface, header.source, quoted.destination, message.gateway, b"", now)
    else:
        stack.count(f"icmp: type {message.type}")


def icmpv6_input(
    stack: NetStack,
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
        stack.discovery.solicited(interface, header, message, now)
    elif isinstance(message, nd.NeighborAdvertisement):
        stack.discovery.advertised(interface, message, source_mac, now)
    elif header.source == _UNSPECIFIED_6:
        stack.count("icmpv6: bad address")
    elif isinstance(message, Echo):
        _echo(stack, header.source, header.destination, message, unicast, now)
    elif isinstance(message, TooBig):
        _too_big(stack, message.original, message.mtu, now)
    elif isinstance(message, Unreachable):
        text, hard = _UNREACHABLE_6.get(message.code, (f"unreachable, code {message.code}", False))
        _error(stack, message.original, text, hard)
    elif isinstance(message, TimeExceeded):
        _error(stack, message.original, "time exceeded", False)
    elif isinstance(message, ParameterProblem):
        _error(stack, message.original, "parameter problem", False)
    elif isinstance(message, nd.Redirect6):
        mac = message.target_mac or b""
        # A target that is the destination itself says that it is on the link after all (RFC 4861 8.3).
        redirects.arrived(stack, interface, header.source, message.destination, message.target, mac, now)
    else:
        # Router solicitations are for routers; advertisements are not used, routes are configured.
        stack.count(f"icmpv6: ignored {type(message).__name__}")


# -- echo --------------------------------------------------------------------------------------


def _echo(
    stack: NetStack, source: bytes, destination: bytes, message: Echo, unicast: bool, now: float
) -> None:
    if message.reply:
        ping = stack.pings.pop((message.identifier, message.sequence), None)
        if ping is None:
            stack.count("icmp: stray echo reply")
        else:
            ping.seconds = now - ping.sent
            ping.data = message.data
        return
    if not unicast:
        stack.count("icmp: echo to a group")  # may be ignored, RFC 1122 3.2.2.6
        return
    reply = Echo(message.identifier, message.sequence, message.data, reply=True)
    _send(stack, destination, source, reply)


def ping(stack: NetStack, destination: bytes, size: int) -> Ping:
    """See :meth:`NetStack.ping`."""
    route = stack.routes.lookup(destination)
    source = None if route is None else route.interface.source_for(route.next_hop(destination))
    if source is None:
        raise errors.Unreachable(f"no route to {stack.show(destination)}")
    number = stack.ping_number = (stack.ping_number + 1) & 0xFFFFFFFF
    key = number >> 16, number & 0xFFFF
    while len(stack.pings) >= MAX_PINGS:
        del stack.pings[next(iter(stack.pings))]
    waiting = stack.pings[key] = Ping(destination, stack.now)
    data = bytes(i & 0xFF for i in range(size))
    if not _send(stack, source, destination, Echo(key[0], key[1], data)):
        waiting.error = "cannot be sent"
        del stack.pings[key]
    return waiting


def _send(
    stack: NetStack, source: bytes, destination: bytes, message: icmpv6.Icmpv6Message | Redirect
) -> bool:
    if len(source) == 4:
        assert isinstance(message, icmp.IcmpMessage)
        return output.send(stack, source, destination, icmp.PROTOCOL, icmp.build(message))
    assert isinstance(message, icmpv6.Icmpv6Message)
    payload = icmpv6.build(message, source, destination)
    return output.send(stack, source, destination, icmpv6.PROTOCOL, payload)


def send_error(
    stack: NetStack,
    source: bytes,
    destination: bytes,
    message: Unreachable | TimeExceeded | ParameterProblem,
) -> None:
    """Send an error message, unless too many were sent lately. Whether one may be sent: RFC 1122 3.2.2."""
    if stack.error_limit.take(stack.now):
        _send(stack, source, destination, message)
    else:
        stack.count("icmp: error rate limit")


# -- errors ------------------------------------------------------------------------------------


def _quoted(stack: NetStack, data: bytes) -> Original | None:
    """What an error message quotes, if it is something that we may have sent."""
    try:
        quoted = icmp.original(data)
    except DecodeError as e:
        stack.count(f"icmp: quotes {e}")
        return None
    if quoted.source not in stack.local_addresses:
        stack.count("icmp: quotes a stranger")
        return None
    return quoted


def _error(stack: NetStack, data: bytes, text: str, hard: bool) -> None:
    quoted = _quoted(stack, data)
    if quoted is None:
        return
    if quoted.protocol == tcp.PROTOCOL:
        if not quoted.fragment:
            _connection_error(stack, quoted, text, hard)
    else:
        for key, ping in list(stack.pings.items()):
            if ping.destination == quoted.destination:
                ping.error = text
                del stack.pings[key]


def _in_flight(stack: NetStack, quoted: Original) -> Socket | None:
    """The connection of a quoted segment, if that may be one that is under way (RFC 5927 4.1).

    The sequence numbers of an offloaded connection are the target's: the four-tuple must do there.
    """
    key = connection_key(quoted.destination, quoted.source, quoted.destination_port, quoted.source_port)
    socket = stack.transport.sockets.get(key)
    if socket is not None and socket.machine is not None:
        d = socket.tcb.delegated
        outstanding = (d.snd_max - d.snd_una) & 0xFFFFFFFF
        if (quoted.sequence - d.snd_una) & 0xFFFFFFFF >= max(outstanding, 1):
            socket = None
    if socket is None:
        stack.count("icmp: quotes nothing in flight")
    return socket


def _connection_error(stack: NetStack, quoted: Original, text: str, hard: bool) -> None:
    socket = _in_flight(stack, quoted)
    if socket is not None:
        socket.soft_error = text
        if hard:
            # Ends an attempt to connect; for a connection that is established it is only a hint.
            socket.unreachable(text)


def _too_big(stack: NetStack, data: bytes, mtu: int, now: float) -> None:
    """Fragmentation needed, or packet too big: the path MTU."""
    quoted = _quoted(stack, data)
    if quoted is None:
        return
    way = stack.paths.find(quoted.source, quoted.destination)
    if way is None:
        stack.count("icmp: too big for no path")
        return
    if quoted.protocol == tcp.PROTOCOL and _in_flight(stack, quoted) is None:
        return
    if mtu == 0 and len(quoted.source) == 4:
        # A router from before RFC 1191; the total length of what it quotes is what was too long. Many are on
        # their way when the first comes back: what is longer than the path's MTU tells nothing new.
        size = int.from_bytes(data[2:4], "big")
        if size > way.mtu:
            return
        mtu = plateau(size)
    way.learn(mtu, now)
