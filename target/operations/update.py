"""MiniportUpdateOffload: new values of cached variables, and paths that move to another neighbor.

Only cached values and the links of paths change (R-UPD-03). The changes are made when the update completes,
not when it arrives (R-DIS-12). If a block cannot be updated, only that block fails, and its object is served
as before (R-UPD-10).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from ndisbus.ddi.state_types import classes_of
from ndisbus.ddi.tcp_enums import (
    TCP_FLAG_KEEP_ALIVE_ENABLED,
    TCP_FLAG_KEEP_ALIVE_RESTART,
    TCP_FLAG_MAX_RT_RESTART,
    TCP_FLAG_UPDATE_RCV_WND,
    TIMER_NOT_RUNNING,
)
from ndisbus.errors import DecodeError
from ndisbus.lists.blocklist import BlockList, Key, values
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    OffloadState,
    PathOffloadStateCached,
    TcpOffloadStateCached,
    unpack_state,
)
from target.data.machines import flow_of
from target.hardware.adapter import Adapter
from target.model.contexts import Context, NeighborContext, PathContext, TcpContext
from target.model.life import LIFE, Event
from target.network import reachability
from target.operations.lists import FAILURE, resolve, slice_of

__all__ = ["update_offload"]

_NOTHING: Final[tuple[OffloadState, ...]] = ()
#: Cached flags that give a connection something to do, so that it needs a machine.
_WORK: Final = (
    TCP_FLAG_KEEP_ALIVE_ENABLED
    | TCP_FLAG_KEEP_ALIVE_RESTART
    | TCP_FLAG_MAX_RT_RESTART
    | TCP_FLAG_UPDATE_RCV_WND
)


def update_offload(adapter: Adapter, block_list: BlockList) -> None:
    """Begin an update."""
    found, statuses = resolve(adapter, block_list, Event.UPDATE)
    adapter.pipeline.submit(partial(_finish, adapter, block_list, found, statuses), adapter.ndis.now())


def _finish(
    adapter: Adapter, block_list: BlockList, found: list[Context | None], statuses: list[int]
) -> None:
    n = len(found)
    types = values(block_list.columns.get(Key.TYPE, 0), n)
    states = values(block_list.columns.get(Key.STATE), n)
    below = _hangs_from(block_list)
    armed = adapter.knobs.at("update")
    for i in block_list.traverse():
        obj = found[i]
        if obj is None:
            continue
        if armed and adapter.knobs.fire("update") is not None:
            reason = "injected failure"
        else:
            j = below[i]
            reason = _update(
                adapter, obj, types[i], states[i], found[j] if j >= 0 else None, j >= 0 and not statuses[j]
            )
        if reason:
            adapter.refuse(reason)
            statuses[i] = FAILURE
    step = LIFE.column(Event.UPDATED)
    for obj in found:
        if obj is not None:
            obj.life = step[obj.life]
    block_list.columns[Key.STATUS] = statuses
    adapter.ndis.m_update_offload_complete(adapter.handle, block_list)


def _hangs_from(block_list: BlockList) -> list[int]:
    """Return for each block the index of the block one layer below, or -1."""
    n = len(block_list)
    below = [-1] * n
    if n > 1:
        following, dependents = block_list.links(Key.NEXT), block_list.links(Key.DEPENDENT)
        for i in block_list.traverse():
            if following[i] >= 0:
                below[following[i]] = below[i]
            if dependents[i] >= 0:
                below[dependents[i]] = i
    return below


def _update(
    adapter: Adapter, obj: Context, state_type: int, state: bytes | None, base: Context | None, base_ok: bool
) -> str:
    """Update one object. ``base`` is the object of the block below. Returns why not, or an empty string."""
    part = slice_of(obj, state_type)
    if part is None:
        return "block type asks for another IP version"
    structures = _NOTHING
    if state is not None and "cached" in classes_of(state_type):
        try:
            structures = unpack_state(state_type, state)
        except DecodeError:
            return "state of an update is not well formed"
    if isinstance(obj, PathContext) and base is not None and base is not obj.neighbor:
        if not base_ok or not isinstance(base, NeighborContext):
            return "path cannot be moved to a neighbor that failed"
        reason = _each(adapter, obj, structures)
        if not reason:
            obj.relink(base)
            _path_changed(adapter, obj)
        return reason
    if isinstance(obj, TcpContext) and base is not None and base is not obj.path:
        return "links of connections cannot be updated"
    return _each(adapter, obj, structures)


def _each(adapter: Adapter, obj: Context, structures: tuple[OffloadState, ...]) -> str:
    for new in structures:
        if isinstance(new, NeighborOffloadStateCached) and isinstance(obj, NeighborContext):
            _copy(obj.cached, new)
            reachability.host_says(adapter, obj, new.host_reachability_delta, adapter.ticks())
        elif isinstance(new, PathOffloadStateCached) and isinstance(obj, PathContext):
            if new.path_mtu > adapter.config.max_path_mtu:
                return "path MTU too large"
            changed = new.path_mtu != obj.cached.path_mtu
            _copy(obj.cached, new)
            if changed:
                _path_changed(adapter, obj)
        elif isinstance(new, TcpOffloadStateCached) and isinstance(obj, TcpContext):
            reason = _tcp(adapter, obj, new)
            if reason:
                return reason
    return ""


def _tcp(adapter: Adapter, tcp: TcpContext, new: TcpOffloadStateCached) -> str:
    """Update a connection's cached variables and the delegated ones that follow from them (R-UPD-11)."""
    window = new.initial_rcv_wnd
    old = tcp.cached
    if window != old.initial_rcv_wnd:
        if window > adapter.config.max_rcv_window:
            return "initial receive window too large"
        if not adapter.hardware.rcv_room(window - tcp.rcv_reserved):
            return "no free receive buffers"
        adapter.hardware.reserve_rcv(tcp, window)
    if adapter.link is not None and (tcp.flow is not None or new.flags & _WORK):
        flow_of(adapter, tcp).update(new, adapter.ndis.now())
        return ""
    delegated = tcp.delegated
    # The pages disagree on which flag restarts the keepalive timer: either does (R-DIS-13).
    if new.flags & (TCP_FLAG_KEEP_ALIVE_RESTART | TCP_FLAG_MAX_RT_RESTART):
        if new.ka_probe_count != old.ka_probe_count:
            delegated.keep_alive_probe_count = 0
        if (new.ka_timeout, new.ka_interval) != (old.ka_timeout, old.ka_interval):
            enabled = new.flags & TCP_FLAG_KEEP_ALIVE_ENABLED
            delegated.keep_alive_timeout_delta = new.ka_timeout if enabled else TIMER_NOT_RUNNING
    if new.flags & TCP_FLAG_MAX_RT_RESTART:
        delegated.total_rt = 0
    if new.flags & TCP_FLAG_UPDATE_RCV_WND and window != delegated.rcv_wnd:
        adapter.io(tcp).window_due = True
    _copy(old, new)
    return ""


def _path_changed(adapter: Adapter, path: PathContext) -> None:
    """Tell the machines of a path's connections that segment sizes and headers change."""
    now = adapter.ndis.now()
    for tcp in list(path.dependents.values()):
        if tcp.flow is not None:
            tcp.flow.path_changed(now)


def _copy(old: Any, new: OffloadState) -> None:
    """Copy every member in place: machines hold references to the old structure."""
    for member in new.MEMBERS:
        setattr(old, member.attr, getattr(new, member.attr))
