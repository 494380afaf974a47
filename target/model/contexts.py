"""Offload contexts: what the target keeps of each offloaded object (R-HND-01).

A connection links to its path and the path to its neighbor, in the order in which headers are built
(R-TREE-11, R-TREE-12). Each neighbor is the root of a tree of its own. The state stays the packed image that
came down until a structure is first read. From then on the structures hold the state, and images are packed
from them. The TCP machine works on these structures directly.
"""

from __future__ import annotations

from struct import Struct
from typing import ClassVar, Final, Generic, TypeAlias, TypeVar, cast

from ndisbus.ddi.state_types import Layer
from ndisbus.state.images import (
    TCP_STATE_OFF,
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    NeighborOffloadStateDelegated,
    OffloadState,
    PathOffloadStateCached,
    PathOffloadStateConst,
    PathOffloadStateDelegated,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
    pack_state,
    unpack_state,
)
from ndisbus.timer_queue import Timer
from target.model.flow import Flow
from target.model.life import LIFE, Event, Life
from target.model.posted import TcpIo

__all__ = ["Context", "NeighborContext", "PathContext", "TcpContext"]

_WHOLE_TCP: Final = 17
_WHOLE_NEIGHBOR: Final = 4
_STATE: Final = TCP_STATE_OFF["delegated.State"]
_SERVED: Final = frozenset((Life.OFFLOADING, Life.OFFLOADED, Life.UPDATING))
_PORTS: Final = Struct("<HH")  # RemotePort, LocalPort
_PORTS_OFF: Final = TCP_STATE_OFF["const.RemotePort"]


_Const = TypeVar("_Const", bound=OffloadState)
_Cached = TypeVar("_Cached", bound=OffloadState)
_Delegated = TypeVar("_Delegated", bound=OffloadState)


class _Stateful(Generic[_Const, _Cached, _Delegated]):
    """An offloaded object with its three structures, which are unpacked on first use."""

    __slots__ = ("_image", "_state", "address", "corrupt", "life", "ndis_handle", "released")

    layer: ClassVar[Layer]

    def __init__(self, address: int, ndis_handle: int | None, image: bytes) -> None:
        #: The PVOID that designates this context above (R-HND-02).
        self.address = address
        #: NdisOffloadHandle of the block, for indications (R-HND-05, R-HND-06).
        self.ndis_handle = ndis_handle
        self.life = Life.OFFLOADING
        #: Whether the hardware's state is corrupt. The next query, invalidate or terminate detects it
        #: (R-HWF-01).
        self.corrupt = False
        #: Whether the host has terminated it. It still exists because lost objects depend on it.
        self.released = False
        self._image = image
        self._state: tuple[_Const, _Cached, _Delegated] | None = None

    @property
    def whole_type(self) -> int:
        """The OFFLOAD_STATE_TYPE of all three structures of this object."""
        raise NotImplementedError

    def image(self) -> bytes:
        """Return the constant, cached and delegated structures, concatenated, with their current values."""
        return self._image if self._state is None else pack_state(self._state)

    def structures(self) -> tuple[_Const, _Cached, _Delegated]:
        """Return the three structures. A change of them changes the object's state."""
        if self._state is None:
            unpacked = unpack_state(self.whole_type, self._image, where=str(self))
            self._state = cast(tuple[_Const, _Cached, _Delegated], unpacked)
        return self._state

    @property
    def const(self) -> _Const:
        """The constant structure (..._OFFLOAD_STATE_CONST)."""
        return self.structures()[0]

    @property
    def cached(self) -> _Cached:
        """The cached structure (..._OFFLOAD_STATE_CACHED)."""
        return self.structures()[1]

    @property
    def delegated(self) -> _Delegated:
        """The delegated structure (..._OFFLOAD_STATE_DELEGATED)."""
        return self.structures()[2]

    def step(self, event: Event) -> None:
        """Step in the table of life. Raises IllegalTransition, and changes nothing, if it is not legal."""
        self.life = LIFE.after(self.life, event, self)


class NeighborContext(
    _Stateful[NeighborOffloadStateConst, NeighborOffloadStateCached, NeighborOffloadStateDelegated]
):
    """A neighbor, and the paths that lead through it."""

    __slots__ = ("asking", "dependents", "hrt", "mac", "nrt", "since", "vlan")

    layer = Layer.NEIGHBOR

    def __init__(self, address: int, ndis_handle: int | None, image: bytes, vlan: int, mac: bytes) -> None:
        super().__init__(address, ndis_handle, image)
        #: Its entries in the hardware's tables: VLAN identifier (0: none) and source MAC (empty: none).
        self.vlan = vlan
        self.mac = mac
        self.dependents: dict[int, PathContext] = {}
        #: When it was taken over (seconds of the driver's clock).
        self.since = 0.0
        #: When the target, and when the host, last confirmed it, in ticks modulo 2**32. None: still as handed
        #: over at ``since`` (R-NUD-02). Only :mod:`target.network.reachability` reads and writes these.
        self.nrt: int | None = None
        self.hrt: int | None = None
        #: Whether a NeighborReachabilityQuery has been sent and not been answered.
        self.asking = False

    whole_type = _WHOLE_NEIGHBOR

    def __str__(self) -> str:
        return f"neighbor {self.address:#x}"


