"""What the nine offload state structures share: memory images, and errors that name members.

A structure describes its members (:mod:`ndisbus.ddi.cstruct`); :mod:`ndisbus.state.image_code` makes ``pack``
and ``unpack_from`` from the description when one of them is first called. The two members of
OFFLOAD_STATE_HEADER are the first of every structure; they are declared last, because they are the last
arguments of a constructor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from ndisbus.ddi.cstruct import CStructure, member
from ndisbus.errors import DecodeError, LocalProtocolError, value_text
from ndisbus.state import image_code

__all__ = ["Buffer", "OffloadState", "header_length", "header_options"]

Buffer = bytes | bytearray | memoryview


def header_length(size: int) -> Any:
    """Return the field for Header.Length of a structure of ``size`` bytes."""
    return member("Header.Length", "ULONG", 0x0, default=size)


def header_options() -> Any:
    """Header.RecognizedOptions."""
    return member("Header.RecognizedOptions", "ULONG", 0x4, default=0)


class OffloadState(CStructure):
    """Base of the state structures.

    Each mirrors one C structure. :meth:`pack` always writes the structure's own size to Header.Length, as
    NDIS does (R-STATE-16, DDI page OFFLOAD_STATE_HEADER).
    """

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        image_code.check_size(cls)

    def pack(self) -> bytes:
        """Return the x64 memory image. Raises LocalProtocolError, which names structure and member."""
        image_code.compile_into(type(self))
        return self.pack()

    @classmethod
    def unpack_from(cls, buf: Buffer, offset: int = 0, *, where: str = "") -> Self:
        """Read an image at ``offset``.

        Raises DecodeError, whose place begins with ``where``: the image is incomplete, Header.Length is
        wrong, or an enumeration does not have the number.
        """
        image_code.compile_into(cls)
        return cls.unpack_from(buf, offset, where=where)

    def packed_size(self) -> int:
        """Return the size of the image in bytes: ``SIZE``, plus the addresses of a path's constant state."""
        return self.SIZE

    def members(self) -> Iterator[tuple[str, object]]:
        """Iterate over (DDI member name, value), header first. Nested: ``KeepAlive.ProbeCount``."""
        for m in self.MEMBERS:
            yield m.name, getattr(self, m.attr)

    def as_dict(self) -> dict[str, object]:
        """Return the members by DDI name, nested structures as nested dictionaries."""
        result: dict[str, object] = {}
        for name, value in self.members():
            outer, _, inner = name.partition(".")
            if inner:
                nested = result.setdefault(outer, {})
                assert isinstance(nested, dict)
                nested[inner] = value
            else:
                result[outer] = value
        return result

    def _pack_error(self) -> LocalProtocolError:
        """Return the error that names the member that cannot be packed. Only for the slow path."""
        for m in self.MEMBERS:
            value = getattr(self, m.attr)
            complaint = m.complaint(value)
            if complaint is not None:
                return self._range_error(m.name, value, complaint)
        return LocalProtocolError(f"{self.NAME}: members cannot be packed")

    def _range_error(self, name: str, value: object, complaint: str) -> LocalProtocolError:
        return LocalProtocolError(f"{self.NAME}.{name} = {value_text(value)}: {complaint}")

    @classmethod
    def _decode_error(cls, where: str, member: str, reason: str, *, rule: str = "") -> DecodeError:
        place = f"{cls.NAME}.{member}" if member else cls.NAME
        return DecodeError(f"{where}.{place}" if where else place, reason, rule=rule)

    @classmethod
    def _short(cls, where: str, available: int) -> DecodeError:
        return cls._decode_error(where, "", f"needs {cls.SIZE} bytes, {max(available, 0)} are left")

    @classmethod
    def _wrong_length(cls, where: str, length: int) -> DecodeError:
        reason = f"is {length:#x}, the size of the structure is {cls.SIZE:#x}"
        return cls._decode_error(where, "Header.Length", reason, rule="R-STATE-16")
