"""Corrupt hardware state (R-HWF-01): a failing query, invalidate or terminate, and what follows it.

First the operation completes with FAILURE; then, for each connection concerned, TcpIndicateRetrieve with
HardwareFailure and TcpIndicateAbort; when the host terminates it, everything outstanding ends with
REQUEST_ABORTED and the terminate completes. A neighbor or path has no events: those of the connections that
depend on it are raised.
"""

from __future__ import annotations

from collections.abc import Iterable

from ndisbus.ddi.enums import TcpOffloadEventType, TcpUploadReason
from target.hardware.adapter import Adapter
from target.model.contexts import Context, PathContext, TcpContext
from target.model.events import raise_event
from target.model.life import Event, Life

__all__ = ["connections_of", "find_lost", "lose"]


def connections_of(obj: Context) -> list[TcpContext]:
    """The connection itself, or every connection that depends on a path or neighbor."""
    if isinstance(obj, TcpContext):
        return [obj]
    if isinstance(obj, PathContext):
        return list(obj.dependents.values())
    return [tcp for path in obj.dependents.values() for tcp in path.dependents.values()]


def find_lost(adapter: Adapter, point: str, found: Iterable[Context | None]) -> list[Context]:
    """Which objects of a list turn out to be corrupt now; a knob at ``point`` makes one so.

    Objects already known to be lost are not among them: their events were raised.
    """
    armed = adapter.knobs.at(point)
    lost = []
    for obj in found:
        if obj is None:
            continue
        if armed and adapter.knobs.fire(point) is not None:
            obj.corrupt = True
        if obj.corrupt and obj.life is not Life.LOST:
            lost.append(obj)
    return lost


def lose(adapter: Adapter, lost: Iterable[Context]) -> None:
    """The operation has completed with FAILURE: mark the objects lost and raise the events."""
    told: dict[int, TcpContext] = {}
    for obj in lost:
        obj.step(Event.LOSE)
        for tcp in connections_of(obj):
            told[tcp.address] = tcp
    for tcp in told.values():
        if tcp.life is not Life.LOST:
            if tcp.life is Life.TERMINATING:
                continue
            tcp.step(Event.LOSE)
        tcp.corrupt = True
        tcp.aborted = True
        tcp.flow = None
        raise_event(adapter, tcp, TcpOffloadEventType.TcpIndicateRetrieve, TcpUploadReason.HardwareFailure)
        raise_event(adapter, tcp, TcpOffloadEventType.TcpIndicateAbort)
