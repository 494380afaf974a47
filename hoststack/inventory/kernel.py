"""What Linux tells every user over netlink: routes, neighbors, and the TCP_INFO of every connection.

pyroute2 speaks netlink. It is imported when a :class:`Kernel` is made: that takes a third of a second, and
only Linux has netlink. Sockets of other network namespaces are not visible.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from hoststack.inventory.facts import NO_MAC, NeighborFacts
from hoststack.inventory.tcp_info import SocketFacts, SocketOptions, parse_tcp_info
from ndisbus.net.ethernet import parse_mac

__all__ = ["End", "Kernel", "Route", "address_bytes", "interface_name"]

#: (local address, local port, remote address, remote port): identifies one end of a TCP connection.
End: TypeAlias = tuple[bytes, int, bytes, int]

# Errors that answer "there is no route". They are not failures.
_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL})
_RTN_LOCAL: Final = 2
# linux/inet_diag.h: bit n - 1 asks for the attribute INET_DIAG_n. Here INFO, TOS, TCLASS and SKMEMINFO.
_EXTENSIONS: Final = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6
_SK_MEMINFO_RCVBUF: Final = 1


@dataclass(slots=True, frozen=True)
class Route:
    """The kernel's route for a datagram.

    ``gateway`` is ``None`` for an address on the link. ``mtu`` is ``None`` unless the route has its own MTU.
    ``local`` says that the address belongs to this machine.
    """

    interface: str
    gateway: bytes | None
    mtu: int | None
    local: bool


def address_bytes(text: str) -> bytes:
    """Return 4 or 16 bytes; 4 for an IPv4 address mapped into IPv6, which travels as IPv4."""
    ip = ip_address(text.partition("%")[0])
    mapped = ip.ipv4_mapped if ip.version == 6 else None
    return ip.packed if mapped is None else mapped.packed


def interface_name(index: int) -> str:
    """Return the name of an interface index, "if7" if the interface does not exist any more."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"if{index}"


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn an error answer of the kernel into :class:`OSError`."""
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


class Kernel:
    """One netlink socket for routes and neighbors, and one for connections.

    Raises :class:`OSError` if the system has no netlink.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise OSError(errno.EAFNOSUPPORT, "this system has no netlink sockets")
        from pyroute2 import DiagSocket, IPRoute  # noqa: PLC0415 - see above
        from pyroute2.netlink.diag import MarshalDiag, inet_diag_msg  # noqa: PLC0415

        # pyroute2's message, but with TCP_INFO as bytes.
        attributes = tuple((n, "cdata" if n == "INET_DIAG_INFO" else k) for n, k in inet_diag_msg.nla_map)
        message = type("message", (inet_diag_msg,), {"nla_map": attributes})
        with ExitStack() as stack:
            self._routes = stack.enter_context(IPRoute())
            self._sockets = stack.enter_context(DiagSocket())
            marshal = MarshalDiag()
            marshal.msg_map = {socket.AF_INET: message, socket.AF_INET6: message}
            self._sockets.set_marshal(marshal)
            self._sockets.bind()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def route(self, destination: bytes, interface: str = "") -> Route | None:
        """Return the route to an address of 4 or 16 bytes, or ``None`` if there is none.

        A link-local address needs ``interface``. For others "" lets the kernel choose. Raises
        :class:`OSError` if the kernel refuses the request.
        """
        question: dict[str, Any] = {"dst": str(ip_address(destination))}
        if interface:
            question["oif"] = socket.if_nametoindex(interface)
        try:
            with _refusals():
                (found,) = self._routes.route("get", **question)
        except OSError as error:
            if error.errno in _NO_ROUTE:
                return None
            raise
        gateway = found.get("RTA_GATEWAY") or (found.get("RTA_VIA") or {}).get("addr")
        metrics = found.get("RTA_METRICS")
        return Route(
            interface_name(found.get("RTA_OIF")),
            address_bytes(gateway) if gateway else None,
            (metrics.get("RTAX_MTU") if metrics else None) or None,
            found["type"] == _RTN_LOCAL,
        )

    def neighbors(self) -> list[NeighborFacts]:
        """Return the neighbor tables of both IP versions, in the kernel's order.

        Raises :class:`OSError` if the kernel refuses the request.
        """
        ticks = os.sysconf("SC_CLK_TCK")
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            with _refusals():
                table = self._routes.get_neighbours(family=family)
            for entry in table:
                mac, age = entry.get("NDA_LLADDR"), entry.get("NDA_CACHEINFO")
                found.append(
                    NeighborFacts(
                        ip_address(entry.get("NDA_DST")).packed,
                        interface_name(entry["ifindex"]),
                        parse_mac(mac) if mac and mac.count(":") == 5 else NO_MAC,
                        entry["state"],
                        age["ndm_confirmed"] * 1000 // ticks if age else None,
                    )
                )
        return found

    def connections(self) -> Iterator[tuple[End, SocketFacts]]:
        """Iterate over all TCP connections of this network namespace, of any process."""
        from pyroute2.netlink.diag import SS_CONN  # noqa: PLC0415

        for family in (socket.AF_INET, socket.AF_INET6):
            for found in self._sockets.get_sock_stats(family=family, states=SS_CONN, extensions=_EXTENSIONS):
                end = (
                    address_bytes(found["idiag_src"]),
                    found["idiag_sport"],
                    address_bytes(found["idiag_dst"]),
                    found["idiag_dport"],
                )
                yield end, _socket_facts(found)


def _socket_facts(found: Any) -> SocketFacts:
    """Return the contents of one message of sock_diag(7). Options that it does not carry are ``None``."""
    info = parse_tcp_info(found.get("INET_DIAG_INFO") or b"")
    memory = _words(found.get("INET_DIAG_SKMEMINFO"))
    tos = found.get("INET_DIAG_TOS" if found["idiag_family"] == socket.AF_INET else "INET_DIAG_TCLASS")
    options = SocketOptions(
        rcvbuf=memory[_SK_MEMINFO_RCVBUF] if len(memory) > _SK_MEMINFO_RCVBUF else None,
        tos=int(tos, 16) if tos else None,
        mtu=info.pmtu,
        queued=found["idiag_wqueue"],
        unsent=info.notsent_bytes,
    )
    return SocketFacts(info, options)


def _words(text: str | None) -> tuple[int, ...]:
    """Return the 32-bit words of "00:00:02:..."."""
    data = bytes.fromhex((text or "").replace(":", ""))
    return tuple(int.from_bytes(data[i : i + 4], sys.byteorder) for i in range(0, len(data), 4))
