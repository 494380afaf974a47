"""The host driver: registration, the chimney switch, operations, reactions."""

from __future__ import annotations

import pytest

from hoststack.chimney.driver import HostDriver
from hoststack.model import synthetic
from hoststack.model.events import (
    Bound,
    ChimneyEnabled,
    ChimneyRefused,
    OperationDone,
    RegistrationFailed,
    UploadIndicated,
)
from hoststack.model.life import State
from hoststack.model.objects import ConnectionState
from ndisbus.ddi.enums import Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import (
    MANDATORY_UPLOAD_REASONS,
    OFFLOADABLE_TCP_STATES,
    OPTIONAL_UPLOAD_REASONS,
    TcpOffloadConnectionState,
    TcpOffloadEventType,
    TcpUploadReason,
)
from ndisbus.driver.port import DriverPort
from ndisbus.errors import IllegalTransition, LocalProtocolError
from ndisbus.lists.blocklist import Key
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    TcpOffloadStateDelegated,
    pack_state,
    unpack_state,
)
from tests.support.host_rig import FAILURE, PARTIAL, SUCCESS, Rig

RETRIEVE = int(TcpOffloadEventType.TcpIndicateRetrieve)
ABORT = int(TcpOffloadEventType.TcpIndicateAbort)


# -- registration and the switch ---------------------------------------------------------------


def test_r_reg_02_and_r_reg_04_two_client_structures_are_registered() -> None:
    """R-REG-02, R-REG-04: two client structures are registered."""
    rig = Rig(enabled=False)
    rig.receive("ProtocolSetOptions", 99, None, call_id=7)
    tables = []
    for _ in range(2):
        (handle, table), _ = rig.take("NdisSetOptionalHandlers")
        assert handle == 99
        tables.append(table)
        rig.answer(SUCCESS)
    assert rig.returned() == [SUCCESS]
    assert "InitiateOffloadCompleteHandler" in tables[0]
    assert tables[1]["OffloadType"] == 1
    assert tables[1]["Flags"] == 0
    assert tables[1]["TcpOffloadForwardCompleteHandler"] == "ProtocolTcpOffloadForwardComplete"


def test_a_refused_structure_ends_the_registration() -> None:
    rig = Rig(enabled=False)
    rig.receive("ProtocolSetOptions", 99, None, call_id=7)
    rig.take("NdisSetOptionalHandlers")
    rig.answer(FAILURE)
    assert rig.returned() == [FAILURE]
    assert rig.names() == []


def test_a_refused_registration_is_an_event() -> None:
    host = HostDriver("host", bind="nic0")
    port = DriverPort(host, {"Name": "host"})
    port.receive(["ready", None, [{"Epoch": 1, "AddressSpace": 5}]], (), 0.0)
    ((message, _),) = port.drain()
    assert message[2][1] == {"Name": "host", "Bind": ["nic0"]}
    port.receive(["return", message[1], [FAILURE, None]], (), 0.0)
    assert isinstance(host.next_event(), RegistrationFailed)


def test_r_oid_01_capabilities_are_asked_for_and_then_set_and_then_tuned() -> None:
    """R-OID-01: capabilities are asked for and then set and then tuned."""
    rig = Rig(enabled=False)
    rig.bind()
    asked = rig.answer_oids(capacity=42)
    assert [(o["RequestType"], o["Oid"]) for o in asked] == [
        (0, Oid.OID_TCP_TASK_OFFLOAD),
        (1, Oid.OID_TCP_TASK_OFFLOAD),
        (1, Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS),
    ]
    assert asked[1]["InformationBuffer"]["OffsetFirstTask"] > 0
    events = rig.events()
    assert [type(e) for e in events if not isinstance(e, OperationDone)] == [Bound, ChimneyEnabled]
    assert rig.host.can_offload
    assert rig.host.chimney.capacity == 42


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_a_failed_oid_leaves_the_chimney_refused(answered: int) -> None:
    rig = Rig(enabled=False)
    rig.bind()
    for _ in range(answered):
        rig.answer_oid()
    rig.answer_oid(FAILURE, "it is broken")
    assert rig.host.chimney.state == "refused"
    assert [e.reason for e in rig.events(ChimneyRefused)] == ["it is broken"]
    assert rig.names() == []


def test_r_oid_08_the_reason_of_a_refusal_is_kept_and_shown_by_every_offload() -> None:
    """R-OID-08: the reason of a refusal is kept and shown by every offload."""
    rig = Rig(enabled=False)
    rig.bind()
    rig.answer_oid()
    rig.answer_oid(int(NdisStatus.OFFLOAD_POLICY), "other-host has it")
    _, _, tcbs = rig.tree()
    operation = rig.act(lambda h: h.offload(tcbs))
    assert operation.done
    assert "other-host has it" in operation.refused
    assert set(operation.statuses) == {NdisStatus.OFFLOAD_POLICY}
    assert all(t.connection_state is ConnectionState.IN_HOST for t in tcbs)
    assert rig.allocated == 0
    assert rig.names() == []


