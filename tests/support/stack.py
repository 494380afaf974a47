"""A whole stack in the simulation, and a monkey that plays with it."""

from __future__ import annotations

import contextlib
import random
from functools import partial
from typing import Any

from hoststack.chimney.driver import HostDriver
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from hoststack.model.operation import Operation
from imdriver import ImConfig, ImDriver
from ndisbus.core import CoreConfig
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.errors import IllegalTransition, LocalProtocolError
from ndisbus.sim import Simulation
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
from ndisbus.wire.link import Link
from target.driver import TargetDriver
from target.hardware.config import TargetConfig
from tools.torture_stack import leftovers

#: What an operation may report besides the statuses of the interface: it was never passed down, or the
#: binding under it is gone.
LOCAL = {
    NdisStatus.ADAPTER_REMOVED,
    NdisStatus.PAUSED,
    NdisStatus.NOT_SUPPORTED,
    NdisStatus.INVALID_STATE,
    NdisStatus.OFFLOAD_POLICY,
}


def make_tree(
    rng: random.Random, paths: int = 2, connections: int = 3
) -> tuple[Neighbor, list[Path], list[Tcb]]:
    """One neighbor, some paths (IPv4 and IPv6), some connections on each."""
    mac = bytes((2, 0, 0, 0, rng.randrange(256), rng.randrange(256)))
    neighbor = Neighbor(
        NeighborOffloadStateConst(),
        NeighborOffloadStateCached(dl_destination_address=mac),
        NeighborOffloadStateDelegated(),
    )
    out = []
    for i in range(paths):
        size = 4 if rng.random() < 0.5 else 16
        source, destination = rng.randbytes(size), rng.randbytes(size)
        out.append(
            Path(
                neighbor,
                PathOffloadStateConst(source_address=source, destination_address=destination),
                PathOffloadStateCached(path_mtu=rng.choice((576, 1280, 1500, 9000))),
                PathOffloadStateDelegated(),
                name=f"path {i}",
            )
        )
    tcbs = [
        Tcb(
            p,
            TcpOffloadStateConst(local_port=rng.randrange(1, 65536), remote_port=80, remote_mss=1460),
            TcpOffloadStateCached(initial_rcv_wnd=65535),
            TcpOffloadStateDelegated(
                state=TcpOffloadConnectionState.TcpConnectionEstablished, rcv_nxt=rng.randrange(1 << 32)
            ),
        )
        for p in out
        for _ in range(connections)
    ]
    return neighbor, out, tcbs


