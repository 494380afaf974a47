"""The ordinary data path through NDIS: frames down and up, and who owns their lists when."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.core import CoreConfig
from ndisbus.ddi.enums import NDIS_RECEIVE_FLAGS_RESOURCES
from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.frame_lists import PACKET_SIZE
from tests.support.core_bench import Bench, Client, Host, Im, Nic

ABORTED, PAUSED = int(NdisStatus.SEND_ABORTED), int(NdisStatus.PAUSED)
SEND, SENT = "NdisSendNetBufferLists", "ProtocolSendNetBufferListsComplete"
TO_SEND, COMPLETE = "MiniportSendNetBufferLists", "NdisMSendNetBufferListsComplete"
INDICATE, RECEIVE = "NdisMIndicateReceiveNetBufferLists", "ProtocolReceiveNetBufferLists"
RETURN, RETURNED = "NdisReturnNetBufferLists", "MiniportReturnNetBufferLists"
FRAMES = (b"first frame", b"second", b"the third one")


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def nic(bench: Bench) -> Nic:
    return bench.client(Nic, "nic").start("nic0")


@pytest.fixture
def host(bench: Bench, nic: Nic) -> Host:
    return bench.client(Host, "host").start("nic0", enable=False)


def packed(client: Client, source: int, frames: tuple[bytes, ...] = FRAMES, **changes: Any) -> dict[str, Any]:
    """Columns of fresh lists with these frames; a value of ... leaves a column out."""
    columns = {
        "NetBufferList": list(client.heap.addresses(len(frames), PACKET_SIZE)),
        "SourceHandle": source,
        "DataLength": [len(f) for f in frames],
    }
    return {k: v for k, v in (columns | changes).items() if v is not ...}


def send(host: Host, frames: tuple[bytes, ...] = FRAMES, **changes: Any) -> list[int]:
    """Send frames through the first binding; the addresses of their lists."""
    columns = packed(host, host.binding, frames, **changes)
    host.send(SEND, host.binding, columns, 0, 0, frames=[b"".join(frames)])
    return list(columns["NetBufferList"])


def complete(nic: Nic, lists: list[int], source: int | None, status: int = 0, flags: int = 0) -> None:
    columns = {"NetBufferList": lists, "SourceHandle": source, "Status": [status] * len(lists)}
    nic.send(COMPLETE, nic.handle, columns, flags)


def indicate(nic: Nic, frames: tuple[bytes, ...] = FRAMES, flags: int = 0, **changes: Any) -> list[int]:
    """Indicate frames; the addresses of their lists."""
    columns = packed(nic, nic.handle, frames, **changes)
    nic.send(INDICATE, nic.handle, columns, 0, len(frames), flags, frames=[b"".join(frames)])
    return list(columns["NetBufferList"])


def give_back(host: Host, lists: list[int], source: int) -> None:
    host.send(RETURN, host.binding, {"NetBufferList": lists, "SourceHandle": source}, 0)


def held(bench: Bench) -> int:
    """Every list that NDIS believes to be with a driver."""
    core = bench.core
    adapters: int = sum(len(a.sends) + len(a.indicated) for a in core.registry.adapters.values())
    bindings: int = sum(b.outstanding + len(b.received) for b in core.registry.bindings.values())
    return adapters + bindings


def gone(bench: Bench) -> list[str]:
    """Who was cut off."""
    return [p.name for p in bench.clients.values() if p.closed is not None]


def statuses(host: Host) -> dict[int, int]:
    """The status of each list that came back, each once."""
    found: dict[int, int] = {}
    while SENT in host.names():
        columns = host.take(SENT)[2][1]
        for a, s in zip(columns["NetBufferList"], columns["Status"], strict=True):
            assert a not in found
            found[a] = s
    return found


# -- down ----------------------------------------------------------------------------------------------


def test_frames_go_down_and_their_lists_come_back(bench: Bench, host: Host, nic: Nic) -> None:
    lists = send(host)
    message, frames = nic.take_with_frames(TO_SEND)
    context, columns, port, flags = message[2]
    assert (context, port, flags) == (nic.contexts["nic0"], 0, 0)
    assert columns == {
        "NetBufferList": lists,
        "SourceHandle": host.binding,
        "DataLength": [len(f) for f in FRAMES],
    }
    assert list(frames) == [b"".join(FRAMES)]
    assert held(bench) == 2 * len(FRAMES)  # on the adapter, and on the binding
    complete(nic, lists, columns["SourceHandle"], flags=1)
    assert host.take(SENT)[2] == [
        host.contexts_of["nic0"],
        {"NetBufferList": lists, "SourceHandle": host.binding, "Status": [0, 0, 0]},
        1,
    ]
    assert held(bench) == 0


def test_port_and_flags_pass_unchanged(host: Host, nic: Nic) -> None:
    columns = packed(host, host.binding)
    host.send(SEND, host.binding, columns, 7, 3, frames=[b"".join(FRAMES)])
    assert nic.take(TO_SEND)[2][2:] == [7, 3]


def test_lists_of_any_make_travel_with_their_descriptors(host: Host, nic: Nic) -> None:
    """What is not one frame per list is described as for the chimney, and NDIS does not read it."""
    columns = {
        "NetBufferList": [host.heap.address()],
        "SourceHandle": host.binding,
        "NetBufferLists": [[{"any": "thing"}]],
    }
    host.send(SEND, host.binding, columns, 0, 0, frames=[b"a", b"b"])
    message, frames = nic.take_with_frames(TO_SEND)
    assert (message[2][1], list(frames)) == (columns, [b"a", b"b"])


def test_completions_may_split_and_gather_calls(bench: Bench, host: Host, nic: Nic) -> None:
    """In any order; lists of one binding come in one call unless some of them have a Context."""
    first, second = send(host), send(host)
    third = send(host, Context=0x5)
    complete(nic, [second[1]], host.binding)
    assert statuses(host) == {second[1]: 0}
    complete(nic, [third[0], first[0], second[0]], host.binding, ABORTED)
    done = [host.take(SENT)[2][1] for _ in range(2)]
    assert sorted((d["NetBufferList"], d.get("Context")) for d in done) == sorted(
        [([third[0]], 5), ([first[0], second[0]], None)]
    )
    assert held(bench) == 2 * 5


def test_lists_of_several_bindings_in_one_completion_are_sorted_out(
    bench: Bench, host: Host, nic: Nic
) -> None:
    other = bench.client(Host, "other").start("nic0", enable=False)
    mine, theirs = send(host), send(other)
    complete(nic, [*theirs, *mine], None)
    assert statuses(host) == dict.fromkeys(mine, 0)
    assert statuses(other) == dict.fromkeys(theirs, 0)
    assert held(bench) == 0


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"SourceHandle": 5}, "NetBufferLists.SourceHandle"),
        ({"SourceHandle": ...}, "NetBufferLists.SourceHandle"),
        ({"DataLength": ...}, "NetBufferLists"),
        ({"DataLength": [1, 2, 3]}, "NetBufferLists.DataLength"),
        ({"DataLength": [30, 0, 0]}, "NetBufferLists.DataLength"),
        ({"DataLength": [40, -10, 0]}, "NetBufferLists.DataLength"),
        ({"DataLength": 30}, "NetBufferLists.DataLength"),
        ({"NetBufferLists": []}, "NetBufferLists.NetBufferLists"),
        ({"NetBufferList": []}, "NetBufferLists.NetBufferList"),
        ({"NetBufferList": [1, 1, 2]}, "NetBufferLists.NetBufferList"),
        ({"NetBufferList": [1, 2, "3"]}, "NetBufferLists.NetBufferList"),
        ({"NetBufferList": [1, 2, 3]}, "NetBufferLists"),
        ({"Context": -1}, "NetBufferLists.Context"),
        ({"Surprise": 1}, "NetBufferLists.Surprise"),
    ],
)
def test_a_send_that_makes_no_sense_is_a_bug_check(
    bench: Bench, host: Host, nic: Nic, changes: dict[str, Any], parameter: str
) -> None:
    send(host, **changes)
    assert (bench.bug_check.driver, bench.bug_check.parameter) == ("host", parameter)
    assert nic.names() == []


def test_a_list_is_sent_once_at_a_time(bench: Bench, host: Host, nic: Nic) -> None:
    lists = send(host)
    send(host, NetBufferList=lists)
    assert "outstanding" in bench.bug_check.reason


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"Status": ...}, "NetBufferList.Status"),
        ({"Status": [0, 0]}, "NetBufferList.Status"),
        ({"Status": [0, 0, int(NdisStatus.UPLOAD_IN_PROGRESS)]}, "NetBufferList.Status"),
        ({"SourceHandle": 5}, "NetBufferList.SourceHandle"),
        ({"SourceHandle": ...}, "NetBufferList.SourceHandle"),
        ({"NetBufferList": [1, 2, 3]}, "NetBufferList"),
        ({"DataLength": [1, 2, 3]}, "NetBufferList"),
    ],
)
def test_a_completion_that_differs_from_the_send_is_a_bug_check(
    bench: Bench, host: Host, nic: Nic, changes: dict[str, Any], parameter: str
) -> None:
    """And what the driver below had is completed all the same, by NDIS."""
    lists = send(host)
    good = {"NetBufferList": lists, "SourceHandle": host.binding, "Status": [0, 0, 0]}
    columns = {k: v for k, v in (good | changes).items() if v is not ...}
    nic.send(COMPLETE, nic.handle, columns, 0)
    assert (bench.bug_check.driver, bench.bug_check.parameter) == ("nic", parameter)
    assert statuses(host) == dict.fromkeys(lists, ABORTED)


def test_a_second_completion_is_a_bug_check(bench: Bench, host: Host, nic: Nic) -> None:
    lists = send(host)
    for _ in range(2):
        complete(nic, lists, host.binding)
    assert "not outstanding" in bench.bug_check.reason
    assert statuses(host) == dict.fromkeys(lists, 0)


# -- up ------------------------------------------------------------------------------------------------


def test_every_binding_sees_a_frame_and_the_miniport_gets_its_list_from_the_last(
    bench: Bench, host: Host, nic: Nic
) -> None:
    other = bench.client(Host, "other").start("nic0", enable=False)
    lists = indicate(nic)
    for protocol in (host, other):
        message, frames = protocol.take_with_frames(RECEIVE)
        context, columns, port, count, flags = message[2]
        assert (context, port, count, flags) == (protocol.contexts_of["nic0"], 0, 3, 0)
        assert (columns["NetBufferList"], columns["SourceHandle"]) == (lists, nic.handle)
        assert list(frames) == [b"".join(FRAMES)]
    give_back(host, lists, nic.handle)
    assert nic.names() == []
    give_back(other, lists[1:], nic.handle)
    give_back(other, lists[:1], nic.handle)
    back = [nic.take(RETURNED)[2] for _ in range(2)]
    assert [b[0] for b in back] == [nic.contexts["nic0"]] * 2
    assert [b[1] for b in back] == [
        {"NetBufferList": lists[1:], "SourceHandle": nic.handle},
        {"NetBufferList": lists[:1], "SourceHandle": nic.handle},
    ]
    assert held(bench) == 0


def test_an_indication_without_a_binding_goes_back_at_once(bench: Bench, nic: Nic) -> None:
    lists = indicate(nic)
    assert nic.take(RETURNED)[2][1]["NetBufferList"] == lists
    assert held(bench) == 0


def test_lists_indicated_with_resources_are_not_returned(bench: Bench, host: Host, nic: Nic) -> None:
    """The miniport has them back as soon as the call is made, and may indicate them again."""
    lists = indicate(nic, flags=NDIS_RECEIVE_FLAGS_RESOURCES)
    assert held(bench) == 0
    indicate(nic, flags=NDIS_RECEIVE_FLAGS_RESOURCES, NetBufferList=lists)
    assert host.names() == [RECEIVE, RECEIVE]
    assert nic.names() == []
    give_back(host, lists, nic.handle)
    assert "not indicated" in bench.bug_check.reason


@pytest.mark.parametrize(
    ("count", "changes", "parameter"),
    [
        (3, {"SourceHandle": 5}, "NetBufferLists.SourceHandle"),
        (3, {"SourceHandle": ...}, "NetBufferLists.SourceHandle"),
        (2, {}, "NumberOfNetBufferLists"),
        (3, {"NetBufferList": [1, 2, 3]}, "NetBufferLists"),
        (3, {"DataLength": ...}, "NetBufferLists"),
    ],
)
def test_an_indication_that_makes_no_sense_is_a_bug_check(
    bench: Bench, host: Host, nic: Nic, count: int, changes: dict[str, Any], parameter: str
) -> None:
    nic.send(INDICATE, nic.handle, packed(nic, nic.handle, **changes), 0, count, 0, frames=[b"".join(FRAMES)])
    assert (bench.bug_check.driver, bench.bug_check.parameter) == ("nic", parameter)
    assert RECEIVE not in host.names()


def test_a_list_is_indicated_once_at_a_time(bench: Bench, host: Host, nic: Nic) -> None:
    lists = indicate(nic)
    indicate(nic, NetBufferList=lists)
    assert "already with the layers above" in bench.bug_check.reason


@pytest.mark.parametrize("wrong", ["list", "source", "twice", "contents"])
def test_a_return_of_what_was_not_indicated_is_a_bug_check(
    bench: Bench, host: Host, nic: Nic, wrong: str
) -> None:
    """And the lists go back to the miniport, which has done nothing wrong."""
    lists = indicate(nic)
    columns: dict[str, Any] = {"NetBufferList": list(lists), "SourceHandle": nic.handle}
    if wrong == "list":
        columns["NetBufferList"][1] = nic.heap.address()
    elif wrong == "source":
        columns["SourceHandle"] = host.binding
    elif wrong == "contents":
        columns["DataLength"] = [len(f) for f in FRAMES]
    else:
        host.send(RETURN, host.binding, columns, 0)
    host.send(RETURN, host.binding, columns, 0)
    assert bench.bug_check.driver == "host"
    assert nic.take(RETURNED)[2][1]["NetBufferList"] == lists
    assert nic.names() == []
    assert held(bench) == 0


# -- in the middle -------------------------------------------------------------------------------------


@pytest.fixture
def im(bench: Bench, nic: Nic) -> Im:
    return bench.client(Im, "im").start("im0-a", "im0-b")


@pytest.fixture
def above(bench: Bench, im: Im) -> Host:
    return bench.client(Host, "above").start("im0-a", enable=False)


def pass_on(im: Im) -> list[int]:
    """The oldest send goes on below, under the intermediate driver's own SourceHandle."""
    message, frames = im.take_with_frames(TO_SEND)
    columns = message[2][1] | {"SourceHandle": im.binding, "Context": 0x99}
    im.send(SEND, im.binding, columns, 0, 0, frames=frames)
    return list(columns["NetBufferList"])


