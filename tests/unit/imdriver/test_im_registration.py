"""Registration of both edges, the virtual adapters, and how they come and go."""

from __future__ import annotations

from typing import Any

import pytest

from imdriver.config import ChimneyPolicy, ImConfig
from imdriver.registration import check_event_handlers
from ndisbus.ddi.call import python_name
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import (
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
    NdisTcpOffloadEventHandlers,
)
from ndisbus.errors import DecodeError, LocalProtocolError, RemoteProtocolError


def tables(bench: Any, handle: int) -> list[dict[str, Any]]:
    return [p[1] for name, p, _ in bench.calls if name == "NdisSetOptionalHandlers" and p[0] == handle]


def test_r_reg_03_both_sets_are_registered(bench: Any) -> None:
    """R-REG-03, R-REG-04: provider structures on the miniport edge, client ones on the protocol edge."""
    assert tables(bench, bench.miniport) == [
        NdisProviderChimneyOffloadGenericCharacteristics.full().to_wire(),
        NdisProviderChimneyOffloadTcpCharacteristics.full().to_wire(),
    ]
    assert tables(bench, bench.protocol) == [
        NdisClientChimneyOffloadGenericCharacteristics.full().to_wire(),
        NdisClientChimneyOffloadTcpCharacteristics.full().to_wire(),
    ]

    tcp = [t for h in (bench.miniport, bench.protocol) for t in tables(bench, h) if "OffloadType" in t]
    assert [(t["OffloadType"], t["Flags"]) for t in tcp] == [(1, 0), (1, 0)]


@pytest.mark.parametrize(
    ("handler", "kind"), [("MiniportSetOptions", "Provider"), ("ProtocolSetOptions", "Client")]
)
def test_r_reg_01_two_calls_from_set_options(make_bench: Any, handler: str, kind: str) -> None:
    """R-REG-01, R-REG-02: it does not return before NDIS has taken both structures."""
    bench = make_bench().attach(bind=False)
    bench.held.add("NdisSetOptionalHandlers")
    assert bench.ask(handler, 0x77, None) is None
    mine = bench._id
    for name in ("InitiateOffload", "TcpOffloadSend"):
        assert mine not in bench.returns
        ((call, call_id, params),) = bench.waiting
        bench.waiting.clear()
        member = f"{name}{'Complete' if kind == 'Client' else ''}Handler"
        assert (params[0], member in params[1]) == (0x77, True)
        bench.answer(call, call_id, params)
    assert bench.returns[mine] == [0]


def test_a_structure_that_is_not_taken_ends_the_registration(make_bench: Any) -> None:
    bench = make_bench()
    bench.answers["NdisSetOptionalHandlers"] = lambda _: [int(NdisStatus.NOT_SUPPORTED)]
    with pytest.raises(RemoteProtocolError, match="NDIS_STATUS_NOT_SUPPORTED"):
        bench.attach(bind=False)


def test_r_dis_35_all_six_client_tcp_entry_points_are_registered(bench: Any) -> None:
    """R-DIS-35: all six client tcp entry points are registered."""
    (table,) = [t for t in tables(bench, bench.protocol) if "TcpOffloadEventHandler" in t]
    handlers = {k: v for k, v in table.items() if k.endswith("Handler")}
    assert len(handlers) == 6
    assert handlers["TcpOffloadForwardCompleteHandler"] == "ProtocolTcpOffloadForwardComplete"
    assert None not in handlers.values()


def test_every_registered_entry_point_exists(bench: Any) -> None:
    registered = tables(bench, bench.miniport) + tables(bench, bench.protocol)
    names = {v for table in registered for k, v in table.items() if k.endswith("Handler")}
    assert len(names) == 22
    assert all(python_name(n) in vars_of(bench.driver) for n in names)


def vars_of(driver: Any) -> set[str]:
    """Methods that the intermediate driver itself defines, its bases of the bus left out."""
    return {n for c in type(driver).__mro__ if c.__module__.startswith("imdriver") for n in vars(c)}


def test_r_reg_05_entry_points_are_fetched_while_an_adapter_initialises(bench: Any) -> None:
    """R-REG-05, R-REG-06: once per adapter and chimney type, from MiniportInitializeEx."""
    fetched = [p for name, p, _ in bench.calls if name == "NdisMGetOffloadHandlers"]
    assert fetched == [[bench.handle("im0-a"), 1], [bench.handle("im0-b"), 1]]
    bench.held.add("NdisMGetOffloadHandlers")
    parameters = {"AdapterName": "im0-a", "IMDeviceInstanceContext": bench.context()}
    assert bench.ask("MiniportInitializeEx", bench.handle(), None, parameters) is None
    mine = bench._id
    bench.release()
    assert bench.returns[mine] == [0]


