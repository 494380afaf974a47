"""The main job: live connections to a remote host, taken through everything a chimney does to them.

The tour connects to the peer through the emulated stack, moves data on every connection, takes the
resulting tree down and up again (initiate, query, update, relink, invalidate, a kill of the target in
mid-operation with recovery, terminate), and moves data again. Everything it reports was measured on the
way; anything that is not as it should be is a :class:`TourError`.
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

from hoststack.model.events import HostEvent, OperationDone, UploadIndicated
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from hoststack.net.errors import SocketError
from hoststack.tour.rig import Report, Survey, TourError, TourRig, stop
from hoststack.tour.traffic import EXCHANGE_PORT, Round, exchange
from ndisbus.ddi.enums import Layer, TcpCachedFlags, TcpOffloadConnectionState
from ndisbus.ddi.status import status_symbol
from ndisbus.state.images import TcpOffloadStateDelegated

if TYPE_CHECKING:
    from hoststack.live.nethost import NetHost
    from hoststack.net.neighbors import NeighborEntry
    from hoststack.net.pings import Ping
    from hoststack.net.socket import Socket
    from ndisbus.runtime.driver_process import DriverProcess

__all__ = ["PEERS", "Tour", "TourError"]

#: Addresses of the peer that ``make start`` runs: two stations, each with both families.
PEERS: Final = ("10.77.0.2", "fd77::2", "10.77.0.3", "fd77::3")
#: How many connections are queried one by one.
_ALONE: Final = 64
#: Seconds between two looks at variables that are alive.
_LOOK: Final = 0.1
#: How long frames may take that were under way when everything was closed (seconds).
_SETTLE: Final = 3.0
_TIME_WAIT: Final = TcpOffloadConnectionState.TcpConnectionTimeWait


class Tour(TourRig):
    """Takes one host through the tour. ``kill`` ends the target's process; tests may pass their own."""

    def __init__(
        self,
        process: DriverProcess,
        driver: NetHost,
        *,
        connections: int = 64,
        peers: Sequence[str] = PEERS,
        seed: int = 0,
        report: Report = lambda _: None,
        kill: Callable[[int], None] = lambda pid: os.kill(pid, signal.SIGKILL),
    ) -> None:
        super().__init__(process, driver, report)
        self.connections = connections
        self.peers = tuple(peers)
        self.rng = random.Random(seed)
        self.kill = kill
        self.sockets: list[Socket] = []
        self.rounds: list[Round] = []
        self.facts: dict[str, Any] = {}
        self.leftovers: dict[str, int] = {}

    @property
    def tcbs(self) -> list[Tcb]:
        """The connections as objects of the chimney."""
        return [s.tcb for s in self.sockets]

    @property
    def paths(self) -> list[Path]:
        """The paths in use, in the order of the connections."""
        return list(dict.fromkeys(t.path for t in self.tcbs))

    @property
    def neighbors(self) -> list[Neighbor]:
        """The next hops in use, likewise."""
        return list(dict.fromkeys(p.neighbor for p in self.paths))

    # -- the tour ------------------------------------------------------------------------------

    def run(self) -> None:
        """Everything, in order. Raises :class:`TourError`, or what went wrong on a connection."""
        self.until(
            lambda: self.driver.can_offload, "no adapter with an enabled chimney was offered to the host"
        )
        if self.driver.interface is None:
            raise TourError("the adapter has no station address, so there is no network to connect over")
        self._connect()
        self._exchange("in the host")
        self._offload()
        self._query()
        self._exchange("through the chimney")
        self._update()
        self._relink()
        self._invalidate()
        self._kill_target()
        self._terminate()
        self._exchange("after the upload")
        self._close()
        self._leftovers()

    def _connect(self) -> None:
        """Find the peer, then open all connections at once."""
        self.report(f"looking for {', '.join(self.peers)}")
        for address in self.peers:
            self._find(address)
        self.sockets = self._open(self.connections)
        families = Counter("IPv6" if ":" in s.remote[0] else "IPv4" for s in self.sockets)
        self.facts |= {
            "connections": len(self.sockets),
            "paths": len(self.paths),
            "neighbors": len(self.neighbors),
            "families": dict(families),
            "notes": [],
        }
        kinds = ", ".join(f"{n} {f}" for f, n in sorted(families.items()))
        self.report(
            f"{len(self.sockets)} connections ({kinds}) on {len(self.paths)} paths on "
            f"{len(self.neighbors)} neighbors"
        )

    def _find(self, address: str) -> None:
        """Wait until an address answers: nobody knows which process of a stack is up first."""
        stack = self.driver.stack
        pings: list[Ping] = []

        def answered() -> bool:
            stack.advance(time.monotonic())
            if not pings or pings[-1].done or stack.now - pings[-1].sent > 0.25:
                pings.append(stack.ping(address))
                stack.flush()
            return any(p.seconds is not None for p in pings)

        self.until(
            answered,
            f"{address} does not answer; is the peer running ('hoststack peer'), and the target on its "
            "wire ('--wire')?",
        )

    def _open(self, count: int) -> list[Socket]:
        stack = self.driver.stack
        stack.advance(time.monotonic())
        opened = [stack.tcp_connect((self.peers[i % len(self.peers)], EXCHANGE_PORT)) for i in range(count)]
        stack.flush()
        seconds = self.until(
            lambda: all(s.connected or s.error is not None for s in opened),
            "connections were not established",
        )
        failed = [s.error for s in opened if s.error is not None]
        if failed:
            raise TourError(f"{len(failed)} of {count} connections failed: {failed[0]}")
        self.report(f"{count} connections established in {seconds * 1e3:.0f} ms")
        return opened

    def _exchange(self, name: str, sockets: Sequence[Socket] | None = None) -> None:
        """A message and its answer on every connection, both checked."""
        self.report(f"data {name}: a message and its answer on each connection, SHA-256 at both ends")
        stack = self.driver.stack
        stack.advance(time.monotonic())

        def wait(condition: Callable[[], bool], progress: Callable[[], str]) -> float:
            return self.until(condition, f"data {name}: not everything arrived", progress)

        chosen = self.sockets if sockets is None else sockets
        self.rounds.append(exchange(name, chosen, self.rng, wait))

    def _offload(self, name: str = "initiate") -> None:
        self.report("initiate: the whole tree in one list")
        here = [s for s in self.sockets if not s.tcb.is_offloaded]
        self.do(name, lambda: self.driver.offload_sockets(here))
        self._expect_offloaded()

    def _query(self) -> None:
        self.report("query: the whole tree, then connections one by one")
        everything: list[StateObject] = [*self.neighbors, *self.paths, *self.tcbs]
        self.do("query", lambda: self.driver.query(everything))
        before = self._look()
        self.pause(_LOOK)
        self._expect_alive(before, self._look())

    def _look(self) -> dict[Tcb, TcpOffloadStateDelegated]:
        # One at a time: the latency of a query, and not that of a queue of them.
        seen: dict[Tcb, TcpOffloadStateDelegated] = {}
        for tcb in self.tcbs[:_ALONE]:
            operation = self.do("query", partial(self.driver.query, [tcb]))[0]
            found = operation.result_of(tcb)
            if found is None or not isinstance(found[0], TcpOffloadStateDelegated):
                raise TourError(f"the query of {tcb!r} brought no delegated state")
            seen[tcb] = found[0]
        return seen

    def _expect_alive(
        self,
        before: dict[Tcb, TcpOffloadStateDelegated],
        after: dict[Tcb, TcpOffloadStateDelegated],
    ) -> None:
        """The target's clock runs, and the rest is what the exchange of data has left (R-TS-04)."""
        grown = []
        for tcb, old in before.items():
            new = after[tcb]
            ticks = (new.ts_time - old.ts_time) & 0xFFFFFFFF
            if not 0 < ticks < 1 << 31:
                raise TourError(
                    f"TsTime of {tcb!r} went from {old.ts_time} to {new.ts_time}: it does not grow"
                )
            if not new.s_rtt:
                raise TourError(f"SRtt of {tcb!r} is 0 although data was exchanged")
            grown.append(ticks)
        some = after[self.tcbs[0]]
        per_second = self.driver.parameters.ticks_per_second
        self.facts["alive"] = {
            "ts_time_ticks": sorted(grown)[len(grown) // 2],
            "ticks_per_second": per_second,
            "s_rtt_ms": round(some.s_rtt / 8 / per_second * 1e3, 3),
            "c_wnd": some.c_wnd,
            "rcv_wnd": some.rcv_wnd,
        }

    def _update(self) -> None:
        self.report("update: keepalive and path MTU")
        for t in self.tcbs:
            t.cached.flags |= int(TcpCachedFlags.TCP_FLAG_KEEP_ALIVE_ENABLED)
            t.cached.ka_timeout = 60_000
        for p in self.paths:
            p.cached.path_mtu = min(p.cached.path_mtu, 1400)
        self.do("update", lambda: self.driver.update(self.tcbs))
        self.do("update", *(partial(self.driver.update, [p]) for p in self.paths))
        read = self.do("query", lambda: self.driver.query(self.paths, "cached"))[0]
        for p in self.paths:
            result = read.result_of(p)
            if result is None or result[0] != p.cached:
                raise TourError(f"{p!r}: the target does not hold the path MTU that it was told")

    def _relink(self) -> None:
        """Another next hop for the first path: the peer's other station, which is offloaded already."""
        path = self.paths[0]
        old, new = self._hop(path.neighbor), self._other_hop(path)
        if new is None:
            self.facts["notes"].append("no relink: the peer has a single station")
            return
        self.report(f"relink: {path!r} moves from {old.mac.hex(':')} to {new.mac.hex(':')}")
        moved = [p for p in self.paths if p.neighbor is path.neighbor]
        self.do("relink", lambda: self.driver.relink(moved, new.neighbor))
        self.do("terminate", lambda: self.driver.terminate([old.neighbor]))
        self.driver.stack.follow(moved, new.neighbor)
        if any(p.neighbor is not new.neighbor for p in moved):
            raise TourError("a path was relinked, but the host still links it to the old neighbor")

    def _hop(self, neighbor: Neighbor) -> NeighborEntry:
        entry = self.driver.stack.neighbors.entry_of(neighbor)
        if entry is None:
            raise TourError(f"{neighbor!r} is not in the neighbor cache")
        return entry

    def _other_hop(self, path: Path) -> NeighborEntry | None:
        """A next hop with another station address, of the same family."""
        own = self._hop(path.neighbor)
        for neighbor in self.neighbors:
            entry = self._hop(neighbor)
            if entry.mac != own.mac and len(entry.address) == len(own.address):
                return entry
        return None

    def _invalidate(self) -> None:
        """A neighbor goes bad: the target stops sending and asks for its connections back."""
        self.report("invalidate: a neighbor, and the uploads that the target asks for")
        neighbor = self.neighbors[0]
        affected = [s for s in self.sockets if s.tcb.path.neighbor is neighbor]
        with self.recorded(UploadIndicated, OperationDone) as events:
            self.do("invalidate", lambda: self.driver.invalidate([neighbor]))
            self.until(
                lambda: not any(s.tcb.is_offloaded for s in affected),
                "the target did not ask for the connections of an invalidated neighbor, or the host did not "
                "take them",
            )
        self._count_uploads([s.tcb for s in affected], events)
        rest: list[StateObject] = [p for p in self.paths if p.neighbor is neighbor and p.is_offloaded]
        if neighbor.is_offloaded:
            self.do("terminate", lambda: self.driver.terminate([*rest, neighbor]))
        self._exchange("of the uploaded ones", affected)
        self._offload()

    def _count_uploads(self, affected: list[Tcb], events: list[HostEvent]) -> None:
        """A request is the target's for one connection, its completion the terminate that uploaded it."""
        step = self.step("upload")
        asked: dict[Tcb, float] = {}
        for event in events:
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
        target, pid, epoch = self.find_target()
        self.report(f"kill -9 of {target} (pid {pid}) with {len(self.tcbs)} queries in flight")
        step = self.step("query, killed")
        try:  # stopped meanwhile, so that the kill falls into the middle of the operations
            stop(pid)
            operations = self.start(step, *(partial(self.driver.query, [t]) for t in self.tcbs))
            step.blocks += len(operations)
            survey = Survey(self.process)
            self.until(
                lambda: survey.outstanding() >= len(operations), "the queries did not reach the target"
            )
            killed = time.monotonic()
            self.kill(pid)
        finally:
            with contextlib.suppress(ProcessLookupError):  # it was killed, as planned
                os.kill(pid, signal.SIGCONT)
        self.collect(step, operations, allowed=("NDIS_STATUS_SUCCESS", "NDIS_STATUS_FAILURE"))
        completed = time.monotonic()
        self.until(lambda: self.driver.binding is None, "the host was not unbound after the target's death")
        noticed = time.monotonic()
        self.until(lambda: self.driver.can_offload, "the target did not come back")
        back = self.find_target()
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
        self._recover()

    def _recover(self) -> None:
        """What was offloaded died with the target's state: the applications hear of it and connect again."""
        lost = [s for s in self.sockets if s.error is not None]
        silent = [s for s in lost if not isinstance(s.error, SocketError)]
        if silent:
            raise TourError(f"{silent[0]!r} was lost without an error")
        self.facts["kill"]["connections_lost"] = len(lost)
        self.report(
            f"recovery: {len(lost)} connections died with the target; connecting and offloading again"
        )
        for address in self.peers:
            self._find(address)
        kept = [s for s in self.sockets if s.error is None]
        self.sockets = kept + self._open(len(lost))
        self._exchange("after the kill")
        self._offload("re-offload")

    def _terminate(self) -> None:
        self.report("terminate: everything comes back to the host")
        self.do("terminate", lambda: self.driver.upload_sockets(self.sockets, idle=True))
        stay = [o for o in (*self.tcbs, *self.paths, *self.neighbors) if o.is_offloaded]
        if stay:
            raise TourError(f"{len(stay)} objects are still offloaded after the terminate, {stay[0]!r} first")

    def _close(self) -> None:
        """An orderly end of every connection, on both sides."""
        self.report("closing")
        for s in self.sockets:
            s.close()
        self.driver.stack.flush()
        self.until(
            lambda: all(s.finished or s.error is not None for s in self.sockets),
            "connections were not closed by the peer",
        )
        wrong = [s.error for s in self.sockets if s.error is not None]
        if wrong:
            raise TourError(f"{len(wrong)} connections did not end in an orderly way: {wrong[0]}")

    def _leftovers(self) -> None:
        """What every layer still holds; all of it must be zero, once the last frames are through."""
        self.report("looking for leftovers")
        deadline = time.monotonic() + _SETTLE
        while True:
            self.leftovers = self._left()
            bad = {k: v for k, v in self.leftovers.items() if v}
            if not bad:
                return
            if time.monotonic() > deadline:
                raise TourError("left over: " + ", ".join(f"{v} {k}" for k, v in bad.items()))
            self.pause(0.02)

    def _left(self) -> dict[str, int]:
        ps = self.ask("ps")
        left: dict[str, int] = {
            "requests outstanding on the bus": sum(a["Outstanding"] for a in ps["Adapters"])
        }
        left["frames in flight"] = sum(a["Sends"] + a["Receives"] for a in ps["Adapters"])
        left["objects of bindings"] = sum(sum(b["Objects"].values()) for b in ps["Bindings"])
        kept = {
            "call_entries": "IM call entries",
            "io_entries": "IM I/O entries",
            "packet_entries": "IM packet entries",
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
        sockets = self.driver.stack.transport.sockets.values()
        left["connections not closed"] = sum(s.state is not _TIME_WAIT for s in sockets)
        left["bug checks"] = len(ps["BugChecks"])
        return left

    def _expect_offloaded(self) -> None:
        missing = [t for t in self.tcbs if not t.is_offloaded]
        if missing:
            raise TourError(
                f"{len(missing)} of {len(self.tcbs)} connections are not offloaded, {missing[0]!r} first"
            )
        for layer in (Layer.NEIGHBOR, Layer.PATH):
            if not self.driver.held(layer):
                raise TourError(f"no {layer.name.lower()} is offloaded although connections are")
