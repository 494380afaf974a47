"""The smallest drivers that do something: a target that takes everything, and a host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ndisbus.ddi.call_rows import IO_OPERATIONS, STATE_OPERATIONS
from ndisbus.ddi.characteristics import (
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
)
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import (
    NdisOidRequest,
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
    NdisTcpConnectionOffload,
)
from ndisbus.driver.base import MiniportDriver, ProtocolDriver, Steps
from ndisbus.lists.blocklist import BlockList, BlockListBuilder, Key, values
from ndisbus.lists.heap import NdisOffloadHandle
from ndisbus.lists.nbl import make_net_buffer_list
from ndisbus.lists.nbl_chain import NblChain

_ENABLE = NdisOidRequest(
    request_type=1,
    oid=0xFC010201,
    information_buffer=NdisTaskOffloadHeader.of(
        [NdisTaskOffload(task_buffer=NdisTaskTcpConnectionOffload())]
    ),
    request_id=1,
)
_STATE = {o.op: o for o in STATE_OPERATIONS}
_IO = {o.op: o for o in IO_OPERATIONS}


class ToyTarget(MiniportDriver):
    """Offloads everything, completes at once or when it is told to (:attr:`hold`); counts what it holds."""

    def __init__(self, *adapters: str, name: str = "target") -> None:
        self.name = name
        self.names = adapters or ("nic0",)
        self.adapters: dict[int, int] = {}
        self.held: set[int] = set()
        self.posted: dict[int, list[Callable[[], None]]] = {}
        self.hold = False
        self.later: list[Callable[[], None]] = []
        self.detachments: list[str] = []
        self.halts = 0

    def driver_entry(self) -> Steps:
        yield self.ndis.m_register_miniport_driver(None, {"Name": self.name, "Adapters": list(self.names)})

    def miniport_set_options(self, ndis_driver_handle: int, driver_context: int | None) -> Steps:
        for table in (
            NdisProviderChimneyOffloadGenericCharacteristics,
            NdisProviderChimneyOffloadTcpCharacteristics,
        ):
            (status,) = yield self.ndis.set_optional_handlers(ndis_driver_handle, table.full())
            assert status == 0
        return NdisStatus.SUCCESS

    def miniport_initialize_ex(
        self, ndis_miniport_handle: int, miniport_driver_context: int | None, parameters: dict[str, Any]
    ) -> Steps:
        context = self.ndis.heap.address()
        self.adapters[context] = ndis_miniport_handle
        report = NdisTcpConnectionOffload(tcp_connection_offload_capacity=100).to_wire()
        attributes = {"MiniportAdapterContext": context, "TcpConnectionOffloadCapabilities": report}
        (status,) = yield self.ndis.m_set_miniport_attributes(ndis_miniport_handle, attributes)
        return status

    def adapter_handle(self, miniport_adapter_context: int) -> int:
        return self.adapters[miniport_adapter_context]

    def miniport_halt_ex(self, miniport_adapter_context: int, halt_action: int) -> NdisStatus:
        del self.adapters[miniport_adapter_context]
        self.halts += 1
        self.held.clear()
        self.posted.clear()
        self.later.clear()
        return NdisStatus.SUCCESS

    def miniport_oid_request(self, miniport_adapter_context: int, oid_request: dict[str, Any]) -> Any:
        return NdisStatus.SUCCESS, oid_request

    def detached(self, reason: str) -> None:
        self.detachments.append(reason)

    def inspect(self) -> dict[str, int]:
        return {"contexts": len(self.held)}

    def release(self) -> None:
        """Complete what was held back, oldest first."""
        self.hold = False
        while self.later:
            self.later.pop(0)()

    def _do(self, action: Callable[[], None]) -> None:
        if self.hold:
            self.later.append(action)
        else:
            action()

    def _state(self, op: str, adapter: int, block_list: BlockList) -> None:
        n = len(block_list)
        cols = block_list.columns
        contexts, cells = list(values(cols.get(Key.CONTEXT), n)), values(cols.get(Key.CELL), n)
        for i in range(n):
            if cells[i] is None:
                continue
            if op == "initiate" and contexts[i] is None:
                contexts[i] = self.ndis.heap.address()
                self.held.add(contexts[i])
            elif op == "terminate":
                for action in self.posted.pop(contexts[i], ()):
                    action()
                self.held.remove(contexts[i])
        if op == "initiate":
            cols[Key.CONTEXT] = contexts
        elif op in ("query", "terminate"):
            cols[Key.STATE] = [None if c is None else b"state" for c in cells]
        cols[Key.STATUS] = 0
        self.ndis.call(_STATE[op].completion, self.adapters[adapter], block_list)

    def miniport_initiate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        self._do(lambda: self._state("initiate", miniport_adapter_context, block_list))

    def miniport_query_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        self._do(lambda: self._state("query", miniport_adapter_context, block_list))

    def miniport_update_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        self._do(lambda: self._state("update", miniport_adapter_context, block_list))

    def miniport_invalidate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        self._do(lambda: self._state("invalidate", miniport_adapter_context, block_list))

    def miniport_terminate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        self._do(lambda: self._state("terminate", miniport_adapter_context, block_list))

    def miniport_tcp_offload_send(self, miniport_adapter_context: int, context: int, chain: NblChain) -> None:
        assert context in self.held

        def done() -> None:
            chain.statuses, chain.attachments = [0] * len(chain), None
            self.ndis.tcp_offload_send_complete(self.adapters[miniport_adapter_context], chain)

        self._do(done)

    def miniport_tcp_offload_receive(
        self, miniport_adapter_context: int, context: int, chain: NblChain
    ) -> None:
        """Kept until the connection goes."""

        def done() -> None:
            chain.statuses = [int(NdisStatus.UPLOAD_IN_PROGRESS)] * len(chain)
            self.ndis.tcp_offload_receive_complete(self.adapters[miniport_adapter_context], chain)

        self.posted.setdefault(context, []).append(done)


class ToyHost(ProtocolDriver):
    """Binds, enables the chimney, and offloads trees; notes down everything that comes back."""

    def __init__(self, *adapters: str, name: str = "host") -> None:
        self.name = name
        self.names = adapters or ("nic0",)
        self.protocol: int | None = None
        self.bindings: dict[int, int] = {}
        self.enabled: list[int] = []
        #: (operation, statuses) of every completion, in order.
        self.completed: list[tuple[str, list[int]]] = []
        self.lists: dict[int, tuple[str, BlockList]] = {}
        self.sends: dict[int, int | None] = {}
        self.events: list[tuple[int, int, int]] = []
        self.oids: list[tuple[int, str]] = []
        self.detachments: list[str] = []
        self.unbound = 0
        #: Called with every list that comes back, before anything else is done with it.
        self.seen: Callable[[BlockList], None] = lambda block_list: None

    # -- registration --------------------------------------------------------------------------

    def driver_entry(self) -> Steps:
        bind = {"Name": self.name, "Bind": list(self.names)}
        _, self.protocol = yield self.ndis.register_protocol_driver(None, bind)

    def protocol_set_options(self, ndis_driver_handle: int, driver_context: int | None) -> Steps:
        for table in (
            NdisClientChimneyOffloadGenericCharacteristics,
            NdisClientChimneyOffloadTcpCharacteristics,
        ):
            (status,) = yield self.ndis.set_optional_handlers(ndis_driver_handle, table.full())
            assert status == 0
        return NdisStatus.SUCCESS

    def protocol_bind_adapter_ex(
        self, protocol_driver_context: int | None, bind_context: int, parameters: dict[str, Any]
    ) -> Steps:
        context = self.ndis.heap.allocate(self)
        status, binding = yield self.ndis.open_adapter_ex(
            self.protocol, context, {"AdapterName": parameters["AdapterName"]}
        )
        if status:
            self.ndis.heap.free(context)
            return status
        self.bindings[context] = binding
        self.ndis.oid_request(binding, _ENABLE)
        return NdisStatus.SUCCESS

    def protocol_oid_request_complete(
        self, protocol_binding_context: int, oid_request: dict[str, Any], status: int, reason: str
    ) -> None:
        self.oids.append((status, reason))
        if not status:
            self.enabled.append(protocol_binding_context)

    def protocol_unbind_adapter_ex(self, unbind_context: int, protocol_binding_context: int) -> Steps:
        (status,) = yield self.ndis.close_adapter_ex(self.bindings[protocol_binding_context])
        return status

    def protocol_close_adapter_complete_ex(self, protocol_binding_context: int) -> None:
        self.unbound += 1
        del self.bindings[protocol_binding_context]
        if protocol_binding_context in self.enabled:
            self.enabled.remove(protocol_binding_context)
        self.ndis.heap.free(protocol_binding_context)

    def detached(self, reason: str) -> None:
        self.detachments.append(reason)

    def inspect(self) -> dict[str, int]:
        return {"lists": len(self.lists)}

    # -- what tests ask it to do ---------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether it may offload."""
        return len(self.enabled) == len(self.names)

    @property
    def binding(self) -> int:
        """Its first binding."""
        return next(iter(self.bindings.values()))

    def offload(self, *types: int) -> list[NdisOffloadHandle]:
        """Initiate the offload of new objects of these types."""
        handles = [self.ndis.heap.handle() for _ in types or (4, 8, 17)]
        self.pass_down("initiate", list(zip(types or (4, 8, 17), handles, strict=True)))
        return handles

    def pass_down(self, op: str, blocks: list[tuple[int, NdisOffloadHandle | None]]) -> BlockList:
        """Pass a list down."""
        builder = BlockListBuilder(self.ndis.heap)
        for kind, handle in blocks:
            new = handle is not None and handle.context is None and op == "initiate"
            builder.add(kind, None if handle is None else handle.address, state=b"state" if new else None)
        block_list = builder.build()
        self.lists[block_list.address] = (op, block_list)
        self.ndis.call(_STATE[op].request, self.binding, block_list)
        return block_list

    def post(self, op: str, handle: NdisOffloadHandle, data: bytes = b"data") -> int:
        """Pass a net buffer list down."""
        nbl = make_net_buffer_list(self.ndis.heap.address, [data])
        self.sends[nbl.address] = None
        self.ndis.call(_IO[op].request, handle.address, NblChain.of(nbl))
        return nbl.address

    # -- what comes back -----------------------------------------------------------------------

    def _back(self, op: str, block_list: BlockList) -> None:
        self.seen(block_list)
        asked, mine = self.lists.pop(block_list.address)
        assert asked == op
        assert mine is block_list  # the very object that was passed down
        self.completed.append((op, list(values(block_list.columns[Key.STATUS], len(block_list)))))
        if op == "terminate":
            for address in values(block_list.columns[Key.OFFLOAD_HANDLE], len(block_list)):
                if address is not None:
                    self.ndis.heap.free(address)

    def protocol_initiate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        self._back("initiate", block_list)

    def protocol_query_offload_complete(self, protocol_binding_context: int, block_list: BlockList) -> None:
        self._back("query", block_list)

    def protocol_update_offload_complete(self, protocol_binding_context: int, block_list: BlockList) -> None:
        self._back("update", block_list)

    def protocol_invalidate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        self._back("invalidate", block_list)

    def protocol_terminate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        self._back("terminate", block_list)

    def _posted(self, chain: NblChain) -> None:
        for address, status in zip(chain.addresses, chain.statuses or (), strict=True):
            assert self.sends[address] is None  # completed once
            self.sends[address] = status

    def protocol_tcp_offload_send_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        self._posted(chain)

    def protocol_tcp_offload_receive_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        self._posted(chain)

    def protocol_tcp_offload_event(
        self, offload_context: int, event_type: int, event_specific_information: int
    ) -> None:
        self.events.append((offload_context, event_type, event_specific_information))