@pytest.mark.parametrize(("member", "value"), [("Type", 2), ("Revision", 9), ("Size", 0x30)])
def test_r_reg_06_a_table_with_another_header_is_not_used(member: str, value: int) -> None:
    """R-REG-06: a table with another header is not used."""
    table = NdisTcpOffloadEventHandlers.full().to_wire()
    table["Header"][member] = value  # type: ignore[index]
    with pytest.raises(RemoteProtocolError, match=r"R-REG-06"):
        check_event_handlers(table)


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(DecodeError, match="OffloadHandlers"):
        check_event_handlers(None)


def test_virtual_adapters_report_the_capabilities_of_the_adapter_below(bench: Any) -> None:
    reports = [p[1] for name, p, _ in bench.calls if name == "NdisMSetMiniportAttributes"]
    assert [r["TcpConnectionOffloadCapabilities"]["TcpConnectionOffloadCapacity"] for r in reports] == [
        1000,
        1000,
    ]
    assert bench.driver.inspect()["adapters"] == 2


def test_a_blocking_driver_reports_no_capabilities(make_bench: Any) -> None:
    bench = make_bench(ImConfig(chimney=ChimneyPolicy.BLOCK)).attach()
    reports = [p[1] for name, p, _ in bench.calls if name == "NdisMSetMiniportAttributes"]
    assert [r["TcpConnectionOffloadCapabilities"] for r in reports] == [None, None]


def test_an_unaware_driver_registers_nothing_but_forwards_the_report(make_bench: Any) -> None:
    bench = make_bench(ImConfig(register_chimney=False)).attach()
    assert "NdisSetOptionalHandlers" not in bench.names()
    assert "NdisMGetOffloadHandlers" not in bench.names()
    reports = [p[1] for name, p, _ in bench.calls if name == "NdisMSetMiniportAttributes"]
    assert all(r["TcpConnectionOffloadCapabilities"] for r in reports)


def test_unbinding_takes_the_adapters_away_before_it_closes(bench: Any) -> None:
    before = len(bench.calls)
    bench.unbind()
    assert bench.names(before) == ["NdisIMDeInitializeDeviceInstance"] * 2 + ["NdisCloseAdapterEx"]
    assert bench.driver.inspect()["adapters"] == 0
    assert not bench.port.ndis.heap.objects


def test_the_binding_is_closed_when_the_last_adapter_is_gone(bench: Any, upper: Any) -> None:
    """An adapter that something else removes may still upload: what comes from above passes until then."""
    bench.held |= {"NdisIMDeInitializeDeviceInstance"}
    event = {"NetEvent": "NetEventReconfigure", "Buffer": {"RemoveAdapter": "im0-a"}}
    bench.ask("ProtocolNetPnPEvent", None, event)
    bench.ask("ProtocolUnbindAdapterEx", 1, bench.binding_context)
    removal, other = bench.waiting
    bench.waiting.clear()
    bench.answer(*other)
    assert "NdisCloseAdapterEx" not in bench.names()
    ((name, _, _),) = bench.tell("MiniportInitiateOffload", bench.context(), upper.miniport_list(upper.new()))
    assert name == "NdisInitiateOffload"
    bench.answer(*removal)
    assert bench.names()[-1] == "NdisCloseAdapterEx"
    assert not bench.port.ndis.heap.objects


def test_it_can_be_bound_again(bench: Any) -> None:
    bench.unbind()
    assert bench.bind() == [0]
    assert sorted(bench.adapters) == ["im0-a", "im0-b"]
    assert bench.driver.inspect()["adapters"] == 2


def test_only_one_adapter_below(bench: Any) -> None:
    assert bench.bind("nic1") == [NdisStatus.FAILURE]
    assert bench.driver.lower.adapter_name == "nic0"


def test_an_adapter_that_cannot_be_opened_leaves_nothing(make_bench: Any) -> None:
    bench = make_bench().attach(bind=False)
    bench.answers["NdisOpenAdapterEx"] = lambda _: [int(NdisStatus.RESOURCES), None]
    assert bench.bind() == [NdisStatus.RESOURCES]
    assert not bench.port.ndis.heap.objects
    assert bench.driver.lower is None


def test_a_virtual_adapter_that_fails_to_initialise_leaves_the_other(make_bench: Any) -> None:
    bench = make_bench().attach(bind=False)
    status = iter([int(NdisStatus.NOT_SUPPORTED), 0])
    full = NdisTcpOffloadEventHandlers.full().to_wire()
    bench.answers["NdisMGetOffloadHandlers"] = lambda _: [next(status), full]
    assert bench.bind() == [0]
    assert [a.name for a in bench.driver.adapters.values()] == ["im0-b"]
    assert len(bench.port.ndis.heap.objects) == 2  # the binding and the adapter


@pytest.mark.parametrize("call", ["NdisMRegisterMiniportDriver", "NdisRegisterProtocolDriver"])
def test_a_refused_registration_is_an_error_that_names_it(make_bench: Any, call: str) -> None:
    bench = make_bench()
    bench.answers[call] = lambda _: [int(NdisStatus.RESOURCES), None]
    with pytest.raises(RemoteProtocolError, match=f"{call}.*NDIS_STATUS_RESOURCES"):
        bench.attach(bind=False)


