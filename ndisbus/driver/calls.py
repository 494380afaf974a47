"""Generated from the call table by ``python tools/generate_calls.py``; do not edit.

One method per function that a driver calls, under its DDI name in snake_case without ``Ndis``.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from ndisbus.driver.base import Reply
from ndisbus.lists.blocklist import BlockList
from ndisbus.lists.nbl_chain import NblChain

__all__ = ["NdisCalls", "ToWire", "Wire"]


class ToWire(Protocol):
    """A structure with a wire form."""

    def to_wire(self) -> dict[str, Any]:
        """Members by DDI name."""
        ...


Wire: TypeAlias = ToWire | dict[str, Any]


class NdisCalls:
    """The functions that NDIS offers to drivers."""

    def call(self, name: str, *args: Any) -> Any:
        """Call a function by its DDI name."""
        raise NotImplementedError

    def initiate_offload(self, binding_handle: int | None, offload_block_list: BlockList) -> None:
        """NdisInitiateOffload (DDI page nf-ndischimney-ndisinitiateoffload); leads to
        MiniportInitiateOffload.
        """
        self.call("NdisInitiateOffload", binding_handle, offload_block_list)

    def m_initiate_offload_complete(self, miniport_handle: int | None, offload_block_list: BlockList) -> None:
        """NdisMInitiateOffloadComplete (DDI page nf-ndischimney-ndisminitiateoffloadcomplete); leads to
        ProtocolInitiateOffloadComplete.
        """
        self.call("NdisMInitiateOffloadComplete", miniport_handle, offload_block_list)

    def query_offload_state(self, binding_handle: int | None, offload_block_list: BlockList) -> None:
        """NdisQueryOffloadState (DDI page nf-ndischimney-ndisqueryoffloadstate); leads to
        MiniportQueryOffload.
        """
        self.call("NdisQueryOffloadState", binding_handle, offload_block_list)

    def m_query_offload_state_complete(
        self,
        miniport_handle: int | None,
        offload_block_list: BlockList,
    ) -> None:
        """NdisMQueryOffloadStateComplete (DDI page nf-ndischimney-ndismqueryoffloadstatecomplete); leads
        to ProtocolQueryOffloadComplete.
        """
        self.call("NdisMQueryOffloadStateComplete", miniport_handle, offload_block_list)

    def update_offload(self, binding_handle: int | None, offload_block_list: BlockList) -> None:
        """NdisUpdateOffload (DDI page nf-ndischimney-ndisupdateoffload); leads to MiniportUpdateOffload."""
        self.call("NdisUpdateOffload", binding_handle, offload_block_list)

    def m_update_offload_complete(self, miniport_handle: int | None, offload_block_list: BlockList) -> None:
        """NdisMUpdateOffloadComplete (DDI page nf-ndischimney-ndismupdateoffloadcomplete); leads to
        ProtocolUpdateOffloadComplete.
        """
        self.call("NdisMUpdateOffloadComplete", miniport_handle, offload_block_list)

    def invalidate_offload(self, binding_handle: int | None, offload_block_list: BlockList) -> None:
        """NdisInvalidateOffload (DDI page nf-ndischimney-ndisinvalidateoffload); leads to
        MiniportInvalidateOffload.
        """
        self.call("NdisInvalidateOffload", binding_handle, offload_block_list)

    def m_invalidate_offload_complete(
        self,
        miniport_handle: int | None,
        offload_block_list: BlockList,
    ) -> None:
        """NdisMInvalidateOffloadComplete (DDI page nf-ndischimney-ndisminvalidateoffloadcomplete); leads
        to ProtocolInvalidateOffloadComplete.
        """
        self.call("NdisMInvalidateOffloadComplete", miniport_handle, offload_block_list)

    def terminate_offload(self, binding_handle: int | None, offload_block_list: BlockList) -> None:
        """NdisTerminateOffload (DDI page nf-ndischimney-ndisterminateoffload); leads to
        MiniportTerminateOffload.
        """
        self.call("NdisTerminateOffload", binding_handle, offload_block_list)

    def m_terminate_offload_complete(
        self,
        miniport_handle: int | None,
        offload_block_list: BlockList,
    ) -> None:
        """NdisMTerminateOffloadComplete (DDI page nf-ndischimney-ndismterminateoffloadcomplete); leads to
        ProtocolTerminateOffloadComplete.
        """
        self.call("NdisMTerminateOffloadComplete", miniport_handle, offload_block_list)

    def offload_tcp_send(self, offload_handle: int | None, net_buffer_list: NblChain) -> None:
        """NdisOffloadTcpSend (DDI page nf-ndischimney-ndisoffloadtcpsend); leads to
        MiniportTcpOffloadSend.
        """
        self.call("NdisOffloadTcpSend", offload_handle, net_buffer_list)

    def tcp_offload_send_complete(self, miniport_handle: int | None, net_buffer_list: NblChain) -> None:
        """NdisTcpOffloadSendComplete (DDI page nc-ndischimney-ndis_tcp_offload_send_complete); leads to
        ProtocolTcpOffloadSendComplete.
        """
        self.call("NdisTcpOffloadSendComplete", miniport_handle, net_buffer_list)

    def offload_tcp_receive(self, offload_handle: int | None, net_buffer_list: NblChain) -> None:
        """NdisOffloadTcpReceive (DDI page nf-ndischimney-ndisoffloadtcpreceive); leads to
        MiniportTcpOffloadReceive.
        """
        self.call("NdisOffloadTcpReceive", offload_handle, net_buffer_list)

    def tcp_offload_receive_complete(self, miniport_handle: int | None, net_buffer_list: NblChain) -> None:
        """NdisTcpOffloadReceiveComplete (DDI page nc-ndischimney-ndis_tcp_offload_receive_complete); leads
        to ProtocolTcpOffloadReceiveComplete.
        """
        self.call("NdisTcpOffloadReceiveComplete", miniport_handle, net_buffer_list)

    def offload_tcp_disconnect(
        self,
        offload_handle: int | None,
        net_buffer_list: NblChain,
        flags: int,
    ) -> None:
        """NdisOffloadTcpDisconnect (DDI page nf-ndischimney-ndisoffloadtcpdisconnect); leads to
        MiniportTcpOffloadDisconnect.
        """
        self.call("NdisOffloadTcpDisconnect", offload_handle, net_buffer_list, flags)

    def tcp_offload_disconnect_complete(self, miniport_handle: int | None, net_buffer_list: NblChain) -> None:
        """NdisTcpOffloadDisconnectComplete (DDI page nc-ndischimney-ndis_tcp_offload_disconnect_complete);
        leads to ProtocolTcpOffloadDisconnectComplete.
        """
        self.call("NdisTcpOffloadDisconnectComplete", miniport_handle, net_buffer_list)

    def offload_tcp_forward(self, offload_handle: int | None, net_buffer_list: NblChain) -> None:
        """NdisOffloadTcpForward (DDI page nf-ndischimney-ndisoffloadtcpforward); leads to
        MiniportTcpOffloadForward.
        """
        self.call("NdisOffloadTcpForward", offload_handle, net_buffer_list)

    def tcp_offload_forward_complete(self, miniport_handle: int | None, net_buffer_list: NblChain) -> None:
        """NdisTcpOffloadForwardComplete (DDI page nc-ndischimney-ndis_tcp_offload_forward_complete); leads
        to ProtocolTcpOffloadForwardComplete.
        """
        self.call("NdisTcpOffloadForwardComplete", miniport_handle, net_buffer_list)

    def offload_tcp_receive_return(self, binding_handle: int | None, net_buffer_list: NblChain) -> None:
        """NdisOffloadTcpReceiveReturn (DDI page nf-ndischimney-ndisoffloadtcpreceivereturn); leads to
        MiniportTcpOffloadReceiveReturn.
        """
        self.call("NdisOffloadTcpReceiveReturn", binding_handle, net_buffer_list)

    def send_net_buffer_lists(
        self,
        binding_handle: int | None,
        net_buffer_lists: NblChain,
        port_number: int,
        send_flags: int,
    ) -> None:
        """NdisSendNetBufferLists (DDI page nf-ndis-ndissendnetbufferlists); leads to
        MiniportSendNetBufferLists.
        """
        self.call("NdisSendNetBufferLists", binding_handle, net_buffer_lists, port_number, send_flags)

    def m_send_net_buffer_lists_complete(
        self,
        miniport_adapter_handle: int | None,
        net_buffer_list: NblChain,
        send_complete_flags: int,
    ) -> None:
        """NdisMSendNetBufferListsComplete (DDI page nf-ndis-ndismsendnetbufferlistscomplete); leads to
        ProtocolSendNetBufferListsComplete.
        """
        self.call(
            "NdisMSendNetBufferListsComplete", miniport_adapter_handle, net_buffer_list, send_complete_flags
        )

    def return_net_buffer_lists(
        self,
        binding_handle: int | None,
        net_buffer_lists: NblChain,
        return_flags: int,
    ) -> None:
        """NdisReturnNetBufferLists (DDI page nf-ndis-ndisreturnnetbufferlists); leads to
        MiniportReturnNetBufferLists.
        """
        self.call("NdisReturnNetBufferLists", binding_handle, net_buffer_lists, return_flags)

    def m_offload_event_indicate(
        self,
        miniport_handle: int | None,
        offload_block_list: BlockList,
        indication_code: int,
    ) -> Reply:
        """NdisMOffloadEventIndicate (DDI page propagating-an-indication); leads to
        ProtocolIndicateOffloadEvent; the answer carries OffloadBlockList.
        """
        reply: Reply = self.call(
            "NdisMOffloadEventIndicate", miniport_handle, offload_block_list, indication_code
        )
        return reply

    def tcp_offload_event_handler(
        self,
        offload_handle: int | None,
        event_type: int,
        event_specific_information: int,
    ) -> None:
        """NdisTcpOffloadEventHandler (DDI page propagating-an-indication); leads to
        ProtocolTcpOffloadEvent.
        """
        self.call("NdisTcpOffloadEventHandler", offload_handle, event_type, event_specific_information)

    def tcp_offload_receive_handler(
        self,
        offload_handle: int | None,
        net_buffer_list: NblChain,
        status: int,
    ) -> Reply:
        """NdisTcpOffloadReceiveHandler (DDI page propagating-an-indication); leads to
        ProtocolTcpOffloadReceiveIndicate; the answer carries BytesConsumed.
        """
        reply: Reply = self.call("NdisTcpOffloadReceiveHandler", offload_handle, net_buffer_list, status)
        return reply

    def m_indicate_status_ex(self, miniport_adapter_handle: int | None, status_indication: Wire) -> None:
        """NdisMIndicateStatusEx (DDI page propagating-an-indication); leads to ProtocolStatusEx."""
        self.call("NdisMIndicateStatusEx", miniport_adapter_handle, status_indication)

    def m_indicate_receive_net_buffer_lists(
        self,
        miniport_adapter_handle: int | None,
        net_buffer_lists: NblChain,
        port_number: int,
        number_of_net_buffer_lists: int,
        receive_flags: int,
    ) -> None:
        """NdisMIndicateReceiveNetBufferLists (DDI page propagating-an-indication); leads to
        ProtocolReceiveNetBufferLists.
        """
        self.call(
            "NdisMIndicateReceiveNetBufferLists",
            miniport_adapter_handle,
            net_buffer_lists,
            port_number,
            number_of_net_buffer_lists,
            receive_flags,
        )

    def m_register_miniport_driver(self, miniport_driver_context: int | None, registry_path: Wire) -> Reply:
        """NdisMRegisterMiniportDriver (DDI page nf-ndis-ndismregisterminiportdriver); the answer carries
        NdisMiniportDriverHandle.
        """
        reply: Reply = self.call("NdisMRegisterMiniportDriver", miniport_driver_context, registry_path)
        return reply

    def register_protocol_driver(self, protocol_driver_context: int | None, registry_path: Wire) -> Reply:
        """NdisRegisterProtocolDriver (DDI page nf-ndis-ndisregisterprotocoldriver); the answer carries
        NdisProtocolHandle.
        """
        reply: Reply = self.call("NdisRegisterProtocolDriver", protocol_driver_context, registry_path)
        return reply

    def set_optional_handlers(self, handle: int | None, optional_handlers: Wire) -> Reply:
        """NdisSetOptionalHandlers (DDI page nf-ndis-ndissetoptionalhandlers)."""
        reply: Reply = self.call("NdisSetOptionalHandlers", handle, optional_handlers)
        return reply

    def m_set_miniport_attributes(self, miniport_handle: int | None, miniport_attributes: Wire) -> Reply:
        """NdisMSetMiniportAttributes (DDI page nf-ndis-ndismsetminiportattributes)."""
        reply: Reply = self.call("NdisMSetMiniportAttributes", miniport_handle, miniport_attributes)
        return reply

    def m_get_offload_handlers(self, miniport_handle: int | None, chimney_type: int) -> Reply:
        """NdisMGetOffloadHandlers (DDI page nf-ndis-ndismgetoffloadhandlers); the answer carries
        OffloadHandlers.
        """
        reply: Reply = self.call("NdisMGetOffloadHandlers", miniport_handle, chimney_type)
        return reply

    def im_initialize_device_instance_ex(
        self,
        miniport_driver_handle: int | None,
        driver_instance: str,
        device_context: int | None,
    ) -> Reply:
        """NdisIMInitializeDeviceInstanceEx (DDI page nf-ndis-ndisiminitializedeviceinstanceex); leads to
        MiniportInitializeEx; the answer carries NdisMiniportHandle.
        """
        reply: Reply = self.call(
            "NdisIMInitializeDeviceInstanceEx", miniport_driver_handle, driver_instance, device_context
        )
        return reply

    def im_de_initialize_device_instance(self, miniport_handle: int | None) -> Reply:
        """NdisIMDeInitializeDeviceInstance (DDI page nf-ndis-ndisimdeinitializedeviceinstance); leads to
        MiniportHaltEx.
        """
        reply: Reply = self.call("NdisIMDeInitializeDeviceInstance", miniport_handle)
        return reply

    def open_adapter_ex(
        self,
        protocol_handle: int | None,
        protocol_binding_context: int | None,
        open_parameters: Wire,
    ) -> Reply:
        """NdisOpenAdapterEx (DDI page nf-ndis-ndisopenadapterex); the answer carries NdisBindingHandle."""
        reply: Reply = self.call(
            "NdisOpenAdapterEx", protocol_handle, protocol_binding_context, open_parameters
        )
        return reply

    def close_adapter_ex(self, binding_handle: int | None) -> Reply:
        """NdisCloseAdapterEx (DDI page nf-ndis-ndiscloseadapterex); leads to
        ProtocolCloseAdapterCompleteEx.
        """
        reply: Reply = self.call("NdisCloseAdapterEx", binding_handle)
        return reply

    def oid_request(self, binding_handle: int | None, oid_request: Wire) -> None:
        """NdisOidRequest (DDI page nf-ndis-ndisoidrequest); leads to MiniportOidRequest."""
        self.call("NdisOidRequest", binding_handle, oid_request)

    def m_oid_request_complete(
        self,
        miniport_adapter_handle: int | None,
        oid_request: Wire,
        status: int,
    ) -> None:
        """NdisMOidRequestComplete (DDI page nf-ndis-ndismoidrequestcomplete); leads to
        ProtocolOidRequestComplete.
        """
        self.call("NdisMOidRequestComplete", miniport_adapter_handle, oid_request, status)
