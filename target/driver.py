"""The target as a miniport driver: registration, adapters, and the handlers that lead into the folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ndisbus.ddi.enums import NdisChimneyOffloadType
from ndisbus.ddi.status import NdisStatus, status_symbol
from ndisbus.ddi.structures import (
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
    NdisTcpOffloadEventHandlers,
)
from ndisbus.driver.base import MiniportDriver, Reply, Steps
from ndisbus.errors import DecodeError, LocalProtocolError, RemoteProtocolError
from ndisbus.lists.blocklist import BlockList
from ndisbus.lists.nbl_chain import NblChain
from ndisbus.wire.link import innermost
from target import control
from target.data import completion, frames, machines, requests
from target.hardware.adapter import Adapter
from target.hardware.config import TargetConfig
from target.hardware.knobs import Knobs
from target.network.station import Station
from target.operations import pause
from target.operations.initiate import initiate_offload, refuse
from target.operations.invalidate import invalidate_offload
from target.operations.oid import oid_request as answer_oid
from target.operations.query import query_offload
from target.operations.terminate import terminate_offload
from target.operations.update import update_offload

if TYPE_CHECKING:
    from ndisbus.wire.link import Link

__all__ = ["TargetDriver"]

_SURPRISE = 1  # HaltAction NdisHaltDeviceSurpriseRemoved


class TargetDriver(MiniportDriver):
    """An offload target with one or several adapters, all of one kind. Sans-I/O, like every driver.

    ``config`` says what its hardware can do. ``wires`` has the link of each adapter in order, None for one
    without a wire. :func:`target.open_wires` opens links; the driver does not close them. Failures are
    injected through :meth:`control` (:mod:`target.control`).

    To change what the target does, override handlers (``miniport_*``), and run the driver as its own process
    with ``ndisbus.runtime.run_driver.run_driver(driver, name=..., readers=driver.readers())``.
    """

    def __init__(self, config: TargetConfig | None = None, wires: Sequence[Link | None] = ()) -> None:
        self.config = config or TargetConfig()
        #: Links by the name of their adapter.
        self.wires: dict[str, Link] = {
            name: link for name, link in zip(self.config.adapters, wires, strict=False) if link is not None
        }
        self.knobs = Knobs()
        #: Adapters by MiniportAdapterContext.
        self.adapters: dict[int, Adapter] = {}
        #: Stations of the adapters with a wire, by the name of the adapter.
        self.stations: dict[str, Station] = {}
        self.ndis_driver_handle: int | None = None

    # -- registration and life -----------------------------------------------------------------

    def driver_entry(self) -> Steps:
        """DriverEntry: register. NDIS calls MiniportSetOptions during it and initializes adapters after it.

        Raises RemoteProtocolError if NDIS refuses the driver.
        """
        path = {"Name": self.config.name, "Adapters": list(self.config.adapters)}
        status, handle = yield self.ndis.m_register_miniport_driver(None, path)
        if status != NdisStatus.SUCCESS:
            raise RemoteProtocolError(
                f"NdisMRegisterMiniportDriver refused {self.config.name}: {status_symbol(status)}"
            )
        self.ndis_driver_handle = handle

    def miniport_set_options(self, ndis_driver_handle: int, driver_context: int | None) -> Steps:
        """MiniportSetOptions: the generic and the TCP provider structure (R-REG-01, R-REG-04)."""
        for table in (
            NdisProviderChimneyOffloadGenericCharacteristics.full(),
            NdisProviderChimneyOffloadTcpCharacteristics.full(),
        ):
            (status,) = yield self.ndis.set_optional_handlers(ndis_driver_handle, table)
            if status != NdisStatus.SUCCESS:
                return status
        return NdisStatus.SUCCESS

    def miniport_initialize_ex(
        self, ndis_miniport_handle: int, miniport_driver_context: int | None, parameters: dict[str, Any]
    ) -> Steps:
        """MiniportInitializeEx: report capabilities, fetch and copy the entry points (R-REG-05, R-REG-06)."""
        status: int | None = self.knobs.fire("initialize")
        if status is not None:
            return status
        name = str(parameters["AdapterName"])
        link = self.wires.get(name)
        adapter = Adapter(
            self.ndis, self.knobs, self.config.of_adapter(name), name, ndis_miniport_handle, link
        )
        attributes = {
            "MiniportAdapterContext": adapter.address,
            "TcpConnectionOffloadCapabilities": self.config.capabilities().to_wire(),
            "CurrentMacAddress": adapter.config.mac,
            "MtuSize": adapter.config.mtu,
            "XmitLinkSpeed": adapter.config.link_speed,
            "RcvLinkSpeed": adapter.config.link_speed,
        }
        (status,) = yield self.ndis.m_set_miniport_attributes(ndis_miniport_handle, attributes)
        if status == NdisStatus.SUCCESS:
            status, table = yield self.ndis.m_get_offload_handlers(
                ndis_miniport_handle, int(NdisChimneyOffloadType.NdisTcpChimneyOffload)
            )
            if status == NdisStatus.SUCCESS:
                adapter.entry_points = _entry_points(table)
                status = NdisStatus.SUCCESS if adapter.entry_points else NdisStatus.FAILURE
        if status != NdisStatus.SUCCESS:
            adapter.tear_down()
            return status
        self.adapters[adapter.address] = adapter
        if link is not None:
            self.stations[name] = Station(adapter, link, flow_of=machines.flow_of, to_host=frames.receive)
        return NdisStatus.SUCCESS

    def miniport_halt_ex(self, miniport_adapter_context: int, halt_action: int) -> Steps:
        """MiniportHaltEx: an orderly halt waits for lent net buffer lists (R-REG-12)."""
        adapter = self._adapter(miniport_adapter_context)
        if halt_action != _SURPRISE:
            for block_list in adapter.queued:
                refuse(adapter, block_list)
            adapter.queued = []
            frames.fail_waiting(adapter)
            if adapter.nbls_outstanding:
                adapter.halting = Reply("MiniportHaltEx")
                yield adapter.halting
        adapter.tear_down()
        del self.adapters[adapter.address]
        self.stations.pop(adapter.name, None)
        return NdisStatus.SUCCESS

    def depart(self) -> bool:
        """Ask for everything that is offloaded: the process was asked to end (R-PAUSE-03)."""
        for adapter in self.adapters.values():
            pause.depart(adapter)
        return True

    def departed(self) -> bool:
        """Return whether everything has been uploaded."""
        return all(map(pause.departed, self.adapters.values()))

    def detached(self, reason: str) -> None:
        """Keep the knobs, which the user has set. The bus has gone and the adapters were halted."""
        self.ndis_driver_handle = None
        for adapter in list(self.adapters.values()):
            adapter.tear_down()
        self.adapters.clear()
        self.stations.clear()

    def miniport_check_for_hang_ex(self, miniport_adapter_context: int) -> bool:
        """MiniportCheckForHangEx: TRUE while the command "hang" is in force."""
        return self._adapter(miniport_adapter_context).hung

    def miniport_reset_ex(self, miniport_adapter_context: int) -> NdisStatus:
        """MiniportResetEx: the adapter works again and keeps its offloaded objects."""
        self._adapter(miniport_adapter_context).hung = False
        return NdisStatus.SUCCESS

    def adapter_handle(self, miniport_adapter_context: int) -> int:
        """Return the NdisMiniportHandle of an adapter context."""
        return self._adapter(miniport_adapter_context).handle

    def _adapter(self, miniport_adapter_context: int) -> Adapter:
        adapter = self.adapters.get(miniport_adapter_context)
        if adapter is None:
            raise LocalProtocolError(f"{self.config.name} has no adapter {miniport_adapter_context:#x}")
        return adapter

    # -- state and OIDs ------------------------------------------------------------------------

    def miniport_oid_request(self, miniport_adapter_context: int, oid_request: dict[str, Any]) -> Any:
        """MiniportOidRequest."""
        return answer_oid(self._adapter(miniport_adapter_context), oid_request)

    def miniport_initiate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportInitiateOffload."""
        initiate_offload(self._adapter(miniport_adapter_context), block_list)

    def miniport_query_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportQueryOffload."""
        query_offload(self._adapter(miniport_adapter_context), block_list)

    def miniport_update_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportUpdateOffload."""
        update_offload(self._adapter(miniport_adapter_context), block_list)

    def miniport_invalidate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportInvalidateOffload."""
        invalidate_offload(self._adapter(miniport_adapter_context), block_list)

    def miniport_terminate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportTerminateOffload."""
        terminate_offload(self._adapter(miniport_adapter_context), block_list)

    # -- I/O -----------------------------------------------------------------------------------

    def miniport_tcp_offload_send(self, miniport_adapter_context: int, context: int, chain: NblChain) -> None:
        """MiniportTcpOffloadSend."""
        requests.send(self._adapter(miniport_adapter_context), context, chain)

    def miniport_tcp_offload_receive(
        self, miniport_adapter_context: int, context: int, chain: NblChain
    ) -> Any:
        """MiniportTcpOffloadReceive. Returns steps if buffered data has to be indicated."""
        return requests.receive(self._adapter(miniport_adapter_context), context, chain)

    def miniport_tcp_offload_disconnect(
        self, miniport_adapter_context: int, context: int, chain: NblChain, flags: int
    ) -> None:
        """MiniportTcpOffloadDisconnect."""
        requests.disconnect(self._adapter(miniport_adapter_context), context, chain, flags)

    def miniport_tcp_offload_forward(
        self, miniport_adapter_context: int, context: int, chain: NblChain
    ) -> None:
        """MiniportTcpOffloadForward."""
        requests.forward(self._adapter(miniport_adapter_context), context, chain)

    def miniport_tcp_offload_receive_return(self, miniport_adapter_context: int, chain: NblChain) -> None:
        """MiniportTcpOffloadReceiveReturn: always succeeds. The last list lets a waiting halt continue."""
        adapter = self._adapter(miniport_adapter_context)
        completion.receive_return(adapter, chain)
        self._go_on_halting(adapter)

    def _go_on_halting(self, adapter: Adapter) -> None:
        if adapter.halting is not None and not adapter.nbls_outstanding:
            reply, adapter.halting = adapter.halting, None
            self.ndis.resume(reply, (int(NdisStatus.SUCCESS),))

    # -- frames beside the chimney -------------------------------------------------------------

    def miniport_send_net_buffer_lists(
        self, miniport_adapter_context: int, chain: NblChain, port_number: int, send_flags: int
    ) -> None:
        """MiniportSendNetBufferLists."""
        frames.send(self._adapter(miniport_adapter_context), chain, send_flags)

    def miniport_return_net_buffer_lists(
        self, miniport_adapter_context: int, chain: NblChain, return_flags: int
    ) -> None:
        """MiniportReturnNetBufferLists. The last list lets a waiting halt continue."""
        adapter = self._adapter(miniport_adapter_context)
        frames.take_back(adapter, chain)
        self._go_on_halting(adapter)

    # -- time, counters, commands --------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when an operation, a timer, a connection or a link is due; None if none is."""
        due = None
        for adapter in self.adapters.values():
            wake = None if adapter.hung else adapter.wakes.next_deadline()
            if self._may_go_on(adapter):
                wake = self.ndis.now()
            operation, timer = adapter.pipeline.next_deadline(), adapter.timers.next_deadline()
            for at in (operation, timer, frames.waits_until(adapter), wake):
                if at is not None and (due is None or at < due):
                    due = at
        for link in self.wires.values():
            at = link.next_deadline()
            if at is not None and (due is None or at < due):
                due = at
        return due

    def readers(self) -> dict[int, Callable[[float], None]]:
        """Return, for the descriptor of each wire, the function to call with the time when it is readable."""
        readers: dict[int, Callable[[float], None]] = {}
        for name, link in self.wires.items():
            descriptor = link.fileno()
            if descriptor is not None:
                readers[descriptor] = partial(self.wire_readable, name)
        return readers

    def wire_readable(self, name: str, now: float) -> None:
        """Take the frames that have arrived on an adapter's wire. Without the adapter they are lost."""
        station = self.stations.get(name)
        if station is None:
            self.wires[name].receive(now)
            return
        machines.expire(station.adapter, now)
        station.receive(now)
        machines.go_on(station.adapter, now)
        frames.send_waiting(station.adapter)

    def _may_go_on(self, adapter: Adapter) -> bool:
        """Return whether a sender that waits for the link could go on."""
        if adapter.link is None or adapter.hung:
            return False
        return adapter.waiting.ready(adapter.link.takes) or frames.may_send_waiting(adapter)

    def on_timer(self, now: float) -> None:
        """Finish operations whose latency has passed, run timers, then take frames from the wires."""
        for adapter in list(self.adapters.values()):
            adapter.pipeline.run(now)
            for call in adapter.timers.due(now):
                call(now)
        for name in self.wires:
            self.wire_readable(name, now)

    def inspect(self) -> dict[str, int]:
        """Return the counters of all adapters together, with refusals and dropped frames by reason."""
        total: Counter[str] = Counter({"adapters": len(self.adapters), "knobs": len(self.knobs)})
        for adapter in self.adapters.values():
            total.update(adapter.counters())
            total.update({f"refused: {reason}": n for reason, n in adapter.refusals.items()})
        for station in self.stations.values():
            total.update({f"dropped: {reason}": n for reason, n in station.counters.items()})
        for link in self.wires.values():
            dropped = innermost(link).counters.dropped
            total.update({f"dropped by the wire: {reason}": n for reason, n in dropped.items()})
        return dict(total)

    def control(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command of ``ndisbus fault`` (:data:`target.control.COMMANDS`)."""
        return control.control(list(self.adapters.values()), self.knobs, command, arguments)


def _entry_points(table: object) -> NdisTcpOffloadEventHandlers | None:
    """Return a copy of NDIS's table, or None if its header or entry points are unknown (R-REG-06)."""
    try:
        copy = NdisTcpOffloadEventHandlers.from_wire(table, "NdisMGetOffloadHandlers.OffloadHandlers")
    except DecodeError:
        return None
    expected = NdisTcpOffloadEventHandlers.expected_header()
    complete = copy.handlers() == frozenset(NdisTcpOffloadEventHandlers.entry_points().values())
    return copy if copy.header == expected and complete else None
