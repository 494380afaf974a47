"""What the nine offload state structures have in common: a table of members, and errors that name them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple, Self

from ndisbus.errors import DecodeError, LocalProtocolError

__all__ = ["Buffer", "Member", "OffloadState", "header"]

Buffer = bytes | bytearray | memoryview


class Member(NamedTuple):
    """One member of a structure: its DDI name, our attribute, and its place in the x64 layout (bytes)."""

    ddi: str
    attr: str
    offset: int
    size: int
    kind: Literal["int", "pointer", "bytes"] = "int"
    bits: int = 0
    """Width of a bit field, 0 for an ordinary member."""
    bit_position: int = 0

    @property
    def maximum(self) -> int:
        """The largest number the member holds."""
        return int((1 << (self.bits or 8 * self.size)) - 1)

    def complaint(self, value: object) -> str | None:
        """What is wrong with ``value`` for this member, or None."""
        if self.kind == "bytes":
            if isinstance(value, bytes) and len(value) <= self.size:
                return None
            return f"must be at most {self.size} bytes"
        if value is None and self.kind == "pointer":
            return None
        if isinstance(value, int) and 0 <= value <= self.maximum:
            return None
        return f"must be an integer from 0 to {self.maximum:#x}"


def header() -> tuple[Member, ...]:
    """The members of OFFLOAD_STATE_HEADER, which begins every state structure."""
    return (
        Member("Header.Length", "length", 0, 4),
        Member("Header.RecognizedOptions", "recognized_options", 4, 4),
    )


class OffloadState:
    """Base of the state structures.

    Each mirrors one C structure: members in DDI order, then those of its OFFLOAD_STATE_HEADER
    (``length``, ``recognized_options``). :meth:`pack` always writes the structure's own size to
    Header.Length, as NDIS does (R-STATE-16, "ns-ndischimney-_offload_state_header.md").
    """

    __slots__ = ()

    NAME: ClassVar[str]
    """DDI name of the structure."""
    SIZE: ClassVar[int]
    """sizeof the structure on x64, in bytes."""
    MEMBERS: ClassVar[tuple[Member, ...]]

    def pack(self) -> bytes:
        """The x64 memory image. Raises LocalProtocolError naming the structure and the member."""
        raise NotImplementedError

    @classmethod
    def unpack_from(cls, buf: Buffer, offset: int = 0, *, where: str = "") -> Self:
        """Read an image at ``offset``. Raises DecodeError; ``where`` prefixes the place it names."""
        raise NotImplementedError

    def packed_size(self) -> int:
        """Bytes :meth:`pack` gives: ``SIZE``, and the addresses behind it for a path's constant state."""
        return self.SIZE

    def members(self) -> Iterator[tuple[str, object]]:
        """(DDI member name, value), header first; nested members as ``KeepAlive.ProbeCount``."""
        for member in self.MEMBERS:
            yield member.ddi, getattr(self, member.attr)

    def as_dict(self) -> dict[str, object]:
        """The members by DDI name, nested structures as nested dictionaries."""
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
        """Name the member that made packing fail; for the slow path only."""
        for member in self.MEMBERS:
            value = getattr(self, member.attr)
            complaint = member.complaint(value)
            if complaint is not None:
                return self._range_error(member.ddi, value, complaint)
        return LocalProtocolError(f"{self.NAME}: members cannot be packed")

    def _range_error(self, ddi: str, value: object, complaint: str) -> LocalProtocolError:
        return LocalProtocolError(f"{self.NAME}.{ddi} = {value!r}: {complaint}")

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
