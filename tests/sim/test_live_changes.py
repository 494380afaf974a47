"""What the network tells the host reaches offloaded objects: path MTU, link addresses, redirects."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from ndisbus.net import icmp, icmpv6
from ndisbus.net.peek import peek
from target.model.contexts import NeighborContext, PathContext
from tests.support.live_stack import Flow, LiveStack


def contexts(stack: LiveStack, kind: type[Any]) -> list[Any]:
    """What the target keeps of one kind of object."""
    (adapter,) = stack.sim.driver("target").adapters.values()
    return [o for o in adapter.hardware.objects.values() if isinstance(o, kind)]


def offloaded(stack: LiveStack, address: str) -> Flow:
    flow = Flow(stack, stack.connect(address, 7), 20_000, 1)
    stack.wait(lambda: flow.done)
    operation = stack.act(lambda h: h.offload_sockets([flow.socket]))
    stack.wait(lambda: operation.done)
    assert operation.succeeded
    return flow


def too_big(stack: LiveStack, packet: bytes, mtu: int) -> None:
    """The remote host, in a router's place, reports that a packet did not get through."""
    remote = stack.remote.stack
    four = packet[0] >> 4 == 4
    source, destination = (packet[16:20], packet[12:16]) if four else (packet[24:40], packet[8:24])
    if four:
        message: Any = icmp.Unreachable(icmp.FRAGMENTATION_NEEDED, icmp.quote(packet), mtu)
    else:
        message = icmpv6.TooBig(mtu, icmpv6.quote(packet))
    if four:
        remote.sender.send(source, destination, icmp.PROTOCOL, icmp.build(message))
    else:
        payload = icmpv6.build(message, source, destination)
        remote.sender.send(source, destination, icmpv6.PROTOCOL, payload)
    remote.flush()


@pytest.mark.parametrize("address", ["10.77.0.2", "fd77::2"])
def test_a_smaller_path_mtu_reaches_the_target_and_is_used_there(address: str) -> None:
    """R-UPD-08: packet too big comes to the host, the path is updated, the target cuts its segments anew."""
    stack = LiveStack(1)
    stack.ready()
    flow = offloaded(stack, address)
    heard: list[bytes] = []
    receive = stack.remote.stack.receive

    def listen(interface: Any, frames: list[bytes], now: float) -> None:
        heard.extend(frames)
        receive(interface, frames, now)

    stack.remote.stack.receive = listen  # type: ignore[method-assign]
    again = Flow(stack, flow.socket, 20_000, 2)
    stack.wait(lambda: again.done)
    longest = max(heard, key=len)
    info = peek(longest)
    assert info.end - info.l3 == 1500
    too_big(stack, longest[info.l3 : info.end], 1300)
    (path,) = contexts(stack, PathContext)
    stack.wait(lambda: path.cached.path_mtu == 1300)
    heard.clear()
    again = Flow(stack, flow.socket, 20_000, 3)
    stack.wait(lambda: again.done)
    again.check()
    assert max(peek(f).end - peek(f).l3 for f in heard) == 1300


def test_a_changed_link_address_reaches_the_target() -> None:
    """R-UPD-07: an announcement of another address becomes an update of the offloaded neighbor."""
    stack = LiveStack(2)
    stack.ready()
    flow = offloaded(stack, "10.77.0.2")
    (neighbor,) = contexts(stack, NeighborContext)
    new = bytes.fromhex("0277000000aa")
    interface = stack.remote.station.interface
    stack.remote.stack.replug(interface, new, 1500)
    stack.remote.stack.detection.announce(interface, ip_address("10.77.0.2").packed)
    stack.remote.stack.flush()
    stack.wait(lambda: neighbor.cached.dl_destination_address == new)
    again = Flow(stack, flow.socket, 20_000, 2)
    stack.wait(lambda: again.done)
    again.check()


def test_two_changes_in_a_row_both_arrive() -> None:
    """R-UPD-02: an update that came while another was in flight follows it."""
    stack = LiveStack(3)
    stack.ready()
    flow = offloaded(stack, "10.77.0.2")
    (path,) = contexts(stack, PathContext)
    entry = flow.socket.path_entry

    def learn(mtu: int) -> None:
        stack.act(lambda h: entry.learn(mtu, h.stack.now))

    learn(1400)
    learn(1200)
    learn(1000)
    stack.wait(lambda: path.cached.path_mtu == 1000)


def test_a_redirect_moves_an_offloaded_path() -> None:
    """R-UPD-04, R-UPD-06: the new next hop is offloaded first, then the path is relinked to it."""
    stack = LiveStack(4, gateways=[("192.0.2.0/24", "10.77.0.2")])
    stack.remote.stack.interfaces.local[ip_address("192.0.2.9").packed] = stack.remote.station.interface
    stack.ready()
    flow = offloaded(stack, "192.0.2.9")
    (neighbor,) = contexts(stack, NeighborContext)

    def redirect(host: Any) -> None:
        router, target = ip_address("10.77.0.2").packed, ip_address("10.77.0.3").packed
        destination = ip_address("192.0.2.9").packed
        mac = stack.remote.station.interface.mac
        host.stack.redirects.arrived(host.interface, router, destination, target, mac, host.stack.now)

    stack.act(redirect)
    (path,) = contexts(stack, PathContext)
    stack.wait(lambda: path.neighbor is not neighbor)
    stack.wait(lambda: flow.socket.tcb.path.neighbor.name == "10.77.0.3")
    again = Flow(stack, flow.socket, 20_000, 2)
    stack.wait(lambda: again.done)
    again.check()
    assert stack.violations() == []
