"""What the driver knows of the adapter below it: the binding to it, and the chimney that it may have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ndisbus.ddi.status import NdisStatus

if TYPE_CHECKING:
    from hoststack.model.operation import Operation

__all__ = ["Binding", "Chimney", "ChimneyState"]


@dataclass(slots=True, eq=False)
class Binding:
    """The binding to one adapter. NDIS passes ``context`` as ProtocolBindingContext.

    ``mac`` and ``mtu`` are what the adapter reported, or None.
    """

    context: int
    handle: int
    adapter: str
    unbinding: bool = False
    mac: bytes | None = None
    mtu: int | None = None
    #: Connections that were lost below while it existed.
    lost: int = 0


ChimneyState = Literal["unbound", "asking", "enabled", "paused", "refused", "disabled"]


@dataclass(slots=True)
class Chimney:
    """Whether offloading is switched on, and why not if it is off."""

    state: ChimneyState = "unbound"
    status: int = int(NdisStatus.SUCCESS)
    reason: str = ""
    capacity: int = 0
    #: When to ask again for a chimney that another protocol had, and the wait before the try after that.
    retry_at: float | None = None
    retry_delay: float = 0.0
    #: Operations that are uploading everything; while there are any, nothing is offloaded.
    draining: int = 0
    #: OID requests in flight, by their RequestId.
    oids: dict[int, Operation] = field(default_factory=dict)
