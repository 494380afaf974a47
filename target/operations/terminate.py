"""MiniportTerminateOffload: give objects back to the host and free what they held (R-TERM-06, R-TERM-07).

The order of steps:

1. From its arrival on, new I/O requests on the connections are completed at once (R-TERM-11).
2. When its latency is over and no receive indication is running (R-TERM-09), posted requests are completed
   (R-TERM-08). Outstanding send data is handed back in NetBufferListChain instead (R-OSD-11, R-OSD-12,
   R-DIS-16).
3. Delegated state and Status are written, and the list is completed.
4. Everything is freed.

A path or neighbor is terminated together with everything that depends on it, or later (R-TERM-02).
"""

from __future__ import annotations

from functools import cache, partial
from struct import Struct
from typing import Final

from ndisbus.ddi.state_types import Layer
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.pace import paced
from ndisbus.driver.sizes import list_bytes
from ndisbus.lists.blocklist import BlockList, Key, values
from ndisbus.lists.nbl import NetBufferList, iter_mdls, iter_net_buffers
from ndisbus.lists.nbl_chain import Attachments
from ndisbus.state.images import PathOffloadStateConst, state_size, structures_of
from target.data import completion, frames, machines
from target.hardware.adapter import Adapter
from target.model.contexts import Context, NeighborContext, PathContext, TcpContext
from target.model.life import LIFE, Event, Life
from target.model.posted import TcpIo
from target.operations import hardware_failure
from target.operations.lists import FAILURE, fits, named, slice_of

__all__ = ["terminate_offload"]

_TAIL: Final = Struct("<QQQ")  # SendDataHead, SendDataTail, BufferedData: the last 24 bytes of a TCP state
_DELEGATED: Final = frozenset((3, 7, 11, 15))
_WHOLE: Final = frozenset((4, 8, 12, 17))
#: Bytes of the delegated structure at the end of a whole state.
_DELEGATED_SIZE: Final = {whole: state_size(whole - 1) for whole in (4, 8, 12)} | {17: state_size(15)}
_TCP_TYPES: Final = frozenset((15, 17))


def terminate_offload(adapter: Adapter, block_list: BlockList) -> None:
    """Begin a terminate."""
    if not fits(adapter, block_list, adapter.ndis.m_terminate_offload_complete):
        return
    job = _Terminate(adapter, block_list)
    adapter.pipeline.submit(job.finish, adapter.ndis.now(), partial(_may_finish, adapter))


def _may_finish(adapter: Adapter) -> bool:
    return not adapter.indicating


