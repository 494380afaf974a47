"""A host on the network: a protocol driver joined with a network stack on the adapter that it is bound to.

Frames leave and arrive by the ordinary NDIS path. A connection of the stack can be offloaded: its machine
stops, and the driver offloads its structures; when it is uploaded, the machine goes on with them. Segments
that arrive here in between are forwarded, and what the application does is passed down.
"""

from __future__ import annotations

import itertools
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Any, Final

from hoststack.chimney.driver import HostDriver
from hoststack.chimney.upload import decline
from hoststack.live import netstat
from hoststack.live.addresses import HostAddresses
from hoststack.live.offloaded_sockets import OffloadedSockets
from hoststack.live.pending_updates import PendingUpdates
from hoststack.live.reachability import Doubts
from hoststack.live.statistics import OffloadStatistics
from hoststack.model.events import (
    AbortIndicated,
    Bound,
    DataReceived,
    DataSent,
    DisconnectIndicated,
    OperationDone,
    Unbound,
)
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from hoststack.net.hooks import StackHooks
from hoststack.net.interface import Interface
from hoststack.net.stack import NetStack
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import LocalProtocolError
from ndisbus.tcp.settings import TcpSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hoststack.model.operation import Operation
    from hoststack.net.socket import Socket
    from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
    from ndisbus.lists.blocklist import BlockList
    from ndisbus.lists.nbl_chain import NblChain
    from ndisbus.randomness import Randomness

__all__ = ["NetHost"]

#: The MTU of an adapter that does not report one.
_MTU: Final = 1500


class _ChimneyHooks(StackHooks):
    """Leads the stack's callbacks to the parts of the host."""

    def __init__(self, host: NetHost) -> None:
        self.host = host

    def segments(self, tcb: Tcb, segments: Sequence[bytes]) -> bool:
        return self.host.deliver(tcb, segments)

    def send(self, tcb: Tcb, data: bytes) -> None:
        self.host.send(tcb, data)

    def disconnect(self, tcb: Tcb, *, abortive: bool) -> None:
        self.host.offloaded_sockets.close(tcb, abortive=abortive)

    def read(self, tcb: Tcb) -> None:
        self.host.offloaded_sockets.read(tcb)

    def path_mtu(self, path: Path) -> None:
        self.host.pending_updates.changed(path)

    def neighbor_changed(self, neighbor: Neighbor) -> None:
        self.host.pending_updates.changed(neighbor)

    def relink(self, paths: Sequence[Path], neighbor: Neighbor) -> None:
        self.host.pending_updates.moved(paths, neighbor)

    def neighbor_delayed(self, neighbor: Neighbor) -> None:
        self.host.doubts.before_probe(neighbor)

    def neighbor_lost(self, neighbor: Neighbor) -> None:
        self.host.pending_updates.unreachable(neighbor)