def test_lists_that_were_lent_are_passed_on_with_another_source_handle(
    bench: Bench, above: Host, im: Im, nic: Nic
) -> None:
    lists = send(above)
    assert pass_on(im) == lists
    complete(nic, lists, nic.take(TO_SEND)[2][1]["SourceHandle"])
    columns = im.take(SENT)[2][1]
    assert (columns["SourceHandle"], columns["Context"]) == (im.binding, 0x99)
    complete(im, lists, above.binding)
    assert statuses(above) == dict.fromkeys(lists, 0)
    assert held(bench) == 0


def test_a_completion_under_the_source_handle_from_below_is_a_bug_check(
    bench: Bench, above: Host, im: Im, nic: Nic
) -> None:
    """An intermediate driver has to put back the SourceHandle that it found."""
    lists = send(above)
    pass_on(im)
    complete(nic, lists, im.binding)
    complete(im, lists, im.binding)
    assert (bench.bug_check.driver, bench.bug_check.parameter) == ("im", "NetBufferList.SourceHandle")
    assert statuses(above) == dict.fromkeys(lists, ABORTED)


def test_indications_pass_on_to_several_adapters_and_back(
    bench: Bench, above: Host, im: Im, nic: Nic
) -> None:
    lists = indicate(nic)
    message, frames = im.take_with_frames(RECEIVE)
    for handle in im.handles.values():
        columns = message[2][1] | {"SourceHandle": handle}
        im.send(INDICATE, handle, columns, 0, 3, 0, frames=frames)
    assert im.take(RETURNED)[2][0] == im.contexts["im0-b"]  # no protocol is bound there
    give_back(above, lists, im.handles["im0-a"])
    assert im.take(RETURNED)[2][0] == im.contexts["im0-a"]
    assert nic.names() == []
    give_back(im, lists, nic.handle)
    assert nic.take(RETURNED)[2][1]["NetBufferList"] == lists
    assert held(bench) == 0


