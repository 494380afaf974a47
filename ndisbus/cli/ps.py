"""``ndisbus ps``: what NDIS knows, and the CPU time and memory of the processes."""

from __future__ import annotations

import time
from typing import Any, Final

import click
import psutil
from rich.live import Live

from ndisbus.cli.common import JsonOption, echo_json, errors
from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.cli.ps_view import BUS, CUT_OFF, console, render
from ndisbus.lists.heap import NDIS_SPACE
from ndisbus.runtime.control_client import ControlClient

__all__ = ["ps_command"]

#: psutil's status of a stopped process, such as one after ``ndisbus fault stall``.
_STALLED: Final = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


@click.command("ps")
@EndpointOption
@JsonOption
@click.option("--watch", is_flag=True, help="Repeat until interrupted.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two views, with --watch.",
)
def ps_command(endpoint: str | None, as_json: bool, watch: bool, interval: float) -> None:
    """Show processes, adapters, bindings, outstanding requests, faults and bug checks."""
    with errors(as_json=as_json), ControlClient(endpoint) as client:
        meter = _Meter(client.endpoint.startswith("ipc://"))
        if not watch:
            _show(meter.add(client.request("ps", {})), as_json)
            return
        try:
            _watch(client, meter, interval, as_json)
        except KeyboardInterrupt:
            return


def _show(ps: dict[str, Any], as_json: bool) -> None:
    if as_json:
        echo_json(ps)
    else:
        console().print(render(ps))


def _watch(client: ControlClient, meter: _Meter, interval: float, as_json: bool) -> None:
    screen = console()
    if as_json or not screen.is_terminal:
        while True:
            _show(meter.add(client.request("ps", {})), as_json)
            time.sleep(interval)
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(meter.add(client.request("ps", {}))), refresh=True)
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
