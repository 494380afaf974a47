"""The bus is gone, in every situation: all in flight comes back once, unbound, halted, detached."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from ndisbus.core import CoreConfig
from ndisbus.ddi.call_rows import IO_OPERATIONS, STATE_OPERATIONS
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import ProtocolDriver, Steps
from ndisbus.lists.blocklist import BlockList, BlockListBuilder, Form, Key
from ndisbus.lists.nbl import make_net_buffer_list
from ndisbus.lists.nbl_chain import Attachments, NblChain
from ndisbus.sim import Simulation
from tests.support.packet_drivers import PacketHost, PacketNic
from tests.support.toy_drivers import ToyHost, ToyTarget

FAILURE, ABORTED = int(NdisStatus.FAILURE), int(NdisStatus.REQUEST_ABORTED)
OPS = [o.op for o in STATE_OPERATIONS]


def stack(*, hold: bool = True, host: Any = ToyHost) -> tuple[Simulation, ToyHost, ToyTarget]:
    """A toy host over a toy target that keeps what it is given from now on."""
    sim = Simulation(1, CoreConfig(), shuffle=False)
    sim.start("host", host)
    sim.start("target", ToyTarget)
    driver, target = sim.driver("host"), sim.driver("target")
    sim.run_until(lambda: driver.ready)
    target.hold = hold
    return sim, driver, target


def objects(sim: Simulation, host: ToyHost, target: ToyTarget) -> list[Any]:
    """A tree that is offloaded."""
    held, target.hold = target.hold, False
    handles: list[Any] = sim.act("host", lambda h: h.offload())
    sim.run_until(lambda: not host.lists)
    target.hold = held
    return list(zip((4, 8, 17), handles, strict=True))


def over(sim: Simulation, host: ToyHost, target: ToyTarget) -> None:
    """Nothing is in flight, bound or up any more, and both have been told."""
    for name in ("host", "target"):
        port = sim.processes[name].port
        assert not port.attached
        assert (port.sent, port.lent, port.sent_nbls, port.sent_oids) == ({}, {}, {}, [])
        assert (port.sent_along, port.bindings, port.adapters, port.outbox) == (set(), {}, {}, [])
        assert port.replies.pending() == 0
    assert (host.lists, host.bindings, host.unbound) == ({}, {}, 1)
    assert None not in host.sends.values()
    assert (target.adapters, target.halts) == ({}, 1)
    assert host.detachments == target.detachments == ["the bus is gone"]


@pytest.mark.parametrize("op", OPS)
def test_requests_in_flight_fail_once(op: str) -> None:
    """Placeholders succeed, as always (R-TREE-02)."""
    sim, host, target = stack()
    if op == "initiate":
        sim.act("host", lambda h: h.pass_down(op, [(4, None), (8, h.ndis.heap.handle())]))
    else:
        tree = objects(sim, host, target)
        sim.act("host", lambda h: h.pass_down(op, [(8, None), tree[2]]))
    sim.run_until(lambda: bool(target.later))
    before = len(host.completed)
    sim.kill_bus()
    assert host.completed[before:] == [(op, [0, FAILURE])]
    over(sim, host, target)


@pytest.mark.parametrize("moment", ["in the driver's queue", "in the target", "on its way back"])
def test_wherever_a_request_is_it_fails_once(moment: str) -> None:
    sim, host, target = stack(hold=moment == "in the target")
    sim.act("host", lambda h: h.offload(17))
    if moment == "in the target":
        sim.run_until(lambda: bool(target.later))
    elif moment == "on its way back":
        sim.run_until(lambda: bool(sim.processes["host"].to_driver))
    sim.kill_bus()
    assert host.completed == [("initiate", [FAILURE])]
    over(sim, host, target)


@pytest.mark.parametrize("op", ["send", "receive"])
def test_posted_lists_are_aborted_once(op: str) -> None:
    sim, host, target = stack()
    handle = objects(sim, host, target)[2][1]
    addresses = [sim.act("host", lambda h: h.post(op, handle)) for _ in range(3)]
    sim.run_until(lambda: bool(target.later or target.posted))
    sim.kill_bus()
    assert host.sends == dict.fromkeys(addresses, ABORTED)
    over(sim, host, target)


def test_connections_on_offer_are_lost_before_their_initiate_fails() -> None:
    """As with a removed adapter: the driver below may have served them."""
    seen: list[Any] = []

    class Host(ToyHost):
        def protocol_tcp_offload_event(self, offload_context: int, event_type: int, information: int) -> None:
            seen.append((offload_context, event_type, information))

        def protocol_initiate_offload_complete(self, context: int, block_list: BlockList) -> None:
            seen.append(block_list.columns[Key.STATUS])
            super().protocol_initiate_offload_complete(context, block_list)

    sim, host, target = stack(host=Host)
    handles = sim.act("host", lambda h: h.offload())
    sim.run_until(lambda: bool(target.later))
    sim.kill_bus()
    assert seen == [(handles[2].address, 3, 11), (handles[2].address, 4, 0), FAILURE]
    over(sim, host, target)


def test_posted_lists_come_back_before_the_terminate_of_their_connection() -> None:
    sim, host, target = stack()
    tree = objects(sim, host, target)
    (address,) = [sim.act("host", lambda h: h.post("receive", tree[2][1]))]
    sim.act("host", lambda h: h.pass_down("terminate", tree))
    order: list[Any] = []
    host.seen = lambda blocks: order.append(host.sends[address])
    sim.run_until(lambda: bool(target.later))
    sim.kill_bus()
    assert order == [ABORTED]
    over(sim, host, target)


def test_oid_requests_fail_once() -> None:
    sim = Simulation(1, shuffle=False)
    sim.start("host", ToyHost)
    sim.start("target", ToyTarget)
    host, target = sim.driver("host"), sim.driver("target")
    sim.run_until(lambda: bool(sim.processes["host"].port.sent_oids))
    sim.kill_bus()
    assert host.oids == [(FAILURE, "the bus is gone")]
    over(sim, host, target)


def test_an_oid_request_that_was_answered_is_not_failed_as_well() -> None:
    sim, host, target = stack()
    sim.kill_bus()
    assert host.oids == [(0, "")]
    over(sim, host, target)


def test_a_list_comes_back_with_the_context_that_was_left_in_it() -> None:
    class Leaver(ToyHost):
        contexts: list[int | None]

        def protocol_tcp_offload_send_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
            self.contexts = [*getattr(self, "contexts", []), chain.context]
            assert protocol_binding_context in self.bindings
            super().protocol_tcp_offload_send_complete(protocol_binding_context, chain)

    sim, host, target = stack(host=Leaver)
    handle = objects(sim, host, target)[2][1]
    for context in (0x11, 0x22):
        chain = NblChain.of(make_net_buffer_list(host.ndis.heap.address, [b"x"]))
        chain.context = context
        host.sends[chain.address] = None
        host.ndis.offload_tcp_send(handle.address, chain)
    sim.kill_bus()
    assert isinstance(host, Leaver)
    assert sorted(c or 0 for c in host.contexts) == [0x11, 0x22]
    over(sim, host, target)


def test_send_data_that_went_along_with_a_connection_is_not_completed() -> None:
    """The connection is the host's again, and with it the data it took along."""
    sim, host, target = stack()
    heap = host.ndis.heap
    handle, nbl = heap.handle(), make_net_buffer_list(heap.address, [b"unsent"])
    builder = BlockListBuilder(heap)
    builder.add(17, handle.address, state=b"", net_buffer_list_chain=nbl.address)
    blocks = builder.build()
    blocks.attachments = Attachments.of([nbl])
    host.lists[blocks.address] = ("initiate", blocks)
    sim.act("host", lambda h: h.ndis.initiate_offload(h.binding, blocks))
    assert sim.processes["host"].port.sent_along == {nbl.address}
    sim.kill_bus()
    assert host.sends == {}
    over(sim, host, target)


