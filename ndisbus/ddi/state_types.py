"""The types of offload state: the layer of each type, and the structures that follow a block of it."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = [
    "WHOLE_STATE",
    "Layer",
    "OffloadStateType",
    "classes_of",
    "layer_of",
]


class OffloadStateType(IntEnum):
    """OFFLOAD_STATE_TYPE, carried in Header.Type (a UCHAR) of every block of an offload state tree.

    DDI page ns-ndischimney-_ndis_miniport_offload_block_list.
    """

    NeighborOffloadConstState = 1
    NeighborOffloadCachedState = 2
    NeighborOffloadDelegatedState = 3
    NeighborOffloadState = 4
    Ip4OffloadConstState = 5
    Ip4OffloadCachedState = 6
    Ip4OffloadDelegatedState = 7
    Ip4OffloadState = 8
    Ip6OffloadConstState = 9
    Ip6OffloadCachedState = 10
    Ip6OffloadDelegatedState = 11
    Ip6OffloadState = 12
    TcpOffloadConstState = 13
    TcpOffloadCachedState = 14
    TcpOffloadDelegatedState = 15
    TcpOffloadResourceState = 16  # reserved, no structure follows
    TcpOffloadState = 17
    FilterReservedOffloadState = 254
    MaximumOffloadState = 255


class Layer(IntEnum):
    """The three layers of offloaded state, in the order in which they depend on each other (R-STATE-01)."""

    NEIGHBOR = 1
    PATH = 2
    TCP = 3


_LAYERS: Final[dict[int, Layer]] = {
    **dict.fromkeys(range(1, 5), Layer.NEIGHBOR),
    **dict.fromkeys(range(5, 13), Layer.PATH),
    **dict.fromkeys(range(13, 18), Layer.TCP),
}

WHOLE_STATE: Final[dict[Layer, tuple[OffloadStateType, ...]]] = {
    Layer.NEIGHBOR: (OffloadStateType.NeighborOffloadState,),
    Layer.PATH: (OffloadStateType.Ip4OffloadState, OffloadStateType.Ip6OffloadState),
    Layer.TCP: (OffloadStateType.TcpOffloadState,),
}
"""The types that stand for all three classes of a layer. The path layer has one per address family."""

_ALL_CLASSES: Final = ("const", "cached", "delegated")

_CLASSES: Final[dict[int, tuple[str, ...]]] = {
    **{first + n: (name,) for first in (1, 5, 9, 13) for n, name in enumerate(_ALL_CLASSES)},
    **{int(whole): _ALL_CLASSES for types in WHOLE_STATE.values() for whole in types},
    int(OffloadStateType.TcpOffloadResourceState): (),
}


def _type_name(state_type: int) -> str:
    try:
        return f"{OffloadStateType(state_type).name} ({int(state_type)})"
    except ValueError:
        return f"{state_type!r}"


def layer_of(state_type: int) -> Layer:
    """Return the layer of an OFFLOAD_STATE_TYPE. Raises ValueError, naming the type, if it has none."""
    layer = _LAYERS.get(state_type)
    if layer is None:
        raise ValueError(f"OFFLOAD_STATE_TYPE {_type_name(state_type)} belongs to no layer")
    return layer


def classes_of(state_type: int) -> tuple[str, ...]:
    """Return which of "const", "cached", "delegated" follow a block of this type, in memory order (R-BLK-06).

    Empty for TcpOffloadResourceState. Raises ValueError as :func:`layer_of` does.
    """
    classes = _CLASSES.get(state_type)
    if classes is None:
        raise ValueError(f"OFFLOAD_STATE_TYPE {_type_name(state_type)} selects no state structures")
    return classes
