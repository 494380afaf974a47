"""The host's state objects: neighbors, paths over them, connections over those.

Each holds its three offload state structures (:mod:`ndisbus.state.images`) and nothing that repeats them.
Offloading an object means lending these structures; uploading it means taking the delegated ones back. A
neighbor or path counts the offloaded objects that depend on it (R-TERM-02).
"""

from __future__ import annotations

import enum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from hoststack.model.life import Event, State
from hoststack.model.move import STEP_OF, Step, step_of
from ndisbus.ddi.state_types import Layer, OffloadStateType
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.lists.heap import NdisOffloadHandle
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    NeighborOffloadStateDelegated,
    PathOffloadStateCached,
    PathOffloadStateConst,
    PathOffloadStateDelegated,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
)

if TYPE_CHECKING:
    from ndisbus.lists.nbl import NetBufferList
    from ndisbus.state.images import OffloadState

__all__ = ["ConnectionState", "Neighbor", "Path", "StateObject", "Tcb"]

_FIN_SENT: Final = frozenset(
    (
        TcpOffloadConnectionState.TcpConnectionFinWait1,
        TcpOffloadConnectionState.TcpConnectionClosing,
        TcpOffloadConnectionState.TcpConnectionLastAck,
    )
)


class ConnectionState(enum.Enum):
    """Which side serves a connection, in the words of ``netstat -t`` on systems that had the chimney."""

    IN_HOST = "InHost"
    OFFLOADING = "Offloading"
    OFFLOADED = "Offloaded"
    UPLOADING = "Uploading"


class StateObject:
    """What the objects of the three layers have in common."""

    __slots__ = ("dependents", "handle", "leaving", "lost", "queries", "state", "waiting")

    LAYER: Layer

    def __init__(self) -> None:
        self.state = State.NEW
        #: The NDIS_OFFLOAD_HANDLE while the object is offloaded or moving.
        self.handle: NdisOffloadHandle | None = None
        #: How many queries of it are running.
        self.queries = 0
        #: The event with which a waiting operation on it will begin.
        self.waiting: Event | None = None
        #: Its delegated state was lost below: the structure here is the one last lent or taken back.
        self.lost = False
        #: Objects of the layer above that are offloaded (or about to be) and depend on this one.
        self.dependents = 0
        #: How many of those are being terminated right now.
        self.leaving = 0

    @property
    def is_offloaded(self) -> bool:
        """Whether the driver below holds the object, also while an operation on it is in flight."""
        return self.state not in (State.NEW, State.OFFLOADING, State.GONE, State.FAILED)

    @property
    def is_away(self) -> bool:
        """Whether the driver below has the object's state, or is being given it."""
        return self.state is State.OFFLOADING or self.is_offloaded

    @property
    def lower(self) -> StateObject | None:
        """The object of the layer below that this one depends on."""
        return None

    def whole(self) -> tuple[OffloadState, ...]:
        """(const, cached, delegated): the structures behind a block that offloads the object (R-BLK-06)."""
        raise NotImplementedError

    def state_type(self, cls: str) -> int:
        """OFFLOAD_STATE_TYPE for ``"const"``, ``"cached"``, ``"delegated"`` or ``"whole"``."""
        raise NotImplementedError


_CLASS: Final = {"const": 0, "cached": 1, "delegated": 2, "whole": 3}


class Neighbor(StateObject):
    """A next hop: a MAC address (and VLAN) behind one interface."""

    __slots__ = ("cached", "const", "delegated", "name", "reachable")

    LAYER = Layer.NEIGHBOR

    def __init__(
        self,
        const: NeighborOffloadStateConst,
        cached: NeighborOffloadStateCached,
        delegated: NeighborOffloadStateDelegated,
        *,
        name: str = "",
    ) -> None:
        super().__init__()
        self.const = const
        self.cached = cached
        self.delegated = delegated
        self.name = name
        #: Whether the host's own neighbor cache has it as reachable: the answer to NeighborReachabilityQuery.
        self.reachable = True

    def whole(self) -> tuple[OffloadState, ...]:
        return self.const, self.cached, self.delegated

    def state_type(self, cls: str) -> int:
        return OffloadStateType.NeighborOffloadConstState + _CLASS[cls]

    def __repr__(self) -> str:
        return f"Neighbor({self.name or self.cached.dl_destination_address.hex(':')})"


class Path(StateObject):
    """A path between a pair of IP addresses, through one neighbor (R-STATE-05)."""

    __slots__ = ("cached", "const", "delegated", "name", "neighbor")

    LAYER = Layer.PATH

    def __init__(
        self,
        neighbor: Neighbor,
        const: PathOffloadStateConst,
        cached: PathOffloadStateCached,
        delegated: PathOffloadStateDelegated,
        *,
        name: str = "",
    ) -> None:
        super().__init__()
        self.neighbor = neighbor
        self.const = const
        self.cached = cached
        self.delegated = delegated
        self.name = name

    @property
    def lower(self) -> Neighbor:
        return self.neighbor

    def whole(self) -> tuple[OffloadState, ...]:
        return self.const, self.cached, self.delegated

    def state_type(self, cls: str) -> int:
        first = (
            OffloadStateType.Ip4OffloadConstState
            if len(self.const.source_address) == 4
            else OffloadStateType.Ip6OffloadConstState
        )
        return first + _CLASS[cls]

    def __repr__(self) -> str:
        ends = (ip_address(self.const.source_address), ip_address(self.const.destination_address))
        return f"Path({self.name or f'{ends[0]} -> {ends[1]}'})"


