"""Statistics of a host and its target together."""

from __future__ import annotations

from tests.support.live_stack import Flow, LiveStack


def read(stack: LiveStack) -> dict[str, dict[str, int]]:
    operation = stack.act(lambda h: h.ask_statistics())
    stack.wait(lambda: operation.done)
    assert operation.succeeded
    totals: dict[str, dict[str, int]] = stack.host.statistics()
    return totals


def test_segments_count_once_wherever_their_connection_is() -> None:
    """R-STAT-09: the host adds the target's counters to its own; what the remote host counts is the same."""
    stack = LiveStack(1)
    stack.ready()
    before = read(stack)["TCP over IPv4"]
    assert (before["InSegments"], before["OutSegments"]) == (0, 0)
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 40_000, 1)
    stack.wait(lambda: flow.done)
    in_host = read(stack)["TCP over IPv4"]
    assert in_host["CurrentlyEstablished"] == 1
    operation = stack.act(lambda h: h.offload_sockets([flow.socket]))
    stack.wait(lambda: operation.done)
    again = Flow(stack, flow.socket, 40_000, 2)
    stack.wait(lambda: again.done)
    stack.sim.run_for(1.0)
    own = stack.host.stack.tallies[4].tcp
    after = read(stack)["TCP over IPv4"]
    assert after["InSegments"] > own.in_segments > 0
    assert after["OutSegments"] > own.out_segments > 0
    assert after["CurrentlyEstablished"] == 1
    remote = stack.remote.stack.tallies[4]
    assert after["InSegments"] == remote.tcp.out_segments
    assert after["OutSegments"] == remote.tcp.in_segments
    assert (after["RetransmittedSegments"], after["InErrors"], after["OutResets"]) == (0, 0, 0)


def test_what_is_sent_again_and_what_is_broken_is_told_apart() -> None:
    stack = LiveStack(2)
    stack.ready()
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 40_000, 1)
    stack.wait(lambda: flow.done)
    tally = stack.host.stack.tallies[4]
    link = stack.remote.station.link
    stack.sim.stall("peer")
    stack.act(lambda h: flow.socket.send(b"x" * 100))
    sent = tally.tcp.out_segments
    stack.sim.run_for(2.0)
    assert tally.tcp.retransmitted_segments >= 1
    assert tally.tcp.out_segments == sent
    link.receive(stack.sim.now)
    stack.sim.resume("peer")
    to = stack.host.interface.mac if stack.host.interface is not None else b""
    damaged = stack.remote.station.interface.header(to, 0x0800)
    link.send(damaged + b"\x45" + bytes(8), stack.sim.now)
    stack.sim.run_for(0.1)
    assert tally.ip.in_header_errors == 1


def test_a_connection_to_nowhere_is_answered_by_a_reset_that_counts() -> None:
    stack = LiveStack(3)
    stack.ready()
    socket = stack.act(lambda h: h.stack.tcp_connect(("fd77::2", 99)))
    stack.wait(lambda: socket.error is not None)
    assert stack.remote.stack.tallies[6].tcp.out_resets == 1
    assert read(stack)["TCP over IPv6"]["InSegments"] == 1
