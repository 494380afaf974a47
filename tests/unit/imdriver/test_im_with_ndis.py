"""The intermediate driver under the real NDIS core, in the simulation: NDIS bug-checks what it gets wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from imdriver.config import ChimneyPolicy, ImConfig
from imdriver.driver import ImDriver
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import (
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisOidRequest,
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
    NdisStatusIndication,
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
    NdisTcpConnectionOffload,
)
from ndisbus.driver.base import MiniportDriver, ProtocolDriver, Steps
from ndisbus.lists.blocklist import BlockListBuilder, Key, values
from ndisbus.lists.nbl import make_net_buffer_list
from ndisbus.lists.nbl_chain import NblChain
from ndisbus.sim import Simulation

NEIGHBOR, PATH, TCP = 4, 8, 17


class Target(MiniportDriver):
    """A target that offloads everything, keeps requests until told, and counts what it holds."""

    def __init__(self) -> None:
        self.context = 0
        self.held: set[int] = set()
        self.kept: list[Callable[[], None]] = []
        self.hold = False
        self.above: dict[int, int] = {}

    def driver_entry(self) -> Steps:
        yield self.ndis.m_register_miniport_driver(None, {"Name": "target", "Adapters": ["nic0"]})

    def miniport_set_options(self, ndis_driver_handle: int, driver_context: int | None) -> Steps:
        for table in (
            NdisProviderChimneyOffloadGenericCharacteristics,
            NdisProviderChimneyOffloadTcpCharacteristics,
        ):
            yield self.ndis.set_optional_handlers(ndis_driver_handle, table.full())
        return 0

    def miniport_initialize_ex(
        self, ndis_miniport_handle: int, context: Any, parameters: dict[str, Any]
    ) -> Steps:
        self.handle = ndis_miniport_handle
        report = NdisTcpConnectionOffload(tcp_connection_offload_capacity=9).to_wire()
        attributes = {
            "MiniportAdapterContext": self.ndis.heap.address(),
            "TcpConnectionOffloadCapabilities": report,
        }
        yield self.ndis.m_set_miniport_attributes(ndis_miniport_handle, attributes)
        return 0

    def adapter_handle(self, miniport_adapter_context: int) -> int:
        return self.handle

    def miniport_oid_request(self, miniport_adapter_context: int, oid_request: dict[str, Any]) -> Any:
        if oid_request["RequestType"] == 0:
            task = NdisTaskOffload(task_buffer=NdisTaskTcpConnectionOffload())
            return 0, {**oid_request, "InformationBuffer": NdisTaskOffloadHeader.of([task]).to_wire()}
        return 0, oid_request

    def _later(self, action: Callable[[], None]) -> None:
        if self.hold:
            self.kept.append(action)
        else:
            action()

    def release(self, *, in_order: bool = False) -> None:
        """Complete what was kept, the last one first unless ``in_order``."""
        self.hold = False
        while self.kept:
            self.kept.pop(0 if in_order else -1)()

    def _state(self, call: str, block_list: Any) -> None:
        n = len(block_list)
        cols = block_list.columns
        cells, contexts = values(cols.get(Key.CELL), n), list(values(cols.get(Key.CONTEXT), n))
        above = values(cols.get(Key.NDIS_OFFLOAD_HANDLE), n)
        for i in range(n):
            if cells[i] is not None and call == "NdisMInitiateOffloadComplete" and contexts[i] is None:
                contexts[i] = self.ndis.heap.address()
                self.held.add(contexts[i])
                self.above[contexts[i]] = above[i]
            elif cells[i] is not None and call == "NdisMTerminateOffloadComplete":
                self.held.remove(contexts[i])
        cols[Key.CONTEXT] = contexts
        cols[Key.STATUS] = 0
        self.ndis.call(call, self.handle, block_list)

    def miniport_initiate_offload(self, miniport_adapter_context: int, block_list: Any) -> None:
        self._later(lambda: self._state("NdisMInitiateOffloadComplete", block_list))

    def miniport_query_offload(self, miniport_adapter_context: int, block_list: Any) -> None:
        self._later(lambda: self._state("NdisMQueryOffloadStateComplete", block_list))

    def miniport_terminate_offload(self, miniport_adapter_context: int, block_list: Any) -> None:
        self._later(lambda: self._state("NdisMTerminateOffloadComplete", block_list))

    def miniport_tcp_offload_send(self, miniport_adapter_context: int, context: int, chain: NblChain) -> None:
        assert context in self.held  # what this driver stored when the object was offloaded

        def finish() -> None:
            chain.statuses, chain.attachments = [0] * len(chain), None
            self.ndis.tcp_offload_send_complete(self.handle, chain)

        self._later(finish)


class Host(ProtocolDriver):
    """A host that offloads a neighbor, a path and connections on it, and notes what comes back."""

    def __init__(self, name: str, adapter: str) -> None:
        self.name, self.adapter = name, adapter
        self.binding: int | None = None
        self.offered: list[Any] = []
        self.objects: list[tuple[int, Any]] = []
        self.statuses: list[Any] = []
        self.events: list[tuple[Any, int, int]] = []
        self.oids: list[tuple[int, int]] = []
        self.unbinding = False
        self.indicated: list[int] = []

    def driver_entry(self) -> Steps:
        self.objects, self.binding, self.unbinding = [], None, False
        _, self.protocol = yield self.ndis.register_protocol_driver(
            None, {"Name": self.name, "Bind": [self.adapter]}
        )

    def protocol_set_options(self, ndis_driver_handle: int, driver_context: int | None) -> Steps:
        for table in (
            NdisClientChimneyOffloadGenericCharacteristics,
            NdisClientChimneyOffloadTcpCharacteristics,
        ):
            yield self.ndis.set_optional_handlers(ndis_driver_handle, table.full())
        return 0

    def protocol_bind_adapter_ex(self, context: Any, bind_context: int, parameters: dict[str, Any]) -> Steps:
        status, self.binding = yield self.ndis.open_adapter_ex(
            self.protocol, self.ndis.heap.address(), {"AdapterName": parameters["AdapterName"]}
        )
        self.ask(0)
        self.enable(True)
        return status

    def ask(self, kind: int, buffer: Any = None) -> None:
        oid = NdisOidRequest(request_type=kind, oid=0xFC010201, information_buffer=buffer, request_id=1)
        self.ndis.oid_request(self.binding, oid)

    def enable(self, on: bool) -> None:
        tasks = [NdisTaskOffload(task_buffer=NdisTaskTcpConnectionOffload())] if on else []
        self.ask(1, NdisTaskOffloadHeader.of(tasks))

    def protocol_oid_request_complete(self, context: int, request: Any, status: int, reason: str) -> None:
        self.oids.append((request["RequestType"], status))

    def offload(self, connections: int) -> None:
        builder = BlockListBuilder(self.ndis.heap)
        self.offered = [(k, self.ndis.heap.handle()) for k in (NEIGHBOR, PATH, *[TCP] * connections)]
        for kind, handle in self.offered:
            builder.add(kind, handle.address, state=b"opaque")
        self.ndis.initiate_offload(self.binding, builder.build())

    def protocol_initiate_offload_complete(self, context: int, block_list: Any) -> None:
        self.statuses.append(block_list.columns[Key.STATUS])
        for kind, handle in self.offered:
            if handle.context is not None:
                self.objects.append((kind, handle))
            else:
                self.ndis.heap.free(handle.address)

    def query(self) -> None:
        builder = BlockListBuilder(self.ndis.heap)
        builder.add(NEIGHBOR, self.objects[0][1].address)
        self.ndis.query_offload_state(self.binding, builder.build())

    def protocol_query_offload_complete(self, context: int, block_list: Any) -> None:
        self.statuses.append(block_list.columns[Key.STATUS])

    def terminate(self) -> None:
        builder = BlockListBuilder(self.ndis.heap)
        for kind, handle in self.objects:
            builder.add(kind, handle.address)
        self.ndis.terminate_offload(self.binding, builder.build())

    def protocol_terminate_offload_complete(self, context: int, block_list: Any) -> None:
        self.statuses.append(block_list.columns[Key.STATUS])
        for _, handle in self.objects:
            self.ndis.heap.free(handle.address)
        self.objects.clear()
        if self.unbinding:
            self._finish()

    def send(self) -> None:
        nbl = make_net_buffer_list(self.ndis.heap.address, [b"hello"])
        self.ndis.offload_tcp_send(self.objects[-1][1].address, NblChain.of(nbl))

    def protocol_tcp_offload_send_complete(self, context: int, chain: NblChain) -> None:
        self.statuses.append(chain.statuses)

    def protocol_tcp_offload_event(self, context: int, event: int, information: int) -> None:
        self.events.append((self.ndis.heap.objects[context], event, information))

    def protocol_status_ex(self, context: int, indication: dict[str, Any]) -> None:
        self.indicated.append(indication["StatusCode"])

    def protocol_unbind_adapter_ex(self, unbind_context: int, context: int) -> Any:
        self.unbinding = True
        if self.objects:
            self.terminate()
        else:
            self._finish()
        return NdisStatus.PENDING

    def _finish(self) -> None:
        self.unbinding = False
        binding, self.binding = self.binding, None
        self.ndis.close_adapter_ex(binding)


class World:
    """A simulated stack and the checks that hold after anything that happens to it."""

    def __init__(self, *ims: ImConfig, seed: int = 1, hosts: tuple[tuple[str, str], ...] = ()) -> None:
        self.sim = Simulation(seed=seed)
        self.ims = [c.name for c in ims]
        self.sim.start("target", Target)
        for config in ims:
            self.sim.start(config.name, lambda config=config: ImDriver(config))  # type: ignore[misc]
        for name, adapter in hosts:
            self.sim.start(name, lambda name=name, adapter=adapter: Host(name, adapter))  # type: ignore[misc]
        self.hosts = [name for name, _ in hosts]

    @property
    def target(self) -> Any:
        return self.sim.driver("target")

    def ready(self) -> World:
        self.wait(lambda: all(len(self.sim.driver(h).oids) >= 2 for h in self.hosts))
        return self

    def wait(self, done: Callable[[], bool]) -> None:
        self.sim.run_until(done, limit=20)

    def act(self, host: str, what: str, *args: Any, answers: int = 1) -> Any:
        """Let a host do something and wait until that many completions have come; the last Status."""
        driver = self.sim.driver(host)
        expected = len(driver.statuses) + answers
        self.sim.act(host, lambda d: getattr(d, what)(*args))
        if answers:
            self.wait(lambda: len(driver.statuses) >= expected)
            return driver.statuses[-1]
        return None

    def counters(self) -> list[tuple[int, int, int]]:
        out = []
        for name in self.ims:
            i = self.sim.driver(name).inspect()
            out.append((i["call_entries"], i["offload_entries"], i["io_entries"]))
        return out

    def check(self) -> None:
        """NDIS has reported no bug check."""
        assert self.sim.core is not None
        assert [str(b) for b in self.sim.core.bug_checks.reports] == []
        assert self.sim.closings == []
        assert self.sim.refusals == []


TWO = (("host-a", "im0-a"), ("host-b", "im0-b"))


@pytest.fixture(params=[1, 2, 3])
def seed(request: pytest.FixtureRequest) -> Any:
    """Seeds of the order in which queues are served."""
    return request.param


def test_two_hosts_over_one_binding(seed: int) -> None:
    """R-IM-01, R-IM-05, R-IM-09, R-IM-10, R-IM-11, R-HND-09: a whole life of both, without a bug check."""
    world = World(ImConfig(), seed=seed, hosts=TWO).ready()
    for host in world.hosts:
        world.act(host, "offload", 3, answers=0)
    world.wait(lambda: all(world.sim.driver(h).objects for h in world.hosts))
    assert world.counters() == [(0, 10, 0)]
    assert len(world.target.held) == 10
    world.target.hold = True
    for host in world.hosts:
        world.act(host, "query", answers=0)
        world.act(host, "send", answers=0)
        world.act(host, "query", answers=0)
    world.wait(lambda: len(world.target.kept) == 6)
    assert world.counters() == [(4, 10, 2)]
    world.sim.act("target", lambda d: d.release())
    world.wait(lambda: all(len(world.sim.driver(h).statuses) == 4 for h in world.hosts))
    assert world.counters() == [(0, 10, 0)]
    for host in world.hosts:
        assert world.act(host, "terminate") == 0
    assert world.counters() == [(0, 0, 0)]
    assert not world.target.held
    world.check()


def test_a_stack_of_three_intermediate_drivers(seed: int) -> None:
    """R-HND-10, R-IM-13: an event reaches the host about its own handle."""
    configs = [
        ImConfig(name=f"im{i}", bind=f"v{i - 1}" if i else "nic0", adapters=(f"v{i}",)) for i in range(3)
    ]
    world = World(*configs, seed=seed, hosts=(("host", "v2"),)).ready()
    world.act("host", "offload", 5)
    assert world.counters() == [(0, 7, 0)] * 3
    assert world.act("host", "query") == 0
    assert world.act("host", "send") == [0]
    world.sim.act("target", lambda d: d.ndis.tcp_offload_event_handler(d.above[max(d.held)], 3, 11))
    host = world.sim.driver("host")
    world.wait(lambda: bool(host.events))
    assert host.events == [(host.objects[-1][1], 3, 11)]
    assert world.act("host", "terminate") == 0
    assert world.counters() == [(0, 0, 0)] * 3
    world.check()


def test_one_host_switching_off_leaves_the_other_on(seed: int) -> None:
    """What goes down is the union: NDIS goes on letting the other host's initiates through."""
    world = World(ImConfig(), seed=seed, hosts=TWO).ready()
    a, b = (world.sim.driver(h) for h in world.hosts)
    world.sim.act("host-a", lambda d: d.enable(False))
    world.wait(lambda: len(a.oids) == 3)
    assert a.oids[-1] == (1, 0)
    assert world.act("host-b", "offload", 1) == 0
    assert world.act("host-a", "offload", 1) == NdisStatus.FAILURE
    assert len(b.objects) == 3 and not a.objects
    assert world.counters() == [(0, 3, 0)]
    world.check()


