"""The call table against the documented functions, and everything that is derived from it."""

from __future__ import annotations

import inspect

import pytest

from ndisbus.ddi.call import (
    BLOCKS_MINIPORT,
    BLOCKS_PROTOCOL,
    HANDLE,
    NBL,
    STRUCT,
    TEXT,
    ULONG,
    Call,
    Direction,
    Kind,
    python_name,
)
from ndisbus.ddi.call_rows import INDICATIONS, IO_OPERATIONS, PACKET_SEND, STATE_OPERATIONS
from ndisbus.ddi.calls import CALLS
from ndisbus.driver.base import MiniportDriver, ProtocolDriver
from ndisbus.driver.calls import NdisCalls
from tools import generate_calls as generate

#: The functions of the chimney interface and of what surrounds it, with their documented parameters; an
#: out parameter stands in brackets. What the pages return synchronously is VOID here where it is always
#: NDIS_STATUS_PENDING; see test_what_is_answered.
DOCUMENTED = """
NdisInitiateOffload NdisBindingHandle OffloadBlockList
MiniportInitiateOffload MiniportAdapterContext OffloadBlockList
NdisMInitiateOffloadComplete NdisMiniportHandle OffloadBlockList
ProtocolInitiateOffloadComplete ProtocolBindingContext OffloadBlockList
NdisInvalidateOffload NdisBindingHandle OffloadBlockList
MiniportInvalidateOffload MiniportAdapterContext OffloadBlockList
NdisMInvalidateOffloadComplete NdisMiniportHandle OffloadBlockList
ProtocolInvalidateOffloadComplete ProtocolBindingContext OffloadBlockList
NdisQueryOffloadState NdisBindingHandle OffloadBlockList
MiniportQueryOffload MiniportAdapterContext OffloadBlockList
NdisMQueryOffloadStateComplete NdisMiniportHandle OffloadBlockList
ProtocolQueryOffloadComplete ProtocolBindingContext OffloadBlockList
NdisTerminateOffload NdisBindingHandle OffloadBlockList
MiniportTerminateOffload MiniportAdapterContext OffloadBlockList
NdisMTerminateOffloadComplete NdisMiniportHandle OffloadBlockList
ProtocolTerminateOffloadComplete ProtocolBindingContext OffloadBlockList
NdisUpdateOffload NdisBindingHandle OffloadBlockList
MiniportUpdateOffload MiniportAdapterContext OffloadBlockList
NdisMUpdateOffloadComplete NdisMiniportHandle OffloadBlockList
ProtocolUpdateOffloadComplete ProtocolBindingContext OffloadBlockList
NdisOffloadTcpSend NdisOffloadHandle NetBufferList
MiniportTcpOffloadSend MiniportAdapterContext MiniportOffloadContext NetBufferList
NdisTcpOffloadSendComplete NdisMiniportHandle NetBufferList
ProtocolTcpOffloadSendComplete ProtocolBindingContext NetBufferList
NdisOffloadTcpReceive NdisOffloadHandle NetBufferList
MiniportTcpOffloadReceive MiniportAdapterContext MiniportOffloadContext NetBufferList
NdisTcpOffloadReceiveComplete NdisMiniportHandle NetBufferList
ProtocolTcpOffloadReceiveComplete ProtocolBindingContext NetBufferList
NdisOffloadTcpDisconnect NdisOffloadHandle NetBufferList Flags
MiniportTcpOffloadDisconnect MiniportAdapterContext MiniportOffloadContext NetBufferList Flags
NdisTcpOffloadDisconnectComplete NdisMiniportHandle NetBufferList
ProtocolTcpOffloadDisconnectComplete ProtocolBindingContext NetBufferList
NdisOffloadTcpForward NdisOffloadHandle NetBufferList
MiniportTcpOffloadForward MiniportAdapterContext MiniportOffloadContext NetBufferList
NdisTcpOffloadForwardComplete NdisMiniportHandle NetBufferList
ProtocolTcpOffloadForwardComplete ProtocolBindingContext NetBufferList
NdisOffloadTcpReceiveReturn NdisBindingHandle NetBufferList
MiniportTcpOffloadReceiveReturn MiniportAdapterContext NetBufferList
NdisMOffloadEventIndicate NdisMiniportHandle OffloadBlockList IndicationCode
ProtocolIndicateOffloadEvent ProtocolBindingContext OffloadBlockList IndicationCode
NdisTcpOffloadEventHandler NdisOffloadHandle EventType EventSpecificInformation
ProtocolTcpOffloadEvent OffloadContext EventType EventSpecificInformation
NdisTcpOffloadReceiveHandler NdisOffloadHandle NetBufferList Status [BytesConsumed]
ProtocolTcpOffloadReceiveIndicate OffloadContext NetBufferList Status [BytesConsumed]
NdisMIndicateStatusEx MiniportAdapterHandle StatusIndication
ProtocolStatusEx ProtocolBindingContext StatusIndication
NdisMGetOffloadHandlers NdisMiniportHandle ChimneyType [OffloadHandlers]
NdisSetOptionalHandlers NdisHandle OptionalHandlers
MiniportSetOptions NdisDriverHandle DriverContext
ProtocolSetOptions NdisDriverHandle DriverContext
NdisOidRequest NdisBindingHandle OidRequest
MiniportOidRequest MiniportAdapterContext OidRequest [OidRequest]
NdisMOidRequestComplete MiniportAdapterHandle OidRequest Status
ProtocolOidRequestComplete ProtocolBindingContext OidRequest Status Reason
NdisMIndicateReceiveNetBufferLists MiniportAdapterHandle NetBufferLists PortNumber \
    NumberOfNetBufferLists ReceiveFlags
ProtocolReceiveNetBufferLists ProtocolBindingContext NetBufferLists PortNumber \
    NumberOfNetBufferLists ReceiveFlags
NdisSendNetBufferLists NdisBindingHandle NetBufferLists PortNumber SendFlags
MiniportSendNetBufferLists MiniportAdapterContext NetBufferList PortNumber SendFlags
NdisMSendNetBufferListsComplete MiniportAdapterHandle NetBufferList SendCompleteFlags
ProtocolSendNetBufferListsComplete ProtocolBindingContext NetBufferList SendCompleteFlags
NdisReturnNetBufferLists NdisBindingHandle NetBufferLists ReturnFlags
MiniportReturnNetBufferLists MiniportAdapterContext NetBufferLists ReturnFlags
"""
LIFE = """
NdisMRegisterMiniportDriver NdisRegisterProtocolDriver NdisMSetMiniportAttributes NdisOpenAdapterEx
NdisCloseAdapterEx NdisIMInitializeDeviceInstanceEx NdisIMDeInitializeDeviceInstance
MiniportInitializeEx MiniportHaltEx MiniportCheckForHangEx MiniportResetEx
ProtocolBindAdapterEx ProtocolUnbindAdapterEx ProtocolCloseAdapterCompleteEx ProtocolNetPnPEvent
"""
ROWS = [line.split() for line in DOCUMENTED.strip().splitlines()]
EVERY = pytest.mark.parametrize("call", CALLS.values(), ids=lambda c: c.name)


