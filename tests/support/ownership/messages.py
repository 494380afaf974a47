"""The messages under way in a simulation: on which hop each is, and the lists and bytes that it carries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ndisbus.ddi.call_rows import IO_OPERATIONS, STATE_OPERATIONS
from ndisbus.ddi.enums import NetBufferListInfo
from ndisbus.ddi.status import NdisStatus
from ndisbus.hop import Hop
from ndisbus.lists.blocklist import Key, values
from ndisbus.lists.nbl import NetBufferList, data_of, iter_chain, iter_mdls, iter_net_buffers
from ndisbus.lists.nbl_chain import Attachments
from ndisbus.messages.codec import decode_packet
from ndisbus.sim import Simulation

__all__ = ["Block", "IoMessage", "ListMessage", "Place", "UnderWay", "bytes_placed", "under_way"]

_TAKEN: Final = frozenset((int(NdisStatus.SUCCESS), int(NdisStatus.OFFLOAD_PARTIAL_SUCCESS)))
_DOWN: Final = {name: o.op for o in STATE_OPERATIONS for name in (o.request, o.handler)}
_UP: Final = {name: o.op for o in STATE_OPERATIONS for name in (o.completion, o.completion_handler)}
_IO_DOWN: Final = {name: o.op for o in IO_OPERATIONS for name in (o.request, o.handler)}
_IO_UP: Final = {name: o.op for o in IO_OPERATIONS for name in (o.completion, o.completion_handler)}
#: BufferedData: the last member of a TCP state.
_POINTER: Final = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is. ``level``: between the layers whose numbers (0: the target) are next to it."""

    name: str
    level: float

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a list under way. ``lists``: the send data at its NetBufferListChain, if attached."""

    taken: bool
    lists: tuple[int, ...]
    buffered: bytes


@dataclass(frozen=True, slots=True)
class ListMessage:
    """A block list under way. ``root``: the address of its first block, the same on all hops."""

    place: Place
    op: str
    down: bool
    root: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class IoMessage:
    """An I/O request or its completion under way. ``data``: received bytes, by the address of the list."""

    place: Place
    op: str
    down: bool
    lists: tuple[int, ...]
    data: dict[int, bytes]


UnderWay = ListMessage | IoMessage


def under_way(sim: Simulation, layers: Sequence[str]) -> list[UnderWay]:
    """Return what is under way, from the highest of ``layers`` to the lowest; the oldest of a hop first.

    ``layers``: names of processes, the lowest first. Only messages that carry lists or bytes count.
    """
    found: list[UnderWay] = []
    for number, name in reversed(list(enumerate(layers))):
        process = sim.processes[name]
        # What goes up and has passed this process is nearer to the top than what has not.
        found += _messages(process.to_bus, f"way from {name} to the bus", number, left=True)
        found += _messages(process.to_driver, f"way from the bus to {name}", number, left=False)
    return found


def _messages(hop: Hop, name: str, number: int, *, left: bool) -> Iterator[UnderWay]:
    """The messages on one hop of layer ``number``. ``left``: whether they come from that layer."""
    places = {down: Place(name, number - 0.25 if down is left else number + 0.25) for down in (True, False)}
    for head, payload in hop:
        for message, frames in decode_packet([head, *payload]):
            call, args = message[0], message[2]
            if call in _DOWN or call in _UP:
                columns = next(a for a in args if isinstance(a, dict))
                yield _block_list(places[call in _DOWN], call, columns, frames)
            elif call in _IO_DOWN or call in _IO_UP:
                columns = next(a for a in args if isinstance(a, dict))
                yield _io(places[call in _IO_DOWN], call, columns, frames)


def _block_list(place: Place, call: str, columns: dict[str, Any], frames: Sequence[bytes]) -> ListMessage:
    n = len(columns[Key.BLOCK])
    wire = columns.get("NetBufferLists")
    attached = Attachments(wire, frames).read() if wire is not None else {}
    statuses = values(columns.get(Key.STATUS, 0), n)
    states = values(columns.get(Key.STATE), n)
    chains = values(columns.get(Key.NBL_CHAIN), n)
    blocks = []
    for status, state, chain in zip(statuses, states, chains, strict=True):
        first = attached.get(chain) if chain is not None else None
        buffered = attached.get(int.from_bytes((state or b"")[-_POINTER:], "little"))
        blocks.append(
            Block(
                status in _TAKEN,
                tuple(x.address for x in iter_chain(first)),
                b"".join(data_of(nb) for x in iter_chain(buffered) for nb in iter_net_buffers(x)),
            )
        )
    down = call in _DOWN
    return ListMessage(place, (_DOWN if down else _UP)[call], down, columns[Key.BLOCK][0], tuple(blocks))


def _io(place: Place, call: str, columns: dict[str, Any], frames: Sequence[bytes]) -> IoMessage:
    down = call in _IO_DOWN
    op = (_IO_DOWN if down else _IO_UP)[call]
    data: dict[int, bytes] = {}
    wire = columns.get("NetBufferLists")
    if op == "receive" and not down and wire is not None:
        found = Attachments(wire, frames).read()
        statuses = columns.get("Status") or [0] * len(columns["NetBufferList"])
        for address, status in zip(columns["NetBufferList"], statuses, strict=True):
            if status == NdisStatus.SUCCESS and address in found:
                data[address] = bytes_placed(found[address])
    return IoMessage(place, op, down, tuple(columns["NetBufferList"]), data)


def bytes_placed(nbl: NetBufferList, count: int | None = None) -> bytes:
    """Return the received bytes in a list of a receive request; ``count``: how many, if it does not say."""
    if count is None:
        count = nbl.net_buffer_list_info.get(NetBufferListInfo.TcpOffloadBytesTransferred, 0)
    pieces = [bytes(m.data or b"") for nb in iter_net_buffers(nbl) for m in iter_mdls(nb.mdl_chain)]
    return b"".join(pieces)[:count]
