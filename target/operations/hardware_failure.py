"""Corrupt hardware state (R-HWF-01): a query, invalidate or terminate fails, and the events follow.

First the operation completes with FAILURE. Then TcpIndicateRetrieve with HardwareFailure and TcpIndicateAbort
are raised for each affected connection. When the host terminates the connection, everything outstanding ends
with REQUEST_ABORTED and the terminate completes. There are no events for neighbors and paths; events are
raised for the connections that depend on them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ndisbus.ddi.tcp_enums import TcpOffloadEventType, TcpUploadReason
from target.hardware.adapter import Adapter
from target.hardware.events import raise_event
from target.model.contexts import Context, PathContext, TcpContext
from target.model.life import Event, Life

__all__ = ["connections_of", "find_lost", "lose"]


def connections_of(obj: Context) -> list[TcpContext]:
    """Return the connection itself, or every connection that depends on a path or neighbor."""
    if isinstance(obj, TcpContext):
        return [obj]
    if isinstance(obj, PathContext):
        return list(obj.dependents.values())
    return [tcp for path in obj.dependents.values() for tcp in path.dependents.values()]


def find_lost(adapter: Adapter, point: str, found: Iterable[Context | None]) -> list[Context]:
    """Return the objects of a list whose corruption is detected now. A knob at ``point`` corrupts an object.

    Objects that are already lost are left out: their events were raised.
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
    """Mark objects lost and raise the events, after the operation has completed with FAILURE."""
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