def test_a_list_goes_to_the_binding_it_was_posted_through() -> None:
    """A host with two adapters; each list is completed on the binding of its connection."""

    class Two(ToyHost):
        def __init__(self) -> None:
            super().__init__("nic0", "nic1")
            self.came: dict[int, int] = {}

        def protocol_tcp_offload_send_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
            self.came |= dict.fromkeys(chain.addresses, protocol_binding_context)

    sim = Simulation(1, shuffle=False)
    sim.start("host", Two)
    sim.start("target", lambda: ToyTarget("nic0", "nic1"))
    host, target = sim.driver("host"), sim.driver("target")
    sim.run_until(lambda: host.ready)
    expected: dict[int, int] = {}
    for context in list(host.bindings):
        host.bindings = {context: host.bindings.pop(context), **host.bindings}
        (handle,) = sim.act("host", lambda h: h.offload(17))
        sim.run_until(lambda: not host.lists)
        target.hold = True
        expected[sim.act("host", partial(ToyHost.post, op="send", handle=handle))] = context
        sim.run_until(lambda: bool(target.later))
        target.hold = False
    target.hold = True
    sim.kill_bus()
    assert host.came == expected
    assert host.unbound == 2


# -- handlers that wait --------------------------------------------------------------------------------


def test_a_handler_that_waits_is_ended_in_good_order() -> None:
    ended: list[str] = []

    class Waiter(ToyHost):
        def protocol_bind_adapter_ex(self, *args: Any) -> Steps:
            ended.append("begun")
            try:
                yield self.ndis.open_adapter_ex(self.protocol, 5, {"AdapterName": "nic0"})
                ended.append("answered")
            finally:
                ended.append("ended")

    sim = Simulation(1, shuffle=False)
    sim.start("host", Waiter)
    sim.start("target", ToyTarget)
    sim.run_until(lambda: bool(ended))
    sim.kill_bus()
    assert ended == ["begun", "ended"]
    assert sim.driver("host").detachments == ["the bus is gone"]


