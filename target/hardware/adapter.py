"""One adapter of the target: its hardware tables, what is in flight on it, and what it told the host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ndisbus.ddi.structures import (
    NdisTaskTcpConnectionOffload,
    NdisTcpConnectionOffloadParameters,
    NdisTcpOffloadEventHandlers,
)
from ndisbus.driver.base import Reply
from ndisbus.lists.blocklist import BlockList
from ndisbus.tcp.settings import TcpSettings
from ndisbus.timer_queue import TimerQueue
from target.hardware.config import TargetConfig
from target.hardware.knobs import Knobs
from target.hardware.pools import NblPool
from target.hardware.tables import Hardware
from target.model.contexts import Context, NeighborContext, PathContext, TcpContext, TcpIo
from target.model.life import Event
from target.network.stats import Statistics
from target.operations.pipeline import Pipeline

if TYPE_CHECKING:
    from ndisbus.driver.port import Ndis
    from target.network.station import Station

__all__ = ["Adapter"]


class Adapter:
    """State of one adapter. ``handle`` is its NdisMiniportHandle, ``address`` its MiniportAdapterContext."""

    def __init__(self, ndis: Ndis, knobs: Knobs, config: TargetConfig, name: str, handle: int) -> None:
        self.ndis = ndis
        self.heap = ndis.heap
        self.knobs = knobs
        self.name = name
        self.handle = handle
        self.address = self.heap.allocate(self)
        self.hardware = Hardware(config)
        self.pipeline = Pipeline(config.latency)
        #: What is to be done at a time, called with the time that it is then.
        self.timers: TimerQueue[Callable[[float], None]] = TimerQueue()
        #: Capabilities the latest set of OID_TCP_TASK_OFFLOAD named; None: the chimney is off (R-OID-05).
        self.enabled: NdisTaskTcpConnectionOffload | None = None
        self.parameters = NdisTcpConnectionOffloadParameters()
        #: The same for the TCP machines; see :meth:`set_parameters`.
        self.settings = TcpSettings(parameters=self.parameters, offloaded=True)
        #: Where it is on its wire; None without one.
        self.station: Station | None = None
        #: Traffic of offloaded connections (R-STAT-01).
        self.stats = Statistics()
        #: Our copy of NDIS's entry points (R-REG-06).
        self.entry_points: NdisTcpOffloadEventHandlers | None = None
        self.refusals: Counter[str] = Counter()
        #: Initiates begun and not completed; while there are any, nothing is indicated (R-CONC-04).
        self.initiating = 0
        self._held: list[Callable[[], None]] = []
        #: Paused: initiates wait here (R-PAUSE-02).
        self.paused = False
        self.queued: list[BlockList] = []
        #: UPLOAD_ALL was indicated and no resume yet: every I/O request goes back (R-PAUSE-03).
        self.uploading = False
        self._waiting: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        #: Connections with something posted or buffered, by address.
        self.busy: dict[int, TcpContext] = {}
        #: Connections with a receive indication that has not returned.
        self.indicating: dict[int, TcpContext] = {}
        #: Lists for chimney receive indications and uploaded data, and for ordinary indications (R-REG-08).
        self.chimney_pool = NblPool(self.heap)
        self.receive_pool = NblPool(self.heap)
        #: Sends one frame on the wire; None: no cable is plugged in.
        self.wire_out: Callable[[bytes], None] | None = None
        self.hung = False
        self.halting: Reply | None = None

    @property
    def config(self) -> TargetConfig:
        """What the hardware can do now; a resume may have changed it."""
        return self.hardware.config

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count a refusal under its reason."""
        self.refusals[reason] += count

    def plug_in(self, station: Station) -> None:
        """The adapter is on a wire: connections run, and the host's frames go out."""
        self.station = station
        self.wire_out = station.send
        self.hardware.config = replace(self.config, mtu=station.link.mtu)

    def set_parameters(self, parameters: NdisTcpConnectionOffloadParameters) -> None:
        """Parameters for connections that come from now on; running machines keep the tick they began with.

        Raises LocalProtocolError for a tick that there is none (R-TMR-02).
        """
        self.settings = TcpSettings(parameters=parameters, offloaded=True)
        self.parameters = parameters

    def ticks(self, at: float | None = None) -> int:
        """A moment (seconds; now unless given) in ticks of TicksPerSecond; they do not wrap (R-TMR-03)."""
        seconds = self.ndis.now() if at is None else at
        return int(seconds * self.parameters.ticks_per_second + 1e-4)

    def image(self, obj: Context) -> bytes:
        """The three structures of an object as they are now."""
        station = self.station
        return obj.image() if station is None else station.image(obj, self.ndis.now())

    # -- objects -------------------------------------------------------------------------------

    def find(self, pointer: int | None) -> Context | None:
        """The context a PVOID of the layers above designates."""
        return self.hardware.objects.get(pointer) if pointer is not None else None

    def connection(self, pointer: int) -> TcpContext | None:
        """The connection a PVOID designates; None if it designates none."""
        obj = self.hardware.objects.get(pointer)
        return obj if isinstance(obj, TcpContext) else None

    def connections(self) -> list[TcpContext]:
        """All connections, oldest first."""
        return [o for o in self.hardware.objects.values() if isinstance(o, TcpContext)]

    def io(self, tcp: TcpContext) -> TcpIo:
        """What is posted on a connection; made when first needed."""
        if tcp.io is None:
            tcp.io = TcpIo(self.config.send_backlog)
        self.busy[tcp.address] = tcp
        return tcp.io

    def free(self, obj: Context) -> None:
        """Free a context and everything it holds (R-TERM-07: after the completion)."""
        self.hardware.remove(obj)
        del self.heap.objects[obj.address]
        if isinstance(obj, TcpContext):
            if obj.io is not None:
                self.busy.pop(obj.address, None)
            obj.flow = None
            below: PathContext | NeighborContext | None = obj.path
        else:
            below = obj.neighbor if isinstance(obj, PathContext) else None
        # What only waited for this one (a failed terminate) goes with it.
        if below is not None and below.released and not below.dependents:
            below.step(Event.TERMINATED)
            self.free(below)

    # -- indications ---------------------------------------------------------------------------

    def indicate(self, what: Callable[[], None]) -> None:
        """Make an indication now, or when no initiate is in progress any more (R-CONC-04)."""
        if self.initiating:
            self._held.append(what)
        else:
            what()

    def release_held(self) -> None:
        """An initiate is complete: make what was held back, in order."""
        while self._held and not self.initiating:
            self._held.pop(0)()

    def when(self, condition: Callable[[], bool], then: Callable[[], None]) -> None:
        """Do something as soon as a condition holds; it is looked at now and after each terminate."""
        if condition():
            then()
        else:
            self._waiting.append((condition, then))

    def after_terminate(self) -> None:
        """A terminate is over: do what waited for it."""
        due = [w for w in self._waiting if w[0]()]
        self._waiting = [w for w in self._waiting if w not in due]
        for _, then in due:
            then()

    # -- the end -------------------------------------------------------------------------------

    def tear_down(self) -> None:
        """Free everything; NDIS has completed whatever was in flight."""
        self.station = self.wire_out = None
        self.pipeline.clear()
        self.timers.clear()
        self._held.clear()
        self._waiting.clear()
        self.queued.clear()
        for obj in list(self.hardware.objects.values()):
            obj.step(Event.HALT)
            self.heap.free(obj.address)
        self.hardware = Hardware(self.config)
        self.busy.clear()
        self.indicating.clear()
        self.chimney_pool.clear()
        self.receive_pool.clear()
        self.heap.free(self.address)

    @property
    def nbls_outstanding(self) -> int:
        """Our net buffer lists that are with the layers above."""
        return len(self.chimney_pool) + len(self.receive_pool)

    def counters(self) -> dict[str, int]:
        """For ``ndisbus ps``."""
        hw = self.hardware
        posted = [tcp.io for tcp in self.busy.values() if tcp.io is not None]
        return {
            "tcp": hw.connections,
            "path": hw.paths,
            "neighbor": hw.neighbors,
            "invalid": sum(o.life.value == "invalid" for o in hw.objects.values()),
            "queued_initiates": len(self.queued),
            "pending_operations": len(self.pipeline),
            "posted_sends": sum(len(io.sends) for io in posted),
            "posted_receives": sum(len(io.receives) for io in posted),
            "posted_disconnects": sum(len(io.disconnects) for io in posted),
            "posted_forwards": sum(len(io.forwards) for io in posted),
            "buffered_bytes": hw.buffered_bytes,
            "machines": sum(tcp.flow is not None for tcp in self.busy.values()),
            "held_frames": sum(len(io.held) for io in posted),
            "nbls_outstanding": self.nbls_outstanding,
        }