def test_a_chimney_that_another_protocol_had_is_asked_for_again_without_a_flood_of_events() -> None:
    rig = Rig(enabled=False)
    rig.bind()
    rig.answer_oid()
    rig.answer_oid(int(NdisStatus.OFFLOAD_POLICY), "other-host has it")
    for _ in range(2):
        assert rig.port.next_deadline() is not None
        rig.tick(5.0)
        rig.answer_oid()
        rig.answer_oid(int(NdisStatus.OFFLOAD_POLICY), "other-host has it")
    assert len(rig.events(ChimneyRefused)) == 1
    rig.tick(5.0)
    rig.answer_oids()
    assert rig.host.can_offload
    assert rig.port.next_deadline() is None


def test_an_adapter_without_the_chimney_in_its_answer_is_refused() -> None:
    rig = Rig(enabled=False)
    rig.bind()
    (_, request), _ = rig.take("NdisOidRequest")
    rig.receive("ProtocolOidRequestComplete", rig.context, request, SUCCESS, "")
    assert rig.host.chimney.state == "refused"
    assert rig.host.chimney.status == NdisStatus.NOT_SUPPORTED


def test_r_oid_06_and_r_oid_07_everything_is_uploaded_before_the_chimney_is_switched_off() -> None:
    """R-OID-06, R-OID-07: everything is uploaded before the chimney is switched off."""
    rig = Rig()
    neighbor, paths, tcbs = rig.offloaded(3)
    operation = rig.act(lambda h: h.disable_chimney())
    assert rig.names() == ["NdisTerminateOffload"]
    assert rig.terminated() == tcbs
    assert rig.names() == ["NdisTerminateOffload"]
    assert rig.terminated() == [neighbor, *paths]
    assert rig.allocated == 0
    request = rig.answer_oid()
    assert request["InformationBuffer"]["OffsetFirstTask"] == 0
    assert operation.succeeded
    assert rig.host.chimney.state == "disabled"
    assert "disabled" in rig.act(lambda h: h.offload(tcbs)).refused
    again = rig.act(lambda h: h.enable_chimney())
    rig.answer_oids()
    assert again.succeeded
    assert rig.host.can_offload


def test_one_binding_at_a_time() -> None:
    rig = Rig()
    rig.receive("ProtocolBindAdapterEx", None, 2, {"AdapterName": "nic1", "Epoch": 1}, call_id=950)
    assert rig.returned() == [NdisStatus.NOT_ACCEPTED]


def test_an_adapter_that_does_not_open_leaves_nothing_allocated() -> None:
    rig = Rig(enabled=False)
    rig.receive("ProtocolBindAdapterEx", None, 1, {"AdapterName": "nic0", "Epoch": 1}, call_id=900)
    rig.take("NdisOpenAdapterEx")
    rig.answer(FAILURE, None)
    assert rig.returned() == [FAILURE]
    assert rig.allocated == 0


# -- offload -----------------------------------------------------------------------------------


def test_r_hnd_07_each_object_has_a_handle_of_its_own_while_it_is_offloaded() -> None:
    """R-HND-07: each object has a handle of its own while it is offloaded."""
    rig = Rig()
    neighbor, paths, tcbs = rig.offloaded(2)
    objects = (neighbor, *paths, *tcbs)
    addresses = {o.handle.address for o in objects if o.handle is not None}
    assert len(addresses) == len(objects) == rig.allocated
    assert all(o.handle is not None and o.handle.context is not None for o in objects)
    first = tcbs[0].handle
    rig.act(lambda h: h.terminate(tcbs, idle=True))
    rig.terminated()
    assert rig.allocated == 0
    assert all(o.handle is None for o in objects)
    rig.act(lambda h: h.offload(tcbs))
    rig.initiated()
    assert tcbs[0].handle is not None
    assert first is not None
    assert tcbs[0].handle.address != first.address


def test_r_init_01_connections_with_ip_options_stay_in_the_host() -> None:
    """R-INIT-01: connections with ip options stay in the host."""
    rig = Rig()
    _, _, tcbs = rig.tree(3)
    tcbs[1].needs_ip_options = True
    operation = rig.act(lambda h: h.offload(tcbs))
    request = rig.take("NdisInitiateOffload")
    assert tcbs[1] not in rig.named(request)
    assert operation.status_of(tcbs[1]) == NdisStatus.OFFLOAD_POLICY
    assert "R-INIT-01" in operation.reason_of(tcbs[1])
    assert tcbs[1].state is State.NEW


@pytest.mark.parametrize("state", list(TcpOffloadConnectionState)[:-1])
def test_r_state_06_only_connections_in_an_offloadable_state_are_offered(
    state: TcpOffloadConnectionState,
) -> None:
    """R-STATE-06: only connections in an offloadable state are offered."""
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    tcb.delegated.state = state
    operation = rig.act(lambda h: h.offload([tcb]))
    if state in OFFLOADABLE_TCP_STATES:
        assert rig.names() == ["NdisInitiateOffload"]
    else:
        assert rig.names() == []
        assert operation.done
        assert operation.status_of(tcb) == NdisStatus.INVALID_STATE
        assert state.name in operation.reason_of(tcb)


def test_r_init_02_an_object_is_not_offered_while_its_offload_is_in_progress() -> None:
    """R-INIT-02: an object is not offered while its offload is in progress."""
    rig = Rig()
    _, _, tcbs = rig.tree(2)
    rig.act(lambda h: h.offload(tcbs))
    with pytest.raises(IllegalTransition) as caught:
        rig.act(lambda h: h.offload(tcbs[:1]))
    assert caught.value.rule == "R-INIT-02"
    assert rig.names() == ["NdisInitiateOffload"]


