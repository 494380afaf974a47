"""Data in the hands of the driver below while everything dies: each list comes home once, each byte too.

The plays of test_stack_properties, with sends, receive buffers, forwarded segments and disconnects among
them, and send data that goes down with its connection.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoststack.chimney.driver import HostDriver
from hoststack.model import synthetic
from ndisbus.errors import LocalProtocolError
from tests.support.stack import ACTIONS, Monkey, Stack

_RUN = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DATA = ("send", "send", "receive", "deliver", "disconnect", "abort", "data_before")


class DataMonkey(Monkey):
    """Posts data, too."""

    def _on_connection(self, call: Any) -> None:
        name = self._host()
        if name is None:
            return
        _, _, tcbs = self.rng.choice(self.trees[name])
        tcb = self.rng.choice(tcbs)
        with contextlib.suppress(LocalProtocolError):  # the host itself says when it is not the time for it
            self.sim.act(name, lambda host: call(host, tcb))

    def do_send(self) -> None:
        self._on_connection(lambda host, tcb: host.send(tcb, b"x" * self.rng.randint(1, 100)))

    def do_data_before(self) -> None:
        """Data written before the offload goes down with the connection."""
        self._on_connection(
            lambda host, tcb: None if tcb.is_offloaded else host.send(tcb, b"y" * self.rng.randint(1, 100))
        )

    def do_receive(self) -> None:
        self._on_connection(lambda host, tcb: host.receive(tcb, 100))

    def do_deliver(self) -> None:
        self._on_connection(lambda host, tcb: host.deliver(tcb, [b"a segment", b"another"]))

    def do_disconnect(self) -> None:
        self._on_connection(lambda host, tcb: host.disconnect(tcb))

    def do_abort(self) -> None:
        """The remote ends reset every connection: what is posted on them is aborted by the target itself."""
        if "target" not in self.dead and self.sim.driver("target").ndis.attached:
            self._target("indicate", event="abort")


def play(seed: int, actions: list[str], *, hosts: int, ims: int) -> None:
    stack = Stack(seed, hosts=hosts, ims=ims)
    stack.ready()
    monkey = DataMonkey(stack)
    for action in actions:
        monkey.act(action)
    monkey.settle()
    stack.check_statuses()
    assert stack.leftovers() == {}
    assert not any(stack.host(name).posted for name in stack.hosts)
    assert not [why for _, why in stack.sim.closings if "bug check" in why]


@_RUN
@given(
    seed=st.integers(0, 2**32 - 1),
    actions=st.lists(st.sampled_from((*ACTIONS, *DATA)), max_size=60),
    hosts=st.integers(1, 2),
    ims=st.integers(1, 2),
)
def test_data_under_kills_and_stalls_leaves_nothing_over(
    seed: int, actions: list[str], hosts: int, ims: int
) -> None:
    play(seed, actions, hosts=hosts, ims=ims)


@pytest.mark.parametrize("ims", [0, 1, 2])
@pytest.mark.parametrize("event", ["abort", "retrieve"])
def test_r_osd_10_send_data_that_went_down_with_a_connection_is_completed_as_a_send(
    ims: int, event: str
) -> None:
    """By the target, through any number of intermediate drivers, like what was posted later."""
    stack = Stack(1, ims=ims)
    stack.ready()
    neighbor = synthetic.neighbor(b"\x02\0\0\0\0\1")
    path = synthetic.path(neighbor, b"\x0a\0\0\1", b"\x0a\0\0\2")
    tcbs = synthetic.connections(path, 3, rng=stack.rng)
    tcbs[0].send_queue = [b"before"]
    assert stack.do(lambda host: host.offload(tcbs)).succeeded
    stack.sim.act("host0", lambda host: host.send(tcbs[1], b"after"))
    stack.sim.run_for(0.1)
    assert len(stack.host().posted) == 2
    reason = {"reason": "HardwareFailure"} if event == "retrieve" else {}
    stack.sim.act("target", lambda target: target.control("indicate", {"event": event, **reason}))
    stack.sim.run_until(lambda: not any(t.handle for t in tcbs), limit=20.0)
    assert not stack.host().posted
    stack.begin("host0", lambda host: host.upload_everything())
    stack.sim.run_for(3.0)
    assert stack.leftovers() == {}


@pytest.mark.parametrize("ims", [0, 1, 2])
@pytest.mark.parametrize("kill", ["", "target"])
def test_r_dis_16_send_data_that_is_handed_back_with_its_connection_is_home(ims: int, kill: str) -> None:
    """No intermediate driver keeps an entry of it, and each byte is in the host again, in order."""
    stack = Stack(1, ims=ims)
    stack.ready()
    neighbor = synthetic.neighbor(b"\x02\0\0\0\0\1")
    path = synthetic.path(neighbor, b"\x0a\0\0\1", b"\x0a\0\0\2")
    tcbs = synthetic.connections(path, 2, rng=stack.rng)
    tcbs[0].send_queue = [b"first, "]
    assert stack.do(lambda host: host.offload(tcbs)).succeeded
    for tcb in tcbs:
        stack.sim.act("host0", partial(HostDriver.send, tcb=tcb, data=b"second"))
    stack.sim.run_for(0.1)
    if kill:
        stack.sim.kill(kill)
        stack.sim.run_for(0.1)
        stack.sim.restart(kill)
        stack.ready()
    else:
        assert stack.do(lambda host: host.terminate(tcbs, idle=True)).succeeded
    assert [b"".join(t.send_queue or ()) for t in tcbs] == [b"first, second", b"second"]
    assert not any(p.port.sent_along or p.port.sent_nbls for p in stack.sim.processes.values())
    assert stack.leftovers() == {}


def test_send_that_meets_a_dead_adapter_comes_back_aborted_and_can_be_read() -> None:
    """The list was on its way down: NDIS completes it (R-IM-11), and the data stays with its sender."""
    stack = Stack(1)
    stack.ready()
    path = synthetic.path(synthetic.neighbor(b"\x02\0\0\0\0\1"), b"\x0a\0\0\1", b"\x0a\0\0\2")
    (tcb,) = synthetic.connections(path, 1, rng=stack.rng)
    assert stack.do(lambda host: host.offload([tcb])).succeeded
    stack.sim.stall("im0")
    stack.sim.act("host0", lambda host: host.send(tcb, b"too late"))
    stack.sim.run_for(0.01)
    stack.sim.kill("target")
    stack.sim.run_for(0.01)
    stack.sim.resume("im0")
    stack.sim.run_until(lambda: stack.host().binding is None, limit=5.0)
    stack.sim.restart("target")
    stack.ready()
    assert tcb.send_queue == [b"too late"]
    assert stack.leftovers() == {}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1000))
def test_long_plays_with_data(seed: int) -> None:
    """Longer plays than the suite has time for; ``make soak``."""
    stack = Stack(seed)
    actions = [stack.rng.choice((*ACTIONS, *DATA)) for _ in range(120)]
    play(seed, actions, hosts=1 + seed % 2, ims=1 + seed // 2 % 2)
