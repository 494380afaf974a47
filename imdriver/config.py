"""The configuration of an intermediate driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ndisbus.errors import LocalProtocolError

__all__ = ["ChimneyPolicy", "ImConfig"]


_MAC_SIZE: Final = 6


class ChimneyPolicy(StrEnum):
    """Whether the driver passes the chimney on (R-OID-02, R-OID-04)."""

    PASS = "pass"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class ImConfig:
    """What the command line, or a test, chooses.

    ``bind``: the adapter below, or ``"auto"`` for the one that NDIS chooses. ``adapters``: names of the
    virtual adapters above. ``register_chimney`` false makes a driver without chimney entry points, which
    still forwards the capability report of the driver below (the case of R-REG-10). ``vlan_id`` (12 bits) and
    ``user_priority`` (3 bits) are written into the state of initiates that pass (R-IM-17); None writes
    nothing. ``macs``: link addresses of virtual adapters by name; the others have that of the adapter below.
    Raises :class:`LocalProtocolError` for values that do not fit.
    """

    name: str = "im"
    bind: str = "nic0"
    adapters: tuple[str, ...] = ("im0-a", "im0-b")
    chimney: ChimneyPolicy = ChimneyPolicy.PASS
    register_chimney: bool = True
    vlan_id: int | None = None
    user_priority: int | None = None
    macs: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.adapters)) != len(self.adapters):
            raise LocalProtocolError(f"the virtual adapters {', '.join(self.adapters)} need different names")
        for adapter, mac in self.macs.items():
            if len(mac) != _MAC_SIZE or mac[0] & 1:
                raise LocalProtocolError(f"{mac.hex(':')} of {adapter} is not a unicast address of 6 bytes")
        if self.vlan_id is not None and not 0 <= self.vlan_id < 1 << 12:
            raise LocalProtocolError(f"VlanId {self.vlan_id} does not fit 12 bits", rule="R-IM-17")
        if self.user_priority is not None and not 0 <= self.user_priority < 1 << 3:
            raise LocalProtocolError(f"UserPriority {self.user_priority} does not fit 3 bits", rule="R-IM-17")