def test_r_conc_01_nothing_reaches_the_target_for_an_object_being_offloaded() -> None:
    """R-CONC-01: nothing reaches the target for an object being offloaded."""
    rig = Rig()
    _, _, (tcb, _) = rig.tree(2)
    rig.act(lambda h: h.offload([tcb]))
    request = rig.take("NdisInitiateOffload")
    for forbidden in ("query", "update", "invalidate"):
        with pytest.raises(IllegalTransition, match="R-CONC-01"):
            rig.act(lambda h, name=forbidden: getattr(h, name)([tcb]))
    waiting = rig.act(lambda h: h.terminate([tcb]))
    rig.act(lambda h: h.send(tcb, b"more"))
    rig.act(lambda h: h.deliver(tcb, [b"segment"]))
    with pytest.raises(LocalProtocolError):
        rig.act(lambda h: h.receive(tcb, 10))
    assert rig.names() == []
    assert not waiting.done
    rig.sent.append((["NdisInitiateOffload", None, request[0]], ()))
    rig.initiated()
    assert "NdisTerminateOffload" in rig.names()


def test_connections_wait_for_a_path_that_is_on_its_way() -> None:
    rig = Rig()
    _, (path,), tcbs = rig.tree(1)
    rig.act(lambda h: h.offload(tcbs))
    more = synthetic.connections(path, 1, rng=rig.rng, first_port=1000)
    waiting = rig.act(lambda h: h.offload(more))
    assert rig.names() == ["NdisInitiateOffload"]
    with pytest.raises(IllegalTransition):
        rig.act(lambda h: h.offload(more))
    rig.initiated()
    assert rig.initiated() == [path, *more]
    assert waiting.succeeded


def test_what_waited_for_a_path_that_was_refused_offers_it_again() -> None:
    rig = Rig()
    neighbor, (path,), tcbs = rig.tree(1)
    rig.act(lambda h: h.offload(tcbs))
    more = synthetic.connections(path, 1, rng=rig.rng, first_port=1000)
    rig.act(lambda h: h.offload(more))
    rig.initiated(FAILURE)
    request = rig.take("NdisInitiateOffload")
    assert rig.named(request) == [neighbor, path, *more]


def test_r_init_05_partial_success_keeps_what_was_offloaded_and_returns_the_rest() -> None:
    """R-INIT-05: The worked example of "partial-offloads-and-offload-failures.md"."""
    rig = Rig()
    neighbor, (p1, p2), _ = rig.tree(0, paths=2)
    t1, t2 = synthetic.connections(p1, 2, rng=rig.rng)
    (t3,) = synthetic.connections(p2, 1, rng=rig.rng)
    operation = rig.act(lambda h: h.offload([t1, t2, t3]))
    resources = int(NdisStatus.RESOURCES)
    rig.initiated([PARTIAL, PARTIAL, SUCCESS, resources, FAILURE, FAILURE])
    assert [o.is_offloaded for o in (neighbor, p1, t1, t2, p2, t3)] == [True, True, True, False, False, False]
    assert [operation.status_of(o) for o in (neighbor, t2, t3)] == [PARTIAL, resources, FAILURE]
    assert (neighbor.dependents, p1.dependents, p2.dependents) == (1, 1, 0)
    assert rig.allocated == 3
    assert not operation.succeeded
    assert t2.connection_state is ConnectionState.IN_HOST
    rig.act(lambda h: h.offload([t2, t3]))
    assert rig.initiated() == [neighbor, p2, t3, None, p1, t2]
    assert (neighbor.dependents, p1.dependents, p2.dependents) == (2, 2, 1)


def test_r_hnd_02_success_without_a_context_is_a_violation_and_no_offload() -> None:
    """R-HND-02: success without a context is a violation and no offload."""
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    operation = rig.act(lambda h: h.offload([tcb]))
    request = rig.take("NdisInitiateOffload")
    rig.complete("ProtocolInitiateOffloadComplete", request, SUCCESS, **{Key.CONTEXT: [1, 2, None]})
    assert not tcb.is_offloaded
    assert "R-HND-02" in operation.reason_of(tcb)
    assert set(rig.violations()) == {"R-HND-02"}


def test_an_invalidated_path_is_not_offloaded_on() -> None:
    rig = Rig()
    _, (path,), _ = rig.offloaded(1)
    rig.act(lambda h: h.invalidate([path]))
    rig.complete("ProtocolInvalidateOffloadComplete", rig.take("NdisInvalidateOffload"))
    more = synthetic.connections(path, 1, rng=rig.rng, first_port=1000)
    operation = rig.act(lambda h: h.offload(more))
    assert operation.done
    assert "invalidated" in operation.reason_of(more[0])


def test_an_offloaded_connection_is_not_offered_twice() -> None:
    rig = Rig()
    _, _, tcbs = rig.offloaded(1)
    with pytest.raises(IllegalTransition):
        rig.act(lambda h: h.offload(tcbs))


# -- query, update, invalidate -----------------------------------------------------------------