def test_a_driver_that_does_not_close_its_binding_is_closed_for() -> None:
    class Slow(ToyHost):
        def protocol_unbind_adapter_ex(self, unbind_context: int, protocol_binding_context: int) -> Any:
            return NdisStatus.PENDING

    sim, host, target = stack(host=Slow)
    sim.kill_bus()
    over(sim, host, target)


def test_what_a_driver_does_on_its_way_out_fails_in_the_same_way() -> None:
    """It terminates what it had offloaded before it closes, as for any unbind."""

    class Tidy(ToyHost):
        last: list[Any]

        def protocol_unbind_adapter_ex(self, unbind_context: int, protocol_binding_context: int) -> Any:
            self.pass_down("terminate", self.last)
            self.post("send", self.last[2][1])
            self.ndis.oid_request(self.binding, {"Oid": 1, "RequestType": 0, "RequestId": 9})
            return NdisStatus.PENDING

        def protocol_terminate_offload_complete(
            self, protocol_binding_context: int, block_list: BlockList
        ) -> None:
            super().protocol_terminate_offload_complete(protocol_binding_context, block_list)
            self.ndis.close_adapter_ex(self.bindings[protocol_binding_context])

    sim, host, target = stack(host=Tidy)
    assert isinstance(host, Tidy)
    host.last = objects(sim, host, target)
    sim.kill_bus()
    assert host.completed[-1] == ("terminate", [FAILURE] * 3)
    assert list(host.sends.values()) == [ABORTED]
    assert host.oids[-1] == (FAILURE, "the bus is gone")
    over(sim, host, target)


