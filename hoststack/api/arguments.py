"""Checks of what a program passes as an address, with errors that name the argument and the form expected."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

__all__ = ["check_address", "check_source"]

#: Elements of an IPv6 address as ``socket`` has it: host, port, flow information, scope.
_IPV6_LENGTH: Final = 4


def check_address(address: Any, name: str = "address") -> tuple[Any, int]:
    """Return host and port of an address. Raises TypeError, as ``socket`` does.

    An IPv6 address may have four elements, as ``socket`` has them; the last two are not used.
    """
    form = f"{name} is a tuple (host, port), such as ('10.77.0.2', 7)"
    if not isinstance(address, tuple | list):
        raise TypeError(f"{form}, not {address!r}")
    if len(address) != 2 and not (len(address) == _IPV6_LENGTH and ":" in str(address[0])):
        raise TypeError(f"{form}, or one of four elements for IPv6; not {address!r}")
    host, port = address[0], address[1]
    if not (host is None or isinstance(host, str | IPv4Address | IPv6Address)):
        raise TypeError(f"{form}: the host is a string, not {host!r}")
    if not isinstance(port, int):
        raise TypeError(f"{form}: the port is an int, not {port!r}")
    return host, port


def check_source(address: Any) -> tuple[Any, int] | None:
    """Return the ``source_address`` of a connection, None without one. Raises TypeError."""
    return None if address is None else check_address(address, "source_address")
