"""MiniportInitiateOffload: take over as much of a tree as fits.

The traversal is depth first (R-TREE-08, R-TREE-10): a block, its dependents, its next block. If a block
fails, its dependents are skipped and fail with it, and its next block is tried (R-DIS-02). If the root fails,
everything fails (R-PART-01). The Status of a block with dependents follows from theirs, one layer up and no
further (R-INIT-04, R-INIT-05, R-PART-05, R-TREE-05).

Where the DDI pages say nothing: a linker that fails because all its dependents failed counts as a failed
dependent of the linker below it, and a placeholder counts neither as a success nor as a failure.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any, Final

from ndisbus.ddi.state_types import Layer, OffloadStateType
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.pace import STEP, paced
from ndisbus.errors import ChimneyError
from ndisbus.lists.blocklist import BlockList, Key, values
from ndisbus.lists.nbl import NetBufferList, data_of, iter_chain, iter_net_buffers
from target.data import machines
from target.hardware.adapter import Adapter
from target.model.contexts import Context, NeighborContext, PathContext, TcpContext
from target.model.life import LIFE, Event, Life
from target.model.posted import Posted
from target.operations.admission import Refusal, TcpPeek, admit_neighbor, admit_path, admit_tcp, peek_tcp
from target.operations.lists import fail_all

__all__ = ["initiate_offload", "refuse", "start"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
_PARTIAL: Final = int(NdisStatus.OFFLOAD_PARTIAL_SUCCESS)
_FAILURE: Final = int(NdisStatus.FAILURE)
_TCP: Final = int(OffloadStateType.TcpOffloadState)
_NEIGHBOR: Final = int(OffloadStateType.NeighborOffloadState)
_PATHS: Final = frozenset((int(OffloadStateType.Ip4OffloadState), int(OffloadStateType.Ip6OffloadState)))
#: States of an object to which new objects may be attached.
_ATTACHABLE: Final = frozenset((Life.OFFLOADING, Life.OFFLOADED, Life.UPDATING))
_NOT_WHOLE: Final = Refusal(NdisStatus.FAILURE, "block type is not that of a whole layer")
_NO_PARENT: Final = Refusal(NdisStatus.FAILURE, "block is not below an object of the right layer")
_NO_OBJECT: Final = Refusal(NdisStatus.FAILURE, "linker does not name an offloaded object")
_WRONG_LINK: Final = Refusal(NdisStatus.FAILURE, "linker is below an object it does not depend on")
_UNREADABLE: Final = Refusal(NdisStatus.FAILURE, "data that came with the connection cannot be read")
_NOT_ATTACHABLE: Final = Refusal(NdisStatus.FAILURE, "linker's object is invalid, lost or being terminated")


def initiate_offload(adapter: Adapter, block_list: BlockList) -> None:
    """Begin an initiate, or queue it while offloading is paused (R-PAUSE-02)."""
    if adapter.departing:
        refuse(adapter, block_list)
    elif adapter.paused:
        adapter.queued.append(block_list)
    else:
        start(adapter, block_list)


def refuse(adapter: Adapter, block_list: BlockList) -> None:
    """Complete an initiate that will not be carried out."""
    fail_all(adapter, block_list, adapter.ndis.m_initiate_offload_complete)


def start(adapter: Adapter, block_list: BlockList) -> None:
    """Begin an initiate: take over the objects now, complete it later (R-INIT-17)."""
    taken = _Initiate(adapter, block_list).run()
    adapter.ndis.working()
    adapter.initiating += 1
    now = adapter.ndis.now()
    machines.adopt(adapter, taken, now)
    adapter.pipeline.submit(partial(_finish, adapter, block_list, taken), now)


def _finish(adapter: Adapter, block_list: BlockList, taken: list[Context]) -> None:
    step = LIFE.column(Event.INITIATED)
    for obj in paced(taken, adapter.ndis.working):
        obj.life = step[obj.life]
    adapter.ndis.m_initiate_offload_complete(adapter.handle, block_list)
    adapter.initiating -= 1
    adapter.release_held()


class _Initiate:
    """One traversal of a block list."""

    def __init__(self, adapter: Adapter, block_list: BlockList) -> None:
        self.adapter = adapter
        self.list = block_list
        columns, n = block_list.columns, len(block_list)
        self.cells = values(columns.get(Key.CELL), n)
        self.types = values(columns.get(Key.TYPE, 0), n)
        self.states = values(columns.get(Key.STATE), n)
        self.handles = values(columns.get(Key.NDIS_OFFLOAD_HANDLE), n)
        self.chains = values(columns.get(Key.NBL_CHAIN), n)
        self.contexts = list(values(columns.get(Key.CONTEXT), n))
        # A placeholder always succeeds (R-TREE-02); a block that is not reached fails (R-PART-02).
        self.statuses = [_SUCCESS if cell is None else _FAILURE for cell in self.cells]
        self.taken: list[Context] = []
        #: Addresses for the new contexts. Some may stay unused.
        self.addresses = iter(adapter.heap.addresses(n))
        #: Whether neither data comes with connections nor a failure is injected. This case has to be fast.
        self.plain = not (
            adapter.knobs.at("initiate.tcp")
            or block_list.attachments is not None
            or any(c is not None for c in self.chains)
        )
        #: Blocks whose status depends on their dependents: (index, block below, whether it is a linker).
        self.parents: list[tuple[int, int, bool]] = []
        #: Number of failed immediate dependents, by the index of the block.
        self.failed: dict[int, int] = {}

    def run(self) -> list[Context]:
        """Traverse the list, and write Status and cells. Returns the objects taken over."""
        following, dependents = self.list.links(Key.NEXT), self.list.links(Key.DEPENDENT)
        self._walk(following, dependents)
        self._settle(following, dependents)
        columns = self.list.columns
        columns[Key.STATUS] = self.statuses
        columns[Key.CONTEXT] = self.contexts
        return self.taken

    def _walk(self, following: list[int], dependents: list[int]) -> None:
        cells, contexts, types, statuses = self.cells, self.contexts, self.types, self.statuses
        stack: list[tuple[int, int, Context | None]] = []
        i, above, parent = 0, -1, None
        obj: Context | None
        working = self.adapter.ndis.working
        for rounds in count(1):
            if not rounds % STEP:
                working()
            if i < 0:
                if not stack:
                    return
                i, above, parent = stack.pop()
                continue
            linker = False
            if cells[i] is None:
                obj = None
            else:
                linker = contexts[i] is not None
                if linker:
                    result: Context | Refusal = self._link(contexts[i], types[i], parent)
                elif types[i] == _TCP:
                    if self.plain and type(parent) is PathContext and i:
                        i = self._take_run(i, above, parent, following)
                        working()
                        continue
                    result = self._take_tcp(i, parent)
                else:
                    result = self._take_below_tcp(i, types[i], parent)
                if type(result) is Refusal:
                    statuses[i] = int(result.status)
                    self.failed[above] = self.failed.get(above, 0) + 1
                    self.adapter.refuse(result.reason)
                    if i == 0:
                        return
                    i = following[i]
                    continue
                obj = result  # type: ignore[assignment]
                statuses[i] = _SUCCESS
            if dependents[i] < 0:
                i = following[i]
                continue
            if obj is not None:
                self.parents.append((i, above, linker))
            if following[i] >= 0:
                stack.append((following[i], above, parent))
            i, above, parent = dependents[i], i, obj

    def _settle(self, following: list[int], dependents: list[int]) -> None:
        """Set the Status of every block with dependents, the highest layer first."""
        statuses, failed = self.statuses, self.failed
        if not failed:
            return
        for i, above, linker in reversed(self.parents):
            lost = failed.get(i, 0)
            if not lost:
                continue
            statuses[i] = _PARTIAL
            if linker:
                total, j = 0, dependents[i]
                while j >= 0:
                    total += self.cells[j] is not None
                    j = following[j]
                if lost == total:
                    statuses[i] = _FAILURE
                    failed[above] = failed.get(above, 0) + 1

    # -- one block -----------------------------------------------------------------------------

    def _link(self, pointer: int, kind: int, parent: Context | None) -> Context | Refusal:
        """Return the object that a linker names, if new objects may be attached to it."""
        obj = self.adapter.find(pointer)
        if obj is None or obj.layer is Layer.TCP:
            return _NO_OBJECT
        if parent is not None and (not isinstance(obj, PathContext) or obj.neighbor is not parent):
            return _WRONG_LINK
        return obj if obj.life in _ATTACHABLE and not obj.corrupt else _NOT_ATTACHABLE

    def _take_below_tcp(self, i: int, kind: int, parent: Context | None) -> Context | Refusal:
        """Take over a neighbor or a path."""
        adapter, knobs = self.adapter, self.adapter.knobs
        hardware = adapter.hardware
        image = self.states[i]
        new: NeighborContext | PathContext
        if kind == _NEIGHBOR:
            status = knobs.fire("initiate.neighbor") if knobs.at("initiate.neighbor") else None
            if status is not None:
                return Refusal(status, "injected failure")
            entry = admit_neighbor(hardware, adapter.enabled, image)
            if isinstance(entry, Refusal):
                return entry
            vlan, mac = entry
            new = NeighborContext(next(self.addresses), self.handles[i], image, vlan, mac)
            hardware.add_neighbor(new)
        elif kind in _PATHS:
            if not isinstance(parent, NeighborContext):
                return _NO_PARENT
            status = knobs.fire("initiate.path") if knobs.at("initiate.path") else None
            if status is not None:
                return Refusal(status, "injected failure")
            addresses = admit_path(hardware, adapter.enabled, kind, image)
            if isinstance(addresses, Refusal):
                return addresses
            new = PathContext(next(self.addresses), self.handles[i], image, kind, addresses, parent)
            hardware.add_path(new)
        else:
            return _NOT_WHOLE
        return self._enter(i, new)

    def _take_tcp(self, i: int, parent: Context | None) -> Context | Refusal:
        """Take over a connection with the data that came with it."""
        adapter = self.adapter
        if type(parent) is not PathContext:
            return _NO_PARENT
        if (status := adapter.knobs.fire("initiate.tcp")) is not None:
            return Refusal(status, "injected failure")
        image = self.states[i]
        data = self._data(i, peek_tcp(image))
        if isinstance(data, Refusal):
            return data
        sends, buffered = data
        window = admit_tcp(adapter.hardware, adapter.enabled, image, len(buffered))
        if type(window) is Refusal:
            return window
        assert type(window) is int
        assert image is not None
        tcp = TcpContext(next(self.addresses), self.handles[i], image, parent, window)
        adapter.hardware.add_tcp(tcp)
        if sends or buffered:
            self._adopt(i, tcp, sends, buffered)
        return self._enter(i, tcp)

    def _take_run(self, i: int, above: int, path: PathContext, following: list[int]) -> int:
        """Take over sibling connections without data, at most :data:`STEP`. Returns the next block's index.

        Does the same as :meth:`_take_tcp` for each, but inline: long lists consist mostly of these.
        """
        adapter, cells, contexts, types = self.adapter, self.cells, self.contexts, self.types
        states, handles, statuses, addresses = self.states, self.handles, self.statuses, self.addresses
        hardware, enabled, memory = adapter.hardware, adapter.enabled, adapter.heap.objects
        entries, taken = hardware.objects, self.taken
        reserve, table = hardware.config.xmit_reserve, path.table
        for _ in range(STEP):
            if i < 0 or types[i] != _TCP or contexts[i] is not None or cells[i] is None:
                break
            image = states[i]
            window = admit_tcp(hardware, enabled, image)
            if type(window) is int:
                address = next(addresses)
                tcp = TcpContext(address, handles[i], image, path, window)
                memory[address] = entries[address] = tcp
                hardware.connections += 1
                hardware.xmit_bytes += reserve
                hardware.rcv_bytes += window
                if table is not None:
                    table[tcp.ports] = tcp
                contexts[i] = address
                statuses[i] = _SUCCESS
                taken.append(tcp)
            else:
                assert type(window) is Refusal
                statuses[i] = int(window.status)
                self.failed[above] = self.failed.get(above, 0) + 1
                adapter.refuse(window.reason)
            i = following[i]
        return i

    def _enter(self, i: int, new: Context) -> Context:
        self.adapter.heap.objects[new.address] = new
        self.contexts[i] = new.address
        self.taken.append(new)
        return new

    # -- data that comes with a connection -----------------------------------------------------

    def _data(self, i: int, peek: TcpPeek | None) -> tuple[list[NetBufferList], bytes] | Refusal:
        """Return the outstanding send lists (R-OSD-03) and a copy of the buffered data (R-INIT-16)."""
        chain, buffered = self.chains[i], peek.buffered_data if peek is not None else 0
        if chain is None and not buffered:
            return [], b""
        try:
            lists = self.list.attachments.read() if self.list.attachments is not None else {}
            for name, pointer in (("NetBufferListChain", chain), ("BufferedData", buffered)):
                if pointer and pointer not in lists:
                    return Refusal(NdisStatus.FAILURE, f"{name} does not name a list that came along")
            sends = list(iter_chain(lists[chain])) if chain is not None else []
            pieces: list[Any] = []
            for nbl in iter_chain(lists[buffered] if buffered else None):
                pieces.extend(data_of(nb) for nb in iter_net_buffers(nbl))
        except ChimneyError:
            return _UNREADABLE
        return sends, b"".join(pieces)

    def _adopt(self, i: int, tcp: TcpContext, sends: list[NetBufferList], buffered: bytes) -> None:
        io = self.adapter.io(tcp)
        source = values(self.list.columns.get(Key.SOURCE_HANDLE), len(self.list))[i]
        for nbl in sends:
            io.sends.append(Posted(nbl.address, source or nbl.source_handle, nbl=nbl))
        if buffered:
            io.buffered += buffered
            io.adopted = len(buffered)
            io.waiting = True
            self.adapter.hardware.buffered_bytes += len(buffered)