class Stack:
    """``hosts`` host stacks on ``ims`` intermediate drivers on one target."""

    def __init__(
        self,
        seed: int,
        *,
        hosts: int = 1,
        ims: int = 1,
        config: CoreConfig | None = None,
        target: TargetConfig | None = None,
        wire: Link | None = None,
    ) -> None:
        """``wire``: what the target's adapter is plugged into; it outlives the target's process."""
        self.rng = random.Random(seed)
        self.sim = Simulation(seed, config)
        self.target_config = target or TargetConfig()
        below = "nic0"
        self.ims = []
        for i in range(ims):
            name = f"im{i}"
            # The topmost one shows an adapter per host, the others one for the driver above them.
            shown = tuple(f"{name}-{c}" for c in "abcdef"[: hosts if i == ims - 1 else 1])
            settings = ImConfig(name=name, bind=below, adapters=shown)
            self.sim.start(name, partial(ImDriver, settings))
            self.ims.append(name)
            below = shown[0]
        self.top = [f"im{ims - 1}-{c}" for c in "abcdef"[:hosts]] if ims else ["nic0"]
        self.hosts = [f"host{i}" for i in range(hosts)]
        for name, adapter in zip(self.hosts, self.top, strict=True):
            self.sim.start(name, partial(HostDriver, name, bind=adapter))
        self.sim.start("target", lambda: TargetDriver(self.target_config, [wire]))
        self.operations: list[Operation] = []

    def host(self, name: str = "host0") -> HostDriver:
        driver = self.sim.driver(name)
        assert isinstance(driver, HostDriver)
        return driver

    def ready(self, limit: float = 30.0) -> None:
        """Until every host can offload."""
        self.sim.run_until(lambda: all(self.host(h).can_offload for h in self.hosts), limit=limit)

    def begin(self, name: str, what: Any) -> Operation | None:
        """Start an operation of a host; None where the host itself says that it is not legal now."""
        try:
            operation: Operation = self.sim.act(name, what)
        except (IllegalTransition, LocalProtocolError):
            return None
        self.operations.append(operation)
        return operation

    def do(self, what: Any, name: str = "host0", limit: float = 30.0) -> Operation:
        """An operation, to its end."""
        operation = self.begin(name, what)
        assert operation is not None
        self.sim.run_until(lambda: operation.done, limit=limit)
        return operation

    def counters(self) -> dict[str, dict[str, int]]:
        """What each process holds, by name."""
        ps = self.sim.control("ps")
        return {p["Name"]: p["Counters"] for p in ps["Processes"]}

    def check_statuses(self) -> None:
        """Every operation is done, and every status is one that its operation may report."""
        for o in self.operations:
            assert o.done, f"{o} was never completed"
            allowed = ALLOWED_STATUS.get(o.op)
            if allowed is None:
                continue
            for obj, status in zip(o.objects, o.statuses, strict=True):
                assert status in allowed or status in LOCAL, f"{o}: {obj}: {status!r}"

    def leftovers(self) -> dict[str, int]:
        """Everything that a driver or NDIS still holds, non-zero entries only; empty is the goal."""
        return leftovers(self.sim.control("ps"))


