"""C structures, described once: each member with its DDI name, C type and x64 offset.

A structure is a dataclass whose fields are made by :func:`member`. Everything else is derived from the
fields: ``MEMBERS``, the map that travels in a message (:class:`Struct`), the x64 memory image
(:class:`ndisbus.state.base.OffloadState`), the checks of both, and the tables in docs/protocol.md.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, field
from typing import Any, ClassVar, Final, Self

from ndisbus.errors import DecodeError, value_text

__all__ = ["CMember", "CStructure", "NdisObjectHeader", "SharedStorage", "Struct", "header", "member"]

_UNSIGNED: Final = {"UCHAR": 1, "USHORT": 2, "ULONG": 4, "ULONG64": 8}
_POINTERS: Final = ("PVOID", "PUCHAR", "HANDLER")
_MAX_NAME: Final = 128


@dataclass(frozen=True, slots=True)
class CMember:
    """One member of a C structure.

    ``name`` is its DDI name, ``attr`` our attribute. A member of a nested structure that is flat here has a
    name like ``KeepAlive.ProbeCount``. ``c_type`` is one of

    - UCHAR, USHORT, ULONG, ULONG64 (with ``bits`` for a bit field), BOOLEAN,
    - the name of an enumeration, given as ``enum``, whose last member counts the others,
    - PVOID, PVOID[n], UCHAR[n],
    - PUCHAR: a pointer to bytes; the attribute holds the bytes,
    - HANDLER: an entry point, by name, or NULL,
    - STRUCT, or STRUCT[] for an array of ``nested``,
    - ANY: read by :meth:`Struct.read_member` of the class.

    ``offset``, ``size``: bytes on x64; None for a member that exists only on the wire. ``shares``: the
    attribute of the member whose storage this one uses, as in a C union.
    """

    name: str
    c_type: str
    offset: int | None
    size: int | None
    bits: int = 0
    bit_position: int = 0
    nested: type[Struct] | None = None
    enum: type[enum.IntEnum] | None = None
    shares: str = ""
    attr: str = ""

    @property
    def array_length(self) -> int:
        """n of PVOID[n] and UCHAR[n]."""
        return int(self.c_type[self.c_type.index("[") + 1 : -1])

    @property
    def maximum(self) -> int:
        """The largest number that the member holds."""
        return int((1 << (self.bits or 8 * (self.size or 0))) - 1)

    def complaint(self, value: object) -> str | None:
        """Return what is wrong with a value for this member in a memory image; None if it fits."""
        if self.c_type == "PUCHAR" or self.c_type.startswith("UCHAR["):
            if isinstance(value, bytes) and len(value) <= (self.size or 0):
                return None
            return f"must be at most {self.size} bytes"
        if value is None and self.c_type == "PVOID":
            return None
        if self.enum is not None and isinstance(value, int) and value >= len(self.enum) - 1:
            return f"is not a {self.c_type}"
        if isinstance(value, int) and 0 <= value <= self.maximum:
            return None
        return f"must be an integer from 0 to {self.maximum:#x}"


def member(
    name: str,
    c_type: str,
    offset: int | None,
    *,
    default: Any = MISSING,
    factory: Callable[[], Any] | None = None,
    size: int | None = None,
    bits: int = 0,
    bit_position: int = 0,
    nested: type[Struct] | None = None,
    enum: type[enum.IntEnum] | None = None,
) -> Any:
    """Return a dataclass field for the C member ``name``. :class:`CMember` explains the arguments."""
    if size is None:
        if c_type in _UNSIGNED:
            size = _UNSIGNED[c_type]
        elif c_type in _POINTERS:
            size = 8
        elif enum is not None:
            size = 4
        elif c_type == "STRUCT" and nested is not None:
            size = nested.SIZE
        elif c_type.startswith("UCHAR["):
            size = int(c_type[6:-1])
    metadata = {"member": CMember(name, c_type, offset, size, bits, bit_position, nested, enum)}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata) if default is not MISSING else field(metadata=metadata)


class SharedStorage:
    """Base of descriptors for a member that uses the storage of a field and is not a field itself."""

    def __init__(self, described: CMember) -> None:
        self.described: Final = described


class CStructure:
    """Base of all structures.

    ``NAME``: DDI name; ``SIZE``: sizeof on x64 in bytes; ``MEMBERS``: in the order of the C declaration.
    """

    __slots__ = ()

    NAME: ClassVar[str] = ""
    SIZE: ClassVar[int] = 0
    MEMBERS: ClassVar[tuple[CMember, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # A dataclass with slots makes the class twice, the second time without fields and derived values.
        if "MEMBERS" not in vars(cls):
            own = sorted(_described(vars(cls)), key=lambda m: not m.name.startswith("Header."))
            cls.MEMBERS = (*cls.MEMBERS, *own)

    @classmethod
    def offset_of(cls, name: str) -> int:
        """Return FIELD_OFFSET of a member on x64, in bytes."""
        (offset,) = (m.offset for m in cls.MEMBERS if m.name == name)
        assert offset is not None
        return offset


def _described(namespace: Any) -> Iterator[CMember]:
    for attr, value in namespace.items():
        if isinstance(value, Field) and "member" in value.metadata:
            described: CMember = value.metadata["member"]
        elif isinstance(value, SharedStorage):
            described = value.described
        else:
            continue
        object.__setattr__(described, "attr", attr)  # frozen, but its name is known only here
        yield described


@dataclass(kw_only=True, slots=True)
class Struct(CStructure):
    """Base of the structures that travel as maps: members under their DDI names, checked when read."""

    def to_wire(self) -> dict[str, object]:
        """Return the structure as a map: exact DDI member names, None for NULL."""
        return {m.name: _outgoing(getattr(self, m.attr)) for m in self.MEMBERS}

    @classmethod
    def from_wire(cls, obj: object, where: str) -> Self:
        """Return the structure that a map describes.

        Raises DecodeError, which names the member and its place below ``where``: not a map, an unknown or
        missing member, a wrong type, a value outside its C type.
        """
        if type(obj) is not dict:
            raise DecodeError(where, f"a map with the members of {cls.NAME} is expected")
        values: dict[str, Any] = {}
        for m in cls.MEMBERS:
            if m.name not in obj:
                raise DecodeError(f"{where}.{m.name}", f"is missing in this {cls.NAME}")
            values[m.attr] = cls.read_member(m, obj[m.name], obj, f"{where}.{m.name}")
        if len(obj) != len(cls.MEMBERS):
            unknown = min(str(k) for k in obj.keys() - {m.name for m in cls.MEMBERS})
            raise DecodeError(f"{where}.{unknown}", f"is not a member of {cls.NAME}")
        result = cls(**values)
        result.check(where)
        return result

    @classmethod
    def read_member(cls, m: CMember, value: object, whole: dict[str, Any], where: str) -> Any:
        """Return one member's value as an attribute. ``whole``: the map with it. Raises DecodeError."""
        return _incoming(m, value, where)

    def check(self, where: str) -> None:
        """Raise DecodeError if related members do not agree. The base has no such rule."""


