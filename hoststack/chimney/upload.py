"""When the driver below wants something back: events, failures, upload all, and emptying a binding.

Requests for an upload are collected and carried out by one terminate as soon as the messages at hand are
handled, so the death of a target with a hundred thousand connections is one list, not as many.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from hoststack.model.events import AbortIndicated, DisconnectIndicated, UploadIndicated
from hoststack.model.life import IDLE, LIFE, Event, State
from hoststack.model.objects import StateObject
from ndisbus.ddi.enums import MANDATORY_UPLOAD_REASONS, Layer, TcpOffloadEventType
from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.nbl_chain import NblChain

if TYPE_CHECKING:
    from hoststack.chimney.driver import HostDriver
    from hoststack.chimney.engine import Engine, Script
    from hoststack.model.operation import Operation

__all__ = ["everything", "flush", "give_back", "request", "tcp_event"]

_RETRIEVE: Final = int(TcpOffloadEventType.TcpIndicateRetrieve)
_ABORT: Final = int(TcpOffloadEventType.TcpIndicateAbort)
_DISCONNECT: Final = int(TcpOffloadEventType.TcpIndicateDisconnect)
_BACKLOG: Final = int(TcpOffloadEventType.TcpIndicateSendBacklogChange)


def request(host: Engine, obj: StateObject) -> None:
    """Terminate the object as soon as possible (with all that depends on it)."""
    if obj.state is not State.TERMINATING:
        host.uploads[obj] = None
        host.soon()


def tcp_event(host: HostDriver, offload_context: int, event_type: int, information: int) -> None:
    """ProtocolTcpOffloadEvent. Raises nothing: an event for a stranger is the other side's violation."""
    tcb = host.connection_of(offload_context)
    now = host.ndis.now()
    if tcb is None:
        host.violation(
            "R-HND-06", f"event {event_type} for {offload_context:#x}, which is no connection here"
        )
    elif event_type == _RETRIEVE:
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
        tcb.peer_closed = True
        host.emit(DisconnectIndicated(now, tcb))
    elif event_type == _BACKLOG:
        tcb.send_backlog = information
    else:
        host.violation("R-EVT-01", f"{tcb!r}: {event_type} is no TCP_OFFLOAD_EVENT_TYPE")


def flush(host: HostDriver) -> None:
    """Carry out what was put off: give lists back, upload what was asked for, let limbo end."""
    now = host.ndis.now()
    host.due = None
    give_back(host)
    for obj in [o for o, until in host.limbo.items() if until <= now and o.state is State.FAILED]:
        del host.limbo[obj]
        LIFE.advance(obj, Event.LOST)
        host.drop_handle(obj)
    if host.uploads:
        _upload(host)


def give_back(host: Engine) -> None:
    """NdisOffloadTcpReceiveReturn for everything that was indicated and copied; one call for all."""
    if host.returns and host.binding is not None:
        lists, host.returns = host.returns, []
        host.ndis.offload_tcp_receive_return(host.binding.handle, NblChain(lists))


def _upload(host: HostDriver) -> None:
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
            continue  # on its way already, or not there any more
        if obj.state is State.FAILED:
            again.append(obj)
        elif obj.state is State.OFFLOADING:
            host.uploads[obj] = None  # finish() of that operation brings it back here
        else:
            (ready if obj.state in IDLE else busy).append(obj)
    groups = [ready, busy] if all(o.LAYER is Layer.TCP for o in wanted) else [ready + busy]
    for group in (*groups, again):
        whole = _complete(group)
        for obj in group:
            if obj.dependents and obj not in whole:
                host.uploads[obj] = None  # its turn comes when what depends on it is through
        if whole:
            host.terminate(list(whole))


def _complete(group: list[StateObject]) -> dict[StateObject, None]:
    """Those of a group that may be terminated together: nothing else depends on any of them (R-TERM-02)."""
    chosen = dict.fromkeys(group)
    while True:
        taken = Counter([o.lower for o in chosen if o.lower is not None and o.state is not State.FAILED])
        kept = {o: None for o in chosen if not o.dependents or o.dependents - o.leaving <= taken[o]}
        if len(kept) == len(chosen):
            return kept
        chosen = kept


def everything(host: HostDriver) -> Script:
    """Upload all there is: connections first, then paths and neighbors in one list (R-PAUSE-06)."""
    host.chimney.draining += 1
    try:
        host.cancel_waiting("initiate", int(NdisStatus.PAUSED), "everything is being uploaded")
        while True:
            here = [o for o in host.held() if o.waiting is None and o.state in IDLE]
            tcbs = [o for o in here if o.LAYER is Layer.TCP]
            if tcbs:
                yield host.terminate(tcbs)
                continue
            flying = _in_flight(host)
            if flying is not None:
                yield flying
                continue
            if not here:
                return None
            yield host.terminate(here)
    finally:
        host.chimney.draining -= 1


def _in_flight(host: Engine) -> Operation | None:
    for operation in host.pending.values():
        return operation
    for entry in host.waiting:
        return entry.operation
    return None
