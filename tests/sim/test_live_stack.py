"""Live connections through everything: data both ways while connections move between host and target."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoststack.live.nethost import NetHost
from hoststack.model.objects import ConnectionState
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.wire.impair import Impairments
from tests.support.live_stack import Flow, LiveStack

_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]
_RUN = settings(max_examples=30, deadline=None, suppress_health_check=_CHECKS)
_LONG = settings(max_examples=3000, deadline=None, suppress_health_check=_CHECKS)


def offload(stack: LiveStack, flows: list[Flow]) -> None:
    sockets = [f.socket for f in flows]
    operation = stack.act(lambda h: h.offload_sockets(sockets))
    stack.wait(lambda: operation.done)
    assert operation.succeeded, operation.counts()


def upload(stack: LiveStack, flows: list[Flow]) -> None:
    operation = stack.act(lambda h: h.upload_sockets([f.socket for f in flows], idle=True))
    stack.wait(lambda: operation.done)
    assert operation.succeeded, operation.counts()
    assert not stack.host.offloaded_sockets.sockets


def pulling(flow: Flow) -> Callable[[NetHost], None]:
    """What reads from this flow's connection, for the host to do."""
    return lambda _: flow.pull()


@pytest.mark.parametrize("address", ["10.77.0.2", "fd77::2"])
def test_a_stream_goes_on_across_offload_and_upload(address: str) -> None:
    stack = LiveStack(1)
    stack.ready()
    flow = Flow(stack, stack.connect(address, 7), 200_000, 1)
    stack.wait(lambda: len(flow.got) > 20_000)
    offload(stack, [flow])
    assert flow.socket.tcb.connection_state is ConnectionState.OFFLOADED
    stack.wait(lambda: len(flow.got) > 100_000)
    upload(stack, [flow])
    stack.wait(lambda: flow.done)
    flow.check()
    assert stack.violations() == []


def journey(seed: int, data: st.DataObject, *, most: int, moves: int) -> None:
    """Streams over a bad wire, which move between host and target at random moments."""
    loss = data.draw(st.sampled_from((0.0, 0.02, 0.1)))
    impairments = Impairments(loss=loss, delay=0.01, duplicate=loss / 2, reorder=loss) if loss else None
    stack = LiveStack(seed, impairments=impairments, through_im=data.draw(st.booleans()))
    stack.ready()
    addresses = ("10.77.0.2", "fd77::2")
    flows = [
        Flow(
            stack,
            stack.connect(addresses[i % 2], 7),
            data.draw(st.integers(1, most)),
            seed + i,
            lazy=data.draw(st.booleans()),
        )
        for i in range(data.draw(st.integers(1, 3)))
    ]
    for _ in range(data.draw(st.integers(0, moves))):
        stack.sim.run_for(data.draw(st.sampled_from((0.0, 0.001, 0.02, 0.3))))
        if all(f.socket.machine is not None for f in flows):
            offload(stack, flows)
        else:
            upload(stack, flows)
    if data.draw(st.booleans()) and any(f.socket.machine is None for f in flows):
        upload(stack, flows)
    for f in flows:
        f.lazy = False
        stack.act(pulling(f))
    stack.wait(lambda: all(f.done for f in flows), limit=600)
    for f in flows:
        assert not f.failed, f.socket.error
        f.check()
    assert stack.violations() == []


@_RUN
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_every_byte_once_and_in_order_wherever_the_connection_is(seed: int, data: st.DataObject) -> None:
    journey(seed, data, most=60_000, moves=4)


@pytest.mark.soak
@_LONG
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_long_journeys(seed: int, data: st.DataObject) -> None:
    journey(seed, data, most=400_000, moves=12)


@_RUN
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_a_stream_is_whole_or_breaks_off_with_an_error_when_the_target_dies(
    seed: int, data: st.DataObject
) -> None:
    stack = LiveStack(seed)
    stack.ready()
    flows = [Flow(stack, stack.connect("10.77.0.2", 7), 30_000, seed + i) for i in range(4)]
    for _ in range(data.draw(st.integers(1, 3))):
        stack.sim.run_for(data.draw(st.sampled_from((0.0, 0.001, 0.02))))
        here = [f for f in flows if f.socket.machine is not None and f.socket.error is None]
        chosen = [f for f in here if data.draw(st.booleans())]
        if chosen:
            offload(stack, chosen)
        stack.sim.run_for(data.draw(st.sampled_from((0.0, 0.001, 0.02))))
        stack.sim.kill("target")
        stack.wait(lambda: stack.host.binding is None)
        assert all(f.failed for f in chosen)
        stack.sim.restart("target")
        stack.wait(lambda: stack.host.can_offload)
    stack.wait(lambda: all(f.done for f in flows), limit=600)
    for f in flows:
        f.check()
    assert not stack.host.offloaded_sockets.lost
    stack.wait(lambda: len(stack.remote.servants.serving) == sum(not f.failed for f in flows), limit=600)


@pytest.mark.parametrize("through_im", [False, True], ids=["target", "im"])
def test_the_error_after_the_death_of_the_target_says_what_was_lost_and_why(through_im: bool) -> None:
    stack = LiveStack(4, through_im=through_im)
    stack.ready()
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 5_000, 3)
    offload(stack, [flow])
    stack.sim.kill("target")
    stack.wait(lambda: flow.failed)
    (own, port), (other, remote_port) = flow.socket.local, flow.socket.remote
    assert str(flow.socket.error) == (
        f"{own}:{port} -> {other}:{remote_port}: connection lost: the offload adapter failed or was removed"
    )


def test_closing_while_offloaded_ends_in_order() -> None:
    stack = LiveStack(3)
    stack.ready()
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 5_000, 3)
    offload(stack, [flow])
    stack.wait(lambda: flow.done)
    stack.act(lambda h: flow.socket.close())
    stack.wait(lambda: flow.socket.tcb.remote_closed)
    stack.wait(lambda: not stack.host.offloaded_sockets.sockets, limit=300)
    flow.check()
    state = flow.socket.state
    assert state in (
        TcpOffloadConnectionState.TcpConnectionTimeWait,
        TcpOffloadConnectionState.TcpConnectionClosed,
    )


def test_what_was_offloaded_dies_with_the_target_and_the_remote_end_hears_of_it() -> None:
    stack = LiveStack(4)
    stack.ready()
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 5_000, 4)
    other = Flow(stack, stack.connect("10.77.0.2", 7), 5_000, 5)
    offload(stack, [flow])
    stack.wait(lambda: flow.done and other.done)
    stack.sim.kill("target")
    stack.wait(lambda: stack.host.binding is None)
    assert "connection lost" in str(flow.socket.error)
    assert other.socket.error is None
    stack.sim.restart("target")
    stack.wait(lambda: stack.host.can_offload)
    stack.wait(lambda: len(stack.remote.stack.transport.sockets) == 1)
    # The one that was in the host has lost nothing but time.
    again = Flow(stack, other.socket, 5_000, 6)
    stack.wait(lambda: again.done)
    again.check()
