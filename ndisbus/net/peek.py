"""What demultiplexing needs to know of a frame, as fast as Python allows."""

from __future__ import annotations

__all__ = ["FrameInfo", "connection_key", "peek"]


class FrameInfo:
    """What :func:`peek` found.

    ``ethertype``: behind the tag, if there is one. ``vlan``: identifier of the 802.1Q tag, None without a tag;
    ``priority``: of the tag, or 0. ``version``: 4, 6, or 0 for what is not IP (then the rest is 0, False or empty).
    ``protocol``: of the header behind the extension headers; in a fragment other than the first, what the fragment
    header names. ``fragment``: part of a datagram. ``options``: IPv4 options or IPv6 extension headers (a fragment
    header alone does not count). Offsets count from the start of the frame: ``l3`` of the IP header, ``l4`` of what
    is behind all its headers, ``end`` of the packet (Ethernet padding may follow).
    ``key``: source address, destination address, and if the packet is TCP or UDP and not a later fragment, source
    port and destination port, concatenated in network order: 12 or 36 bytes (see :func:`connection_key`), or 8 or
    32 without ports.
    """

    __slots__ = (
        "end",
        "ethertype",
        "fragment",
        "key",
        "l3",
        "l4",
        "options",
        "priority",
        "protocol",
        "version",
        "vlan",
    )

    ethertype: int
    vlan: int | None
    priority: int
    version: int
    protocol: int
    fragment: bool
    options: bool
    l3: int
    l4: int
    end: int
    key: bytes

    @property
    def source(self) -> bytes:
        """Source address, 4 or 16 bytes."""
        raise NotImplementedError

    @property
    def destination(self) -> bytes:
        """Destination address, 4 or 16 bytes."""
        raise NotImplementedError

    @property
    def source_port(self) -> int:
        """Source port, 0 without one."""
        raise NotImplementedError

    @property
    def destination_port(self) -> int:
        """Destination port, 0 without one."""
        raise NotImplementedError


def connection_key(source: bytes, destination: bytes, source_port: int, destination_port: int) -> bytes:
    """The :attr:`FrameInfo.key` of a packet *from* ``source`` *to* ``destination``.

    For frames that arrive, the source is the remote end: ``connection_key(remote, local, remote_port, local_port)``.
    """
    return source + destination + (source_port << 16 | destination_port).to_bytes(4, "big")


def peek(frame: bytes) -> FrameInfo:
    """Look at a frame. Verifies the IP header (version, lengths, IPv4 checksum), not the transport's checksum.

    Raises DecodeError for what is not a whole frame or not a whole IP packet.
    """
    raise NotImplementedError
