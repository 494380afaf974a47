"""Commands of ``ndisbus fault`` for the target: knobs, indications, hangs and corrupt hardware.

Every command takes ``adapter`` (a name; all adapters unless given). Commands about connections take
``connection``: the address of a context, or "all" (the default). Arguments that are not understood raise
:class:`LocalProtocolError`; answers are maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ndisbus.ddi.enums import TcpOffloadConnectionState, TcpUploadReason
from ndisbus.errors import LocalProtocolError
from target.data import remote_end
from target.hardware import failing_hardware
from target.hardware.adapter import Adapter
from target.hardware.knobs import POINTS
from target.model.contexts import Context, NeighborContext, TcpContext
from target.model.events import request_upload, set_backlog
from target.model.life import Life
from target.operations import pause

if TYPE_CHECKING:
    from target.driver import TargetDriver

__all__ = ["COMMANDS", "control"]

Arguments = dict[str, Any]
_OVER: Final = frozenset((Life.TERMINATING, Life.GONE))


def control(driver: TargetDriver, command: str, arguments: Arguments) -> dict[str, Any]:
    """Carry out one command."""
    handler = COMMANDS.get(command)
    if handler is None:
        known = ", ".join(COMMANDS)
        raise LocalProtocolError(f"the target knows no command {command!r}; it knows {known}")
    return handler(driver, arguments)


def _take(arguments: Arguments, *names: str) -> Arguments:
    unknown = sorted(set(arguments) - {*names, "adapter"})
    if unknown:
        raise LocalProtocolError(f"{', '.join(unknown)}: no argument of this command ({', '.join(names)})")
    return arguments


def _adapters(driver: TargetDriver, arguments: Arguments) -> list[Adapter]:
    name = arguments.get("adapter", "all")
    chosen = [a for a in driver.adapters.values() if name in ("all", a.name)]
    if not chosen:
        running = ", ".join(a.name for a in driver.adapters.values()) or "none is initialised"
        raise LocalProtocolError(f"there is no adapter {name!r} ({running})")
    return chosen


def _connections(driver: TargetDriver, arguments: Arguments) -> Iterator[tuple[Adapter, TcpContext]]:
    wanted = arguments.get("connection", "all")
    found = False
    for adapter in _adapters(driver, arguments):
        for tcp in adapter.connections():
            if wanted in ("all", tcp.address) and tcp.life not in _OVER:
                found = True
                yield adapter, tcp
    if not found and wanted != "all":
        raise LocalProtocolError(f"there is no connection {wanted!r}")


def _knob_list(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    _take(arguments)
    points = {p: sorted(s.symbol for s in allowed) for p, (_, allowed) in POINTS.items()}
    return {"knobs": driver.knobs.listed(), "points": points}


def _knob_set(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    given = dict(_take(arguments, "point", "status", "mode", "nth", "name"))
    given.pop("adapter", None)
    if "point" not in given:
        raise LocalProtocolError(f"point is missing; there are {', '.join(sorted(POINTS))}")
    return driver.knobs.set(given.pop("point"), **given).to_map()


def _knob_remove(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    return driver.knobs.remove(str(_take(arguments, "name").get("name", ""))).to_map()


def _knob_reset(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    _take(arguments)
    return {"removed": driver.knobs.reset()}


def _reason(value: object) -> TcpUploadReason:
    try:
        reason = TcpUploadReason[value] if isinstance(value, str) else TcpUploadReason(int(str(value)))
    except (KeyError, ValueError):
        reason = TcpUploadReason.MaxUploadReason
    if reason is TcpUploadReason.MaxUploadReason:
        names = ", ".join(r.name for r in TcpUploadReason if r is not TcpUploadReason.MaxUploadReason)
        raise LocalProtocolError(f"{value!r} is no TCP_UPLOAD_REASON; there are {names}")
    return reason


def _indicate(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    """``event``: retrieve (with ``reason``), disconnect or abort."""
    event = _take(arguments, "event", "reason", "connection").get("event", "retrieve")
    if event not in ("retrieve", "disconnect", "abort"):
        raise LocalProtocolError(f"event {event!r}: retrieve, disconnect or abort is meant")
    reason = _reason(arguments.get("reason", "UploadRequested"))
    raised = held_back = 0
    for adapter, tcp in list(_connections(driver, arguments)):
        done = True
        if event == "disconnect":
            remote_end.fin_received(adapter, tcp)
        elif event == "abort":
            remote_end.rst_received(adapter, tcp)
        elif reason is TcpUploadReason.HardwareFailure:
            # The reason says that the hardware's state is corrupt, so it had better be (R-EVT-07).
            tcp.corrupt = True
            failing_hardware.lose(adapter, [tcp] if tcp.life is not Life.LOST else [])
        else:
            done = request_upload(adapter, tcp, reason)
        raised, held_back = raised + done, held_back + (not done)
    return {"raised": raised, "not_allowed": held_back}


def _pause(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    _take(arguments)
    chosen = _adapters(driver, arguments)
    for adapter in chosen:
        pause.pause(adapter)
    return {"adapters": [a.name for a in chosen]}


def _resume(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    """Every other argument is a capability that has changed, e.g. ``tcp_entries``."""
    changes = {k: v for k, v in arguments.items() if k != "adapter"}
    chosen = _adapters(driver, arguments)
    for adapter in chosen:
        pause.resume(adapter, changes)
    return {"adapters": [a.name for a in chosen]}


def _upload_all(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    after = bool(_take(arguments, "resume").get("resume", False))
    chosen = _adapters(driver, arguments)
    for adapter in chosen:
        pause.upload_all(adapter, resume_after=after)
    return {"adapters": [a.name for a in chosen]}


def _hang(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    """MiniportCheckForHangEx answers TRUE until a reset, or until ``on`` is false."""
    on = bool(_take(arguments, "on").get("on", True))
    chosen = _adapters(driver, arguments)
    for adapter in chosen:
        adapter.hung = on
    return {"adapters": [a.name for a in chosen], "hung": on}


def _corrupt(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    """The hardware's copy is broken; the next query, invalidate or terminate finds out (R-HWF-01).

    ``object``: the address of any context, or "all" of ``layer`` (tcp, path or neighbor; tcp).
    """
    wanted = _take(arguments, "object", "layer").get("object", "all")
    layer = str(arguments.get("layer", "tcp")).upper()
    marked = 0
    for adapter in _adapters(driver, arguments):
        for obj in adapter.hardware.objects.values():
            if wanted == obj.address or (wanted == "all" and obj.layer.name == layer):
                obj.corrupt = True
                marked += 1
    if not marked and wanted != "all":
        raise LocalProtocolError(f"there is no object {wanted!r}")
    return {"marked": marked}


def _backlog(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    """The preferred send backlog is ``size`` bytes now."""
    size = _take(arguments, "size", "connection").get("size")
    if type(size) is not int or not 0 <= size < 1 << 32:
        raise LocalProtocolError(f"size {size!r}: a number of bytes is meant")
    told = sum(set_backlog(a, tcp, size) for a, tcp in list(_connections(driver, arguments)))
    return {"raised": told}


def _latency(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    """Operations that begin from now on take ``seconds``."""
    seconds = _take(arguments, "seconds").get("seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
        raise LocalProtocolError(f"seconds {seconds!r}: 0 or more is meant")
    for adapter in _adapters(driver, arguments):
        adapter.pipeline.latency = float(seconds)
    return {"seconds": float(seconds)}


def _show(obj: Context) -> dict[str, Any]:
    shown = {"address": obj.address, "life": obj.life.value, "corrupt": obj.corrupt}
    if isinstance(obj, TcpContext):
        shown |= {"state": TcpOffloadConnectionState(obj.tcp_state).name, "machine": obj.flow is not None}
    return shown


def _tables(driver: TargetDriver, arguments: Arguments) -> dict[str, Any]:
    """What the hardware holds: entries, internal trees with ``limit`` connections at most, and the wire."""
    limit = int(_take(arguments, "limit").get("limit", 100))
    answer = {}
    for adapter in _adapters(driver, arguments):
        neighbors = [o for o in adapter.hardware.objects.values() if isinstance(o, NeighborContext)]
        trees = []
        for neighbor in neighbors:
            paths = []
            for path in neighbor.dependents.values():
                shown = list(path.dependents.values())[: max(limit, 0)]
                limit -= len(shown)
                paths.append(
                    _show(path) | {"tcp": [_show(t) for t in shown], "connections": len(path.dependents)}
                )
            trees.append(_show(neighbor) | {"paths": paths})
        answer[adapter.name] = {
            "in_use": adapter.hardware.in_use(),
            "trees": trees,
            "paused": adapter.paused,
            "uploading": adapter.uploading,
            "enabled": adapter.enabled is not None,
            "wire": _wire(adapter),
            "refusals": dict(adapter.refusals),
        }
    return answer


def _wire(adapter: Adapter) -> dict[str, Any] | None:
    """What the adapter is plugged into, and what went over it."""
    if adapter.station is None:
        return None
    link = adapter.station.link
    return {"name": link.name, "mtu": link.mtu, **link.counters.to_wire()}


COMMANDS: Final[dict[str, Callable[[TargetDriver, Arguments], dict[str, Any]]]] = {
    "knob.list": _knob_list,
    "knob.set": _knob_set,
    "knob.remove": _knob_remove,
    "knob.reset": _knob_reset,
    "indicate": _indicate,
    "pause": _pause,
    "resume": _resume,
    "upload_all": _upload_all,
    "hang": _hang,
    "corrupt": _corrupt,
    "backlog": _backlog,
    "latency": _latency,
    "tables": _tables,
}
"""Command -> what carries it out."""
