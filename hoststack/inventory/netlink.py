"""Routes and neighbors from the Linux kernel over rtnetlink (RFC 3549), with plain structs.

Both questions are open to every user. Building and parsing are pure functions; :class:`RouteNetlink`
is the only part with a socket, and each wait on it has a deadline.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from ndisbus.errors import ChimneyError

__all__ = [
    "KernelNeighbor",
    "KernelRoute",
    "NetlinkError",
    "RouteNetlink",
    "messages",
    "neighbor_request",
    "parse_neighbor",
    "parse_route",
    "route_request",
]

_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26
_RTM_NEWNEIGH: Final = 28
_RTM_GETNEIGH: Final = 30
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_REQUEST: Final = 0x1
_NLM_F_DUMP: Final = 0x300

_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_METRICS: Final = 8
_RTA_VIA: Final = 18
_RTAX_MTU: Final = 2
_RTN_LOCAL: Final = 2

_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2
_NDA_CACHEINFO: Final = 3

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr
_RTMSG: Final = struct.Struct("=8BI")
_NDMSG: Final = struct.Struct("=BxxxiHBB")
_ATTRIBUTE: Final = struct.Struct("=HH")

# "There is no route to it" is an answer, not a failure.
_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL})
_NETLINK_ROUTE: Final = 0


class NetlinkError(ChimneyError):
    """The kernel's answer is not of the form that rtnetlink(7) gives; ``where`` names the place."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where


@dataclass(slots=True, frozen=True)
class KernelRoute:
    """Where the kernel would send a datagram: ``gateway`` is ``None`` on-link, ``mtu`` unless the route
    carries one of its own (bytes), ``local`` for an address of this machine."""

    interface_index: int
    gateway: bytes | None
    mtu: int | None
    local: bool


@dataclass(slots=True, frozen=True)
class KernelNeighbor:
    """One entry of the kernel's neighbor table: ``state`` is a NUD_* bit mask (linux/neighbour.h),
    ``confirmed_ms`` the milliseconds since reachability was last confirmed, if told."""

    interface_index: int
    address: bytes
    link_address: bytes
    state: int
    confirmed_ms: int | None


def route_request(destination: bytes, sequence: int, interface_index: int = 0) -> bytes:
    """RTM_GETROUTE for one destination of 4 or 16 bytes, on one interface unless its index is 0."""
    family = socket.AF_INET if len(destination) == 4 else socket.AF_INET6
    body = _RTMSG.pack(family, len(destination) * 8, 0, 0, 0, 0, 0, 0, 0)
    body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(destination), _RTA_DST) + destination
    if interface_index:
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size + 4, _RTA_OIF) + struct.pack("=I", interface_index)
    return _HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, sequence, 0) + body


def neighbor_request(sequence: int) -> bytes:
    """RTM_GETNEIGH for the whole table, both IP versions."""
    body = _NDMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    return _HEADER.pack(_HEADER.size + len(body), _RTM_GETNEIGH, flags, sequence, 0) + body


def messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Split one datagram into (type, sequence, body). Raises :class:`NetlinkError` on a wrong length."""
    offset = 0
    while offset < len(datagram):
        if len(datagram) - offset < _HEADER.size:
            raise NetlinkError(f"netlink datagram byte {offset}", "ends within a message header")
        length, kind, _flags, sequence, _port = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size or offset + length > len(datagram):
            raise NetlinkError(f"netlink datagram byte {offset}", f"message length {length} does not fit")
        yield kind, sequence, datagram[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _attributes(body: bytes, offset: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size or offset + length > len(body):
            raise NetlinkError(f"netlink message byte {offset}", f"attribute length {length} does not fit")
        found[kind & 0x3FFF] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _u32(value: bytes, where: str) -> int:
    if len(value) < 4:
        raise NetlinkError(where, f"{len(value)} bytes instead of 4")
    return int.from_bytes(value[:4], sys.byteorder)


def parse_route(body: bytes) -> KernelRoute:
    """Read the body of RTM_NEWROUTE. Raises :class:`NetlinkError` if it names no interface."""
    if len(body) < _RTMSG.size:
        raise NetlinkError("rtmsg", f"{len(body)} bytes instead of {_RTMSG.size}")
    kind = body[7]
    found = _attributes(body, _RTMSG.size)
    if _RTA_OIF not in found:
        raise NetlinkError("rtmsg", "no RTA_OIF attribute")
    gateway = found.get(_RTA_GATEWAY)
    if gateway is None and _RTA_VIA in found:
        gateway = found[_RTA_VIA][2:]  # struct rtvia: a gateway of the other IP version
    mtu = None
    if _RTA_METRICS in found:
        metrics = _attributes(found[_RTA_METRICS], 0)
        mtu = _u32(metrics[_RTAX_MTU], "RTAX_MTU") if _RTAX_MTU in metrics else None
    return KernelRoute(_u32(found[_RTA_OIF], "RTA_OIF"), gateway, mtu or None, kind == _RTN_LOCAL)


def parse_neighbor(body: bytes, clock_ticks: int) -> KernelNeighbor | None:
    """Read the body of RTM_NEWNEIGH; ``None`` for an entry without an IP address (a bridge's).

    ``clock_ticks`` is the kernel's USER_HZ, in which it counts the age of the confirmation.
    """
    if len(body) < _NDMSG.size:
        raise NetlinkError("ndmsg", f"{len(body)} bytes instead of {_NDMSG.size}")
    family, index, state, _flags, _kind = _NDMSG.unpack_from(body)
    found = _attributes(body, _NDMSG.size)
    address = found.get(_NDA_DST, b"")
    if family not in (socket.AF_INET, socket.AF_INET6) or len(address) not in (4, 16):
        return None
    confirmed = None
    if _NDA_CACHEINFO in found:
        confirmed = _u32(found[_NDA_CACHEINFO], "NDA_CACHEINFO") * 1000 // clock_ticks
    return KernelNeighbor(index, address, found.get(_NDA_LLADDR, b""), state, confirmed)


class RouteNetlink:
    """One rtnetlink socket. Raises :class:`OSError` on construction where the system has none.

    ``timeout`` is the deadline of each answer in seconds.
    """

    def __init__(self, timeout: float = 5.0) -> None:
        family = getattr(socket, "AF_NETLINK", None)
        if not isinstance(family, int):
            raise OSError(errno.EAFNOSUPPORT, "this system has no netlink sockets")
        self._socket = socket.socket(family, socket.SOCK_RAW, _NETLINK_ROUTE)
        self._socket.settimeout(timeout)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back; a second call does nothing."""
        self._socket.close()

    def route(self, destination: bytes, interface_index: int = 0) -> KernelRoute | None:
        """The route to one address of 4 or 16 bytes, or ``None`` if there is none.

        A link-local address means nothing without ``interface_index``; for others 0 lets the kernel choose.

        Raises :class:`OSError` if the kernel refuses the question or does not answer in time.
        """
        self._sequence += 1
        self._socket.send(route_request(destination, self._sequence, interface_index))
        while True:
            for kind, sequence, body in messages(self._socket.recv(65536)):
                if sequence != self._sequence:
                    continue  # the late answer to a question that was given up
                if kind == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code in _NO_ROUTE:
                        return None
                    raise OSError(code, os.strerror(code))
                if kind == _RTM_NEWROUTE:
                    return parse_route(body)

    def neighbors(self) -> list[KernelNeighbor]:
        """The neighbor tables of both IP versions, in the kernel's order.

        Raises :class:`OSError` if the kernel refuses the question or does not answer in time.
        """
        self._sequence += 1
        self._socket.send(neighbor_request(self._sequence))
        clock_ticks = os.sysconf("SC_CLK_TCK")
        found: list[KernelNeighbor] = []
        while True:
            for kind, sequence, body in messages(self._socket.recv(65536)):
                if sequence != self._sequence:
                    continue
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    raise OSError(code, os.strerror(code))
                if kind == _RTM_NEWNEIGH and (neighbor := parse_neighbor(body, clock_ticks)) is not None:
                    found.append(neighbor)
