"""The base classes of drivers. A driver is a plain object whose handlers NDIS calls.

A driver acts by calling functions on ``self.ndis`` (:class:`ndisbus.driver.port.Ndis`) and never blocks. A
handler that needs the answer of such a call is a generator and yields it::

    def miniport_initialize_ex(self, ndis_miniport_handle, driver_context, parameters):
        status, table = yield self.ndis.m_get_offload_handlers(ndis_miniport_handle, 1)
        ...
        return NdisStatus.SUCCESS

The base classes answer every call with the interface's default, so a driver overrides only what it
changes: a miniport fails what it does not support, a protocol ignores what it did not ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeAlias

from ndisbus.ddi.enums import NDIS_RECEIVE_FLAGS_RESOURCES
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import LocalProtocolError

if TYPE_CHECKING:
    from ndisbus.driver.port import Ndis
    from ndisbus.lists.blocklist import BlockList
    from ndisbus.lists.nbl_chain import NblChain

__all__ = ["Answer", "Driver", "MiniportDriver", "ProtocolDriver", "Reply", "Steps", "kind_of"]

#: What NDIS answered: (return value, out parameter, ...).
Answer: TypeAlias = tuple[Any, ...]


class Reply:
    """An answer that has not arrived yet. A generator handler yields it and gets the :data:`Answer`."""

    __slots__ = ("answer", "name", "note")

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: Answer | None = None
        #: What the port records when NDIS answers with success.
        self.note: Callable[[Answer], None] | None = None


#: A handler that waits for NDIS.
Steps: TypeAlias = Generator[Reply, Answer, Any]


class Driver:
    """Base of all drivers. ``ndis`` is set when the driver is attached to a port."""

    ndis: Ndis

    def driver_entry(self) -> Steps | None:
        """DriverEntry: register the driver. Called when the bus is ready for it."""
        return None

    def detached(self, reason: str) -> None:
        """Handle the loss of the bus: it has gone, or has closed this driver's epoch.

        Everything in flight has been failed, bindings are closed and adapters halted. The driver keeps its
        own objects. ``driver_entry`` is called again when the bus is back.
        """

    def depart(self) -> bool:
        """Begin to give back what this driver holds for others: its process was asked to end (SIGTERM).

        From now on the driver takes over nothing new. The process goes on until :meth:`departed`, or until a
        time limit. Returns False if this driver gives nothing back; then the process leaves at once.
        """
        return False

    def departed(self) -> bool:
        """Return whether everything was given back, after :meth:`depart`."""
        return True

    def inspect(self) -> dict[str, int]:
        """Return the counters for ``ndisbus ps``: entries and contexts held, and the like."""
        return {}

    def control(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command of ``ndisbus fault`` or ``ndisbus adapter`` for this driver.

        Raises :class:`LocalProtocolError` for an unknown command.
        """
        raise LocalProtocolError(f"{type(self).__name__} does not know the command '{command}'")

    def next_deadline(self) -> float | None:
        """Return when :meth:`on_timer` must be called next, in the clock's seconds; None: never."""
        return None

    def on_timer(self, now: float) -> None:
        """Do what is due ``now``."""


