"""``ndisbus trace``: watch the calls as they cross the bus."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import click

from ndisbus.cli.common import EndpointOption, errors
from ndisbus.curve import ClientKeys
from ndisbus.endpoint import is_deserted
from ndisbus.errors import BusUnavailable
from ndisbus.rundir import check_endpoint, default_endpoint
from ndisbus.trace import Filter, JsonFormatter, MermaidFormatter, TextFormatter
from ndisbus.trace_link import TraceSubscriber

__all__ = ["trace_command"]

_HANDSHAKE: Final = 5.0


@click.command("trace")
@EndpointOption
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "mermaid"]), default="text", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many events.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Stop after so many seconds.")
@click.option("--call", "calls", multiple=True, metavar="GLOB", help="Only these calls.")
@click.option("--without", multiple=True, metavar="GLOB", help="Not these calls ('*CheckForHang*').")
@click.option(
    "--driver", "drivers", multiple=True, metavar="NAME", help="Only what this driver sends or gets."
)
@click.option("--adapter", "adapters", multiple=True, metavar="NAME", help="Only what is about this adapter.")
@click.option(
    "--event", "kinds", multiple=True, metavar="GLOB", help="Only these kinds of events ('call', 'fault')."
)
def trace_command(
    endpoint: str | None,
    form: str,
    as_json: bool,
    count: int | None,
    duration: float | None,
    calls: tuple[str, ...],
    without: tuple[str, ...],
    drivers: tuple[str, ...],
    adapters: tuple[str, ...],
    kinds: tuple[str, ...],
) -> None:
    """Print every call that crosses the bus, until interrupted.

    A Mermaid diagram is printed at the end, so give it --count or --duration, or press Ctrl-C.
    """
    form = "json" if as_json else form
    wanted = Filter(calls, without, drivers, adapters, kinds)
    with errors(as_json=form == "json"):
        endpoint = endpoint or default_endpoint()
        keys = ClientKeys.from_environment(endpoint)
        check_endpoint(endpoint, keys is not None)
        if is_deserted(endpoint):
            raise BusUnavailable(f"trace: no bus is listening at {endpoint}; start one with 'ndisbus serve'")
        with TraceSubscriber(endpoint, keys) as subscriber:
            _watch(subscriber, endpoint, _formatter(form), wanted, count, duration)


def _formatter(form: str) -> Any:
    if form == "json":
        return JsonFormatter()
    return MermaidFormatter() if form == "mermaid" else TextFormatter(colour=sys.stdout.isatty())


def _watch(
    subscriber: TraceSubscriber,
    endpoint: str,
    formatter: Any,
    wanted: Filter,
    count: int | None,
    duration: float | None,
) -> None:
    if subscriber.read(_HANDSHAKE) is None:
        raise BusUnavailable(f"trace: no bus answered at {endpoint} within {_HANDSHAKE:g} s")
    click.echo(f"ndisbus: tracing {endpoint}", err=True)
    until = None if duration is None else time.monotonic() + duration
    left = count
    try:
        while left != 0:
            timeout = 3600.0 if until is None else until - time.monotonic()
            if timeout <= 0:
                break
            for event in subscriber.read(timeout) or ():
                if not wanted(event):
                    continue
                line = formatter.line(event)
                if line:
                    click.echo(line)
                if left is not None:
                    left -= 1
                    if left == 0:
                        break
    except KeyboardInterrupt:
        pass  # the ordinary way to end it
    end = formatter.end()
    if end:
        click.echo(end)
    if subscriber.lost:
        click.echo(f"ndisbus: {subscriber.lost} events were lost, this listener was too slow", err=True)
