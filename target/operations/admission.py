"""Whether an object may be offloaded: the checks of an initiate, in a fixed order.

For each layer the checks that do not depend on free room come first (well-formed state, capabilities,
limits), then room: entries, tables, buffers, and the host's memory last. The first check that fails decides
the status. A refusal is an ordinary outcome. Its reason is counted and shown by ``ndisbus ps``.
"""

from __future__ import annotations

from struct import Struct
from struct import error as struct_error
from typing import Final, NamedTuple

from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisTaskTcpConnectionOffload
from ndisbus.ddi.tcp_enums import OFFLOADABLE_TCP_STATES, TCP_FLAG_SACK_ENABLED
from ndisbus.errors import DecodeError
from ndisbus.state.images import (
    NeighborOffloadStateConst,
    PathOffloadStateCached,
    PathOffloadStateConst,
    unpack_state,
)
from target.hardware.tables import Hardware

__all__ = ["Refusal", "TcpPeek", "admit_neighbor", "admit_path", "admit_tcp", "peek_tcp"]

# The members of a whole TCP state that admission reads. const: Length, Flags, RemotePort, LocalPort; cached:
# Length, InitialRcvWnd; delegated: Length, State, SendDataHead, SendDataTail, BufferedData.
_PEEK: Final = Struct("<I4xHHH10xI8xI28xI4xI84xQQQ")
_OFFLOADABLE: Final = frozenset(int(s) for s in OFFLOADABLE_TCP_STATES)
#: Bytes of an Ethernet address.
_ETHERNET: Final = 6
_IP6: Final = int(OffloadStateType.Ip6OffloadState)


class Refusal(NamedTuple):
    """Why an object is not taken over: the Status of its block, and the reason as text."""

    status: NdisStatus
    reason: str


class TcpPeek(NamedTuple):
    """The members of a connection's state that an initiate reads; a NULL pointer is 0."""

    const_length: int
    flags: int
    remote_port: int
    local_port: int
    cached_length: int
    initial_rcv_wnd: int
    delegated_length: int
    state: int
    send_data_head: int
    send_data_tail: int
    buffered_data: int


_DISABLED = Refusal(NdisStatus.FAILURE, "the chimney was not enabled by OID_TCP_TASK_OFFLOAD")
_FAMILY = Refusal(NdisStatus.FAILURE, "IP version not supported or not enabled")
_MALFORMED = Refusal(NdisStatus.FAILURE, "state is missing or not well formed")
_TCP_STATE = Refusal(NdisStatus.FAILURE, "TCP state cannot be offloaded")
_SACK = Refusal(NdisStatus.FAILURE, "SACK not supported or not enabled")
_MEMORY = Refusal(NdisStatus.RESOURCES, "no host memory for a context")
_MISMATCH = Refusal(NdisStatus.OFFLOAD_VLAN_MISMATCH, "VLAN identifier is not one of the interface's")
_FIXED_MAC = Refusal(NdisStatus.OFFLOAD_HW_ADDRESS_ENTRIES, "source MAC addresses cannot be configured")
_NEIGHBORS = Refusal(NdisStatus.OFFLOAD_NEIGHBOR_ENTRIES, "no free neighbor entry")
_VLANS = Refusal(NdisStatus.OFFLOAD_VLAN_ENTRIES, "no room for another VLAN identifier")
_MACS = Refusal(NdisStatus.OFFLOAD_HW_ADDRESS_ENTRIES, "no room for another source MAC address")
_MTU = Refusal(NdisStatus.OFFLOAD_PATH_MTU, "path MTU too large")
_PATHS = Refusal(NdisStatus.OFFLOAD_PATH_ENTRIES, "no free path entry")
_SOURCES = Refusal(NdisStatus.OFFLOAD_IP_ADDRESS_ENTRIES, "no room for another source IP address")
_UNWELCOME = Refusal(NdisStatus.OFFLOAD_CONNECTION_REJECTED, "connection not worth offloading")
_WINDOW = Refusal(NdisStatus.OFFLOAD_TCP_RCV_WINDOW, "initial receive window too large")
_ENTRIES = Refusal(NdisStatus.OFFLOAD_TCP_ENTRIES, "no free connection entry")
_XMIT = Refusal(NdisStatus.OFFLOAD_TCP_XMIT_BUFFER, "no free transmit buffers")
_RCV = Refusal(NdisStatus.OFFLOAD_TCP_RCV_BUFFER, "no free receive buffers")
_BUFFERED = Refusal(NdisStatus.FAILURE, "no room for a copy of the buffered receive data")

