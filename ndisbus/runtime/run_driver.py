"""A driver as a whole process: pid file, signals, messages for people, exit code."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Final

import click

from ndisbus.driver.base import Driver
from ndisbus.errors import ChimneyError
from ndisbus.rundir import EndpointError, write_pid
from ndisbus.runtime.collector import tune_gc
from ndisbus.runtime.departure import Departure
from ndisbus.runtime.driver_process import DriverProcess
from ndisbus.runtime.outcomes import BugChecked, HelloRefused
from ndisbus.runtime.signals import SignalPipe

__all__ = ["EX_SOFTWARE", "EX_UNAVAILABLE", "EX_USAGE", "run_driver"]

#: Exit code of a wrong command line: the supervisor does not restart the driver.
EX_USAGE: Final = 2
#: Exit codes (sysexits.h): the bus refused the driver; the driver broke a rule.
EX_UNAVAILABLE: Final = 69
EX_SOFTWARE: Final = 70


def run_driver(
    driver: Driver,
    *,
    name: str,
    endpoint: str | None = None,
    readers: Mapping[int, Callable[[float], object]] | None = None,
) -> int:
    """Run a driver as a whole process until SIGTERM or SIGINT. Returns the exit code.

    When it is asked to stop, the driver first gives back what it holds for others
    (:mod:`ndisbus.runtime.departure`). A second signal ends it at once. ``readers``: functions to call with
    the time when a descriptor of the driver's own is readable. Takes the pid file ``name``. The exit code is
    0 after an orderly stop, 69 if the bus refused the driver, 70 after a bug check, 2 if the endpoint is
    wrong, 1 if it could not start for another reason. The reason is printed on stderr. Exceptions of handlers
    are not caught.
    """
    with SignalPipe() as signals, contextlib.ExitStack() as stack:
        try:
            stack.enter_context(write_pid(name))
            process = stack.enter_context(DriverProcess(driver, name=name, endpoint=endpoint))
        except ChimneyError as e:
            click.echo(f"{name}: {e}", err=True)
            return EX_USAGE if isinstance(e, EndpointError) else 1
        departure = Departure(process)
        process.add_reader(
            signals.receiver, lambda now: departure.ask(now) if signals.arrived() else None, urgent=False
        )
        for descriptor, callback in (readers or {}).items():
            process.add_reader(descriptor, callback)
        process.on_change = lambda what, why: _announce(process, departure, what, why)
        tune_gc()
        try:
            if not departure.run():
                click.echo(f"{name}: ends although not everything was given back; the rest is lost", err=True)
        except (BugChecked, HelloRefused) as e:
            click.echo(f"{name}: {e}", err=True)
            return EX_SOFTWARE if isinstance(e, BugChecked) else EX_UNAVAILABLE
    return 0


def _announce(process: DriverProcess, departure: Departure, what: str, why: str) -> None:
    name = process.name
    if departure.asked_at < math.inf:
        return  # it does not come back
    if what == "ready":
        pid, epoch = process.port.identity["Pid"], process.port.epoch
        click.echo(f"{name}: pid {pid}, epoch {epoch}, bus {process.endpoint}")
    elif what == "lost":
        click.echo(f"{name}: lost the bus ({why}); coming back", err=True)
    else:
        click.echo(f"{name}: {why}", err=True)
