"""What the network tells while an object is on its way down or busy reaches the target all the same."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from hoststack.live.nethost import NetHost
from hoststack.model.objects import Path
from hoststack.net.socket import Socket
from tests.support.live_stack import LiveStack

FAR = "192.0.2.9"


def at_target(stack: LiveStack, obj: Any) -> Any:
    """The cached state that the target has of an object."""
    query = stack.act(lambda h: h.query([obj], "cached"))
    stack.wait(lambda: query.done)
    found = query.result_of(obj)
    assert found is not None
    return found[0]


def test_a_path_mtu_that_is_learned_on_the_way_down_reaches_the_target() -> None:
    """R-UPD-08: the packet that was too big may come from below before the initiate has completed."""
    stack = LiveStack(1)
    stack.ready()
    socket = stack.connect("10.77.0.2", 7)
    operation = stack.act(lambda h: h.offload_sockets([socket]))
    assert not operation.done
    stack.act(lambda h: socket.path_entry.learn(1000, h.stack.now))
    stack.wait(lambda: operation.done and not stack.host.pending_updates)
    stack.sim.run_for(0.1)
    assert at_target(stack, socket.tcb.path).path_mtu == 1000


def test_a_change_during_a_query_is_told_as_soon_as_that_is_over() -> None:
    """R-UPD-02: an update waits for nothing but what is in flight on its object."""
    stack = LiveStack(2)
    stack.ready()
    socket = stack.connect("10.77.0.2", 7)
    operation = stack.act(lambda h: h.offload_sockets([socket]))
    stack.wait(lambda: operation.done)

    def change(host: NetHost) -> Any:
        query = host.query([socket.tcb.path], "cached")
        socket.path_entry.learn(1000, host.stack.now)
        return query

    query = stack.act(change)
    stack.wait(lambda: query.done)
    stack.sim.run_for(0.01)
    assert not stack.host.pending_updates
    assert at_target(stack, socket.tcb.path).path_mtu == 1000


def redirected(stack: LiveStack, to: str) -> None:
    """The gateway says that the far host is reached by another one, whose link address it does not tell."""

    def act(host: NetHost) -> None:
        assert host.interface is not None
        router, target, far = (ip_address(a).packed for a in ("10.77.0.2", to, FAR))
        host.stack.redirects.arrived(host.interface, router, far, target, b"", host.stack.now)

    stack.act(act)


def far_connection(seed: int) -> tuple[LiveStack, Socket]:
    """A connection through a gateway, and another gateway on the link that serves the same host."""
    stack = LiveStack(seed)
    stack.host.gateways.append(("192.0.2.0/24", "10.77.0.2"))
    interface, remote = stack.remote.station.interface, stack.remote.stack
    for address in (FAR, "10.77.0.3"):
        remote.interfaces.local[ip_address(address).packed] = interface
    interface.local[ip_address("10.77.0.3").packed] = interface.local[ip_address("10.77.0.2").packed]
    stack.ready()
    return stack, stack.connect(FAR, 7)


def moved(stack: LiveStack, path: Path, to: str) -> None:
    stack.wait(lambda: path.neighbor.name == to, limit=30)
    assert any(path.neighbor.cached.dl_destination_address)
    near = [n for n in stack.host.held() if n.LAYER is path.neighbor.LAYER]
    assert {n.dependents for n in near} <= {0, 1}
    assert path.neighbor.dependents == 1


@pytest.mark.parametrize("early", [False, True])
def test_a_redirect_of_an_offloaded_path_waits_for_the_link_address(early: bool) -> None:
    """R-UPD-04: also one that comes while the path is on its way down."""
    stack, socket = far_connection(3)
    path = socket.tcb.path
    operation = stack.act(lambda h: h.offload_sockets([socket]))
    if not early:
        stack.wait(lambda: operation.done)
    redirected(stack, "10.77.0.3")
    assert path.neighbor.name == "10.77.0.2"
    stack.wait(lambda: operation.done)
    moved(stack, path, "10.77.0.3")
    stack.act(lambda _: socket.send(b"hello"))
    stack.wait(lambda: socket.available == 5)
    up = stack.act(lambda h: h.upload_sockets([socket], idle=True))
    stack.wait(lambda: up.done)
    assert up.succeeded
    everything = stack.act(lambda h: h.upload_everything())
    stack.wait(lambda: everything.done)
    assert not stack.host.held()
    assert stack.violations() == []


def test_a_redirect_to_a_missing_router_is_forgotten_and_nothing_was_moved() -> None:
    stack, socket = far_connection(4)
    operation = stack.act(lambda h: h.offload_sockets([socket]))
    stack.wait(lambda: operation.done)
    redirected(stack, "10.77.0.44")
    assert stack.host.stack.redirects.routes_to
    stack.wait(lambda: not stack.host.stack.redirects.routes_to, limit=30)
    stack.sim.run_for(0.1)
    assert socket.tcb.path.neighbor.name == "10.77.0.2"
    assert not stack.host.pending_updates.moves
    stack.act(lambda _: socket.send(b"hello"))
    stack.wait(lambda: socket.available == 5)