def test_adapters_are_added_and_removed_on_demand(bench: Any) -> None:
    event = {"NetEvent": "NetEventReconfigure", "Buffer": {"AddAdapter": "im0-c"}}
    assert bench.ask("ProtocolNetPnPEvent", None, event) == [0]
    assert "im0-c" in bench.adapters
    assert bench.ask("ProtocolNetPnPEvent", None, event) == [NdisStatus.FAILURE]
    event["Buffer"] = {"RemoveAdapter": "im0-c"}
    assert bench.ask("ProtocolNetPnPEvent", None, event) == [0]
    assert sorted(bench.adapters) == ["im0-a", "im0-b"]
    assert bench.ask("ProtocolNetPnPEvent", None, event) == [NdisStatus.FAILURE]
    assert bench.ask("ProtocolNetPnPEvent", None, {"NetEvent": "NetEventSetPower"}) == [
        NdisStatus.NOT_SUPPORTED
    ]


def test_an_adapter_added_without_a_binding_comes_with_the_next_one(make_bench: Any) -> None:
    bench = make_bench().attach(bind=False)
    event = {"NetEvent": "NetEventReconfigure", "Buffer": {"AddAdapter": "im0-c"}}
    assert bench.ask("ProtocolNetPnPEvent", None, event) == [0]
    assert bench.adapters == {}
    assert bench.bind() == [0]
    assert sorted(bench.adapters) == ["im0-a", "im0-b", "im0-c"]


def test_an_adapter_is_not_taken_away_twice(bench: Any) -> None:
    """A removal that is under way when the adapter below goes: NDIS is asked once per adapter."""
    bench.held.add("NdisIMDeInitializeDeviceInstance")
    event = {"NetEvent": "NetEventReconfigure", "Buffer": {"RemoveAdapter": "im0-a"}}
    assert bench.ask("ProtocolNetPnPEvent", None, event) is None
    assert bench.ask("ProtocolUnbindAdapterEx", 1, bench.binding_context) is None
    bench.release()
    assert bench.names().count("NdisIMDeInitializeDeviceInstance") == 2
    assert not bench.port.ndis.heap.objects


def test_when_the_bus_is_lost_everything_is_halted_and_it_starts_anew(bench: Any) -> None:
    bench.port.lost("the bus is gone", 2.0)
    assert not bench.port.ndis.heap.objects
    assert bench.driver.inspect()["adapters"] == 0
    bench.calls.clear()
    bench.adapters.clear()
    bench.attach()
    assert sorted(bench.adapters) == ["im0-a", "im0-b"]


@pytest.mark.parametrize("call", ["NdisOpenAdapterEx", "NdisIMInitializeDeviceInstanceEx"])
def test_losing_the_bus_in_the_middle_of_a_bind_leaves_nothing(make_bench: Any, call: str) -> None:
    bench = make_bench().attach(bind=False)
    bench.held.add(call)
    assert bench.bind() is None
    bench.port.lost("the bus is gone", 2.0)
    assert not bench.port.ndis.heap.objects
    assert bench.driver.lower is None
    bench.held.clear()
    bench.waiting.clear()
    assert bench.attach().driver.inspect()["adapters"] == 2


def test_a_forced_close_does_not_cost_the_adapters_of_the_next_binding(bench: Any) -> None:
    bench.held.add("NdisIMDeInitializeDeviceInstance")
    assert bench.ask("ProtocolUnbindAdapterEx", 1, bench.binding_context) is None
    bench.close(bench.binding)
    assert bench.bind() == [0]
    mine = bench.driver.lower
    bench.release()
    assert bench.driver.lower is mine
    assert sorted(bench.adapters) == ["im0-a", "im0-b"]


def test_unknown_pointers_are_named(bench: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="0xdead"):
        bench.driver.adapter_of(0xDEAD)
    assert bench.ask("ProtocolUnbindAdapterEx", 1, 0xDEAD) == [0]
    assert bench.ask("MiniportHaltEx", 0xDEAD, 0) == [0]
    assert bench.driver.inspect()["adapters"] == 2


@pytest.mark.parametrize(
    "wrong", [{"adapters": ("x", "x")}, {"vlan_id": 4096}, {"vlan_id": -1}, {"user_priority": 8}]
)
def test_a_configuration_that_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        ImConfig(**wrong)


def test_control_arms_knobs_and_refuses_the_rest(bench: Any) -> None:
    driver = bench.driver
    assert driver.control("no-memory", {"sends": 2}) == {"armed": 2, "fired": 0}
    assert driver.control("no-memory", {}) == {"armed": 2, "fired": 0}
    assert driver.control("chimney", {"policy": "block"}) == {"policy": "block"}
    assert driver.control("chimney", {}) == {"policy": "block"}
    for command, arguments in (("no-memory", {"sends": -1}), ("chimney", {"policy": "x"}), ("dance", {})):
        with pytest.raises(LocalProtocolError, match=command):
            driver.control(command, arguments)