def test_r_qry_01_a_second_query_may_run_beside_the_first() -> None:
    """R-QRY-01: a second query may run beside the first."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    first = rig.act(lambda h: h.query([tcb]))
    second = rig.act(lambda h: h.query([tcb], "const"))
    requests = [rig.take("NdisQueryOffloadState"), rig.take("NdisQueryOffloadState")]
    rig.complete("ProtocolQueryOffloadComplete", requests[1], **{Key.STATE: [pack_state([tcb.const])]})
    assert second.result_of(tcb) == (tcb.const,)
    assert not first.done
    meanwhile = tcb.state
    answer = TcpOffloadStateDelegated(state=tcb.delegated.state, rcv_nxt=77)
    rig.complete("ProtocolQueryOffloadComplete", requests[0], **{Key.STATE: [pack_state([answer])]})
    assert first.result_of(tcb) == (answer,)
    assert (meanwhile, tcb.state) == (State.QUERYING, State.OFFLOADED)
    assert tcb.delegated.rcv_nxt != 77


def test_r_qry_05_what_could_not_be_queried_is_terminated() -> None:
    """R-QRY-05: what could not be queried is terminated."""
    rig = Rig()
    _, _, tcbs = rig.offloaded(2)
    operation = rig.act(lambda h: h.query(tcbs))
    good = pack_state([tcbs[0].delegated])
    request = rig.take("NdisQueryOffloadState")
    rig.complete("ProtocolQueryOffloadComplete", request, [SUCCESS, FAILURE], **{Key.STATE: [good, None]})
    assert operation.result_of(tcbs[1]) is None
    rig.tick()
    assert rig.named(rig.take("NdisTerminateOffload")) == [tcbs[1]]


def test_r_qry_05_a_neighbor_that_could_not_be_queried_is_terminated_with_all_that_depends_on_it() -> None:
    """R-QRY-05: a neighbor that could not be queried is terminated with all that depends on it."""
    rig = Rig()
    neighbor, paths, tcbs = rig.offloaded(1, paths=2)
    rig.act(lambda h: h.query([neighbor]))
    rig.complete("ProtocolQueryOffloadComplete", rig.take("NdisQueryOffloadState"), FAILURE)
    rig.tick()
    named = rig.named(rig.take("NdisTerminateOffload"))
    assert {id(o) for o in named} == {id(o) for o in (neighbor, *paths, *tcbs)}


def test_a_query_that_succeeds_without_state_is_a_violation() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    operation = rig.act(lambda h: h.query([tcb]))
    rig.complete("ProtocolQueryOffloadComplete", rig.take("NdisQueryOffloadState"))
    assert operation.result_of(tcb) is None
    assert rig.violations() == ["R-QRY-03"]


def test_an_unknown_class_is_refused() -> None:
    rig = Rig()
    _, _, tcbs = rig.offloaded(1)
    with pytest.raises(LocalProtocolError, match="not a class of state"):
        rig.act(lambda h: h.query(tcbs, "all"))


def test_r_upd_07_a_new_mac_address_is_a_plain_update_of_the_neighbor() -> None:
    """R-UPD-07: a new mac address is a plain update of the neighbor."""
    rig = Rig()
    neighbor, _, _ = rig.offloaded(1)
    neighbor.cached.dl_destination_address = b"\2\0\0\0\0\xee"
    operation = rig.act(lambda h: h.update([neighbor]))
    blocks = rig.blocks(request := rig.take("NdisUpdateOffload"))
    assert len(blocks) == 1
    assert unpack_state(blocks[0].type, blocks[0].state or b"") == (neighbor.cached,)
    rig.complete("ProtocolUpdateOffloadComplete", request)
    assert operation.succeeded


def test_r_upd_08_a_path_mtu_goes_down_as_an_update() -> None:
    """R-UPD-08: a path mtu goes down as an update."""
    rig = Rig()
    _, (path,), _ = rig.offloaded(1)
    path.cached.path_mtu = 1280
    rig.act(lambda h: h.update([path]))
    block = rig.blocks(rig.take("NdisUpdateOffload"))[0]
    assert unpack_state(block.type, block.state or b"") == (path.cached,)


def test_r_upd_02_at_most_one_update_of_an_object_but_several_objects_at_once() -> None:
    """R-UPD-02: at most one update of an object but several objects at once."""
    rig = Rig()
    _, _, (a, b) = rig.offloaded(2)
    rig.act(lambda h: h.update([a]))
    with pytest.raises(IllegalTransition, match="R-UPD-02"):
        rig.act(lambda h: h.update([b, a]))
    assert b.state is State.OFFLOADED
    rig.act(lambda h: h.update([b]))
    assert rig.names() == ["NdisUpdateOffload"] * 2


def test_a_relink_moves_the_path_only_if_it_succeeded() -> None:
    rig = Rig()
    old, (p1, p2), _ = rig.offloaded(1, paths=2)
    new = synthetic.neighbor(b"\2\0\0\0\0\x77")
    rig.act(lambda h: h.offload([new]))
    rig.initiated()
    rig.act(lambda h: h.relink([p1, p2], new))
    assert (old.dependents, new.dependents) == (2, 2)
    rig.complete("ProtocolUpdateOffloadComplete", rig.take("NdisUpdateOffload"), [SUCCESS, SUCCESS, FAILURE])
    assert (p1.neighbor, p2.neighbor) == (new, old)
    assert (old.dependents, new.dependents) == (1, 1)


def test_r_upd_06_failover_invalidates_offloads_relinks_and_terminates_in_this_order() -> None:
    """R-UPD-06: failover invalidates offloads relinks and terminates in this order."""
    rig = Rig()
    old, paths, _ = rig.offloaded(1, paths=2)
    new = synthetic.neighbor(b"\2\0\0\0\0\x77")
    operation = rig.act(lambda h: h.failover(old, new))
    request = rig.take("NdisInvalidateOffload")
    assert rig.named(request) == [old]
    assert rig.names() == []
    rig.complete("ProtocolInvalidateOffloadComplete", request)
    assert rig.names() == ["NdisInitiateOffload"]
    rig.initiated()
    request = rig.take("NdisUpdateOffload")
    assert rig.named(request) == [new, *paths]
    assert rig.names() == []
    rig.complete("ProtocolUpdateOffloadComplete", request)
    rig.terminated()
    assert operation.succeeded
    assert not old.is_offloaded
    assert all(p.neighbor is new for p in paths)


def test_r_upd_06_a_relink_to_a_neighbor_that_is_not_offloaded_is_refused() -> None:
    """R-UPD-06: a relink to a neighbor that is not offloaded is refused."""
    rig = Rig()
    _, paths, _ = rig.offloaded(1)
    with pytest.raises(LocalProtocolError, match="R-UPD-06"):
        rig.act(lambda h: h.relink(paths, synthetic.neighbor(b"\2\0\0\0\0\x77")))


@pytest.mark.parametrize("operation", ["update", "invalidate"])
def test_a_failed_update_or_invalidate_leads_to_a_terminate(operation: str) -> None:
    rig = Rig()
    _, _, (tcb, _) = rig.offloaded(2)
    rig.act(lambda h: getattr(h, operation)([tcb]))
    name = operation.capitalize()
    rig.complete(f"Protocol{name}OffloadComplete", rig.take(f"Ndis{name}Offload"), FAILURE)
    assert tcb.state is State.OFFLOADED
    rig.tick()
    assert rig.named(rig.take("NdisTerminateOffload")) == [tcb]


# -- terminate ---------------------------------------------------------------------------------


def test_r_term_02_an_object_with_dependents_is_terminated_with_them_or_not_at_all() -> None:
    """R-TERM-02: an object with dependents is terminated with them or not at all."""
    rig = Rig()
    neighbor, (path,), tcbs = rig.offloaded(2)
    for objects in ([path], [neighbor], [path, tcbs[0]], [neighbor, *tcbs]):
        with pytest.raises(LocalProtocolError, match="R-TERM-02"):
            rig.act(lambda h, o=objects: h.terminate(o))
    assert rig.names() == []
    assert all(o.waiting is None and o.leaving == 0 for o in (neighbor, path, *tcbs))
    rig.act(lambda h: h.terminate([*tcbs, path, neighbor]))
    rig.terminated()
    assert (neighbor.dependents, path.dependents) == (0, 0)


def test_r_term_02_a_path_waits_for_dependents_that_are_just_being_terminated() -> None:
    """R-TERM-02: a path waits for dependents that are just being terminated."""
    rig = Rig()
    neighbor, (path,), tcbs = rig.offloaded(2)
    rig.act(lambda h: h.terminate(tcbs))
    lower = rig.act(lambda h: h.terminate([path, neighbor]))
    assert rig.names() == ["NdisTerminateOffload"]
    rig.terminated()
    rig.terminated()
    assert lower.succeeded
    assert rig.allocated == 0


def test_idle_takes_along_what_nothing_depends_on_any_more() -> None:
    rig = Rig()
    neighbor, (p1, p2), tcbs = rig.offloaded(1, paths=2)
    rig.act(lambda h: h.terminate([t for t in tcbs if t.path is p1], idle=True))
    assert set(rig.named(rig.take("NdisTerminateOffload"))) - {None} == {p1, tcbs[0]}
    assert neighbor.is_offloaded
    assert p2.is_offloaded


@pytest.mark.parametrize("busy", ["query", "update", "invalidate"])
def test_r_term_03_a_terminate_waits_for_what_is_in_flight(busy: str) -> None:
    """R-TERM-03: a terminate waits for what is in flight."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: getattr(h, busy)([tcb]))
    operation = rig.act(lambda h: h.terminate([tcb]))
    assert tcb.connection_state is ConnectionState.UPLOADING
    call = "NdisQueryOffloadState" if busy == "query" else f"Ndis{busy.capitalize()}Offload"
    assert rig.names() == [call]
    with pytest.raises(IllegalTransition, match="waiting to terminate"):
        rig.act(lambda h: h.query([tcb]))
    rig.complete(
        f"Protocol{busy.capitalize()}OffloadComplete",
        rig.take(call),
        **{Key.STATE: [pack_state([tcb.delegated])]},
    )
    assert rig.names() == ["NdisTerminateOffload"]
    rig.terminated()
    assert operation.succeeded