def test_calls_while_the_bus_is_away_are_answered_here() -> None:
    """With failures; what is handed up is dropped."""
    sim, host, target = stack(hold=False)
    sim.kill_bus()
    answers = {
        "NdisSetOptionalHandlers": (host.ndis.call("NdisSetOptionalHandlers", 1, {}), (FAILURE,)),
        "NdisOpenAdapterEx": (host.ndis.call("NdisOpenAdapterEx", 1, 2, {}), (FAILURE, None)),
        "NdisCloseAdapterEx": (host.ndis.call("NdisCloseAdapterEx", 1), (0,)),
        "NdisTcpOffloadReceiveHandler": (
            target.ndis.call("NdisTcpOffloadReceiveHandler", 1, NblChain([5]), 0),
            (int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED), 0),
        ),
        "NdisMOffloadEventIndicate": (
            target.ndis.call("NdisMOffloadEventIndicate", 1, None, 1),
            (None, None),
        ),
    }
    for name, (reply, expected) in answers.items():
        assert reply.answer == expected, name
    late = BlockList(Form.MINIPORT, {Key.BLOCK: [5], Key.STATUS: 0})
    target.ndis.m_query_offload_state_complete(1, late)
    assert repr(late).startswith("<released")
    target.ndis.tcp_offload_event_handler(1, 4, 0)
    for operation in IO_OPERATIONS:
        target.ndis.call(operation.completion, 1, NblChain([5]))
    assert sim.processes["target"].port.drain() == []


def test_losing_the_bus_twice_is_losing_it_once() -> None:
    sim, host, target = stack()
    sim.kill_bus()
    for process in sim.processes.values():
        process.port.lost("again", sim.now)
    over(sim, host, target)


def test_everything_works_again_when_the_bus_is_back() -> None:
    sim, host, target = stack()
    objects(sim, host, target)
    sim.act("host", lambda h: h.offload(17))
    sim.kill_bus()
    target.hold = False
    sim.start_bus()
    sim.run_until(lambda: host.ready)
    objects(sim, host, target)
    assert host.completed[-1] == ("initiate", [0, 0, 0])
    assert sim.core is not None
    assert sim.core.bug_checks.reports == []


def test_a_driver_that_was_cut_off_is_torn_down_in_the_same_way() -> None:
    sim, host, target = stack()
    sim.act("host", lambda h: h.offload(17))
    sim.run_until(lambda: bool(target.later))
    sim.inject("host", ["NdisFrobnicate", None, []])
    sim.run_until(lambda: bool(host.detachments))
    assert host.completed == [("initiate", [FAILURE])]
    assert "bug check: host" in host.detachments[0]
    assert host.unbound == 1
    sim.act("target", lambda t: t.release())
    assert len(target.held) == 1
    sim.run_until(lambda: host.ready and not target.held)  # NDIS has terminated what it left


def test_a_driver_without_a_handler_for_it_is_not_asked() -> None:
    class Mute(ProtocolDriver):
        def driver_entry(self) -> Steps:
            yield self.ndis.register_protocol_driver(None, {"Name": "mute", "Bind": []})

    sim = Simulation(1)
    sim.start("mute", Mute)
    sim.run_for(1)
    sim.kill_bus()
    assert not sim.processes["mute"].port.attached


class Stubborn(PacketHost):
    """Sends each frame a second time if it was not sent."""

    def __init__(self) -> None:
        super().__init__("host", "nic0")
        self.again = 2

    def protocol_send_net_buffer_lists_complete(
        self, protocol_binding_context: int, chain: NblChain, send_complete_flags: int
    ) -> None:
        super().protocol_send_net_buffer_lists_complete(protocol_binding_context, chain, send_complete_flags)
        if any(chain.statuses or ()) and self.again:
            self.again -= 1
            self.transmit([b"once more"])


def test_frames_in_flight_are_aborted_once_and_so_are_those_sent_meanwhile() -> None:
    sim = Simulation(1, CoreConfig(), shuffle=False)
    sim.start("host", Stubborn)
    sim.start("nic", PacketNic)
    host, nic = sim.driver("host"), sim.driver("nic")
    sim.run_until(lambda: host.binding is not None)
    sim.act("host", lambda h: h.transmit([b"a frame", b"and another"]))
    sim.act("nic", lambda n: n.indicate([b"from the wire"]))
    sim.run_for(0.1)
    assert (len(nic.pending), len(host.kept)) == (2, 1)
    sim.kill_bus()
    assert host.statuses == [int(NdisStatus.SEND_ABORTED)] * 4
    assert (host.sends, host.kept, nic.pending, nic.lent) == (set(), {}, {}, set())
    for name in ("host", "nic"):
        port = sim.processes[name].port
        assert (port.sent_nbls, port.bindings, port.opened, port.adapters) == ({}, {}, {}, {})
