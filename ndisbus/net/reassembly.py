"""Putting fragments together again (RFC 791, RFC 815, RFC 8200 section 4.5, RFC 5722, RFC 6946)."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Expired", "Reassembler"]


class Expired(NamedTuple):
    """A datagram given up. ``first``: its first fragment, an IP packet, to quote in an ICMP Time Exceeded (code 1);
    empty if the first fragment never came, and then no ICMP message is sent."""

    version: int
    first: bytes


class Reassembler:
    """Fragments of IPv4 and IPv6 packets, in bounded memory. Times in seconds.

    ``timeout``: from the first fragment that arrives (60 s: RFC 8200 section 4.5, RFC 1122 section 3.3.2).
    ``max_bytes``: of payload held; the oldest datagram gives way to a new one.
    """

    def __init__(self, *, timeout: float = 60.0, max_bytes: int = 1 << 20, max_datagrams: int = 256) -> None:
        raise NotImplementedError

    def add(self, packet: bytes, now: float) -> bytes | None:
        """Take an IP packet that is a fragment; the whole packet if it was the last piece missing.

        Raises DecodeError for a fragment that is dropped, with its reason. Overlapping fragments have the whole
        datagram dropped, and what still arrives of it (RFC 5722); exact duplicates are ignored.
        """
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When :meth:`on_timer` is due."""
        raise NotImplementedError

    def on_timer(self, now: float) -> list[Expired]:
        """Give up what is too old."""
        raise NotImplementedError
