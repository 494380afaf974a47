"""What a call is: its kind, its direction, and its parameters in the documented order.

A call is a *message*. A function with a return value (``returns`` is not VOID) or with out parameters is
answered by a ``return`` message.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from functools import cache
from typing import Final

__all__ = [
    "BLOCKS_MINIPORT",
    "BLOCKS_PROTOCOL",
    "HANDLE",
    "NBL",
    "STRUCT",
    "TEXT",
    "ULONG",
    "Call",
    "Direction",
    "Kind",
    "Param",
    "params",
    "python_name",
]


class Kind(enum.Enum):
    """What a call is for. Drivers send the first four kinds, NDIS the two kinds of handlers."""

    REQUEST = "request"
    COMPLETION = "completion"
    INDICATION = "indication"
    REGISTRATION = "registration"
    MINIPORT_HANDLER = "miniport-handler"
    PROTOCOL_HANDLER = "protocol-handler"


class Direction(enum.Enum):
    """Which way a call travels in the stack of layers."""

    DOWN = "down"
    UP = "up"
    TO_NDIS = "to-ndis"
    FROM_NDIS = "from-ndis"


# What a parameter carries on the wire. docs/protocol.md has a section for each.
HANDLE: Final = "handle"
ULONG: Final = "ulong"
BLOCKS_PROTOCOL: Final = "NDIS_PROTOCOL_OFFLOAD_BLOCK_LIST"
BLOCKS_MINIPORT: Final = "NDIS_MINIPORT_OFFLOAD_BLOCK_LIST"
NBL: Final = "NET_BUFFER_LIST"
STRUCT: Final = "struct"
TEXT: Final = "text"


@dataclass(frozen=True, slots=True)
class Param:
    """One documented parameter: its DDI name and what it carries."""

    name: str
    carries: str


@dataclass(frozen=True, slots=True)
class Call:
    """One function of the interface.

    ``leads_to`` is the handler that NDIS calls because of it. ``completed_by`` is the function by which the
    lower driver completes it, ``completion_seen_as`` the handler of that completion in the upper driver.
    ``returns`` is the C type of the return value, VOID for none. ``outs`` names the out parameters, which
    travel in the ``return`` message in this order.
    """

    name: str
    kind: Kind
    direction: Direction
    params: tuple[Param, ...]
    returns: str = "VOID"
    outs: tuple[str, ...] = ()
    leads_to: str = ""
    completed_by: str = ""
    completion_seen_as: str = ""
    op: str = ""
    source: str = ""

    @property
    def answered(self) -> bool:
        """Whether a ``return`` message follows."""
        return self.returns != "VOID" or bool(self.outs)

    @property
    def blocks_at(self) -> int:
        """Index of the parameter that carries a block list, or -1."""
        for i, p in enumerate(self.params):
            if p.carries in (BLOCKS_PROTOCOL, BLOCKS_MINIPORT):
                return i
        return -1

    @property
    def from_driver(self) -> bool:
        """Whether a driver sends it (to NDIS); otherwise NDIS sends it to a driver."""
        return self.kind not in (Kind.MINIPORT_HANDLER, Kind.PROTOCOL_HANDLER)


@cache
def python_name(name: str) -> str:
    """Turn ``NdisMInitiateOffloadComplete`` into ``m_initiate_offload_complete``, without ``Ndis``."""
    name = name.removeprefix("Ndis").replace("PnP", "Pnp")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def params(*names: str) -> tuple[Param, ...]:
    """Make parameters from strings like ``Name:carries``. Without ``carries`` a parameter is a handle."""
    out = []
    for n in names:
        name, _, carries = n.partition(":")
        out.append(Param(name, carries or HANDLE))
    return tuple(out)
