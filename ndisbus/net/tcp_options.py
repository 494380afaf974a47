"""TCP options in their encoded form (RFC 9293 section 3.2, RFC 7323, RFC 2018)."""

from __future__ import annotations

from struct import Struct
from typing import Final

from ndisbus.net.segment import SYN, Segment

__all__ = ["TIMESTAMP_PREFIX", "TIMESTAMP_WORD", "pack_options", "read_options"]

_END: Final = 0
_NO_OPERATION: Final = 1
_MSS: Final = 2
_WINDOW_SCALE: Final = 3
_SACK_PERMITTED: Final = 4
_SACK: Final = 5
_TIMESTAMPS: Final = 8

#: Two No Operations, kind and length of the Timestamps option: nearly every segment's options begin so.
TIMESTAMP_WORD: Final = 0x0101080A
TIMESTAMP_PREFIX: Final = TIMESTAMP_WORD.to_bytes(4, "big")
_TIMESTAMP_OPTION: Final = Struct("!III")
_BLOCK: Final = Struct("!II")
#: Most bytes of options in a header.
_SPACE: Final = 40


def pack_options(segment: Segment) -> bytes:
    """Return the encoded options of a segment: a multiple of 4 bytes, at most 40.

    MSS, window scale and SACK-permitted are sent in a SYN only. Of the SACK blocks, the first ones that fit
    are sent.
    """
    parts = []
    syn = segment.flags & SYN
    permitted = syn and segment.sack_permitted
    if syn and segment.mss is not None:
        parts.append(b"\x02\x04" + segment.mss.to_bytes(2, "big"))
    if segment.ts_val is not None:
        # SACK-permitted replaces the two No Operations.
        word = 0x0402080A if permitted else TIMESTAMP_WORD
        parts.append(_TIMESTAMP_OPTION.pack(word, segment.ts_val, segment.ts_ecr))
    elif permitted:
        parts.append(b"\x01\x01\x04\x02")
    if syn and segment.window_scale is not None:
        parts.append(b"\x01\x03\x03" + segment.window_scale.to_bytes(1, "big"))
    blocks = segment.sack
    if blocks:
        blocks = blocks[: (_SPACE - 4 - sum(map(len, parts))) >> 3]
        parts.append(b"\x01\x01\x05" + bytes((2 + 8 * len(blocks),)))
        parts.extend(_BLOCK.pack(left, right) for left, right in blocks)
    return b"".join(parts)


def read_options(segment: Segment, data: bytes) -> None:
    """Set a segment's options from the header's option list. It never fails: see :mod:`ndisbus.net.tcp`."""
    at, size = 0, len(data)
    syn = segment.flags & SYN
    while at < size:
        kind = data[at]
        if kind == _NO_OPERATION:
            at += 1
            continue
        if kind == _END:
            return
        length = data[at + 1] if at + 1 < size else 0
        end = at + length
        if length < 2 or end > size:
            return
        if kind == _TIMESTAMPS and length == 10:
            segment.ts_val, segment.ts_ecr = _BLOCK.unpack_from(data, at + 2)
        elif kind == _SACK and length > 2 and not (length - 2) & 7:
            segment.sack = tuple(_BLOCK.iter_unpack(data[at + 2 : end]))
        elif syn:
            if kind == _MSS and length == 4:
                segment.mss = data[at + 2] << 8 | data[at + 3]
            elif kind == _WINDOW_SCALE and length == 3:
                segment.window_scale = data[at + 2]
            elif kind == _SACK_PERMITTED and length == 2:
                segment.sack_permitted = True
        at = end
