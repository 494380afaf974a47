"""Offload state structures as typed objects and as exact x64 memory images.

A block of an offload state tree is followed by the structures that its type selects, in the order constant,
cached, delegated (R-BLK-06, DDI page ns-ndischimney-_ndis_miniport_offload_block_list). Here they follow each
other without gaps. Each image has the offsets of the C structure on x64, little endian. :func:`pack_state`
and :func:`unpack_state` convert such a run. The nine structures have one module per layer
(:mod:`ndisbus.state.neighbor`, ``path``, ``tcp``) and are exported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ndisbus.ddi.state_types import Layer, classes_of, layer_of
from ndisbus.errors import DecodeError
from ndisbus.state.base import Buffer, OffloadState
from ndisbus.state.neighbor import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    NeighborOffloadStateDelegated,
)
from ndisbus.state.path import PathOffloadStateCached, PathOffloadStateConst, PathOffloadStateDelegated
from ndisbus.state.tcp import (
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
    rtt_var_from_ticks,
    rtt_var_to_ticks,
    srtt_from_ticks,
    srtt_to_ticks,
)

__all__ = [
    "TCP_STATE_OFF",
    "NeighborOffloadStateCached",
    "NeighborOffloadStateConst",
    "NeighborOffloadStateDelegated",
    "OffloadState",
    "PathOffloadStateCached",
    "PathOffloadStateConst",
    "PathOffloadStateDelegated",
    "TcpOffloadStateCached",
    "TcpOffloadStateConst",
    "TcpOffloadStateDelegated",
    "pack_state",
    "rtt_var_from_ticks",
    "rtt_var_to_ticks",
    "srtt_from_ticks",
    "srtt_to_ticks",
    "state_size",
    "structures_of",
    "unpack_state",
]

_STRUCTURES: Final[dict[Layer, dict[str, type[OffloadState]]]] = {
    Layer.NEIGHBOR: {
        "const": NeighborOffloadStateConst,
        "cached": NeighborOffloadStateCached,
        "delegated": NeighborOffloadStateDelegated,
    },
    Layer.PATH: {
        "const": PathOffloadStateConst,
        "cached": PathOffloadStateCached,
        "delegated": PathOffloadStateDelegated,
    },
    Layer.TCP: {
        "const": TcpOffloadStateConst,
        "cached": TcpOffloadStateCached,
        "delegated": TcpOffloadStateDelegated,
    },
}

_FIRST_IP6: Final = 9
"""The first of the path types with IPv6 addresses (Ip6OffloadConstState)."""

_Plan = tuple[tuple[type[OffloadState], int], ...]


def _plan(state_type: int) -> _Plan:
    """Return (structure, bytes of its image) for each structure that follows a block of this type."""
    layer = layer_of(state_type)
    addresses = 0 if layer is not Layer.PATH else 32 if state_type >= _FIRST_IP6 else 8
    return tuple(
        (structure, structure.SIZE + (addresses if structure is PathOffloadStateConst else 0))
        for structure in (_STRUCTURES[layer][name] for name in classes_of(state_type))
    )


_PLANS: Final[dict[int, _Plan]] = {n: _plan(n) for n in range(1, 18)}


def structures_of(state_type: int) -> tuple[type[OffloadState], ...]:
    """Return the structures that follow a block of this OFFLOAD_STATE_TYPE, in memory order (R-BLK-06).

    Raises ValueError for a type without structures (see :func:`ndisbus.ddi.state_types.classes_of`).
    """
    return tuple(_STRUCTURES[layer_of(state_type)][name] for name in classes_of(state_type))


def state_size(state_type: int) -> int:
    """Return the bytes of state that follow a block of this type. The Ip6 types have longer addresses.

    Raises ValueError for a type outside the three layers.
    """
    layer_of(state_type)
    return sum(size for _, size in _PLANS[state_type])


def pack_state(objs: Iterable[OffloadState]) -> bytes:
    """Return the images of ``objs``, joined without gaps. Raises LocalProtocolError as pack() does."""
    return b"".join([obj.pack() for obj in objs])


def unpack_state(state_type: int, data: Buffer, *, where: str = "") -> tuple[OffloadState, ...]:
    """Return the structures that follow a block of this type, read from exactly their bytes.

    Raises DecodeError, which names the wrong structure: an unknown type, an incomplete one, a wrong length,
    an address of the other family, or bytes behind the last structure.
    """
    plan = _PLANS.get(state_type)
    if plan is None:
        raise DecodeError(f"{where}.Header.Type" if where else "Header.Type", f"{state_type} has no state")
    result: list[OffloadState] = []
    offset = 0
    for structure, size in plan:
        obj = structure.unpack_from(data, offset, where=where)
        if obj.packed_size() != size:
            place = f"{where}.{structure.NAME}" if where else structure.NAME
            reason = f"{obj.packed_size()} bytes; with its addresses {size} belong to type {state_type}"
            raise DecodeError(place, reason, rule="R-STATE-07")
        offset += size
        result.append(obj)
    if offset != len(data):
        last = plan[-1][0].NAME if plan else "the block"
        raise DecodeError(where or "state", f"{len(data) - offset} bytes too many behind {last}")
    return tuple(result)


def _offsets() -> dict[str, int]:
    result: dict[str, int] = {}
    start = 0
    for name, structure in _STRUCTURES[Layer.TCP].items():
        for member in structure.MEMBERS:
            result[f"{name}.{member.name}"] = start + structure.offset_of(member.name)
        start += structure.SIZE
    return result


TCP_STATE_OFF: Final[dict[str, int]] = _offsets()
"""Offset of each member in the image of a whole TCP state: ``TCP_STATE_OFF["delegated.State"]``.

For direct access with struct.unpack_from, without objects. Keys are the class and the DDI name.
"""
