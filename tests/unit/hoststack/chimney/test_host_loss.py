"""Ends: unbind, the death of what is below, the death of the bus. Everything borrowed is freed."""

from __future__ import annotations

import pytest

from hoststack.model.events import BusLost, Unbound
from hoststack.model.life import State
from hoststack.model.objects import ConnectionState
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TcpOffloadEventType, TcpUploadReason
from ndisbus.errors import LocalProtocolError
from ndisbus.lists.blocklist import Key
from tests.support.host_rig import FAILURE, SUCCESS, Rig


def settled(rig: Rig) -> None:
    counters = rig.host.inspect()
    left = {k: v for k, v in counters.items() if v and k not in ("tcbs", "violations", "frames")}
    assert left == {}
    assert rig.allocated == 0


def test_an_unbind_terminates_everything_and_then_closes() -> None:
    rig = Rig()
    neighbor, paths, tcbs = rig.offloaded(2)
    assert rig.unbind() == [NdisStatus.PENDING]
    assert rig.terminated() == tcbs
    assert rig.terminated() == [neighbor, *paths]
    assert rig.names() == ["NdisCloseAdapterEx"]
    rig.closed()
    assert [e.lost for e in rig.events(Unbound)] == [0]
    assert not any(t.lost for t in tcbs)
    settled(rig)


def test_an_unbind_with_nothing_offloaded_closes_at_once() -> None:
    rig = Rig()
    rig.receive("ProtocolUnbindAdapterEx", 1, rig.context, call_id=901)
    assert rig.names() == ["NdisCloseAdapterEx", "return"]
    rig.take("NdisCloseAdapterEx")
    assert rig.returned() == [SUCCESS]
    rig.closed()
    settled(rig)
    assert rig.port.next_deadline() is None


def test_r_reg_12_indicated_lists_go_back_before_the_binding_is_closed() -> None:
    """R-REG-12: indicated lists go back before the binding is closed."""
    rig = Rig()
    rig.host.returns.append(0x7000)
    rig.unbind()
    assert rig.names() == ["NdisOffloadTcpReceiveReturn", "NdisCloseAdapterEx"]


def test_the_death_of_the_target_returns_every_connection_and_it_can_be_offloaded_again() -> None:
    """What the bus does: outstanding requests fail, events, unbind; requests made meanwhile fail at once."""
    rig = Rig()
    _, _, tcbs = rig.offloaded(3)
    query = rig.act(lambda h: h.query(tcbs))
    rig.complete("ProtocolQueryOffloadComplete", rig.take("NdisQueryOffloadState"), FAILURE)
    for tcb in tcbs:
        rig.event(tcb, int(TcpOffloadEventType.TcpIndicateRetrieve), TcpUploadReason.HardwareFailure)
        rig.event(tcb, int(TcpOffloadEventType.TcpIndicateAbort))
    assert rig.unbind() == [NdisStatus.PENDING]
    while "NdisTerminateOffload" in rig.names():
        rig.complete("ProtocolTerminateOffloadComplete", rig.take("NdisTerminateOffload"), FAILURE)
    rig.tick()
    assert rig.names() == ["NdisCloseAdapterEx"]
    rig.take("NdisCloseAdapterEx")
    rig.closed()
    assert query.done
    assert all(t.lost and t.connection_state is ConnectionState.IN_HOST for t in tcbs)
    assert [e.lost for e in rig.events(Unbound)] == [3]
    settled(rig)
    rig.bind("nic0")
    rig.answer_oids()
    again = rig.act(lambda h: h.offload(tcbs))
    rig.initiated()
    assert again.succeeded
    assert not any(t.lost for t in tcbs)


def test_a_binding_that_is_closed_by_force_loses_what_was_offloaded() -> None:
    rig = Rig()
    neighbor, (path,), tcbs = rig.offloaded(2)
    update = rig.act(lambda h: h.update(tcbs[:1]))
    waiting = rig.act(lambda h: h.terminate(tcbs[:1]))
    rig.closed()
    assert update.done
    assert waiting.done
    assert waiting.refused
    assert all(o.state is State.GONE and o.lost for o in (neighbor, path, *tcbs))
    assert (neighbor.dependents, path.dependents, path.leaving) == (0, 0, 0)
    settled(rig)


