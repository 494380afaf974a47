"""The Internet checksum (RFC 1071).

A ones' complement sum of 16-bit words is a sum modulo 65,535. Since 2**16 is 1 modulo 65,535, a number of any
size is congruent to the sum of its 16-bit digits. So a whole buffer read as one big-endian integer, a 32-bit
sequence number or an address can be added as it is, and one remainder at the end folds everything.
``int.from_bytes`` makes the buffer one integer. The expensive step is the division of a long integer, so the
integer is first folded to an eighth with cheap shifts (1,460 bytes: about 1.8 µs instead of 2.8).

A *partial sum* here is any integer congruent to the sum. Add partial sums in any order, and give the result
to :func:`finish` or :func:`is_valid`. Only the last of several buffers may have an odd length.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "Buffer",
    "checksum",
    "finish",
    "is_valid",
    "partial",
    "pseudo_header",
    "update",
]

Buffer = bytes | bytearray | memoryview

_MODULUS: Final = 0xFFFF
#: Bytes summed at a time. An eighth of them remains to be divided.
_CHUNK: Final = 1536
_HALF: Final = _CHUNK * 4
_QUARTER: Final = _CHUNK * 2
_EIGHTH: Final = _CHUNK
_HALF_MASK: Final = (1 << _HALF) - 1
_QUARTER_MASK: Final = (1 << _QUARTER) - 1
_EIGHTH_MASK: Final = (1 << _EIGHTH) - 1


def partial(data: Buffer) -> int:
    """Return a partial sum of ``data``. An odd last byte counts as if a zero byte followed it."""
    size = len(data)
    if size <= 128:
        total = int.from_bytes(data, "big")
    else:
        if size <= _CHUNK:
            total = int.from_bytes(data, "big")
        else:
            # The first chunk is shorter and has the odd length, so that all chunks end as the buffer does.
            first = size % _CHUNK
            total = int.from_bytes(data[:first], "big")
            for start in range(first, size, _CHUNK):
                total += int.from_bytes(data[start : start + _CHUNK], "big")
        total = (total & _HALF_MASK) + (total >> _HALF)
        total = (total & _QUARTER_MASK) + (total >> _QUARTER)
        total = (total & _EIGHTH_MASK) + (total >> _EIGHTH)
    return total << 8 if size & 1 else total


def finish(total: int) -> int:
    """Return the checksum field for a partial sum of everything else: 0..0xFFFE.

    For data that is not all zero this is the field of RFC 1071. For zeros only, 0 verifies like 0xFFFF.
    """
    return -total % _MODULUS


def is_valid(total: int) -> bool:
    """Return whether a partial sum that includes the checksum field is that of undamaged data."""
    return not total % _MODULUS


def checksum(data: Buffer, initial: int = 0) -> int:
    """Return the checksum field for ``data`` (with zeros in the field) and the partial sum ``initial``."""
    return -(partial(data) + initial) % _MODULUS


def pseudo_header(source: bytes, destination: bytes, protocol: int) -> int:
    """Return the partial sum of the pseudo header *without its length*, which the caller adds.

    It serves IPv4 (RFC 9293 section 3.1) and IPv6 (RFC 8200 section 8.1): zero bytes add nothing.
    """
    return int.from_bytes(source, "big") + int.from_bytes(destination, "big") + protocol


def update(field: int, old: int, new: int) -> int:
    """Return the checksum field after aligned words changed from ``old`` to ``new`` (RFC 1624)."""
    return (field + old - new) % _MODULUS
