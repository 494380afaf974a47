"""What every layer still holds at the end of the tour. All of it must be 0."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from hoststack.tour.rig import TourError
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState

if TYPE_CHECKING:
    from hoststack.tour.rig import TourRig

__all__ = ["wait_for_none"]

#: How long the last frames may take after everything was closed (seconds).
_SETTLE: Final = 3.0
#: Seconds between two looks.
_INTERVAL: Final = 0.02
_TIME_WAIT: Final = TcpOffloadConnectionState.TcpConnectionTimeWait

#: Counters that drivers report to ``ndisbus ps``, and what they count.
_COUNTERS: Final = {
    "call_entries": "IM call entries",
    "io_entries": "IM I/O entries",
    "packet_entries": "IM packet entries",
    "offload_entries": "IM offload entries",
    "tcp": "TCP contexts",
    "path": "path contexts",
    "neighbor": "neighbor contexts",
    "nbls_outstanding": "net buffer lists in the target",
    "queued_initiates": "queued initiates",
}


def wait_for_none(rig: TourRig) -> dict[str, int]:
    """Wait until nothing is left; returns the counters. Raises :class:`TourError` if something stays."""
    rig.report("looking for leftovers")
    deadline = time.monotonic() + _SETTLE
    while True:
        left = _leftovers(rig)
        bad = {k: v for k, v in left.items() if v}
        if not bad:
            return left
        if time.monotonic() > deadline:
            raise TourError("left over: " + ", ".join(f"{v} {k}" for k, v in bad.items()))
        rig.pause(_INTERVAL)


def _leftovers(rig: TourRig) -> dict[str, int]:
    ps = rig.ask("ps")
    left: dict[str, int] = {
        "requests outstanding on the bus": sum(a["Outstanding"] for a in ps["Adapters"]),
        "frames in flight": sum(a["Sends"] + a["Receives"] for a in ps["Adapters"]),
        "objects of bindings": sum(sum(b["Objects"].values()) for b in ps["Bindings"]),
    }
    for p in ps["Processes"]:
        if p["State"] != "ready":
            raise TourError(f"{p['Name']} (pid {p['Pid']}) did not report its counters: it is {p['State']}")
        for key, text in _COUNTERS.items():
            if key in p["Counters"]:
                left[text] = left.get(text, 0) + int(p["Counters"][key])
    left["handles of the host"] = len(rig.driver.held())
    sockets = rig.driver.stack.transport.sockets.values()
    left["connections not closed"] = sum(s.state is not _TIME_WAIT for s in sockets)
    left["bug checks"] = len(ps["BugChecks"])
    return left
