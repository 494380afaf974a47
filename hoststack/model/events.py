"""What a host driver tells its owner: a queue of small records, read by ``next_event()``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoststack.model.objects import Tcb
    from hoststack.model.operation import Operation
    from ndisbus.ddi.structures import NdisTcpConnectionOffload

__all__ = [
    "AbortIndicated",
    "Bound",
    "BusLost",
    "ChimneyDisabled",
    "ChimneyEnabled",
    "ChimneyRefused",
    "DataReceived",
    "DataSent",
    "DisconnectIndicated",
    "HostEvent",
    "OperationDone",
    "RegistrationFailed",
    "StatusIndicated",
    "Unbound",
    "UploadIndicated",
    "Violation",
]


@dataclass(slots=True, frozen=True)
class HostEvent:
    """Base of the events. ``at``: the driver's time, in seconds."""

    at: float


@dataclass(slots=True, frozen=True)
class RegistrationFailed(HostEvent):
    """NDIS did not take the protocol driver."""

    status: int


@dataclass(slots=True, frozen=True)
class Bound(HostEvent):
    """Bound to an adapter; ``capabilities`` is None where it has no chimney."""

    adapter: str
    capabilities: NdisTcpConnectionOffload | None


@dataclass(slots=True, frozen=True)
class Unbound(HostEvent):
    """The binding is gone; ``lost`` connections came back without their delegated state."""

    adapter: str
    lost: int


@dataclass(slots=True, frozen=True)
class BusLost(HostEvent):
    """The bus is gone or closed this driver's epoch; the driver will register again."""

    reason: str


@dataclass(slots=True, frozen=True)
class ChimneyEnabled(HostEvent):
    """Offloading is possible from now on."""

    capacity: int


@dataclass(slots=True, frozen=True)
class ChimneyRefused(HostEvent):
    """Offloading is not possible, and why (R-OID-08 among others)."""

    status: int
    reason: str


@dataclass(slots=True, frozen=True)
class ChimneyDisabled(HostEvent):
    """The chimney is switched off; nothing was offloaded any more when that was done."""


@dataclass(slots=True, frozen=True)
class OperationDone(HostEvent):
    """An operation is over, in one way or another."""

    operation: Operation


@dataclass(slots=True, frozen=True)
class UploadIndicated(HostEvent):
    """TcpIndicateRetrieve: the driver below asks for an upload; ``accepted``: it will be done."""

    tcb: Tcb
    reason: int
    accepted: bool


@dataclass(slots=True, frozen=True)
class AbortIndicated(HostEvent):
    """TcpIndicateAbort: the peer reset the connection."""

    tcb: Tcb


@dataclass(slots=True, frozen=True)
class DisconnectIndicated(HostEvent):
    """TcpIndicateDisconnect: the peer sent a FIN."""

    tcb: Tcb


@dataclass(slots=True, frozen=True)
class DataReceived(HostEvent):
    """``size`` bytes more are in the connection's receive buffer."""

    tcb: Tcb
    size: int


@dataclass(slots=True, frozen=True)
class DataSent(HostEvent):
    """``size`` bytes that were posted below were sent, and acknowledged by the peer."""

    tcb: Tcb
    size: int


@dataclass(slots=True, frozen=True)
class StatusIndicated(HostEvent):
    """NdisMIndicateStatusEx: pause, resume, upload all, and others."""

    status_code: int


@dataclass(slots=True, frozen=True)
class Violation(HostEvent):
    """The driver below broke a rule in a way that this side can see; it was made harmless."""

    rule: str
    text: str
