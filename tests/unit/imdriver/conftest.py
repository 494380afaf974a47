"""A bench for the intermediate driver: a real DriverPort, with NDIS played by hand on both edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from imdriver.config import ImConfig
from imdriver.driver import ImDriver
from ndisbus.ddi.structures import NdisTcpConnectionOffload, NdisTcpOffloadEventHandlers
from ndisbus.driver.port import DriverPort
from ndisbus.lists.blocklist import Key
from ndisbus.lists.heap import ADDRESS_BITS, NDIS_SPACE, Heap, NdisOffloadHandle

SUCCESS = 0
CAPABILITIES = NdisTcpConnectionOffload(tcp_connection_offload_capacity=1000).to_wire()


class Bench:
    """One intermediate driver. ``calls`` collects what it calls: (name, parameters, payload frames)."""

    def __init__(self, config: ImConfig | None = None, *, space: int = 5, ndis: Heap | None = None) -> None:
        self.driver = ImDriver(config)
        self.port = DriverPort(self.driver, {"Name": "im", "Pid": 1})
        self.ndis = ndis or Heap(NDIS_SPACE)
        self.space = space
        self.calls: list[tuple[str, list[Any], Sequence[bytes]]] = []
        self.returns: dict[int, list[Any]] = {}
        #: Answers that differ from what NDIS says by default: function -> (status, out, ...).
        self.answers: dict[str, Callable[[list[Any]], list[Any]]] = {}
        #: Functions whose answer is kept back, with what is waiting: (name, call id, parameters).
        self.held: set[str] = set()
        self.waiting: list[tuple[str, int, list[Any]]] = []
        self._id = 1000
        self.protocol = self.miniport = self.binding = self.binding_context = 0
        #: NdisBindingHandle -> ProtocolBindingContext of what is open below.
        self.open: dict[int, int] = {}
        #: Virtual adapter's name -> (NdisMiniportHandle, MiniportAdapterContext).
        self.adapters: dict[str, tuple[int, int]] = {}

    # -- NDIS, by hand -------------------------------------------------------------------------

    def attach(self, *, bind: bool = True) -> Bench:
        self.port.receive(["ready", 1, [{"AddressSpace": self.space, "Epoch": 1}]], (), 0.0)
        self.pump()
        if bind:
            assert self.bind() == [SUCCESS]
        return self

    def bind(self, name: str = "nic0") -> Any:
        parameters = {"AdapterName": name, "TcpConnectionOffloadCapabilities": CAPABILITIES, "Epoch": 1}
        return self.ask("ProtocolBindAdapterEx", None, self.ndis.address(), parameters)

    def ask(self, handler: str, *args: Any, frames: Sequence[bytes] = ()) -> Any:
        """Call a handler that answers; its values, or None if it has not answered."""
        self._id += 1
        mine = self._id
        self.port.receive([handler, mine, list(args)], frames, 1.0)
        self.pump()
        return self.returns.pop(mine, None)

    def tell(
        self, handler: str, *args: Any, frames: Sequence[bytes] = ()
    ) -> list[tuple[str, list[Any], Any]]:
        """Call a handler that does not answer; what the driver called because of it."""
        before = len(self.calls)
        self.port.receive([handler, None, list(args)], frames, 1.0)
        self.pump()
        return self.calls[before:]

    def pump(self) -> None:
        while out := self.port.drain():
            for message, frames in out:
                name, call_id, params = message[:3]
                if name == "return":
                    self.returns[call_id] = params
                    continue
                self.calls.append((name, params, frames))
                if call_id is None:
                    continue
                if name in self.held:
                    self.waiting.append((name, call_id, params))
                else:
                    self.answer(name, call_id, params)

    def answer(self, name: str, call_id: int, params: list[Any]) -> None:
        values = (
            self.answers[name](params)
            if name in self.answers
            else getattr(self, f"_{name}", self._plain)(params)
        )
        self.port.receive(["return", call_id, values], (), 1.0)
        self.pump()

    def release(self) -> None:
        """Give the answers that were kept back, and keep back no more."""
        self.held.clear()
        while self.waiting:
            self.answer(*self.waiting.pop(0))

    def _plain(self, params: list[Any]) -> list[Any]:
        return [SUCCESS]

    def _NdisMRegisterMiniportDriver(self, params: list[Any]) -> list[Any]:
        self.miniport = self.ndis.address()
        return [*self.ask("MiniportSetOptions", self.miniport, params[0]), self.miniport]

    def _NdisRegisterProtocolDriver(self, params: list[Any]) -> list[Any]:
        self.protocol = self.ndis.address()
        return [*self.ask("ProtocolSetOptions", self.protocol, params[0]), self.protocol]

    def _NdisOpenAdapterEx(self, params: list[Any]) -> list[Any]:
        self.binding, self.binding_context = self.ndis.address(), params[1]
        self.open[self.binding] = self.binding_context
        return [SUCCESS, self.binding]

    def _NdisCloseAdapterEx(self, params: list[Any]) -> list[Any]:
        self.close(params[0])
        return [SUCCESS]

    def close(self, binding: int) -> None:
        """What NDIS does on NdisCloseAdapterEx, or by force; nothing if it is closed already."""
        context = self.open.pop(binding, None)
        if context is not None:
            self.tell("ProtocolCloseAdapterCompleteEx", context)

    def _NdisMGetOffloadHandlers(self, params: list[Any]) -> list[Any]:
        return [SUCCESS, NdisTcpOffloadEventHandlers.full().to_wire()]

    def _NdisMSetMiniportAttributes(self, params: list[Any]) -> list[Any]:
        name = next(n for n, (h, _) in self.adapters.items() if h == params[0])
        self.adapters[name] = (params[0], params[1]["MiniportAdapterContext"])
        return [SUCCESS]

    def _NdisIMInitializeDeviceInstanceEx(self, params: list[Any]) -> list[Any]:
        _, name, context = params
        handle = self.ndis.address()
        self.adapters[name] = (handle, 0)
        status = self.ask(
            "MiniportInitializeEx", handle, None, {"AdapterName": name, "IMDeviceInstanceContext": context}
        )[0]
        return [status, handle]

    def _NdisIMDeInitializeDeviceInstance(self, params: list[Any]) -> list[Any]:
        name = next(n for n, (h, _) in self.adapters.items() if h == params[0])
        assert self.ask("MiniportHaltEx", self.adapters.pop(name)[1], 0) == [SUCCESS]
        return [SUCCESS]

    # -- what tests look at --------------------------------------------------------------------

    def context(self, adapter: str = "im0-a") -> int:
        return self.adapters[adapter][1]

    def handle(self, adapter: str = "im0-a") -> int:
        return self.adapters[adapter][0]

    def counts(self) -> tuple[int, int, int]:
        """(call entries, offload entries, I/O entries)."""
        i = self.driver.inspect()
        return i["call_entries"], i["offload_entries"], i["io_entries"]

    def unbind(self) -> None:
        assert self.ask("ProtocolUnbindAdapterEx", self.ndis.address(), self.binding_context) == [SUCCESS]

    def names(self, since: int = 0) -> list[str]:
        return [name for name, _, _ in self.calls[since:]]


class Upper:
    """The driver above, as far as its memory goes: handles with cells, and lists in the MINIPORT form."""

    def __init__(self, space: int = 9) -> None:
        self.heap = Heap(space)
        #: What NDIS stores into SourceHandle: the binding's handle.
        self.source = (NDIS_SPACE << ADDRESS_BITS) + 0xB0000 + space * 0x100

    def new(self, count: int = 1) -> list[NdisOffloadHandle]:
        return [self.heap.handle() for _ in range(count)]

    def miniport_list(
        self, handles: Sequence[NdisOffloadHandle | None], *, kind: int = 4, **more: Any
    ) -> dict[str, Any]:
        """Columns of a list as NDIS passes it to a miniport; None is a placeholder."""
        columns: dict[str, Any] = {
            Key.BLOCK: [self.heap.address(0x98) for _ in handles],
            Key.TYPE: [kind] * len(handles),
            Key.NDIS_OFFLOAD_HANDLE: [h and h.address for h in handles],
            Key.CELL: [h and h.miniport_offload_context for h in handles],
            Key.CONTEXT: [h and h.context for h in handles],
            Key.SOURCE_HANDLE: self.source,
            **more,
        }
        return columns

    def store(self, handles: Sequence[NdisOffloadHandle | None], completion: dict[str, Any]) -> None:
        """What NDIS does with the PVOIDs of a completion: they are in the cells then."""
        for h, value in zip(handles, completion[Key.CONTEXT], strict=True):
            if h is not None and value is not None:
                h.context = value


class Nic:
    """The driver below, by hand: answers what the intermediate driver passes down."""

    def __init__(self, space: int = 3) -> None:
        self.heap = Heap(space)

    def completion(
        self, request: dict[str, Any], status: Any = SUCCESS, *, lost: Sequence[int] = (), **more: Any
    ) -> dict[str, Any]:
        """The columns of a completion as NDIS hands them to the protocol edge.

        A new object that succeeded gets a PVOID; those at the indexes in ``lost`` fail with FAILURE.
        """
        n = len(request[Key.BLOCK])
        columns: dict[str, Any] = {Key.BLOCK: request[Key.BLOCK], Key.STATUS: status}
        if lost:
            columns[Key.STATUS] = [0xC0000001 if i in lost else status for i in range(n)]
        statuses = columns[Key.STATUS] if type(columns[Key.STATUS]) is list else [columns[Key.STATUS]] * n
        contexts = request.get(Key.CONTEXT) or [None] * n
        cells = request.get(Key.HANDLE_CELL) or [None] * n
        columns[Key.CONTEXT] = [
            self.heap.address() if c is not None and v is None and s < 0x80000000 else v
            for v, c, s in zip(contexts, cells, statuses, strict=True)
        ]
        for key in (*Key.IM_RESERVED, *Key.PROTOCOL_RESERVED, Key.SOURCE_HANDLE):
            if key in request:
                columns[key] = request[key]
        return columns | more


@pytest.fixture
def bench() -> Bench:
    """An intermediate driver bound to nic0 with two virtual adapters."""
    return Bench().attach()


@pytest.fixture
def make_bench() -> type[Bench]:
    """The class, for tests that need another configuration."""
    return Bench


@pytest.fixture
def upper() -> Upper:
    """The driver above im0-a."""
    return Upper()


@pytest.fixture
def make_upper() -> type[Upper]:
    """The class, for tests with several drivers above."""
    return Upper


@pytest.fixture
def nic() -> Nic:
    """The driver below."""
    return Nic()


class Stack:
    """Intermediate drivers one over another, topmost first, with NDIS in between: it checks what it lent."""

    def __init__(self, *benches: Bench) -> None:
        self.benches = benches
        self.nic = Nic()
        #: Root -> what each driver was given, topmost first.
        self.lent: dict[int, list[dict[str, Any]]] = {}

    @classmethod
    def of(cls, depth: int) -> Stack:
        """``depth`` drivers; the adapters of each are im0-a and im0-b, those between them im0-a."""
        ndis = Heap(NDIS_SPACE)
        return cls(*(Bench(space=20 + i, ndis=ndis).attach() for i in range(depth)))

    def down(self, operation: Any, columns: dict[str, Any], adapter: str = "im0-a") -> dict[str, Any]:
        """Pass a list from the top to the bottom; what the lowest driver passes on."""
        given = self.lent[columns[Key.BLOCK][0]] = []
        wire: dict[str, Any] = {}
        for bench in self.benches:
            given.append(dict(columns))
            ((name, params, _),) = bench.tell(operation.handler, bench.context(adapter), dict(columns))
            assert name == operation.request
            wire = dict(params[1])
            columns = {k: c for k, c in wire.items() if k not in (Key.OFFLOAD_HANDLE, Key.HANDLE_CELL)}
            columns[Key.NDIS_OFFLOAD_HANDLE] = wire[Key.OFFLOAD_HANDLE]
            columns[Key.CELL] = wire[Key.HANDLE_CELL]
            columns[Key.SOURCE_HANDLE] = bench.binding
            adapter = "im0-a"
        return wire

    def up(self, operation: Any, completion: dict[str, Any], adapter: str = "im0-a") -> dict[str, Any]:
        """Pass a completion from the bottom to the top; what the topmost driver completed."""
        root = completion[Key.BLOCK][0]
        given = self.lent.pop(root)
        n = len(completion[Key.BLOCK])
        for i in reversed(range(len(self.benches))):
            bench = self.benches[i]
            completion = completion | {Key.SOURCE_HANDLE: bench.binding}
            ((name, params, _),) = bench.tell(
                operation.completion_handler, bench.binding_context, dict(completion)
            )
            assert name == operation.completion
            assert params[0] == bench.handle(adapter if i == 0 else "im0-a")
            completion = params[1]
            for key in (*Key.IM_RESERVED, *Key.PROTOCOL_RESERVED, Key.SOURCE_HANDLE):
                assert spread(completion.get(key), n) == spread(given[i].get(key), n), (i, key)
        return completion


def spread(column: Any, count: int) -> list[Any]:
    """A column as one value per block."""
    return list(column) if type(column) is list else [column] * count


@pytest.fixture
def make_stack() -> Callable[[int], Stack]:
    """Builds a stack of so many intermediate drivers."""
    return Stack.of
