"""Commands of ``ndisbus fault`` for the target: knobs, indications, hangs and corrupt hardware.

Every command takes ``adapter``: a name, or "all" (the default). Commands about connections take
``connection``: the address of a context, or "all" (the default). The answer is a map. LocalProtocolError is
raised for arguments that do not exist or have a wrong value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState, TcpUploadReason
from ndisbus.errors import LocalProtocolError
from target.data import remote_end
from target.hardware.adapter import Adapter
from target.hardware.events import request_upload, set_backlog
from target.hardware.knobs import POINTS, Knobs
from target.model.contexts import Context, NeighborContext, TcpContext
from target.model.life import Life
from target.operations import hardware_failure, pause

__all__ = ["COMMANDS", "control"]

Arguments = dict[str, Any]
_OVER: Final = frozenset((Life.TERMINATING, Life.GONE))


class _Target(NamedTuple):
    """The objects that commands work on."""

    adapters: Sequence[Adapter]
    knobs: Knobs


def control(adapters: Sequence[Adapter], knobs: Knobs, command: str, arguments: Arguments) -> dict[str, Any]:
    """Carry out one command on a target's adapters and knobs."""
    handler = COMMANDS.get(command)
    if handler is None:
        raise LocalProtocolError(f"unknown command {command}; the target has {', '.join(COMMANDS)}")
    return handler(_Target(adapters, knobs), arguments)


def _take(arguments: Arguments, *names: str) -> Arguments:
    unknown = sorted(set(arguments) - {*names, "adapter"})
    if unknown:
        known = ", ".join((*names, "adapter"))
        raise LocalProtocolError(f"unknown argument {', '.join(unknown)}; this command takes {known}")
    return arguments


def _adapters(target: _Target, arguments: Arguments) -> list[Adapter]:
    name = arguments.get("adapter", "all")
    chosen = [a for a in target.adapters if name in ("all", a.name)]
    if not chosen:
        running = ", ".join(a.name for a in target.adapters) or "none"
        raise LocalProtocolError(f"adapter {name} does not exist; initialized adapters: {running}")
    return chosen


def _connections(target: _Target, arguments: Arguments) -> Iterator[tuple[Adapter, TcpContext]]:
    wanted = arguments.get("connection", "all")
    found = False
    for adapter in _adapters(target, arguments):
        for tcp in adapter.connections():
            if wanted in ("all", tcp.address) and tcp.life not in _OVER:
                found = True
                yield adapter, tcp
    if not found and wanted != "all":
        raise LocalProtocolError(
            f"connection {wanted} does not exist; the command tables shows the addresses of connections"
        )


def _knob_list(target: _Target, arguments: Arguments) -> dict[str, Any]:
    _take(arguments)
    points = {p: sorted(s.symbol for s in allowed) for p, (_, allowed) in POINTS.items()}
    return {"knobs": target.knobs.listed(), "points": points}


def _knob_set(target: _Target, arguments: Arguments) -> dict[str, Any]:
    given = dict(_take(arguments, "point", "status", "mode", "nth", "name"))
    given.pop("adapter", None)
    if "point" not in given:
        raise LocalProtocolError(f"the argument point is missing; it is one of {', '.join(sorted(POINTS))}")
    return target.knobs.set(given.pop("point"), **given).to_map()


def _knob_remove(target: _Target, arguments: Arguments) -> dict[str, Any]:
    return target.knobs.remove(str(_take(arguments, "name").get("name", ""))).to_map()


def _knob_reset(target: _Target, arguments: Arguments) -> dict[str, Any]:
    _take(arguments)
    return {"removed": target.knobs.reset()}


def _reason(value: object) -> TcpUploadReason:
    try:
        reason = TcpUploadReason[value] if isinstance(value, str) else TcpUploadReason(int(str(value)))
    except (KeyError, ValueError):
        reason = TcpUploadReason.MaxUploadReason
    if reason is TcpUploadReason.MaxUploadReason:
        names = ", ".join(r.name for r in TcpUploadReason if r is not TcpUploadReason.MaxUploadReason)
        raise LocalProtocolError(f"{value} is not a TCP_UPLOAD_REASON; use one of {names}")
    return reason


