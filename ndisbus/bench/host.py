"""The benchmark's host: a protocol driver that times requests, without the host stack around it.

It is small on purpose: the benchmark measures the chain (bus, intermediate driver, target, and NDIS's part in
this process), not the bookkeeping of a host stack.
"""

from __future__ import annotations

import time
from typing import Any, Final

from ndisbus.ddi.characteristics import (
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
)
from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import (
    TCP_CONNECTION_OFFLOAD_TASK,
    NdisOidRequest,
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
)
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.driver.base import ProtocolDriver
from ndisbus.errors import ChimneyError
from ndisbus.lists.blocklist import BlockList, BlockListBuilder
from ndisbus.lists.heap import NdisOffloadHandle
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
)

__all__ = ["BenchHost", "Tree"]

_PATHS: Final = 8
_T: Final = OffloadStateType


class Tree:
    """One neighbor, a few paths, the rest connections: handles, and the images they are offered with."""

    def __init__(self, host: BenchHost, blocks: int) -> None:
        heap = host.ndis.heap
        paths = min(_PATHS, max(blocks - 2, 1))
        self.neighbor = heap.handle()
        self.paths = [heap.handle() for _ in range(paths)]
        connections = max(blocks - 1 - paths, 1)
        self.tcp: list[list[NdisOffloadHandle]] = [
            [heap.handle() for _ in range(connections // paths + (i < connections % paths))]
            for i in range(paths)
        ]
        self.blocks = 1 + paths + connections
        self._heap = heap
        self._images = _images()

    def handles(self) -> list[NdisOffloadHandle]:
        """Return all handles of the tree."""
        return [self.neighbor, *self.paths, *(h for path in self.tcp for h in path)]

    def build(self, kinds: tuple[int, int, int], *, state: bool) -> BlockList:
        """Return the tree as a list with blocks of these types. ``state`` attaches whole state images."""
        b = BlockListBuilder(self._heap)
        n, p, t = self._images if state else (None, None, None)
        neighbor, path, tcp = kinds
        b.add(neighbor, self.neighbor.address, state=n)
        for handle, connections in zip(self.paths, self.tcp, strict=True):
            b.add(path, handle.address, state=p)
            for c in connections:
                b.add(tcp, c.address, state=t)
        return b.build()

    def free(self) -> None:
        """Free the handles."""
        for h in self.handles():
            self._heap.free(h.address)


WHOLE: Final = (int(_T.NeighborOffloadState), int(_T.Ip4OffloadState), int(_T.TcpOffloadState))
CACHED: Final = (
    int(_T.NeighborOffloadCachedState),
    int(_T.Ip4OffloadCachedState),
    int(_T.TcpOffloadCachedState),
)
DELEGATED: Final = (
    int(_T.NeighborOffloadDelegatedState),
    int(_T.Ip4OffloadDelegatedState),
    int(_T.TcpOffloadDelegatedState),
)


def _images() -> tuple[bytes, bytes, bytes]:
    neighbor = (
        NeighborOffloadStateConst(),
        NeighborOffloadStateCached(dl_destination_address=bytes.fromhex("020000000001")),
        NeighborOffloadStateDelegated(),
    )
    path = (
        PathOffloadStateConst(
            source_address=bytes((127, 0, 0, 1)), destination_address=bytes((127, 0, 0, 2))
        ),
        PathOffloadStateCached(path_mtu=1500),
        PathOffloadStateDelegated(),
    )
    tcp = (
        TcpOffloadStateConst(local_port=50_000, remote_port=80, remote_mss=1460),
        TcpOffloadStateCached(initial_rcv_wnd=65_535),
        TcpOffloadStateDelegated(state=TcpOffloadConnectionState.TcpConnectionEstablished),
    )
    return pack_state(neighbor), pack_state(path), pack_state(tcp)


class BenchHost(ProtocolDriver):
    """Binds to an adapter of its own, enables the chimney, and counts completions."""

    def __init__(self) -> None:
        self.enabled = False
        self.binding: int | None = None
        self.completed = 0
        self.failed = 0
        self.last: BlockList | None = None
        self.finished_at = 0.0
        self._protocol: int | None = None
        self._clock = time.perf_counter

    def driver_entry(self) -> Any:
        """Register the protocol edge."""
        path = {"Name": "bench", "Bind": "auto"}
        _, self._protocol = yield self.ndis.register_protocol_driver(None, path)

    def protocol_set_options(self, ndis_driver_handle: int, driver_context: int | None) -> Any:
        """Register both client structures (R-REG-02)."""
        for structure in (
            NdisClientChimneyOffloadGenericCharacteristics,
            NdisClientChimneyOffloadTcpCharacteristics,
        ):
            (status,) = yield self.ndis.set_optional_handlers(ndis_driver_handle, structure.full())
            if status != NdisStatus.SUCCESS:
                return status
        return NdisStatus.SUCCESS

    def protocol_bind_adapter_ex(
        self, protocol_driver_context: int | None, bind_context: int, parameters: dict[str, Any]
    ) -> Any:
        """Open the adapter and enable its chimney."""
        context = self.ndis.heap.allocate(self)
        name = {"AdapterName": parameters["AdapterName"]}
        status, self.binding = yield self.ndis.open_adapter_ex(self._protocol, context, name)
        task = NdisTaskOffload(task=TCP_CONNECTION_OFFLOAD_TASK, task_buffer=NdisTaskTcpConnectionOffload())
        self.ndis.oid_request(
            self.binding,
            NdisOidRequest(
                request_type=NdisRequestType.NdisRequestSetInformation,
                oid=Oid.OID_TCP_TASK_OFFLOAD,
                information_buffer=NdisTaskOffloadHeader.of([task]),
            ),
        )
        return status

    def protocol_oid_request_complete(
        self, protocol_binding_context: int, oid_request: dict[str, Any], status: int, reason: str
    ) -> None:
        """Record that the chimney is enabled. Without it the benchmark cannot run."""
        if status != NdisStatus.SUCCESS:
            raise ChimneyError(f"the chimney was not enabled: {NdisStatus(status).symbol} {reason}")
        self.enabled = True

    def protocol_unbind_adapter_ex(self, unbind_context: int, protocol_binding_context: int) -> Any:
        """Close the binding: the stack below ended, and the benchmark has nothing to save."""
        self.enabled = False
        binding, self.binding = self.binding, None
        if binding is not None:
            yield self.ndis.close_adapter_ex(binding)
        return NdisStatus.SUCCESS

    def _done(self, protocol_binding_context: int, block_list: BlockList) -> None:
        self.finished_at = self._clock()
        self.completed += 1
        self.last = block_list
        status = block_list.columns["Status"]
        if status != 0 and (type(status) is not list or any(status)):
            self.failed += 1

    protocol_initiate_offload_complete = _done
    protocol_query_offload_complete = _done
    protocol_update_offload_complete = _done
    protocol_invalidate_offload_complete = _done
    protocol_terminate_offload_complete = _done
