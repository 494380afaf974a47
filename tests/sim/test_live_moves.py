"""What happens between an initiate or a terminate and its completion: data, completions, deaths.

Between the two, the target may serve the connection already, or still (R-CONC-03). Each byte is delivered
once, or its loss is an error.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

import pytest

from hoststack.live.nethost import NetHost
from hoststack.model.life import State
from hoststack.model.operation import Operation
from hoststack.net.errors import ConnectionReset
from hoststack.net.socket import Socket
from imdriver import ImConfig, ImDriver
from ndisbus.ddi.tcp_enums import OFFLOADABLE_TCP_STATES, TcpOffloadConnectionState
from ndisbus.wire.impair import Impairments
from ndisbus.wire.link import Link
from target.driver import TargetDriver
from target.hardware.config import TargetConfig
from tests.support.live_stack import Flow, LiveStack


class SlowStack(LiveStack):
    """A stack whose target takes ``latency`` seconds to complete a request, and serves connections meanwhile.

    ``depth``: how many intermediate drivers are between host and target.
    """

    latency = 0.5

    def __init__(self, seed: int, depth: int) -> None:
        super().__init__(seed, through_im=False)
        self.depth = depth
        below = "nic0"
        for i in range(depth):
            config = ImConfig(name=f"im{i}", bind=below, adapters=(f"im{i}-a",))
            self.sim.start(config.name, partial(ImDriver, config))
            below = f"im{i}-a"
        self.host.bind = below

    def entries(self) -> list[int]:
        """How many entries the intermediate drivers have: of calls, of I/O, of offloaded objects."""
        kinds = ("call_entries", "io_entries", "offload_entries")
        return [self.sim.driver(f"im{i}").inspect()[k] for i in range(self.depth) for k in kinds]

    def _target(self) -> TargetDriver:
        self._plugs += 1
        link: Link = self.segment.station(f"target{self._plugs}")
        return TargetDriver(TargetConfig(latency=self.latency), [link])


def slow(seed: int = 1, depth: int = 1) -> SlowStack:
    stack = SlowStack(seed, depth)
    stack.ready()
    return stack


def offload(stack: LiveStack, socket: Socket) -> Operation:
    """An initiate that is under way: its completion has not arrived."""
    operation: Operation = stack.act(lambda h: h.offload_sockets([socket]))
    assert not operation.done
    return operation


def with_send_data(stack: LiveStack, socket: Socket) -> tuple[bytes, Operation]:
    """Send data that is not acknowledged goes down with the connection."""
    data = bytes(range(256)) * 12
    stack.act(lambda _: socket.send(data))
    return data, offload(stack, socket)


def received(stack: LiveStack, socket: Socket, size: int) -> bytes:
    """What arrives, until that many bytes have, or the connection fails."""
    got = bytearray()

    def read() -> bool:
        if socket.available:
            got.extend(stack.act(lambda _: socket.recv()))
        return len(got) >= size or socket.error is not None

    stack.wait(read)
    return bytes(got)


# -- send data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_sends_complete_before_the_initiate_does(depth: int) -> None:
    """R-CONC-03, R-OSD-10: the target serves the connection from the moment it takes it."""
    stack = slow(depth=depth)
    socket = stack.connect("10.77.0.2", 7)
    data, operation = with_send_data(stack, socket)
    stack.wait(lambda: socket.unacknowledged == 0)
    assert not operation.done
    stack.wait(lambda: operation.done)
    assert operation.succeeded
    assert received(stack, socket, len(data)) == data
    assert socket.room == socket.options.sndbuf
    upload = stack.act(lambda h: h.upload_sockets([socket], idle=True))
    stack.wait(lambda: upload.done)
    assert upload.succeeded
    assert socket.error is None
    assert stack.violations() == []
    assert stack.sim.closings == []


# -- deaths ------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_target_dies_after_it_completed_sends_and_before_it_completes_the_initiate(depth: int) -> None:
    """The intermediate drivers go on, and the connection is lost: what was acknowledged is not known."""
    stack = slow(depth=depth)
    socket = stack.connect("10.77.0.2", 7)
    _, operation = with_send_data(stack, socket)
    stack.wait(lambda: socket.unacknowledged == 0)
    assert not operation.done
    stack.sim.kill("target")
    stack.wait(lambda: socket.error is not None, limit=0.1)
    assert isinstance(socket.error, ConnectionReset)
    stack.wait(lambda: operation.done and socket.tcb.state is State.GONE)
    stack.sim.restart("target")
    stack.ready()
    assert stack.sim.closings == []
    assert not any(stack.entries())


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("moment", range(0, 60, 4))
def test_a_target_dies_at_any_moment_of_an_initiate_with_send_data(depth: int, moment: int) -> None:
    """No intermediate driver ends with it or keeps an entry, and each byte is acknowledged or an error."""
    stack = slow(seed=moment + 1, depth=depth)
    stack.latency = 0.001
    stack.sim.restart("target")
    stack.wait(lambda: not stack.host.can_offload)
    stack.ready()
    socket = stack.connect("10.77.0.2", 7)
    data, operation = with_send_data(stack, socket)
    for _ in range(moment):
        stack.sim.step()
    stack.sim.kill("target")
    stack.wait(lambda: operation.done and not stack.host.can_offload)
    stack.sim.restart("target")
    stack.ready()
    assert not any(stack.entries())
    if socket.error is None:
        assert received(stack, socket, len(data)) == data
    assert stack.sim.closings == []
    assert stack.violations() == []


@pytest.mark.parametrize("dies", ["target", "im0", "bus"])
def test_a_death_while_the_completion_is_on_its_way_up_is_an_error(dies: str) -> None:
    """The target has acknowledged data in the host's name, and the host has never heard of it."""
    stack = slow()
    socket = stack.connect("10.77.0.2", 19)
    stack.wait(lambda: socket.available > 1000)
    operation = offload(stack, socket)
    stack.sim.stall("im0")
    stack.sim.run_for(1.0)  # the initiate completes, and the target receives
    assert not operation.done
    if dies == "bus":
        stack.sim.kill_bus()
    else:
        stack.sim.kill(dies)
    stack.sim.resume("im0")
    stack.wait(lambda: socket.error is not None, limit=0.2)
    assert isinstance(socket.error, ConnectionReset)
    stack.wait(lambda: operation.done)
    if dies == "bus":
        stack.sim.start_bus()
    else:
        stack.sim.restart(dies)
    stack.ready()
    assert stack.sim.closings == []


