"""What the chimney does to a simulated connection: machines torn out and replaced, queries, updates."""

from __future__ import annotations

from functools import partial
from typing import Final

from ndisbus.ddi.tcp_enums import (
    OFFLOADABLE_TCP_STATES,
    TCP_FLAG_UPDATE_RCV_WND,
    TcpOffloadConnectionState,
)
from ndisbus.state.path import PathOffloadStateCached, PathOffloadStateConst
from ndisbus.state.tcp import TcpOffloadStateCached, TcpOffloadStateConst, TcpOffloadStateDelegated
from ndisbus.tcp.machine import Handover, TcpMachine
from tests.support.tcp_end import End
from tests.support.tcp_plan import HandOver

__all__ = ["schedule"]

_CLOSED: Final = TcpOffloadConnectionState.TcpConnectionClosed
_TIME_WAIT: Final = TcpOffloadConnectionState.TcpConnectionTimeWait
_HANDED_BACK_IN: Final = OFFLOADABLE_TCP_STATES | {_TIME_WAIT}


def schedule(end: End) -> None:
    """Set up what the plan has for this end."""
    plan, post = end.plan, end.net.post
    for how in plan.hand_overs:
        post(how.at, _tear_out, end, how)
    for at in plan.queries:
        post(at, _query, end)
    for at, window in plan.new_windows:
        post(at, _new_window, end, window)
    for at, mtu in plan.new_mtus:
        post(at, _new_mtu, end, mtu)
    end.on_upload = partial(_upload, end)


def _offloadable(end: End) -> TcpMachine | None:
    machine = end.machine
    if machine is None or end.gone or machine.state not in OFFLOADABLE_TCP_STATES:
        return None
    return machine


def _query(end: End) -> None:
    """What a query does: the structures are brought up to date, and nothing else happens."""
    if end.machine is not None and not end.gone:
        end.machine.write_back(end.clock())
        end.machine.delegated.pack()
        end.pump()


def _new_window(end: End, window: int) -> None:
    machine = _offloadable(end)
    if machine is None:
        return
    new = TcpOffloadStateCached.unpack_from(machine.cached.pack())
    if window < new.initial_rcv_wnd:
        end.observer.window_may_shrink()
    new.initial_rcv_wnd = window
    new.flags |= TCP_FLAG_UPDATE_RCV_WND
    end.largest_window = max(end.largest_window, window)
    machine.update_cached(new, end.clock())
    end.pump()


def _new_mtu(end: End, mtu: int) -> None:
    machine = _offloadable(end)
    if machine is None:
        return
    machine.path_cached.path_mtu = mtu
    end.observer.path_mtu(mtu)
    machine.path_changed(end.clock())
    end.pump()


def _upload(end: End) -> None:
    """The machine asked for it: back to the host at once."""
    if end.machine is not None and end.machine.settings.offloaded:
        now = end.net.now
        _tear_out(end, HandOver(at=now, gap=1000, origin=end.origin, offloaded=False, drop_segments=True))


def _tear_out(end: End, how: HandOver) -> None:
    machine = end.machine
    if machine is None or end.gone or not end.connected:
        return
    allowed = OFFLOADABLE_TCP_STATES if how.offloaded else _HANDED_BACK_IN
    if machine.state not in allowed and not machine.settings.offloaded:
        return
    end.hand_overs += 1
    end.net.tell(end, f"torn out, for a {'target' if how.offloaded else 'host'}: {machine!r}")
    given = machine.hand_over(end.clock())
    for segment in given.last:
        end.send(segment)
    end.take_events(machine)
    image = (
        machine.const.pack(),
        machine.cached.pack(),
        machine.delegated.pack(),
        machine.path_const.pack(),
        machine.path_cached.pack(),
    )
    end.machine = None
    end.away = []
    if how.gap:
        end.net.post(end.net.now + how.gap, _take_over, end, image, given, how)
    else:
        _take_over(end, image, given, how)


def _take_over(end: End, image: tuple[bytes, ...], given: Handover, how: HandOver) -> None:
    """The successor has another clock, and nothing but the bytes of the structures and of the data."""
    end.origin = how.origin
    const, cached, delegated, path_const, path_cached = image
    machine = end.machine = TcpMachine(
        TcpOffloadStateConst.unpack_from(const),
        TcpOffloadStateCached.unpack_from(cached),
        TcpOffloadStateDelegated.unpack_from(delegated),
        path_const=PathOffloadStateConst.unpack_from(path_const),
        path_cached=PathOffloadStateCached.unpack_from(path_cached),
        settings=end.settings[how.offloaded],
        now=end.clock(),
        send_data=given.send_data,
        received=given.received,
    )
    if machine.state is _CLOSED:
        end.error = end.error or "uploaded as closed"
        end.over(machine)
        return
    if not how.drop_segments:
        for segment in given.segments:
            machine.receive(segment, end.clock())
    waiting, end.away = end.away or [], None
    end.pump()
    for segment in waiting:
        end.arrive(segment)
    if end.shut and not end.gone and end.machine is machine:
        machine.shutdown()
    if not end.shut:
        end.post_write(0)
    if machine.available or end.heard_fin:
        end.post_read()
    end.pump()
