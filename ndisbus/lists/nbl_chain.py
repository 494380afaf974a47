"""Net buffer lists in transit: the part that NDIS reads, and the rest as unread memory.

An I/O call carries a chain of NET_BUFFER_LISTs. NDIS and intermediate drivers read the addresses,
SourceHandle and, on the way up, Status. Everything else (net buffers, MDLs, their bytes) is *attached*:
descriptors that they pass on unread, and payload frames that they forward without a copy.

Block lists carry attachments too: NetBufferListChain of a block and BufferedData of a delegated state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from ndisbus.errors import DecodeError
from ndisbus.lists.frame_lists import LENGTHS, PACKET_SIZE, Packets
from ndisbus.lists.heap import Heap
from ndisbus.lists.nbl import (
    Data,
    NetBufferList,
    chain_from_wire,
    chain_to_wire,
    data_of,
    iter_chain,
    iter_net_buffers,
)

__all__ = ["Attachments", "NblChain", "chain_addresses", "check_nbl_columns"]

_LISTS: Final = "NetBufferLists"
_COLUMN: Final = "NetBufferList"
_COLUMNS: Final = frozenset(("NetBufferList", "SourceHandle", "Status", "Context", _LISTS))


class Attachments:
    """Net buffer list chains that travel with a call: descriptors and payload frames.

    ``wire`` is an array of chains, each an array of NET_BUFFER_LIST maps. ``frames`` has the bytes that their
    MDLs describe. :meth:`read` makes objects of them; until then nothing is parsed or copied.
    """

    __slots__ = ("_objects", "frames", "wire")

    def __init__(self, wire: list[Any], frames: Sequence[bytes]) -> None:
        self.wire = wire
        self.frames = frames
        self._objects: dict[int, NetBufferList] | None = None

    @classmethod
    def of(cls, chains: Iterable[NetBufferList]) -> Attachments:
        """Return attachments that carry these chains (first list of each) with their data."""
        frames: list[bytes] = []
        out = cls([chain_to_wire(first, frames) for first in chains], frames)
        return out

    def read(self) -> dict[int, NetBufferList]:
        """Return the lists by address. Raises :class:`DecodeError` for malformed descriptors."""
        if self._objects is None:
            objects: dict[int, NetBufferList] = {}
            for i, chain in enumerate(self.wire):
                first = chain_from_wire(chain, f"{_LISTS}[{i}]", self.frames)
                for nbl in iter_chain(first):
                    if nbl.address in objects:
                        raise DecodeError(f"{_LISTS}[{i}]", f"{nbl.address:#x} is in two chains")
                    objects[nbl.address] = nbl
            self._objects = objects
        return self._objects


class NblChain:
    """The NetBufferList parameter of an I/O call.

    ``addresses`` are the lists of the chain in order. ``source_handle`` is NDIS's routing value, the same in
    each list. ``statuses`` is set on completion, one per list. The contents are in ``attachments``, or in
    ``packets`` on the ordinary data path; both are None if only the pointers travel.
    """

    __slots__ = ("addresses", "attachments", "context", "packets", "source_handle", "statuses")

    def __init__(
        self,
        addresses: list[int],
        attachments: Attachments | None = None,
        *,
        source_handle: int | None = None,
        statuses: list[int] | None = None,
        packets: Packets | None = None,
    ) -> None:
        self.addresses = addresses
        self.attachments = attachments
        self.packets = packets
        self.source_handle = source_handle
        self.statuses = statuses
        #: NET_BUFFER_LIST.Context: the context that a driver left in the list, such as its IM call entry.
        self.context: int | None = None

    @classmethod
    def of(cls, first: NetBufferList) -> NblChain:
        """Return the chain that starts at this list, with its data attached."""
        lists = list(iter_chain(first))
        return cls(
            [x.address for x in lists],
            Attachments.of([first]),
            source_handle=first.source_handle,
            statuses=[x.status for x in lists],
        )

    @classmethod
    def of_frames(cls, heap: Heap, frames: Sequence[Data], *, source_handle: int | None = None) -> NblChain:
        """Return new lists with one whole frame each, for the ordinary data path. No frame may be empty."""
        addresses = list(heap.addresses(len(frames), PACKET_SIZE))
        return cls(addresses, source_handle=source_handle, packets=Packets.of(frames))

    @property
    def address(self) -> int:
        """The PNET_BUFFER_LIST that was passed: the first list."""
        return self.addresses[0]

    def lists(self) -> list[NetBufferList]:
        """Return the lists as objects, in order. Raises :class:`DecodeError` for malformed descriptors."""
        if self.packets is not None:
            return self.packets.lists(self.addresses, self.source_handle)
        objects = self.attachments.read() if self.attachments else {}
        return [objects[a] for a in self.addresses]

    def frames(self) -> list[bytes]:
        """Return the data of every net buffer. On the ordinary data path each is a frame.

        Raises :class:`DecodeError` for malformed descriptors, :class:`LocalProtocolError` for data that did
        not come along.
        """
        if self.packets is not None:
            return self.packets.frames()
        return [data_of(nb) for nbl in self.lists() for nb in iter_net_buffers(nbl)]

    def pointers(self) -> NblChain:
        """Return the same lists as they go back: addresses, SourceHandle and Status, without contents."""
        out = NblChain(self.addresses, source_handle=self.source_handle, statuses=self.statuses)
        out.context = self.context
        return out

    def __len__(self) -> int:
        return len(self.addresses)

    def __repr__(self) -> str:
        return f"<NET_BUFFER_LIST {self.address:#x}, chain of {len(self)}>"

    def to_wire(self) -> tuple[dict[str, Any], Sequence[bytes]]:
        """Return the columns for the wire, and the payload frames that belong to them."""
        cols: dict[str, Any] = {"NetBufferList": self.addresses}
        if self.source_handle is not None:
            cols["SourceHandle"] = self.source_handle
        if self.statuses is not None:
            cols["Status"] = self.statuses
        if self.context is not None:
            cols["Context"] = self.context
        if self.packets is not None:
            cols[LENGTHS] = self.packets.lengths
            return cols, (self.packets.data,)
        if self.attachments is None:
            return cols, ()
        cols[_LISTS] = self.attachments.wire
        return cols, self.attachments.frames

    @classmethod
    def from_wire(cls, cols: dict[str, Any], frames: Sequence[bytes]) -> NblChain:
        """Return a chain from checked columns (see :func:`check_nbl_columns`)."""
        wire, lengths = cols.get(_LISTS), cols.get(LENGTHS)
        out = cls(
            cols["NetBufferList"],
            Attachments(wire, frames) if wire is not None else None,
            source_handle=cols.get("SourceHandle"),
            statuses=cols.get("Status"),
            packets=Packets(lengths, frames[0]) if lengths is not None else None,
        )
        out.context = cols.get("Context")
        return out


def check_nbl_columns(obj: object, where: str) -> dict[str, Any]:
    """Check the part of a NetBufferList parameter that NDIS reads. Raises :class:`DecodeError`."""
    if type(obj) is not dict:
        raise DecodeError(where, f"a map expected, got {type(obj).__name__}")
    for key in obj:
        if key not in _COLUMNS:
            raise DecodeError(f"{where}.{key}", "unknown member")
    lists = obj.get("NetBufferList")
    if type(lists) is not list or not lists or any(type(a) is not int or a <= 0 for a in lists):
        raise DecodeError(f"{where}.NetBufferList", "a non-empty array of pointers expected")
    if len(set(lists)) != len(lists):
        raise DecodeError(f"{where}.NetBufferList", "a list stands twice in the chain (cycle)")
    statuses = obj.get("Status")
    if statuses is not None and (
        type(statuses) is not list
        or len(statuses) != len(lists)
        or any(type(s) is not int or not 0 <= s < 1 << 32 for s in statuses)
    ):
        raise DecodeError(f"{where}.Status", "one NDIS_STATUS per list expected")
    for key in ("SourceHandle", "Context"):
        value = obj.get(key)
        if value is not None and (type(value) is not int or value < 0):
            raise DecodeError(f"{where}.{key}", "a pointer or nil expected")
    if obj.get(_LISTS) is not None and type(obj[_LISTS]) is not list:
        raise DecodeError(f"{where}.{_LISTS}", "array expected")
    return obj


def chain_addresses(wire: Any, where: str) -> dict[int, list[int]]:
    """Return the addresses of attached lists, chain by chain, by the address of the first list.

    Nothing else is read. ``wire``: see :attr:`Attachments.wire`. Raises :class:`DecodeError`.
    """
    out: dict[int, list[int]] = {}
    seen: set[int] = set()
    for i, chain in enumerate(wire):
        if type(chain) is not list or not chain or any(type(nbl) is not dict for nbl in chain):
            raise DecodeError(f"{where}[{i}]", "a non-empty array of maps expected")
        addresses = [nbl.get(_COLUMN) for nbl in chain]
        if any(type(a) is not int or a <= 0 for a in addresses):
            raise DecodeError(f"{where}[{i}].{_COLUMN}", "pointers expected")
        if len(seen) + len(addresses) != len(seen.union(addresses)):
            raise DecodeError(f"{where}[{i}]", "a list stands in two places")
        seen.update(addresses)
        out[addresses[0]] = addresses
    return out
