"""Whatever a driver sends: it is carried out, or that driver is cut off; NDIS and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.core import NdisCore
from ndisbus.ddi.calls import CALLS
from ndisbus.lists.blocklist import Key
from ndisbus.messages.codec import decode_packet, encode_packet
from tests.support.core_bench import NEIGHBOR, PATH, TCP, Bench, Host, Im, Nic

FROM_DRIVERS = sorted(c.name for c in CALLS.values() if c.from_driver)

odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([1 << 32, (1 << 64) - 1, -(1 << 63), 0.5, float("nan"), "x", "nic0", "auto", b"y"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Block", "Status", "Header", "Type", "Oid", "RequestId", "X"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


class World:
    """A stack with objects and requests in flight, and everything in it that a liar could name."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.nic = self.bench.client(Nic, "nic").start("nic0")
        self.im = self.bench.client(Im, "im").start("im0")
        self.im.enable()
        self.host = self.bench.client(Host, "host").start("im0")
        self.witness = self.bench.client(Nic, "witness").start("other")
        self.client = self.bench.client(Host, "client").start("other")
        handles = [self.host.new_handle() for _ in range(3)]
        tree = self.host.columns(*zip((NEIGHBOR, PATH, TCP), handles, (None,) * 3, strict=True))
        self.host.request("initiate", dict(tree))
        own = [self.im.new_handle() for _ in range(3)]
        upper = self.im.pass_on("initiate", *own)
        self.nic.complete("initiate")
        self.im.completed("initiate")
        back = self.im.up(upper, "initiate")
        self.im.send("NdisMInitiateOffloadComplete", self.im.handle, back)
        done = self.host.completed("initiate")
        query = self.host.columns(*zip((NEIGHBOR, PATH, TCP), handles, done[Key.CONTEXT], strict=True))
        self.host.request("query", dict(query))
        given = self.im.pass_on("query", *own, CONTEXT=[c for _, c in self._below(own)])
        self.host.send("NdisOffloadTcpReceive", handles[2], {"NetBufferList": [self.host.heap.address()]})
        pointers = [*handles, *own, *self.host.bindings.values(), *self.im.bindings.values()]
        pointers += [self.nic.handle, self.im.handle, self.nic.driver_handle, self.host.protocol_handle]
        pointers += [p + 0x10 for p in pointers]
        lists = [tree, query, back, given, {k: v for k, v in query.items() if k != Key.NEXT}]
        io = self.im.take("MiniportTcpOffloadReceive")[2][2]
        #: Parameters that make sense somewhere.
        self.sensible: list[Any] = [*pointers, *lists, io, {**io, "Status": [0]}, 0, 1, 3]

    def _below(self, own: list[int]) -> list[tuple[int, int]]:
        objects = self.bench.core.registry.bindings[self.im.binding].objects
        return [objects[h] for h in own]


def mutated(value: Any, data: st.DataObject) -> Any:
    """The value, or with one thing in it changed."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        change = data.draw(st.sampled_from(["drop", "replace", "shorten"]))
        changed = dict(value)
        if change == "drop":
            del changed[key]
        elif change == "shorten" and isinstance(value[key], list):
            changed[key] = value[key][:-1]
        else:
            changed[key] = data.draw(odd)
        return changed
    return value


def judge(world: World, act: Callable[[], None]) -> None:
    """Nothing but a report comes of it, and who is not concerned is not disturbed."""
    bench = world.bench
    act()
    for client in bench.clients.values():
        client.responsive = True
    bench.tick(0.3)
    for report in bench.core.bug_checks.reports:
        assert report.driver in ("nic", "im", "host")
        assert report.reason
    assert world.witness.closed is None
    assert world.client.closed is None
    assert len(world.client.offload(world.witness)) == 3
    ps = bench.clients["client"].control("ps")
    assert decode_packet([encode_packet([["return", 1, [0, ps]]])])
    assert isinstance(bench.core, NdisCore)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_parameters(data: st.DataObject) -> None:
    world = World()
    sender = data.draw(st.sampled_from([world.nic, world.im, world.host]))
    name = data.draw(st.sampled_from(FROM_DRIVERS))
    count = len(CALLS[name].params)
    value = st.one_of(st.sampled_from(world.sensible), odd)
    params = [mutated(data.draw(value), data) for _ in range(count)]
    judge(world, lambda: sender.send(name, *params))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_answer(data: st.DataObject) -> None:
    """To whatever NDIS has asked: options, adapters, bindings, OIDs, indications, hangs, inspections."""
    world = World()
    nic, host = world.nic, world.host
    asks: dict[str, tuple[Any, Callable[[], None]]] = {
        "MiniportOidRequest": (
            world.im,
            lambda: host.send(
                "NdisOidRequest",
                host.binding,
                {"RequestType": 0, "Oid": 0xFC010201, "InformationBuffer": None, "RequestId": 1},
            ),
        ),
        "ProtocolTcpOffloadReceiveIndicate": (
            world.im,
            lambda: nic.send("NdisTcpOffloadReceiveHandler", world.sensible[5], {"NetBufferList": [1]}, 0),
        ),
        "ProtocolIndicateOffloadEvent": (
            world.im,
            lambda: nic.send("NdisMOffloadEventIndicate", nic.handle, None, 1),
        ),
        "ProtocolUnbindAdapterEx": (world.im, lambda: nic.send("goodbye")),
        "inspect": (host, lambda: world.client.send("control", "ps", {})),
        "control": (host, lambda: world.client.send("control", "driver", {"Name": "host", "Command": "x"})),
    }
    name = data.draw(st.sampled_from(sorted(asks)))
    client, ask = asks[name]
    client.responsive = name != "inspect"
    ask()
    asked = client.take(name)
    answer = data.draw(st.lists(odd, max_size=4))
    judge(world, lambda: client.answer(asked, *answer))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_control_request(data: st.DataObject) -> None:
    world = World()
    verbs = [
        "ps",
        "fault.add",
        "fault.remove",
        "fault.list",
        "fault.reset",
        "driver",
        "adapter.add",
        "adapter.remove",
    ]
    keys = [
        "Id",
        "Name",
        "Command",
        "Arguments",
        "Under",
        "Action",
        "Call",
        "Status",
        "Delay",
        "Nth",
        "Driver",
    ]
    values = odd | st.sampled_from(["im", "im0", "drop", "fail", "Ndis*", "NdisInitiateOffload"])
    arguments = data.draw(st.dictionaries(st.sampled_from(keys), values, max_size=4))
    verb = data.draw(st.sampled_from(verbs) | odd)
    judge(world, lambda: world.host.send("control", verb, arguments))
    assert world.bench.core.bug_checks.reports == []
