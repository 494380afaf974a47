"""Hello, both edges, optional handlers, adapters, and who is bound to which."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.core import NdisCore
from ndisbus.core.admission import MAX_CLOSED
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisTcpConnectionOffload, NdisTcpOffloadEventHandlers
from ndisbus.lists.blocklist import Key
from ndisbus.messages.codec import PROTOCOL_VERSION
from tests.support.core_bench import CAPABILITIES, CLIENT, PROVIDER, TCP, Bench, Client, Host, Im, Nic


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_call_is_served_by_one_part_of_the_core() -> None:
    dispatcher = NdisCore().dispatcher
    assert dispatcher.missing() == []
    with pytest.raises(ValueError, match="NdisOpenAdapterEx"):
        dispatcher.register({"NdisOpenAdapterEx": dispatcher.handlers["NdisOpenAdapterEx"]})


# -- hello ---------------------------------------------------------------------------------------------


def test_hello_gives_an_address_space_an_epoch_and_the_limits(bench: Bench) -> None:
    a, b = bench.client(Client, "a"), bench.client(Client, "b")
    assert a.ready["Version"] == PROTOCOL_VERSION
    assert a.ready["HangLimit"] == bench.core.config.hang_limit
    assert a.ready["CheckInterval"] == bench.core.config.check_interval
    assert a.ready["Seed"] == bench.core.config.seed
    assert len({a.space, b.space, 1}) == 3
    assert b.ready["Epoch"] > a.ready["Epoch"]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ([], "takes"),
        ([PROTOCOL_VERSION], "takes"),
        ([PROTOCOL_VERSION, "me"], "takes"),
        ([PROTOCOL_VERSION + 1, {"Name": "x"}], "protocol version"),
        ([PROTOCOL_VERSION, {}], "identity.Name"),
        ([PROTOCOL_VERSION, {"Name": ""}], "identity.Name"),
        ([PROTOCOL_VERSION, {"Name": "x" * 65}], "identity.Name"),
        ([PROTOCOL_VERSION, {"Name": "bell\a"}], "identity.Name"),
        ([PROTOCOL_VERSION, {"Name": ["x"]}], "identity.Name"),
        ([PROTOCOL_VERSION, {"Name": "../x"}], "identity.Name"),
        ([PROTOCOL_VERSION, {"Name": ".x"}], "identity.Name"),
        ([PROTOCOL_VERSION, {"Name": "-x"}], "identity.Name"),
        ([PROTOCOL_VERSION, {"Name": "a b"}], "identity.Name"),
        ([PROTOCOL_VERSION, {"Name": "x\n"}], "identity.Name"),
        ([PROTOCOL_VERSION, {"Name": "n\u00efc"}], "identity.Name"),
        ([PROTOCOL_VERSION, {"Name": "x", "Pid": "1"}], "identity.Pid"),
        ([PROTOCOL_VERSION, {"Name": "x", "Pid": True}], "identity.Pid"),
        ([PROTOCOL_VERSION, {"Name": "x", "CreateTime": "q"}], "identity.CreateTime"),
        ([PROTOCOL_VERSION, {"Name": "x", "CreateTime": True}], "identity.CreateTime"),
        ([PROTOCOL_VERSION, {"Name": "x", "CreateTime": None}], "identity.CreateTime"),
        ([PROTOCOL_VERSION, {"Name": "x", "CreateTime": float("nan")}], "identity.CreateTime"),
        ([PROTOCOL_VERSION, {"Name": "x", "CreateTime": float("inf")}], "identity.CreateTime"),
        ([PROTOCOL_VERSION, {"Name": "x", "CreateTime": -1.0}], "identity.CreateTime"),
        ([PROTOCOL_VERSION, {"Name": "x", "Host": 3}], "identity.Host"),
        ([PROTOCOL_VERSION, {"Name": "x", "Host": None}], "identity.Host"),
        ([PROTOCOL_VERSION, {"Name": "taken"}], "'taken' is here already"),
    ],
)
def test_a_hello_that_makes_no_sense_is_refused_with_a_reason(
    bench: Bench, params: list[Any], reason: str
) -> None:
    bench.client(Client, "taken")
    stranger = bench.clients["x"] = Client(bench, "x")
    stranger.send("hello", *params)
    (refusal,) = stranger.refusals
    assert refusal["Call"] == "hello"
    assert reason in refusal["Reason"]
    assert stranger.inbox == []
    stranger.hello()


@pytest.mark.parametrize(
    "identity",
    [
        {"Name": "host.1"},
        {"Name": "im0-a", "Pid": 7, "CreateTime": 1.5, "Host": "m"},
        {"Name": "_B_2", "CreateTime": 1700000000, "Host": "", "More": [1]},
        {"Name": "x" * 64},
    ],
)
def test_a_hello_that_makes_sense_is_answered_ready(bench: Bench, identity: dict[str, Any]) -> None:
    stranger = bench.clients["x"] = Client(bench, "x")
    stranger.send("hello", PROTOCOL_VERSION, identity)
    assert stranger.refusals == []
    assert stranger.take("ready")
    assert [p.name for p in bench.core.registry.clients.values()] == [identity["Name"]]


def test_nothing_is_accepted_before_hello_and_no_second_hello(bench: Bench) -> None:
    stranger = bench.clients["x"] = Client(bench, "x")
    stranger.send("NdisMRegisterMiniportDriver", None, {"Name": "x", "Adapters": []})
    assert stranger.refusals.pop()["Reason"] == "say hello first"
    stranger.hello()
    stranger.send("hello", PROTOCOL_VERSION, {"Name": "x"})
    assert "already said hello" in stranger.refusals.pop()["Reason"]
    assert bench.core.bug_checks.reports == []


def test_what_is_no_function_of_ndis_is_a_bug_check(bench: Bench) -> None:
    for name in ("NdisFrobnicate", "MiniportInitiateOffload", "ready", "x" * 3000):
        client = bench.client(Client, "p")
        client.send(name, 1, 2)
        assert client.closed is not None
        report = client.closed["BugCheck"]
        assert report["Call"][:20] == name[:20]
        assert len(report["Call"]) < 1100
        assert "is not a function that NDIS offers" in report["Reason"] or len(name) > 1000


def test_an_answer_to_nothing_is_a_bug_check(bench: Bench) -> None:
    client = bench.client(Client, "p")
    client.send("return", 0, call_id=17)
    assert "answer to call 17" in bench.bug_check.reason


def test_a_new_epoch_is_a_new_address_space(bench: Bench) -> None:
    client = bench.client(Client, "p")
    before = client.ready
    client.send("goodbye")
    assert client.closed == {"Reason": "left", "Epoch": before["Epoch"]}
    client.hello()
    assert client.ready["Epoch"] > before["Epoch"]
    assert client.ready["AddressSpace"] > before["AddressSpace"]


def test_epochs_and_spaces_go_on_from_the_base_of_the_bus() -> None:
    said = []
    for base in (0, 1000, 28_000_000):
        bench = Bench()
        bench.core = NdisCore(epoch_base=base)
        said += [bench.client(Client, name).ready for name in "ab"]
    assert [r["Epoch"] for r in said] == [1, 2, 1001, 1002, 28_000_001, 28_000_002]
    spaces = [r["AddressSpace"] for r in said]
    assert spaces[:2] == [2, 3] and len(set(spaces)) == 6
    assert all(1 < s < 1 << 24 for s in spaces)


def test_a_space_in_use_is_passed_over_when_the_numbers_start_over() -> None:
    bench = Bench()
    kept = bench.client(Client, "kept")
    bench.core.admission.epochs._last = (1 << 24) - 2
    again = bench.client(Client, "again")
    assert (kept.ready["AddressSpace"], again.ready["AddressSpace"]) == (2, 3)
    assert again.ready["Epoch"] == 1 << 24


def test_closed_epochs_do_not_pile_up(bench: Bench) -> None:
    """A driver that crashes again and again costs no memory; the latest epochs stay known."""
    first = bench.client(Client, "first")
    first.send("goodbye")
    clients = [bench.client(Client, f"p{i}") for i in range(MAX_CLOSED + 20)]
    for client in clients:
        client.send("goodbye")
    client = bench.client(Client, "last")
    client.send("goodbye")
    assert len(bench.core.registry.clients) <= MAX_CLOSED + 1
    assert len(bench.core.registry.by_space) <= MAX_CLOSED + 1
    client.send("NdisFrobnicate")
    assert "is closed; say hello again" in client.refusals.pop()["Reason"]
    first.send("NdisFrobnicate")
    assert first.refusals.pop()["Reason"] == "say hello first"
    assert bench.core.admission.stale == 1


# -- the miniport edge ---------------------------------------------------------------------------------


def test_options_are_set_before_the_registration_is_answered_and_adapters_come_after(bench: Bench) -> None:
    nic = bench.client(Nic, "nic")
    call_id = nic.next_id()
    nic.send(
        "NdisMRegisterMiniportDriver", 0x5, {"Name": "nic", "Adapters": ["nic0", "nic1"]}, call_id=call_id
    )
    assert nic.names() == ["MiniportSetOptions"]
    asked = nic.take("MiniportSetOptions")
    handle, context = asked[2]
    assert context == 0x5
    nic.answer(asked, 0)
    assert nic.returned(call_id) == [0, handle]
    assert nic.names() == ["MiniportInitializeEx"] * 2
    first = nic.take("MiniportInitializeEx")[2]
    epoch = nic.ready["Epoch"]
    assert first[1:] == [0x5, {"AdapterName": "nic0", "IMDeviceInstanceContext": None, "Epoch": epoch}]
    assert bench.core.registry.adapters.keys() == {first[0], nic.take("MiniportInitializeEx")[2][0]}


def test_a_driver_whose_options_fail_is_not_registered_and_may_try_again(bench: Bench) -> None:
    nic = bench.client(Nic, "nic")
    call_id = nic.next_id()
    nic.send("NdisMRegisterMiniportDriver", None, {"Name": "nic", "Adapters": ["nic0"]}, call_id=call_id)
    nic.answer(nic.take("MiniportSetOptions"), int(NdisStatus.FAILURE))
    assert nic.returned(call_id)[0] == NdisStatus.FAILURE
    assert nic.names() == []
    nic.start("nic0")
    assert bench.core.bug_checks.reports == []


@pytest.mark.parametrize("how", ["fails", "has no context"])
def test_an_adapter_that_does_not_come_up_is_not_there(bench: Bench, how: str) -> None:
    nic = bench.client(Nic, "nic")
    nic.register_miniport(["nic0"])
    nic.answer(nic.take("MiniportInitializeEx"), int(NdisStatus.FAILURE) if how == "fails" else 0)
    assert bench.core.registry.adapters == {}
    host = bench.client(Host, "host")
    host.register_protocol(["nic0"])
    assert host.names() == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ({"Name": "x", "Adapters": ["nic0"]}, "already an adapter called 'nic0'"),
        ({"Name": "x", "Adapters": ["a", "a"]}, "twice"),
        ({"Name": "x", "Adapters": [""]}, "names of 1 to 64"),
        ({"Name": "x", "Adapters": ["a" * 65]}, "names of 1 to 64"),
        ({"Name": "x", "Adapters": "nic1"}, "array of names"),
        ({"Name": "x", "Adapterz": []}, "unknown member 'Adapterz'"),
    ],
)
def test_a_registry_path_that_makes_no_sense(bench: Bench, path: dict[str, Any], reason: str) -> None:
    nic = bench.client(Nic, "nic").start("nic0")
    other = bench.client(Nic, "other")
    other.send("NdisMRegisterMiniportDriver", None, path)
    assert bench.bug_check.driver == "other"
    assert reason in bench.bug_check.reason
    assert nic.closed is None


def test_an_edge_is_registered_once(bench: Bench) -> None:
    nic = bench.client(Nic, "nic").start("nic0")
    nic.send("NdisMRegisterMiniportDriver", None, {"Name": "nic", "Adapters": []})
    assert "already" in bench.bug_check.reason
    host = bench.client(Host, "host")
    host.register_protocol([])
    host.send("NdisRegisterProtocolDriver", None, {"Name": "host", "Bind": []})
    assert "already" in bench.core.bug_checks.reports[1].reason


# -- optional handlers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("edge", ["miniport", "protocol"])
def test_r_reg_04_the_type_of_the_chimney_must_be_tcp(bench: Bench, edge: str) -> None:
    """R-REG-04: any other OffloadType in a TCP characteristics structure is a bug check."""
    client = bench.client(Im, "p")
    if edge == "miniport":
        client.send("NdisMRegisterMiniportDriver", None, {"Name": "p", "Adapters": []})
        handle = client.take("MiniportSetOptions")[2][0]
        table = dict(PROVIDER[1])
    else:
        client.send("NdisRegisterProtocolDriver", None, {"Name": "p", "Bind": []})
        handle = client.take("ProtocolSetOptions")[2][0]
        table = dict(CLIENT[1])
    assert client.call("NdisSetOptionalHandlers", handle, table) == [0]
    client.send("NdisSetOptionalHandlers", handle, {**table, "OffloadType": table["OffloadType"] + 1})
    assert (bench.bug_check.rule, bench.bug_check.parameter) == ("R-REG-04", "OptionalHandlers.OffloadType")


@pytest.mark.parametrize(("edge", "tables"), [("Miniport", CLIENT), ("Protocol", PROVIDER)])
def test_r_dis_44_an_edge_registers_its_own_structures(bench: Bench, edge: str, tables: Any) -> None:
    """R-DIS-44: provider structures for the miniport edge, client structures for the protocol edge."""
    for table in tables:
        client = bench.client(Im, "p")
        list_name = "Adapters" if edge == "Miniport" else "Bind"
        register = "NdisMRegisterMiniportDriver" if edge == "Miniport" else "NdisRegisterProtocolDriver"
        client.send(register, None, {"Name": "p", list_name: []})
        handle = client.take(f"{edge}SetOptions")[2][0]
        client.send("NdisSetOptionalHandlers", handle, table)
        assert client.closed is not None
        assert client.closed["BugCheck"]["Rule"] == "R-DIS-44"


def test_characteristics_that_are_none(bench: Bench) -> None:
    client = bench.client(Im, "p")
    client.send("NdisMRegisterMiniportDriver", None, {"Name": "p", "Adapters": []})
    handle = client.take("MiniportSetOptions")[2][0]
    unknown = {**PROVIDER[0], "Header": {**PROVIDER[0]["Header"], "Type": 0x42}}
    assert client.call("NdisSetOptionalHandlers", handle, unknown) == [NdisStatus.NOT_SUPPORTED]
    unknown["Header"]["Type"] = [1]
    assert client.call("NdisSetOptionalHandlers", handle, unknown) == [NdisStatus.NOT_SUPPORTED]
    incomplete = {k: v for k, v in PROVIDER[0].items() if k != "Flags"}
    client.send("NdisSetOptionalHandlers", handle, incomplete)
    assert bench.bug_check.parameter == "OptionalHandlers.Flags"


def test_r_reg_07_a_chimney_type_that_is_not_known_gets_no_table(bench: Bench) -> None:
    """R-REG-07: NDIS_STATUS_NOT_SUPPORTED and no table; the TCP chimney gets one."""
    nic = bench.client(Nic, "nic").start("nic0")
    for kind in (0, 2, 77):
        assert nic.call("NdisMGetOffloadHandlers", nic.handle, kind) == [NdisStatus.NOT_SUPPORTED, None]
    status, table = nic.call("NdisMGetOffloadHandlers", nic.handle, 1)
    assert status == 0
    handlers = NdisTcpOffloadEventHandlers.from_wire(table, "t")
    assert handlers.header == NdisTcpOffloadEventHandlers.expected_header()


def test_r_dis_07_the_table_has_the_completions_under_their_real_names(bench: Bench) -> None:
    """R-DIS-07: NdisTcpOffloadXxxComplete, six entry points."""
    nic = bench.client(Nic, "nic").start("nic0")
    table = nic.call("NdisMGetOffloadHandlers", nic.handle, 1)[1]
    assert {k for k, v in table.items() if v == k} == {
        "NdisTcpOffloadEventHandler",
        "NdisTcpOffloadReceiveHandler",
        "NdisTcpOffloadSendComplete",
        "NdisTcpOffloadReceiveComplete",
        "NdisTcpOffloadDisconnectComplete",
        "NdisTcpOffloadForwardComplete",
    }


def test_r_reg_10_no_chimney_passes_through_a_driver_without_handlers(bench: Bench) -> None:
    """R-REG-10: not even if it forwards the report of the driver below and grants the set."""
    nic = bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start("im0", chimney=False)
    host = bench.client(Host, "host").start("im0")
    asked = bench.core.registry.bindings[host.binding]
    assert asked.adapter.capabilities == CAPABILITIES
    assert asked.adapter.chimney_owner is asked
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    assert host.completed("initiate")[Key.STATUS] == NdisStatus.FAILURE
    assert im.names() == nic.names() == []
    assert any("R-REG-10" in str(e.get("reason")) for e in bench.events)


def test_a_protocol_without_handlers_cannot_initiate_either(bench: Bench) -> None:
    nic = bench.client(Nic, "nic").start("nic0")
    host = bench.client(Host, "host").start("nic0", chimney=False)
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    assert host.completed("initiate")[Key.STATUS] == NdisStatus.FAILURE
    assert nic.names() == []


def test_r_oid_09_capabilities_without_a_known_encapsulation_are_not_recognised(bench: Bench) -> None:
    """R-OID-09: neither in what a protocol is told when it binds, nor in what NDIS answers."""
    report = NdisTcpConnectionOffload(encapsulation=0).to_wire()
    bench.client(Nic, "nic").start("nic0", capabilities=report)
    host = bench.client(Host, "host")
    host.register_protocol(["nic0"])
    offered = host.take("ProtocolBindAdapterEx")[2][2]
    assert offered["TcpConnectionOffloadCapabilities"] is None


def test_malformed_capabilities_are_a_bug_check(bench: Bench) -> None:
    nic = bench.client(Nic, "nic")
    nic.register_miniport(["nic0"])
    asked = nic.take("MiniportInitializeEx")
    attributes = {"MiniportAdapterContext": 1, "TcpConnectionOffloadCapabilities": {"Flags": 0}}
    nic.send("NdisMSetMiniportAttributes", asked[2][0], attributes)
    assert bench.bug_check.parameter.startswith("MiniportAttributes.TcpConnectionOffloadCapabilities")


# -- binding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["nic first", "host first"])
def test_a_protocol_is_bound_when_both_are_there(bench: Bench, order: str) -> None:
    host, nic = bench.client(Host, "host"), bench.client(Nic, "nic")
    if order == "nic first":
        nic.start("nic0", "nic1")
        host.register_protocol(["nic1"])
    else:
        host.register_protocol(["nic1"])
        assert host.names() == []
        nic.start("nic0", "nic1")
    asked = host.take("ProtocolBindAdapterEx")
    assert asked[2][0] == 0x6
    assert asked[2][2] == {
        "AdapterName": "nic1",
        "TcpConnectionOffloadCapabilities": CAPABILITIES,
        "Epoch": nic.ready["Epoch"],
        "CurrentMacAddress": None,
        "MtuSize": None,
        "XmitLinkSpeed": None,
        "RcvLinkSpeed": None,
    }
    assert host.names() == []


def test_an_adapter_is_offered_once_at_a_time(bench: Bench) -> None:
    host = bench.client(Host, "host")
    host.register_protocol(["nic0"])
    bench.client(Nic, "nic").start("nic0")
    bench.client(Nic, "other").start("nic1")  # anything that makes NDIS look again
    assert host.names() == ["ProtocolBindAdapterEx"]
    host.bind()
    bench.client(Nic, "another").start("nic2")
    assert host.names() == []


def test_a_driver_is_not_bound_to_its_own_adapter(bench: Bench) -> None:
    im = bench.client(Im, "im")
    im.register_protocol(["mine"])
    im.register_miniport(["mine"])
    im.initialize("mine")
    assert im.names() == []


@pytest.mark.parametrize(
    ("handle", "context", "parameters", "parameter"),
    [
        ("forged", 1, {"AdapterName": "nic0"}, "NdisProtocolHandle"),
        (None, 1, {"AdapterName": "nic0"}, "NdisProtocolHandle"),
        ("own", None, {"AdapterName": "nic0"}, "ProtocolBindingContext"),
        ("own", 1, {"AdapterName": "nic1"}, "OpenParameters.AdapterName"),
        ("own", 1, {"AdapterName": 5}, "OpenParameters.AdapterName"),
        ("own", 1, {}, "OpenParameters.AdapterName"),
    ],
)
def test_only_what_was_offered_can_be_opened(
    bench: Bench, handle: Any, context: Any, parameters: dict[str, Any], parameter: str
) -> None:
    nic = bench.client(Nic, "nic").start("nic0", "nic1")
    host = bench.client(Host, "host")
    host.register_protocol(["nic0"])
    host.take("ProtocolBindAdapterEx")
    given = {"own": host.protocol_handle, "forged": host.protocol_handle + 0x10}.get(handle, handle)
    host.send("NdisOpenAdapterEx", given, context, parameters)
    assert bench.bug_check.parameter == parameter
    assert host.closed is not None
    assert nic.closed is None


@pytest.mark.parametrize("back", [False, True])
def test_an_adapter_that_dies_while_it_is_offered_is_not_a_bug_check(bench: Bench, back: bool) -> None:
    """The protocol's open crosses the removal. It is told, and gets the next adapter of that name."""
    nic = bench.client(Nic, "nic").start("nic0")
    host = bench.client(Host, "host")
    host.register_protocol(["nic0"])
    asked = host.take("ProtocolBindAdapterEx")
    nic.send("goodbye")
    if back:
        nic.hello()
        nic.start("nic0")
        # What was offered is not there any more, but its successor is, and is as good.
        status, binding = host.call("NdisOpenAdapterEx", host.protocol_handle, 1, {"AdapterName": "nic0"})
        assert (status, binding) == (0, next(iter(bench.core.registry.bindings)))
    else:
        opened = host.call("NdisOpenAdapterEx", host.protocol_handle, 1, {"AdapterName": "nic0"})
        assert opened == [NdisStatus.ADAPTER_REMOVED, None]
        host.answer(asked, int(NdisStatus.FAILURE))
        assert host.names() == []
        nic.hello()
        nic.start("nic0")
        assert host.bind() == "nic0"
    assert bench.core.bug_checks.reports == []