def test_an_indication_of_lists_that_have_gone_back_is_a_bug_check(
    bench: Bench, above: Host, im: Im, nic: Nic
) -> None:
    indicate(nic)
    message, frames = im.take_with_frames(RECEIVE)
    give_back(im, message[2][1]["NetBufferList"], nic.handle)
    columns = message[2][1] | {"SourceHandle": im.handle}
    im.send(INDICATE, im.handle, columns, 0, 3, 0, frames=frames)
    assert bench.bug_check.driver == "im"


def test_indications_with_resources_pass_on_with_resources(
    bench: Bench, above: Host, im: Im, nic: Nic
) -> None:
    """Without the flag they would have to come back, but no driver has them any more."""
    for flags, good in ((NDIS_RECEIVE_FLAGS_RESOURCES, True), (0, False)):
        indicate(nic, flags=NDIS_RECEIVE_FLAGS_RESOURCES)
        message, frames = im.take_with_frames(RECEIVE)
        columns = message[2][1] | {"SourceHandle": im.handle}
        im.send(INDICATE, im.handle, columns, 0, 3, flags, frames=frames)
        assert (bench.core.bug_checks.reports == []) is good
    assert above.names().count(RECEIVE) == 1


# -- deaths --------------------------------------------------------------------------------------------


def test_a_dead_miniport_completes_what_it_had_and_returns_nothing(
    bench: Bench, host: Host, nic: Nic
) -> None:
    lists, indicated = send(host), indicate(nic)
    nic.send("goodbye")
    assert statuses(host) == dict.fromkeys(lists, ABORTED)
    late = send(host)
    assert statuses(host) == dict.fromkeys(late, PAUSED)
    host.take(RECEIVE)
    give_back(host, indicated, nic.handles["nic0"])
    assert bench.core.bug_checks.reports == []
    assert held(bench) == 0