def _indicate(target: _Target, arguments: Arguments) -> dict[str, Any]:
    """Raise an event: ``event`` is retrieve (with ``reason``), disconnect or abort."""
    event = _take(arguments, "event", "reason", "connection").get("event", "retrieve")
    if event not in ("retrieve", "disconnect", "abort"):
        raise LocalProtocolError(f"unknown event {event}; use retrieve, disconnect or abort")
    reason = _reason(arguments.get("reason", "UploadRequested"))
    raised = held_back = 0
    for adapter, tcp in list(_connections(target, arguments)):
        done = True
        if event == "disconnect":
            remote_end.fin_received(adapter, tcp)
        elif event == "abort":
            remote_end.rst_received(adapter, tcp)
        elif reason is TcpUploadReason.HardwareFailure:
            # The reason says that the hardware's state is corrupt, so make it so (R-EVT-07).
            tcp.corrupt = True
            hardware_failure.lose(adapter, [tcp] if tcp.life is not Life.LOST else [])
        else:
            done = request_upload(adapter, tcp, reason)
        raised, held_back = raised + done, held_back + (not done)
    return {"raised": raised, "not_allowed": held_back}


def _pause(target: _Target, arguments: Arguments) -> dict[str, Any]:
    _take(arguments)
    chosen = _adapters(target, arguments)
    for adapter in chosen:
        pause.pause(adapter)
    return {"adapters": [a.name for a in chosen]}


def _resume(target: _Target, arguments: Arguments) -> dict[str, Any]:
    """Resume offloading. Every other argument is a capability with its new value, e.g. ``tcp_entries``."""
    changes = {k: v for k, v in arguments.items() if k != "adapter"}
    chosen = _adapters(target, arguments)
    for adapter in chosen:
        pause.resume(adapter, changes)
    return {"adapters": [a.name for a in chosen]}


def _upload_all(target: _Target, arguments: Arguments) -> dict[str, Any]:
    after = bool(_take(arguments, "resume").get("resume", False))
    chosen = _adapters(target, arguments)
    for adapter in chosen:
        pause.upload_all(adapter, resume_after=after)
    return {"adapters": [a.name for a in chosen]}


def _hang(target: _Target, arguments: Arguments) -> dict[str, Any]:
    """Make MiniportCheckForHangEx answer TRUE until a reset, or until ``on`` is false."""
    on = bool(_take(arguments, "on").get("on", True))
    chosen = _adapters(target, arguments)
    for adapter in chosen:
        adapter.hung = on
    return {"adapters": [a.name for a in chosen], "hung": on}


def _corrupt(target: _Target, arguments: Arguments) -> dict[str, Any]:
    """Corrupt the hardware's state of objects; the next query, invalidate or terminate detects it (R-HWF-01).

    ``object``: the address of any context, or "all" of ``layer`` (tcp, path or neighbor; default tcp).
    """
    wanted = _take(arguments, "object", "layer").get("object", "all")
    layer = str(arguments.get("layer", "tcp")).upper()
    marked = 0
    for adapter in _adapters(target, arguments):
        for obj in adapter.hardware.objects.values():
            if wanted == obj.address or (wanted == "all" and obj.layer.name == layer):
                obj.corrupt = True
                marked += 1
    if not marked and wanted != "all":
        raise LocalProtocolError(f"object {wanted} does not exist; the command tables shows the addresses")
    return {"marked": marked}


def _backlog(target: _Target, arguments: Arguments) -> dict[str, Any]:
    """Set the preferred send backlog to ``size`` bytes."""
    size = _take(arguments, "size", "connection").get("size")
    if type(size) is not int or not 0 <= size < 1 << 32:
        raise LocalProtocolError("the argument size must be a number of bytes from 0 to 4294967295")
    told = sum(set_backlog(a, tcp, size) for a, tcp in list(_connections(target, arguments)))
    return {"raised": told}


def _latency(target: _Target, arguments: Arguments) -> dict[str, Any]:
    """Make operations that begin from now on take ``seconds``."""
    seconds = _take(arguments, "seconds").get("seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
        raise LocalProtocolError(f"seconds = {seconds}: must be a number, 0 or more")
    for adapter in _adapters(target, arguments):
        adapter.pipeline.latency = float(seconds)
    return {"seconds": float(seconds)}


def _show(obj: Context) -> dict[str, Any]:
    shown = {"address": obj.address, "life": obj.life.value, "corrupt": obj.corrupt}
    if isinstance(obj, TcpContext):
        shown |= {"state": TcpOffloadConnectionState(obj.tcp_state).name, "machine": obj.flow is not None}
    return shown


def _tables(target: _Target, arguments: Arguments) -> dict[str, Any]:
    """Show what the hardware holds: table entries, trees with at most ``limit`` connections, and the wire."""
    limit = int(_take(arguments, "limit").get("limit", 100))
    answer = {}
    for adapter in _adapters(target, arguments):
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
    """Return the adapter's link and its counters; None without a wire."""
    link = adapter.link
    if link is None:
        return None
    return {"name": link.name, "mtu": link.mtu, **link.counters.to_wire()}


COMMANDS: Final[dict[str, Callable[[_Target, Arguments], dict[str, Any]]]] = {
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
"""Each command with the function that carries it out."""