def test_r_state_04_the_delegated_values_of_a_terminate_are_the_hosts_again() -> None:
    """R-STATE-04: the delegated values of a terminate are the hosts again."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    final = TcpOffloadStateDelegated(
        state=TcpOffloadConnectionState.TcpConnectionCloseWait, rcv_nxt=5, snd_una=9, snd_nxt=9, snd_max=9
    )
    const, cached = tcb.const, tcb.cached
    rig.act(lambda h: h.terminate([tcb]))
    request = rig.take("NdisTerminateOffload")
    rig.complete("ProtocolTerminateOffloadComplete", request, **{Key.STATE: [pack_state([final])]})
    assert tcb.delegated == final
    assert (tcb.const, tcb.cached) == (const, cached)
    assert not tcb.lost


def test_r_dis_43_a_single_failing_terminate_ends_the_offload() -> None:
    """R-DIS-43: a single failing terminate ends the offload."""
    rig = Rig()
    _, (path,), (tcb,) = rig.offloaded(1)
    operation = rig.act(lambda h: h.terminate([tcb]))
    rig.complete("ProtocolTerminateOffloadComplete", rig.take("NdisTerminateOffload"), FAILURE)
    assert operation.done
    assert tcb.lost
    assert not tcb.is_offloaded
    assert path.dependents == 0
    assert rig.port.next_deadline() is not None
    rig.tick(1.0)
    assert tcb.handle is None
    assert rig.port.next_deadline() is None
    rig.act(lambda h: h.offload([tcb]))
    rig.initiated()
    assert not tcb.lost


@pytest.mark.parametrize("second", [SUCCESS, FAILURE])
def test_r_dis_43_the_doubled_terminate_is_accepted_too(second: int) -> None:
    """R-DIS-43: the doubled terminate is accepted too."""
    rig = Rig()
    _, (path,), (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.terminate([tcb]))
    rig.complete("ProtocolTerminateOffloadComplete", rig.take("NdisTerminateOffload"), FAILURE)
    rig.event(tcb, RETRIEVE, TcpUploadReason.HardwareFailure)
    rig.event(tcb, ABORT)
    rig.tick()
    rig.terminated(second)
    assert rig.names() == []
    assert tcb.state is State.GONE
    assert tcb.lost is (second == FAILURE)
    assert (path.dependents, path.leaving) == (0, 0)
    assert tcb.handle is None


def test_a_successful_terminate_without_state_is_a_violation_and_the_state_is_lost() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    operation = rig.act(lambda h: h.terminate([tcb]))
    rig.complete("ProtocolTerminateOffloadComplete", rig.take("NdisTerminateOffload"))
    assert tcb.lost
    assert tcb.state is State.GONE
    assert "R-TERM-17" in operation.reason_of(tcb)
    assert rig.violations() == ["R-TERM-17"]


def test_r_blk_10_a_list_that_is_not_outstanding_is_harmless() -> None:
    """R-BLK-10: a list that is not outstanding is harmless."""
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.update([tcb]))
    request = rig.take("NdisUpdateOffload")
    rig.complete("ProtocolUpdateOffloadComplete", request)
    rig.host.protocol_update_offload_complete(rig.context, rig.blocks(request))
    assert rig.violations() == ["R-BLK-10"]
    assert tcb.state is State.OFFLOADED


# -- what the driver below asks for ------------------------------------------------------------


@pytest.mark.parametrize("reason", sorted(MANDATORY_UPLOAD_REASONS))
def test_r_evt_04_and_r_evt_05_and_r_hwf_02_a_mandatory_request_leads_to_an_upload(
    reason: TcpUploadReason,
) -> None:
    """R-EVT-04, R-EVT-05, R-HWF-02: a mandatory request leads to an upload."""
    rig = Rig()
    _, _, tcbs = rig.offloaded(2)
    rig.event(tcbs[0], RETRIEVE, reason)
    rig.tick()
    assert rig.terminated() == tcbs[:1]
    assert [t.is_offloaded for t in tcbs] == [False, True]
    assert tcbs[0].upload_reason == reason


@pytest.mark.parametrize("reason", sorted(OPTIONAL_UPLOAD_REASONS))
@pytest.mark.parametrize("accept", [True, False])
def test_r_evt_06_optional_requests_are_the_owners_to_decide(reason: TcpUploadReason, accept: bool) -> None:
    """R-EVT-06: optional requests are the owners to decide."""
    asked = []

    def policy(tcb: object, why: int) -> bool:
        asked.append((tcb, why))
        return accept

    rig = Rig(upload_policy=policy)
    _, _, (tcb, _) = rig.offloaded(2)
    rig.event(tcb, RETRIEVE, reason)
    rig.tick()
    assert asked == [(tcb, reason)]
    assert ("NdisTerminateOffload" in rig.names()) is accept
    assert [e.accepted for e in rig.events(UploadIndicated)] == [accept]


def test_r_evt_17_an_abort_leads_to_an_upload() -> None:
    """R-EVT-17: an abort leads to an upload."""
    rig = Rig()
    _, _, (tcb, _) = rig.offloaded(2)
    rig.event(tcb, ABORT)
    rig.tick()
    assert rig.named(rig.take("NdisTerminateOffload")) == [tcb]
    assert tcb.reset


def test_many_requests_make_one_terminate() -> None:
    rig = Rig()
    _, _, tcbs = rig.offloaded(50)
    for tcb in tcbs:
        rig.event(tcb, RETRIEVE, TcpUploadReason.HardwareFailure)
        rig.event(tcb, ABORT)
    rig.tick()
    assert rig.named(rig.take("NdisTerminateOffload")) == tcbs
    assert rig.names() == []


def test_r_term_03_a_requested_upload_waits_for_a_query_and_delays_nothing_else() -> None:
    """R-TERM-03: a requested upload waits for a query and does not delay other requests."""
    rig = Rig()
    _, _, (a, b) = rig.offloaded(2)
    rig.act(lambda h: h.query([a]))
    for tcb in (a, b):
        rig.event(tcb, RETRIEVE, TcpUploadReason.UploadRequested)
    rig.tick()
    assert rig.named(rig.take("NdisTerminateOffload")) == [b]
    rig.complete(
        "ProtocolQueryOffloadComplete",
        rig.take("NdisQueryOffloadState"),
        **{Key.STATE: [pack_state([a.delegated])]},
    )
    assert rig.named(rig.take("NdisTerminateOffload")) == [a]


def test_a_request_that_comes_during_the_offload_is_carried_out_after_it() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.tree(1)
    rig.act(lambda h: h.offload([tcb]))
    rig.event(tcb, RETRIEVE, TcpUploadReason.UploadRequested)
    rig.tick()
    assert rig.names() == ["NdisInitiateOffload"]
    rig.initiated()
    rig.tick()
    assert rig.named(rig.take("NdisTerminateOffload")) == [tcb]


def test_events_for_strangers_are_violations() -> None:
    rig = Rig()
    rig.receive("ProtocolTcpOffloadEvent", 0x123, RETRIEVE, 1)
    _, _, (tcb,) = rig.offloaded(1)
    rig.event(tcb, 99)
    assert rig.violations() == ["R-HND-06", "R-EVT-01"]


def test_backlog_and_disconnect_are_noted() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.event(tcb, int(TcpOffloadEventType.TcpIndicateSendBacklogChange), 4096)
    rig.event(tcb, int(TcpOffloadEventType.TcpIndicateDisconnect))
    assert tcb.send_backlog == 4096
    assert tcb.remote_closed
    assert tcb.is_offloaded


# -- pause, resume, upload all -----------------------------------------------------------------


def test_r_pause_04_after_a_pause_nothing_is_offloaded_until_the_capabilities_were_asked_for_again() -> None:
    """R-PAUSE-04: after a pause nothing is offloaded until the capabilities were asked for again."""
    rig = Rig()
    _, _, tcbs = rig.tree(1)
    rig.status(NdisStatus.OFFLOAD_PAUSE)
    operation = rig.act(lambda h: h.offload(tcbs))
    assert operation.done
    assert set(operation.statuses) == {NdisStatus.PAUSED}
    rig.status(NdisStatus.OFFLOAD_RESUME)
    assert "asking" in rig.act(lambda h: h.offload(tcbs)).refused
    asked = rig.answer_oids(capacity=3)
    assert (asked[0]["RequestType"], asked[0]["Oid"]) == (0, Oid.OID_TCP_TASK_OFFLOAD)
    assert rig.host.chimney.capacity == 3
    rig.act(lambda h: h.offload(tcbs))
    assert rig.names() == ["NdisInitiateOffload"]


def test_r_pause_06_upload_all_takes_connections_first_and_everything_in_the_end() -> None:
    """R-PAUSE-06: upload all takes connections first and everything in the end."""
    rig = Rig()
    _, _, tcbs = rig.offloaded(2, paths=2)
    rig.status(NdisStatus.UPLOAD_ALL)
    request = rig.take("NdisTerminateOffload")
    assert rig.named(request) == tcbs
    assert rig.names() == []
    assert rig.act(lambda h: h.offload(tcbs[:1]) if not tcbs[0].is_offloaded else None) is None
    rig.sent.append((["NdisTerminateOffload", None, request[0]], ()))
    rig.terminated()
    rig.terminated()
    assert rig.allocated == 0
    assert not rig.host.can_offload


def test_r_pause_06_upload_all_waits_for_an_initiate_that_was_on_its_way() -> None:
    """R-PAUSE-06: upload all waits for an initiate that was on its way."""
    rig = Rig()
    _, (path,), tcbs = rig.tree(1)
    rig.act(lambda h: h.offload(tcbs))
    late = rig.act(lambda h: h.offload(synthetic.connections(path, 1, rng=rig.rng, first_port=1000)))
    rig.status(NdisStatus.UPLOAD_ALL)
    assert late.done
    assert late.refused
    rig.initiated()
    rig.terminated()
    rig.terminated()
    assert rig.allocated == 0


# -- reachability ------------------------------------------------------------------------------


@pytest.mark.parametrize(("reachable", "age", "answer"), [(True, 40, 40), (True, 0, 1), (False, 40, 0)])
def test_r_nud_08_the_answer_is_zero_for_a_stale_entry_and_nonzero_for_a_reachable_one(
    reachable: bool, age: int, answer: int
) -> None:
    """R-NUD-08: the answer is zero for a stale entry and nonzero for a reachable one."""
    rig = Rig()
    neighbor, _, _ = rig.offloaded(1)
    neighbor.reachable = reachable
    neighbor.cached.host_reachability_delta = age
    state = pack_state(neighbor.whole())
    rig.receive(
        "ProtocolIndicateOffloadEvent",
        rig.context,
        {"Block": [0x777], "Type": [4], "State": [state]},
        2,
        call_id=33,
    )
    _, columns = rig.returned()
    cached = unpack_state(4, columns["State"][0])[1]
    assert isinstance(cached, NeighborOffloadStateCached)
    assert cached.host_reachability_delta == answer


def test_a_neighbor_that_the_host_does_not_know_is_stale_and_other_indications_go_back_unread() -> None:
    rig = Rig()
    stranger = synthetic.neighbor(b"\2\7\7\7\7\7", confirmed=9)
    state = pack_state(stranger.whole())
    rig.receive(
        "ProtocolIndicateOffloadEvent",
        rig.context,
        {"Block": [0x777], "Type": [4], "State": [state]},
        2,
        call_id=33,
    )
    cached = unpack_state(4, rig.returned()[1]["State"][0])[1]
    assert isinstance(cached, NeighborOffloadStateCached)
    assert cached.host_reachability_delta == 0
    rig.receive("ProtocolIndicateOffloadEvent", rig.context, None, 1, call_id=34)
    assert rig.returned() == [None, None]
    rig.receive(
        "ProtocolIndicateOffloadEvent",
        rig.context,
        {"Block": [0x777], "Type": [4], "State": [b"x"]},
        2,
        call_id=35,
    )
    assert rig.violations() == ["R-NUD-06"]


# -- further ends of operations ----------------------------------------------------------------


def test_an_operation_on_nothing_is_done_at_once_and_sends_nothing() -> None:
    rig = Rig()
    for name in ("offload", "query", "update", "invalidate", "terminate"):
        operation = rig.act(lambda h, n=name: getattr(h, n)([]))
        assert operation.done
        assert operation.succeeded
    assert rig.names() == []


@pytest.mark.parametrize(
    ("call", "status", "why"),
    [
        ("NdisInvalidateOffload", FAILURE, None),
        ("NdisInitiateOffload", FAILURE, "was not offloaded"),
        ("NdisUpdateOffload", FAILURE, "were not moved"),
        ("NdisTerminateOffload", FAILURE, "was not terminated"),
    ],
)
def test_a_failover_says_which_of_its_steps_failed(call: str, status: int, why: str | None) -> None:
    rig = Rig()
    old, _, _ = rig.offloaded(1)
    new = synthetic.neighbor(b"\2\0\0\0\0\x77")
    operation = rig.act(lambda h: h.failover(old, new))
    while not operation.done:
        name = rig.names()[0]
        outcome = status if name == call else SUCCESS
        if name == "NdisInitiateOffload":
            rig.initiated(outcome)
        elif name == "NdisTerminateOffload":
            rig.terminated(outcome)
        else:
            done = name.replace("Ndis", "Protocol") + "Complete"
            rig.complete(done, rig.take(name), outcome)
    assert (operation.refused is None) if why is None else (why in operation.refused)


def test_a_failover_from_a_neighbor_that_is_not_offloaded_is_the_callers_mistake() -> None:
    rig = Rig()
    old, new = synthetic.neighbor(b"\2\0\0\0\0\1"), synthetic.neighbor(b"\2\0\0\0\0\2")
    with pytest.raises(IllegalTransition):
        rig.act(lambda h: h.failover(old, new))


def test_an_oid_completion_without_a_request_is_a_violation() -> None:
    rig = Rig()
    request = {"RequestType": 0, "Oid": 1, "InformationBuffer": None, "RequestId": 4711}
    rig.receive("ProtocolOidRequestComplete", rig.context, request, SUCCESS, "")
    assert rig.violations() == ["R-OID-01"]


def test_capabilities_that_are_not_well_formed_are_refused() -> None:
    rig = Rig(enabled=False)
    rig.bind()
    (_, request), _ = rig.take("NdisOidRequest")
    answer = {**request, "InformationBuffer": {"Nonsense": 1}}
    rig.receive("ProtocolOidRequestComplete", rig.context, answer, SUCCESS, "")
    assert rig.host.chimney.state == "refused"
    assert len(rig.violations()) == 1


def test_what_waits_and_then_cannot_be_packed_is_refused_and_not_raised() -> None:
    rig = Rig()
    _, (path,), tcbs = rig.tree(1)
    rig.act(lambda h: h.offload(tcbs))
    (late,) = synthetic.connections(path, 1, rng=rig.rng, first_port=1000)
    operation = rig.act(lambda h: h.offload([late]))
    late.const.remote_port = 1 << 20
    rig.initiated()
    assert operation.done
    assert "RemotePort" in operation.refused
    assert late.handle is None
    assert late.waiting is None
    assert path.dependents == 1


def test_a_terminate_that_waited_for_a_refused_offload_has_nothing_to_do() -> None:
    rig = Rig()
    _, (path,), tcbs = rig.tree(1)
    rig.act(lambda h: h.offload(tcbs))
    operation = rig.act(lambda h: h.terminate(tcbs))
    rig.initiated(FAILURE)
    assert operation.done
    assert rig.names() == []
    assert (path.dependents, path.leaving) == (0, 0)
    assert tcbs[0].waiting is None
