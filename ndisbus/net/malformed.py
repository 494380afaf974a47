"""The words for what can be wrong with a packet.

A :class:`ndisbus.errors.DecodeError` of this package has one of :data:`LAYERS` as its ``where`` and one of
:data:`WORDS` as its ``detail``: no numbers, addresses or offsets, so that its text can name a counter.
"""

from __future__ import annotations

from typing import Final

from ndisbus.errors import DecodeError

__all__ = [
    "BAD_ADDRESS",
    "BAD_CHECKSUM",
    "BAD_HEADER_LENGTH",
    "BAD_OPTION",
    "BAD_PORT",
    "BAD_TOTAL_LENGTH",
    "BAD_VALUE",
    "BAD_VERSION",
    "FRAGMENT_ALIGNMENT",
    "FRAGMENT_CONFLICT",
    "FRAGMENT_OVERLAP",
    "FRAGMENT_TOO_LONG",
    "INCOMPLETE_CHAIN",
    "LAYERS",
    "SHORT_HEADER",
    "TRUNCATED",
    "WORDS",
    "malformed",
]

#: Fewer bytes than the smallest header (a header error in the statistics: R-STAT-08).
SHORT_HEADER: Final = "short header"
#: Fewer bytes behind a header than it states (R-STAT-08).
TRUNCATED: Final = "truncated"
BAD_VERSION: Final = "bad version"
BAD_HEADER_LENGTH: Final = "bad header length"
BAD_TOTAL_LENGTH: Final = "bad total length"
BAD_CHECKSUM: Final = "bad checksum"
BAD_ADDRESS: Final = "bad address"
BAD_PORT: Final = "bad port"
BAD_OPTION: Final = "bad option"
BAD_VALUE: Final = "bad value"
#: The first fragment does not contain all headers up to the transport header (RFC 8200 section 5, RFC 7112).
INCOMPLETE_CHAIN: Final = "incomplete header chain"
#: A fragment other than the last whose length is not a multiple of 8.
FRAGMENT_ALIGNMENT: Final = "fragment length"
#: Fragments that would give more than 65,535 bytes.
FRAGMENT_TOO_LONG: Final = "datagram too long"
#: Fragments that overlap: the whole datagram is dropped (RFC 5722, RFC 8200 section 4.5).
FRAGMENT_OVERLAP: Final = "fragments overlap"
#: Fragments that contradict each other about the end of the datagram.
FRAGMENT_CONFLICT: Final = "fragments disagree"

WORDS: Final = frozenset(
    (
        SHORT_HEADER,
        TRUNCATED,
        BAD_VERSION,
        BAD_HEADER_LENGTH,
        BAD_TOTAL_LENGTH,
        BAD_CHECKSUM,
        BAD_ADDRESS,
        BAD_PORT,
        BAD_OPTION,
        BAD_VALUE,
        INCOMPLETE_CHAIN,
        FRAGMENT_ALIGNMENT,
        FRAGMENT_TOO_LONG,
        FRAGMENT_OVERLAP,
        FRAGMENT_CONFLICT,
    )
)
LAYERS: Final = frozenset(("ethernet", "arp", "ipv4", "ipv6", "icmp", "icmpv6", "nd", "udp", "tcp"))


def malformed(layer: str, word: str, *, rule: str = "") -> DecodeError:
    """Return the error to raise: ``layer`` of :data:`LAYERS`, ``word`` of :data:`WORDS`."""
    return DecodeError(layer, word, rule=rule)
