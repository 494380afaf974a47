"""What the emulated hardware can hold and do; the same for every adapter of one target.

Nothing here changes while an adapter runs, apart from what a resume reports anew (R-OID-11); injectable
failures are in :mod:`target.knobs`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from ndisbus.enums import NDIS_OFFLOAD_NOT_SUPPORTED, NDIS_OFFLOAD_SUPPORTED, NdisEncapsulation
from ndisbus.errors import LocalProtocolError
from ndisbus.structures import (
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
    NdisTcpConnectionOffload,
)

__all__ = ["TargetConfig"]

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
    "max_rcv_window",
    "max_path_mtu",
    "xmit_reserve",
    "buffered_data_bytes",
    "backlog_step",
)


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
    """The interface's own address; it takes no entry (R-STATE-10)."""
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
        if not all(0 < v < 4096 for v in self.interface_vlans):
            raise LocalProtocolError(f"interface_vlans {sorted(self.interface_vlans)}: 1 to 4095 each")
        for name in _COUNTS:
            if getattr(self, name) < 0:
                raise LocalProtocolError(f"{name} = {getattr(self, name)}: must not be negative")
        if self.latency < 0 or self.backlog_interval < 0:
            raise LocalProtocolError("latency and backlog_interval are seconds, 0 or more")

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
