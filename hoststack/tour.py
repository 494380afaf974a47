"""The main job: real connections of this machine, taken through everything a chimney does to them.

The tour opens connections over loopback, adds the machine's others, reads what the kernel knows of them
into offload state, and takes the resulting tree down and up again: initiate, query, update, relink,
invalidate, a kill of the target in mid-operation with recovery, terminate. Everything it reports was
measured on the way; anything that is not as it should be is a :class:`TourError`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hoststack.driver import HostDriver
from hoststack.events import HostEvent, OperationDone, UploadIndicated
from hoststack.facts_to_state import neighbor_state, path_state, tcp_state
from hoststack.inventory import group, read_inventory
from hoststack.loopback import LoopbackConnections
from hoststack.objects import Neighbor, Path, StateObject, Tcb
from hoststack.tour_step import Step
from ndisbus.enums import Layer, TcpCachedFlags
from ndisbus.errors import ChimneyError
from ndisbus.state import NeighborOffloadStateCached, NeighborOffloadStateConst, NeighborOffloadStateDelegated
from ndisbus.status import status_symbol

if TYPE_CHECKING:
    from hoststack.inventory import Inventory
    from hoststack.operation import Operation
    from ndisbus.driver import Reply
    from ndisbus.process import DriverProcess

__all__ = ["Tour", "TourError"]

_PATIENCE: Final = 15.0
#: How long acknowledgments of data that was exchanged just now may take (Linux delays them up to 40 ms).
_ACK_PATIENCE: Final = 0.5
#: How many connections are queried one by one.
_ALONE: Final = 64

Report = Callable[[str], None]


class TourError(ChimneyError):
    """Something on the tour was not as it should be; the text says what."""


class Tour:
    """Takes one host through the tour. ``kill`` ends the target's process; tests may pass their own."""

    def __init__(
        self,
        process: DriverProcess,
        driver: HostDriver,
        *,
        connections: int = 64,
        others: bool = True,
        seed: int = 0,
        report: Report = lambda _: None,
        kill: Callable[[int], None] = lambda pid: os.kill(pid, signal.SIGKILL),
    ) -> None:
        self.process = process
        self.driver = driver
        self.connections = connections
        self.others = others
        self.rng = random.Random(seed)
        self.report = report
        self.kill = kill
        self.steps: dict[str, Step] = {}
        self.neighbors: list[Neighbor] = []
        self.paths: list[Path] = []
        self.tcbs: list[Tcb] = []
        self.facts: dict[str, Any] = {}
        self.leftovers: dict[str, int] = {}

    # -- the tour ------------------------------------------------------------------------------

    def run(self) -> None:
        """Everything, in order. Raises :class:`TourError`."""
        self._until(
            lambda: self.driver.can_offload, "no adapter with an enabled chimney was offered to the host"
        )
        with LoopbackConnections(self.connections) as opened:
            self.report("reading what the kernel knows")
            self._build(self._read(opened), opened.notes)
            self._offload()
            self._query()
            self._update()
            self._relink()
            self._invalidate()
            self._kill_target()
            self._terminate()
        self._leftovers()

    def _read(self, opened: LoopbackConnections) -> Inventory:
        """What the kernel knows, once nothing that the connections sent is unacknowledged (delayed ACKs)."""
        deadline = time.monotonic() + _ACK_PATIENCE
        while True:
            inventory = read_inventory(opened.clients, peers=opened.servers, include_others=self.others)
            if time.monotonic() > deadline or not any(c.own and c.unacked for c in inventory.connections):
                return inventory
            self.process.run_until(lambda: False, timeout=0.01)

    def _build(self, inventory: Inventory, notes: Sequence[str]) -> None:
        """Turn facts into state objects: many connections on few paths on few neighbors."""
        families: Counter[str] = Counter()
        stay = 0
        for g in group(inventory):
            neighbor = Neighbor(*neighbor_state(g.neighbor))
            self.neighbors.append(neighbor)
            for p in g.paths:
                path = Path(neighbor, *path_state(p))
                self.paths.append(path)
                for c in p.connections:
                    if c.unacked:
                        stay += 1  # the kernel shows how many bytes are in flight, but not the bytes
                        continue
                    self.tcbs.append(Tcb(path, *tcp_state(c, self.rng)))
                    families[f"IPv{c.family}"] += 1
        if not self.tcbs:
            raise TourError("no offloadable connection was found on this machine")
        self.facts = {
            "connections": len(self.tcbs),
            "own": sum(c.own for c in inventory.connections),
            "paths": len(self.paths),
            "neighbors": len(self.neighbors),
            "families": dict(families),
            "notes": [*notes, *inventory.notes],
        }
        if stay:
            self.facts["notes"].append(
                f"{stay} connections with unacknowledged bytes in flight stay in the host"
            )
        self.report(
            f"{len(self.tcbs)} connections ({', '.join(f'{n} {f}' for f, n in sorted(families.items()))}) "
            f"on {len(self.paths)} paths on {len(self.neighbors)} neighbors"
        )

    def _offload(self, name: str = "initiate") -> None:
        self.report("initiate: the whole tree in one list")
        self._do(name, lambda: self.driver.offload(self.tcbs))
        self._expect_offloaded()

    def _query(self) -> None:
        self.report("query: the whole tree, then connections one by one")
        everything: list[StateObject] = [*self.neighbors, *self.paths, *self.tcbs]
        self._do("query", lambda: self.driver.query(everything))
        # One at a time: the latency of a query, and not that of a queue of them.
        alone = self.tcbs[:_ALONE]
        operations = [self._do("query", partial(self.driver.query, [t]))[0] for t in alone]
        missing = [o for o in operations if o.result_of(o.objects[0]) is None]
        if missing:
            raise TourError(f"{len(missing)} queries brought no state")

    def _update(self) -> None:
        self.report("update: keepalive, receive window and path MTU")
        for t in self.tcbs:
            t.cached.flags |= int(TcpCachedFlags.TCP_FLAG_KEEP_ALIVE_ENABLED)
            t.cached.ka_timeout = 60_000
        for p in self.paths:
            p.cached.path_mtu = min(p.cached.path_mtu, 1400)
        self._do("update", lambda: self.driver.update(self.tcbs))
        self._do("update", *(partial(self.driver.update, [p]) for p in self.paths))
        read = self._do("query", lambda: self.driver.query(self.paths, "cached"))[0]
        for p in self.paths:
            result = read.result_of(p)
            if result is None or result[0] != p.cached:
                raise TourError(f"{p!r}: the target does not hold the path MTU that it was told")

    def _relink(self) -> None:
        """Another next hop for the first neighbor's paths: offload it, move them, drop the old one."""
        old = self.neighbors[0]
        self.report("relink: the first neighbor's paths move to a new next hop")
        mac = bytes.fromhex("02000000") + bytes((self.rng.randrange(256), 1))
        new = Neighbor(
            NeighborOffloadStateConst(vlan_id=old.const.vlan_id),
            NeighborOffloadStateCached(dl_destination_address=mac),
            NeighborOffloadStateDelegated(),
            name="new next hop",
        )
        moved = [p for p in self.paths if p.neighbor is old]
        self._do("initiate", lambda: self.driver.offload([new]))
        self._do("relink", lambda: self.driver.relink(moved, new))
        self._do("terminate", lambda: self.driver.terminate([old]))
        self.neighbors[0] = new
        if any(p.neighbor is not new for p in moved):
            raise TourError("a path was relinked, but the host still links it to the old neighbor")

    def _invalidate(self) -> None:
        """A neighbor goes bad: the target stops sending and asks for its connections back."""
        self.report("invalidate: a neighbor, and the uploads that the target asks for")
        neighbor = self.neighbors[0]
        affected = [t for t in self.tcbs if t.path.neighbor is neighbor]
        self._events()  # what came before is not about this
        self._do("invalidate", lambda: self.driver.invalidate([neighbor]))
        self._until(
            lambda: not any(t.is_offloaded for t in affected),
            "the connections of an invalidated neighbor were not asked for, or the host did not take them",
        )
        self._count_uploads(affected)
        rest: list[StateObject] = [p for p in self.paths if p.neighbor is neighbor and p.is_offloaded]
        if neighbor.is_offloaded:
            self._do("terminate", lambda: self.driver.terminate([*rest, neighbor]))
        self._do("initiate", lambda: self.driver.offload([t for t in self.tcbs if not t.is_offloaded]))
        self._expect_offloaded()

    def _count_uploads(self, affected: list[Tcb]) -> None:
        """A request is the target's for one connection, its completion the terminate that uploaded it."""
        step = self._step("upload")
        asked: dict[Tcb, float] = {}
        for event in self._events():
            if isinstance(event, UploadIndicated) and event.accepted:
                asked[event.tcb] = event.at
            elif isinstance(event, OperationDone) and event.operation.op == "terminate":
                step.blocks += event.operation.blocks
                for obj, status in zip(event.operation.objects, event.operation.statuses, strict=True):
                    if isinstance(obj, Tcb) and obj in asked:
                        step.requests += 1
                        step.completed(event.at - asked.pop(obj))
                        step.statuses[status_symbol(status or 0)] += 1
        step.requests += len(asked)
        unasked = len(affected) - step.requests
        if asked or unasked:
            raise TourError(
                f"upload: of {len(affected)} connections of the invalidated neighbor the target asked for "
                f"{step.requests}, and {step.completions} of those were uploaded"
            )
        if set(step.statuses) != {"NDIS_STATUS_SUCCESS"}:
            raise TourError(f"upload: {dict(step.statuses)}")

    def _kill_target(self) -> None:
        """kill -9 with requests in flight: each completes, the target comes back, all is offloaded again."""
        target, pid, epoch = self._find_target()
        self.report(f"kill -9 of {target} (pid {pid}) with {len(self.tcbs)} queries in flight")
        step = self._step("query, killed")
        try:  # stopped meanwhile, so that the kill falls into the middle of the operations
            _stop(pid)
            operations = self._start(step, *(partial(self.driver.query, [t]) for t in self.tcbs))
            step.blocks += len(operations)
            survey = _Survey(self.process)
            self._until(
                lambda: survey.outstanding() >= len(operations), "the queries did not reach the target"
            )
            killed = time.monotonic()
            self.kill(pid)
        finally:
            with contextlib.suppress(ProcessLookupError):  # it was killed, as planned
                os.kill(pid, signal.SIGCONT)
        self._collect(step, operations, allowed=("NDIS_STATUS_SUCCESS", "NDIS_STATUS_FAILURE"))
        completed = time.monotonic()
        self._until(lambda: self.driver.binding is None, "the host was not unbound after the target's death")
        noticed = time.monotonic()
        self._until(lambda: self.driver.can_offload, "the target did not come back")
        back = self._find_target()
        if back[2] <= epoch:
            raise TourError(f"{target} is back in epoch {back[2]}, which is not later than {epoch}")
        self.facts["kill"] = {
            "pid": pid,
            "epoch_before": epoch,
            "epoch_after": back[2],
            "completed_after_ms": round((completed - killed) * 1e3, 1),
            "unbound_after_ms": round((noticed - killed) * 1e3, 1),
            "back_after_ms": round((time.monotonic() - killed) * 1e3, 1),
        }
        lost = sum(t.lost for t in self.tcbs)
        self.facts["kill"]["connections_lost_state"] = lost
        self.report("recovery: offloading everything again")
        self._do("re-offload", lambda: self.driver.offload(self.tcbs))
        self._expect_offloaded()

    def _terminate(self) -> None:
        self.report("terminate: everything comes back to the host")
        self._do("terminate", lambda: self.driver.terminate(self.tcbs, idle=True))
        stay = [o for o in (*self.tcbs, *self.paths, *self.neighbors) if o.is_offloaded]
        if stay:
            raise TourError(f"{len(stay)} objects are still offloaded after the terminate, {stay[0]!r} first")

    def _leftovers(self) -> None:
        """What every layer still holds; all of it must be zero."""
        self.report("looking for leftovers")
        ps = self._ask("ps")
        left: dict[str, int] = {
            "requests outstanding on the bus": sum(a["Outstanding"] for a in ps["Adapters"])
        }
        left["objects of bindings"] = sum(sum(b["Objects"].values()) for b in ps["Bindings"])
        kept = {
            "call_entries": "IM call entries",
            "io_entries": "IM I/O entries",
            "offload_entries": "IM offload entries",
            "tcp": "TCP contexts",
            "path": "path contexts",
            "neighbor": "neighbor contexts",
            "nbls_outstanding": "net buffer lists in the target",
            "queued_initiates": "queued initiates",
        }
        for p in ps["Processes"]:
            if p["State"] != "ready":
                raise TourError(f"{p['Name']} (pid {p['Pid']}) did not say what it holds")
            for key, text in kept.items():
                if key in p["Counters"]:
                    left[text] = left.get(text, 0) + int(p["Counters"][key])
        left["handles of the host"] = len(self.driver.held())
        left["bug checks"] = len(ps["BugChecks"])
        self.leftovers = left
        bad = {k: v for k, v in left.items() if v}
        if bad:
            raise TourError("left over: " + ", ".join(f"{v} {k}" for k, v in bad.items()))

    # -- tools ---------------------------------------------------------------------------------

    def _step(self, name: str) -> Step:
        return self.steps.setdefault(name, Step(name))

    def _do(self, name: str, *calls: Callable[[], Operation]) -> list[Operation]:
        """Start operations, wait for them, take note of what came back; all of them must succeed."""
        step = self._step(name)
        operations = self._start(step, *calls)
        self._collect(step, operations, allowed=("NDIS_STATUS_SUCCESS",))
        step.blocks += sum(o.blocks for o in operations)
        return operations

    def _start(self, step: Step, *calls: Callable[[], Operation]) -> list[Operation]:
        """Make the calls, one after the other at once; each operation is timed by itself."""
        operations: list[Operation] = []
        for call in calls:
            started = time.monotonic()
            operation = call()
            operation.when_done(partial(self._note, step, started))
            operations.append(operation)
        step.requests += len(operations)
        return operations

    @staticmethod
    def _note(step: Step, started: float, _: Operation) -> None:
        step.completed(time.monotonic() - started)

    def _collect(self, step: Step, operations: list[Operation], *, allowed: Sequence[str]) -> None:
        self._until(lambda: all(o.done for o in operations), f"{step.name}: completions are missing")
        for o in operations:
            step.statuses.update(o.counts())
            if o.refused:
                raise TourError(f"{step.name}: refused: {o.refused}")
            wrong = [s for s in o.counts() if s not in allowed]
            if wrong:
                first = next(obj for obj, s in zip(o.objects, o.statuses, strict=True) if s)
                raise TourError(
                    f"{step.name}: {', '.join(wrong)}, {first!r} first: {o.reason_of(first) or 'no reason'}"
                )

    def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        if not self.process.run_until(condition, timeout=_PATIENCE):
            raise TourError(f"{otherwise} (waited {_PATIENCE:g} s)")

    def _ask(self, verb: str) -> dict[str, Any]:
        """A control request over the host's own connection."""
        reply = self.process.port.control(verb, {})
        self._until(lambda: reply.answer is not None, f"the bus did not answer {verb!r}")
        assert reply.answer is not None
        if reply.answer[0] != 0:
            raise TourError(f"{verb}: {reply.answer[1]}")
        result: dict[str, Any] = reply.answer[1]
        return result

    def _events(self) -> list[HostEvent]:
        """What the driver has told since the last time."""
        return list(iter(self.driver.next_event, None))

    def _find_target(self) -> tuple[str, int, int]:
        """Name, pid and epoch of the driver of the hardware at the bottom of the stack."""
        ps = self._ask("ps")
        names = [a["Driver"] for a in ps["Adapters"] if not a["Virtual"] and a["State"] == "up"]
        for p in ps["Processes"]:
            if p["Name"] in names:
                return p["Name"], p["Pid"], p["Epoch"]
        raise TourError("no offload target is on the bus")

    def _expect_offloaded(self) -> None:
        missing = [t for t in self.tcbs if not t.is_offloaded]
        if missing:
            raise TourError(
                f"{len(missing)} of {len(self.tcbs)} connections are not offloaded, {missing[0]!r} first"
            )
        for layer in (Layer.NEIGHBOR, Layer.PATH):
            if not self.driver.held(layer):
                raise TourError(f"no {layer.name.lower()} is offloaded although connections are")


class _Survey:
    """Asks the bus again and again, without waiting for an answer, what the hardware has not completed."""

    def __init__(self, process: DriverProcess) -> None:
        self._process = process
        self._reply: Reply = process.port.control("ps", {})
        self._last = 0

    def outstanding(self) -> int:
        """Requests that the hardware's adapters had been given and had not completed, by the last answer."""
        if self._reply.answer is not None:
            status, ps = self._reply.answer
            if status != 0:
                raise TourError(f"ps: {ps}")
            self._last = sum(a["Outstanding"] for a in ps["Adapters"] if not a["Virtual"])
            self._reply = self._process.port.control("ps", {})
        return self._last


def _stop(pid: int) -> None:
    """SIGSTOP. Call it inside the ``try`` that ends it: a signal of our own may come as it returns."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError as e:
        raise TourError(f"the target (pid {pid}) cannot be stopped: {e.strerror}") from e
