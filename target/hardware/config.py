"""What the emulated hardware can hold and do; the same for every adapter of one target.

Nothing here changes while an adapter runs, apart from what a resume reports anew (R-OID-11); injectable
failures are in :mod:`target.hardware.knobs`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from ndisbus.ddi.enums import NDIS_OFFLOAD_NOT_SUPPORTED, NDIS_OFFLOAD_SUPPORTED, NdisEncapsulation
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
    """Limits beyond which a voluntary upload is asked for (R-EVT-12, R-EVT-13); None: never."""

    drop_rate: int | None = None
    """HighDropRate: segments retransmitted in 100 sent."""
    out_of_order: int | None = None
    """HighOutOfOrderPackets: segments out of sequence in 100 received."""
    fragments: int | None = None
    """HighFragmentation: datagrams of the connection that came in fragments."""
    low_activity: float | None = None
    """LowActivity: seconds without a segment in either direction."""
    no_preposting: int | None = None
    """NoBufferPreposting: indications in a row, for want of a posted receive request."""
    small_io: int | None = None
    """SmallIO: bytes; receive requests in a row are smaller (as many as ``small_io_requests``)."""
    small_io_requests: int = 16
    sample: int = 100
    """Segments after which a rate means something."""

    def __post_init__(self) -> None:
        for name in ("drop_rate", "out_of_order", "fragments", "low_activity", "no_preposting", "small_io"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise LocalProtocolError(f"voluntary.{name} = {value}: must be positive, or None")
        if self.sample < 1 or self.small_io_requests < 1:
            raise LocalProtocolError("voluntary.sample and voluntary.small_io_requests are at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetConfig:
    """Capacities, capabilities and habits of the target. Counts are per adapter, sizes are bytes.

    Raises :class:`LocalProtocolError` for a target that the interface does not allow.
    """

    name: str = "target"
    """Name of the driver, as NDIS and ``ndisbus ps`` show it."""
    adapters: tuple[str, ...] = ("nic0",)

    neighbor_entries: int = 1024
    path_entries: int = 16384
    tcp_entries: int = 262144
    hw_address_entries: int = 16
    """Source MAC addresses beside the interface's own; 0: addresses cannot be configured (R-STATE-09)."""
    ip_address_entries: int = 256
    """Different source IP addresses of offloaded paths."""
    vlan_entries: int = 64
    """Different nonzero VLAN identifiers in use; at least one (R-VLAN-01)."""
    interface_vlans: frozenset[int] = frozenset()
    """Nonzero VLAN identifiers configured for the interface (R-VLAN-03, R-VLAN-04)."""
    mac: bytes = b"\x02\x00\x00\x00\x00\x01"
    """The own address of the first adapter's interface; it takes no entry (R-STATE-10). The second adapter's
    is the next higher one, and so on."""
    wires: tuple[str, ...] = ()
    """What each adapter is plugged into, in their order (:mod:`ndisbus.wire.spec`); those without a spec, or
    with ``none``, have no wire. Connections on an adapter without a wire stand still."""
    mtu: int = 1500
    """Longest payload of an Ethernet frame (MtuSize)."""
    link_speed: int = 10_000_000_000
    """Bits per second, in both directions."""
    receive_buffers: int = 8192
    """Lists for ordinary indications; a frame that finds none is dropped."""
    max_rcv_window: int = 1 << 30
    max_path_mtu: int = 65536
    xmit_buffer_bytes: int | None = None
    """Transmit buffers of all connections together; None: enough for every entry."""
    xmit_reserve: int = 16384
    """What each connection takes of them."""
    rcv_buffer_bytes: int | None = None
    """Receive buffers; each connection takes its InitialRcvWnd. None: enough for every entry."""
    buffered_data_bytes: int = 64 << 20
    """Room for copies of receive data handed down with connections (R-BRD-03)."""
    host_memory_objects: int | None = None
    """Contexts the host's memory has room for; None: no limit (NDIS_STATUS_RESOURCES beyond it)."""
    unwelcome_ports: frozenset[int] = frozenset()
    """Connections with one of these ports are not worth offloading (R-INIT-15)."""

    support_ipv4: bool = True
    support_ipv6: bool = True
    support_ipv6_extension_headers: bool = False
    support_sack: bool = True
    encapsulation: int = int(NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_802_3)

    send_backlog: int | None = 65536
    """Preferred number of bytes posted for sending; None: the target lacks the feature (R-STATE-13)."""
    receive_backlog: bool = True
    backlog_step: int = 16384
    """A smaller change of the send backlog raises no event (R-EVT-15)."""
    backlog_interval: float = 1.0
    """Seconds between two backlog events of one connection, at least."""

    latency: float = 0.0
    """Seconds between a request and its completion; 0: completed inside the handler (R-BLK-15)."""
    drop_corrupt: bool = False
    """Packets with a corrupt header are dropped and counted instead of going to the host (R-STAT-06)."""
    held_bytes: int = 256 << 10
    """Frames of one connection that wait for its upload, at most (R-IP-08)."""
    voluntary: VoluntaryUploads = VoluntaryUploads()
    """When the upload of a connection is asked for that the host may decline."""
    fail_terminate_twice: bool = True
    """A terminate that fails is followed by events and awaits another terminate (R-DIS-43).

    False: a failed terminate is the end of the object at once.
    """

    def __post_init__(self) -> None:
        if not self.adapters or len(set(self.adapters)) != len(self.adapters):
            raise LocalProtocolError(f"adapters {self.adapters!r}: at least one, each name once")
        if not self.encapsulation & _USABLE_ENCAPSULATION:
            reason = f"encapsulation {self.encapsulation:#x}: 802.3 or LLC-SNAP routed is needed"
            raise LocalProtocolError(reason, rule="R-OID-09")
        if not (self.support_ipv4 or self.support_ipv6):
            raise LocalProtocolError("neither IPv4 nor IPv6 is supported", rule="R-OID-10")
        if self.vlan_entries < 1:
            raise LocalProtocolError(f"vlan_entries = {self.vlan_entries}: at least 1", rule="R-VLAN-01")
        if len(self.mac) != 6 or self.mac[0] & 1:
            raise LocalProtocolError(f"mac {self.mac.hex(':')}: six bytes of a station's address")
        if len(self.wires) > len(self.adapters):
            raise LocalProtocolError(f"{len(self.wires)} wires for {len(self.adapters)} adapters")
        if not all(0 < v < 4096 for v in self.interface_vlans):
            raise LocalProtocolError(f"interface_vlans {sorted(self.interface_vlans)}: 1 to 4095 each")
        for name in _COUNTS:
            if getattr(self, name) < 0:
                raise LocalProtocolError(f"{name} = {getattr(self, name)}: must not be negative")
        if self.latency < 0 or self.backlog_interval < 0:
            raise LocalProtocolError("latency and backlog_interval are seconds, 0 or more")

    def of_adapter(self, name: str) -> TargetConfig:
        """The configuration of one adapter: the same but for the interface's own address."""
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
        """The same, as the answer to a query of OID_TCP_TASK_OFFLOAD says it."""
        return NdisTaskTcpConnectionOffload(
            encapsulation=self.encapsulation,
            support_ipv4=_bit(self.support_ipv4),
            support_ipv6=_bit(self.support_ipv6),
            support_ipv6_extension_headers=_bit(self.support_ipv6_extension_headers),
            support_sack=_bit(self.support_sack),
            tcp_connection_offload_capacity=self.tcp_entries,
        )

    def task_header(self) -> NdisTaskOffloadHeader:
        """The whole InformationBuffer of that answer."""
        return NdisTaskOffloadHeader.of([NdisTaskOffload(task_buffer=self.task())])

    def changed(self, changes: dict[str, Any]) -> TargetConfig:
        """A copy with other capabilities, for a resume. Raises LocalProtocolError for a name unknown."""
        unknown = sorted(set(changes) - _CHANGEABLE)
        if unknown:
            names = ", ".join(sorted(_CHANGEABLE))
            raise LocalProtocolError(f"{', '.join(unknown)}: no capability; a resume may change {names}")
        return replace(self, **changes)


_CHANGEABLE: Final = frozenset(
    ("tcp_entries", "support_ipv4", "support_ipv6", "support_ipv6_extension_headers", "support_sack")
)


def _bit(on: bool) -> int:
    return NDIS_OFFLOAD_SUPPORTED if on else NDIS_OFFLOAD_NOT_SUPPORTED
