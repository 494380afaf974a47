"""Offload contexts: what the target keeps of each offloaded object (R-HND-01).

The links run from a connection to its path to its neighbor, the way headers are built (R-TREE-11,
R-TREE-12); each neighbor with what depends on it is a tree of its own. State stays the raw image that
came down; it is unpacked when somebody first asks for a structure. From then on the structures are the
truth, and the image is made from them: the TCP machine works on these very objects.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeAlias, TypeVar, cast

from ndisbus.ddi.enums import Layer
from ndisbus.lists.nbl import NetBufferList
from ndisbus.lists.nbl_chain import Attachments
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
from target.model.life import LIFE, Event, Life

if TYPE_CHECKING:
    from target.data.flow import Flow

__all__ = ["Context", "NeighborContext", "PathContext", "Posted", "TcpContext", "TcpIo"]

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
    """An object with an image of its three structures, unpacked on first use."""

    __slots__ = ("_image", "_state", "address", "corrupt", "life", "ndis_handle", "released")

    layer: ClassVar[Layer]

    def __init__(self, address: int, ndis_handle: int | None, image: bytes) -> None:
        #: The PVOID that designates this context above (R-HND-02).
        self.address = address
        #: NdisOffloadHandle of the block, for indications (R-HND-05, R-HND-06).
        self.ndis_handle = ndis_handle
        self.life = Life.OFFLOADING
        #: The hardware's copy is broken; the next query, invalidate or terminate finds out (R-HWF-01).
        self.corrupt = False
        #: A terminate has ended it for the host; it waits here for dependents that are still lost.
        self.released = False
        self._image = image
        self._state: tuple[_Const, _Cached, _Delegated] | None = None

    @property
    def whole_type(self) -> int:
        """The OFFLOAD_STATE_TYPE of all three structures of this object."""
        raise NotImplementedError

    def image(self) -> bytes:
        """Constant, cached and delegated structure, one behind the other, as they are now."""
        return self._image if self._state is None else pack_state(self._state)

    def structures(self) -> tuple[_Const, _Cached, _Delegated]:
        """The three structures; changes to them are changes of the object's state."""
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
        """Move on in life. Raises :class:`IllegalTransition`; the object then stays what it was."""
        self.life = LIFE.after(self.life, event, self)


class NeighborContext(
    _Stateful[NeighborOffloadStateConst, NeighborOffloadStateCached, NeighborOffloadStateDelegated]
):
    """A neighbor, and the paths that lead through it."""

    __slots__ = ("asking", "dependents", "hrt", "mac", "nrt", "since", "vlan")

    layer = Layer.NEIGHBOR

    def __init__(self, address: int, ndis_handle: int | None, image: bytes, vlan: int, mac: bytes) -> None:
        super().__init__(address, ndis_handle, image)
        #: What the hardware's tables hold for it: VLAN identifier (0: none) and source MAC (empty: none).
        self.vlan = vlan
        self.mac = mac
        self.dependents: dict[int, PathContext] = {}
        #: When it was taken over (seconds of the driver's clock).
        self.since = 0.0
        #: When the target and the host confirmed it last, in ticks modulo 2**32; None: as handed over, at
        #: ``since`` (R-NUD-02). :mod:`target.network.reachability` alone looks at these.
        self.nrt: int | None = None
        self.hrt: int | None = None
        #: A NeighborReachabilityQuery has not been answered yet.
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
        #: Ip4OffloadState or Ip6OffloadState: the family is the path's, not the request's.
        self.type = state_type
        #: The local and the remote IP address.
        self.source, self.destination = addresses
        self.neighbor = neighbor
        neighbor.dependents[address] = self
        self.dependents: dict[int, TcpContext] = {}
        #: Connections by :attr:`TcpContext.ports`; None until a frame asks (:mod:`target.network.demux`).
        self.table: dict[int, TcpContext] | None = None

    @property
    def whole_type(self) -> int:
        """Ip4OffloadState or Ip6OffloadState."""
        return self.type

    def relink(self, neighbor: NeighborContext) -> None:
        """Move this path, with all that depends on it, to another neighbor (R-UPD-05)."""
        del self.neighbor.dependents[self.address]
        self.neighbor = neighbor
        neighbor.dependents[self.address] = self

    def __str__(self) -> str:
        return f"path {self.address:#x}"