class MiniportDriver(Driver):
    """A miniport edge that supports nothing: requests fail, OIDs are not supported."""

    def miniport_set_options(self, ndis_driver_handle: int, driver_context: int | None) -> Any:
        """MiniportSetOptions (DDI page nc-ndis-set_options): register optional handlers here."""
        return NdisStatus.SUCCESS

    def miniport_initialize_ex(
        self, ndis_miniport_handle: int, miniport_driver_context: int | None, parameters: dict[str, Any]
    ) -> Any:
        """MiniportInitializeEx: bring one adapter up."""
        return NdisStatus.NOT_SUPPORTED

    def miniport_halt_ex(self, miniport_adapter_context: int, halt_action: int) -> Any:
        """MiniportHaltEx: free everything that belongs to the adapter."""
        return NdisStatus.SUCCESS

    def miniport_check_for_hang_ex(self, miniport_adapter_context: int) -> Any:
        """MiniportCheckForHangEx: ``True`` asks NDIS for a reset."""
        return False

    def miniport_reset_ex(self, miniport_adapter_context: int) -> Any:
        """MiniportResetEx."""
        return NdisStatus.SUCCESS

    def miniport_oid_request(self, miniport_adapter_context: int, oid_request: dict[str, Any]) -> Any:
        """MiniportOidRequest: returns (status, OidRequest), or PENDING and completes later."""
        return NdisStatus.NOT_SUPPORTED, oid_request

    def _refuse(self, completion: str, miniport_adapter_context: int, block_list: BlockList) -> None:
        """Complete a request that is not supported: FAILURE in every block, and no other change."""
        from ndisbus.lists.blocklist import Key  # noqa: PLC0415 - keeps the import of this module fast

        block_list.columns[Key.STATUS] = int(NdisStatus.FAILURE)
        self.ndis.call(completion, self.adapter_handle(miniport_adapter_context), block_list)

    def adapter_handle(self, miniport_adapter_context: int) -> int:
        """Return the NdisMiniportHandle of an adapter context. Drivers with adapters override this."""
        raise LocalProtocolError(f"{type(self).__name__} has no adapter {miniport_adapter_context:#x}")

    def miniport_initiate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportInitiateOffload (DDI page nc-ndischimney-w_initiate_offload_handler)."""
        self._refuse("NdisMInitiateOffloadComplete", miniport_adapter_context, block_list)

    def miniport_query_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportQueryOffload (DDI page nc-ndischimney-w_query_offload_handler)."""
        self._refuse("NdisMQueryOffloadStateComplete", miniport_adapter_context, block_list)

    def miniport_update_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportUpdateOffload (DDI page nc-ndischimney-w_update_offload_handler)."""
        self._refuse("NdisMUpdateOffloadComplete", miniport_adapter_context, block_list)

    def miniport_invalidate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportInvalidateOffload (DDI page nc-ndischimney-w_invalidate_offload_handler)."""
        self._refuse("NdisMInvalidateOffloadComplete", miniport_adapter_context, block_list)

    def miniport_terminate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportTerminateOffload (DDI page nc-ndischimney-w_terminate_offload_handler)."""
        self._refuse("NdisMTerminateOffloadComplete", miniport_adapter_context, block_list)

    def _return_nbl(self, completion: str, miniport_adapter_context: int, chain: NblChain) -> None:
        chain.statuses = [int(NdisStatus.UPLOAD_IN_PROGRESS)] * len(chain)
        self.ndis.call(completion, self.adapter_handle(miniport_adapter_context), chain)

    def miniport_tcp_offload_send(self, miniport_adapter_context: int, context: int, chain: NblChain) -> None:
        """MiniportTcpOffloadSend: always PENDING. The base sends nothing, and the host keeps its data."""
        self._return_nbl("NdisTcpOffloadSendComplete", miniport_adapter_context, chain)

    def miniport_tcp_offload_receive(
        self, miniport_adapter_context: int, context: int, chain: NblChain
    ) -> None:
        """MiniportTcpOffloadReceive: always PENDING."""
        self._return_nbl("NdisTcpOffloadReceiveComplete", miniport_adapter_context, chain)

    def miniport_tcp_offload_disconnect(
        self, miniport_adapter_context: int, context: int, chain: NblChain, flags: int
    ) -> None:
        """MiniportTcpOffloadDisconnect: always PENDING."""
        self._return_nbl("NdisTcpOffloadDisconnectComplete", miniport_adapter_context, chain)

    def miniport_tcp_offload_forward(
        self, miniport_adapter_context: int, context: int, chain: NblChain
    ) -> None:
        """MiniportTcpOffloadForward: always PENDING."""
        self._return_nbl("NdisTcpOffloadForwardComplete", miniport_adapter_context, chain)

    def miniport_tcp_offload_receive_return(self, miniport_adapter_context: int, chain: NblChain) -> None:
        """MiniportTcpOffloadReceiveReturn: always succeeds and has no completion (R-IND-12)."""

    def miniport_send_net_buffer_lists(
        self, miniport_adapter_context: int, chain: NblChain, port_number: int, send_flags: int
    ) -> None:
        """MiniportSendNetBufferLists: each list is completed once. The base sends none."""
        chain.statuses = [int(NdisStatus.NOT_SUPPORTED)] * len(chain)
        self.ndis.m_send_net_buffer_lists_complete(self.adapter_handle(miniport_adapter_context), chain, 0)

    def miniport_return_net_buffer_lists(
        self, miniport_adapter_context: int, chain: NblChain, return_flags: int
    ) -> None:
        """MiniportReturnNetBufferLists: the lists that were indicated belong to the miniport again."""


class ProtocolDriver(Driver):
    """A protocol edge that binds to no adapter and ignores all events."""

    def protocol_set_options(self, ndis_driver_handle: int, driver_context: int | None) -> Any:
        """ProtocolSetOptions (DDI page nc-ndis-set_options): register optional handlers here."""
        return NdisStatus.SUCCESS

    def protocol_bind_adapter_ex(
        self, protocol_driver_context: int | None, bind_context: int, parameters: dict[str, Any]
    ) -> Any:
        """ProtocolBindAdapterEx: open the adapter named in BindParameters, or refuse."""
        return NdisStatus.NOT_SUPPORTED

    def protocol_unbind_adapter_ex(self, unbind_context: int, protocol_binding_context: int) -> Any:
        """ProtocolUnbindAdapterEx: close the binding, at once or by PENDING and NdisCloseAdapterEx later."""
        return self._close(protocol_binding_context)

    def _close(self, protocol_binding_context: int) -> Any:
        return NdisStatus.SUCCESS

    def protocol_close_adapter_complete_ex(self, protocol_binding_context: int) -> Steps | None:
        """ProtocolCloseAdapterCompleteEx: the binding is closed."""
        return None

    def protocol_net_pnp_event(
        self, protocol_binding_context: int | None, notification: dict[str, Any]
    ) -> Any:
        """ProtocolNetPnPEvent: PnP, power and reconfiguration events."""
        return NdisStatus.NOT_SUPPORTED

    def protocol_status_ex(self, protocol_binding_context: int, status_indication: dict[str, Any]) -> None:
        """ProtocolStatusEx."""

    def protocol_oid_request_complete(
        self, protocol_binding_context: int, oid_request: dict[str, Any], status: int, reason: str
    ) -> None:
        """ProtocolOidRequestComplete. ``reason`` says why NDIS itself refused; "" if it did not."""

    def protocol_initiate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        """ProtocolInitiateOffloadComplete (DDI page nc-ndischimney-initiate_offload_complete_handler)."""

    def protocol_query_offload_complete(self, protocol_binding_context: int, block_list: BlockList) -> None:
        """ProtocolQueryOffloadComplete (DDI page nc-ndischimney-query_offload_complete_handler)."""

    def protocol_update_offload_complete(self, protocol_binding_context: int, block_list: BlockList) -> None:
        """ProtocolUpdateOffloadComplete (DDI page nc-ndischimney-update_offload_complete_handler)."""

    def protocol_invalidate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        """ProtocolInvalidateOffloadComplete (DDI page nc-ndischimney-invalidate_offload_complete_handler)."""

    def protocol_terminate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        """ProtocolTerminateOffloadComplete (DDI page nc-ndischimney-terminate_offload_complete_handler)."""

    def protocol_tcp_offload_send_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        """ProtocolTcpOffloadSendComplete."""

    def protocol_tcp_offload_receive_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        """ProtocolTcpOffloadReceiveComplete."""

    def protocol_tcp_offload_disconnect_complete(
        self, protocol_binding_context: int, chain: NblChain
    ) -> None:
        """ProtocolTcpOffloadDisconnectComplete."""

    def protocol_tcp_offload_forward_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        """ProtocolTcpOffloadForwardComplete."""

    def protocol_tcp_offload_event(
        self, offload_context: int, event_type: int, event_specific_information: int
    ) -> None:
        """ProtocolTcpOffloadEvent; ``offload_context``: this driver's own NDIS_OFFLOAD_HANDLE (R-HND-10)."""

    def protocol_tcp_offload_receive_indicate(
        self, offload_context: int, chain: NblChain, status: int
    ) -> Any:
        """ProtocolTcpOffloadReceiveIndicate: returns (status, BytesConsumed)."""
        return NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED, 0

    def protocol_indicate_offload_event(
        self, protocol_binding_context: int, block_list: BlockList | None, indication_code: int
    ) -> Any:
        """ProtocolIndicateOffloadEvent: returns (None, answered block list)."""
        return None, block_list

    def protocol_send_net_buffer_lists_complete(
        self, protocol_binding_context: int, chain: NblChain, send_complete_flags: int
    ) -> None:
        """ProtocolSendNetBufferListsComplete: the protocol has its lists again, each with a status."""

    def protocol_receive_net_buffer_lists(
        self, protocol_binding_context: int, chain: NblChain, port_number: int, count: int, receive_flags: int
    ) -> None:
        """ProtocolReceiveNetBufferLists: frames outside the chimney. The base returns them at once."""
        if not receive_flags & NDIS_RECEIVE_FLAGS_RESOURCES:
            self.return_packets(protocol_binding_context, chain)

    def return_packets(self, protocol_binding_context: int, chain: NblChain) -> None:
        """Return lists that were indicated through a binding."""
        handle = self.ndis.binding_handle(protocol_binding_context)
        if handle is not None:
            self.ndis.return_net_buffer_lists(handle, chain.pointers(), 0)


def kind_of(driver: Driver) -> str:
    """Return which edges a driver has, as the word in its hello and in ``ndisbus ps``."""
    edges = isinstance(driver, MiniportDriver), isinstance(driver, ProtocolDriver)
    return {(True, True): "intermediate", (True, False): "miniport", (False, True): "protocol"}.get(
        edges, "none"
    )
