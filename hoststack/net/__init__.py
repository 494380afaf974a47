"""The host's network stack: Ethernet, neighbors, IP, ICMP and TCP for the emulated machine. Sans-I/O."""

from __future__ import annotations

from hoststack.net.hooks import StackHooks
from hoststack.net.interface import Interface
from hoststack.net.listener import Listener
from hoststack.net.options import SocketOptions
from hoststack.net.socket import Socket, SocketEvent
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