def test_r_pause_08_status_indications_reach_every_host(seed: int) -> None:
    """R-PAUSE-08: through the intermediate driver, to both of the protocols above it, in order."""
    world = World(ImConfig(), seed=seed, hosts=TWO).ready()
    codes = [int(NdisStatus.OFFLOAD_PAUSE), int(NdisStatus.UPLOAD_ALL)]
    for code in codes:
        wire = NdisStatusIndication(status_code=code).to_wire()
        world.sim.act("target", lambda d: d.ndis.m_indicate_status_ex(d.handle, wire))  # noqa: B023
    hosts = [world.sim.driver(h) for h in world.hosts]
    world.wait(lambda: all(len(d.indicated) == 2 for d in hosts))
    assert [d.indicated for d in hosts] == [codes, codes]
    world.check()


def test_r_reg_10_a_driver_without_chimney_handlers_lets_none_through() -> None:
    """R-REG-10: although it forwards the capability report; NDIS fails the initiate before it reaches it."""
    config = ImConfig(register_chimney=False)
    world = World(config, hosts=(("host", "im0-a"),)).ready()
    assert world.sim.driver("host").oids == [(0, 0), (1, 0)]
    assert world.act("host", "offload", 2) == NdisStatus.FAILURE
    assert not world.target.held
    world.check()


