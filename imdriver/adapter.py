"""The adapters of the driver: the binding to the adapter below, and the virtual adapters above."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["FACTS", "LowerBinding", "VirtualAdapter"]

#: What an adapter reports besides its capabilities. A virtual adapter reports what the one below does.
FACTS: Final = ("CurrentMacAddress", "MtuSize", "XmitLinkSpeed", "RcvLinkSpeed")


@dataclass(slots=True, eq=False)
class LowerBinding:
    """One life of the binding to the adapter below: from ProtocolBindAdapterEx to its close.

    The next adapter of that name gets a new object. What was passed down in one life is never named in the
    next. ``context``: its address, used as ProtocolBindingContext. ``handle``: NdisBindingHandle, None before
    it is open and after it is closed. ``capabilities``: NDIS_TCP_CONNECTION_OFFLOAD as reported from below,
    as a map. ``facts``: address, MTU and speeds as reported from below, nil for what was not reported.
    ``closing``: it ends. ``close_last``: NDIS wants it closed, which has to wait until the adapters above are
    gone.
    """

    adapter_name: str
    context: int = 0
    handle: int | None = None
    capabilities: dict[str, Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    closing: bool = False
    close_last: bool = False

    @property
    def usable(self) -> bool:
        """Return whether virtual adapters may be brought up on it."""
        return self.handle is not None and not self.closing


@dataclass(slots=True, eq=False)
class VirtualAdapter:
    """One adapter that this driver exposes to the protocols above, on one life of the binding below.

    Entries know their adapter, and the adapter knows its life, ``lower``. ``context``: its address in the
    heap, used as DeviceContext and as MiniportAdapterContext. ``handle``: NdisMiniportHandle, None until it
    is initialised. ``wants``: NDIS_TASK_OFFLOAD_HEADER of the latest set of OID_TCP_TASK_OFFLOAD from above,
    as a map; None if there was none. ``closing``: NDIS was asked to remove it.
    """

    name: str
    lower: LowerBinding
    context: int = 0
    handle: int | None = None
    wants: dict[str, Any] | None = None
    closing: bool = False

    @property
    def below(self) -> int | None:
        """Return the NdisBindingHandle for what goes down from this adapter; None if its life is over."""
        return self.lower.handle
