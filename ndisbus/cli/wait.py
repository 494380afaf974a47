"""``ndisbus wait``: wait, with a deadline, until drivers are ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import click

from ndisbus.cli.common import JsonOption, echo_json, errors, request
from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.errors import BusUnavailable, ChimneyError

__all__ = ["NotInTime", "is_ready", "wait_command", "wait_for"]

#: Seconds between two requests.
_INTERVAL: Final = 0.05


class NotInTime(ChimneyError):
    """The condition did not hold before the deadline."""


def wait_for(
    endpoint: str | None,
    missing: Callable[[dict[str, Any]], str],
    found: Callable[[dict[str, Any]], dict[str, Any] | None],
    timeout: float,
    *,
    command: str,
) -> dict[str, Any]:
    """Ask the bus repeatedly until ``found`` finds something in the answer of ``ps``. Returns what it found.

    Raises :class:`BusUnavailable`, whose text begins with ``command``, if no bus answers in time;
    :class:`NotInTime` if one answers but ``found`` finds nothing; ``missing`` says what was missing in the
    last answer.
    """
    until = time.monotonic() + timeout
    while True:
        left = until - time.monotonic()
        problem: ChimneyError
        try:
            ps = request(endpoint, "ps", {}, max(left, _INTERVAL), command=command)
        except BusUnavailable as error:
            problem = error
        else:
            result = found(ps)
            if result is not None:
                return result
            problem = NotInTime(
                f"{missing(ps)} within {round(timeout, 2):g} s; 'ndisbus ps' shows the drivers on the bus"
            )
        if left <= 0:
            raise problem
        time.sleep(min(_INTERVAL, left))


@click.command("wait")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@EndpointOption
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds to wait for all of them together.",
)
@click.option(
    "--offloading", is_flag=True, help="Wait also until a protocol has enabled the chimney of each adapter."
)
@JsonOption
def wait_command(
    names: tuple[str, ...], endpoint: str | None, timeout: float, offloading: bool, as_json: bool
) -> None:
    """Wait until each NAME is a driver that is ready, or an adapter that is up.

    A driver with a miniport edge is ready when one of its adapters is up. A driver with only a protocol edge
    is ready when it is registered. 'bus' is the bus itself.
    """
    until = time.monotonic() + timeout
    results = []
    with errors(as_json=as_json):
        for name in names:
            left = max(0.0, until - time.monotonic())
            missing, found = partial(_missing, name), partial(_ready, name, offloading)
            said = wait_for(endpoint, missing, found, left, command="wait")
            results.append({"Name": name, **said})
            if not as_json:
                details = ", ".join(f"{k.lower()} {v}" for k, v in said.items())
                click.echo(f"{name}: {details}")
    if as_json:
        echo_json(results)


def _ready(name: str, offloading: bool, ps: dict[str, Any]) -> dict[str, Any] | None:
    if name == "bus":
        return {"State": "ready"}
    for a in ps["Adapters"]:
        if a["Name"] == name and a["State"] == "up" and (a["ChimneyOwner"] or not offloading):
            return {"State": "up", "Driver": a["Driver"], "Epoch": a["Epoch"]}
    for p in ps["Processes"]:
        if p["Name"] == name and p["State"] == "ready" and is_ready(ps, p):
            return {"State": "ready", "Pid": p["Pid"], "Epoch": p["Epoch"]}
    return None


def _missing(name: str, ps: dict[str, Any]) -> str:
    """Say which part of what was waited for is missing."""
    if any(a["Name"] == name and a["State"] == "up" for a in ps["Adapters"]):
        return f"{name} is up, but no protocol enabled its chimney"
    return f"{name} was not ready"


def is_ready(ps: dict[str, Any], process: dict[str, Any]) -> bool:
    """Return whether a driver has registered and, if it has a miniport edge, one of its adapters is up."""
    if process["Kind"] == "unregistered":
        return False
    up = any(a["Driver"] == process["Name"] and a["State"] == "up" for a in ps["Adapters"])
    return up or process["Kind"] == "protocol"