@pytest.mark.parametrize("dies", ["target", "im", "bus"])
@pytest.mark.parametrize("seed", range(1, 31))
def test_a_death_at_any_moment_of_an_initiate_loses_no_byte_in_silence(seed: int, dies: str) -> None:
    """The connection fails, or every byte comes back once."""
    stack = LiveStack(seed, impairments=Impairments(delay=0.001))
    stack.ready()
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 40_000, seed, lazy=seed % 3 == 0)
    stack.sim.run_for(0.001 * (seed % 4))
    offload(stack, flow.socket)
    for _ in range(4 * (seed % 15)):
        stack.sim.step()
    if dies == "bus":
        stack.sim.kill_bus()
        stack.sim.start_bus()
    else:
        stack.sim.kill(dies)
        stack.wait(lambda: not stack.host.can_offload)
        stack.sim.restart(dies)
    stack.ready()
    flow.lazy = False
    stack.act(lambda _: flow.pull())
    stack.wait(lambda: flow.done)
    flow.check()
    assert stack.violations() == []


# -- terminates --------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_target_dies_during_a_terminate_and_the_application_has_the_error_at_once(depth: int) -> None:
    """R-TERM-17: no second terminate is waited for."""
    stack = slow(depth=depth)
    socket = stack.connect("10.77.0.2", 7)
    down = offload(stack, socket)
    stack.wait(lambda: down.done)
    up = stack.act(lambda h: h.upload_sockets([socket]))
    stack.sim.run_for(0.1)
    assert not up.done
    stack.sim.kill("target")
    stack.wait(lambda: socket.error is not None, limit=0.1)
    stack.wait(lambda: up.done, limit=0.1)
    assert socket.tcb.state is State.GONE
    assert stack.host.limbo == {}


def test_an_upload_that_waits_for_a_refused_offload_leaves_the_connection_in_the_host() -> None:
    stack = slow()
    stack.sim.driver("target").knobs.set("initiate.tcp")
    socket = stack.connect("10.77.0.2", 7)
    down = offload(stack, socket)
    up = stack.act(lambda h: h.upload_sockets([socket]))
    stack.wait(lambda: down.done and up.done)
    assert not down.succeeded
    stack.act(lambda _: socket.send(b"still served"))
    assert received(stack, socket, 12) == b"still served"


def test_a_connection_that_was_closed_on_both_sides_below_comes_back_in_order_with_its_data() -> None:
    """The FIN of the remote end is not told before the data, which a terminate brings up."""
    stack = slow(depth=0)
    socket = stack.connect("10.77.0.2", 80)
    down = offload(stack, socket)
    stack.wait(lambda: down.done)
    socket.options = replace(socket.options, rcvbuf=1)  # most of the answer stays below
    stack.act(lambda _: socket.send(b"GET /bytes/20000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    stack.sim.run_for(1.0)
    stack.act(lambda _: socket.shutdown())
    stack.sim.run_for(1.0)
    assert not socket.tcb.remote_closed
    up = stack.act(lambda h: h.upload_sockets([socket]))
    stack.wait(lambda: up.done)
    assert socket.tcb.delegated.state is TcpOffloadConnectionState.TcpConnectionClosed
    assert socket.error is None
    assert len(received(stack, socket, 20_000).partition(b"\r\n\r\n")[2]) == 20_000
    assert socket.recv() == b""


def _send(socket: Socket, data: bytes, _: NetHost) -> int:
    return socket.send(data)


# -- what applications do meanwhile ------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 41))
def test_an_application_writes_shuts_down_and_closes_at_any_moment_of_a_move(seed: int) -> None:
    """What it asked for meanwhile happens behind the move, in order."""
    stack = LiveStack(seed, impairments=Impairments(delay=0.0005))
    stack.ready()
    rng = random.Random(seed)
    socket = stack.connect("10.77.0.2", 7)
    data = rng.randbytes(30_000)
    sent, moves, got = 0, 0, bytearray()
    operation = offload(stack, socket)
    while len(got) < len(data) or not socket.at_end:
        for _ in range(rng.randrange(8)):
            stack.sim.step()
        if operation.done and rng.random() < 0.5:
            moves += 1
            if socket.machine is not None and socket.state in OFFLOADABLE_TCP_STATES:
                operation = stack.act(lambda h: h.offload_sockets([socket]))
            elif socket.tcb.may_post:
                operation = stack.act(lambda h: h.upload_sockets([socket]))
        if sent < len(data):
            piece = data[sent : sent + rng.randint(1, 3000)]
            sent += stack.act(partial(_send, socket, piece))
            if sent == len(data):
                stack.act(lambda _: socket.shutdown())
        got += stack.act(lambda _: socket.recv(rng.randint(1, 5000))) or b""
        assert socket.error is None
        assert bytes(got) == data[: len(got)]
    assert bytes(got) == data
    assert moves > 3
    assert stack.violations() == []
