"""The trace's publishing socket: who listens, what is lost."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from ndisbus.rundir import trace_endpoint
from ndisbus.runtime import trace_link
from ndisbus.runtime.trace_link import TracePublisher, TraceSubscriber

DEADLINE_MS = 20_000


@pytest.fixture
def endpoint() -> Iterator[str]:
    # Not tmp_path: a socket's path is at most 107 bytes long.
    directory = Path(tempfile.mkdtemp(prefix="nd"))
    yield f"ipc://{directory}/bus.sock"
    shutil.rmtree(directory)


@pytest.fixture
def publisher(endpoint: str) -> Iterator[TracePublisher]:
    context: zmq.Context[Any] = zmq.Context()
    p = TracePublisher(context, trace_endpoint(endpoint), None)
    yield p
    p.unbind()
    context.destroy(linger=0)


def change(publisher: TracePublisher) -> bool:
    """Wait until a subscriber comes or goes."""
    assert publisher.socket.poll(DEADLINE_MS)
    return publisher.subscriptions()


def test_knows_whether_anybody_listens(publisher: TracePublisher, endpoint: str) -> None:
    assert not publisher.subscriptions()
    with TraceSubscriber(endpoint):
        assert change(publisher)
        with TraceSubscriber(endpoint) as second:
            # The first one's subscription stands for both: nothing changes.
            while second.read(0.01) is None:
                publisher.subscriptions()
            assert publisher.subscriptions()
    assert not change(publisher)


def test_events_arrive_in_order_after_the_welcome(publisher: TracePublisher, endpoint: str) -> None:
    with TraceSubscriber(endpoint) as subscriber:
        assert change(publisher)
        assert subscriber.read(20) == []
        sent = [{"t": float(i), "event": "hello", "driver": f"d{i}"} for i in range(2500)]
        for event in sent:
            publisher.note(event)
        publisher.flush()
        received: list[dict[str, Any]] = []
        while len(received) < len(sent):
            got = subscriber.read(20)
            assert got is not None
            received += got
    assert received == sent
    assert publisher.lost == 0


def test_slow_listener_loses_events_and_is_told_how_many(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_link, "HIGH_WATER", 2)
    context: zmq.Context[Any] = zmq.Context()
    publisher = TracePublisher(context, trace_endpoint(endpoint), None)
    try:
        with TraceSubscriber(endpoint) as subscriber:
            assert change(publisher)
            assert subscriber.read(20) == []
            noted = 0
            # The subscriber does not read: pipes and kernel buffers are soon full. The publisher never waits.
            while publisher.lost < 3:
                publisher.note({"t": 0.0, "event": "x" * 100_000})
                noted += 1
                publisher.flush()
                assert noted < 10_000
            received = 0
            while (got := subscriber.read(0.5)) is not None:
                received += len(got)
            assert received + publisher.lost == noted
            publisher.note({"t": 1.0, "event": "last"})
            publisher.flush()
            assert subscriber.read(20) == [{"t": 1.0, "event": "last"}]
            assert subscriber.lost == publisher.lost == 3
    finally:
        publisher.unbind()
        context.destroy(linger=0)
