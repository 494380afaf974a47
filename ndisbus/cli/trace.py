"""``ndisbus trace``: watch the calls as they cross the bus."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click

from ndisbus.cli.common import errors
from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.cli.trace_format import JsonFormatter, MermaidFormatter, TextFormatter
from ndisbus.core.fault_rules import find_calls
from ndisbus.errors import BusUnavailable, LocalProtocolError
from ndisbus.messages.trace_events import Filter
from ndisbus.rundir import check_endpoint, default_endpoint
from ndisbus.runtime.curve import ClientKeys
from ndisbus.runtime.endpoint import is_deserted
from ndisbus.runtime.trace_link import TraceSubscriber

__all__ = ["trace_command"]

_HANDSHAKE: Final = 5.0
#: This call occurs several times a second for each adapter, and is rarely of interest.
_HEARTBEAT: Final = "MiniportCheckForHangEx"


def _known(_ctx: click.Context, _param: click.Parameter, calls: tuple[str, ...]) -> tuple[str, ...]:
    for call in calls:
        try:
            find_calls(call)
        except LocalProtocolError as error:
            raise click.BadParameter(str(error).removeprefix("Call: ")) from None
    return calls


@click.command("trace")
@EndpointOption
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "mermaid"]), default="text", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many events.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Stop after this many seconds.")
@click.option("--call", "calls", multiple=True, metavar="GLOB", callback=_known, help="Only these calls.")
@click.option("--without", multiple=True, metavar="GLOB", help="Not these calls.")
@click.option(
    "--all", "everything", is_flag=True, help=f"As text, show {_HEARTBEAT} too, as --call {_HEARTBEAT} does."
)
@click.option(
    "--driver", "drivers", multiple=True, metavar="NAME", help="Only calls and events of this driver."
)
@click.option(
    "--adapter", "adapters", multiple=True, metavar="NAME", help="Only calls and events of this adapter."
)
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
    everything: bool,
    drivers: tuple[str, ...],
    adapters: tuple[str, ...],
    kinds: tuple[str, ...],
) -> None:
    """Print every call that crosses the bus, until interrupted.

    The text form leaves out MiniportCheckForHangEx unless --all or --call asks for it. A Mermaid diagram is
    printed at the end: use --count or --duration, or stop with Ctrl-C or SIGTERM.
    """
    form = "json" if as_json else form
    quiet = form == "text" and not (everything or calls)
    if quiet:
        without += (_HEARTBEAT,)
    wanted = Filter(calls, without, drivers, adapters, kinds)
    with errors(as_json=form == "json"):
        endpoint = endpoint or default_endpoint()
        keys = ClientKeys.from_environment(endpoint)
        check_endpoint(endpoint, keys is not None)
        if is_deserted(endpoint):
            raise BusUnavailable(f"trace: no bus is listening at {endpoint}; start one with 'ndisbus serve'")
        about = f"{endpoint}, {_HEARTBEAT} left out (--all)" if quiet else endpoint
        with TraceSubscriber(endpoint, keys) as subscriber, _sigterm_as_sigint():
            if subscriber.read(_HANDSHAKE) is None:
                raise BusUnavailable(f"trace: no bus answered at {endpoint} within {_HANDSHAKE:g} s")
            _watch(subscriber, about, _formatter(form), wanted, count, duration)


@contextlib.contextmanager
def _sigterm_as_sigint() -> Iterator[None]:
    """Turn SIGTERM into a KeyboardInterrupt, so that the collected output is still printed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _formatter(form: str) -> Any:
    if form == "json":
        return JsonFormatter()
    return MermaidFormatter() if form == "mermaid" else TextFormatter(colour=sys.stdout.isatty())


def _watch(
    subscriber: TraceSubscriber,
    about: str,
    formatter: Any,
    wanted: Filter,
    count: int | None,
    duration: float | None,
) -> None:
    until = None if duration is None else time.monotonic() + duration
    left = count
    try:
        click.echo(f"ndisbus: tracing {about}", err=True)
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
        pass  # the usual way to stop
    end = formatter.end()
    if end:
        click.echo(end)
    if subscriber.lost:
        click.echo(
            f"ndisbus: {subscriber.lost} events were lost because this listener was too slow", err=True
        )
