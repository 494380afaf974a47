"""Uploads that the driver below asks for or causes: events, failed requests, "upload all", an unbind.

Upload requests are collected and carried out by one terminate once the messages that have arrived are
handled. So the death of a target with 100,000 connections makes one block list and not 100,000.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from hoststack.chimney import terminate
from hoststack.chimney.trees import most_blocks
from hoststack.model.events import AbortIndicated, DisconnectIndicated, UploadIndicated
from hoststack.model.life import IDLE, LIFE, Event, State
from hoststack.model.objects import StateObject, Tcb
from ndisbus.ddi.state_types import Layer
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import MANDATORY_UPLOAD_REASONS, TcpOffloadEventType
from ndisbus.lists.nbl_chain import NblChain

if TYPE_CHECKING:
    from hoststack.chimney.engine import Engine, Script
    from hoststack.model.operation import Operation

__all__ = ["decline", "everything", "flush", "request", "return_lists", "tcp_event"]

_RETRIEVE: Final = int(TcpOffloadEventType.TcpIndicateRetrieve)
_ABORT: Final = int(TcpOffloadEventType.TcpIndicateAbort)
_DISCONNECT: Final = int(TcpOffloadEventType.TcpIndicateDisconnect)
_BACKLOG: Final = int(TcpOffloadEventType.TcpIndicateSendBacklogChange)


def decline(tcb: Tcb, reason: int) -> bool:
    """The default answer to an upload request that may be declined (R-EVT-06)."""
    return False


def request(host: Engine, obj: StateObject) -> None:
    """Terminate the object as soon as possible, with everything that depends on it."""
    if obj.state is not State.TERMINATING:
        host.uploads[obj] = None
        host.soon()


def tcp_event(host: Engine, offload_context: int, event_type: int, information: int) -> None:
    """ProtocolTcpOffloadEvent. An event for an unknown connection is a violation of the driver below."""
    tcb = host.connection_of(offload_context)
    now = host.ndis.now()
    if tcb is None:
        host.violation(
            "R-HND-06", f"event {event_type} for {offload_context:#x}, which is not a connection of this host"
        )
        return
    if tcb.state is State.OFFLOADING:
        tcb.served = True
    if event_type == _RETRIEVE:
        tcb.upload_reason = information
        accepted = information in MANDATORY_UPLOAD_REASONS or host.upload_policy(tcb, information)
        host.emit(UploadIndicated(now, tcb, information, accepted))
        if accepted:
            request(host, tcb)
    elif event_type == _ABORT:
        tcb.reset = True
        host.emit(AbortIndicated(now, tcb))
        request(host, tcb)
    elif event_type == _DISCONNECT:
        tcb.remote_closed = True
        host.emit(DisconnectIndicated(now, tcb))
    elif event_type == _BACKLOG:
        tcb.send_backlog = information
    else:
        host.violation("R-EVT-01", f"{tcb!r}: {event_type} is not a TCP_OFFLOAD_EVENT_TYPE")


def flush(host: Engine) -> None:
    """Return lists, upload objects, and give up objects whose second terminate was not asked for in time."""
    now = host.ndis.now()
    host.due = None
    return_lists(host)
    for obj in [o for o, until in host.limbo.items() if until <= now and o.state is State.FAILED]:
        del host.limbo[obj]
        LIFE.advance(obj, Event.LOST)
        host.count_loss(obj)
        host.drop_handle(obj)
    if host.uploads:
        _upload(host)


def return_lists(host: Engine) -> None:
    """NdisOffloadTcpReceiveReturn for all lists that were indicated and copied, in one call."""
    if host.returns and host.binding is not None:
        lists, host.returns = host.returns, []
        host.ndis.offload_tcp_receive_return(host.binding.handle, NblChain(lists))


def _upload(host: Engine) -> None:
    wanted, host.uploads = host.uploads, {}
    if any(o.LAYER is not Layer.TCP for o in wanted):
        above = {o for o in wanted if o.LAYER is not Layer.TCP}
        for layer in (Layer.PATH, Layer.TCP):
            for obj in host.held(layer):
                if obj.lower in above:
                    above.add(obj)
                    wanted[obj] = None
    ready: list[StateObject] = []
    busy: list[StateObject] = []
    again: list[StateObject] = []
    for obj in wanted:
        if obj.waiting is not None or obj.state in (State.NEW, State.GONE, State.TERMINATING):
            continue  # being uploaded already, or not offloaded any more
        if obj.state is State.FAILED:
            again.append(obj)
        elif obj.state is State.OFFLOADING:
            host.uploads[obj] = None  # Engine.finish of the initiate brings it back here
        else:
            (ready if obj.state in IDLE else busy).append(obj)
    groups = [ready, busy] if all(o.LAYER is Layer.TCP for o in wanted) else [ready + busy]
    for group in (*groups, again):
        whole = _complete(group)
        for obj in group:
            if obj.dependents and obj not in whole:
                host.uploads[obj] = None  # it is terminated after the objects that depend on it
        for objects in _lists(host, list(whole)):
            terminate.terminate(host, objects)


def _lists(host: Engine, objects: list[StateObject]) -> Iterator[list[StateObject]]:
    """Iterate over lists that fit into a message, the objects on which others depend in later ones."""
    most = most_blocks(host.ndis.largest_list)
    if len(objects) > most:
        objects = sorted(objects, key=lambda o: o.LAYER, reverse=True)
    return (objects[at : at + most] for at in range(0, len(objects), most))


def _complete(group: list[StateObject]) -> dict[StateObject, None]:
    """The objects of a group on which nothing outside the group depends (R-TERM-02)."""
    chosen = dict.fromkeys(group)
    while True:
        taken = Counter([o.lower for o in chosen if o.lower is not None and o.state is not State.FAILED])
        kept = {o: None for o in chosen if not o.dependents or o.dependents - o.leaving <= taken[o]}
        if len(kept) == len(chosen):
            return kept
        chosen = kept


def everything(host: Engine, name: str) -> Operation:
    """Upload all objects as one operation; nothing is offloaded until it is done (R-PAUSE-06)."""
    return host.compose(name, _everything(host))


def _everything(host: Engine) -> Script:
    """Terminate connections first, then paths and neighbors in one list."""
    host.chimney.draining += 1
    try:
        host.cancel_waiting("initiate", int(NdisStatus.PAUSED), "everything is being uploaded")
        while True:
            here = [o for o in host.held() if o.waiting is None and o.state in IDLE]
            tcbs = [o for o in here if o.LAYER is Layer.TCP]
            if tcbs:
                yield terminate.terminate(host, next(_lists(host, tcbs)))
                continue
            unfinished = _unfinished(host)
            if unfinished is not None:
                yield unfinished
                continue
            if not here:
                return None
            yield terminate.terminate(host, next(_lists(host, here)))
    finally:
        host.chimney.draining -= 1


def _unfinished(host: Engine) -> Operation | None:
    """An operation in flight or waiting, if there is one."""
    for operation in host.pending.values():
        return operation
    for entry in host.waiting:
        return entry.operation
    return None
