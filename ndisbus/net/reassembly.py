"""Reassembly of fragments (RFC 791, RFC 8200 section 4.5, RFC 5722, RFC 6946, RFC 7112)."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import Final, NamedTuple

from ndisbus.net import ipv4, ipv6
from ndisbus.net.malformed import (
    FRAGMENT_ALIGNMENT,
    FRAGMENT_CONFLICT,
    FRAGMENT_OVERLAP,
    FRAGMENT_TOO_LONG,
    INCOMPLETE_CHAIN,
    malformed,
)

__all__ = ["Expired", "Reassembler"]

#: Memory of a piece in addition to its bytes.
_OVERHEAD: Final = 128
#: Protocol -> size of its smallest header, which the first fragment must contain (RFC 7112).
_SMALLEST_HEADER: Final = {6: 20, 17: 8, 58: 8}


class Expired(NamedTuple):
    """A datagram that was dropped because of its age.

    ``first``: its first fragment, an IP packet, to quote in ICMP Time Exceeded (code 1). It is empty if that
    fragment never arrived. Then no ICMP message is sent (RFC 792, RFC 8200 section 4.5).
    """

    version: int
    first: bytes


class _Piece(NamedTuple):
    """One parsed fragment: the position of its payload, and the packet that contains it."""

    key: tuple[bytes, int, int]
    start: int
    end: int
    more: bool
    data: bytes
    packet: bytes
    version: int


class _Datagram:
    """What has arrived of one datagram."""

    __slots__ = ("data", "deadline", "first", "held", "received", "size", "spoilt", "starts", "version")

    def __init__(self, version: int, deadline: float) -> None:
        self.version = version
        self.deadline = deadline
        self.starts: list[int] = []
        self.data: list[bytes] = []
        #: Payload bytes that have arrived, payload bytes in all, and memory in use.
        self.received = 0
        self.size: int | None = None
        self.held = 0
        self.first = b""
        #: Fragments overlapped: all later fragments of this datagram are dropped too.
        self.spoilt = False

    def spoil(self) -> None:
        """Forget all pieces, and drop later ones."""
        self.spoilt = True
        self.starts, self.data, self.first, self.held = [], [], b"", 0


class Reassembler:
    """Joins fragments of IPv4 and IPv6 packets, in bounded memory. Times are in seconds.

    ``timeout``: counts from the first fragment that arrives (60 s: RFC 8200 section 4.5, RFC 1122 section
    3.3.2). ``max_bytes``: memory held. Above it the oldest datagrams are dropped; :attr:`evicted` counts
    those.
    """

    def __init__(self, *, timeout: float = 60.0, max_bytes: int = 1 << 20, max_datagrams: int = 256) -> None:
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._max_datagrams = max_datagrams
        # In the order of their deadlines, since the timeout is the same for all.
        self._datagrams: dict[tuple[bytes, int, int], _Datagram] = {}
        self.held = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._datagrams)

    def add(self, packet: bytes, now: float) -> bytes | None:
        """Take an IP packet that is a fragment. Returns the whole packet if it was the last missing piece.

        A packet that is not a fragment is returned as it is. An IPv6 packet that is the only fragment of
        itself is returned without its fragment header (RFC 6946).

        Raises DecodeError for a fragment that is dropped. If fragments overlap or contradict each other, the
        whole datagram is dropped, and its later fragments too (RFC 5722). Exact duplicates are ignored. If
        :meth:`on_timer` is due, call it first.
        """
        piece = _read_ipv4(packet) if packet[:1] and packet[0] >> 4 == 4 else _read_ipv6(packet)
        if piece is None:
            return packet
        if not piece.start and not piece.more:
            return _whole(piece.packet, piece.version, piece.data)
        layer = "ipv4" if piece.version == 4 else "ipv6"
        if not piece.data or (piece.more and len(piece.data) & 7):
            raise malformed(layer, FRAGMENT_ALIGNMENT)
        if piece.end > 0xFFFF - (20 if piece.version == 4 else 0):
            raise malformed(layer, FRAGMENT_TOO_LONG)
        datagram = self._datagrams.get(piece.key)
        if datagram is None:
            if len(self._datagrams) >= self._max_datagrams:
                self._evict()
            datagram = self._datagrams[piece.key] = _Datagram(piece.version, now + self._timeout)
        before = datagram.held
        reason = _insert(datagram, piece)
        if reason:
            datagram.spoil()
        self.held += datagram.held - before
        if reason:
            raise malformed(layer, reason)
        if datagram.received == datagram.size:
            self._forget(piece.key)
            return _whole(datagram.first, datagram.version, b"".join(datagram.data))
        while self.held > self._max_bytes:
            self._evict()
        return None

    def next_deadline(self) -> float | None:
        """Return when :meth:`on_timer` is due; None if nothing waits."""
        for datagram in self._datagrams.values():
            return datagram.deadline
        return None

    def on_timer(self, now: float) -> list[Expired]:
        """Drop the datagrams that are too old, and return them."""
        out = []
        for key, datagram in list(self._datagrams.items()):
            if datagram.deadline > now:
                break
            self._forget(key)
            if not datagram.spoilt:
                out.append(Expired(datagram.version, datagram.first))
        return out

    def _evict(self) -> None:
        """Drop the oldest datagram."""
        self.evicted += 1
        self._forget(next(iter(self._datagrams)))

    def _forget(self, key: tuple[bytes, int, int]) -> None:
        self.held -= self._datagrams.pop(key).held


def _insert(datagram: _Datagram, piece: _Piece) -> str | None:
    """Keep a piece unless it is a duplicate. Returns what is wrong with the datagram now, or None."""
    if datagram.spoilt:
        return FRAGMENT_OVERLAP
    starts, data = datagram.starts, datagram.data
    at = bisect_left(starts, piece.start)
    known_end = starts[-1] + len(data[-1]) if starts else 0
    if piece.more:
        if datagram.size is not None and piece.end >= datagram.size:
            return FRAGMENT_CONFLICT
    elif datagram.size is None:
        if known_end >= piece.end:
            return FRAGMENT_CONFLICT
        datagram.size = piece.end
    elif datagram.size != piece.end:
        return FRAGMENT_CONFLICT
    if at < len(starts) and starts[at] < piece.end:
        return None if starts[at] == piece.start and data[at] == piece.data else FRAGMENT_OVERLAP
    if at and starts[at - 1] + len(data[at - 1]) > piece.start:
        return FRAGMENT_OVERLAP
    starts.insert(at, piece.start)
    data.insert(at, piece.data)
    if not piece.start:
        datagram.first = piece.packet
        datagram.held += len(piece.packet)
    datagram.received += len(piece.data)
    datagram.held += len(piece.data) + _OVERHEAD
    return None


def _read_ipv4(packet: bytes) -> _Piece | None:
    header, payload = ipv4.parse(packet)
    if not header.is_fragment:
        return None
    start = header.fragment_offset
    return _Piece(
        (header.source + header.destination, header.protocol, header.identification),
        start,
        start + len(payload),
        header.more_fragments,
        payload,
        packet,
        4,
    )


def _read_ipv6(packet: bytes) -> _Piece | None:
    header, payload = ipv6.parse(packet)
    upper = ipv6.walk(packet)
    part = upper.fragment
    if part is None:
        return None
    data = packet[upper.unfragmentable + 8 : 40 + len(payload)]
    if part.more and not part.offset and upper.problem is None:
        missing = upper.offset + _SMALLEST_HEADER.get(upper.protocol, 0) - 40 - len(payload)
        if missing > 0:
            raise malformed("ipv6", INCOMPLETE_CHAIN)
    key = (header.source + header.destination, 0, part.identification)
    return _Piece(key, part.offset, part.offset + len(data), part.more, data, packet, 6)


def _whole(first: bytes, version: int, payload: bytes) -> bytes:
    """Return the packet whose first fragment is ``first``, with its whole payload."""
    if version == 4:
        header, _ = ipv4.parse(first)
        if header.header_length + len(payload) > 0xFFFF:
            raise malformed("ipv4", FRAGMENT_TOO_LONG)
        return replace(header, more_fragments=False, fragment_offset=0).build(payload)
    upper = ipv6.walk(first)
    front = bytearray(first[: upper.unfragmentable])
    front[upper.fragment_named_at] = first[upper.unfragmentable]
    size = upper.unfragmentable - 40 + len(payload)
    if size > 0xFFFF:
        raise malformed("ipv6", FRAGMENT_TOO_LONG)
    front[4:6] = size.to_bytes(2, "big")
    return bytes(front) + payload
