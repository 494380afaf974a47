"""Packets: whole frames of the ordinary data path, one per net buffer list, packed for the wire.

A call of the ordinary data path carries many short lists. Nearly all are of one kind: a NET_BUFFER_LIST with
one NET_BUFFER, whose only MDL is the frame. Their contents travel packed: a column of lengths, and one
payload frame with all frames one after the other. NDIS and intermediate drivers pass it on unread and without
a copy. A list at address A has its NET_BUFFER at A + 0x10 and its MDL at A + 0x20. Lists of any other kind
travel as those of the chimney do (:mod:`ndisbus.lists.nbl_chain`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from ndisbus.errors import DecodeError
from ndisbus.lists.nbl_objects import Data, Mdl, NetBuffer, NetBufferList, chain

__all__ = ["LENGTHS", "PACKET_SIZE", "Packets", "check_packet_columns"]

#: The column of lengths.
LENGTHS: Final = "DataLength"
#: Bytes of memory of a list with its net buffer and MDL.
PACKET_SIZE: Final = 0x30
_NB_AT: Final = 0x10
_MDL_AT: Final = 0x20
_LISTS: Final = "NetBufferLists"
_COLUMNS: Final = frozenset(("NetBufferList", "SourceHandle", "Status", "Context", LENGTHS, _LISTS))
_INTEGERS: Final = {int}
_POINTERS: Final = ("SourceHandle", "Context")


class Packets:
    """The contents of some lists: ``lengths`` in bytes, and ``data`` with the frames one after the other."""

    __slots__ = ("data", "lengths")

    def __init__(self, lengths: list[int], data: Any) -> None:
        self.lengths = lengths
        self.data = data

    @classmethod
    def of(cls, frames: Sequence[Data]) -> Packets:
        """Join frames. None of them may be empty."""
        return cls(list(map(len, frames)), frames[0] if len(frames) == 1 else b"".join(frames))

    def frames(self) -> list[bytes]:
        """Return the frames, each as its own bytes."""
        data = self.data if type(self.data) is bytes else bytes(self.data)
        if len(self.lengths) == 1:
            return [data]
        ends = accumulate(self.lengths)
        return [data[end - n : end] for n, end in zip(self.lengths, ends, strict=True)]

    def lists(self, addresses: Sequence[int], source_handle: int | None) -> list[NetBufferList]:
        """Return the lists as objects, linked to each other."""
        out = []
        for a, frame in zip(addresses, self.frames(), strict=True):
            mdl = Mdl(a + _MDL_AT, data=frame)
            nb = NetBuffer(a + _NB_AT, current_mdl=mdl, mdl_chain=mdl, data_length=len(frame))
            out.append(NetBufferList(a, first_net_buffer=nb, source_handle=source_handle))
        chain(out)
        return out


def check_packet_columns(
    obj: object, where: str, frames: Sequence[Any], *, contents: bool
) -> tuple[dict[str, Any], list[int]]:
    """Check the columns of a call of the ordinary data path. Returns the columns and the addresses.

    ``contents``: whether the contents must come along (a send, an indication) or must not (a completion, a
    return). Raises :class:`DecodeError`. The cost is a few passes over the columns in C.
    """
    if type(obj) is not dict:
        raise DecodeError(where, f"a map expected, got {type(obj).__name__}")
    if not obj.keys() <= _COLUMNS:
        unknown = min(obj.keys() - _COLUMNS)
        raise DecodeError(f"{where}.{unknown}", "unknown member")
    lists = obj.get("NetBufferList")
    if type(lists) is not list or not lists or set(map(type, lists)) != _INTEGERS or min(lists) <= 0:
        raise DecodeError(f"{where}.NetBufferList", "a non-empty array of pointers expected")
    if len(set(lists)) != len(lists):
        raise DecodeError(f"{where}.NetBufferList", "a list stands twice in the chain (cycle)")
    for key in _POINTERS:
        value = obj.get(key)
        if value is not None and (type(value) is not int or value < 0):
            raise DecodeError(f"{where}.{key}", "a pointer or nil expected")
    statuses = obj.get("Status")
    if statuses is not None and not _numbers(statuses, len(lists)):
        raise DecodeError(f"{where}.Status", "one NDIS_STATUS per list expected")
    lengths, described = obj.get(LENGTHS), obj.get(_LISTS)
    if not contents:
        if frames or lengths is not None or described is not None:
            raise DecodeError(where, "the contents of lists that go back do not travel")
        return obj, lists
    if lengths is not None:
        if described is not None:
            raise DecodeError(f"{where}.{_LISTS}", f"stands beside {LENGTHS}")
        if not _numbers(lengths, len(lists)) or not min(lengths):
            raise DecodeError(f"{where}.{LENGTHS}", "one length per list expected, none of them 0")
        if len(frames) != 1 or len(frames[0]) != sum(lengths):
            sizes = ", ".join(str(len(f)) for f in frames[:8])
            raise DecodeError(
                f"{where}.{LENGTHS}", f"{sum(lengths)} bytes in one payload frame expected, got [{sizes}]"
            )
    elif type(described) is not list:
        raise DecodeError(where, f"neither {LENGTHS} nor {_LISTS} says what is in the lists")
    return obj, lists


def _numbers(column: object, count: int) -> bool:
    """Return whether a column has one integer of 32 bits per list."""
    return (
        type(column) is list
        and len(column) == count
        and set(map(type, column)) == _INTEGERS
        and min(column) >= 0
        and max(column) < 1 << 32
    )