class Tcb(StateObject):
    """A transmission control block: one connection over one path.

    ``send_queue`` holds the bytes from SndUna on, in pieces: SndMax - SndUna of them are sent and not
    acknowledged, the rest was never sent (R-OSD-04, R-OSD-05). ``receive_buffer`` holds the bytes that were
    received and acknowledged and are not read yet, up to RcvNxt (R-BRD-02), and that are in the host.
    ``held`` are TCP segments that arrived while the connection was being offloaded or uploaded (R-CONC-05,
    R-TERM-05). ``needs_ip_options`` keeps the connection in the host (R-INIT-01). :mod:`hoststack.model.move`
    says who owns what at each :attr:`step` of a move.
    """

    __slots__ = (
        "aborted",
        "acknowledged",
        "below",
        "buffered",
        "cached",
        "const",
        "delegated",
        "held",
        "lent",
        "name",
        "needs_ip_options",
        "path",
        "receive_buffer",
        "refused",
        "remote_closed",
        "reset",
        "returned",
        "send_backlog",
        "send_queue",
        "served",
        "unread_below",
        "upload_reason",
    )

    LAYER = Layer.TCP

    def __init__(
        self,
        path: Path,
        const: TcpOffloadStateConst,
        cached: TcpOffloadStateCached,
        delegated: TcpOffloadStateDelegated,
        *,
        needs_ip_options: bool = False,
        name: str = "",
    ) -> None:
        # As in the base class, but without a call: there may be 100,000 connections.
        self.state = State.NEW
        self.handle = None
        self.queries = 0
        self.waiting = None
        self.lost = False
        self.dependents = 0
        self.leaving = 0
        self.path = path
        self.const = const
        self.cached = cached
        self.delegated = delegated
        self.name = name
        self.needs_ip_options = needs_ip_options
        # None stands for empty, so that an idle connection has no containers.
        self.send_queue: list[bytes] | None = None
        self.receive_buffer: bytearray | None = None
        self.held: list[bytes] | None = None
        #: A copy of BufferedData while the connection is on offer, for the case that it stays in the host.
        self.buffered: bytes | None = None
        #: Bytes that went down as BufferedData and have not come back.
        self.unread_below = 0
        #: Received data was refused. It waits below until a receive is posted (R-IND-06).
        self.refused = False
        #: Send data in the hands of the driver below, in order, by the address of its NET_BUFFER_LIST.
        self.lent: dict[int, NetBufferList] | None = None
        #: Lent data that came back unsent before the upload was complete: (address, bytes).
        self.returned: list[tuple[int, bytes]] | None = None
        #: Lent data that was reported as aborted. It is dropped with the connection, unless NDIS aborted it
        #: because the driver below died.
        self.aborted: list[tuple[int, bytes]] | None = None
        #: Bytes of lent data that were reported as sent and acknowledged.
        self.acknowledged = 0
        #: Bytes in ``lent``.
        self.below = 0
        self.remote_closed = False
        self.reset = False
        #: The driver below did something for it while it was on offer: then a failure is not a refusal.
        self.served = False
        self.send_backlog: int | None = None
        #: Why the driver below asked for the upload, if it did (TCP_UPLOAD_REASON).
        self.upload_reason: int | None = None

    @property
    def lower(self) -> Path:
        return self.path

    def whole(self) -> tuple[OffloadState, ...]:
        return self.const, self.cached, self.delegated

    def state_type(self, cls: str) -> int:
        return (
            OffloadStateType.TcpOffloadState
            if cls == "whole"
            else OffloadStateType.TcpOffloadConstState + _CLASS[cls]
        )

    @property
    def connection_state(self) -> ConnectionState:
        """Which side serves the connection now."""
        if self.state is State.OFFLOADING:
            return ConnectionState.OFFLOADING
        if self.state is State.TERMINATING or (self.waiting is Event.TERMINATE and self.is_offloaded):
            return ConnectionState.UPLOADING
        return ConnectionState.OFFLOADED if self.is_offloaded else ConnectionState.IN_HOST

    @property
    def step(self) -> Step:
        """At which step of a move the connection is."""
        return step_of(self.state, self.waiting, self.lost)

    @property
    def may_post(self) -> bool:
        """Whether a net buffer list may be posted on the connection now.

        It must be offloaded, and no terminate of it may be running or waiting (R-CONC-01, R-TERM-04).
        """
        return self.waiting is None and STEP_OF[self.state] is Step.BELOW

    @property
    def at_end(self) -> bool:
        """Whether the remote end has closed its sending side, and everything before that was read."""
        return self.remote_closed and not self.receive_buffer and not self.unread_below

    @property
    def queued(self) -> int:
        """Bytes in ``send_queue``."""
        return sum(map(len, self.send_queue)) if self.send_queue else 0

    @property
    def in_flight(self) -> int:
        """Data bytes that are sent and not acknowledged: SndMax - SndUna, without a FIN."""
        d = self.delegated
        span = (d.snd_max - d.snd_una) & 0xFFFFFFFF
        return span - 1 if span and d.state in _FIN_SENT else span

    def read(self, size: int | None = None) -> bytes:
        """Take up to ``size`` received bytes, all if None."""
        buffer = self.receive_buffer
        if not buffer:
            return b""
        data = bytes(buffer if size is None else buffer[:size])
        del buffer[: len(data)]
        return data

    def __repr__(self) -> str:
        return f"Tcb({self.name or f'{self.const.local_port} -> {self.const.remote_port} on {self.path!r}'})"