def test_the_successor_of_an_adapter_that_died_while_offered_is_offered_at_the_end(bench: Bench) -> None:
    nic = bench.client(Nic, "nic").start("nic0")
    host = bench.client(Host, "host")
    host.register_protocol(["nic0"])
    asked = host.take("ProtocolBindAdapterEx")
    nic.send("goodbye")
    nic.hello()
    nic.start("nic0")
    host.answer(asked, int(NdisStatus.FAILURE))  # it never opened the first one
    assert host.bind() == "nic0"


def test_a_protocol_that_dies_leaves_no_binding_behind(bench: Bench) -> None:
    bench.client(Nic, "nic").start("nic0")
    host = bench.client(Host, "host").start("nic0")
    host.send("goodbye")
    assert bench.core.registry.bindings == {}
    assert all(a.bindings == [] and a.chimney_owner is None for a in bench.core.registry.adapters.values())


def test_a_binding_that_was_given_up_is_not_offered_again(bench: Bench) -> None:
    """Not the same adapter; one that comes up later is a new one."""
    nic = bench.client(Nic, "nic").start("nic0")
    host = bench.client(Host, "host").start("nic0")
    assert host.call("NdisCloseAdapterEx", host.binding) == [0]
    assert host.take("ProtocolCloseAdapterCompleteEx")[2] == [host.contexts_of["nic0"]]
    assert host.names() == []
    nic.send("goodbye")
    nic.hello()
    nic.start("nic0")
    assert host.bind() == "nic0"