class Monkey:
    """Does random things to a stack, and in the end puts everything back."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.sim = stack.sim
        self.rng = stack.rng
        self.trees = {
            h: [make_tree(self.rng, self.rng.randint(1, 3), self.rng.randint(1, 4)) for _ in range(2)]
            for h in stack.hosts
        }
        self.dead: set[str] = set()
        self.bus_dead = False

    def _host(self) -> str | None:
        alive = [h for h in self.stack.hosts if h not in self.dead]
        return self.rng.choice(alive) if alive else None

    def _some(self, items: list[Any]) -> list[Any]:
        return self.rng.sample(items, self.rng.randint(1, len(items))) if items else []

    def act(self, action: str) -> None:
        """One action by name; see ``ACTIONS``."""
        getattr(self, f"do_{action}")()

    def _operate(self, choose: Any, call: Any) -> None:
        name = self._host()
        if name is None:
            return
        neighbor, paths, tcbs = self.rng.choice(self.trees[name])
        chosen = choose(neighbor, paths, tcbs)
        if chosen:
            self.stack.begin(name, lambda h: call(h, chosen))

    def do_offload(self) -> None:
        self._operate(
            lambda n, p, t: self._some([x for x in t if not x.is_offloaded]), lambda h, x: h.offload(x)
        )

    def do_query(self) -> None:
        self._operate(
            lambda n, p, t: self._some([x for x in (n, *p, *t) if x.is_offloaded]), lambda h, x: h.query(x)
        )

    def do_update(self) -> None:
        self._operate(
            lambda n, p, t: self._some([x for x in (n, *p, *t) if x.is_offloaded]), lambda h, x: h.update(x)
        )

    def do_invalidate(self) -> None:
        self._operate(
            lambda n, p, t: [self.rng.choice([n, *p])] if n.is_offloaded else [], lambda h, x: h.invalidate(x)
        )

    def do_terminate(self) -> None:
        self._operate(
            lambda n, p, t: self._some([x for x in t if x.is_offloaded]),
            lambda h, x: h.terminate(x, idle=self.rng.random() < 0.5),
        )

    def do_relink(self) -> None:
        name = self._host()
        if name is None:
            return
        (old, paths, _), (new, _, _) = self.rng.sample(self.trees[name], 2)
        moving = [p for p in paths if p.is_offloaded and p.neighbor is old]
        if moving:
            self.stack.begin(name, lambda h: h.relink(moving, new))

    def do_run(self) -> None:
        """Let a few messages pass."""
        for _ in range(self.rng.randint(1, 30)):
            if not self.sim.step():
                break

    def do_wait(self) -> None:
        """Let some time pass."""
        self.sim.run_for(self.rng.choice((0.01, 0.3, 1.0)))

    def do_upload_all(self) -> None:
        if "target" not in self.dead and self.sim.driver("target").ndis.attached:
            self._target("upload_all", resume=True)

    def do_pause_resume(self) -> None:
        if "target" not in self.dead and self.sim.driver("target").ndis.attached:
            self._target("pause")
            self.do_run()
            if "target" not in self.dead and self.sim.driver("target").ndis.attached:
                self._target("resume")

    def _target(self, what: str, **arguments: object) -> None:
        with contextlib.suppress(LocalProtocolError):  # no adapter is up yet, or it is not paused any more
            self.sim.act("target", lambda d: d.control(what, arguments))

    def _kill(self, name: str) -> None:
        if name not in self.dead:
            self.sim.kill(name)
            self.dead.add(name)
            if name in self.stack.hosts:
                # Its objects died with it; a restarted host has connections of its own.
                self.stack.operations = [o for o in self.stack.operations if o.done or not self._of(name, o)]
                self.trees[name] = [make_tree(self.rng) for _ in range(2)]

    def _of(self, name: str, operation: Operation) -> bool:
        mine: set[int] = set()
        for neighbor, paths, tcbs in self.trees[name]:
            mine |= {id(x) for x in (neighbor, *paths, *tcbs)}
        objects: list[StateObject] = list(operation.objects)
        return bool(objects) and all(id(x) in mine for x in objects)

    def do_kill_target(self) -> None:
        self._kill("target")

    def do_kill_im(self) -> None:
        self._kill(self.rng.choice(self.stack.ims))

    def do_kill_host(self) -> None:
        self._kill(self.rng.choice(self.stack.hosts))

    def do_kill_bus(self) -> None:
        if not self.bus_dead:
            self.sim.kill_bus()
            self.bus_dead = True

    def do_restart(self) -> None:
        """Bring back everything that is dead."""
        if self.bus_dead:
            self.sim.start_bus()
            self.bus_dead = False
        for name in sorted(self.dead):
            self.sim.restart(name)
        self.dead.clear()

    def do_stall_short(self) -> None:
        self._stall(self.rng.uniform(0.1, 0.9) * self.sim.config.hang_limit)

    def do_stall_long(self) -> None:
        self._stall(self.rng.uniform(1.5, 3.0) * self.sim.config.hang_limit)

    def _stall(self, seconds: float) -> None:
        name = self.rng.choice([n for n in ("target", *self.stack.ims) if n not in self.dead] or [""])
        if name:
            self.sim.stall(name, seconds)

    def settle(self) -> None:
        """Restart what is dead, let everything recover, upload everything."""
        self.do_restart()
        self.sim.run_for(10.0)
        self.stack.ready()
        for name in self.stack.hosts:
            self.stack.begin(name, lambda h: h.upload_everything())
        self.sim.run_until(lambda: all(o.done for o in self.stack.operations), limit=60.0)
        self.sim.run_for(1.0)


OPERATIONS = (
    "offload",
    "offload",
    "query",
    "update",
    "invalidate",
    "terminate",
    "relink",
    "run",
    "run",
    "wait",
)
FAULTS = (
    "kill_target",
    "kill_im",
    "kill_host",
    "kill_bus",
    "restart",
    "stall_short",
    "stall_long",
    "upload_all",
)
ACTIONS = (*OPERATIONS, *FAULTS)
