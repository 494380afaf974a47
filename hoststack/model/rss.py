"""The hash of receive side scaling: Toeplitz over a connection's addresses and ports (R-RSS-01).

The input is that of a *received* segment, whose source is the remote end. The default key is the one of the
verification suite in Microsoft's RSS documentation; a host may use any 40 bytes.
"""

from __future__ import annotations

from typing import Final

from ndisbus.errors import LocalProtocolError

__all__ = ["VERIFICATION_KEY", "tcp_hash", "toeplitz"]

VERIFICATION_KEY: Final = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)


def toeplitz(data: bytes, key: bytes = VERIFICATION_KEY) -> int:
    """The 32-bit hash. Raises :class:`LocalProtocolError` if the key is not 4 bytes longer than the data."""
    if len(key) < len(data) + 4:
        raise LocalProtocolError(
            f"RSS key of {len(key)} bytes is too short: {len(data)} bytes of input need {len(data) + 4}"
        )
    bits = len(data) * 8
    window = int.from_bytes(key[: len(data) + 4], "big")
    value = int.from_bytes(data, "big")
    result = 0
    for bit in range(bits):
        if value >> (bits - 1 - bit) & 1:
            result ^= window >> (bits - bit) & 0xFFFF_FFFF
    return result


def tcp_hash(
    local_address: bytes,
    local_port: int,
    remote_address: bytes,
    remote_port: int,
    key: bytes = VERIFICATION_KEY,
) -> int:
    """HashValue of TCP_OFFLOAD_STATE_CONST for one connection; addresses of 4 or 16 bytes."""
    ports = remote_port.to_bytes(2, "big") + local_port.to_bytes(2, "big")
    return toeplitz(remote_address + local_address + ports, key)