def test_closing_what_is_no_binding_is_a_bug_check(bench: Bench) -> None:
    bench.client(Nic, "nic").start("nic0")
    host = bench.client(Host, "host").start("nic0")
    other = bench.client(Host, "other")
    other.register_protocol([])
    other.send("NdisCloseAdapterEx", host.binding)
    assert bench.bug_check.driver == "other"
    assert host.closed is None
    assert bench.core.registry.bindings.keys() == {host.binding}


# -- intermediate drivers ------------------------------------------------------------------------------


def test_a_virtual_adapter_comes_up_and_is_offered(bench: Bench) -> None:
    bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start("im0")
    host = bench.client(Host, "host").start("im0")
    adapter = bench.core.registry.adapters[im.handle]
    assert (adapter.name, adapter.virtual) == ("im0", True)
    assert [b.protocol.name for b in adapter.bindings] == [host.name]


@pytest.mark.parametrize("answer", [0, int(NdisStatus.PENDING)])
def test_a_virtual_adapter_goes_when_everybody_above_has_let_go(bench: Bench, answer: int) -> None:
    """Unbound first, halted last, and only then is the call answered."""
    bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start("im0")
    host = bench.client(Host, "host").start("im0")
    call_id = im.next_id()
    im.send("NdisIMDeInitializeDeviceInstance", im.handle, call_id=call_id)
    assert im.names() == []
    asked = host.take("ProtocolUnbindAdapterEx")
    assert asked[2][1] == host.contexts_of["im0"]
    host.answer(asked, answer)
    if answer:
        assert im.names() == []
        host.call("NdisCloseAdapterEx", host.binding)
    assert host.take("ProtocolCloseAdapterCompleteEx")
    halt = im.take("MiniportHaltEx")
    assert halt[2][0] == im.contexts["im0"]
    assert im.names() == []
    im.answer(halt, 0)
    assert im.returned(call_id) == [0]
    assert im.handle not in bench.core.registry.adapters
    if not answer:
        # SUCCESS said that the protocol is through; it may close all the same.
        assert host.call("NdisCloseAdapterEx", host.binding) == [0]
    assert bench.core.bug_checks.reports == []


