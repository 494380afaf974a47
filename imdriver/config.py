"""How an intermediate driver is set up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ndisbus.errors import LocalProtocolError

__all__ = ["ChimneyPolicy", "ImConfig"]


class ChimneyPolicy(StrEnum):
    """Whether the driver lets the chimney through (R-OID-02, R-OID-04)."""

    PASS = "pass"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class ImConfig:
    """What the command line, or a test, chooses.

    ``bind``: the adapter below, or ``"auto"`` for whatever NDIS picks; ``adapters``: names of the virtual
    adapters above. ``register_chimney`` false makes a driver that knows nothing of the chimney but forwards
    the capability report of the driver below (the case of R-REG-10). ``vlan_id`` (12 bits) and
    ``user_priority`` (3 bits) are written into the state of initiates that pass (R-IM-17); None leaves it
    alone. Raises :class:`LocalProtocolError` for values that do not fit.
    """

    name: str = "im"
    bind: str = "nic0"
    adapters: tuple[str, ...] = ("im0-a", "im0-b")
    chimney: ChimneyPolicy = ChimneyPolicy.PASS
    register_chimney: bool = True
    vlan_id: int | None = None
    user_priority: int | None = None

    def __post_init__(self) -> None:
        if len(set(self.adapters)) != len(self.adapters):
            raise LocalProtocolError(f"the virtual adapters {', '.join(self.adapters)} need different names")
        if self.vlan_id is not None and not 0 <= self.vlan_id < 1 << 12:
            raise LocalProtocolError(f"VlanId {self.vlan_id} does not fit 12 bits", rule="R-IM-17")
        if self.user_priority is not None and not 0 <= self.user_priority < 1 << 3:
            raise LocalProtocolError(f"UserPriority {self.user_priority} does not fit 3 bits", rule="R-IM-17")
