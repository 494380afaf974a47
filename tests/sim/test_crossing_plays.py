"""Whole stacks whose hosts act without reading, while adapters, bindings and drivers end below them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoststack.chimney import switch
from ndisbus.ddi.enums import Oid
from ndisbus.errors import IllegalTransition, LocalProtocolError
from tests.support.stack import OPERATIONS, Monkey, Stack


class Deaf(Monkey):
    """A monkey whose hosts do not read for a while, and go on acting."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self.removed: set[str] = set()

    def do_deaf(self) -> None:
        """Shorter than every limit, longer than some, longer than all."""
        name = self._host()
        if name is not None:
            self.sim.stall(name, self.rng.choice((0.01, 0.5, 2.5, 5.5, 8.0)))

    def _post(self, what: Callable[[Any, Any], object]) -> None:
        name = self._host()
        if name is None:
            return
        tcb = self.rng.choice(self.rng.choice(self.trees[name])[2])
        with contextlib.suppress(LocalProtocolError, IllegalTransition):  # the host does not have it below
            self.sim.act(name, lambda h: what(h, tcb))

    def do_send(self) -> None:
        self._post(lambda h, t: h.send(t, b"some data"))

    def do_receive(self) -> None:
        self._post(lambda h, t: h.receive(t, 100))

    def do_disconnect(self) -> None:
        self._post(lambda h, t: h.disconnect(t))

    def do_forward(self) -> None:
        self._post(lambda h, t: h.deliver(t, [bytes(40)]))

    def do_statistics(self) -> None:
        self._post(lambda h, t: switch.oid(h, Oid.OID_TCP4_OFFLOAD_STATS))

    def do_enable(self) -> None:
        self._post(lambda h, t: h.enable_chimney())

    def do_frames(self) -> None:
        self._post(lambda h, t: h.transmit_frames([bytes(60)]))

    def do_corrupt(self) -> None:
        if "target" not in self.dead and self.sim.driver("target").ndis.attached:
            self._target("corrupt", layer=self.rng.choice(("tcp", "path")))

    def _bounce(self, name: str) -> None:
        if name not in self.dead:
            self.sim.kill(name)
            self.sim.restart(name)

    def do_bounce_target(self) -> None:
        self._bounce("target")

    def do_bounce_im(self) -> None:
        self._bounce(self.rng.choice(self.stack.ims))

    def _ask(self, verb: str, arguments: dict[str, Any]) -> None:
        """A control request whose answer nothing waits for."""
        core = self.sim.core
        assert core is not None
        core.receive("control", ["control", 0, [verb, arguments]], (), self.sim.now)

    def _is_there(self, name: str) -> bool:
        core = self.sim.core
        assert core is not None
        return any(a.name == name for a in core.registry.adapters.values())

    def do_remove_adapter(self) -> None:
        name = self.rng.choice(self.stack.top)
        if self._is_there(name):
            self.removed.add(name)
            self._ask("adapter.remove", {"Name": name})

    def do_add_adapter(self) -> None:
        for name in sorted(self.removed):
            if not self._is_there(name):
                self._ask("adapter.add", {"Name": name, "Under": self.stack.ims[-1]})
                self.removed.discard(name)

    def settle(self) -> None:
        self.do_restart()
        self.sim.run_for(12.0)
        for _ in range(4):
            self.do_add_adapter()  # one that is still being halted has its name, and follows later
            self.sim.run_for(3.0)
        super().settle()
        self.sim.run_for(25.0)  # objects whose terminate failed are kept for some seconds at each layer


ACTS = (
    *(a for a in dict.fromkeys(OPERATIONS) if a != "relink"),
    *(
        "offload",
        "deaf",
        "deaf",
        "send",
        "receive",
        "disconnect",
        "forward",
        "statistics",
        "enable",
        "frames",
    ),
    *("bounce_target", "bounce_im", "kill_host", "restart", "upload_all", "corrupt"),
    *("remove_adapter", "add_adapter"),
)


def play(seed: int, acts: list[str], *, hosts: int, ims: int) -> None:
    stack = Stack(seed, hosts=hosts, ims=ims)
    stack.ready()
    monkey = Deaf(stack)
    for act in acts:
        monkey.act(act)
    monkey.settle()
    ps = stack.sim.control("ps")
    assert ps["BugChecks"] == []
    # What the hosts complain of about the driver below is another test's matter.
    assert {k: n for k, n in stack.leftovers().items() if not k.endswith("violations")} == {}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    acts=st.lists(st.sampled_from(ACTS), min_size=10, max_size=60),
    hosts=st.integers(1, 2),
    ims=st.integers(1, 3),
)
def test_calls_that_cross_with_an_end_accuse_no_driver(
    seed: int, acts: list[str], hosts: int, ims: int
) -> None:
    """R-HND-04, R-HND-08: nothing is left over, and no driver is removed for what it could not know."""
    play(seed, acts, hosts=hosts, ims=ims)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1000))
def test_long_plays(seed: int) -> None:
    stack_rng = Stack(seed).rng
    acts = stack_rng.choices(ACTS, k=60)
    play(seed, acts, hosts=1 + seed % 2, ims=1 + seed % 3)
