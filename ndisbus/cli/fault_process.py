"""``ndisbus fault kill | stall | resume | restart``: faults of whole processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import click
import psutil

from ndisbus.cli.common import JsonOption, echo_json, errors, request
from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.cli.wait import is_ready, wait_for
from ndisbus.errors import BusUnavailable, ChimneyError
from ndisbus.rundir import read_pid, runtime_dir
from ndisbus.runtime.supervise import Policy

__all__ = [
    "NoSuchProcess",
    "find_process",
    "kill_command",
    "restart_command",
    "resume_command",
    "stall_command",
]

#: Seconds that the bus has to say which process it is. The bus itself may be stalled.
_PATIENCE: Final = 2.0
#: Seconds within which a killed process must end.
_DEATH: Final = 5.0
#: Seconds that a process has to give back what it holds: as long as its supervisor would wait.
_GRACE: Final = Policy().grace or _DEATH
_INTERVAL: Final = 0.02


class NoSuchProcess(ChimneyError):
    """No process of that name runs on this machine, or it cannot be signalled."""


def find_process(endpoint: str | None, name: str, command: str) -> tuple[psutil.Process, int | None]:
    """Return the process called ``name``, and its epoch if it is on the bus.

    Pid files lead to the bus, to a remote host (``hoststack peer``), and to a driver that the bus does not
    know. Raises :class:`NoSuchProcess`. Raises :class:`BusUnavailable`, whose text begins with ``command``,
    if there is no bus to ask.
    """
    known: list[str] = []
    absent: BusUnavailable | None = None
    if name != "bus":
        try:
            ps = request(endpoint, "ps", {}, _PATIENCE, command=command)
        except BusUnavailable as error:
            ps, absent = {"Processes": []}, error
        for p in ps["Processes"]:
            if p["Name"] == name:
                return _process(name, p["Pid"]), p["Epoch"]
            known.append(p["Name"])
    record = read_pid(name)
    if record is None and name == "bus":
        raise BusUnavailable(
            f"{command}: no bus has a pid file in {runtime_dir()}; start one with 'ndisbus serve'"
        )
    if record is None and absent is not None:
        raise absent
    if record is None:
        there = ", ".join(sorted(known)) or "none"
        raise NoSuchProcess(f"there is no process called '{name}'; drivers on the bus: {there}")
    return _process(name, record.pid), None


def _process(name: str, pid: int) -> psutil.Process:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess as error:
        raise NoSuchProcess(f"{name}: pid {pid} does not run on this machine") from error


def _signal(name: str, process: psutil.Process, act: Callable[[], None]) -> None:
    try:
        act()
    except psutil.NoSuchProcess as error:
        raise NoSuchProcess(f"{name}: pid {process.pid} has just ended") from error
    except psutil.AccessDenied as error:
        raise NoSuchProcess(f"{name}: pid {process.pid} belongs to another user") from error


def _ended(process: psutil.Process, seconds: float) -> bool:
    """Wait for the end of a process. Returns whether it came in time."""
    until = time.monotonic() + seconds
    while True:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(_INTERVAL)


def _kill(name: str, process: psutil.Process) -> None:
    _signal(name, process, process.kill)
    if not _ended(process, _DEATH):
        raise NoSuchProcess(f"{name}: pid {process.pid} did not end within {_DEATH:g} s after SIGKILL")


def _stop(name: str, process: psutil.Process) -> bool:
    """Ask a process to end, and kill it if it does not, as its supervisor does. Returns whether it ended."""
    _signal(name, process, process.terminate)
    if _ended(process, _GRACE):
        return True
    _kill(name, process)
    return False


def _report(as_json: bool, text: str, **fields: Any) -> None:
    if as_json:
        echo_json(fields)
    else:
        click.echo(text)


@click.command("kill")
@click.argument("name")
@EndpointOption
@JsonOption
def kill_command(name: str, endpoint: str | None, as_json: bool) -> None:
    """Kill the layer NAME with SIGKILL ('bus' for the bus). Its supervisor, if any, starts it again."""
    with errors(as_json=as_json):
        process, _ = find_process(endpoint, name, "fault kill")
        _kill(name, process)
        _report(as_json, f"{name} (pid {process.pid}) is killed", Name=name, Pid=process.pid, Action="kill")


@click.command("stall")
@click.argument("name")
@EndpointOption
@JsonOption
def stall_command(name: str, endpoint: str | None, as_json: bool) -> None:
    """Stop the layer NAME (SIGSTOP) until it is resumed."""
    with errors(as_json=as_json):
        process, _ = find_process(endpoint, name, "fault stall")
        _signal(name, process, process.suspend)
        text = f"{name} (pid {process.pid}) is stalled; continue it with 'ndisbus fault resume {name}'"
        _report(as_json, text, Name=name, Pid=process.pid, Action="stall")


@click.command("resume")
@click.argument("name")
@EndpointOption
@JsonOption
def resume_command(name: str, endpoint: str | None, as_json: bool) -> None:
    """Continue a stalled layer (SIGCONT), however long it was stalled."""
    with errors(as_json=as_json):
        # Use its pid file first: after the hang limit the bus has closed its epoch and does not know it.
        record = read_pid(name)
        if record is not None:
            process = _process(name, record.pid)
        else:
            process, _ = find_process(endpoint, name, "fault resume")
        _signal(name, process, process.resume)
        _report(
            as_json, f"{name} (pid {process.pid}) is resumed", Name=name, Pid=process.pid, Action="resume"
        )


@click.command("restart")
@click.argument("name")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds to wait until it is back.",
)
@click.option("--kill", is_flag=True, help="Kill it with SIGKILL: what is offloaded there is lost.")
@EndpointOption
@JsonOption
def restart_command(name: str, timeout: float, kill: bool, endpoint: str | None, as_json: bool) -> None:
    """End the layer NAME in order and wait until its supervisor has started it again.

    It gets SIGTERM: a target or an intermediate driver first gives back what is offloaded there, so no
    connection is lost. One that has not ended after 3 s, as a stalled one, is killed.
    """
    with errors(as_json=as_json):
        process, epoch = find_process(endpoint, name, "fault restart")
        orderly = False
        if kill:
            _kill(name, process)
        else:
            orderly = _stop(name, process)
        old = process.pid
        if epoch is None:
            found = partial(_new_process, name=name, old=old)
        else:
            found = partial(_new_epoch, name=name, old=old, epoch=epoch)
        back = wait_for(endpoint, lambda _: _not_back(name), found, timeout, command="fault restart")
        text = f"{name} is back: pid {back['Pid']} after {old}"
        if "Epoch" in back:
            text += f", epoch {back['Epoch']}"
        if not (kill or orderly):
            text += f"; it had to be killed after {_GRACE:g} s"
        _report(as_json, text, Name=name, Action="restart", OldPid=old, Orderly=orderly, **back)


def _not_back(name: str) -> str:
    return f"{name} has ended and did not come back (does 'ndisbus supervise' run it?)"


def _new_process(_: dict[str, Any], *, name: str, old: int) -> dict[str, Any] | None:
    """Return the new process of the bus or of a remote host, by its pid file; None if there is none yet."""
    record = read_pid(name)
    return {"Pid": record.pid} if record is not None and record.pid != old else None


def _new_epoch(ps: dict[str, Any], *, name: str, old: int, epoch: int | None) -> dict[str, Any] | None:
    for p in ps["Processes"]:
        if p["Name"] == name and p["Pid"] != old and p["Epoch"] != epoch and is_ready(ps, p):
            return {"Pid": p["Pid"], "Epoch": p["Epoch"]}
    return None