def test_r_oid_02_a_blocking_driver_hides_the_chimney() -> None:
    """R-OID-02, R-OID-03: the query is answered NOT_SUPPORTED, the set travels on, nothing is offloaded."""
    config = ImConfig(chimney=ChimneyPolicy.BLOCK)
    world = World(config, hosts=(("host", "im0-a"),)).ready()
    assert world.sim.driver("host").oids == [(0, NdisStatus.NOT_SUPPORTED), (1, 0)]
    assert world.act("host", "offload", 2) == NdisStatus.FAILURE
    assert not world.target.held
    assert world.counters() == [(0, 0, 0)]
    world.check()


def test_r_im_14_a_send_without_memory_comes_back_with_request_upload() -> None:
    """R-IM-14: a send without memory comes back with request upload."""
    world = World(ImConfig(), hosts=TWO).ready()
    world.act("host-a", "offload", 1)
    world.sim.driver("im").control("no-memory", {"sends": 1})
    assert world.act("host-a", "send") == [NdisStatus.REQUEST_UPLOAD]
    assert world.act("host-a", "send") == [0]
    world.check()


def test_the_target_dies_with_requests_in_it(seed: int) -> None:
    """Everything is completed, connections are reported lost, nothing stays; a new target is used again."""
    world = World(ImConfig(), seed=seed, hosts=TWO).ready()
    for host in world.hosts:
        world.act(host, "offload", 2)
    world.target.hold = True
    for host in world.hosts:
        world.act(host, "query", answers=0)
        world.act(host, "send", answers=0)
    world.wait(lambda: len(world.target.kept) == 4)
    hosts = [world.sim.driver(h) for h in world.hosts]
    lost = [h for d in hosts for k, h in d.objects if k == TCP]
    world.sim.kill("target")
    world.wait(lambda: all(d.binding is None and not d.objects for d in hosts))
    for d in hosts:
        mine = [h for h in lost if any(h is e[0] for e in d.events)]
        assert len(mine) == 2
        assert [(e, i) for _, e, i in d.events] == [(3, 11), (4, 0)] * 2
        # offload, query, send, and the terminate of the unbinding
        assert len(d.statuses) == 4
        assert [int(NdisStatus.REQUEST_ABORTED)] in d.statuses
    im = world.sim.driver("im")
    world.wait(lambda: im.lower is None)
    assert not im.ndis.heap.objects
    assert im.inspect()["stray_indications"] == 0
    for d in hosts:
        d.oids.clear()
    world.sim.restart("target")
    world.ready()
    assert world.act("host-a", "offload", 2) == 0
    world.check()