def test_the_table_has_every_function_and_no_other() -> None:
    assert set(CALLS) == {row[0] for row in ROWS} | set(LIFE.split())
    assert all(name == call.name for name, call in CALLS.items())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_parameters_are_the_documented_ones_in_their_order(row: list[str]) -> None:
    name, *params = row
    call = CALLS[name]
    assert [p.name for p in call.params] == [p for p in params if not p.startswith("[")]
    if name not in ("NdisMOffloadEventIndicate", "ProtocolIndicateOffloadEvent"):
        # Those two have the list as an inout parameter.
        assert [f"[{o}]" for o in call.outs] == [p for p in params if p.startswith("[")]


def test_r_dis_07_and_r_dis_08_only_the_real_names_exist() -> None:
    """R-DIS-07, R-DIS-08: the names that only the text of some pages has are not calls."""
    for o in IO_OPERATIONS:
        part = o.request.removeprefix("NdisOffloadTcp")
        assert o.completion == f"NdisTcpOffload{part}Complete"
        assert f"NdisOffloadTcp{part}Complete" not in CALLS
    assert "NdisQueryOffload" not in CALLS
    assert "NdisMQueryOffloadComplete" not in CALLS


@pytest.mark.parametrize("operation", [*STATE_OPERATIONS, *IO_OPERATIONS, PACKET_SEND], ids=lambda o: o.op)
def test_a_request_leads_to_its_handler_and_is_completed_by_its_completion(operation: object) -> None:
    request, handler, completion, seen_as = (
        CALLS[getattr(operation, part)] for part in ("request", "handler", "completion", "completion_handler")
    )
    assert request.leads_to == handler.name
    assert completion.leads_to == seen_as.name
    for call in (request, handler):
        assert (call.completed_by, call.completion_seen_as) == (completion.name, seen_as.name)
    assert {c.op for c in (request, handler, completion, seen_as)} == {request.op}
    assert (request.kind, completion.kind) == (Kind.REQUEST, Kind.COMPLETION)
    assert (handler.kind, seen_as.kind) == (Kind.MINIPORT_HANDLER, Kind.PROTOCOL_HANDLER)
    assert (request.direction, handler.direction) == (Direction.DOWN, Direction.DOWN)
    assert (completion.direction, seen_as.direction) == (Direction.UP, Direction.UP)


