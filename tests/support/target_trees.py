"""Objects of a host, and the block lists that carry them to a target."""

from __future__ import annotations

from typing import Any

from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.lists.blocklist import BLOCK_SIZE, Key
from ndisbus.lists.heap import Heap, NdisOffloadHandle
from ndisbus.lists.nbl import NetBufferList, chain_to_wire, iter_chain, make_net_buffer_list
from ndisbus.lists.nbl_chain import Attachments
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    NeighborOffloadStateDelegated,
    PathOffloadStateCached,
    PathOffloadStateConst,
    PathOffloadStateDelegated,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
    pack_state,
    unpack_state,
)

__all__ = ["ESTABLISHED", "SOURCE_HANDLE", "Done", "Obj", "Trees"]

SOURCE_HANDLE = 0x10000000AB0
ESTABLISHED = TcpOffloadConnectionState.TcpConnectionEstablished


class Obj:
    """One object of the host: its NDIS_OFFLOAD_HANDLE, its type, and the state to offload."""

    def __init__(self, handle: NdisOffloadHandle, state_type: int, image: bytes) -> None:
        self.handle = handle
        self.type = int(state_type)
        self.image = image
        self.chain: NetBufferList | None = None
        self.status: int | None = None
        self.result: bytes | None = None
        self.returned: int | None = None
        """NetBufferListChain as a terminate wrote it."""

    @property
    def context(self) -> int | None:
        return self.handle.context

    def structures(self, state_type: int | None = None) -> tuple[Any, ...]:
        """What the last query or terminate wrote behind the block."""
        assert self.result is not None
        return unpack_state(state_type or self.type, self.result)


class Done:
    """A completion of a list: statuses and columns in the order of the nodes."""

    def __init__(self, name: str, wire: dict[str, Any], frames: Any, nodes: list[Obj | None]) -> None:
        n = len(nodes)
        status = wire["Status"]
        self.name = name
        self.wire = wire
        self.status = [NdisStatus(s) for s in (status if isinstance(status, list) else [status] * n)]
        lists = wire.get("NetBufferLists")
        self.nbls = Attachments(lists, frames).read() if lists else {}


class Trees:
    """Makes objects in the host's memory, and miniport-form lists of them."""

    def __init__(self) -> None:
        self.heap = Heap(7)

    def neighbor(
        self, vlan: int = 0, mac: bytes = b"", dest: bytes = b"\x02\x00\x00\x00\x00\x09", age: int = 7
    ) -> Obj:
        image = pack_state(
            (
                NeighborOffloadStateConst(mac, vlan),
                NeighborOffloadStateCached(dest, age),
                NeighborOffloadStateDelegated(age),
            )
        )
        return Obj(self.heap.handle(), OffloadStateType.NeighborOffloadState, image)

    def path(
        self, mtu: int = 1500, src: bytes = b"\x0a\x00\x00\x01", dst: bytes = b"\x0a\x00\x00\x02"
    ) -> Obj:
        image = pack_state(
            (PathOffloadStateConst(src, dst), PathOffloadStateCached(mtu), PathOffloadStateDelegated())
        )
        kind = OffloadStateType.Ip4OffloadState if len(src) == 4 else OffloadStateType.Ip6OffloadState
        return Obj(self.heap.handle(), kind, image)

    def tcp(
        self,
        *,
        window: int = 65536,
        state: int = ESTABLISHED,
        flags: int = 0,
        remote: int = 80,
        local: int = 5000,
        chain: NetBufferList | None = None,
        buffered: NetBufferList | None = None,
        const: dict[str, Any] | None = None,
        cached: dict[str, Any] | None = None,
        **delegated: Any,
    ) -> Obj:
        if chain is not None:
            lists = list(iter_chain(chain))
            delegated.setdefault("send_data_head", lists[0].address)
            delegated.setdefault("send_data_tail", lists[-1].address)
        if buffered is not None:
            delegated["buffered_data"] = buffered.address
        image = pack_state(
            (
                TcpOffloadStateConst(flags, remote, local, **(const or {})),
                TcpOffloadStateCached(
                    **{
                        "initial_rcv_wnd": window,
                        "ka_probe_count": 3,
                        "ka_timeout": 7000,
                        "ka_interval": 1000,
                        **(cached or {}),
                    }
                ),
                TcpOffloadStateDelegated(
                    state=TcpOffloadConnectionState(state), **{"rcv_wnd": window, **delegated}
                ),
            )
        )
        obj = Obj(self.heap.handle(), OffloadStateType.TcpOffloadState, image)
        obj.chain = chain
        obj.lists = [x for x in (chain, buffered) if x is not None]  # type: ignore[attr-defined]
        return obj

    def nbl(self, *pieces: bytes) -> NetBufferList:
        return make_net_buffer_list(self.heap.address, pieces)

    def wire(
        self,
        spec: Any,
        *,
        types: dict[Obj, int] | None = None,
        states: dict[Obj, bytes | None] | None = None,
        op: str = "initiate",
    ) -> tuple[dict[str, Any], Any, list[Obj | None]]:
        """A miniport-form list from a nested specification: node or (node, [dependents]); None: placeholder.

        ``spec`` is a list of siblings, the first is the root. Blocks are stored in traversal order.
        """
        nodes: list[Obj | None] = []
        following: list[int | None] = []
        dependent: list[int | None] = []

        def add(items: list[Any]) -> int | None:
            first = last = None
            for item in items:
                node, children = item if isinstance(item, tuple) else (item, [])
                i = len(nodes)
                nodes.append(node)
                following.append(None)
                dependent.append(None)
                if last is not None:
                    following[last] = i
                first, last = (i if first is None else first), i
                dependent[i] = add(children)
            return first

        add(spec if isinstance(spec, list) else [spec])
        blocks = list(self.heap.addresses(len(nodes), BLOCK_SIZE))
        new = op == "initiate"
        columns: dict[str, Any] = {
            Key.BLOCK: blocks,
            Key.REVISION: 1,
            Key.SIZE: BLOCK_SIZE,
            Key.TYPE: [((types or {}).get(o, o.type) if o else 0) for o in nodes],
            Key.NEXT: [None if j is None else blocks[j] for j in following],
            Key.DEPENDENT: [None if j is None else blocks[j] for j in dependent],
            Key.NDIS_OFFLOAD_HANDLE: [o.handle.address if o else None for o in nodes],
            Key.CELL: [o.handle.miniport_offload_context if o else None for o in nodes],
            Key.CONTEXT: [o.handle.context if o else None for o in nodes],
            Key.SOURCE_HANDLE: SOURCE_HANDLE,
            Key.STATE: [
                None
                if o is None
                else states[o]
                if states and o in states
                else o.image
                if new and o.handle.context is None
                else None
                for o in nodes
            ],
        }
        frames: list[bytes] = []
        if new:
            columns[Key.NBL_CHAIN] = [o.chain.address if o and o.chain else None for o in nodes]
            chains = [c for o in nodes if o for c in getattr(o, "lists", [])]
            if chains:
                columns[Key.NET_BUFFER_LISTS] = [chain_to_wire(c, frames) for c in chains]
        return columns, frames, nodes
