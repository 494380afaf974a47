"""Chains of net buffer lists on the wire.

A chain is an array of maps, one per NET_BUFFER_LIST. Each has its net buffers in an array under
``NetBuffers``, and each of those has its MDLs under ``Mdls``. The keys ``NetBufferList``, ``NetBuffer`` and
``Mdl`` give an object's own address. The others are members under their DDI names. An absent member is zero
or NULL. Pointers are addresses and must agree with the arrays: Next of an element names the following
element. So a chain can neither be a cycle nor share a tail. ``Frame`` is the index of the payload frame with
the content of an MDL. Without ``Frame`` the content does not travel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ndisbus.ddi.enums import NetBufferListInfo
from ndisbus.errors import DecodeError, LocalProtocolError, value_text
from ndisbus.lists.nbl_objects import (
    MAX_CHAIN,
    Data,
    Mdl,
    NetBuffer,
    NetBufferList,
    iter_chain,
    iter_mdls,
    iter_net_buffers,
)

__all__ = ["chain_from_wire", "chain_to_wire"]

_ULONG: Final = 0xFFFFFFFF
_PVOID: Final = 0xFFFFFFFFFFFFFFFF

_NBL_KEYS: Final = frozenset(
    {
        "NetBufferList",
        "Next",
        "FirstNetBuffer",
        "NetBuffers",
        "Status",
        "SourceHandle",
        "MiniportReserved",
        "ProtocolReserved",
        "Scratch",
        "Flags",
        "NetBufferListInfo",
    }
)
_NB_KEYS: Final = frozenset(
    {
        "NetBuffer",
        "Next",
        "CurrentMdl",
        "CurrentMdlOffset",
        "DataLength",
        "MdlChain",
        "DataOffset",
        "Mdls",
    }
)
_MDL_KEYS: Final = frozenset({"Mdl", "Next", "ByteCount", "ByteOffset", "Frame"})

# Two features may share a slot. On the wire a slot has the chimney's name for it.
_INFO_NAMES: Final[dict[int, str]] = {
    **{int(slot): slot.name for slot in NetBufferListInfo},
    0: "TcpOffloadBytesTransferred",
    2: "TcpReceiveNoPush",
}
_INFO_SLOTS: Final[dict[str, int]] = {
    name: slot for slot, name in _INFO_NAMES.items() if slot != NetBufferListInfo.MaxNetBufferListInfo
}


def chain_to_wire(first: NetBufferList | None, frames: list[Any] | None) -> list[dict[str, Any]]:
    """Return the wire form of a chain (empty for NULL).

    MDL contents are appended to ``frames``, uncopied; with ``frames=None`` they are left out. Raises
    LocalProtocolError for a cycle, or an object that is part of the chain twice.
    """
    seen: set[int] = set()
    return [_nbl_to_wire(nbl, frames, seen) for nbl in iter_chain(first)]


def _new(seen: set[int], obj: NetBufferList | NetBuffer | Mdl) -> int:
    address = obj.address
    if address in seen:
        raise LocalProtocolError(f"{type(obj).__name__} {obj.address:#x} is in the chain twice")
    seen.add(address)
    return address


def _nbl_to_wire(nbl: NetBufferList, frames: list[Any] | None, seen: set[int]) -> dict[str, Any]:
    wire: dict[str, Any] = {"NetBufferList": _new(seen, nbl)}
    if nbl.next is not None:
        wire["Next"] = nbl.next.address
    if nbl.first_net_buffer is not None:
        wire["FirstNetBuffer"] = nbl.first_net_buffer.address
        wire["NetBuffers"] = [_nb_to_wire(nb, frames, seen) for nb in iter_net_buffers(nbl)]
    if nbl.status:
        wire["Status"] = int(nbl.status)
    if nbl.source_handle:
        wire["SourceHandle"] = nbl.source_handle
    if any(nbl.miniport_reserved):
        wire["MiniportReserved"] = nbl.miniport_reserved[:]
    if any(nbl.protocol_reserved):
        wire["ProtocolReserved"] = nbl.protocol_reserved[:]
    if nbl.scratch:
        wire["Scratch"] = nbl.scratch
    if nbl.flags:
        wire["Flags"] = nbl.flags
    if nbl.net_buffer_list_info:
        wire["NetBufferListInfo"] = {
            _slot_name(nbl, slot): value for slot, value in nbl.net_buffer_list_info.items()
        }
    return wire


def _slot_name(nbl: NetBufferList, slot: int) -> str:
    name = _INFO_NAMES.get(slot)
    if name is None or name not in _INFO_SLOTS:
        raise LocalProtocolError(
            f"NET_BUFFER_LIST {nbl.address:#x}: NetBufferListInfo has no slot {value_text(slot)}"
        )
    return name


def _nb_to_wire(nb: NetBuffer, frames: list[Any] | None, seen: set[int]) -> dict[str, Any]:
    wire: dict[str, Any] = {"NetBuffer": _new(seen, nb)}
    if nb.next is not None:
        wire["Next"] = nb.next.address
    if nb.current_mdl is not None:
        wire["CurrentMdl"] = nb.current_mdl.address
    if nb.current_mdl_offset:
        wire["CurrentMdlOffset"] = nb.current_mdl_offset
    if nb.data_length:
        wire["DataLength"] = nb.data_length
    if nb.data_offset:
        wire["DataOffset"] = nb.data_offset
    if nb.mdl_chain is not None:
        wire["MdlChain"] = nb.mdl_chain.address
        mdls: list[dict[str, Any]] = []
        for mdl in iter_mdls(nb.mdl_chain):
            entry: dict[str, Any] = {"Mdl": _new(seen, mdl), "ByteCount": mdl.byte_count}
            if mdl.next is not None:
                entry["Next"] = mdl.next.address
            if mdl.byte_offset:
                entry["ByteOffset"] = mdl.byte_offset
            if frames is not None and mdl.data is not None:
                entry["Frame"] = len(frames)
                frames.append(mdl.data)
            mdls.append(entry)
        wire["Mdls"] = mdls
    return wire


def chain_from_wire(obj: object, where: str, frames: Sequence[Data] = ()) -> NetBufferList | None:
    """Return the chain that ``obj`` describes. Its MDLs hold the payload frames themselves, uncopied.

    Raises DecodeError, naming the member below ``where``: wrong types, unknown or missing members,
    values out of range, pointers that do not agree with the arrays, an address used twice, more than
    MAX_CHAIN objects of a kind in one chain, a frame that is missing, claimed twice or larger than its
    MDL, or used data that the MDLs do not hold.
    """
    reader = _Reader(frames)
    lists = reader.array(obj, where)
    first: NetBufferList | None = None
    last: NetBufferList | None = None
    promised: object = None
    for i, entry in enumerate(lists):
        nbl, following = reader.nbl(entry, f"{where}[{i}]")
        if last is None:
            first = nbl
        else:
            _agrees(promised, nbl.address, f"{where}[{i - 1}].Next")
            last.next = nbl
        last, promised = nbl, following
    if lists:
        _agrees(promised, None, f"{where}[{len(lists) - 1}].Next")
    return first


def _agrees(pointer: object, address: int | None, where: str) -> None:
    if pointer != address:
        expected = "NULL" if address is None else f"{address:#x}"
        shown = f"{pointer:#x}" if type(pointer) is int else "NULL"
        raise DecodeError(where, f"is {shown}, the element behind it is {expected}")


class _Reader:
    """Reads one chain, and remembers the addresses and frames that were used."""

    __slots__ = ("frames", "seen", "used_frames")

    def __init__(self, frames: Sequence[Data]) -> None:
        self.frames = frames
        self.seen: set[int] = set()
        self.used_frames: set[int] = set()

    def array(self, obj: object, where: str) -> list[Any]:
        if type(obj) is not list:
            raise DecodeError(where, f"an array is expected, not {type(obj).__name__}")
        if len(obj) > MAX_CHAIN:
            raise DecodeError(where, f"{len(obj)} elements, at most {MAX_CHAIN} may be chained")
        return obj

    def map(self, obj: object, keys: frozenset[str], own: str, where: str) -> tuple[dict[str, Any], int]:
        """Return ``obj`` as a map with only these keys, and the object's own address under ``own``."""
        if type(obj) is not dict:
            raise DecodeError(where, f"a map is expected, not {type(obj).__name__}")
        if not obj.keys() <= keys:
            unknown = min(map(str, obj.keys() - keys))
            raise DecodeError(f"{where}.{unknown}", "is not a member")
        address = self.pointer(obj, own, where)
        if address is None:
            raise DecodeError(f"{where}.{own}", "is missing")
        if address in self.seen:
            raise DecodeError(f"{where}.{own}", f"{address:#x} is part of the chain twice")
        self.seen.add(address)
        return obj, address

    def number(self, obj: dict[str, Any], name: str, where: str) -> int:
        value = obj.get(name, 0)
        if type(value) is not int or not 0 <= value <= _ULONG:
            raise DecodeError(f"{where}.{name}", f"{value_text(value)} is not an integer of 32 bits")
        return value

    def pointer(self, obj: dict[str, Any], name: str, where: str) -> int | None:
        value = obj.get(name)
        if value is None:
            return None
        if type(value) is not int or not 0 < value <= _PVOID:
            raise DecodeError(f"{where}.{name}", f"{value_text(value)} is neither nil nor a 64-bit address")
        return value

    def reserved(self, obj: dict[str, Any], name: str, size: int, where: str) -> list[int | None] | None:
        value = obj.get(name)
        if value is None:
            return None
        if type(value) is not list or len(value) != size:
            raise DecodeError(f"{where}.{name}", f"an array of {size} pointers is expected")
        for i, pointer in enumerate(value):
            if pointer is not None and (type(pointer) is not int or not 0 <= pointer <= _PVOID):
                raise DecodeError(
                    f"{where}.{name}[{i}]", f"{value_text(pointer)} is neither nil nor a 64-bit address"
                )
        return value

    def nbl(self, entry: object, where: str) -> tuple[NetBufferList, int | None]:
        obj, address = self.map(entry, _NBL_KEYS, "NetBufferList", where)
        nbl = NetBufferList(
            address,
            status=self.number(obj, "Status", where),
            source_handle=self.pointer(obj, "SourceHandle", where),
            scratch=self.pointer(obj, "Scratch", where),
            flags=self.number(obj, "Flags", where),
        )
        nbl.miniport_reserved = self.reserved(obj, "MiniportReserved", 2, where) or nbl.miniport_reserved
        nbl.protocol_reserved = self.reserved(obj, "ProtocolReserved", 4, where) or nbl.protocol_reserved
        if "NetBufferListInfo" in obj:
            nbl.net_buffer_list_info = self.info(obj["NetBufferListInfo"], f"{where}.NetBufferListInfo")
        last: NetBuffer | None = None
        promised = self.pointer(obj, "FirstNetBuffer", where)
        place = f"{where}.FirstNetBuffer"
        for i, item in enumerate(self.array(obj.get("NetBuffers", []), f"{where}.NetBuffers")):
            at = f"{where}.NetBuffers[{i}]"
            nb, following = self.net_buffer(item, at)
            _agrees(promised, nb.address, place)
            if last is None:
                nbl.first_net_buffer = nb
            else:
                last.next = nb
            last, promised, place = nb, following, f"{at}.Next"
        _agrees(promised, None, place)
        return nbl, self.pointer(obj, "Next", where)

    def info(self, obj: object, where: str) -> dict[int, int]:
        if type(obj) is not dict:
            raise DecodeError(where, f"a map is expected, not {type(obj).__name__}")
        slots: dict[int, int] = {}
        for name, value in obj.items():
            slot = _INFO_SLOTS.get(name)
            if slot is None:
                raise DecodeError(f"{where}.{name}", "is not a slot of the chimney")
            if type(value) is not int or not 0 <= value <= _PVOID:
                raise DecodeError(f"{where}.{name}", f"{value_text(value)} is not a 64-bit number")
            slots[slot] = value
        return slots

    def net_buffer(self, entry: object, where: str) -> tuple[NetBuffer, int | None]:
        obj, address = self.map(entry, _NB_KEYS, "NetBuffer", where)
        first: Mdl | None = None
        last: Mdl | None = None
        current: Mdl | None = None
        before = total = 0
        current_address = self.pointer(obj, "CurrentMdl", where)
        promised = self.pointer(obj, "MdlChain", where)
        place = f"{where}.MdlChain"
        for i, item in enumerate(self.array(obj.get("Mdls", []), f"{where}.Mdls")):
            at = f"{where}.Mdls[{i}]"
            mdl, following = self.mdl(item, at)
            _agrees(promised, mdl.address, place)
            if last is None:
                first = mdl
            else:
                last.next = mdl
            if mdl.address == current_address:
                current, before = mdl, total
            total += mdl.byte_count
            last, promised, place = mdl, following, f"{at}.Next"
        _agrees(promised, None, place)
        if current is None and current_address is not None:
            raise DecodeError(f"{where}.CurrentMdl", f"{current_address:#x} is not an MDL of this net buffer")
        nb = NetBuffer(
            address,
            current_mdl=current,
            current_mdl_offset=self.number(obj, "CurrentMdlOffset", where),
            data_length=self.number(obj, "DataLength", where),
            mdl_chain=first,
            data_offset=self.number(obj, "DataOffset", where),
        )
        if current is None and nb.data_length:
            raise DecodeError(f"{where}.CurrentMdl", f"is NULL, DataLength is {nb.data_length}")
        start = before + nb.current_mdl_offset
        if start != nb.data_offset:
            reason = f"is {nb.data_offset}, CurrentMdl and CurrentMdlOffset say {start}"
            raise DecodeError(f"{where}.DataOffset", reason)
        if start + nb.data_length > total:
            reason = f"{nb.data_length} bytes from {start} on, the MDLs hold {total}"
            raise DecodeError(f"{where}.DataLength", reason)
        return nb, self.pointer(obj, "Next", where)

    def mdl(self, entry: object, where: str) -> tuple[Mdl, int | None]:
        obj, address = self.map(entry, _MDL_KEYS, "Mdl", where)
        count = self.number(obj, "ByteCount", where)
        data: Data | None = None
        if "Frame" in obj:
            index = obj["Frame"]
            if type(index) is not int or not 0 <= index < len(self.frames) or index in self.used_frames:
                came = len(self.frames)
                reason = f"frame {value_text(index)} is missing or already claimed ({came} came)"
                raise DecodeError(f"{where}.Frame", reason)
            self.used_frames.add(index)
            data = self.frames[index]
            if len(data) > count:
                raise DecodeError(f"{where}.Frame", f"{len(data)} bytes, ByteCount is {count}")
        mdl = Mdl(address, byte_count=count, byte_offset=self.number(obj, "ByteOffset", where), data=data)
        return mdl, self.pointer(obj, "Next", where)
