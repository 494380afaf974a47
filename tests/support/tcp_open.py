"""How the ends of a simulated connection open it."""

from __future__ import annotations

from typing import Any

from ndisbus.ddi.tcp_enums import (
    TCP_FLAG_KEEP_ALIVE_ENABLED,
    TCP_FLAG_NAGLING_ENABLED,
    TCP_FLAG_WINDOW_SCALING_ENABLED,
)
from ndisbus.net.segment import Segment
from ndisbus.state.path import PathOffloadStateCached
from ndisbus.state.tcp import TcpOffloadStateCached
from ndisbus.tcp.ending import answer_listen
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.open import active_open, passive_open
from tests.support.tcp_end import End

__all__ = ["connect", "listen"]


def connect(end: End) -> None:
    """Open actively: the SYN leaves at once."""
    machine = active_open(_cached(end), local_port=end.ports[0], remote_port=end.ports[1], **_options(end))
    _scale(end, machine)
    end.machine = machine
    end.pump()


def listen(end: End) -> None:
    """Open passively, when the first SYN comes."""

    def accept(syn: Segment) -> None:
        worthy, answer = answer_listen(syn)
        if answer is not None:
            end.net.send(end, answer)
        if not worthy:
            return
        end.observer.arrives(syn)
        machine = end.machine = passive_open(syn, _cached(end), **_options(end))
        if machine.const.flags & TCP_FLAG_WINDOW_SCALING_ENABLED:
            _scale(end, machine)
        end.pump()

    end.on_syn = accept


def _scale(end: End, machine: TcpMachine) -> None:
    """The plan's shift count: not necessarily the smallest that would do."""
    scale = end.plan.window_scale
    if scale is not None:
        machine.const.rcv_wind_scale = scale
        machine.path_changed(end.clock())  # takes the scales over


def _cached(end: End) -> TcpOffloadStateCached:
    plan = end.plan
    tps = plan.ticks_per_second
    return TcpOffloadStateCached(
        flags=TCP_FLAG_NAGLING_ENABLED * plan.nagle | TCP_FLAG_KEEP_ALIVE_ENABLED * plan.keepalive,
        initial_rcv_wnd=plan.receive_window,
        ka_probe_count=10,
        ka_timeout=5 * tps,
        ka_interval=tps,
        ttl_or_hop_limit=128,
    )


def _options(end: End) -> dict[str, Any]:
    plan = end.plan
    return {
        "iss": plan.iss,
        "path_const": end.path,
        "path_cached": PathOffloadStateCached(plan.mtu),
        "settings": end.settings[False],
        "now": end.clock(),
        "ts_time": plan.iss ^ 0x5A5A5A5A,
        "timestamps": plan.timestamps,
        "sack": plan.sack,
        "scaling": plan.window_scale is not None,
    }