class _Terminate:
    """One terminate, from its arrival until its objects are freed."""

    def __init__(self, adapter: Adapter, block_list: BlockList) -> None:
        self.adapter = adapter
        self.list = block_list
        self.found, self.statuses = named(adapter, block_list)
        #: Objects whose failure was reported: this terminate ends them (R-HWF-01).
        self.known_lost: set[int] = set()
        #: Indexes of the blocks that name objects, the highest layer first.
        self.order = by_layer(self.found)
        self._begin()

    def _begin(self) -> None:
        """Step the life of every object, the highest layer first. An object ends if all its dependents do."""
        step = LIFE.column(Event.TERMINATE)
        found = self.found
        #: Number of an object's dependents in this list, by the object's address.
        going: dict[int, int] = {}
        for i in paced(self.order, self.adapter.ndis.working):
            obj = found[i]
            assert obj is not None
            life = obj.life
            following = step.get(life)
            if following is None:
                self._refuse(i, f"{Event.TERMINATE.value} is not legal in state {life.value}")
                continue
            if not isinstance(obj, TcpContext) and len(obj.dependents) > going.get(obj.address, 0):
                self._refuse(i, "terminate of an object that others depend on")
                continue
            if life is Life.LOST:
                self.known_lost.add(obj.address)
            obj.life = following
            below = below_of(obj)
            if below is not None:
                going[below.address] = going.get(below.address, 0) + 1

    def _refuse(self, i: int, reason: str) -> None:
        self.adapter.refuse(reason)
        self.found[i], self.statuses[i] = None, FAILURE

    def finish(self) -> None:
        """Complete posted requests, write state and Status, complete the list, and free the objects."""
        adapter, columns, statuses = self.adapter, self.list.columns, self.statuses
        n = len(self.found)
        types = values(columns.get(Key.TYPE, 0), n)
        states = list(values(columns.get(Key.STATE), n))
        chains: list[int | None] = [None] * n
        attached: list[NetBufferList] = []
        lost = self._lost()
        keep = (
            {obj.address for obj in lost if isinstance(obj, TcpContext)}
            if adapter.config.fail_terminate_twice
            else set()
        )
        held: list[bytes] = []
        room = adapter.ndis.largest_list - list_bytes(n)
        working = adapter.ndis.working
        for i, obj in paced(enumerate(self.found), working):
            if obj is None:
                continue
            if isinstance(obj, TcpContext) and obj.io is not None:
                size = self._data_bytes(obj.io)
                if size <= room:
                    room -= size
                else:
                    adapter.refuse("data of a connection does not fit into the message of its terminate")
                    obj.corrupt = True
            if obj.corrupt:
                statuses[i] = FAILURE
                if isinstance(obj, TcpContext) and obj.address not in keep:
                    completion.finish_all(adapter, obj, NdisStatus.REQUEST_ABORTED)
                continue
            if isinstance(obj, TcpContext) and obj.flow is not None:
                obj.flow.hand_over(adapter.ndis.now())
            part = slice_of(obj, types[i])
            head = tail = buffered = 0
            if isinstance(obj, TcpContext) and obj.io is not None:
                head, tail, buffered, chains[i] = self._give_back(obj, attached)
                held += obj.io.held
            if part is None:
                # No state was asked for. The object ends nevertheless.
                continue
            if types[i] in _DELEGATED or types[i] in _WHOLE:
                states[i] = self._state(obj, types[i], part, states[i], (head, tail, buffered))
        going, staying = self._end_of_each(keep)
        adapter.ndis.working()
        columns[Key.STATE] = states
        columns[Key.NBL_CHAIN] = chains
        columns[Key.STATUS] = statuses
        self.list.attachments = Attachments.of(attached) if attached else None
        adapter.ndis.m_terminate_offload_complete(adapter.handle, self.list)
        for obj in paced(going, working):
            obj.step(Event.TERMINATED)
            adapter.free(obj)
        hardware_failure.lose(adapter, [obj for obj in staying if obj.address in keep])
        if held:
            frames.receive(adapter, held)  # R-IP-08
        adapter.after_terminate()

    def _lost(self) -> list[Context]:
        """Objects whose corruption this terminate detects first. A knob may have caused it."""
        return [
            obj
            for obj in hardware_failure.find_lost(self.adapter, "terminate", self.found)
            if obj.address not in self.known_lost
        ]

    def _end_of_each(self, keep: set[int]) -> tuple[list[Context], list[Context]]:
        """Return the objects that end now, highest layer first, and those that stay.

        A connection in ``keep`` waits for another terminate. A path or neighbor below it has to stay too: its
        terminate fails, and it ends with the last connection that depends on it (R-DIS-43).
        """
        going: list[Context] = []
        staying: list[Context] = []
        held: set[int] = set()
        for i in paced(self.order, self.adapter.ndis.working):
            obj = self.found[i]
            if obj is None:
                continue
            if obj.address in keep or obj.address in held:
                staying.append(obj)
                self.statuses[i] = FAILURE
                obj.released = not isinstance(obj, TcpContext)
                below = below_of(obj)
                if below is not None:
                    held.add(below.address)
            else:
                going.append(obj)
        return going, staying

    def _give_back(self, tcp: TcpContext, attached: list[NetBufferList]) -> tuple[int, int, int, int | None]:
        """Return SendDataHead, SendDataTail, BufferedData (0: NULL) and NetBufferListChain of a connection.

        A connection that was reset gives back only undelivered data.
        """
        adapter = self.adapter
        assert tcp.io is not None
        head = tail = buffered = 0
        chain: int | None = None
        if tcp.aborted:
            completion.finish_all(adapter, tcp, NdisStatus.REQUEST_ABORTED)
        completion.finish_receives(adapter, tcp, NdisStatus.UPLOAD_IN_PROGRESS)
        completion.finish_rest(adapter, tcp, NdisStatus.UPLOAD_IN_PROGRESS)
        if tcp.io.sends:
            first, with_data = completion.take_sends(tcp)
            attached.append(first)
            chain = first.address
            head, tail = with_data[0], with_data[-1]
        if tcp.io.buffered:
            nbl = adapter.chimney_pool.lend(bytes(tcp.io.buffered))
            attached.append(nbl)
            buffered = nbl.address
        return head, tail, buffered, chain

    @staticmethod
    def _data_bytes(io: TcpIo) -> int:
        """Return the most bytes that the data of a connection adds to a message."""
        pieces = [
            mdl.byte_count
            for posted in io.sends
            for nb in iter_net_buffers(posted.nbl)
            for mdl in iter_mdls(nb.mdl_chain)
        ]
        if io.buffered:
            pieces.append(len(io.buffered))
        return list_bytes(0, pieces)

    def _state(
        self, obj: Context, state_type: int, part: slice, given: bytes | None, pointers: tuple[int, int, int]
    ) -> bytes:
        """Return the structures behind a block: our delegated values, the others as the host supplied them.

        Constant and cached variables belong to the host and are not handed back (R-STATE-02, R-STATE-03).
        """
        image = machines.current_image(self.adapter, obj)[part]
        if state_type in _TCP_TYPES:
            image = image[:-24] + _TAIL.pack(*pointers)
        if state_type in _DELEGATED:
            return image
        delegated = _DELEGATED_SIZE[state_type]
        kept = given if given is not None and len(given) == len(image) else _blank(state_type)
        return kept[:-delegated] + image[-delegated:]


def by_layer(found: list[Context | None]) -> list[int]:
    """Return the indexes of the objects in a list: connections first, then paths, then neighbors."""
    indexes: dict[Layer, list[int]] = {Layer.TCP: [], Layer.PATH: [], Layer.NEIGHBOR: []}
    for i, obj in enumerate(found):
        if obj is not None:
            indexes[obj.layer].append(i)
    return [i for group in indexes.values() for i in group]


def below_of(obj: Context) -> PathContext | NeighborContext | None:
    """Return the object that an object depends on."""
    if isinstance(obj, TcpContext):
        return obj.path
    return obj.neighbor if isinstance(obj, PathContext) else None


@cache
def _blank(state_type: int) -> bytes:
    """Return empty structures of a whole type, for a block that came without state."""
    pieces = []
    for structure in structures_of(state_type):
        if structure is PathOffloadStateConst:
            address = bytes(16 if state_type == 12 else 4)
            pieces.append(PathOffloadStateConst(address, address).pack())
        else:
            pieces.append(structure().pack())
    return b"".join(pieces)