def test_a_host_dies_with_objects_below(seed: int) -> None:
    """NDIS terminates what it left through the intermediate driver; the other host is not disturbed."""
    world = World(ImConfig(), seed=seed, hosts=TWO).ready()
    for host in world.hosts:
        world.act(host, "offload", 2)
    world.target.hold = True
    world.act("host-a", "send", answers=0)
    world.wait(lambda: bool(world.target.kept))
    world.sim.kill("host-a")
    world.sim.run_for(0.1)
    # Sends before the terminate that NDIS asked for meanwhile (R-TERM-08).
    world.sim.act("target", lambda d: d.release(in_order=True))
    world.wait(lambda: len(world.target.held) == 4)
    world.wait(lambda: world.counters() == [(0, 4, 0)])
    assert world.act("host-b", "query") == 0
    world.check()


def test_the_intermediate_driver_dies_and_comes_back(seed: int) -> None:
    """What it had offloaded below is terminated, the hosts lose theirs, and it works again."""
    world = World(ImConfig(), seed=seed, hosts=TWO).ready()
    for host in world.hosts:
        world.act(host, "offload", 2)
    world.sim.kill("im")
    hosts = [world.sim.driver(h) for h in world.hosts]
    world.wait(lambda: all(d.binding is None and not d.objects for d in hosts) and not world.target.held)
    for d in hosts:
        d.oids.clear()
    world.sim.restart("im")
    world.ready()
    assert world.act("host-b", "offload", 1) == 0
    assert world.counters() == [(0, 3, 0)]
    world.check()


