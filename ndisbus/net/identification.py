"""IP identifications. The lower half of each space is the host's, the upper half the target's (R-IP-02)."""

from __future__ import annotations

from typing import Final

__all__ = ["IpIdentification"]

_HALF_4: Final = 0x8000
_HALF_6: Final = 0x8000_0000


class IpIdentification:
    """A counter for one interface. Give ``next_v4`` to each :class:`ndisbus.net.frames.FrameBuilder` of it.

    ``upper``: use the target's halves, 0x8000..0xFFFF and 0x80000000..0xFFFFFFFF (R-IP-02, R-DIS-23), instead
    of the host's. ``start``: the first number, counted from the half's lower bound.
    """

    __slots__ = ("_base_4", "_base_6", "_next_4", "_next_6")

    def __init__(self, *, upper: bool, start: int = 0) -> None:
        self._base_4 = _HALF_4 if upper else 0
        self._base_6 = _HALF_6 if upper else 0
        self._next_4 = start
        self._next_6 = start

    def next_v4(self) -> int:
        """Return the next identification for an IPv4 header, 16 bits."""
        value = self._next_4
        self._next_4 = value + 1
        return self._base_4 | value & 0x7FFF

    def next_v6(self) -> int:
        """Return the next identification for an IPv6 fragment header, 32 bits."""
        value = self._next_6
        self._next_6 = value + 1
        return self._base_6 | value & 0x7FFF_FFFF