@pytest.mark.parametrize("operation", STATE_OPERATIONS, ids=lambda o: o.op)
def test_r_blk_01_protocol_form_above_and_miniport_form_below(operation: object) -> None:
    """R-BLK-01: which form a call carries follows from the edge at which it is made."""
    forms = {
        part: CALLS[getattr(operation, part)].params[1].carries
        for part in ("request", "handler", "completion", "completion_handler")
    }
    assert forms == {
        "request": BLOCKS_PROTOCOL,
        "handler": BLOCKS_MINIPORT,
        "completion": BLOCKS_MINIPORT,
        "completion_handler": BLOCKS_PROTOCOL,
    }


def test_r_dis_10_and_r_dis_45_receive_return_names_the_binding_and_returns_nothing() -> None:
    """R-DIS-10: its first parameter is the binding; R-DIS-45: there is no result, and no completion."""
    call = CALLS["NdisOffloadTcpReceiveReturn"]
    assert call.params[0].name == "NdisBindingHandle"
    assert not call.answered
    assert not call.completed_by
    assert not CALLS[call.leads_to].answered


def test_indications_lead_to_the_handler_with_the_same_answer() -> None:
    for i in INDICATIONS:
        below, above = CALLS[i.indication], CALLS[i.handler]
        assert below.leads_to == above.name
        assert (below.returns, below.outs) == (above.returns, above.outs)
        assert [p.carries for p in below.params[2:]] == [p.carries for p in above.params[2:]]


@EVERY
def test_whatever_a_call_names_exists(call: Call) -> None:
    for name in (call.leads_to, call.completed_by, call.completion_seen_as):
        assert not name or name in CALLS
    if call.leads_to:
        assert call.from_driver
        assert not CALLS[call.leads_to].from_driver
    assert call.source.endswith(".md")
    assert {p.carries for p in call.params} <= {
        HANDLE,
        ULONG,
        TEXT,
        STRUCT,
        NBL,
        BLOCKS_PROTOCOL,
        BLOCKS_MINIPORT,
    }


@EVERY
def test_what_is_answered(call: Call) -> None:
    """Requests and completions are never answered: what becomes of them comes as a completion."""
    if call.kind in (Kind.REQUEST, Kind.COMPLETION):
        assert not call.answered
    if call.kind is Kind.REGISTRATION:
        assert call.returns == "NDIS_STATUS"
    assert call.answered is (call.returns != "VOID" or bool(call.outs))


@EVERY
def test_a_driver_has_a_handler_or_ndis_a_method_for_every_call(call: Call) -> None:
    name = python_name(call.name)
    if call.from_driver:
        owner: type = NdisCalls
    else:
        owner = MiniportDriver if call.kind is Kind.MINIPORT_HANDLER else ProtocolDriver
    parameters = list(inspect.signature(getattr(owner, name)).parameters)
    assert len(parameters) == len(call.params) + 1  # and self
    if call.from_driver:
        assert parameters[1:] == [python_name(p.name) for p in call.params]


def test_python_names_are_the_documented_ones_in_snake_case_and_unique() -> None:
    assert python_name("NdisMInitiateOffloadComplete") == "m_initiate_offload_complete"
    assert python_name("NdisIMInitializeDeviceInstanceEx") == "im_initialize_device_instance_ex"
    assert python_name("ProtocolNetPnPEvent") == "protocol_net_pnp_event"
    assert python_name("MiniportOidRequest") == "miniport_oid_request"
    assert len({python_name(n) for n in CALLS}) == len(CALLS)


def test_the_generated_client_is_up_to_date() -> None:
    assert generate.main(["--check"]) == 0
    assert generate.render() == generate.TARGET.read_text(encoding="utf-8")


def test_blocks_at_names_the_parameter_with_the_list() -> None:
    assert CALLS["NdisMOffloadEventIndicate"].blocks_at == 1
    assert CALLS["NdisOidRequest"].blocks_at == -1
