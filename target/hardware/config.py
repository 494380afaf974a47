"""What the emulated hardware can hold and do. All adapters of one target have the same capabilities.

While an adapter runs, only a resume changes its configuration (R-OID-11). Injectable failures are in
:mod:`target.hardware.knobs`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from ndisbus.ddi.enums import (
    NDIS_OFFLOAD_NOT_SUPPORTED,
    NDIS_OFFLOAD_SUPPORTED,
    NdisEncapsulation,
)
from ndisbus.ddi.structures import (
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
    NdisTcpConnectionOffload,
)
from ndisbus.errors import LocalProtocolError

__all__ = ["TargetConfig", "VoluntaryUploads"]

_USABLE_ENCAPSULATION: Final = (
    NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_802_3
    | NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED
)
_COUNTS: Final = (
    "neighbor_entries",
    "path_entries",
    "tcp_entries",
    "hw_address_entries",
    "ip_address_entries",
    "mtu",
    "link_speed",
    "receive_buffers",
    "max_rcv_window",
    "max_path_mtu",
    "xmit_reserve",
    "buffered_data_bytes",
    "backlog_step",
    "held_bytes",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoluntaryUploads:
    """When the target asks for a voluntary upload (R-EVT-12, R-EVT-13). None: never for this reason."""

    drop_rate: int | None = None
    """HighDropRate: retransmitted segments per 100 sent."""
    out_of_order: int | None = None
    """HighOutOfOrderPackets: segments out of sequence per 100 received."""
    fragments: int | None = None
    """HighFragmentation: number of datagrams that came in fragments."""
    low_activity: float | None = None
    """LowActivity: seconds without a segment in either direction."""
    no_preposting: int | None = None
    """NoBufferPreposting: indications in a row that found no receive request posted."""
    small_io: int | None = None
    """SmallIO: bytes. ``small_io_requests`` receive requests in a row were smaller."""
    small_io_requests: int = 16
    sample: int = 100
    """Number of segments over which the rates are computed."""

    def __post_init__(self) -> None:
        for name in ("drop_rate", "out_of_order", "fragments", "low_activity", "no_preposting", "small_io"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise LocalProtocolError(f"voluntary.{name} = {value}: must be positive or None")
        if self.sample < 1 or self.small_io_requests < 1:
            raise LocalProtocolError("voluntary.sample and voluntary.small_io_requests must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetConfig:
    """Capacities and capabilities of the target. Counts are per adapter, sizes are bytes.

    Raises LocalProtocolError for values that the interface does not allow.
    """

    name: str = "target"
    """Name of the driver, as NDIS and ``ndisbus ps`` show it."""
    adapters: tuple[str, ...] = ("nic0",)

    neighbor_entries: int = 1024
    path_entries: int = 16384
    tcp_entries: int = 262144
    hw_address_entries: int = 16
    """Source MAC addresses in addition to the interface's own. 0: cannot be configured (R-STATE-09)."""
    ip_address_entries: int = 256
    """Different source IP addresses of offloaded paths."""
    vlan_entries: int = 64
    """Different nonzero VLAN identifiers in use, at least 1 (R-VLAN-01)."""
    interface_vlans: frozenset[int] = frozenset()
    """Nonzero VLAN identifiers configured for the interface (R-VLAN-03, R-VLAN-04)."""
    mac: bytes = b"\x02\x00\x00\x00\x00\x01"
    """MAC address of the first adapter's interface, which does not take an entry (R-STATE-10). Each further
    adapter has the next higher address."""
    wires: tuple[str, ...] = ()
    """The wire of each adapter, in their order (:mod:`ndisbus.wire.spec`). An adapter without a spec, or with
    ``none``, does not have a wire; its connections stand still."""
    mtu: int = 1500
    """Longest payload of an Ethernet frame (MtuSize)."""
    link_speed: int = 10_000_000_000
    """Bits per second, in both directions."""
    receive_buffers: int = 8192
    """Lists for ordinary indications. A frame is dropped if none is free."""
    max_rcv_window: int = 1 << 30
    max_path_mtu: int = 65536
    xmit_buffer_bytes: int | None = None
    """Transmit buffers of all connections together. None: enough for every entry."""
    xmit_reserve: int = 16384
    """Transmit buffer that each connection takes."""
    rcv_buffer_bytes: int | None = None
    """Receive buffers; each connection takes its InitialRcvWnd. None: enough for every entry."""
    buffered_data_bytes: int = 64 << 20
    """Room for copies of receive data handed down with connections (R-BRD-03)."""
    host_memory_objects: int | None = None
    """Number of contexts that fit into the host's memory. Above it: NDIS_STATUS_RESOURCES. None: no limit."""
    unwelcome_ports: frozenset[int] = frozenset()
    """Connections with one of these ports are refused (R-INIT-15)."""

    support_ipv4: bool = True
    support_ipv6: bool = True
    support_ipv6_extension_headers: bool = False
    support_sack: bool = True
    encapsulation: int = int(NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_802_3)

    send_backlog: int | None = 65536
    """Preferred number of bytes posted for sending. None: the feature is not supported (R-STATE-13)."""
    receive_backlog: bool = True
    backlog_step: int = 16384
    """The smallest change of the send backlog that raises an event (R-EVT-15)."""
    backlog_interval: float = 1.0
    """Shortest time in seconds between two backlog events of one connection."""

    latency: float = 0.0
    """Seconds from a request to its completion. 0: it completes inside the handler (R-BLK-15)."""
    drop_corrupt: bool = False
    """Drop and count frames with a corrupt header instead of passing them to the host (R-STAT-06)."""
    held_bytes: int = 256 << 10
    """Most bytes of frames of one connection that wait for its upload (R-IP-08)."""
    voluntary: VoluntaryUploads = VoluntaryUploads()
    """When the target asks for uploads that the host may decline."""
    fail_terminate_twice: bool = True
    """After a failed terminate, events are raised and the object waits for another terminate (R-DIS-43).

    False: a failed terminate ends the object at once.
    """

    def __post_init__(self) -> None:
        if not self.adapters or len(set(self.adapters)) != len(self.adapters):
            raise LocalProtocolError(
                f"adapters = {', '.join(self.adapters)}: give at least one name, each once"
            )
        if not self.encapsulation & _USABLE_ENCAPSULATION:
            reason = f"encapsulation = {self.encapsulation:#x}: must include 802.3 or LLC-SNAP routed"
            raise LocalProtocolError(reason, rule="R-OID-09")
        if not (self.support_ipv4 or self.support_ipv6):
            raise LocalProtocolError(
                "support_ipv4 and support_ipv6 are both false: at least one must be true", rule="R-OID-10"
            )
        if self.vlan_entries < 1:
            raise LocalProtocolError(
                f"vlan_entries = {self.vlan_entries}: must be at least 1", rule="R-VLAN-01"
            )
        if len(self.mac) != 6 or self.mac[0] & 1:
            raise LocalProtocolError(f"mac = {self.mac.hex(':')}: must be six bytes and not a group address")
        if len(self.wires) > len(self.adapters):
            raise LocalProtocolError(
                f"{len(self.wires)} wires for {len(self.adapters)} adapters: give at most one for each"
            )
        if not all(0 < v < 4096 for v in self.interface_vlans):
            raise LocalProtocolError(
                f"interface_vlans = {sorted(self.interface_vlans)}: each must be 1 to 4095"
            )
        for name in _COUNTS:
            if getattr(self, name) < 0:
                raise LocalProtocolError(f"{name} = {getattr(self, name)}: must not be negative")
        if self.latency < 0 or self.backlog_interval < 0:
            raise LocalProtocolError("latency and backlog_interval must not be negative")

    def of_adapter(self, name: str) -> TargetConfig:
        """Return the configuration of one adapter, which differs only in ``mac``."""
        i = self.adapters.index(name) if name in self.adapters else 0
        if not i:
            return self
        number = int.from_bytes(self.mac[1:], "big") + i & (1 << 40) - 1
        return replace(self, mac=self.mac[:1] + number.to_bytes(5, "big"))

    def capabilities(self) -> NdisTcpConnectionOffload:
        """NDIS_TCP_CONNECTION_OFFLOAD: what the hardware can do (R-OID-09, R-OID-10)."""
        return NdisTcpConnectionOffload(
            encapsulation=self.encapsulation,
            support_ipv4=_bit(self.support_ipv4),
            support_ipv6=_bit(self.support_ipv6),
            support_ipv6_extension_headers=_bit(self.support_ipv6_extension_headers),
            support_sack=_bit(self.support_sack),
            tcp_connection_offload_capacity=self.tcp_entries,
        )

    def task(self) -> NdisTaskTcpConnectionOffload:
        """Return the capabilities in the form of the answer to a query of OID_TCP_TASK_OFFLOAD."""
        return NdisTaskTcpConnectionOffload(
            encapsulation=self.encapsulation,
            support_ipv4=_bit(self.support_ipv4),
            support_ipv6=_bit(self.support_ipv6),
            support_ipv6_extension_headers=_bit(self.support_ipv6_extension_headers),
            support_sack=_bit(self.support_sack),
            tcp_connection_offload_capacity=self.tcp_entries,
        )

    def task_header(self) -> NdisTaskOffloadHeader:
        """Return the whole InformationBuffer of that answer."""
        return NdisTaskOffloadHeader.of([NdisTaskOffload(task_buffer=self.task())])

    def changed(self, changes: dict[str, Any]) -> TargetConfig:
        """Return a copy with changed capabilities, for a resume.

        Raises LocalProtocolError if one is unknown.
        """
        unknown = sorted(set(changes) - _CHANGEABLE)
        if unknown:
            names = ", ".join(sorted(_CHANGEABLE))
            raise LocalProtocolError(f"unknown capability {', '.join(unknown)}; a resume may change {names}")
        return replace(self, **changes)


_CHANGEABLE: Final = frozenset(
    ("tcp_entries", "support_ipv4", "support_ipv6", "support_ipv6_extension_headers", "support_sack")
)


def _bit(on: bool) -> int:
    return NDIS_OFFLOAD_SUPPORTED if on else NDIS_OFFLOAD_NOT_SUPPORTED