def test_the_bus_dies_and_comes_back(seed: int) -> None:
    world = World(ImConfig(), seed=seed, hosts=TWO).ready()
    world.act("host-a", "offload", 2)
    world.sim.kill_bus()
    im = world.sim.driver("im")
    assert not im.ndis.heap.objects
    assert not im.io and not im.orphans and not im.adapters
    for h in world.hosts:
        world.sim.driver(h).oids.clear()
    world.target.held.clear()
    world.sim.start_bus()
    world.ready()
    assert world.act("host-a", "offload", 1) == 0
    assert world.counters() == [(0, 3, 0)]
    world.check()


def test_an_adapter_for_another_host_on_demand() -> None:
    world = World(ImConfig(adapters=("im0-a",)), hosts=(("host-a", "im0-a"),)).ready()
    assert world.sim.core is not None
    im = next(p for p in world.sim.core.registry.clients.values() if p.name == "im")
    answers: list[Any] = []
    world.sim.core.bindings.reconfigure(im, {"AddAdapter": "im0-b"}, answers.append)
    world.sim._route()
    world.wait(lambda: answers == [[0]])
    world.sim.start("host-b", lambda: Host("host-b", "im0-b"))
    world.hosts.append("host-b")
    world.ready()
    assert world.act("host-b", "offload", 1) == 0
    world.sim.core.bindings.reconfigure(im, {"RemoveAdapter": "im0-b"}, answers.append)
    world.sim._route()
    world.wait(lambda: len(answers) == 2)
    assert answers[1] == [0]
    assert world.counters() == [(0, 0, 0)]
    assert not world.target.held
    world.check()
