"""The host's network stack: Ethernet, neighbors, IP, ICMP and TCP for the emulated machine. Sans-I/O.

Owns the host's addresses, routes, neighbors, paths and the connections that the host serves itself. It must
not know the chimney, NDIS messages or processes: :class:`StackHooks` is how it reports what concerns
connections that are offloaded, and ``transmit`` of an interface takes its frames.

The parts are objects that name what they need of one another; :class:`Parts` makes them and joins them.
No import circle exists in this folder, type-checking imports included (the contract
``layers-of-hoststack-net``). A part that must tell a part above it has a list of callbacks (``on_failed``
of the neighbor cache, ``on_mtu`` and ``on_moved`` of the path table) or a small protocol (``SocketOwner``
and ``AcceptQueue``, beside the socket).

Files in reading order:

- ``stack``: the whole, and its public functions; ``station``: a stack at the end of a link
- ``parts``: makes the parts below and joins them
- ``clock``, ``timers``, ``statistics``, ``errors``, ``options``, ``hooks``: what all parts share
- ``interface``, ``interfaces``, ``routes``: addresses and where datagrams go
- ``link_output``, ``detection``: tests, announcements and defence of the host's own addresses
- ``neighbor_life``, ``neighbors``, ``discovery``: ARP and neighbor discovery
- ``paths``, ``redirects``: path MTU and next hop
- ``output``, ``datagrams``, ``control``, ``pings``: IP and ICMP
- ``socket_events``, ``socket``, ``turns``, ``listener``, ``isn``, ``ports``, ``opening``, ``transport``: TCP
- ``moving``: a connection leaves its machine for the chimney, and comes back
"""

from __future__ import annotations

from hoststack.net.hooks import StackHooks
from hoststack.net.interface import Interface
from hoststack.net.listener import Listener
from hoststack.net.options import SocketOptions
from hoststack.net.socket import Socket
from hoststack.net.socket_events import SocketEvent
from hoststack.net.stack import NetStack
from hoststack.net.station import Station

__all__ = [
    "Interface",
    "Listener",
    "NetStack",
    "Socket",
    "SocketEvent",
    "SocketOptions",
    "StackHooks",
    "Station",
]
