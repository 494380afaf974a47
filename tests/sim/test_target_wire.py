"""A whole stack above a target on a wire: data through every layer, and the plays of kills and stalls."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoststack.model.objects import Neighbor, Path, Tcb
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    NeighborOffloadStateDelegated,
    PathOffloadStateCached,
    PathOffloadStateConst,
    PathOffloadStateDelegated,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
)
from ndisbus.wire.memory import MemorySegment
from tests.sim.test_data_properties import DATA, DataMonkey
from tests.support.stack import ACTIONS, Stack
from tests.support.wired import FAR_MAC, Far, FarEnd

LOCAL, REMOTE = b"\x0a\0\0\1", b"\x0a\0\0\2"


class Station:
    """The remote host of a simulation: answers as soon as it hears, and when its timers expire."""

    def __init__(self, stack: Stack, segment: MemorySegment) -> None:
        self.sim = stack.sim
        self.far = Far(segment.station("far"))
        self.far.link.on_frame = lambda now: self.sim.at(now, self.step)
        self.ends: list[FarEnd] = []

    def step(self) -> None:
        now = self.sim.now
        heard = self.far.listen(now)
        for end in self.ends:
            end.hear(heard, now)
            for frame in end.frames(now):
                self.far.send(frame, now)
            due = end.next_deadline()
            if due is not None:
                self.sim.at(max(due, now), self.step)


def wired(seed: int, **kw: Any) -> tuple[Stack, Station]:
    segment = MemorySegment()
    stack = Stack(seed, wire=segment.station("nic"), **kw)
    stack.ready()
    station = Station(stack, segment)
    station.far.send(b"\xff" * 6 + FAR_MAC + b"\x88\xb5hello")
    return stack, station


def connection(name: str = "") -> Tcb:
    """A connection to the remote host, in ESTABLISHED."""
    neighbor = Neighbor(
        NeighborOffloadStateConst(),
        NeighborOffloadStateCached(FAR_MAC),
        NeighborOffloadStateDelegated(),
    )
    path = Path(
        neighbor,
        PathOffloadStateConst(LOCAL, REMOTE),
        PathOffloadStateCached(1500),
        PathOffloadStateDelegated(),
    )
    return Tcb(
        path,
        TcpOffloadStateConst(local_port=5000, remote_port=80, remote_mss=1460),
        TcpOffloadStateCached(initial_rcv_wnd=65535, ttl_or_hop_limit=64),
        TcpOffloadStateDelegated(
            state=4,  # type: ignore[arg-type]
            rcv_nxt=5000,
            rcv_wnd=65535,
            snd_una=1000,
            snd_nxt=1000,
            snd_max=1000,
            snd_wnd=65535,
            max_snd_wnd=65535,
            send_wl1=5000,
            c_wnd=20_000,
            ss_thresh=1 << 20,
        ),
        name=name,
    )


@pytest.mark.parametrize("ims", [0, 1, 2])
def test_data_passes_every_layer(ims: int) -> None:
    """R-SEND-06, R-OSD-10, R-RECV-04: sends before and after the offload, received data, a query and an
    upload in the middle of it, through any number of intermediate drivers.
    """
    stack, station = wired(1, ims=ims)
    tcb = connection()
    tcb.send_queue = [b"before, "]
    station.ends.append(FarEnd(tcb.const, tcb.cached, tcb.delegated))
    [end] = station.ends
    assert stack.do(lambda host: host.offload([tcb])).succeeded
    stack.sim.act("host0", lambda host: host.send(tcb, b"after"))
    stack.sim.run_until(lambda: bytes(end.received) == b"before, after", limit=5.0)
    stack.sim.run_until(lambda: not stack.host().posted, limit=5.0)
    assert tcb.acknowledged == 13
    stack.sim.act("host0", lambda host: host.receive(tcb, 100))
    end.machine.send(b"an answer")
    station.step()
    stack.sim.run_until(lambda: bytes(tcb.receive_buffer or b"") == b"an answer", limit=5.0)
    asked = stack.do(lambda host: host.query([tcb]))
    structures = asked.result_of(tcb)
    assert structures is not None
    now = structures[-1]
    assert isinstance(now, TcpOffloadStateDelegated)
    assert (now.snd_una, now.rcv_nxt) == (1013, 5009)
    assert stack.do(lambda host: host.terminate([tcb], idle=True)).succeeded
    assert tcb.delegated.rcv_nxt == 5009
    assert stack.leftovers() == {}


def test_segments_of_a_connection_that_went_up_are_the_hosts() -> None:
    """R-TERM-13: through the ordinary receive path, up to the host."""
    stack, station = wired(1)
    tcb = connection()
    end = FarEnd(tcb.const, tcb.cached, tcb.delegated)
    station.ends.append(end)
    frames: list[bytes] = []
    stack.host().frames.on_frames = frames.extend
    assert stack.do(lambda host: host.offload([tcb])).succeeded
    assert stack.do(lambda host: host.terminate([tcb], idle=True)).succeeded
    end.machine.send(b"late")
    station.step()
    stack.sim.run_until(lambda: any(f.endswith(b"late") for f in frames), limit=5.0)


_RUN = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@_RUN
@given(
    seed=st.integers(0, 2**32 - 1),
    actions=st.lists(st.sampled_from((*ACTIONS, *DATA)), max_size=50),
    ims=st.integers(1, 2),
)
def test_kills_and_stalls_leave_nothing_over_with_machines_at_work(
    seed: int, actions: list[str], ims: int
) -> None:
    """Each list comes home once; whatever the states were that went down, they raise nothing."""
    stack, _station = wired(seed, ims=ims)
    monkey = DataMonkey(stack)
    for action in actions:
        monkey.act(action)
    monkey.settle()
    stack.check_statuses()
    assert stack.leftovers() == {}
    assert not any(stack.host(name).posted for name in stack.hosts)
    assert not [why for _, why in stack.sim.closings if "bug check" in why]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(500))
def test_long_plays_with_machines_at_work(seed: int) -> None:
    """Longer plays than the suite has time for; ``make soak``."""
    stack, _station = wired(seed, hosts=1 + seed % 2, ims=1 + seed // 2 % 2)
    monkey = DataMonkey(stack)
    for _ in range(120):
        monkey.act(stack.rng.choice((*ACTIONS, *DATA)))
    monkey.settle()
    assert stack.leftovers() == {}
