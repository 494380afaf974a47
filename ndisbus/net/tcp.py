"""TCP headers (RFC 9293 section 3.1) to :class:`ndisbus.net.segment.Segment` and back.

Options of an arriving segment: MSS, window scale and SACK-permitted count only in a SYN (RFC 7323 section
2.2, RFC 2018 section 2). An option that is unknown, or has the wrong length for its kind, is skipped (RFC
9293 section 3.1, R-RFC-04). An illegal length (less than 2, or beyond the header) ends the list. Then the
options before it count, and the segment is valid.
"""

from __future__ import annotations

from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, Final

from ndisbus.errors import LocalProtocolError
from ndisbus.net.checksum import partial
from ndisbus.net.malformed import BAD_CHECKSUM, BAD_HEADER_LENGTH, SHORT_HEADER, malformed
from ndisbus.net.segment import Segment
from ndisbus.net.tcp_options import TIMESTAMP_PREFIX, pack_options, read_options

if TYPE_CHECKING:
    from ndisbus.net.peek import FrameInfo

__all__ = ["PROTOCOL", "build", "parse_frame", "parse_segment"]

PROTOCOL: Final = 6
_HEADER: Final = Struct("!HHIIHHHH")
_TIMESTAMPS: Final = Struct("!II")


def parse_segment(buffer: bytes, pseudo: int | None) -> Segment:
    """Read a segment that fills ``buffer``.

    ``pseudo``: :func:`ndisbus.net.checksum.pseudo_header` of the addresses, to verify the checksum; None to
    skip that. Raises DecodeError for an incomplete header, an illegal data offset or a wrong checksum.
    """
    size = len(buffer)
    if size < 20:
        raise malformed("tcp", SHORT_HEADER)
    if pseudo is not None and (partial(buffer) + pseudo + size) % 0xFFFF:
        raise malformed("tcp", BAD_CHECKSUM)
    return _read(buffer, 0, size)


def parse_frame(frame: bytes, info: FrameInfo, *, verify: bool = True) -> Segment:
    """Read the segment of a frame in which :func:`ndisbus.net.peek.peek` found one. Raises DecodeError."""
    start, end = info.l4, info.end
    size = end - start
    if size < 20:
        raise malformed("tcp", SHORT_HEADER)
    if verify:
        header, addresses = (20, 8) if info.version == 4 else (40, 32)
        if start - info.l3 == header:
            # The addresses stand right before the segment, so one sum covers both.
            total = partial(frame[start - addresses : end])
        else:
            total = partial(frame[start:end]) + int.from_bytes(info.key[:-4], "big")
        if (total + PROTOCOL + size) % 0xFFFF:
            raise malformed("tcp", BAD_CHECKSUM)
    return _read(frame, start, end)


def _read(data: bytes, start: int, end: int) -> Segment:
    """Return the segment at ``data[start:end]``, which has at least 20 bytes."""
    source, destination, seq, ack, word, window, _, urgent = _HEADER.unpack_from(data, start)
    length = word >> 10 & 0x3C
    payload_at = start + length
    if length < 20 or payload_at > end:
        raise malformed("tcp", BAD_HEADER_LENGTH)
    segment = Segment(seq, ack, word & 0xFF, window, bytes(data[payload_at:end]), urgent, source, destination)
    if length > 20:
        if length == 32 and data[start + 20 : start + 24] == TIMESTAMP_PREFIX:
            segment.ts_val, segment.ts_ecr = _TIMESTAMPS.unpack_from(data, start + 24)
        else:
            read_options(segment, data[start + 20 : payload_at])
    return segment


def build(segment: Segment, pseudo: int) -> bytes:
    """Return header, options and payload, with the checksum and the segment's own ports.

    ``pseudo``: as for :func:`parse_segment`. As many SACK blocks as fit are sent, the first ones first (RFC
    2018 section 4). Raises LocalProtocolError for members that do not fit.
    """
    try:
        options = pack_options(segment)
        size = 20 + len(options) + len(segment.payload)
        word = 20 + len(options) << 10 | segment.flags
        seq, ack, window, urgent = segment.seq, segment.ack, segment.window, segment.urgent
        source, destination = segment.source_port, segment.destination_port
        total = pseudo + size + source + destination + seq + ack + word + window + urgent
        total += int.from_bytes(options, "big") + partial(segment.payload)
        header = _HEADER.pack(source, destination, seq, ack, word, window, -total % 0xFFFF, urgent)
    except (struct_error, OverflowError) as exc:
        raise LocalProtocolError(f"TCP: the segment does not fit into a header: {segment}") from exc
    return b"".join((header, options, segment.payload))
