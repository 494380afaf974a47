"""TCP headers (RFC 9293 section 3.1) to :class:`ndisbus.tcp.segment.Segment` and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ndisbus.tcp.segment import Segment

if TYPE_CHECKING:
    from ndisbus.net.peek import FrameInfo

__all__ = ["PROTOCOL", "build", "parse", "parse_frame", "parse_segment"]

PROTOCOL: Final = 6


def parse_segment(buffer: bytes, pseudo: int | None) -> Segment:
    """Read a segment that fills ``buffer``.

    ``pseudo``: :func:`ndisbus.net.checksum.pseudo_header` of the addresses, to verify the checksum; None to leave
    it alone. Raises DecodeError for a header cut short, an impossible data offset or a bad checksum.

    Options: MSS, window scale and SACK-permitted are taken from a SYN only (RFC 7323 section 2.2, RFC 2018 section
    2). An option that is not known, or has another length than its kind has, is skipped (RFC 9293 section 3.1,
    R-RFC-04). A length that is illegal (less than 2, or beyond the header) ends the list: the options before it
    count, and the segment is good.
    """
    raise NotImplementedError


def parse_frame(frame: bytes, info: FrameInfo, *, verify: bool = True) -> Segment:
    """Like :func:`parse_segment`, for a frame that :func:`ndisbus.net.peek.peek` has seen (no fragment)."""
    raise NotImplementedError


parse = parse_segment


def build(segment: Segment, pseudo: int) -> bytes:
    """Header, options and payload with the checksum. ``pseudo``: as for :func:`parse_segment`.

    As many SACK blocks as fit are sent, the first ones first (RFC 2018 section 4). Ports are the segment's.
    """
    raise NotImplementedError
