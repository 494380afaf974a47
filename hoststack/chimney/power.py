"""Power management: everything is uploaded before an adapter goes to sleep (R-PWR-01).

DDI page power-management-for-offload-targets.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from hoststack.chimney import switch, upload
from hoststack.model.events import ChimneyDisabled
from ndisbus.ddi.enums import Oid

if TYPE_CHECKING:
    from hoststack.chimney.engine import Engine, Script

__all__ = ["DeviceState", "down", "up"]


class DeviceState(IntEnum):
    """NDIS_DEVICE_POWER_STATE, the value that OID_PNP_SET_POWER sets."""

    NdisDeviceStateD0 = 1
    NdisDeviceStateD1 = 2
    NdisDeviceStateD2 = 3
    NdisDeviceStateD3 = 4

    def to_bytes_le(self) -> bytes:
        """The ULONG of the information buffer."""
        return int(self).to_bytes(4, "little")


def down(host: Engine, state: DeviceState) -> Script:
    """Terminate everything that is offloaded, then set the power state (R-PWR-01)."""
    yield upload.everything(host, "upload for power down")
    host.chimney.state, host.chimney.reason = "disabled", f"the adapter is in {state.name}"
    part = yield switch.oid(host, Oid.OID_PNP_SET_POWER, state.to_bytes_le())
    if not part.succeeded:
        reason = part.refused or "no reason was given"
        yield from switch.start(host)  # it stayed awake
        return reason
    host.emit(ChimneyDisabled(host.ndis.now()))
    return None


def up(host: Engine) -> Script:
    """Set full power, then ask for the capabilities and switch the chimney on again."""
    part = yield switch.oid(host, Oid.OID_PNP_SET_POWER, DeviceState.NdisDeviceStateD0.to_bytes_le())
    if not part.succeeded:
        return part.refused
    return (yield from switch.start(host))