@pytest.mark.parametrize("when", ["idle", "initiate", "query", "terminate", "asking"])
def test_when_the_bus_goes_every_operation_ends_and_nothing_stays_allocated(when: str) -> None:
    rig = Rig(enabled=when != "asking")
    if when == "asking":
        rig.bind()
    _, _, tcbs = rig.tree(2)
    tcbs[0].send_queue = [b"data"]
    operations = []
    if when != "asking":
        operations.append(rig.act(lambda h: h.offload(tcbs)))
        if when != "initiate":
            rig.initiated()
    if when == "query":
        operations.append(rig.act(lambda h: h.query(tcbs)))
    if when == "terminate":
        operations.append(rig.act(lambda h: h.terminate(tcbs)))
    heap = rig.host.ndis.heap
    rig.port.lost("the bus is gone", rig.now)
    assert all(o.done for o in operations)
    assert [e.reason for e in rig.events(BusLost)] == ["the bus is gone"]
    assert heap.objects == {}
    assert all(t.connection_state is ConnectionState.IN_HOST for t in tcbs)
    assert tcbs[0].send_queue == [b"data"]
    assert "not bound" in rig.host.offload(tcbs).refused  # type: ignore[operator]
    rig.port.drain()
    rig.sent.clear()
    rig.attach()
    rig.bind()
    rig.answer_oids()
    rig.act(lambda h: h.offload(tcbs))
    rig.initiated()
    assert all(t.is_offloaded for t in tcbs)


def test_what_the_target_reported_as_sent_is_not_sent_again_after_its_death() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    una = tcb.delegated.snd_una
    rig.act(lambda h: h.send(tcb, b"arrived"))
    rig.act(lambda h: h.send(tcb, b"unknown"))
    rig.io_complete("ProtocolTcpOffloadSendComplete", rig.take("NdisOffloadTcpSend"), SUCCESS)
    rig.closed()
    assert tcb.lost
    assert tcb.send_queue == [b"unknown"]
    assert tcb.delegated.snd_una == (una + 7) & 0xFFFFFFFF
    assert tcb.delegated.snd_max == tcb.delegated.snd_una


def test_sends_that_were_aborted_because_the_target_died_are_kept() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    rig.act(lambda h: h.send(tcb, b"first "))
    rig.act(lambda h: h.send(tcb, b"second"))
    aborted = int(NdisStatus.REQUEST_ABORTED)
    for _ in range(2):
        rig.io_complete("ProtocolTcpOffloadSendComplete", rig.take("NdisOffloadTcpSend"), aborted)
    rig.unbind()
    rig.complete("ProtocolTerminateOffloadComplete", rig.take("NdisTerminateOffload"), FAILURE)
    assert tcb.lost
    assert tcb.send_queue == [b"first ", b"second"]


def test_a_connection_is_forgotten_only_in_the_host() -> None:
    rig = Rig()
    _, _, (tcb,) = rig.offloaded(1)
    with pytest.raises(LocalProtocolError, match="Offloaded"):
        rig.host.forget(tcb)
    rig.closed()
    rig.host.forget(tcb)
    assert rig.host.inspect()["tcbs"] == 0


def test_an_initiate_that_fails_in_the_middle_of_an_unbind_lets_the_unbind_go_on() -> None:
    rig = Rig()
    _, _, tcbs = rig.tree(1)
    operation = rig.act(lambda h: h.offload(tcbs))
    assert rig.unbind() == [NdisStatus.PENDING]
    assert rig.names() == ["NdisInitiateOffload"]
    refused = rig.act(lambda h: h.offload(rig.tree(1)[2]))
    assert "being closed" in refused.refused
    request = rig.take("NdisInitiateOffload")
    rig.complete("ProtocolInitiateOffloadComplete", request, FAILURE, **{Key.CONTEXT: None})
    assert operation.done
    assert rig.names() == ["NdisCloseAdapterEx"]
