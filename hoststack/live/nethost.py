"""A host on the network: a protocol driver with a network stack of its own on the adapter it binds to.

Frames leave and arrive by the ordinary NDIS path. A connection that the stack serves can be handed to the
chimney: its machine stops, the driver offloads the structures, and the machine goes on with them when they
are back. What arrives here meanwhile is forwarded; what the application does is passed down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import TYPE_CHECKING, Any, Final

from hoststack.chimney.driver import HostDriver
from hoststack.chimney.upload import decline
from hoststack.live import statistics
from hoststack.live.netstat import connections
from hoststack.live.offloaded_socket import Meanwhile, why_closed
from hoststack.live.pending_updates import News
from hoststack.live.reachability import Doubts
from hoststack.model.events import (
    Bound,
    DataReceived,
    DataSent,
    DisconnectIndicated,
    OperationDone,
    Unbound,
)
from hoststack.model.life import State
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from hoststack.net.errors import ConnectionReset
from hoststack.net.hooks import StackHooks
from hoststack.net.interface import IPV6_MINIMUM_MTU, Interface
from hoststack.net.socket import Socket
from hoststack.net.socket_events import SocketEvent
from hoststack.net.stack import NetStack
from ndisbus.ddi.enums import Oid, TcpOffloadConnectionState
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import ChimneyError, LocalProtocolError
from ndisbus.tcp.settings import TcpSettings

if TYPE_CHECKING:
    from hoststack.model.operation import Operation
    from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters, Struct
    from ndisbus.lists.blocklist import BlockList
    from ndisbus.lists.nbl_chain import NblChain
    from ndisbus.randomness import Randomness

__all__ = ["NetHost"]

#: Used until an adapter says how large its frames may be.
_MTU: Final = 1500
_CLOSED: Final = TcpOffloadConnectionState.TcpConnectionClosed


class _Chimney(StackHooks):
    """What the stack asks of the driver."""

    def __init__(self, host: NetHost) -> None:
        self.host = host

    def segments(self, tcb: Tcb, segments: Sequence[bytes]) -> bool:
        return self.host.deliver(tcb, segments)

    def send(self, tcb: Tcb, data: bytes) -> None:
        self.host.send(tcb, data)

    def disconnect(self, tcb: Tcb, *, abortive: bool) -> None:
        self.host.meanwhile.close(tcb, abortive=abortive)

    def read(self, tcb: Tcb) -> None:
        self.host.meanwhile.read(tcb)

    def path_mtu(self, path: Path) -> None:
        self.host.news.changed(path)

    def neighbor_changed(self, neighbor: Neighbor) -> None:
        self.host.news.changed(neighbor)

    def relink(self, paths: Sequence[Path], neighbor: Neighbor) -> None:
        self.host.news.moved(paths, neighbor)

    def neighbor_delayed(self, neighbor: Neighbor) -> None:
        self.host.doubts.before_probe(neighbor)

    def neighbor_lost(self, neighbor: Neighbor) -> None:
        self.host.news.lost(neighbor)


class NetHost(HostDriver):
    """A host driver with a network stack.

    ``addresses``: the host's own addresses with prefix lengths, as ``ip_interface`` reads them. IPv6
    addresses are left out on an adapter with an MTU below 1280. Raises ValueError for a string that is not
    an address. ``rng``: the source of ports, sequence numbers and delays; hosts on one network need
    different ones. ``gateways``: (network, gateway) pairs for networks behind routers.
    """

    def __init__(
        self,
        name: str = "host",
        *,
        addresses: Iterable[IPv4Interface | IPv6Interface | str],
        rng: Randomness,
        gateways: Iterable[tuple[str, str]] = (),
        bind: str = "auto",
        upload_policy: Callable[[Tcb, int], bool] = decline,
        parameters: NdisTcpConnectionOffloadParameters | None = None,
    ) -> None:
        super().__init__(name, bind=bind, upload_policy=upload_policy, parameters=parameters)
        self.addresses = [ip_interface(a) for a in addresses]
        self.gateways = list(gateways)
        self.stack = NetStack(TcpSettings(parameters=self.parameters), rng, hooks=_Chimney(self))
        self.interface: Interface | None = None
        #: Connections whose machine is stopped: offloaded, or on their way.
        self.away: dict[Tcb, Socket] = {}
        #: Bytes that nobody has read and that go down with their connection.
        self.buffered: dict[Tcb, int] = {}
        self.meanwhile = Meanwhile(self)
        #: The target's counters, by OID, as they were last read.
        self.offload_stats: dict[Oid, Struct] = {}
        self.offload_stats_read = 0
        self.news = News(self)
        self.doubts = Doubts(self)
        #: Connections that died with a target, and whose peers have not heard of it yet.
        self.orphans: list[Socket] = []
        self.frames.on_frames = self._frames
        self.events.subscribe(Bound, lambda _: self._up())
        self.events.subscribe(Unbound, lambda _: self._down())
        self.events.subscribe(OperationDone, lambda event: self._operation_done(event.operation))
        self.events.subscribe(DataReceived, lambda event: self._received(event.tcb))
        self.events.subscribe(DataSent, lambda event: self._sent(event.tcb))
        self.events.subscribe(DisconnectIndicated, lambda event: self._remote_closed(event.tcb))

    # -- the chimney ---------------------------------------------------------------------------

    def offload_sockets(self, sockets: Sequence[Socket]) -> Operation:
        """Hand connections to the chimney. Those that are refused go on in the host at once.

        Raises :class:`LocalProtocolError` for one that is not served here, and what
        :meth:`HostDriver.offload` raises; then nothing has changed.
        """
        wrong = [s for s in sockets if s.machine is None]
        if wrong:
            raise LocalProtocolError(f"{wrong[0]!r} is not served by the host", rule="R-INIT-02")
        now = self.ndis.now()
        self.stack.advance(now)
        gone: list[Socket] = []
        try:
            for s in sockets:
                self.stack.detach(s, now)
                gone.append(s)
                self.away[s.tcb] = s
                if s.tcb.receive_buffer:
                    self.buffered[s.tcb] = len(s.tcb.receive_buffer)
            self.stack.flush()  # the last acknowledgments go ahead of the initiate
            operation = self.offload([s.tcb for s in sockets])
        except ChimneyError:
            for s in gone:
                del self.away[s.tcb]
                self.buffered.pop(s.tcb, None)
                self.stack.attach(s, now)
            raise
        return operation

    def reserved(self, obj: StateObject) -> str:
        """Connections of the stack are moved with their sockets, or two machines would serve them."""
        socket = self.stack.socket_of(obj) if isinstance(obj, Tcb) else None
        if socket is None:
            return ""
        return f"{socket!r} belongs to the network stack: use its own methods offload, upload and query"

    def offload(self, objects: Sequence[StateObject]) -> Operation:
        """As :meth:`HostDriver.offload`, for objects that are not connections of the stack.

        Raises :class:`LocalProtocolError` for those, which :meth:`offload_sockets` takes.
        """
        for obj in objects:
            if obj not in self.away and (reason := self.reserved(obj)):
                raise LocalProtocolError(reason)
        return super().offload(objects)

    def ask_statistics(self) -> Operation:
        """Read the target's counters, so that :meth:`statistics` has them as they are now (R-STAT-09)."""
        return self.compose("statistics", statistics.ask(self))

    def statistics(self) -> dict[str, dict[str, int]]:
        """IP and TCP counters of both versions: the host's own, and the target's as last read (R-STAT-09)."""
        return statistics.totals(self)

    def upload_sockets(self, sockets: Sequence[Socket], *, idle: bool = False) -> Operation:
        """Take connections back; they go on in the host. See :meth:`HostDriver.terminate`."""
        return self.terminate([s.tcb for s in sockets], idle=idle)

    def _fetch(self, tcb: Tcb) -> None:
        """Post a request for what went down in BufferedData: the target does not indicate it (R-BRD-05)."""
        if tcb in self.buffered and tcb.state is not State.OFFLOADING:
            size = self.buffered.pop(tcb)
            if tcb.may_post:
                self.receive(tcb, size)

    def _home(self, tcb: Tcb) -> None:
        """A connection that was away is the host's again, if it is."""
        socket = self.away.get(tcb)
        if socket is None or tcb.is_offloaded or tcb.waiting is not None:
            return
        if tcb.state in (State.OFFLOADING, State.FAILED):
            return
        del self.away[tcb]
        self.meanwhile.home(tcb)
        self.forget(tcb)
        now = self.ndis.now()
        self.stack.advance(now)
        if tcb.lost:
            # Bytes may have been acknowledged in our name that nobody has: it cannot go on.
            error = ConnectionReset(f"{socket!r}: the adapter died with the connection's state")
            if tcb.delegated.state is _CLOSED:
                socket.over(error)  # there is nobody to tell
            else:
                socket.fail(error)
                self.orphans.append(socket)
                self._bury()
        elif tcb.reset:
            socket.over(ConnectionReset(f"{socket!r}: reset by the peer"))
        elif tcb.delegated.state is _CLOSED:
            socket.over(why_closed(socket, tcb))
        else:
            self.stack.attach(socket, now)
            if socket.available:
                socket.emit(SocketEvent.READABLE)
            socket.relieved()
        self.soon()

    def _bury(self) -> None:
        """Tell the peers of lost connections, as soon as there is an adapter to tell them through."""
        if self.binding is None or self.binding.unbinding:
            return
        orphans, self.orphans = self.orphans, []
        for socket in orphans:
            self.stack.attach(socket, self.ndis.now())
            socket.abort()
        self.soon()

    def protocol_tcp_offload_receive_indicate(
        self, offload_context: int, chain: NblChain, status: int
    ) -> tuple[int, int]:
        """What the receive buffer has no room for stays below."""
        tcb = self.connection_of(offload_context)
        if tcb is not None and self.meanwhile.refuses(tcb):
            return int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED), 0
        return super().protocol_tcp_offload_receive_indicate(offload_context, chain, status)

    def protocol_tcp_offload_disconnect_complete(
        self, protocol_binding_context: int, chain: NblChain
    ) -> None:
        """What is closed on both sides is uploaded."""
        statuses = chain.statuses or [int(NdisStatus.SUCCESS)] * len(chain)
        posted = [self.posted.get(a) for a in chain.addresses]
        super().protocol_tcp_offload_disconnect_complete(protocol_binding_context, chain)
        self.meanwhile.disconnected(
            p.tcb
            for p, status in zip(posted, statuses, strict=True)
            if p is not None and status == NdisStatus.SUCCESS
        )

    # -- what the stack learned ----------------------------------------------------------------

    def _landed(self, path: Path) -> None:
        """A path that is the host's again goes where the host's own segments go."""
        entry = None if path.is_away else self.stack.paths.of(path)
        if entry is not None:
            path.neighbor = entry.hop.neighbor

    # -- driver --------------------------------------------------------------------------------

    def _operation_done(self, operation: Operation) -> None:
        for obj in operation.objects:
            if isinstance(obj, Tcb):
                self._fetch(obj)
                self.meanwhile.arrived(obj)
                self._home(obj)
            elif isinstance(obj, Path):
                self._landed(obj)
        if self.news:
            self.soon()

    def _down(self) -> None:
        """Unbound: what was offloaded is the host's again."""
        self.doubts.clear()
        self.news.clear()
        for entry in self.stack.paths:
            self._landed(entry.path)
        for tcb in list(self.away):
            self._home(tcb)

    def _received(self, tcb: Tcb) -> None:
        socket = self.away.get(tcb)
        if socket is not None and socket.closed:
            self.meanwhile.unwanted(socket)
        elif socket is not None:
            socket.emit(SocketEvent.READABLE)

    def _sent(self, tcb: Tcb) -> None:
        socket = self.away.get(tcb)
        if socket is not None:
            socket.relieved()

    def _remote_closed(self, tcb: Tcb) -> None:
        socket = self.away.get(tcb)
        if socket is not None:
            socket.emit(SocketEvent.PEER_CLOSED)
        self.meanwhile.over(tcb)

    def _up(self) -> None:
        """Bound: the stack's interface is this adapter from now on."""
        binding = self.binding
        assert binding is not None
        if binding.mac is None:
            return  # an adapter without a station address has no ordinary path
        self.stack.advance(self.ndis.now())
        if self.interface is None:
            mtu = binding.mtu or _MTU
            own = [a for a in self.addresses if a.version == 4 or mtu >= IPV6_MINIMUM_MTU]
            if len(own) < len(self.addresses):
                self.stack.statistics.count("ipv6: the adapter's MTU is too small")  # RFC 8200 section 5
            self.interface = Interface(binding.adapter, binding.mac, mtu, own, self._transmit)
            self.stack.add_interface(self.interface)
            for network, gateway in self.gateways:
                self.stack.add_route(network, self.interface, gateway)
        else:
            self.stack.replug(self.interface, binding.mac, binding.mtu or _MTU)
        self._bury()
        self.soon()

    def _transmit(self, frames: list[bytes]) -> None:
        self.transmit_frames(frames)

    def _frames(self, frames: list[bytes]) -> None:
        if self.interface is not None:
            self.stack.receive(self.interface, frames, self.ndis.now())
            if self.news.moves:
                self.soon()  # one of them may have told an address that was waited for

    def protocol_indicate_offload_event(
        self, protocol_binding_context: int, block_list: BlockList | None, indication_code: int
    ) -> tuple[None, BlockList | None]:
        """NeighborReachabilityQuery is answered from the stack's neighbor cache (R-NUD-08)."""
        self.stack.advance(self.ndis.now())
        for entry in self.stack.neighbors:
            if entry.neighbor.is_offloaded:
                entry.stamp(self.ndis.now())
        answer = super().protocol_indicate_offload_event(
            protocol_binding_context, block_list, indication_code
        )
        self.doubts.asked(answer[1], indication_code)
        return answer

    def next_deadline(self) -> float | None:
        times = [super().next_deadline(), self.stack.next_deadline(), self.doubts.next_deadline()]
        return min((t for t in times if t is not None), default=None)

    def on_timer(self, now: float) -> None:
        limbo = [o for o in self.limbo if isinstance(o, Tcb)]
        super().on_timer(now)
        for tcb in limbo:
            self._home(tcb)
        self.doubts.on_timer(now)
        self.news.pass_down()
        self.stack.on_timer(now)

    def inspect(self) -> dict[str, int]:
        """Counters for ``ndisbus ps``."""
        return super().inspect() | {
            "sockets": len(self.stack.transport.sockets),
            "away": len(self.away),
            "neighbor entries": len(self.stack.neighbors),
        }

    def control(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """``netstat``: connections and statistics; ``refresh``: read these anew.

        ``Read`` tells how often the target's counters were read.
        """
        if command == "refresh":
            if self.binding is not None:
                self.ask_statistics()
            return {"Read": self.offload_stats_read, "Asked": self.binding is not None}
        if command == "netstat":
            return {
                "Connections": connections(self.stack),
                "Counters": dict(self.stack.counters),
                "Statistics": self.statistics(),
                "Read": self.offload_stats_read,
            }
        return super().control(command, arguments)