def test_an_adapter_that_is_told_to_go_before_it_is_up(bench: Bench) -> None:
    bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start()
    host = bench.client(Host, "host")
    host.register_protocol(["im0"])
    first = im.next_id()
    im.send("NdisIMInitializeDeviceInstanceEx", im.driver_handle, "im0", 0x7, call_id=first)
    asked = im.take("MiniportInitializeEx")
    attributes = {"MiniportAdapterContext": 0x9, "TcpConnectionOffloadCapabilities": None}
    im.call("NdisMSetMiniportAttributes", asked[2][0], attributes)
    second = im.next_id()
    im.send("NdisIMDeInitializeDeviceInstance", asked[2][0], call_id=second)
    im.answer(asked, 0)
    assert im.returned(first) == [0, asked[2][0]]
    im.answer(im.take("MiniportHaltEx"), 0)
    assert im.returned(second) == [0]
    assert host.names() == []
    assert "im0" not in {a.name for a in bench.core.registry.adapters.values()}


@pytest.mark.parametrize("what", ["its own name", "forged driver", "hardware", "twice"])
def test_what_an_intermediate_driver_must_not_do(bench: Bench, what: str) -> None:
    bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start("im0")
    if what == "its own name":
        im.send("NdisIMInitializeDeviceInstanceEx", im.driver_handle, "im0", None)
    elif what == "forged driver":
        im.send("NdisIMInitializeDeviceInstanceEx", im.driver_handle + 0x10, "im1", None)
    elif what == "hardware":
        im.send("NdisIMDeInitializeDeviceInstance", bench.clients["nic"].handle)  # type: ignore[attr-defined]
    else:
        im.send("NdisIMDeInitializeDeviceInstance", im.handle)
        assert im.closed is None
        im.send("NdisIMDeInitializeDeviceInstance", im.handle)
    assert bench.bug_check.driver == "im"


