"""Lives nested in lives: bindings above bindings, on adapters that end while a host does not listen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hoststack.chimney import switch
from hoststack.chimney.driver import HostDriver
from hoststack.model.events import Violation
from ndisbus.core import CoreConfig
from ndisbus.ddi.enums import Oid
from ndisbus.ddi.status import NdisStatus
from tests.support.stack import Stack, make_tree

LIMITS = CoreConfig()


def offloaded(seed: int, **settings: Any) -> tuple[Stack, Any, list[str]]:
    """A stack with one tree offloaded, and the list into which the host's complaints go."""
    stack = Stack(seed, **settings)
    stack.ready()
    complaints: list[str] = []
    stack.host().events.subscribe(Violation, lambda e: complaints.append(f"{e.rule}: {e.text}"))
    tree = make_tree(stack.rng)
    stack.do(lambda h: h.offload(tree[2]))
    return stack, tree, complaints


def accused(stack: Stack) -> list[str]:
    """Every driver that was removed although it only stalled, with the reason."""
    return [f"{name}: {reason}" for name, reason in stack.sim.closings]


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("seed", range(3))
def test_a_host_that_sleeps_through_the_end_of_its_adapter_harms_only_itself(depth: int, seed: int) -> None:
    """R-HND-04: what a host below a stack of any depth had offloaded is never named to the next target."""
    stack, (_, _, tcbs), complaints = offloaded(seed, ims=depth)
    stack.sim.stall("host0")
    stack.sim.kill("target")
    stack.sim.restart("target")
    stack.sim.run_for(LIMITS.unbind_limit + 2)
    stack.sim.resume("host0")
    stack.sim.run_for(5)
    assert not accused(stack)
    assert not complaints
    forced = [(e["protocol"], e["t"]) for e in stack.sim.trace_events if e["event"] == "unbind.forced"]
    assert [name for name, _ in forced] == ["host0"]
    stack.ready()
    assert stack.do(lambda h: h.offload(tcbs)).counts() == {NdisStatus.SUCCESS.symbol: len(tcbs) + 3}
    stack.do(lambda h: h.upload_everything())
    assert not stack.leftovers()


@pytest.mark.parametrize("seed", range(3))
def test_hosts_that_sleep_side_by_side_are_unbound_in_one_limit(seed: int) -> None:
    stack, _, _ = offloaded(seed, hosts=4)
    for name in stack.hosts:
        stack.sim.stall(name)
    stack.sim.kill("target")
    stack.sim.restart("target")
    stack.sim.run_for(LIMITS.unbind_limit + 1)
    for name in stack.hosts:
        stack.sim.resume(name)
    stack.ready(limit=1)
    assert not accused(stack)


ASKED: dict[str, Callable[[Any], Any]] = {
    "statistics": lambda h: switch.oid(h, Oid.OID_TCP4_OFFLOAD_STATS),
    "enable the chimney": lambda h: h.enable_chimney(),
    "disable the chimney": lambda h: h.disable_chimney(),
    "power down": lambda h: h.power_down(),
    "power up": lambda h: h.power_up(),
    "send frames": lambda h: h.transmit_frames([bytes(60)]),
    "upload everything": lambda h: h.upload_everything(),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("ims", [0, 1, 2])
def test_a_host_may_ask_at_any_moment_while_the_target_dies(asked: str, ims: int) -> None:
    for seed in range(5):
        stack, _, complaints = offloaded(seed, ims=ims)
        stack.sim.kill("target")
        operations: list[Any] = []
        while stack.host().binding is not None:
            if len(operations) < 40:
                operations.append(stack.sim.act("host0", ASKED[asked]))
            for _ in range(stack.rng.randint(1, 4)):
                assert stack.sim.step()
        stack.sim.restart("target")
        stack.sim.run_for(5)
        assert not accused(stack)
        assert not complaints
        assert all(o.done for o in operations if hasattr(o, "done"))


LEAVES: dict[str, Callable[[Stack], None]] = {
    "killed": lambda s: s.sim.kill("host0"),
    "goodbye": lambda s: s.sim.act("host0", lambda h: s.sim.processes["host0"].port.goodbye()),
    "closed its binding": lambda s: s.sim.act("host0", lambda h: h.ndis.close_adapter_ex(h.binding.handle)),
}


@pytest.mark.parametrize("how", LEAVES)
@pytest.mark.parametrize("ims", range(4))
def test_the_chimney_of_a_host_that_leaves_is_free_at_every_layer(how: str, ims: int) -> None:
    """R-OID-08: a later host gets the adapter that the first one had, and each one below it."""
    stack, _, _ = offloaded(1, ims=ims)
    LEAVES[how](stack)
    stack.sim.run_for(0.5)
    stack.sim.kill("host0")  # after its goodbye it has said hello again
    stack.sim.run_for(0.5)
    adapters = stack.sim.control("ps")["Adapters"]
    assert [(a["Name"], a["ChimneyOwner"]) for a in adapters if a["ChimneyOwner"]] == []
    for adapter in ("nic0", *(f"im{i}-a" for i in range(ims))):
        stack.sim.start("later", partial(HostDriver, "later", bind=adapter))
        stack.sim.run_until(lambda: stack.host("later").can_offload, limit=0.2)
        stack.sim.kill("later")
        stack.sim.run_for(0.1)
    assert accused(stack) == (["host0: left"] if how == "goodbye" else [])


def test_a_host_that_leaves_takes_nothing_from_the_others() -> None:
    """R-OID-05: what the other hosts above the same intermediate driver want stays enabled below."""
    stack, _, _ = offloaded(1, hosts=2)
    stack.sim.kill("host0")
    stack.sim.run_for(0.5)
    owners = {a["Name"]: a["ChimneyOwner"] for a in stack.sim.control("ps")["Adapters"]}
    assert owners == {"nic0": "im0", "im0-a": None, "im0-b": "host1"}
    assert stack.do(lambda h: h.offload(make_tree(stack.rng)[2]), "host1").succeeded
