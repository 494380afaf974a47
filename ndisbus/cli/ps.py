"""``ndisbus ps``: what NDIS knows, and the CPU time and memory of the processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Final

import click
import psutil
from rich.live import Live

from ndisbus.cli.common import JsonOption, echo_json, errors
from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.cli.ps_view import BUS, CUT_OFF, SHOWN, console, render
from ndisbus.errors import ChimneyError
from ndisbus.lists.heap import NDIS_SPACE
from ndisbus.runtime.control_client import ControlClient

__all__ = ["of_drivers", "ps_command"]

#: psutil's status of a stopped process, such as one after ``ndisbus fault stall``.
_STALLED: Final = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


@click.command("ps")
@EndpointOption
@JsonOption
@click.option("--all", "everything", is_flag=True, help=f"Show every row, not only {SHOWN} of a table.")
@click.option(
    "--driver",
    "drivers",
    metavar="NAME",
    multiple=True,
    help="Show only this driver, its adapters and bindings; a pattern such as 'host*'. Repeat for more.",
)
@click.option("--watch", is_flag=True, help="Repeat until interrupted.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two views, with --watch.",
)
def ps_command(
    endpoint: str | None,
    *,
    as_json: bool,
    everything: bool,
    drivers: tuple[str, ...],
    watch: bool,
    interval: float,
) -> None:
    """Show processes, adapters, bindings, outstanding requests, faults and bug checks.

    A table has at most 10 rows, and a row with the sums of the others; JSON has every row.
    """
    with errors(as_json=as_json), ControlClient(endpoint) as client:
        meter = _Meter(client.endpoint.startswith("ipc://"))

        def survey() -> dict[str, Any]:
            return meter.add(of_drivers(client.request("ps", {}), drivers))

        if not watch:
            _show(survey(), as_json=as_json, everything=everything)
            return
        try:
            _watch(survey, interval, as_json, everything)
        except KeyboardInterrupt:
            return


def of_drivers(ps: dict[str, Any], patterns: tuple[str, ...]) -> dict[str, Any]:
    """Return a survey with only the drivers whose names match, and what belongs to them."""
    if not patterns:
        return ps

    def matches(name: object) -> bool:
        return any(fnmatchcase(str(name), p) for p in patterns)

    if not any(matches(p["Name"]) for key in ("Processes", "CutOff") for p in ps[key]):
        known = ", ".join(sorted(p["Name"] for p in ps["Processes"])) or "none"
        raise ChimneyError(f"ps: no driver is called {' or '.join(patterns)}; drivers on this bus: {known}")
    own = {a["Name"] for a in ps["Adapters"] if matches(a["Driver"])}
    return {
        **ps,
        "Processes": [p for p in ps["Processes"] if matches(p["Name"])],
        "CutOff": [p for p in ps["CutOff"] if matches(p["Name"])],
        "Adapters": [a for a in ps["Adapters"] if a["Name"] in own],
        "Bindings": [b for b in ps["Bindings"] if matches(b["Protocol"]) or b["Adapter"] in own],
        "BugChecks": [b for b in ps["BugChecks"] if matches(b["Driver"])],
    }


def _show(ps: dict[str, Any], *, as_json: bool, everything: bool) -> None:
    if as_json:
        echo_json(ps)
    else:
        console().print(render(ps, everything=everything))


def _watch(survey: Callable[[], dict[str, Any]], interval: float, as_json: bool, everything: bool) -> None:
    screen = console()
    if as_json or not screen.is_terminal:
        while True:
            _show(survey(), as_json=as_json, everything=everything)
            time.sleep(interval)
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(survey(), everything=everything), refresh=True)
            time.sleep(interval)


class _Meter:
    """Adds to each process what the operating system reports: CPU, memory, whether it is stopped.

    The bus and the hung drivers that it cut off become processes like the others here. On the wire they are
    separate, so that a program that waits for a driver does not mistake one of them for it.
    """

    def __init__(self, local: bool) -> None:
        self._local = local
        self._before: dict[int, tuple[float, float]] = {}

    def add(self, ps: dict[str, Any]) -> dict[str, Any]:
        """Add ``CpuSeconds``, ``CpuPercent`` since the last call and ``Rss`` (bytes) to each process."""
        ps["Processes"] = [*_bus(ps.pop("Bus")), *ps["Processes"], *ps.pop("CutOff")]
        for row in ps["Processes"]:
            row |= {"CpuSeconds": None, "CpuPercent": None, "Rss": None}
            if self._local:
                try:
                    self._measure(row)
                except psutil.Error:
                    continue  # it has just ended, or belongs to another user
        return ps

    def _measure(self, row: dict[str, Any]) -> None:
        process = psutil.Process(row["Pid"])
        with process.oneshot():
            times = process.cpu_times()
            row["CpuSeconds"] = round(times.user + times.system, 2)
            row["Rss"] = process.memory_info().rss
            if not row["State"].startswith(CUT_OFF) and process.status() in _STALLED:
                row["State"] = "stalled"
        now = time.monotonic()
        before = self._before.get(process.pid)
        if before is not None and now > before[0]:
            row["CpuPercent"] = round(100 * (row["CpuSeconds"] - before[1]) / (now - before[0]), 1)
        self._before[process.pid] = (now, row["CpuSeconds"])


def _bus(said: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the row of the bus itself."""
    if said["Pid"] is None:
        return []
    row = {"Name": BUS, "Kind": BUS, "Epoch": None, "State": "ready", "Space": NDIS_SPACE}
    return [{**row, **said, "Counters": {}, "Sent": 0, "Lent": 0}]