def test_lists_in_the_hands_of_a_dead_protocol_go_back(bench: Bench, host: Host, nic: Nic) -> None:
    lists = indicate(nic)
    host.send("goodbye")
    assert nic.take(RETURNED)[2][1]["NetBufferList"] == lists
    assert held(bench) == 0


def test_sends_of_a_dead_protocol_are_completed_by_the_miniport_alone(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """The binding is there until then: the miniport reads memory that was lent through it."""
    lists, handle = send(host), host.binding
    host.send("goodbye")
    assert handle in bench.core.registry.bindings
    complete(nic, lists, handle)
    assert handle not in bench.core.registry.bindings
    assert bench.core.bug_checks.reports == []
    assert held(bench) == 0


def test_a_list_that_comes_again_before_it_is_back_from_below_is_aborted(
    bench: Bench, above: Host, im: Im, nic: Nic
) -> None:
    """The intermediate driver died with it; its next life passes it down once more."""
    lists = send(above)
    pass_on(im)
    old = im.binding
    im.send("goodbye")
    assert statuses(above) == dict.fromkeys(lists, ABORTED)
    above.answer(above.take("ProtocolUnbindAdapterEx"), 0)
    im.hello()
    im.start("im0-a")
    above.bind()
    above.bindings = {"im0-a": above.bindings["im0-a"]}
    send(above, NetBufferList=lists)
    pass_on(im)
    assert im.take(SENT)[2][1]["Status"] == [ABORTED] * 3
    nic.take(TO_SEND)
    assert TO_SEND not in nic.names()
    complete(nic, lists, old)
    assert bench.core.bug_checks.reports == []


def test_a_binding_closes_when_its_sends_are_back_and_its_lists_are_taken_back(
    bench: Bench, host: Host, nic: Nic
) -> None:
    sent, indicated = send(host), indicate(nic)
    assert host.call("NdisCloseAdapterEx", host.binding) == [0]
    assert nic.take(RETURNED)[2][1]["NetBufferList"] == indicated
    assert "ProtocolCloseAdapterCompleteEx" not in host.names()
    give_back(host, indicated, nic.handle)  # crossed the closing
    complete(nic, sent, host.binding)
    assert statuses(host) == dict.fromkeys(sent, 0)
    assert "ProtocolCloseAdapterCompleteEx" in host.names()
    assert bench.core.bug_checks.reports == []
    assert held(bench) == 0


def test_what_comes_through_a_binding_closed_by_force_fails_quietly(
    bench: Bench, host: Host, nic: Nic
) -> None:
    im = bench.client(Im, "im").start("im0-a")
    above = bench.client(Host, "above").start("im0-a", enable=False)
    columns = packed(im, im.handle)
    im.send(INDICATE, im.handle, columns, 0, 3, 0, frames=[b"".join(FRAMES)])
    im.send("NdisIMDeInitializeDeviceInstance", im.handle, call_id=im.next_id())
    bench.tick(bench.core.config.unbind_limit + 0.1)
    assert im.take(RETURNED)[2][1]["NetBufferList"] == columns["NetBufferList"]
    lists = send(above)
    assert statuses(above) == dict.fromkeys(lists, PAUSED)
    give_back(above, columns["NetBufferList"], im.handle)
    assert bench.core.bug_checks.reports == []


def test_an_intermediate_driver_may_be_late_with_lists_that_ndis_took_back(
    bench: Bench, above: Host, im: Im, nic: Nic
) -> None:
    """It was stalled while its binding was closed by force, and passes on what it finds in its queue."""
    indicate(nic)
    message, frames = im.take_with_frames(RECEIVE)
    bench.core.bindings.close(bench.core.registry.bindings[im.binding])
    bench.route()
    assert nic.take(RETURNED)[2][1]["NetBufferList"] == message[2][1]["NetBufferList"]
    columns = message[2][1] | {"SourceHandle": im.handle}
    im.send(INDICATE, im.handle, columns, 0, 3, 0, frames=frames)
    assert bench.core.bug_checks.reports == []
    assert RECEIVE not in above.names()


def test_a_miniport_that_sits_on_a_send_is_taken_for_hung() -> None:
    bench = Bench(CoreConfig(request_limit=3.0))
    nic = bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start("im0-a")
    above = bench.client(Host, "above").start("im0-a", enable=False)
    lists = send(above)
    pass_on(im)
    bench.tick(3.5)
    assert gone(bench) == ["nic"]  # a driver below the intermediate one had it
    assert nic.closed is not None
    assert "NdisSendNetBufferLists" in nic.closed["Reason"]
    # From now on it has them to itself.
    bench.tick(2.0)
    assert gone(bench) == ["nic"]
    bench.tick(2.0)
    assert gone(bench) == ["nic", "im"]
    assert statuses(above) == dict.fromkeys(lists, ABORTED)


# -- faults, trace, ps ---------------------------------------------------------------------------------


@pytest.fixture
def user(bench: Bench) -> Client:
    return bench.client(Client, "user")


@pytest.mark.parametrize("call", [SEND, TO_SEND])
def test_a_send_fails_with_the_given_status(
    bench: Bench, host: Host, nic: Nic, user: Client, call: str
) -> None:
    user.control("fault.add", Action="fail", Call=call, Status="RESOURCES", Times=1)
    lists = send(host, Context=7)
    bench.tick(0)
    assert nic.names() == []
    done = host.take(SENT)[2][1]
    assert (done["NetBufferList"], done["Context"]) == (lists, 7)
    assert done["Status"] == [int(NdisStatus.RESOURCES)] * 3
    assert held(bench) == 0
    send(host)
    assert nic.names() == [TO_SEND]


@pytest.mark.parametrize("call", [INDICATE, RECEIVE])
def test_frames_that_a_fault_drops_are_lost_and_their_lists_are_not(
    bench: Bench, host: Host, nic: Nic, user: Client, call: str
) -> None:
    user.control("fault.add", Action="drop", Call=call, Nth=2)
    first, second = indicate(nic), indicate(nic)
    bench.tick(0)
    assert nic.take(RETURNED)[2][1]["NetBufferList"] == second
    assert host.take(RECEIVE)[2][1]["NetBufferList"] == first
    assert host.names() == []
    give_back(host, first, nic.handle)
    assert held(bench) == 0


@pytest.mark.parametrize("params", [(), (1,), (1, {"NetBufferList": [1]}, 0, 1, None)])
def test_a_malformed_indication_can_be_dropped(
    bench: Bench, nic: Nic, user: Client, params: tuple[Any, ...]
) -> None:
    """The fault decides before the call is checked: it never arrived, so it is not a bug check."""
    user.control("fault.add", Action="drop", Call=INDICATE)
    nic.send(INDICATE, *params)
    assert bench.core.bug_checks.reports == []


@pytest.mark.parametrize("call", [TO_SEND, COMPLETE])
def test_a_send_that_a_fault_takes_away_does_not_prevent_closing(
    bench: Bench, host: Host, nic: Nic, user: Client, call: str
) -> None:
    user.control("fault.add", Action="drop", Call=call)
    lists = send(host)
    if call == COMPLETE:
        complete(nic, lists, host.binding)
    bench.tick(20.0)  # not the miniport's fault
    assert nic.closed is None
    assert statuses(host) == {}
    host.call("NdisCloseAdapterEx", host.binding)
    assert statuses(host) == dict.fromkeys(lists, ABORTED)
    assert held(bench) == 0


@pytest.mark.parametrize("ending", ["close", "goodbye"])
def test_a_send_that_a_fault_delays_keeps_its_binding(
    bench: Bench, host: Host, nic: Nic, user: Client, ending: str
) -> None:
    """It is completed before the binding is closed: it went down too late to be passed on."""
    user.control("fault.add", Action="delay", Call=SEND, Delay=1.0)
    lists, handle = send(host), host.binding
    if ending == "close":
        host.call("NdisCloseAdapterEx", handle)
    else:
        host.send("goodbye")
    bench.tick(0.5)
    assert handle in bench.core.registry.bindings
    bench.tick(0.5)
    assert handle not in bench.core.registry.bindings
    assert bench.core.bug_checks.reports == []
    assert nic.names() == []
    if ending == "close":
        assert statuses(host) == dict.fromkeys(lists, PAUSED)


def test_a_completion_that_a_fault_delays_may_be_too_late(
    bench: Bench, host: Host, nic: Nic, user: Client
) -> None:
    user.control("fault.add", Action="delay", Call=COMPLETE, Delay=1.0)
    lists = send(host)
    complete(nic, lists, host.binding)
    host.call("NdisCloseAdapterEx", host.binding)
    assert statuses(host) == dict.fromkeys(lists, ABORTED)
    bench.tick(2.0)
    assert bench.core.bug_checks.reports == []


def test_what_the_miniport_still_has_of_a_send_is_its_own_to_complete(
    bench: Bench, host: Host, nic: Nic, user: Client
) -> None:
    """A fault took the completion of one list away; the other two are waited for."""
    lists = send(host)
    user.control("fault.add", Action="drop", Call=COMPLETE, Times=1)
    complete(nic, lists[:1], host.binding)
    host.call("NdisCloseAdapterEx", host.binding)
    assert statuses(host) == {lists[0]: ABORTED}
    assert "ProtocolCloseAdapterCompleteEx" not in host.names()
    complete(nic, lists[1:], host.binding)
    assert statuses(host) == dict.fromkeys(lists[1:], 0)
    assert "ProtocolCloseAdapterCompleteEx" in host.names()
    assert bench.core.bug_checks.reports == []


@pytest.mark.parametrize("call", [INDICATE, RECEIVE, RETURN, RETURNED])
def test_what_a_fault_delays_arrives_in_the_end(
    bench: Bench, host: Host, nic: Nic, user: Client, call: str
) -> None:
    user.control("fault.add", Action="delay", Call=call, Delay=1.0)
    lists = indicate(nic)
    bench.tick(1.0)
    host.take(RECEIVE)
    give_back(host, lists, nic.handle)
    bench.tick(1.0)
    assert nic.take(RETURNED)[2][1]["NetBufferList"] == lists
    assert held(bench) == 0


def test_a_return_that_a_fault_delays_past_the_closing_is_not_a_bug_check(
    bench: Bench, host: Host, nic: Nic, user: Client
) -> None:
    lists = indicate(nic)
    user.control("fault.add", Action="delay", Call=RETURN, Delay=1.0)
    give_back(host, lists, nic.handle)
    host.send("goodbye")
    assert nic.take(RETURNED)[2][1]["NetBufferList"] == lists
    bench.tick(2.0)
    assert bench.core.bug_checks.reports == []
    assert nic.names() == []


def test_the_trace_counts_the_lists_of_a_call(bench: Bench, host: Host, nic: Nic) -> None:
    bench.events.clear()
    lists = send(host)
    complete(nic, lists, host.binding, ABORTED)
    seen = [(e["call"], e["adapter"], e["direction"], e["lists"], e.get("status")) for e in bench.events]
    aborted = {"NDIS_STATUS_SEND_ABORTED": 3}
    assert seen == [
        (SEND, "nic0", "down", 3, None),
        (TO_SEND, "nic0", "down", 3, None),
        (COMPLETE, "nic0", "up", 3, aborted),
        (SENT, "nic0", "up", 3, aborted),
    ]


def test_ps_counts_what_is_under_way(bench: Bench, host: Host, nic: Nic, user: Client) -> None:
    send(host)
    indicate(nic, FRAMES[:2])
    bench.tick(0.1)
    ps = user.control("ps")
    (adapter,), (binding,) = ps["Adapters"], ps["Bindings"]
    assert (adapter["Sends"], adapter["Receives"], adapter["Outstanding"]) == (3, 2, 3)
    assert adapter["OldestAge"] == pytest.approx(0.1)
    assert (binding["Outstanding"], binding["Received"]) == (3, 2)


# -- facts ---------------------------------------------------------------------------------------------


def test_protocols_are_told_what_the_miniport_says_of_its_adapter(bench: Bench) -> None:
    nic, host = bench.client(Nic, "nic"), bench.client(Host, "host")
    host.register_protocol(["nic0"])
    nic.register_miniport(["nic0"])
    asked = nic.take("MiniportInitializeEx")
    facts = {
        "CurrentMacAddress": b"\x02\0\0\0\0\x07",
        "MtuSize": 9000,
        "XmitLinkSpeed": 10**10,
        "RcvLinkSpeed": 10**9,
    }
    attributes = {"MiniportAdapterContext": 0x9, "TcpConnectionOffloadCapabilities": None, **facts}
    assert nic.call("NdisMSetMiniportAttributes", asked[2][0], attributes) == [0]
    nic.answer(asked, 0)
    told = host.take("ProtocolBindAdapterEx")[2][2]
    assert {k: told[k] for k in facts} == facts


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CurrentMacAddress", b""),
        ("CurrentMacAddress", bytes(33)),
        ("CurrentMacAddress", "02:00"),
        ("MtuSize", 1 << 32),
        ("MtuSize", -1),
        ("XmitLinkSpeed", 1.5),
        ("RcvLinkSpeed", True),
    ],
)
def test_facts_that_are_none(bench: Bench, name: str, value: Any) -> None:
    nic = bench.client(Nic, "nic")
    nic.register_miniport(["nic0"])
    asked = nic.take("MiniportInitializeEx")
    nic.send(
        "NdisMSetMiniportAttributes", asked[2][0], {"MiniportAdapterContext": 9, name: value}, call_id=99
    )
    assert bench.bug_check.parameter == f"MiniportAttributes.{name}"
