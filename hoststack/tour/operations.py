"""The tour's operations on the offloaded tree: query, update, relink, and invalidate with what follows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from hoststack.model.events import HostEvent, OperationDone, UploadIndicated
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from hoststack.tour.rig import TourError
from ndisbus.ddi.status import status_symbol
from ndisbus.ddi.tcp_enums import TcpCachedFlags
from ndisbus.state.images import TcpOffloadStateDelegated

if TYPE_CHECKING:
    from hoststack.net.neighbors import NeighborEntry
    from hoststack.tour.connections import Connections
    from hoststack.tour.rig import TourRig

__all__ = ["invalidate", "query", "relink", "update"]

#: How many connections are queried one by one.
_ALONE: Final = 64
#: Seconds between two queries whose values are compared.
_INTERVAL: Final = 0.1

#: The delegated state of connections, as it was queried.
_Delegated = dict[Tcb, TcpOffloadStateDelegated]


def query(rig: TourRig, connections: Connections) -> None:
    """Query the whole tree, then connections one by one, twice."""
    rig.report("query: the whole tree, then connections one by one")
    everything: list[StateObject] = [*connections.neighbors, *connections.paths, *connections.tcbs]
    rig.do("query", lambda: rig.driver.query(everything))
    before = _delegated(rig, connections)
    rig.pause(_INTERVAL)
    _check_progress(rig, before, _delegated(rig, connections))


def _delegated(rig: TourRig, connections: Connections) -> _Delegated:
    # One query at a time, to measure the latency of a query and not of a queue of queries.
    seen: _Delegated = {}
    for tcb in connections.tcbs[:_ALONE]:
        operation = rig.do("query", partial(rig.driver.query, [tcb]))[0]
        found = operation.result_of(tcb)
        if found is None or not isinstance(found[0], TcpOffloadStateDelegated):
            raise TourError(f"the query of {tcb!r} returned no delegated state")
        seen[tcb] = found[0]
    return seen


def _check_progress(rig: TourRig, before: _Delegated, after: _Delegated) -> None:
    """Check that the target's clock runs, and that the exchange of data has left its traces (R-TS-04)."""
    grown = []
    for tcb, old in before.items():
        new = after[tcb]
        ticks = (new.ts_time - old.ts_time) & 0xFFFFFFFF
        if not 0 < ticks < 1 << 31:
            raise TourError(f"TsTime of {tcb!r} went from {old.ts_time} to {new.ts_time}: it does not grow")
        if not new.s_rtt:
            raise TourError(f"SRtt of {tcb!r} is 0 although data was exchanged")
        grown.append(ticks)
    first = next(iter(after.values()))
    per_second = rig.driver.parameters.ticks_per_second
    rig.facts["alive"] = {
        "ts_time_ticks": sorted(grown)[len(grown) // 2],
        "ticks_per_second": per_second,
        "s_rtt_ms": round(first.s_rtt / 8 / per_second * 1e3, 3),
        "c_wnd": first.c_wnd,
        "rcv_wnd": first.rcv_wnd,
    }


def update(rig: TourRig, connections: Connections) -> None:
    """Change the keepalive of connections and the MTU of paths, and read the MTU back."""
    rig.report("update: keepalive and path MTU")
    tcbs, paths = connections.tcbs, connections.paths
    for t in tcbs:
        t.cached.flags |= int(TcpCachedFlags.TCP_FLAG_KEEP_ALIVE_ENABLED)
        t.cached.ka_timeout = 60_000
    for p in paths:
        p.cached.path_mtu = min(p.cached.path_mtu, 1400)
    rig.do("update", lambda: rig.driver.update(tcbs))
    rig.do("update", *(partial(rig.driver.update, [p]) for p in paths))
    read = rig.do("query", lambda: rig.driver.query(paths, "cached"))[0]
    for p in paths:
        result = read.result_of(p)
        if result is None or result[0] != p.cached:
            raise TourError(f"{p!r}: the target does not have the path MTU that the update passed down")


def relink(rig: TourRig, connections: Connections) -> None:
    """Move the first path to the remote host's other station, which is offloaded already."""
    path = connections.paths[0]
    old, new = _entry(rig, path.neighbor), _other_entry(rig, connections, path)
    if new is None:
        rig.facts["notes"].append("no relink: the remote host has only one station")
        return
    rig.report(f"relink: {path!r} moves from {old.mac.hex(':')} to {new.mac.hex(':')}")
    moved = [p for p in connections.paths if p.neighbor is path.neighbor]
    rig.do("relink", lambda: rig.driver.relink(moved, new.neighbor))
    rig.do("terminate", lambda: rig.driver.terminate([old.neighbor]))
    rig.driver.stack.follow(moved, new.neighbor)
    if any(p.neighbor is not new.neighbor for p in moved):
        raise TourError("a path was relinked, but the host still links it to the old neighbor")


def _entry(rig: TourRig, neighbor: Neighbor) -> NeighborEntry:
    entry = rig.driver.stack.neighbors.entry_of(neighbor)
    if entry is None:
        raise TourError(f"{neighbor!r} is not in the neighbor cache")
    return entry


def _other_entry(rig: TourRig, connections: Connections, path: Path) -> NeighborEntry | None:
    """A next hop of the same address family with another station address."""
    own = _entry(rig, path.neighbor)
    for neighbor in connections.neighbors:
        entry = _entry(rig, neighbor)
        if entry.mac != own.mac and len(entry.address) == len(own.address):
            return entry
    return None


def invalidate(rig: TourRig, connections: Connections) -> None:
    """Invalidate a neighbor: the target stops sending through it, and asks for uploads of its connections."""
    rig.report("invalidate: a neighbor, and the uploads that the target asks for")
    neighbor = connections.neighbors[0]
    affected = [s for s in connections.sockets if s.tcb.path.neighbor is neighbor]
    with rig.recorded(UploadIndicated, OperationDone) as events:
        rig.do("invalidate", lambda: rig.driver.invalidate([neighbor]))
        rig.until(
            lambda: not any(s.tcb.is_offloaded for s in affected),
            "the connections of an invalidated neighbor were not uploaded",
        )
    _count_uploads(rig, [s.tcb for s in affected], events)
    rest: list[StateObject] = [p for p in connections.paths if p.neighbor is neighbor and p.is_offloaded]
    if neighbor.is_offloaded:
        rig.do("terminate", lambda: rig.driver.terminate([*rest, neighbor]))
    connections.exchange("after the invalidate", affected)
    connections.offload()


def _count_uploads(rig: TourRig, affected: list[Tcb], events: list[HostEvent]) -> None:
    """Count each upload request of the target, and as its completion the terminate of that connection."""
    step = rig.step("upload")
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
    if asked or len(affected) != step.requests:
        raise TourError(
            f"upload: of {len(affected)} connections of the invalidated neighbor the target asked for "
            f"{step.requests}, and {step.completions} of those were uploaded"
        )
    if set(step.statuses) != {"NDIS_STATUS_SUCCESS"}:
        raise TourError(f"upload: {dict(step.statuses)}")
