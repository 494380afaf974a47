"""The three state structures of a neighbor.

DDI pages ns-ndischimney-_neighbor_offload_state_const, ..._cached and ..._delegated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ndisbus.ddi.cstruct import member
from ndisbus.state.base import OffloadState, header_length, header_options

__all__ = ["NeighborOffloadStateCached", "NeighborOffloadStateConst", "NeighborOffloadStateDelegated"]


@dataclass(slots=True)
class NeighborOffloadStateConst(OffloadState):
    """NEIGHBOR_OFFLOAD_STATE_CONST, 0x2C bytes.

    ``dl_source_address``: up to 32 bytes, empty for the interface's own address. ``vlan_id``: 12 bits, 0 if
    not significant. The image pads the address with zeros to 32 bytes. Reading returns ``b""`` for zeros
    only, 6 bytes if the other 26 are zero, and otherwise all 32.
    """

    NAME: ClassVar[str] = "NEIGHBOR_OFFLOAD_STATE_CONST"
    SIZE: ClassVar[int] = 0x2C

    dl_source_address: bytes = member("DlSourceAddress", "UCHAR[32]", 0x08, default=b"")
    vlan_id: int = member("VlanId", "ULONG", 0x28, default=0, bits=12)
    length: int = header_length(0x2C)
    recognized_options: int = header_options()


@dataclass(slots=True)
class NeighborOffloadStateCached(OffloadState):
    """NEIGHBOR_OFFLOAD_STATE_CACHED, 0x2C bytes.

    ``dl_destination_address``: the next hop's link address, in the form of DlSourceAddress of the constant
    state. ``host_reachability_delta``: ticks since the host last confirmed the neighbor.
    """

    NAME: ClassVar[str] = "NEIGHBOR_OFFLOAD_STATE_CACHED"
    SIZE: ClassVar[int] = 0x2C

    dl_destination_address: bytes = member("DlDestinationAddress", "UCHAR[32]", 0x08, default=b"")
    host_reachability_delta: int = member("HostReachabilityDelta", "ULONG", 0x28, default=0)
    length: int = header_length(0x2C)
    recognized_options: int = header_options()


@dataclass(slots=True)
class NeighborOffloadStateDelegated(OffloadState):
    """NEIGHBOR_OFFLOAD_STATE_DELEGATED, 0x0C bytes.

    ``nic_reachability_delta``: ticks since the target last confirmed the neighbor.
    """

    NAME: ClassVar[str] = "NEIGHBOR_OFFLOAD_STATE_DELEGATED"
    SIZE: ClassVar[int] = 0x0C

    nic_reachability_delta: int = member("NicReachabilityDelta", "ULONG", 0x08, default=0)
    length: int = header_length(0x0C)
    recognized_options: int = header_options()
