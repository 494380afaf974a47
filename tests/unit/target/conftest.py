"""A target on a real DriverPort, with NDIS and the host played by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from ndisbus.ddi.enums import NdisRequestType, OffloadStateType, Oid, TcpOffloadConnectionState
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import (
    NdisOidRequest,
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
    NdisTcpOffloadEventHandlers,
)
from ndisbus.driver.port import DriverPort
from ndisbus.lists.blocklist import BLOCK_SIZE, Key
from ndisbus.lists.heap import Heap, NdisOffloadHandle
from ndisbus.lists.nbl import NetBufferList, chain_to_wire, iter_chain, make_net_buffer_list
from ndisbus.lists.nbl_chain import Attachments, NblChain
from ndisbus.net.frames import FrameBuilder
from ndisbus.net.segment import Segment
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
    pack_state,
    unpack_state,
)
from ndisbus.wire.memory import MemorySegment
from target import TargetConfig, TargetDriver
from tests.support.wired import FAR_MAC, NIC_MAC, Far, FarEnd, builder, play

SOURCE_HANDLE = 0x10000000AB0
ESTABLISHED = TcpOffloadConnectionState.TcpConnectionEstablished


class Obj:
    """One object of the host: its NDIS_OFFLOAD_HANDLE, its type, and the state to offload."""

    def __init__(self, handle: NdisOffloadHandle, state_type: int, image: bytes) -> None:
        self.handle = handle
        self.type = int(state_type)
        self.image = image
        self.chain: NetBufferList | None = None
        self.status: int | None = None
        self.result: bytes | None = None
        self.returned: int | None = None
        """NetBufferListChain as a terminate wrote it."""

    @property
    def context(self) -> int | None:
        return self.handle.context

    def structures(self, state_type: int | None = None) -> tuple[Any, ...]:
        """What the last query or terminate wrote behind the block."""
        assert self.result is not None
        return unpack_state(state_type or self.type, self.result)


class Done:
    """A completion of a list: statuses and columns in the order of the nodes."""

    def __init__(self, name: str, wire: dict[str, Any], frames: Any, nodes: list[Obj | None]) -> None:
        n = len(nodes)
        status = wire["Status"]
        self.name = name
        self.wire = wire
        self.status = [NdisStatus(s) for s in (status if isinstance(status, list) else [status] * n)]
        lists = wire.get("NetBufferLists")
        self.nbls = Attachments(lists, frames).read() if lists else {}


class Harness:
    """NDIS and the host around one target. ``calls`` collects what the target called."""

    def __init__(
        self,
        config: TargetConfig | None = None,
        *,
        start: bool = True,
        enable: bool = True,
        wires: Sequence[Any] = (),
    ) -> None:
        self.driver = TargetDriver(config or TargetConfig(), wires)
        self.port = DriverPort(self.driver, {"Name": "target"})
        self.heap = Heap(7)
        self.now = 0.0
        self.calls: list[tuple[str, list[Any], Any]] = []
        self.log: list[str] = []
        self.answers: dict[str, list[Any]] = {}
        self.adapters: dict[str, int] = {}
        self.optional: list[dict[str, Any]] = []
        self.attributes: list[dict[str, Any]] = []
        self._nodes: dict[int, list[Obj | None]] = {}
        self._call_id = 1000
        #: What the receive indications carry that have not been answered.
        self.indicated_data: list[bytes] = []
        self.returns: dict[int, list[Any]] = {}
        if start:
            self.start()
            if enable:
                self.enable()

    # -- NDIS ----------------------------------------------------------------------------------

    def start(self, space: int = 5) -> None:
        self.adapters.clear()
        self.receive("ready", [{"Epoch": 1, "AddressSpace": space}])
        self.pump()
        for i, name in enumerate(self.driver.config.adapters):
            self.initialize(name, 0x10000000010 + 0x10 * i)

    def initialize(self, name: str, handle: int) -> int:
        before = len(self.attributes)
        answer = self.ask("MiniportInitializeEx", [handle, None, {"AdapterName": name}])
        if answer[0] == 0:
            self.adapters[name] = self.attributes[before]["MiniportAdapterContext"]
        return int(answer[0])

    def receive(self, name: str, args: list[Any], call_id: int | None = None, frames: Any = ()) -> None:
        self.port.receive([name, call_id, args], frames, self.now)

    def ask(self, name: str, args: list[Any]) -> list[Any]:
        """A handler that answers."""
        self._call_id += 1
        mine = self._call_id
        self.receive(name, args, mine)
        self.pump()
        return self.returns.get(mine, [])

    def pump(self) -> None:
        while self.port.outbox:
            for message, frames in self.port.drain():
                name, call_id, params = message[0], message[1], message[2]
                if name == "return":
                    self.returns[call_id] = params
                    continue
                self.log.append(name)
                answer = self._ndis(name, params)
                if answer is not None:
                    self.receive("return", answer, call_id)
                else:
                    self.calls.append((name, params, frames if call_id is None else call_id))
                    if name == "NdisTcpOffloadReceiveHandler":
                        self.indicated_data.append(b"".join(frames))

    def _ndis(self, name: str, params: list[Any]) -> list[Any] | None:
        if name in self.answers:
            return self.answers[name]
        if name == "NdisMRegisterMiniportDriver":
            status = self.ask("MiniportSetOptions", [0x100000000E0, None])[0]
            return [status, 0x100000000E0]
        if name == "NdisSetOptionalHandlers":
            self.optional.append(params[1])
            return [0]
        if name == "NdisMSetMiniportAttributes":
            self.attributes.append(params[1])
            return [0]
        if name == "NdisMGetOffloadHandlers":
            return [0, NdisTcpOffloadEventHandlers.full().to_wire()]
        return None

    def take(self, name: str | None = None) -> list[Any]:
        """The parameters of the calls made so far (of one name), which are then forgotten."""
        self.pump()
        chosen = [c for c in self.calls if name is None or c[0] == name]
        self.calls = [c for c in self.calls if c not in chosen]
        return [c[1] for c in chosen] if name else [(c[0], c[1]) for c in chosen]

    def events(self) -> list[tuple[int, int, int]]:
        return [tuple(p) for p in self.take("NdisTcpOffloadEventHandler")]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.port.on_timer(self.now)
        self.pump()

    @property
    def adapter(self) -> Any:
        """The target's own adapter object (the first)."""
        return next(iter(self.driver.adapters.values()))

    @property
    def station(self) -> Any:
        """The station of the first adapter."""
        return self.driver.stations[self.adapter.name]

    @property
    def ctx(self) -> int:
        return next(iter(self.adapters.values()))

    def oid(
        self, oid: int, buffer: Any = None, *, request_type: int | None = None, name: str | None = None
    ) -> list[Any]:
        kind = request_type
        if kind is None:
            kind = (
                NdisRequestType.NdisRequestQueryInformation
                if buffer is None
                else NdisRequestType.NdisRequestSetInformation
            )
        request = NdisOidRequest(request_type=int(kind), oid=int(oid), information_buffer=buffer).to_wire()
        return self.ask("MiniportOidRequest", [self.adapters[name] if name else self.ctx, request])

    def enable(self, **members: int) -> int:
        answer = 0
        for name in self.adapters:
            config = self.driver.config
            given = {
                "support_ipv4": int(config.support_ipv4),
                "support_ipv6": int(config.support_ipv6),
                "support_sack": int(config.support_sack),
            } | members
            task = NdisTaskTcpConnectionOffload(**given)
            header = NdisTaskOffloadHeader.of([NdisTaskOffload(task_buffer=task)])
            answer = int(self.oid(Oid.OID_TCP_TASK_OFFLOAD, header, name=name)[0])
        return answer

    def control(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A command of ``ndisbus fault``, and what the target calls because of it."""
        answer = self.driver.control(command, arguments)
        self.pump()
        return answer

    def inspect(self) -> dict[str, int]:
        return self.driver.inspect()

    # -- objects and trees ---------------------------------------------------------------------

    def neighbor(
        self, vlan: int = 0, mac: bytes = b"", dest: bytes = b"\x02\x00\x00\x00\x00\x09", age: int = 7
    ) -> Obj:
        image = pack_state(
            (
                NeighborOffloadStateConst(mac, vlan),
                NeighborOffloadStateCached(dest, age),
                NeighborOffloadStateDelegated(age),
            )
        )
        return Obj(self.heap.handle(), OffloadStateType.NeighborOffloadState, image)

    def path(
        self, mtu: int = 1500, src: bytes = b"\x0a\x00\x00\x01", dst: bytes = b"\x0a\x00\x00\x02"
    ) -> Obj:
        image = pack_state(
            (PathOffloadStateConst(src, dst), PathOffloadStateCached(mtu), PathOffloadStateDelegated())
        )
        kind = OffloadStateType.Ip4OffloadState if len(src) == 4 else OffloadStateType.Ip6OffloadState
        return Obj(self.heap.handle(), kind, image)

    def tcp(
        self,
        *,
        window: int = 65536,
        state: int = ESTABLISHED,
        flags: int = 0,
        remote: int = 80,
        local: int = 5000,
        chain: NetBufferList | None = None,
        buffered: NetBufferList | None = None,
        const: dict[str, Any] | None = None,
        cached: dict[str, Any] | None = None,
        **delegated: Any,
    ) -> Obj:
        if chain is not None:
            lists = list(iter_chain(chain))
            delegated.setdefault("send_data_head", lists[0].address)
            delegated.setdefault("send_data_tail", lists[-1].address)
        if buffered is not None:
            delegated["buffered_data"] = buffered.address
        image = pack_state(
            (
                TcpOffloadStateConst(flags, remote, local, **(const or {})),
                TcpOffloadStateCached(
                    **{
                        "initial_rcv_wnd": window,
                        "ka_probe_count": 3,
                        "ka_timeout": 7000,
                        "ka_interval": 1000,
                        **(cached or {}),
                    }
                ),
                TcpOffloadStateDelegated(
                    state=TcpOffloadConnectionState(state), **{"rcv_wnd": window, **delegated}
                ),
            )
        )
        obj = Obj(self.heap.handle(), OffloadStateType.TcpOffloadState, image)
        obj.chain = chain
        obj.lists = [x for x in (chain, buffered) if x is not None]  # type: ignore[attr-defined]
        return obj

    def nbl(self, *pieces: bytes) -> NetBufferList:
        return make_net_buffer_list(self.heap.address, pieces)

    def wire(
        self,
        spec: Any,
        *,
        types: dict[Obj, int] | None = None,
        states: dict[Obj, bytes | None] | None = None,
        op: str = "initiate",
    ) -> tuple[dict[str, Any], Any, list[Obj | None]]:
        """A miniport-form list from a nested specification: node or (node, [dependents]); None: placeholder.

        ``spec`` is a list of siblings, the first is the root. Blocks are stored in traversal order.
        """
        nodes: list[Obj | None] = []
        following: list[int | None] = []
        dependent: list[int | None] = []

        def add(items: list[Any]) -> int | None:
            first = last = None
            for item in items:
                node, children = item if isinstance(item, tuple) else (item, [])
                i = len(nodes)
                nodes.append(node)
                following.append(None)
                dependent.append(None)
                if last is not None:
                    following[last] = i
                first, last = (i if first is None else first), i
                dependent[i] = add(children)
            return first

        add(spec if isinstance(spec, list) else [spec])
        blocks = list(self.heap.addresses(len(nodes), BLOCK_SIZE))
        new = op == "initiate"
        columns: dict[str, Any] = {
            Key.BLOCK: blocks,
            Key.REVISION: 1,
            Key.SIZE: BLOCK_SIZE,
            Key.TYPE: [((types or {}).get(o, o.type) if o else 0) for o in nodes],
            Key.NEXT: [None if j is None else blocks[j] for j in following],
            Key.DEPENDENT: [None if j is None else blocks[j] for j in dependent],
            Key.NDIS_OFFLOAD_HANDLE: [o.handle.address if o else None for o in nodes],
            Key.CELL: [o.handle.miniport_offload_context if o else None for o in nodes],
            Key.CONTEXT: [o.handle.context if o else None for o in nodes],
            Key.SOURCE_HANDLE: SOURCE_HANDLE,
            Key.STATE: [
                None
                if o is None
                else states[o]
                if states and o in states
                else o.image
                if new and o.handle.context is None
                else None
                for o in nodes
            ],
        }
        frames: list[bytes] = []
        if new:
            columns[Key.NBL_CHAIN] = [o.chain.address if o and o.chain else None for o in nodes]
            chains = [c for o in nodes if o for c in getattr(o, "lists", [])]
            if chains:
                columns[Key.NET_BUFFER_LISTS] = [chain_to_wire(c, frames) for c in chains]
        return columns, frames, nodes

    def request(self, op: str, spec: Any, **kw: Any) -> int:
        """Pass a list down; returns its address. ``name`` chooses the adapter."""
        name = kw.pop("name", None)
        columns, frames, nodes = self.wire(spec, op=op, **kw)
        root = columns[Key.BLOCK][0]
        self._nodes[root] = nodes
        self.last_columns = columns
        call = {
            "initiate": "MiniportInitiateOffload",
            "query": "MiniportQueryOffload",
            "update": "MiniportUpdateOffload",
            "invalidate": "MiniportInvalidateOffload",
            "terminate": "MiniportTerminateOffload",
        }[op]
        self.receive(call, [self.adapters[name] if name else self.ctx, columns], frames=frames)
        self.pump()
        return int(root)

    def done(self, root: int) -> Done | None:
        """The completion of a list if it has come; what was written is applied to the objects."""
        self.pump()
        for i, call in enumerate(self.calls):
            wire = call[1][1] if len(call[1]) > 1 else None
            if isinstance(wire, dict) and isinstance(wire.get("Block"), list) and wire["Block"][0] == root:
                name, _, frames = self.calls.pop(i)
                break
        else:
            return None
        nodes = self._nodes.pop(root)
        result = Done(name, wire, frames, nodes)

        def column(key: str) -> list[Any]:
            col = wire.get(key)
            return col if isinstance(col, list) else [col] * len(nodes)

        for node, status, context, state, chain in zip(
            nodes, result.status, column(Key.CONTEXT), column(Key.STATE), column(Key.NBL_CHAIN), strict=True
        ):
            if node is None:
                continue
            node.status = status
            node.result = state
            node.returned = chain
            if name == "NdisMInitiateOffloadComplete" and context is not None:
                node.handle.context = context
        return result

    def run(self, op: str, spec: Any, **kw: Any) -> Done:
        """A request that completes at once."""
        result = self.done(self.request(op, spec, **kw))
        assert result is not None, f"{op} is not complete"
        return result

    def stack(self, connections: int = 1, **kw: Any) -> tuple[Obj, Obj, list[Obj]]:
        """A neighbor, a path and connections, offloaded."""
        n, p, ts = self.neighbor(), self.path(), [self.tcp(**kw) for _ in range(connections)]
        assert self.run("initiate", [(n, [(p, list(ts))])]).status == [NdisStatus.SUCCESS] * (2 + connections)
        return n, p, ts

    def statuses(self, op: str, spec: Any, **kw: Any) -> list[str]:
        """The statuses of a request's blocks, by name."""
        return [s.name for s in self.run(op, spec, **kw).status]

    # -- I/O -----------------------------------------------------------------------------------

    def post(
        self,
        op: str,
        obj: Obj,
        *lists: NetBufferList,
        flags: int | None = None,
        context: int | None = None,
        describe: bool = True,
        name: str | None = None,
    ) -> None:
        frames: list[bytes] = []
        for x in lists:
            x.source_handle = SOURCE_HANDLE
        wire: dict[str, Any] = {"NetBufferList": [x.address for x in lists], "SourceHandle": SOURCE_HANDLE}
        if describe:
            for a, b in pairwise(lists):
                a.next = b
            wire["NetBufferLists"] = [chain_to_wire(lists[0], frames)]
        if context is not None:
            wire["Context"] = context
        call = f"MiniportTcpOffload{op.capitalize()}"
        params = [self.adapters[name] if name else self.ctx, obj.handle.context, wire]
        if op == "disconnect":
            params.append(flags or 1)
        self.receive(call, params, frames=frames)
        self.pump()

    def completions(self, op: str | None = None) -> list[tuple[int, str]]:
        """(address, status) of every list completed so far, in order."""
        self.pump()
        out = []
        kept = []
        for call in self.calls:
            name, params, _ = call
            if (
                name.startswith("NdisTcpOffload")
                and name.endswith("Complete")
                and (op is None or name == f"NdisTcpOffload{op.capitalize()}Complete")
            ):
                wire = params[1]
                out += [
                    (a, NdisStatus(s).name)
                    for a, s in zip(wire["NetBufferList"], wire["Status"], strict=True)
                ]
            else:
                kept.append(call)
        self.calls = kept
        return out


class Wired(Harness):
    """A harness whose first adapter is on a wire in memory; ``far`` is the other station on it."""

    def __init__(
        self,
        config: TargetConfig | None = None,
        *,
        mtu: int = 1500,
        link: Callable[[Any], Any] = lambda link: link,
        **kw: Any,
    ) -> None:
        """``link`` wraps the target's link."""
        self.segment = MemorySegment(mtu=mtu)
        self.nic = self.segment.station("nic")
        self.far = Far(self.segment.station("far"))
        super().__init__(config, wires=[link(self.nic)], **kw)
        # The segment learns where either station is.
        self.far.send(b"\xff" * 6 + FAR_MAC + b"\x88\xb5hello")
        self.port.on_timer(self.now)
        self.take()
        for adapter in self.driver.adapters.values():
            adapter.receive_pool.clear()

    def live(
        self,
        *,
        ends: tuple[bytes, bytes] | None = None,
        neighbor: dict[str, Any] | None = None,
        path: dict[str, Any] | None = None,
        const: dict[str, Any] | None = None,
        **kw: Any,
    ) -> Obj:
        """A connection with room to send, offloaded together with its own neighbor and path."""
        n, p = self.neighbor(**(neighbor or {})), self.path(**(path or {}))
        t = self.tcp(const={"remote_mss": 1460, **(const or {})}, **{**LIVE, **kw})
        statuses = self.run("initiate", [(n, [(p, [t])])]).status
        assert statuses == [NdisStatus.SUCCESS] * 3
        t.below = (n, p)  # type: ignore[attr-defined]
        return t

    def ctx_of(self, t: Obj) -> Any:
        """The target's own context of a connection."""
        return self.adapter.find(t.context)

    def builder(self, t: Obj, **kw: Any) -> FrameBuilder:
        """Builds what the remote end of a connection sends."""
        context = self.ctx_of(t)
        path, neighbor = context.path, context.path.neighbor
        given = {
            "remote": context.const.remote_port,
            "local": context.const.local_port,
            "addresses": (path.source, path.destination),
            "vlan": neighbor.vlan,
            "to": neighbor.mac or NIC_MAC,
        }
        return builder(**{**given, **kw})

    def say(self, t: Obj, flags: int, seq: int, ack: int, payload: bytes = b"", **kw: Any) -> bytes:
        """A segment from the remote end arrives now; the frame."""
        how = {k: kw.pop(k) for k in ("vlan", "priority", "to") if k in kw}
        segment = Segment(seq, ack, flags, kw.pop("window", 65535), payload, **kw)
        frame = self.builder(t, **how).frame(segment)
        self.put(frame)
        return frame

    def put(self, *frames: bytes) -> None:
        """Frames arrive now."""
        for frame in frames:
            self.far.send(frame, self.now)
        self.port.on_timer(self.now)
        self.pump()

    def heard(self) -> list[Segment]:
        """The segments that the target has sent since."""
        return self.far.segments()

    def end(self, t: Obj, **kw: Any) -> FarEnd:
        """A remote end with a TCP machine of its own, in step with the target's."""
        context = self.ctx_of(t)
        addresses = (context.path.source, context.path.destination)
        return FarEnd(context.const, context.cached, context.delegated, addresses=addresses, **kw)

    def play(self, *ends: FarEnd, seconds: float = 0.0, until: Any = None) -> None:
        """Let everybody talk."""
        play(self, self.far, list(ends), seconds, until=until)

    def ordinary(self) -> list[bytes]:
        """The frames that came up the ordinary receive path since."""
        out: list[bytes] = []
        for call in [c for c in self.calls if c[0] == "NdisMIndicateReceiveNetBufferLists"]:
            self.calls.remove(call)
            out += NblChain.from_wire(call[1][1], call[2]).frames()
        return out

    def answer(self, status: NdisStatus = NdisStatus.SUCCESS, consumed: int | None = None) -> bytes:
        """Answer the oldest receive indication; its data."""
        i = next(i for i, c in enumerate(self.calls) if c[0] == "NdisTcpOffloadReceiveHandler")
        _, params, call_id = self.calls.pop(i)
        data = self.indicated_data.pop(0)
        accepted = len(data) if consumed is None and status == NdisStatus.SUCCESS else consumed or 0
        self.receive("return", [int(status), accepted], call_id)
        self.pump()
        self.last_indication = params[1]
        return data


LIVE: dict[str, Any] = {
    "rcv_nxt": 5000,
    "snd_una": 1000,
    "snd_nxt": 1000,
    "snd_max": 1000,
    "snd_wnd": 65535,
    "max_snd_wnd": 65535,
    "send_wl1": 5000,
    "c_wnd": 20000,
    "ss_thresh": 1 << 20,
}
"""A connection in ESTABLISHED: 1000 is the next byte to send, 5000 the next to receive."""


@pytest.fixture(scope="session")
def wired() -> type[Wired]:
    """The harness on a wire, to be made with a configuration."""
    return Wired


@pytest.fixture
def w() -> Wired:
    """A harness with a roomy target on a wire."""
    return Wired()


@pytest.fixture(scope="session")
def make() -> type[Harness]:
    """The harness, to be made with a configuration."""
    return Harness


@pytest.fixture
def h() -> Harness:
    """A harness with a roomy target."""
    return Harness()
