"""Numbers that other hosts must not be able to guess: initial sequence numbers and ephemeral ports.

Both are keyed hashes of the connection's four-tuple (RFC 6528; RFC 6056 algorithm 3). The key is drawn
from the generator that the stack was given, so that one seed gives the same numbers.
"""

from __future__ import annotations

from hashlib import blake2s
from typing import TYPE_CHECKING, Final

from ndisbus.randomness import Randomness

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EPHEMERAL_PORTS", "InitialSequenceNumbers", "PortPicker"]

#: The dynamic ports (RFC 6335).
EPHEMERAL_PORTS: Final = range(49152, 65536)
_TICKS_PER_SECOND: Final = 250_000  # the clock of RFC 9293 3.4.1 ticks every 4 microseconds


class InitialSequenceNumbers:
    """ISN = M + F(local, remote, key), M being a clock of 4 microseconds."""

    __slots__ = ("_key",)

    def __init__(self, rng: Randomness) -> None:
        self._key = rng.randbytes(16)

    def keyed(self, data: bytes) -> int:
        """F: 32 bits that cannot be computed without the key."""
        return int.from_bytes(blake2s(data, key=self._key, digest_size=4).digest(), "big")

    def __call__(self, four_tuple: bytes, now: float) -> int:
        """The ISN of a connection that begins at ``now`` (seconds)."""
        return (int(now * _TICKS_PER_SECOND) + self.keyed(four_tuple)) & 0xFFFFFFFF


class PortPicker:
    """Ephemeral ports: each destination has a sequence of its own, which begins at a secret place."""

    __slots__ = ("_counter", "_key", "ports")

    def __init__(self, rng: Randomness, ports: range = EPHEMERAL_PORTS) -> None:
        self._key = rng.randbytes(16)
        self._counter = 0
        self.ports = ports

    def pick(self, destination: bytes, usable: Callable[[int], bool]) -> int | None:
        """The next port to ``destination`` (addresses and remote port) that is usable; None if none is."""
        ports = self.ports
        digest = blake2s(destination, key=self._key, digest_size=4).digest()
        offset = int.from_bytes(digest, "big")
        for _ in range(len(ports)):
            port = ports[(offset + self._counter) % len(ports)]
            self._counter += 1
            if usable(port):
                return port
        return None
