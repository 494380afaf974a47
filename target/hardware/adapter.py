"""One adapter of the target: its hardware, its link, its operations in flight, and what the host has enabled.

The functions of ``network``, ``data`` and ``operations`` work on it. It does not know them.
"""

from __future__ import annotations

from collections import Counter, deque
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
from ndisbus.net.identification import IpIdentification
from ndisbus.tcp.owner import ticks_of
from ndisbus.tcp.settings import TcpSettings
from ndisbus.timer_queue import TimerQueue
from ndisbus.wire.waiting import WaitingSenders
from target.hardware.config import TargetConfig
from target.hardware.knobs import Knobs
from target.hardware.pipeline import Pipeline
from target.hardware.pools import NblPool
from target.hardware.statistics import Statistics
from target.hardware.tables import Hardware
from target.model.contexts import Context, NeighborContext, PathContext, TcpContext
from target.model.life import Event
from target.model.posted import TcpIo

if TYPE_CHECKING:
    from ndisbus.driver.port import Ndis
    from ndisbus.lists.nbl_chain import NblChain
    from ndisbus.wire.link import Link

__all__ = ["Adapter"]


class Adapter:
    """One adapter. ``handle`` is its NdisMiniportHandle, ``address`` its MiniportAdapterContext.

    ``link`` is its wire. None: no cable is plugged in, and connections do not run.
    """

    def __init__(
        self,
        ndis: Ndis,
        knobs: Knobs,
        config: TargetConfig,
        name: str,
        handle: int,
        link: Link | None = None,
    ) -> None:
        self.ndis = ndis
        self.heap = ndis.heap
        self.knobs = knobs
        self.name = name
        self.handle = handle
        self.address = self.heap.allocate(self)
        self.link = link
        self.hardware = Hardware(config if link is None else replace(config, mtu=link.mtu))
        self.pipeline = Pipeline(config.latency)
        #: Actions by the time at which each is due. An action is called with the time.
        self.timers: TimerQueue[Callable[[float], None]] = TimerQueue()
        #: Connections by the time at which each is run next; see :meth:`wake`.
        self.wakes: TimerQueue[TcpContext] = TimerQueue()
        #: Connections for whose next hop the link takes no more frames, and chains of the ordinary path with
        #: the frames of each list and since when. They wait until the link takes frames again.
        self.waiting: WaitingSenders[TcpContext] = WaitingSenders()
        self.outgoing: deque[tuple[NblChain, list[list[bytes]], float]] = deque()
        self.outgoing_lists = 0
        #: Identification of the IPv4 datagrams that offloaded connections send.
        self.ip_ids = IpIdentification(upper=True)
        #: Capabilities named by the latest set of OID_TCP_TASK_OFFLOAD; None: the chimney is off (R-OID-05).
        self.enabled: NdisTaskTcpConnectionOffload | None = None
        self.parameters = NdisTcpConnectionOffloadParameters()
        #: The same for the TCP machines; see :meth:`set_parameters`.
        self.settings = TcpSettings(parameters=self.parameters, offloaded=True)
        #: Counters of the traffic of offloaded connections (R-STAT-01).
        self.stats = Statistics()
        #: Our copy of NDIS's entry points (R-REG-06).
        self.entry_points: NdisTcpOffloadEventHandlers | None = None
        self.refusals: Counter[str] = Counter()
        #: Number of initiates begun and not completed. While it is not 0, nothing is indicated (R-CONC-04).
        self.initiating = 0
        self._held: list[Callable[[], None]] = []
        #: While paused, initiates wait in ``queued`` (R-PAUSE-02).
        self.paused = False
        self.queued: list[BlockList] = []
        #: Whether UPLOAD_ALL was indicated and no resume followed: every I/O request goes back (R-PAUSE-03).
        self.uploading = False
        #: Whether the driver gives everything back because its process ends.
        self.departing = False
        self._waiting: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        #: Connections with something posted or buffered, by address.
        self.busy: dict[int, TcpContext] = {}
        #: Connections with a receive indication that has not returned.
        self.indicating: dict[int, TcpContext] = {}
        #: Lists for chimney receive indications and uploaded data, and for ordinary indications (R-REG-08).
        self.chimney_pool = NblPool(self.heap)
        self.receive_pool = NblPool(self.heap)
        #: Whether the hardware hangs: it neither sends nor receives, and its timers do not run.
        self.hung = False
        #: The answer to a MiniportHaltEx that waits for lent net buffer lists.
        self.halting: Reply | None = None
        #: (since, now, ticks between them): the last answer of :meth:`ticks_since`.
        self.elapsed = (0.0, 0.0, 0)

    @property
    def config(self) -> TargetConfig:
        """The current capabilities of the hardware; a resume may have changed them."""
        return self.hardware.config

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count a refusal under its reason."""
        self.refusals[reason] += count

    def set_parameters(self, parameters: NdisTcpConnectionOffloadParameters) -> None:
        """Set the parameters of connections offloaded from now on. Running machines keep theirs.

        Raises LocalProtocolError if TicksPerSecond is not 10, 100 or 1000 (R-TMR-02).
        """
        self.settings = TcpSettings(parameters=parameters, offloaded=True)
        self.parameters = parameters

    def ticks(self, at: float | None = None) -> int:
        """Return a time (seconds; default now) in ticks of TicksPerSecond. They do not wrap (R-TMR-03)."""
        seconds = self.ndis.now() if at is None else at
        return ticks_of(seconds, self.parameters.ticks_per_second)

    def ticks_since(self, since: float, now: float) -> int:
        """Return the ticks between two times.

        The answer is cached, because whole trees are queried at once.
        """
        ticks = self.ticks(now) - self.ticks(since)
        self.elapsed = (since, now, ticks)
        return ticks

    # -- objects -------------------------------------------------------------------------------

    def find(self, pointer: int | None) -> Context | None:
        """Return the object of an OffloadContext, or None."""
        return self.hardware.find(pointer) if pointer is not None else None

    def connection(self, pointer: int) -> TcpContext | None:
        """Return the connection of an OffloadContext, or None if it does not designate a connection."""
        obj = self.hardware.find(pointer)
        return obj if isinstance(obj, TcpContext) else None

    def connections(self) -> list[TcpContext]:
        """Return all connections, oldest first."""
        return [o for o in self.hardware.objects.values() if isinstance(o, TcpContext)]

    def io(self, tcp: TcpContext) -> TcpIo:
        """Return what is posted on a connection. It is made when first needed."""
        if tcp.io is None:
            tcp.io = TcpIo(self.config.send_backlog)
        self.busy[tcp.address] = tcp
        return tcp.io

    def wake(self, tcp: TcpContext, at: float) -> None:
        """Run a connection at a time (seconds of the driver's clock) instead of the time set before.

        A connection that runs too early has nothing to do and sets the right time then. So only an earlier
        time has to be set.
        """
        if tcp.timer is None:
            tcp.timer = self.wakes.push(at, tcp)
        else:
            self.wakes.reschedule(tcp.timer, at)

    def free(self, obj: Context) -> None:
        """Free a context and everything it holds, after the completion (R-TERM-07)."""
        self.hardware.remove(obj)
        del self.heap.objects[obj.address]
        if isinstance(obj, TcpContext):
            if obj.io is not None:
                self.busy.pop(obj.address, None)
            obj.flow = None
            if obj.timer is not None:
                self.wakes.cancel(obj.timer)
                obj.timer = None  # it refers to the context: without the cycle, the context is freed at once
            below: PathContext | NeighborContext | None = obj.path
        else:
            below = obj.neighbor if isinstance(obj, PathContext) else None
        # A path or neighbor whose terminate failed because of this object is freed with it (R-DIS-43).
        if below is not None and below.released and not below.dependents:
            below.step(Event.TERMINATED)
            self.free(below)

    # -- indications ---------------------------------------------------------------------------

    def indicate(self, what: Callable[[], None]) -> None:
        """Make an indication now, or as soon as no initiate is in progress (R-CONC-04)."""
        if self.initiating:
            self._held.append(what)
        else:
            what()

    def release_held(self) -> None:
        """Make the indications that waited for an initiate, in order."""
        while self._held and not self.initiating:
            self._held.pop(0)()

    def when(self, condition: Callable[[], bool], then: Callable[[], None]) -> None:
        """Call ``then`` as soon as ``condition()`` holds. It is tested now and after each terminate."""
        if condition():
            then()
        else:
            self._waiting.append((condition, then))

    def after_terminate(self) -> None:
        """Test the conditions of :meth:`when` again, because a terminate has completed."""
        due = [w for w in self._waiting if w[0]()]
        self._waiting = [w for w in self._waiting if w not in due]
        for _, then in due:
            then()

    # -- the end -------------------------------------------------------------------------------

    def tear_down(self) -> None:
        """Free everything. NDIS has completed what was in flight."""
        self.link = None
        self.pipeline.clear()
        self.timers.clear()
        self.wakes.clear()
        self.waiting.clear()
        self.outgoing.clear()
        self.outgoing_lists = 0
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
        """Number of our net buffer lists that the layers above hold."""
        return len(self.chimney_pool) + len(self.receive_pool)

    def counters(self) -> dict[str, int]:
        """Return what ``ndisbus ps`` shows of the adapter."""
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
            "waiting_connections": len(self.waiting),
            "waiting_sends": self.outgoing_lists,
            "held_frames": sum(len(io.held) for io in posted),
            "nbls_outstanding": self.nbls_outstanding,
        }
