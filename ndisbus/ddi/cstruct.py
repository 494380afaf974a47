"""Declarative C structures that travel as maps: members under their DDI names, checked when read.

A subclass is a keyword-only dataclass whose fields are made by :func:`member`; each knows its DDI name,
C type and x64 offset. The memory image is not on the wire, the offsets document the layout and are tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Final, Self

from ndisbus.errors import DecodeError

__all__ = ["CMember", "NdisObjectHeader", "Struct", "header", "member", "members_of"]

_UNSIGNED: Final = {"UCHAR": 1, "USHORT": 2, "ULONG": 4, "ULONG64": 8}
_MAX_NAME: Final = 128


@dataclass(frozen=True, slots=True)
class CMember:
    """One member of a C structure.

    ``c_type``: UCHAR, USHORT, ULONG, ULONG64 (with ``bits`` for a bit field), BOOLEAN, PVOID, PVOID[n],
    UCHAR[n], HANDLER (an entry point, by name, or NULL), STRUCT, STRUCT[] (an array of ``nested``) or
    ANY (read by :meth:`Struct.read_member` of the class). ``offset``, ``size``: bytes on x64; None for
    what exists on the wire only.
    """

    name: str
    c_type: str
    offset: int | None
    size: int | None
    bits: int = 0
    bit_position: int = 0
    nested: type[Struct] | None = None

    @property
    def array_length(self) -> int:
        """n of PVOID[n] and UCHAR[n]."""
        return int(self.c_type[self.c_type.index("[") + 1 : -1])


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
) -> Any:
    """A dataclass field that is the C member ``name``; see :class:`CMember` for the arguments."""
    if size is None:
        if c_type in _UNSIGNED:
            size = _UNSIGNED[c_type]
        elif c_type in ("PVOID", "HANDLER"):
            size = 8
        elif c_type == "STRUCT" and nested is not None:
            size = nested.SIZE
    metadata = {"member": CMember(name, c_type, offset, size, bits, bit_position, nested)}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata) if default is not MISSING else field(metadata=metadata)


@dataclass(kw_only=True, slots=True)
class Struct:
    """Base of the structures. ``NAME``: DDI name; ``SIZE``: sizeof on x64 in bytes."""

    NAME: ClassVar[str] = ""
    SIZE: ClassVar[int] = 0

    def to_wire(self) -> dict[str, object]:
        """The structure as a map: exact DDI member names, None for NULL."""
        return {m.name: _outgoing(getattr(self, attr)) for attr, m in members_of(type(self))}

    @classmethod
    def from_wire(cls, obj: object, where: str) -> Self:
        """The structure a map describes.

        Raises DecodeError, naming the member and its place below ``where``: not a map, an unknown or a
        missing member, a wrong type, a value outside its C type.
        """
        if type(obj) is not dict:
            raise DecodeError(where, f"a map with the members of {cls.NAME} is expected")
        known = members_of(cls)
        values: dict[str, Any] = {}
        for attr, m in known:
            if m.name not in obj:
                raise DecodeError(f"{where}.{m.name}", f"is missing in this {cls.NAME}")
            values[attr] = cls.read_member(m, obj[m.name], obj, f"{where}.{m.name}")
        if len(obj) != len(known):
            unknown = min(str(k) for k in obj.keys() - {m.name for _, m in known})
            raise DecodeError(f"{where}.{unknown}", f"is no member of {cls.NAME}")
        result = cls(**values)
        result.check(where)
        return result

    @classmethod
    def read_member(cls, m: CMember, value: object, whole: dict[str, Any], where: str) -> Any:
        """One member's value as an attribute. ``whole``: the map it comes from. Raises DecodeError."""
        return _incoming(m, value, where)

    def check(self, where: str) -> None:
        """Raise DecodeError if members that belong together do not agree; the base has no such rule."""


_known: Final[dict[type, tuple[tuple[str, CMember], ...]]] = {}


def members_of(cls: type[Struct]) -> tuple[tuple[str, CMember], ...]:
    """(attribute, member) in the order of the C declaration."""
    known = _known.get(cls)
    if known is None:
        known = _known[cls] = tuple((f.name, _c_member(f)) for f in fields(cls))
    return known


def _c_member(f: Field[Any]) -> CMember:
    m = f.metadata["member"]
    assert isinstance(m, CMember)
    return m


def _outgoing(value: object) -> object:
    if isinstance(value, Struct):
        return value.to_wire()
    if isinstance(value, (list, tuple)):
        return [_outgoing(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)  # an enumeration's number, which is all that a C member holds
    return value


def _unsigned(value: object, bits: int, where: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise DecodeError(where, f"{value!r} is not an integer of {bits} bits")
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
        raise DecodeError(where, f"{value!r} is neither nil nor the name of an entry point")
    if c_type == "STRUCT":
        assert m.nested is not None
        return m.nested.from_wire(value, where)
    if c_type == "BOOLEAN":
        if type(value) is bool:
            return value
        raise DecodeError(where, f"{value!r} is not a boolean")
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
    """The Header member of a structure, filled as its owner should fill it."""
    return member(
        "Header",
        "STRUCT",
        0x0,
        nested=NdisObjectHeader,
        factory=lambda: NdisObjectHeader(type=int(object_type), revision=revision, size=size),
    )
