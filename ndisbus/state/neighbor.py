"""The three neighbor state structures. Pages "ns-ndischimney-_neighbor_offload_state_const.md" and so on."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import ClassVar, Final, Self

from ndisbus.state.base import Buffer, Member, OffloadState, header

__all__ = ["NeighborOffloadStateCached", "NeighborOffloadStateConst", "NeighborOffloadStateDelegated"]

_NEIGHBOR: Final = Struct("<II32sI")  # constant and cached state have the same shape
_ULONG: Final = Struct("<III")  # header and one ULONG

_NO_ADDRESS: Final = bytes(32)
_NO_TAIL: Final = bytes(26)


def _dl_address(image: bytes) -> bytes:
    """A UCHAR[32] link address as its owner gave it: none, six bytes of Ethernet, or all 32."""
    if image[6:] == _NO_TAIL:
        return image[:6] if image != _NO_ADDRESS else b""
    return image


@dataclass(slots=True)
class NeighborOffloadStateConst(OffloadState):
    """NEIGHBOR_OFFLOAD_STATE_CONST, 0x2C bytes. Page "ns-ndischimney-_neighbor_offload_state_const.md".

    ``dl_source_address``: up to 32 bytes, empty if the interface's own is to be used; ``vlan_id``: 12
    bits, 0 if not significant. The image pads the address with zeros to 32 bytes; reading gives back
    ``b""`` for zeros only, 6 bytes when the other 26 are zero, and otherwise all 32.
    """

    dl_source_address: bytes = b""
    vlan_id: int = 0
    length: int = 0x2C
    recognized_options: int = 0

    NAME: ClassVar[str] = "NEIGHBOR_OFFLOAD_STATE_CONST"
    SIZE: ClassVar[int] = _NEIGHBOR.size
    MEMBERS: ClassVar[tuple[Member, ...]] = (
        *header(),
        Member("DlSourceAddress", "dl_source_address", 0x08, 32, "bytes"),
        Member("VlanId", "vlan_id", 0x28, 4, bits=12),
    )

    def pack(self) -> bytes:
        """The 0x2C byte image. Raises LocalProtocolError naming the member that does not fit."""
        try:
            address = self.dl_source_address
            # struct would cut a long address off without a word.
            if len(address) > 32 or self.vlan_id >> 12:
                raise self._pack_error()
            return _NEIGHBOR.pack(0x2C, self.recognized_options, address, self.vlan_id)
        except (struct_error, TypeError) as exc:
            raise self._pack_error() from exc

    @classmethod
    def unpack_from(cls, buf: Buffer, offset: int = 0, *, where: str = "") -> Self:
        """Read an image at ``offset``. Raises DecodeError if it is cut short or Header.Length is wrong."""
        try:
            length, options, address, vlan = _NEIGHBOR.unpack_from(buf, offset)
        except struct_error:
            raise cls._short(where, len(buf) - offset) from None
        if length != 0x2C:
            raise cls._wrong_length(where, length)
        return cls(_dl_address(address), vlan & 0xFFF, length, options)


@dataclass(slots=True)
class NeighborOffloadStateCached(OffloadState):
    """NEIGHBOR_OFFLOAD_STATE_CACHED, 0x2C bytes. Page "ns-ndischimney-_neighbor_offload_state_cached.md".

    ``dl_destination_address``: the next hop's link address, like DlSourceAddress of the constant state;
    ``host_reachability_delta``: ticks since the host last confirmed the neighbor.
    """

    dl_destination_address: bytes = b""
    host_reachability_delta: int = 0
    length: int = 0x2C
    recognized_options: int = 0

    NAME: ClassVar[str] = "NEIGHBOR_OFFLOAD_STATE_CACHED"
    SIZE: ClassVar[int] = _NEIGHBOR.size
    MEMBERS: ClassVar[tuple[Member, ...]] = (
        *header(),
        Member("DlDestinationAddress", "dl_destination_address", 0x08, 32, "bytes"),
        Member("HostReachabilityDelta", "host_reachability_delta", 0x28, 4),
    )

    def pack(self) -> bytes:
        """The 0x2C byte image. Raises LocalProtocolError naming the member that does not fit."""
        try:
            address = self.dl_destination_address
            if len(address) > 32:
                raise self._pack_error()
            return _NEIGHBOR.pack(0x2C, self.recognized_options, address, self.host_reachability_delta)
        except (struct_error, TypeError) as exc:
            raise self._pack_error() from exc

    @classmethod
    def unpack_from(cls, buf: Buffer, offset: int = 0, *, where: str = "") -> Self:
        """Read an image at ``offset``. Raises DecodeError if it is cut short or Header.Length is wrong."""
        try:
            length, options, address, delta = _NEIGHBOR.unpack_from(buf, offset)
        except struct_error:
            raise cls._short(where, len(buf) - offset) from None
        if length != 0x2C:
            raise cls._wrong_length(where, length)
        return cls(_dl_address(address), delta, length, options)


@dataclass(slots=True)
class NeighborOffloadStateDelegated(OffloadState):
    """NEIGHBOR_OFFLOAD_STATE_DELEGATED, 0x0C bytes.

    ``nic_reachability_delta``: ticks since the target last confirmed the neighbor.
    Page "ns-ndischimney-_neighbor_offload_state_delegated.md".
    """

    nic_reachability_delta: int = 0
    length: int = 0x0C
    recognized_options: int = 0

    NAME: ClassVar[str] = "NEIGHBOR_OFFLOAD_STATE_DELEGATED"
    SIZE: ClassVar[int] = _ULONG.size
    MEMBERS: ClassVar[tuple[Member, ...]] = (
        *header(),
        Member("NicReachabilityDelta", "nic_reachability_delta", 0x08, 4),
    )

    def pack(self) -> bytes:
        """The 0x0C byte image. Raises LocalProtocolError naming the member that does not fit."""
        try:
            return _ULONG.pack(0x0C, self.recognized_options, self.nic_reachability_delta)
        except struct_error as exc:
            raise self._pack_error() from exc

    @classmethod
    def unpack_from(cls, buf: Buffer, offset: int = 0, *, where: str = "") -> Self:
        """Read an image at ``offset``. Raises DecodeError if it is cut short or Header.Length is wrong."""
        try:
            length, options, delta = _ULONG.unpack_from(buf, offset)
        except struct_error:
            raise cls._short(where, len(buf) - offset) from None
        if length != 0x0C:
            raise cls._wrong_length(where, length)
        return cls(delta, length, options)