def test_a_name_that_another_driver_has_is_refused(bench: Bench) -> None:
    """An intermediate driver does not know the names of others. NDIS itself may have proposed the name."""
    bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start("im0")
    answer = im.call("NdisIMInitializeDeviceInstanceEx", im.driver_handle, "nic0", None)
    assert answer == [int(NdisStatus.FAILURE), None]
    assert bench.core.bug_checks.reports == []


# -- automatic binding ---------------------------------------------------------------------------------


def test_auto_takes_a_free_virtual_adapter_and_never_the_hardware(bench: Bench) -> None:
    bench.client(Nic, "nic").start("nic0")
    host = bench.client(Host, "host")
    host.register_protocol("auto")
    assert host.names() == []
    bench.client(Im, "im").start("im0-b", "im0-a")
    assert host.bind() == "im0-b"  # the first that came up


def test_auto_asks_for_an_adapter_when_none_is_free_and_takes_turns(bench: Bench) -> None:
    bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start("im0-a")
    hosts = [bench.client(Host, f"host{i}") for i in range(2)]
    for host in hosts:
        host.register_protocol("auto")
    assert hosts[0].bind() == "im0-a"
    asked = im.take("ProtocolNetPnPEvent")
    assert asked[2][1] == {"NetEvent": "NetEventReconfigure", "Buffer": {"AddAdapter": "im0-b"}}
    im.expose("im0-b")
    im.answer(asked, 0)
    assert hosts[1].bind() == "im0-b"


