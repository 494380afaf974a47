"""Events of a host driver: small records, passed on by :mod:`hoststack.chimney.event_channel`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hoststack.model.objects import Tcb
    from hoststack.model.operation import Operation
    from ndisbus.ddi.structures import NdisTcpConnectionOffload

#: About how many bytes a connection has without its data; and an object with its outcome and its state.
TCB_BYTES: Final = 2048
OBJECT_BYTES: Final = 1024

__all__ = [
    "AbortIndicated",
    "Bound",
    "BusLost",
    "ChimneyDisabled",
    "ChimneyEnabled",
    "ChimneyRefused",
    "ConnectionEvent",
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

    def keeps(self) -> tuple[object, int]:
        """Return the object that the event keeps alive besides itself, and about how many bytes it has."""
        return self, 0


@dataclass(slots=True, frozen=True)
class ConnectionEvent(HostEvent):
    """Base of the events of one connection."""

    tcb: Tcb

    def keeps(self) -> tuple[object, int]:
        tcb = self.tcb
        return tcb, TCB_BYTES + tcb.queued + len(tcb.receive_buffer or b"")


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

    def keeps(self) -> tuple[object, int]:
        return self.operation, OBJECT_BYTES * len(self.operation.objects)


@dataclass(slots=True, frozen=True)
class UploadIndicated(ConnectionEvent):
    """TcpIndicateRetrieve: the driver below asks for an upload. ``accepted``: the host will do it."""

    reason: int
    accepted: bool


@dataclass(slots=True, frozen=True)
class AbortIndicated(ConnectionEvent):
    """TcpIndicateAbort: the remote end reset the connection."""


@dataclass(slots=True, frozen=True)
class DisconnectIndicated(ConnectionEvent):
    """TcpIndicateDisconnect: the remote end sent a FIN."""


@dataclass(slots=True, frozen=True)
class DataReceived(ConnectionEvent):
    """``size`` bytes were added to the connection's receive buffer."""

    size: int


@dataclass(slots=True, frozen=True)
class DataSent(ConnectionEvent):
    """``size`` bytes that were posted below were sent, and acknowledged by the remote end."""

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
