"""Events of a host driver: small records, passed on by :mod:`hoststack.chimney.event_channel`."""

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
    """Base of all events. ``at``: the driver's time in seconds."""

    at: float


@dataclass(slots=True, frozen=True)
class RegistrationFailed(HostEvent):
    """NDIS refused to register the protocol driver."""

    status: int


@dataclass(slots=True, frozen=True)
class Bound(HostEvent):
    """The host is bound to an adapter. ``capabilities`` is None if the adapter has no chimney."""

    adapter: str
    capabilities: NdisTcpConnectionOffload | None


@dataclass(slots=True, frozen=True)
class Unbound(HostEvent):
    """The binding is gone. ``lost``: how many connections came back without their delegated state."""

    adapter: str
    lost: int


@dataclass(slots=True, frozen=True)
class BusLost(HostEvent):
    """The bus is gone, or has closed this driver's epoch. The driver registers again when it can."""

    reason: str


@dataclass(slots=True, frozen=True)
class ChimneyEnabled(HostEvent):
    """Offloading is possible now. ``capacity``: TcpConnectionOffloadCapacity of the adapter."""

    capacity: int


@dataclass(slots=True, frozen=True)
class ChimneyRefused(HostEvent):
    """Offloading is not possible, for a reason such as R-OID-08."""

    status: int
    reason: str


@dataclass(slots=True, frozen=True)
class ChimneyDisabled(HostEvent):
    """The chimney is switched off. Everything was uploaded before."""


@dataclass(slots=True, frozen=True)
class OperationDone(HostEvent):
    """An operation is done: completed, failed or refused."""

    operation: Operation


@dataclass(slots=True, frozen=True)
class UploadIndicated(HostEvent):
    """TcpIndicateRetrieve: the driver below asks for an upload. ``accepted``: the host will do it."""

    tcb: Tcb
    reason: int
    accepted: bool


@dataclass(slots=True, frozen=True)
class AbortIndicated(HostEvent):
    """TcpIndicateAbort: the remote end reset the connection."""

    tcb: Tcb


@dataclass(slots=True, frozen=True)
class DisconnectIndicated(HostEvent):
    """TcpIndicateDisconnect: the remote end sent a FIN."""

    tcb: Tcb


@dataclass(slots=True, frozen=True)
class DataReceived(HostEvent):
    """``size`` bytes were added to the connection's receive buffer."""

    tcb: Tcb
    size: int


@dataclass(slots=True, frozen=True)
class DataSent(HostEvent):
    """``size`` bytes that were posted below were sent, and acknowledged by the remote end."""

    tcb: Tcb
    size: int


@dataclass(slots=True, frozen=True)
class StatusIndicated(HostEvent):
    """NdisMIndicateStatusEx: the driver below indicated a status, such as pause, resume or upload all."""

    status_code: int


@dataclass(slots=True, frozen=True)
class Violation(HostEvent):
    """The driver below broke a rule, and this side noticed. The host goes on without harm."""

    rule: str
    text: str
