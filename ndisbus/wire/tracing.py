"""Tracing: an event for each frame that passes a link, with the frame as one line of text. Sans-I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Final

from ndisbus.errors import DecodeError
from ndisbus.net import arp
from ndisbus.net.peek import FrameInfo, peek
from ndisbus.net.tcp import parse_frame
from ndisbus.wire.link import Link, LinkWrapper

__all__ = ["TracingLink", "describe"]

_ARP: Final = 0x0806
_ICMP: Final = 1
_TCP: Final = 6
_UDP: Final = 17
_ICMPV6: Final = 58
_ICMP_TYPES: Final = {
    0: "echo reply",
    3: "unreachable",
    5: "redirect",
    8: "echo request",
    11: "time exceeded",
    12: "parameter problem",
}
_ICMPV6_TYPES: Final = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbor solicitation",
    136: "neighbor advertisement",
    137: "redirect",
}


class TracingLink(LinkWrapper):
    """``inner``, with an event for each frame that passes.

    An event is a map as in ``trace_events``: ``t``, ``event`` ("frame"), ``link``, ``direction`` ("out":
    sent, "in": received), ``length`` in bytes, and ``frame``, the line of :func:`describe`. ``done`` is
    called when the link is closed.
    """

    __slots__ = ("_done", "_emit")

    def __init__(
        self,
        inner: Link,
        emit: Callable[[dict[str, Any]], object],
        done: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(inner)
        self._emit = emit
        self._done = done

    def send(self, frame: bytes, now: float) -> None:
        """Send a frame and report it: see :class:`ndisbus.wire.link.Link`."""
        self._tell("out", frame, now)
        self._inner.send(frame, now)

    def receive(self, now: float) -> list[bytes]:
        """Return arrived frames and report them: see :class:`ndisbus.wire.link.Link`."""
        frames = self._inner.receive(now)
        for frame in frames:
            self._tell("in", frame, now)
        return frames

    def close(self) -> None:
        """Close the inner link and call ``done``: see :class:`ndisbus.wire.link.Link`."""
        self._inner.close()
        if self._done is not None:
            self._done()
            self._done = None

    def _tell(self, direction: str, frame: bytes, now: float) -> None:
        self._emit(
            {
                "t": now,
                "event": "frame",
                "link": self._inner.name,
                "direction": direction,
                "length": len(frame),
                "frame": describe(frame),
            }
        )


def describe(frame: bytes) -> str:
    """Return a frame as one line, similar to tcpdump. Works for any bytes, also malformed ones."""
    try:
        info = peek(frame)
    except DecodeError as error:
        return f"{_macs(frame)} {error}".lstrip()
    tag = "" if info.vlan is None else f"vlan {info.vlan} p {info.priority} "
    if info.version:
        return tag + _describe_ip(frame, info)
    if info.ethertype == _ARP:
        return tag + _describe_arp(frame[info.l3 :])
    return f"{tag}{_macs(frame)} ethertype {info.ethertype:#06x}"


def _macs(frame: bytes) -> str:
    return f"{frame[6:12].hex(':')} > {frame[:6].hex(':')}" if len(frame) >= 12 else ""


def _describe_arp(packet: bytes) -> str:
    try:
        p = arp.parse(packet)
    except DecodeError as error:
        return str(error)
    target, sender = _address(p.target_ip), _address(p.sender_ip)
    if p.operation == arp.REQUEST:
        return f"ARP who has {target}? tell {sender}"
    if p.operation == arp.REPLY:
        return f"ARP {sender} is at {p.sender_mac.hex(':')}"
    return f"ARP operation {p.operation}"


def _describe_ip(frame: bytes, info: FrameInfo) -> str:
    source, destination = _address(info.source), _address(info.destination)
    size = info.end - info.l4
    if info.fragment:
        return f"IP {source} > {destination}: fragment, protocol {info.protocol}, length {size}"
    if info.protocol == _TCP:
        try:
            _, _, rest = repr(parse_frame(frame, info)).partition(": ")
        except DecodeError as error:
            rest = str(error)
        return f"IP {source}.{info.source_port} > {destination}.{info.destination_port}: {rest}"
    if info.protocol == _UDP:
        return f"IP {source}.{info.source_port} > {destination}.{info.destination_port}: UDP, length {size}"
    kinds = {_ICMP: _ICMP_TYPES, _ICMPV6: _ICMPV6_TYPES}.get(info.protocol)
    if kinds is not None and size:
        kind = frame[info.l4]
        name = "ICMP" if info.protocol == _ICMP else "ICMP6"
        return f"IP {source} > {destination}: {name} {kinds.get(kind, f'type {kind}')}, length {size}"
    return f"IP {source} > {destination}: protocol {info.protocol}, length {size}"


def _address(raw: bytes) -> str:
    return str(ipaddress.ip_address(raw))
