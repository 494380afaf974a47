"""Makes ``pack`` and ``unpack_from`` of a state structure from its members, once, when they are first called.

Both are used for lists of 100,000 blocks. So they are written as source code and compiled, as the standard
library does for the methods of a dataclass. Each structure has one struct.Struct. :func:`source_of` returns
the code for reading.
"""

from __future__ import annotations

from itertools import groupby
from struct import Struct
from struct import error as struct_error
from typing import Any, Final

from ndisbus.ddi.cstruct import CMember, CStructure

__all__ = ["check_size", "compile_into", "source_of"]

_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_NO_ADDRESS: Final = bytes(32)
_NO_TAIL: Final = bytes(26)


def link_address(image: bytes) -> bytes:
    """Return a UCHAR[32] link address as its owner gave it: none, six bytes of Ethernet, or all 32."""
    if image[6:] == _NO_TAIL:
        return image[:6] if image != _NO_ADDRESS else b""
    return image


def check_size(cls: type[CStructure]) -> None:
    """Raise TypeError if the members of a structure do not make up its size."""
    if "pack" not in vars(cls) and (size := _layout(cls).size) != cls.SIZE:
        raise TypeError(f"{cls.NAME}: the members make {size:#x} bytes, SIZE is {cls.SIZE:#x}")


def compile_into(cls: type[CStructure]) -> None:
    """Add the two methods to a structure, unless it defines them itself."""
    if "pack" in vars(cls):
        return
    names: dict[str, Any] = {"struct_error": struct_error, "link_address": link_address}
    names["layout"] = _layout(cls)
    for m in cls.MEMBERS:
        if m.enum is not None:
            names[f"numbers_of_{m.attr}"] = tuple(m.enum)[:-1]  # the last one counts the others
    exec(compile(source_of(cls), f"<pack and unpack_from of {cls.NAME}>", "exec"), names)
    for name in ("pack", "unpack_from"):
        method = names[name]
        method.__doc__ = getattr(cls, name).__doc__
        method.__qualname__ = f"{cls.__qualname__}.{name}"
        method.__module__ = cls.__module__
        setattr(cls, name, classmethod(method) if name == "unpack_from" else method)


def _units(cls: type[CStructure]) -> list[tuple[int, list[CMember]]]:
    """Return (offset, members) of each number or run of bytes; bit fields of one number are together."""
    stored = [m for m in cls.MEMBERS if not m.shares]
    return [(at or 0, list(group)) for at, group in groupby(stored, key=lambda m: m.offset)]


def _layout(cls: type[CStructure]) -> Struct:
    code, end = "<", 0
    for at, (first, *_) in _units(cls):
        size = first.size or 0
        code += "x" * (at - end) + (f"{size}s" if first.c_type.startswith("UCHAR[") else _CODES[size])
        end = at + size
    return Struct(code + "x" * (cls.SIZE - end))


def source_of(cls: type[CStructure]) -> str:
    """Return the source code of the two methods."""
    stores, loads, checks, names = [], [], [], []
    lookups: list[str] = []
    for _, unit in _units(cls)[1:]:  # Header.Length is the structure's own size
        first = unit[0]
        names.append(raw := first.attr)
        if first.bits:
            stores.append(" | ".join(_shifted(f"self.{m.attr}", "<<", m.bit_position) for m in unit))
            checks += [f"self.{m.attr} >> {m.bits}" for m in unit]
            for m in unit:
                loads.append(f"{_shifted(raw, '>>', m.bit_position)} & {m.maximum:#x}")
        elif first.c_type == "PVOID":
            stores.append(f"self.{raw} or 0")
            loads.append(f"{raw} or None")
        elif first.c_type.startswith("UCHAR["):
            stores.append(f"self.{raw}")
            checks.append(f"len(self.{raw}) > {first.array_length}")  # struct would truncate it silently
            loads.append(f"link_address({raw})")
        else:
            stores.append(f"self.{raw}")
            loads.append(raw)
            if first.enum is not None:
                checks.append(f"self.{raw} >= {len(first.enum) - 1}")
                lookups += [
                    "    try:",
                    f"        {raw} = numbers_of_{raw}[{raw}]",
                    "    except IndexError:",
                    f'        reason = f"{{{raw}}} is not a {first.c_type}"',
                    f'        raise cls._decode_error(where, "{first.name}", reason) from None',
                ]
    lines = ["def pack(self):", "    try:"]
    if checks:
        lines += [f"        if {' or '.join(checks)}:", "            raise self._pack_error()"]
    lines += [
        f"        return layout.pack({cls.SIZE:#x}, {', '.join(stores)})",
        "    except (struct_error, TypeError) as error:",
        "        raise self._pack_error() from error",
        "",
        "def unpack_from(cls, buf, offset=0, *, where=''):",
        "    try:",
        f"        length, {', '.join(names)} = layout.unpack_from(buf, offset)",
        "    except struct_error:",
        "        raise cls._short(where, len(buf) - offset) from None",
        f"    if length != {cls.SIZE:#x}:",
        "        raise cls._wrong_length(where, length)",
        *lookups,
        f"    return cls({', '.join([*loads[1:], 'length', loads[0]])})",  # the header is declared last
    ]
    return "\n".join(lines) + "\n"


def _shifted(value: str, operator: str, by: int) -> str:
    return f"({value} {operator} {by})" if by else value