class NetHost(HostDriver):
    """A host driver with a network stack. The methods of the first section are for callers.

    ``addresses``: the host's own addresses with prefix lengths, as ``ip_interface`` reads them; None for a
    pair that is free (:mod:`hoststack.live.addresses`). IPv6 addresses are left out on an adapter with an MTU
    below 1280. Raises ValueError for a string that is not an address. ``rng``: the source of ports, sequence
    numbers and delays; hosts on one network need different ones. ``gateways``: (network, gateway) pairs for
    networks behind routers.
    """

    def __init__(
        self,
        name: str = "host",
        *,
        addresses: Iterable[IPv4Interface | IPv6Interface | str] | None,
        rng: Randomness,
        gateways: Iterable[tuple[str, str]] = (),
        bind: str = "auto",
        upload_policy: Callable[[Tcb, int], bool] = decline,
        parameters: NdisTcpConnectionOffloadParameters | None = None,
    ) -> None:
        super().__init__(name, bind=bind, upload_policy=upload_policy, parameters=parameters)
        self.gateways = list(gateways)
        self.stack = NetStack(TcpSettings(parameters=self.parameters), rng, hooks=_ChimneyHooks(self))
        self.addresses = HostAddresses(self.stack, name, addresses)
        #: The stack's interface on the adapter; None until the first adapter with a station address is bound.
        self.interface: Interface | None = None
        self.offloaded_sockets = OffloadedSockets(self, self.stack)
        self.pending_updates = PendingUpdates(self, self.stack)
        self.doubts = Doubts(self, self.stack)
        self.offload_statistics = OffloadStatistics(self, self.stack)
        self.frames.on_frames = self._receive_frames
        sockets = self.offloaded_sockets
        self.events.subscribe(Bound, lambda _: self._bound())
        self.events.subscribe(Unbound, lambda _: self._unbound())
        self.events.subscribe(OperationDone, lambda event: self._operation_done(event.operation))
        self.events.subscribe(DataReceived, lambda event: sockets.received(event.tcb))
        self.events.subscribe(DataSent, lambda event: sockets.sent(event.tcb))
        self.events.subscribe(AbortIndicated, lambda event: sockets.aborted(event.tcb))
        self.events.subscribe(DisconnectIndicated, lambda event: sockets.remote_closed(event.tcb))

    # -- for callers ---------------------------------------------------------------------------

    def offload_sockets(self, sockets: Sequence[Socket]) -> Operation:
        """Offload the connections of sockets. Those that are refused go on in the host at once.

        Raises :class:`LocalProtocolError` for a socket that the host's stack does not serve, and what
        :meth:`HostDriver.offload` raises; then nothing has changed.
        """
        return self.offloaded_sockets.offload(sockets)

    def reserved(self, obj: StateObject) -> str:
        """Why the raw operations must not have a connection of the stack: two machines would serve it."""
        socket = self.stack.socket_of(obj) if isinstance(obj, Tcb) else None
        if socket is None:
            return ""
        return f"{socket} belongs to the network stack: use its own methods offload, upload and query"

    def offload(self, objects: Sequence[StateObject]) -> Operation:
        """As :meth:`HostDriver.offload`, for objects that are not connections of the stack.

        Raises :class:`LocalProtocolError` for these; :meth:`offload_sockets` offloads them.
        """
        for obj in objects:
            if obj not in self.offloaded_sockets.sockets and (reason := self.reserved(obj)):
                raise LocalProtocolError(reason)
        return super().offload(objects)

    def upload_sockets(self, sockets: Sequence[Socket], *, idle: bool = False) -> Operation:
        """Upload the connections of sockets; they go on in the host. See :meth:`HostDriver.terminate`."""
        return self.terminate([s.tcb for s in sockets], idle=idle)

    def ask_statistics(self) -> Operation:
        """Read the target's counters, which :meth:`statistics` then has (R-STAT-09)."""
        return self.compose("statistics", self.offload_statistics.read())

    def statistics(self) -> dict[str, dict[str, int]]:
        """IP and TCP counters: the host's own plus the target's as they were last read (R-STAT-09)."""
        return self.offload_statistics.totals()

    # -- what the driver reports ---------------------------------------------------------------

    def _bound(self) -> None:
        """Let the stack's interface use the adapter."""
        binding = self.binding
        assert binding is not None
        if binding.mac is None:
            return  # an adapter without a station address has no ordinary path
        self.stack.advance(self.ndis.now())
        if self.interface is None:
            mtu = binding.mtu or _MTU
            own = self.addresses.usable(mtu)
            if len(own) < len(self.addresses.wanted):
                self.stack.statistics.count("ipv6: the adapter's MTU is too small")  # RFC 8200 section 5
            self.interface = Interface(
                binding.adapter,
                binding.mac,
                mtu,
                own,
                self._transmit_frames,
                loops=True,
                takes=lambda _mac: self.frames.takes(self.binding),
            )
            self.stack.add_interface(self.interface)
            for network, gateway in self.gateways:
                self.stack.add_route(network, self.interface, gateway)
        else:
            self.stack.replug(self.interface, binding.mac, binding.mtu or _MTU)
        self.offloaded_sockets.reset_lost()
        self.soon()

    def _unbound(self) -> None:
        """Take back everything that was offloaded."""
        self.doubts.clear()
        self.pending_updates.clear()
        for entry in self.stack.paths:
            self._take_back_path(entry.path)
        for tcb in list(self.offloaded_sockets.sockets):
            self.offloaded_sockets.take_back(tcb)

    def _operation_done(self, operation: Operation) -> None:
        for obj in itertools.chain(operation.objects, operation.left_out):
            if isinstance(obj, Tcb):
                self.offloaded_sockets.operation_done(obj)
            elif isinstance(obj, Path):
                self._take_back_path(obj)
        if self.pending_updates:
            self.soon()

    def _take_back_path(self, path: Path) -> None:
        """Link a path that is the host's again to the next hop of the stack's own segments."""
        entry = None if path.is_away else self.stack.paths.of(path)
        if entry is not None:
            path.neighbor = entry.hop.neighbor

    def protocol_tcp_offload_receive_indicate(
        self, offload_context: int, chain: NblChain, status: int
    ) -> tuple[int, int]:
        """Refuse data for which the receive buffer has no room; it stays below."""
        tcb = self.connection_of(offload_context)
        if tcb is not None and self.offloaded_sockets.refuses(tcb):
            return int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED), 0
        return super().protocol_tcp_offload_receive_indicate(offload_context, chain, status)

    def protocol_tcp_offload_disconnect_complete(
        self, protocol_binding_context: int, chain: NblChain
    ) -> None:
        """Upload connections that are closed on both sides."""
        statuses = chain.statuses or [int(NdisStatus.SUCCESS)] * len(chain)
        posted = [self.posted.get(a) for a in chain.addresses]
        super().protocol_tcp_offload_disconnect_complete(protocol_binding_context, chain)
        self.offloaded_sockets.disconnected(
            p.tcb
            for p, status in zip(posted, statuses, strict=True)
            if p is not None and status == NdisStatus.SUCCESS
        )

    def protocol_indicate_offload_event(
        self, protocol_binding_context: int, block_list: BlockList | None, indication_code: int
    ) -> tuple[None, BlockList | None]:
        """Answer NeighborReachabilityQuery from the stack's neighbor cache (R-NUD-08)."""
        self.stack.advance(self.ndis.now())
        for entry in self.stack.neighbors:
            if entry.neighbor.is_offloaded:
                entry.stamp(self.ndis.now())
        answer = super().protocol_indicate_offload_event(
            protocol_binding_context, block_list, indication_code
        )
        self.doubts.answered(answer[1], indication_code)
        return answer

    # -- frames and time -----------------------------------------------------------------------

    def _transmit_frames(self, frames: list[bytes]) -> None:
        self.transmit_frames(frames)

    def _receive_frames(self, frames: list[bytes]) -> None:
        if self.interface is not None:
            self.stack.receive(self.interface, frames, self.ndis.now())
            if self.pending_updates.moves:
                self.soon()  # a frame may have told the link address that a relink waits for

    def next_deadline(self) -> float | None:
        times = [super().next_deadline(), self.stack.next_deadline(), self.doubts.next_deadline()]
        return min((t for t in times if t is not None), default=None)

    def on_timer(self, now: float) -> None:
        limbo = [o for o in self.limbo if isinstance(o, Tcb)]
        super().on_timer(now)
        for tcb in limbo:
            self.offloaded_sockets.take_back(tcb)
        self.doubts.on_timer(now)
        self.pending_updates.pass_down()
        self.stack.on_timer(now)

    # -- for the command line ------------------------------------------------------------------

    def inspect(self) -> dict[str, int]:
        """Counters for ``ndisbus ps``."""
        return super().inspect() | {
            "sockets": len(self.stack.transport.sockets),
            "waiting sockets": self.stack.transport.turns.waiting,
            "offloaded sockets": len(self.offloaded_sockets.sockets),
            "neighbor entries": len(self.stack.neighbors),
        }

    def control(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """``netstat``: a slice of the connections, and with the first one statistics.

        ``refresh``: read the target's counters again.
        ``Read`` in both answers is how often the target's counters were read.
        """
        statistics = self.offload_statistics
        if command == "refresh":
            if self.binding is not None:
                self.ask_statistics()
            return {"Read": statistics.reads, "Asked": self.binding is not None}
        if command == "netstat":
            found = netstat.answer(self.stack, arguments)
            if arguments.get("After") is None:
                found["Counters"] = dict(self.stack.counters) | self.frames.drops()
                found["Statistics"] = self.statistics()
                found["Read"] = statistics.reads
            return found
        return super().control(command, arguments)
