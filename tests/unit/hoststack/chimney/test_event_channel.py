"""Events of a host driver: subscribers are told of each, callers that poll find the last ones."""

from __future__ import annotations

import random

import pytest

from hoststack.chimney.event_channel import MAX_BYTES, MAX_EVENTS, EventChannel
from hoststack.model import synthetic
from hoststack.model.events import (
    BusLost,
    DataReceived,
    HostEvent,
    OperationDone,
    StatusIndicated,
    Violation,
)
from hoststack.model.objects import Tcb
from hoststack.model.operation import Operation
from tests.support.host_rig import Rig
from tests.support.live_stack import Flow, LiveStack


def status(code: int) -> StatusIndicated:
    return StatusIndicated(0.0, code)


def test_unread_events_are_bounded_and_the_dropped_ones_are_counted() -> None:
    channel = EventChannel()
    for code in range(MAX_EVENTS + 5):
        channel.emit(status(code))
    assert MAX_EVENTS <= 1024
    assert len(channel) == MAX_EVENTS
    assert channel.dropped == 5
    assert channel.next_event() == status(5)  # the oldest that was kept


def test_events_are_read_oldest_first_and_once() -> None:
    channel = EventChannel()
    channel.emit(status(1))
    channel.emit(status(2))
    assert [channel.next_event(), channel.next_event(), channel.next_event()] == [status(1), status(2), None]
    assert channel.dropped == 0


def test_a_subscriber_is_told_of_the_kind_that_it_asked_for() -> None:
    channel = EventChannel()
    lost: list[BusLost] = []
    everything: list[HostEvent] = []
    channel.subscribe(BusLost, lost.append)
    channel.subscribe(HostEvent, everything.append)
    events = [status(1), BusLost(1.0, "gone"), Violation(2.0, "R-BLK-10", "again")]
    for event in events:
        channel.emit(event)
    assert lost == [events[1]]
    assert everything == events


def test_a_subscriber_is_told_although_the_queue_is_full() -> None:
    channel = EventChannel()
    seen: list[StatusIndicated] = []
    channel.subscribe(StatusIndicated, seen.append)
    for code in range(MAX_EVENTS + 1):
        channel.emit(status(code))
    assert len(seen) == MAX_EVENTS + 1


def test_a_cancelled_subscription_ends_and_the_others_go_on() -> None:
    channel = EventChannel()
    first: list[HostEvent] = []
    second: list[HostEvent] = []
    cancel = channel.subscribe(StatusIndicated, first.append)
    channel.subscribe(StatusIndicated, second.append)
    channel.emit(status(1))
    cancel()
    channel.emit(status(2))
    assert first == [status(1)]
    assert second == [status(1), status(2)]


def test_the_driver_counts_the_events_that_it_dropped() -> None:
    rig = Rig()
    rig.events()
    for _ in range(MAX_EVENTS + 5):
        rig.host.violation("R-BLK-10", "again")
    assert len(rig.host.events) == MAX_EVENTS
    assert rig.host.inspect()["events dropped"] == 5


def a_connection(data: int) -> Tcb:
    neighbor = synthetic.neighbor(b"\x02\0\0\0\0\x01")
    path = synthetic.path(neighbor, b"\x0a\0\0\x01", b"\x0a\0\0\x02")
    tcb = synthetic.connection(path, 1000, 80, rng=random.Random(1))
    tcb.receive_buffer = bytearray(data)
    return tcb


def test_unread_events_keep_few_bytes_of_connections_alive() -> None:
    """Connections that the application has forgotten live on in their unread events."""
    channel = EventChannel()
    connections = [a_connection(64 * 1024) for _ in range(200)]
    for tcb in connections:
        channel.emit(DataReceived(1.0, tcb, 64 * 1024))
    assert len(channel) <= MAX_BYTES // (64 * 1024)
    assert channel.dropped == 200 - len(channel)
    assert channel.kept_bytes <= MAX_BYTES
    while channel.next_event() is not None:
        pass
    channel.emit(status(1))
    assert channel.kept_bytes < 1000


def test_unread_events_keep_few_objects_of_operations_alive() -> None:
    channel = EventChannel()
    tcb = a_connection(0)
    for number in range(50):
        channel.emit(OperationDone(1.0, Operation(number, "query", [tcb] * 1000)))
    assert 1 <= len(channel) <= 4
    channel.emit(OperationDone(1.0, Operation(51, "query", [tcb] * 10_000)))
    assert len(channel) == 1  # the newest is there, however large it is
    event = channel.next_event()
    assert isinstance(event, OperationDone)
    assert event.operation.id == 51


def test_many_events_of_one_connection_count_it_once() -> None:
    channel = EventChannel()
    tcb = a_connection(64 * 1024)
    for _ in range(MAX_EVENTS):
        channel.emit(DataReceived(1.0, tcb, 1))
    assert channel.dropped == 0


@pytest.mark.parametrize("reading", [True, False], ids=["read", "unread"])
def test_a_live_host_works_whether_or_not_its_events_are_read(reading: bool) -> None:
    """The host's own work does not depend on the queue that its user may read or leave unread."""
    stack = LiveStack(3)
    if reading:
        stack.host.events.subscribe(HostEvent, lambda _: void(stack.host.next_event()))
    stack.ready()
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 50_000, 1)
    stack.act(lambda h: h.offload_sockets([flow.socket]))
    stack.wait(lambda: flow.done)
    flow.check()
    stack.act(lambda h: h.upload_sockets([flow.socket], idle=True))
    stack.wait(lambda: flow.socket.machine is not None)
    assert len(stack.host.events) <= MAX_EVENTS


def void(_: object) -> None:
    """Drop a value in an expression."""
