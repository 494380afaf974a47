"""A target on a real DriverPort, with NDIS and the host played by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import (
    NdisOidRequest,
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
    NdisTcpOffloadEventHandlers,
)
from ndisbus.driver.port import DriverPort
from ndisbus.lists.blocklist import Key
from ndisbus.lists.nbl import NetBufferList, chain_to_wire
from target import TargetConfig, TargetDriver
from tests.support.target_trees import SOURCE_HANDLE, Done, Obj, Trees

__all__ = ["Harness"]


class Harness(Trees):
    """NDIS and the host around one target. ``calls`` collects what the target called."""

    def __init__(
        self,
        config: TargetConfig | None = None,
        *,
        start: bool = True,
        enable: bool = True,
        wires: Sequence[Any] = (),
    ) -> None:
        super().__init__()
        self.driver = TargetDriver(config or TargetConfig(), wires)
        self.port = DriverPort(self.driver, {"Name": "target"})
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

    # -- lists of blocks -----------------------------------------------------------------------

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
