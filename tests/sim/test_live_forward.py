"""Segments that the host receives for offloaded connections, and forwards (R-FWD-01)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from zlib import crc32

import pytest

from ndisbus.ddi.calls import CALLS
from ndisbus.net import fragments, ipv4
from tests.support.live_stack import Flow, LiveStack


def forwarded(stack: LiveStack) -> int:
    """NdisOffloadTcpForward calls of the host so far."""
    assert "NdisOffloadTcpForward" in CALLS
    events = stack.sim.trace_events
    return sum(e.get("call") == "NdisOffloadTcpForward" and e.get("from") == "host" for e in events)


def altered(stack: LiveStack, change: Callable[[bytes], list[bytes]]) -> None:
    """Let a router between the remote host and the target change the IP packets of the remote host."""
    link = stack.remote.station.link

    class Router:
        def __getattr__(self, name: str) -> object:
            return getattr(link, name)

        def send(self, frame: bytes, now: float) -> None:
            packets = change(frame[14:]) if frame[12:14] in (b"\x08\x00", b"\x86\xdd") else [frame[14:]]
            for packet in packets:
                link.send(frame[:14] + packet, now)

    stack.remote.station.link = Router()  # type: ignore[assignment]


def cut(packet: bytes) -> list[bytes]:
    """Into fragments of 600 bytes, as a router that does not heed DF would."""
    if packet[0] >> 4 == 6:
        return fragments.fragment(packet, 600, crc32(packet))
    header, payload = ipv4.parse(packet)
    whole = dataclasses.replace(header, dont_fragment=False, identification=crc32(packet) & 0xFFFF)
    return fragments.fragment(whole.build(payload), 600)


def optional(packet: bytes) -> list[bytes]:
    """With an IP option: a router alert (RFC 2113)."""
    header, payload = ipv4.parse(packet)
    return [dataclasses.replace(header, options=b"\x94\x04\x00\x00").build(payload)]


@pytest.mark.parametrize(
    ("address", "change"), [("10.77.0.2", cut), ("fd77::2", cut), ("10.77.0.2", optional)]
)
def test_what_only_the_host_can_read_reaches_the_connection_all_the_same(
    address: str, change: Callable[[bytes], list[bytes]]
) -> None:
    """R-FWD-01: segments out of fragments and of packets with options are forwarded, none is lost."""
    stack = LiveStack(1)
    stack.ready()
    flow = Flow(stack, stack.connect(address, 7), 5_000, 1)
    stack.wait(lambda: flow.done)
    operation = stack.act(lambda h: h.offload_sockets([flow.socket]))
    stack.wait(lambda: operation.done)
    altered(stack, change)
    again = Flow(stack, flow.socket, 30_000, 2)
    stack.wait(lambda: again.done)
    again.check()
    assert forwarded(stack) >= 10
    assert stack.violations() == []


def offload_amid(stack: LiveStack, flow: Flow) -> None:
    """Offload the flow's connection after 20,000 bytes, and wait for the rest."""
    stack.wait(lambda: len(flow.got) > 20_000)
    stack.act(lambda h: h.offload_sockets([flow.socket]))
    stack.wait(lambda: flow.done)


def test_segments_that_come_during_the_offload_are_forwarded_when_it_is_done() -> None:
    """R-FWD-01: the remote host goes on sending while the initiate is on its way."""
    for seed in range(40):
        stack = LiveStack(seed)
        stack.ready()
        flow = Flow(stack, stack.connect("10.77.0.2", 7), 200_000, seed)
        offload_amid(stack, flow)
        flow.check()
        if forwarded(stack):
            return
    pytest.fail("no segment came in the middle of an offload")
