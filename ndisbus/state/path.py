"""The three state structures of a path.

DDI pages ns-ndischimney-_path_offload_state_const, ..._cached and ..._delegated.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import ClassVar, Final, Self

from ndisbus.ddi.cstruct import member
from ndisbus.state.base import Buffer, OffloadState, header_length, header_options

__all__ = ["PathOffloadStateCached", "PathOffloadStateConst", "PathOffloadStateDelegated"]

_CONST: Final = Struct("<IIQQ")
_CONST_4: Final = Struct("<IIQQ4s4s")
_CONST_6: Final = Struct("<IIQQ16s16s")


@dataclass(slots=True)
class PathOffloadStateConst(OffloadState):
    """PATH_OFFLOAD_STATE_CONST, 0x18 bytes, and the addresses behind it.

    Both addresses are 4 bytes (IPv4) or 16 (IPv6), in network order (R-STATE-07). The C structure points to
    them. In an image, each pointer member holds the distance in bytes from the start of the structure to its
    address: SourceAddress lies at 0x18, DestinationAddress directly behind it. That makes 0x20 bytes for IPv4
    and 0x38 for IPv6, both whole numbers of 8-byte words. Header.Length stays 0x18.

    The image is more than its C structure, so this class has its own ``pack`` and ``unpack_from``.
    """

    NAME: ClassVar[str] = "PATH_OFFLOAD_STATE_CONST"
    SIZE: ClassVar[int] = 0x18

    source_address: bytes = member("SourceAddress", "PUCHAR", 0x08)
    destination_address: bytes = member("DestinationAddress", "PUCHAR", 0x10)
    length: int = header_length(0x18)
    recognized_options: int = header_options()

    def packed_size(self) -> int:
        """Return 0x20 for IPv4, 0x38 for IPv6."""
        return 0x18 + len(self.source_address) + len(self.destination_address)

    def pack(self) -> bytes:
        """Return the image, 0x20 or 0x38 bytes. Raises LocalProtocolError naming the wrong member."""
        source, destination = self.source_address, self.destination_address
        size = len(source)
        try:
            if size == len(destination):
                if size == 4:
                    return _CONST_4.pack(0x18, self.recognized_options, 0x18, 0x1C, source, destination)
                if size == 16:
                    return _CONST_6.pack(0x18, self.recognized_options, 0x18, 0x28, source, destination)
        except struct_error as exc:
            complaint = self.MEMBERS[1].complaint(self.recognized_options)
            if complaint is not None:
                options = self.MEMBERS[1].name
                raise self._range_error(options, self.recognized_options, complaint) from exc
            raise self._range_error("SourceAddress or DestinationAddress", source, "must be bytes") from exc
        name, value = ("DestinationAddress", destination) if size in (4, 16) else ("SourceAddress", source)
        raise self._range_error(
            name, value, "both addresses must have 4 bytes, or both 16 bytes [R-STATE-07]"
        )

    @classmethod
    def unpack_from(cls, buf: Buffer, offset: int = 0, *, where: str = "") -> Self:
        """Read an image at ``offset``, addresses included. The pointer members give their size.

        Raises DecodeError if the image is incomplete, Header.Length is wrong, or the pointers are not those
        of an IPv4 or IPv6 image.
        """
        try:
            length, options, source, destination = _CONST.unpack_from(buf, offset)
        except struct_error:
            raise cls._short(where, len(buf) - offset) from None
        if length != 0x18:
            raise cls._wrong_length(where, length)
        if source != 0x18:
            raise cls._decode_error(where, "SourceAddress", f"is {source:#x}, the address lies at 0x18")
        size = destination - source
        if size != 4 and size != 16:
            reason = f"is {destination:#x}; 4 or 16 bytes of source address end at 0x1c or 0x28"
            raise cls._decode_error(where, "DestinationAddress", reason, rule="R-STATE-07")
        end = offset + destination + size
        if end > len(buf):
            reason = f"needs {size} bytes at {destination:#x}, the image ends at {len(buf) - offset:#x}"
            raise cls._decode_error(where, "DestinationAddress", reason)
        middle = offset + destination
        return cls(bytes(buf[offset + 0x18 : middle]), bytes(buf[middle:end]), length, options)


@dataclass(slots=True)
class PathOffloadStateCached(OffloadState):
    """PATH_OFFLOAD_STATE_CACHED, 0x0C bytes. ``path_mtu``: bytes."""

    NAME: ClassVar[str] = "PATH_OFFLOAD_STATE_CACHED"
    SIZE: ClassVar[int] = 0x0C

    path_mtu: int = member("PathMtu", "ULONG", 0x08, default=0)
    length: int = header_length(0x0C)
    recognized_options: int = header_options()


@dataclass(slots=True)
class PathOffloadStateDelegated(OffloadState):
    """PATH_OFFLOAD_STATE_DELEGATED, 8 bytes: a header and nothing else (R-DIS-24)."""

    NAME: ClassVar[str] = "PATH_OFFLOAD_STATE_DELEGATED"
    SIZE: ClassVar[int] = 0x08

    length: int = header_length(0x08)
    recognized_options: int = header_options()