Enabled = NdisTaskTcpConnectionOffload | None


def admit_neighbor(hardware: Hardware, enabled: Enabled, image: bytes | None) -> Refusal | tuple[int, bytes]:
    """Return the VLAN identifier and source MAC address to enter (0 and empty: none), or the refusal.

    R-INIT-08, R-INIT-09, R-INIT-13, R-STATE-09, R-STATE-10, R-VLAN-02 to R-VLAN-04.
    """
    if enabled is None:
        return _DISABLED
    try:
        const = unpack_state(OffloadStateType.NeighborOffloadState, image or b"")[0]
    except DecodeError:
        return _MALFORMED
    assert isinstance(const, NeighborOffloadStateConst)
    config = hardware.config
    vlan, mac = const.vlan_id, const.dl_source_address
    if vlan and config.interface_vlans and vlan not in config.interface_vlans:
        return _MISMATCH
    if mac == config.mac:
        mac = b""
    if mac and (not config.hw_address_entries or len(mac) != _ETHERNET):
        return _FIXED_MAC
    if hardware.neighbors >= config.neighbor_entries:
        return _NEIGHBORS
    if not hardware.vlan_room(vlan):
        return _VLANS
    if not hardware.mac_room(mac):
        return _MACS
    return (vlan, mac) if hardware.memory_left else _MEMORY


def admit_path(
    hardware: Hardware, enabled: Enabled, state_type: int, image: bytes | None
) -> Refusal | tuple[bytes, bytes]:
    """Return the source and destination to enter, or the refusal.

    R-INIT-08, R-INIT-10, R-INIT-14, R-OID-10.
    """
    if enabled is None:
        return _DISABLED
    if not (enabled.support_ipv6 if state_type == _IP6 else enabled.support_ipv4):
        return _FAMILY
    try:
        const, cached, _ = unpack_state(state_type, image or b"")
    except DecodeError:
        return _MALFORMED
    assert isinstance(const, PathOffloadStateConst)
    assert isinstance(cached, PathOffloadStateCached)
    config = hardware.config
    if cached.path_mtu > config.max_path_mtu:
        return _MTU
    if hardware.paths >= config.path_entries:
        return _PATHS
    if not hardware.source_room(const.source_address):
        return _SOURCES
    return (const.source_address, const.destination_address) if hardware.memory_left else _MEMORY


def peek_tcp(image: bytes | None) -> TcpPeek | None:
    """Read members from the image of a whole TCP state. Returns None if it is not one."""
    try:
        return TcpPeek._make(_PEEK.unpack(image or b""))
    except struct_error:
        return None


def admit_tcp(hardware: Hardware, enabled: Enabled, image: bytes | None, buffered: int = 0) -> Refusal | int:
    """Return the bytes of receive buffer to reserve (InitialRcvWnd), or the refusal.

    ``buffered``: bytes that came with it. R-STATE-06, R-INIT-08, R-INIT-11, R-INIT-12, R-INIT-15, R-BRD-03.
    """
    if enabled is None:
        return _DISABLED
    try:
        length, flags, remote, local, length2, window, length3, state, _, _, _ = _PEEK.unpack(image or b"")
    except struct_error:
        return _MALFORMED
    if length != 0x18 or length2 != 0x2C or length3 != 0x78:
        return _MALFORMED
    if state not in _OFFLOADABLE:
        return _TCP_STATE
    if flags & TCP_FLAG_SACK_ENABLED and not enabled.support_sack:
        return _SACK
    config = hardware.config
    unwelcome = config.unwelcome_ports
    if unwelcome and (remote in unwelcome or local in unwelcome):
        return _UNWELCOME
    if window > config.max_rcv_window:
        return _WINDOW
    if hardware.connections >= config.tcp_entries:
        return _ENTRIES
    limit = config.xmit_buffer_bytes
    if limit is not None and hardware.xmit_bytes + config.xmit_reserve > limit:
        return _XMIT
    limit = config.rcv_buffer_bytes
    if limit is not None and hardware.rcv_bytes + window > limit:
        return _RCV
    if buffered and hardware.buffered_bytes + buffered > config.buffered_data_bytes:
        return _BUFFERED
    limit = config.host_memory_objects
    if limit is not None and len(hardware.objects) >= limit:
        return _MEMORY
    return int(window)