def _outgoing(value: object) -> object:
    if isinstance(value, Struct):
        return value.to_wire()
    if isinstance(value, (list, tuple)):
        return [_outgoing(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)  # an enumeration's number: a C member has nothing else
    return value


def _unsigned(value: object, bits: int, where: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise DecodeError(where, f"{value_text(value)} is not an integer of {bits} bits")
    return value


def _incoming(m: CMember, value: object, where: str) -> Any:
    c_type = m.c_type
    if c_type in _UNSIGNED:
        return _unsigned(value, m.bits or 8 * _UNSIGNED[c_type], where)
    if c_type == "PVOID":
        return None if value is None else _unsigned(value, 64, where)
    if c_type == "HANDLER":
        if value is None or (type(value) is str and 0 < len(value) <= _MAX_NAME):
            return value
        raise DecodeError(where, f"{value_text(value)} is neither nil nor the name of an entry point")
    if c_type == "STRUCT":
        assert m.nested is not None
        return m.nested.from_wire(value, where)
    if c_type == "BOOLEAN":
        if type(value) is bool:
            return value
        raise DecodeError(where, f"{value_text(value)} is not a boolean")
    if c_type == "STRUCT[]":
        assert m.nested is not None
        return [m.nested.from_wire(v, f"{where}[{i}]") for i, v in enumerate(_array(value, where))]
    if c_type.startswith("UCHAR["):
        if type(value) is bytes and len(value) == m.array_length:
            return value
        raise DecodeError(where, f"{m.array_length} bytes are expected")
    if c_type.startswith("PVOID["):
        items = _array(value, where)
        if len(items) != m.array_length:
            raise DecodeError(where, f"{len(items)} pointers, {m.array_length} are expected")
        return [None if v is None else _unsigned(v, 64, f"{where}[{i}]") for i, v in enumerate(items)]
    raise TypeError(f"{m.name}: {c_type} needs read_member of its class")


def _array(value: object, where: str) -> list[Any]:
    if type(value) is not list:
        raise DecodeError(where, "an array is expected")
    return value


@dataclass(kw_only=True, slots=True)
class NdisObjectHeader(Struct):
    """NDIS_OBJECT_HEADER: type, revision and size (bytes) of the structure that begins with it."""

    NAME: ClassVar[str] = "NDIS_OBJECT_HEADER"
    SIZE: ClassVar[int] = 0x4

    type: int = member("Type", "UCHAR", 0x0)
    revision: int = member("Revision", "UCHAR", 0x1)
    size: int = member("Size", "USHORT", 0x2)


def header(object_type: int, revision: int, size: int) -> Any:
    """Return the Header member of a structure, with the values that its owner must set."""
    return member(
        "Header",
        "STRUCT",
        0x0,
        nested=NdisObjectHeader,
        factory=lambda: NdisObjectHeader(type=int(object_type), revision=revision, size=size),
    )