class PathContext(_Stateful[PathOffloadStateConst, PathOffloadStateCached, PathOffloadStateDelegated]):
    """A path, its neighbor, and the connections that run over it."""

    __slots__ = ("dependents", "destination", "neighbor", "source", "table", "type")

    layer = Layer.PATH

    def __init__(
        self,
        address: int,
        ndis_handle: int | None,
        image: bytes,
        state_type: int,
        addresses: tuple[bytes, bytes],
        neighbor: NeighborContext,
    ) -> None:
        super().__init__(address, ndis_handle, image)
        #: Ip4OffloadState or Ip6OffloadState. The path decides the IP version, not the type in a request.
        self.type = state_type
        #: The local and the remote IP address.
        self.source, self.destination = addresses
        self.neighbor = neighbor
        neighbor.dependents[address] = self
        self.dependents: dict[int, TcpContext] = {}
        #: Connections by :attr:`TcpContext.ports`; None until a frame needs it
        #: (:mod:`target.hardware.demux`).
        self.table: dict[int, TcpContext] | None = None

    @property
    def whole_type(self) -> int:
        """Ip4OffloadState or Ip6OffloadState."""
        return self.type

    def relink(self, neighbor: NeighborContext) -> None:
        """Move this path and its connections to another neighbor (R-UPD-05)."""
        del self.neighbor.dependents[self.address]
        self.neighbor = neighbor
        neighbor.dependents[self.address] = self

    def __str__(self) -> str:
        return f"path {self.address:#x}"


class TcpContext(_Stateful[TcpOffloadStateConst, TcpOffloadStateCached, TcpOffloadStateDelegated]):
    """A connection and its path. ``io`` is made with the first request, ``flow`` when there is work."""

    __slots__ = ("aborted", "flow", "io", "path", "rcv_reserved", "since", "timer", "uploading")

    layer = Layer.TCP

    def __init__(
        self, address: int, ndis_handle: int | None, image: bytes, path: PathContext, rcv_reserved: int
    ) -> None:
        # Does not call super().__init__: one list may create a hundred thousand of these.
        self.address = address
        self.ndis_handle = ndis_handle
        self.life = Life.OFFLOADING
        self.corrupt = False
        self.released = False
        self._image = image
        self._state = None
        self.path = path
        self.rcv_reserved = rcv_reserved
        self.io: TcpIo | None = None
        #: Runs its TCP machine. None while it has nothing to do, or if the adapter has no wire.
        self.flow: Flow | None = None
        #: When it is run next. None: it never had something to do by itself.
        self.timer: Timer[TcpContext] | None = None
        #: The time that its state describes while ``flow`` is None (seconds of the driver's clock): when it
        #: was taken over, or when its machine handed it over.
        self.since = 0.0
        #: Whether a mandatory upload was requested: the connection is not served any more (R-EVT-05).
        self.uploading = False
        #: Whether an RST arrived or the hardware lost the connection: requests end with REQUEST_ABORTED.
        self.aborted = False
        path.dependents[address] = self

    whole_type = _WHOLE_TCP

    @property
    def ports(self) -> int:
        """RemotePort << 16 | LocalPort, read without unpacking the structures."""
        if self._state is not None:
            const = self._state[0]
            return const.remote_port << 16 | const.local_port
        remote, local = _PORTS.unpack_from(self._image, _PORTS_OFF)
        return int(remote << 16 | local)

    @property
    def tcp_state(self) -> int:
        """State (TcpOffloadConnectionState) of the delegated structure, read without unpacking it."""
        if self._state is not None:
            return int(self._state[2].state)
        return int.from_bytes(self._image[_STATE : _STATE + 4], "little")

    @property
    def invalid(self) -> bool:
        """Whether it, its path or its neighbor is invalidated: nothing may be sent (R-INV-04, R-DIS-11)."""
        return (
            self.life is Life.INVALID
            or self.path.life is Life.INVALID
            or self.path.neighbor.life is Life.INVALID
        )

    @property
    def serving(self) -> bool:
        """Whether its TCP machine may run: process segments, run timers, send segments."""
        path = self.path
        return (
            not (self.uploading or self.aborted or self.corrupt)
            and self.life in _SERVED
            and path.life is not Life.INVALID
            and path.neighbor.life is not Life.INVALID
        )

    def __str__(self) -> str:
        return f"connection {self.address:#x}"


Context: TypeAlias = NeighborContext | PathContext | TcpContext
