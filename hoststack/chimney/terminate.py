"""Uploading: NdisTerminateOffload and its completion. DDI page terminate-offload-sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from hoststack.chimney.send_data import Problem, check_sequence, reclaim, settle_loss, unlend
from hoststack.chimney.trees import arrange, by_layer, check_size, write_tree
from hoststack.model.events import DataReceived
from hoststack.model.life import IDLE, LIFE, Event, State
from hoststack.model.objects import StateObject, Tcb
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.lists.blocklist import BlockList, Key, values
from ndisbus.lists.nbl import NetBufferList, data_of, iter_chain, iter_net_buffers
from ndisbus.state.images import TcpOffloadStateDelegated, unpack_state

if TYPE_CHECKING:
    from hoststack.chimney.engine import Engine
    from hoststack.model.operation import Operation

__all__ = ["LIMBO_SECONDS", "completed", "idle_below", "terminate"]

#: Seconds after a failed terminate in which the driver below may ask for a second one (R-DIS-43).
LIMBO_SECONDS: Final = 1.0

_CLOSED: Final = TcpOffloadConnectionState.TcpConnectionClosed
_TERMINABLE: Final = LIFE.legal_in(Event.TERMINATE)
#: States with an operation in flight, for which a terminate waits (R-TERM-03, R-CONC-01).
_BUSY: Final = frozenset(
    (
        State.OFFLOADING,
        State.QUERYING,
        State.UPDATING,
        State.UPDATING_QUERYING,
        State.INVALIDATING,
        State.INVALID_QUERYING,
    )
)


def terminate(host: Engine, objects: Sequence[StateObject]) -> Operation:
    """Upload objects. See :meth:`HostDriver.terminate`."""
    objects = list(dict.fromkeys(objects))
    host.unclaimed(objects, Event.TERMINATE)
    for obj in objects:
        if obj.state not in _BUSY:
            LIFE.require(obj, Event.TERMINATE)
    taken = Counter([o.lower for o in objects if o.lower is not None and o.state is not State.FAILED])
    for obj in objects:
        left = obj.dependents - obj.leaving - taken[obj] if obj.dependents else 0
        if left > 0:
            raise LocalProtocolError(
                f"{obj!r} cannot be terminated: {left} offloaded objects that are not in the list need it",
                rule="R-TERM-02",
            )
    check_size(arrange(*by_layer(objects)), host.ndis.largest_list)
    for lower, count in taken.items():
        lower.leaving += count
    operation = host.new_operation("terminate", objects)
    if not objects:
        host.finish(operation)
        return operation
    return host.begin_or_wait(
        operation, Event.TERMINATE, lambda op: _begin(host, op), lambda op: _cancelled(op.objects)
    )


def idle_below(objects: Iterable[StateObject]) -> list[StateObject]:
    """The offloaded paths and neighbors on which nothing depends once ``objects`` are terminated."""
    chosen = dict.fromkeys(objects)
    layer: Iterable[StateObject] = list(chosen)
    found: list[StateObject] = []
    for _ in range(2):
        taken = Counter([o.lower for o in layer if o.lower is not None])
        layer = [
            low
            for low, count in taken.items()
            if low not in chosen
            and low.state in IDLE
            and low.waiting is None
            and low.dependents - low.leaving == count
        ]
        found += layer
        chosen.update(dict.fromkeys(layer))
    return found


def _cancelled(objects: Iterable[StateObject]) -> None:
    for obj in objects:
        if obj.lower is not None:
            obj.lower.leaving -= 1


def _begin(host: Engine, operation: Operation) -> bool:
    objects = operation.objects
    at = operation.cursor
    while at < len(objects) and objects[at].state not in _BUSY:
        at += 1
    operation.cursor = at
    if at < len(objects):
        return False
    # The initiate that this waited for may have failed for an object, which is then not offloaded.
    there = [o for o in objects if o.state in _TERMINABLE]
    taken = Counter([o.lower for o in there if o.lower is not None])
    if any(o.dependents > taken[o] for o in there if o.dependents):
        return False  # another operation is terminating dependents
    for obj in objects:
        obj.waiting = None
        host.uploads.pop(obj, None)
    if len(there) < len(objects):
        kept = set(there)
        operation.left_out = [o for o in objects if o not in kept]
        _cancelled(operation.left_out)
        operation.objects = there
        operation.statuses = [None] * len(there)
        if not there:
            host.finish(operation)
            return True
    LIFE.advance_all(there, Event.TERMINATE)
    neighbors, paths, groups = by_layer(there)
    tree = write_tree(host.ndis.heap, arrange(neighbors, paths, groups), lambda o: o.state_type("delegated"))
    operation.objects = [o for o in tree.named if o is not None]
    host.pass_down(operation, host.ndis.terminate_offload, tree)
    return True


def completed(host: Engine, operation: Operation, block_list: BlockList) -> None:
    """ProtocolTerminateOffloadComplete: the delegated state is the host's again, or it is lost."""
    n = len(block_list)
    columns = block_list.columns
    attached = block_list.attachments.read() if block_list.attachments is not None else {}
    at = 0
    for obj, status, kind, state, chain in zip(
        operation.aligned,
        values(columns[Key.STATUS], n),
        values(columns[Key.TYPE], n),
        values(columns.get(Key.STATE), n),
        values(columns.get(Key.NBL_CHAIN), n),
        strict=True,
    ):
        if obj is None:
            continue
        operation.statuses[at] = status
        lower = obj.lower
        retried = obj in host.limbo
        if lower is not None and not retried:
            lower.dependents -= 1
            lower.leaving -= 1
        if status == NdisStatus.SUCCESS:
            host.limbo.pop(obj, None)
            obj.lost = False
            problem = _take_back(host, obj, kind, state, chain, attached)
            if problem:
                operation.reasons[at] = problem
            LIFE.advance(obj, Event.TERMINATED)
            host.drop_handle(obj)
        else:
            _failed(host, obj, retried)
        at += 1
    host.finish(operation)