def test_auto_has_the_adapter_made_again_by_the_next_intermediate_driver(bench: Bench) -> None:
    """Its adapter was made on demand; the new process does not know of it."""
    bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start("im0-a")
    hosts = [bench.client(Host, f"host{i}") for i in range(2)]
    for host in hosts:
        host.register_protocol("auto")
    hosts[0].bind()
    asked = im.take("ProtocolNetPnPEvent")
    im.expose("im0-b")
    im.answer(asked, 0)
    hosts[1].bind()
    im.send("goodbye")
    for host in hosts:
        host.answer(host.take("ProtocolUnbindAdapterEx"), 0)
    im.hello()
    im.start("im0-a")
    asked = im.take("ProtocolNetPnPEvent")
    assert asked[2][1]["Buffer"] == {"AddAdapter": "im0-b"}
    im.expose("im0-b")
    im.answer(asked, 0)
    assert hosts[0].bind() == "im0-a"
    assert hosts[1].bind() == "im0-b"


def test_auto_does_not_insist_when_it_is_refused(bench: Bench) -> None:
    bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start("im0-a")
    hosts = [bench.client(Host, f"host{i}") for i in range(2)]
    for host in hosts:
        host.register_protocol("auto")
    hosts[0].bind()
    im.answer(im.take("ProtocolNetPnPEvent"), int(NdisStatus.FAILURE))
    assert im.names() == []
    hosts[0].send("goodbye")  # its adapter is free now
    assert hosts[1].bind() == "im0-a"
