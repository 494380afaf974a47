"""Offloading: NdisInitiateOffload and its completion. DDI page initiate-offload-call-sequence.

Objects that cannot be offloaded stay in the host; that is an ordinary outcome with a status and a reason.
All others go down in one tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from hoststack.chimney import data as data_io
from hoststack.chimney.send_data import keep, lend, pieces_of, unlend, why_not_sendable
from hoststack.chimney.trees import arrange, by_layer, check_size, write_tree
from hoststack.model.life import LIFE, Event, State
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import OFFLOADABLE_TCP_STATES
from ndisbus.lists.blocklist import BlockList, Key, values
from ndisbus.lists.nbl_chain import Attachments

if TYPE_CHECKING:
    from hoststack.chimney.engine import Engine
    from hoststack.model.operation import Operation

__all__ = ["completed", "offload"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
#: The object's own state was offloaded (R-INIT-04, R-INIT-05, R-DIS-01).
_TAKEN: Final = (_SUCCESS, int(NdisStatus.OFFLOAD_PARTIAL_SUCCESS))
_OFFLOADED: Final = LIFE.after(State.OFFLOADING, Event.INITIATED)
_REFUSED: Final = LIFE.after(State.OFFLOADING, Event.REFUSED)
_SERVED: Final = (
    "the driver below failed after it had served the connection, or was removed: what it has acknowledged is "
    "not known"
)
_INITIABLE: Final = LIFE.legal_in(Event.INITIATE)


def offload(host: Engine, objects: Sequence[StateObject]) -> Operation:
    """Offload connections, or neighbors and paths alone. See :meth:`HostDriver.offload`."""
    objects = list(dict.fromkeys(objects))
    for obj in objects:
        if obj.waiting is not None or obj.state not in _INITIABLE:
            host.unclaimed((obj,), Event.INITIATE)
            LIFE.require(obj, Event.INITIATE)
    operation = host.new_operation("initiate", objects)
    host.tcbs.update(dict.fromkeys([o for o in objects if type(o) is Tcb]))
    return host.begin_or_wait(operation, Event.INITIATE, lambda op: _begin(host, op))


def why_not(host: Engine) -> tuple[int, str]:
    """(status, reason) why nothing can be offloaded now; the reason is empty if it can."""
    binding, chimney = host.binding, host.chimney
    gone = host.why_gone()
    if gone or binding is None:
        return int(NdisStatus.ADAPTER_REMOVED), gone
    if chimney.state == "paused":
        return int(NdisStatus.PAUSED), f"{binding.adapter} asked for a pause in offloading"
    if chimney.draining:
        return int(NdisStatus.PAUSED), "everything is being uploaded"
    if chimney.state != "enabled":
        reason = f": {chimney.reason}" if chimney.reason else ""
        return int(NdisStatus.OFFLOAD_POLICY), f"the chimney of {binding.adapter} is {chimney.state}{reason}"
    return _SUCCESS, ""


def _objection(tcb: Tcb) -> tuple[int, str] | None:
    """(status, reason) why a connection is not passed down; None if it can be."""
    if tcb.needs_ip_options:
        return int(NdisStatus.OFFLOAD_POLICY), "it needs IPv4 option processing [R-INIT-01]"
    if tcb.delegated.state not in OFFLOADABLE_TCP_STATES:
        return int(NdisStatus.INVALID_STATE), f"its TCP state is {tcb.delegated.state.name} [R-STATE-06]"
    wrong = why_not_sendable(tcb)
    if wrong:
        return int(NdisStatus.INVALID_STATE), f"{wrong} [R-OSD-05]"
    return None


_INVALID: Final = frozenset((State.INVALID, State.INVALID_QUERYING, State.INVALIDATING))


def _lower(lower: StateObject) -> str:
    """What to do with a path or neighbor that is needed: "offer", "link" or "wait"; or it is "invalid"."""
    if lower.waiting is not None or lower.state in (State.OFFLOADING, State.TERMINATING, State.FAILED):
        return "wait"
    if lower.state in _INVALID:
        return "invalid"
    return "link" if lower.is_offloaded else "offer"


def _begin(host: Engine, operation: Operation) -> bool:
    status, reason = why_not(host)
    if reason:
        _unclaim(operation)
        host.refuse(operation, status, reason)
        return True
    rejected: dict[StateObject, tuple[int, str]] = {}
    for obj in operation.objects:
        if type(obj) is Tcb:
            # What an earlier move left.
            obj.upload_reason = None
            obj.served = obj.reset = False
            obj.unread_below = 0
            d = obj.delegated
            if (
                obj.needs_ip_options
                or d.state not in OFFLOADABLE_TCP_STATES
                or not d.snd_una == d.snd_nxt == d.snd_max
            ):
                objection = _objection(obj)
                if objection is not None:
                    rejected[obj] = objection
    wanted = [o for o in operation.objects if o not in rejected] if rejected else operation.objects
    neighbors, paths, groups = by_layer(wanted)
    asked: set[Any] = {*neighbors, *paths}
    kinds = {p: "offer" if p in asked else _lower(p) for p in (*paths, *groups)}
    below: dict[Neighbor, str] = dict.fromkeys(neighbors, "offer")
    for path, kind in kinds.items():
        if kind == "offer" and path.neighbor not in below:
            below[path.neighbor] = _lower(path.neighbor)
    if "wait" in kinds.values() or "wait" in below.values():
        return False
    for path, kind in list(kinds.items()):
        useless = (
            path if kind == "invalid" else path.neighbor if below.get(path.neighbor) == "invalid" else None
        )
        if useless is not None:
            why = int(NdisStatus.INVALID_STATE), f"{useless!r} is invalidated"
            rejected.update(dict.fromkeys(groups.pop(path, []), why))
            if path in asked:
                rejected[path] = why
            del kinds[path]
    _unclaim(operation)
    _send(host, operation, kinds, {n: k for n, k in below.items() if k != "invalid"}, groups, rejected)
    return True


def _unclaim(operation: Operation) -> None:
    for obj in operation.objects:
        obj.waiting = None


def _image(obj: StateObject) -> bytes | None:
    """The packed state of a new object; None for a linker (R-TREE-03, R-TREE-06)."""
    if obj.state is not State.OFFLOADING:
        return None
    const, cached, delegated = obj.whole()
    return const.pack() + cached.pack() + delegated.pack()


def _send(
    host: Engine,
    operation: Operation,
    kinds: dict[Path, str],
    below: dict[Neighbor, str],
    groups: dict[Path, list[Tcb]],
    rejected: dict[StateObject, tuple[int, str]],
) -> None:
    """Write the tree and pass it down. If it is too large or packing a state raises, nothing has changed."""
    heap = host.ndis.heap
    # A linker's dependents are new objects (R-TREE-03), so a neighbor is linked to for a new path only.
    fresh_paths = [p for p, kind in kinds.items() if kind == "offer"]
    layers = arrange(below, kinds, groups, nested=lambda p: kinds[p] == "offer")
    carrying = [t for tcbs in groups.values() for t in tcbs if t.send_queue or t.receive_buffer]
    check_size(layers, host.ndis.largest_list, data=pieces_of(carrying))
    fresh: list[StateObject] = []
    for neighbor, paths in layers.items():
        if neighbor is not None and below[neighbor] == "offer":
            fresh.append(neighbor)
        for path, tcbs in paths.items():
            if path is not None and kinds[path] == "offer":
                fresh.append(path)
            fresh += tcbs
    operation.objects = [*fresh, *rejected]
    operation.statuses = [None] * len(fresh) + [status for status, _ in rejected.values()]
    operation.reasons = {len(fresh) + i: reason for i, (_, reason) in enumerate(rejected.values())}
    if not fresh:
        host.finish(operation)
        return
    before = [obj.state for obj in fresh]
    LIFE.advance_all(fresh, Event.INITIATE)
    try:
        make = heap.handle
        for obj in fresh:
            obj.handle = make(obj)
        chains = [first for tcb in carrying for first in lend(heap, tcb)]
        tree = write_tree(
            heap,
            layers,
            lambda o: o.state_type("whole"),
            _image,
            chain_of=(lambda t: t.delegated.send_data_head) if carrying else None,
        )
    except BaseException:
        for obj, state in zip(fresh, before, strict=True):
            obj.state = state
            host.drop_handle(obj)
        for tcb in carrying:
            keep(tcb)
        raise
    finally:
        for tcb in carrying:
            unlend(tcb)  # the images are packed
    for path in fresh_paths:
        path.neighbor.dependents += 1
    for path, tcbs in groups.items():
        path.dependents += len(tcbs)
    if chains:
        tree.block_list.attachments = Attachments.of(chains)
        # Booked now: the driver below may complete them before it completes the initiate (R-CONC-03).
        for tcb in carrying:
            for nbl in (tcb.lent or {}).values():
                host.posted[nbl.address] = data_io.posted_send(tcb, nbl)
    host.pass_down(operation, host.ndis.initiate_offload, tree)


def completed(host: Engine, operation: Operation, block_list: BlockList) -> None:
    """ProtocolInitiateOffloadComplete: some objects are offloaded now, the others stay in the host."""
    n = len(block_list)
    busy: list[Tcb] = []
    statuses: list[int | None] = []
    note = statuses.append
    offloading = State.OFFLOADING
    for obj, status in zip(operation.aligned, values(block_list.columns[Key.STATUS], n), strict=True):
        if obj is None or obj.state is not offloading:
            continue  # placeholders and linkers
        note(status)
        if status in _TAKEN and obj.handle.context is not None:
            obj.state = _OFFLOADED
            obj.lost = False
            if type(obj) is Tcb and (obj.unread_below or obj.send_queue or obj.held or obj.refused):
                busy.append(obj)
            continue
        if status in _TAKEN:
            text = "reported as offloaded, but its MiniportOffloadContext is NULL"
            host.violation("R-HND-02", f"{obj!r}: {text}")
            operation.reasons[len(statuses) - 1] = f"{text} [R-HND-02]"
            statuses[-1] = int(NdisStatus.FAILURE)
        if obj.lower is not None:
            obj.lower.dependents -= 1
        if type(obj) is Tcb and obj.served:
            operation.reasons[len(statuses) - 1] = _SERVED
            host.lose(obj)
            continue
        obj.state = _REFUSED
        host.drop_handle(obj)
        if type(obj) is Tcb and (obj.lent or obj.unread_below or obj.returned):
            # The driver below took nothing over, so the data is still the host's (R-PART-03).
            for address in keep(obj):
                host.posted.pop(address, None)
    operation.statuses[: len(statuses)] = statuses
    for tcb in busy:
        tcb.buffered = None  # the driver below has copied it (R-BRD-04)
        data_io.flush(host, tcb)
        data_io.fetch(host, tcb)
    host.finish(operation)