def _failed(host: Engine, obj: StateObject, retried: bool) -> None:
    """The terminate of an object failed (R-TERM-17); a second one may be asked for once (R-DIS-43).

    Not for a connection that was aborted before, as NDIS reports each connection of a removed adapter.
    """
    _settle(host, obj)
    if retried or (isinstance(obj, Tcb) and obj.reset):
        host.limbo.pop(obj, None)
        LIFE.advance(obj, Event.LOST)
        host.count_loss(obj)
        host.drop_handle(obj)
    else:
        LIFE.advance(obj, Event.NOT_TERMINATED)
        host.limbo[obj] = host.ndis.now() + LIMBO_SECONDS


def _settle(host: Engine, obj: StateObject) -> None:
    """The delegated state did not come back: keep what the host knows itself."""
    obj.lost = True
    if isinstance(obj, Tcb):
        for address in settle_loss(obj):
            host.posted.pop(address, None)


def _take_back(
    host: Engine,
    obj: Any,
    kind: int,
    state: bytes | None,
    chain: int | None,
    attached: dict[int, NetBufferList],
) -> str:
    """Take delegated state, send data and buffered data back; returns what was wrong, or ``""``."""
    try:
        if state is None:
            raise DecodeError("State", "is missing although the terminate succeeded", rule="R-TERM-17")
        structures = unpack_state(kind, state)
        if chain is not None and chain not in attached:
            raise DecodeError(
                "NetBufferListChain", f"{chain:#x} did not travel with the list", rule="R-OSD-12"
            )
    except DecodeError as e:
        host.violation(e.rule, f"{obj!r}: {e}")
        _settle(host, obj)
        return str(e)
    obj.delegated = structures[-1]
    if not isinstance(obj, Tcb):
        return ""
    problem: Problem | None = None
    d = obj.delegated
    if d.buffered_data is not None:
        problem = _buffered(host, obj, d, attached)
    hole = bool(obj.aborted) and d.state is not _CLOSED
    if obj.lent or obj.returned or obj.aborted or obj.acknowledged or chain is not None:
        home, found = reclaim(obj, attached[chain] if chain is not None else None)
        problem = found or problem
        for address in home:
            host.posted.pop(address, None)
    unlend(obj)
    obj.refused = False
    if problem is None and obj.unread_below:
        problem = "R-BRD-07", f"{obj.unread_below} received bytes that went down did not come back"
    # A CLOSED connection never sends again, so its sequence numbers need not fit its send data.
    if problem is None and d.state is not _CLOSED and not d.snd_una == d.snd_nxt == d.snd_max:
        wrong = check_sequence(d, obj.in_flight, obj.queued)
        if wrong:
            problem = "R-OSD-13", wrong
    if problem is None and not hole:
        return ""
    obj.lost = True
    if problem is None:
        return "send data was aborted, although the connection is open: its stream has a hole"
    rule, text = problem
    host.violation(rule, f"{obj!r}: {text}")
    return f"{text} [{rule}]"


def _buffered(
    host: Engine, tcb: Tcb, d: TcpOffloadStateDelegated, attached: dict[int, NetBufferList]
) -> Problem | None:
    """Copy uploaded receive data and return its lists (R-BRD-08, R-BRD-09)."""
    first = attached.get(d.buffered_data or 0)
    if first is None:
        return "R-BRD-07", f"BufferedData {d.buffered_data:#x} did not travel with the list"
    if tcb.receive_buffer is None:
        tcb.receive_buffer = bytearray()
    size = len(tcb.receive_buffer)
    for nbl in iter_chain(first):
        for nb in iter_net_buffers(nbl):
            tcb.receive_buffer += data_of(nb)
        host.returns.append(nbl.address)
    size = len(tcb.receive_buffer) - size
    tcb.unread_below = max(tcb.unread_below - size, 0)
    host.soon()
    host.emit(DataReceived(host.ndis.now(), tcb, size))
    return None