class TcpContext(_Stateful[TcpOffloadStateConst, TcpOffloadStateCached, TcpOffloadStateDelegated]):
    """A connection and its path; ``io`` exists once anything was posted on it, ``flow`` once it has work."""

    __slots__ = ("aborted", "flow", "io", "path", "rcv_reserved", "since", "uploading")

    layer = Layer.TCP

    def __init__(
        self, address: int, ndis_handle: int | None, image: bytes, path: PathContext, rcv_reserved: int
    ) -> None:
        # Written out: a list may make a hundred thousand of these.
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
        #: The TCP machine that runs it; None while there is nothing for one to do, or no wire.
        self.flow: Flow | None = None
        #: The moment that its state describes (seconds of the driver's clock) if it has no machine: when it
        #: was taken over, or given away by one.
        self.since = 0.0
        #: An upload was asked for that the host must grant: nothing is served any more (R-EVT-05).
        self.uploading = False
        #: An RST came, or the hardware lost the connection: requests end with REQUEST_ABORTED.
        self.aborted = False
        path.dependents[address] = self

    whole_type = _WHOLE_TCP

    @property
    def ports(self) -> int:
        """RemotePort << 16 | LocalPort, without unpacking anything."""
        if self._state is not None:
            const = self._state[0]
            return const.remote_port << 16 | const.local_port
        remote, local = _PORTS.unpack_from(self._image, _PORTS_OFF)
        return int(remote << 16 | local)

    @property
    def tcp_state(self) -> int:
        """State of the delegated structure (TcpOffloadConnectionState), without unpacking anything."""
        if self._state is not None:
            return int(self._state[2].state)
        return int.from_bytes(self._image[_STATE : _STATE + 4], "little")

    @property
    def may_send(self) -> bool:
        """Whether anything may go out: neither it nor what it depends on is invalid (R-INV-04, R-DIS-11)."""
        return (
            self.life is not Life.INVALID
            and self.path.life is not Life.INVALID
            and self.path.neighbor.life is not Life.INVALID
        )

    @property
    def serving(self) -> bool:
        """Whether its TCP machine runs: segments are processed, timers count, frames go out."""
        return (
            not (self.uploading or self.aborted or self.corrupt)
            and self.life in _SERVED
            and self.path.life is not Life.INVALID
            and self.path.neighbor.life is not Life.INVALID
        )

    def __str__(self) -> str:
        return f"connection {self.address:#x}"


Context: TypeAlias = NeighborContext | PathContext | TcpContext


class Posted:
    """A net buffer list that was posted and has not been completed.

    ``call_context`` is the NET_BUFFER_LIST.Context it came with, which goes back with it unread.
    """

    __slots__ = ("_attachments", "_nbl", "address", "call_context", "done", "flags", "size", "source_handle")

    def __init__(
        self,
        address: int,
        source_handle: int | None,
        *,
        attachments: Attachments | None = None,
        nbl: NetBufferList | None = None,
        call_context: int | None = None,
        flags: int = 0,
    ) -> None:
        self.address = address
        self.source_handle = source_handle
        self.call_context = call_context
        #: Flags of a disconnect (TcpDisconnectFlags).
        self.flags = flags
        #: Bytes of it that were transferred so far: sent and acknowledged, or placed.
        self.done = 0
        #: Bytes of it that the TCP machine has to send (:mod:`target.data.sending`).
        self.size = 0
        self._nbl = nbl
        self._attachments = attachments

    @property
    def has_descriptor(self) -> bool:
        """Whether the call brought the list itself, not only its address."""
        return self._nbl is not None or self._attachments is not None

    @property
    def nbl(self) -> NetBufferList:
        """The list; an empty one if the call brought none. Raises DecodeError for malformed descriptors."""
        if self._nbl is None:
            found = self._attachments.read().get(self.address) if self._attachments is not None else None
            self._nbl = found or NetBufferList(self.address, source_handle=self.source_handle)
        return self._nbl


class TcpIo:
    """What is posted on one connection, in order, and how far its delivery has come."""

    __slots__ = (
        "adopted",
        "backlog_at",
        "backlog_said",
        "backlog_wanted",
        "buffered",
        "deferred",
        "disconnects",
        "fin_pending",
        "fin_received",
        "forwards",
        "held",
        "held_bytes",
        "indicating",
        "push_at",
        "push_set",
        "pushed",
        "receives",
        "sends",
        "waiting",
        "window_due",
    )

    def __init__(self, send_backlog: int | None) -> None:
        self.sends: deque[Posted] = deque()
        self.receives: deque[Posted] = deque()
        self.disconnects: deque[Posted] = deque()
        self.forwards: deque[Posted] = deque()
        #: Received, acknowledged, not yet delivered bytes; with a machine, they are in its receive buffer.
        self.buffered = bytearray()
        #: How many undelivered bytes came down with the connection and take room of the adapter (R-BRD-03).
        self.adopted = 0
        #: Data came down with the connection, or was refused: nothing is indicated before the host posts
        #: (R-BRD-05, R-IND-06).
        self.waiting = False
        #: The newest data had PSH (R-OPEN-03).
        self.pushed = False
        #: An indication waits for the end of an initiate.
        self.deferred = False
        #: A FIN came; it is indicated when everything before it was consumed (R-DISC-14).
        self.fin_pending = False
        #: A FIN was indicated (R-RECV-11).
        self.fin_received = False
        #: Frames that are indicated once the connection is terminated (R-IP-08), and their bytes.
        self.held: list[bytes] = []
        self.held_bytes = 0
        #: A receive indication has not returned yet (R-RECV-05, R-TERM-09).
        self.indicating = False
        #: When a partly filled push request completes, or None (R-RECV-15).
        self.push_at: float | None = None
        #: When the timer that stands for it fires; it is left alone when the request's own moment changes.
        self.push_set: float | None = None
        #: An update asked for a new window to be advertised (R-STATE-18); the TCP machine sends it.
        self.window_due = False
        self.backlog_said = send_backlog
        self.backlog_wanted = send_backlog
        self.backlog_at: float | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is posted and nothing is buffered."""
        return not (self.sends or self.receives or self.disconnects or self.forwards or self.buffered)
