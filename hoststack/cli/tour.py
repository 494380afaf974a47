"""``hoststack tour``: the main job, for people and for ``make start``."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface
from types import FrameType
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from hoststack.live.nethost import NetHost
from hoststack.tour.step import Step
from hoststack.tour.tour import REMOTE_ADDRESSES, Tour
from hoststack.tour.traffic import Round
from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.errors import BusUnavailable, ChimneyError
from ndisbus.runtime.driver_process import DriverProcess

__all__ = ["ADDRESSES", "tour_command"]

#: The host's own addresses, unless others are given.
ADDRESSES: Final = ("10.77.0.1/24", "fd77::1/64")


class _Interrupted(BaseException):
    """SIGINT or SIGTERM. As a BaseException it is not taken for an error of the tour."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM unwind the tour. A second signal is ignored, so that the unwinding completes."""
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(number: int, _: FrameType | None) -> None:
        for s in before:
            signal.signal(s, signal.SIG_IGN)
        raise _Interrupted(number)

    for s in before:
        signal.signal(s, interrupt)
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def _each(check: Callable[[str], object], what: str) -> Callable[..., tuple[str, ...]]:
    """Make a callback that checks every value of an option."""

    def callback(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            try:
                check(value)
            except ValueError:
                raise click.BadParameter(f"{value!r} is not {what}") from None
        return values

    return callback


@click.command("tour")
@click.option("--name", default="host", show_default=True, help="Name to register under.")
@click.option("--bind", default="auto", show_default=True, help="Adapter to bind to, or auto.")
@EndpointOption
@click.option(
    "--connections",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="Connections to open to the remote host.",
)
@click.option(
    "--peer",
    "remote_addresses",
    multiple=True,
    metavar="ADDRESS",
    callback=_each(ip_address, "an IP address, such as 10.77.0.2"),
    help=f"An address of the remote host, 'hoststack peer' [{', '.join(REMOTE_ADDRESSES)}].",
)
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="ADDRESS/LENGTH",
    callback=_each(ip_interface, "an IP address with its prefix length, such as 10.77.0.1/24"),
    help=f"An address of this host [{', '.join(ADDRESSES)}].",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random numbers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def tour_command(
    *,
    name: str,
    bind: str,
    endpoint: str | None,
    connections: int,
    remote_addresses: tuple[str, ...],
    addresses: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Take live connections through everything the chimney does.

    Connects to the remote host through the emulated stack and moves data on each connection. Offloads the
    connections as one tree, then queries, updates, relinks and invalidates. Kills the target with requests
    in flight, recovers, uploads everything and moves data again. Exits with 0 only if every completion came
    back, every byte arrived as it was sent and nothing is left over.
    """
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        # Under honcho output goes to a pipe: 120 columns hold the table.
        console = Console(stderr=as_json, highlight=False, width=120)
    started = time.monotonic()
    if not as_json:
        console.print(f"tour: seed {seed}; waiting for the stack")

    def report(text: str) -> None:
        if not as_json:
            console.print(f"[dim]{time.monotonic() - started:6.2f} s[/dim]  {text}")

    rng = random.Random(f"{seed}/{name}")
    driver = NetHost(name, bind=bind, addresses=addresses or ADDRESSES, rng=rng)
    tour: Tour | None = None
    error: ChimneyError | None = None
    try:
        with _interruptible(), DriverProcess(driver, name=name, endpoint=endpoint, seed=seed) as process:
            tour = Tour(
                process,
                driver,
                count=connections,
                addresses=remote_addresses or REMOTE_ADDRESSES,
                seed=seed,
                report=report,
            )
            tour.run()
    except (ChimneyError, BusUnavailable) as e:
        error = e
    except _Interrupted as e:
        click.echo(f"tour: interrupted by {e}", err=True)
        sys.exit(128 + e.number)
    seconds = time.monotonic() - started
    if as_json:
        click.echo(json.dumps(_result(tour, error, seconds, seed), indent=2))
    elif tour is not None:
        _print(console, tour)
    if error is not None:
        click.echo(f"tour: FAILED: {error}", err=True)
        sys.exit(1)
    if not as_json:
        console.print(f"[green]tour: all as it should be, in {seconds:.1f} s[/green]")


def _result(tour: Tour | None, error: ChimneyError | None, seconds: float, seed: int) -> dict[str, Any]:
    return {
        "ok": error is None,
        "error": str(error) if error else None,
        "seconds": round(seconds, 3),
        "seed": seed,
        "facts": tour.rig.facts if tour else {},
        "operations": [s.to_dict() for s in tour.rig.steps.values()] if tour else [],
        "data": [r.to_dict() for r in tour.connections.rounds] if tour else [],
        "leftovers": tour.leftovers if tour else {},
    }


def _print(console: Console, tour: Tour) -> None:
    facts = tour.rig.facts
    if tour.rig.steps:
        console.print(_operations(list(tour.rig.steps.values())))
    if tour.connections.rounds:
        console.print(_data(tour.connections.rounds))
    alive = facts.get("alive")
    if alive:
        console.print(
            f"alive in the target: TsTime grew by {alive['ts_time_ticks']} ticks between two queries, "
            f"SRtt is {alive['s_rtt_ms']} ms, CWnd {alive['c_wnd']} bytes, RcvWnd {alive['rcv_wnd']} bytes"
        )
    kill = facts.get("kill")
    if kill:
        console.print(
            f"kill -9 of the target: last completion after {kill['completed_after_ms']} ms, "
            f"host unbound after {kill['unbound_after_ms']} ms, "
            f"chimney back after {kill['back_after_ms']} ms "
            f"(epoch {kill['epoch_before']} to {kill['epoch_after']}); "
            f"{kill['connections_lost']} connections were lost with it and opened again"
        )
    for note in facts.get("notes", []):
        console.print(f"[dim]note: {note}[/dim]")
    if tour.leftovers:
        left = ", ".join(f"{v} {k}" for k, v in tour.leftovers.items())
        console.print(f"leftovers: {left}")


def _data(rounds: list[Round]) -> Table:
    table = Table(title="What the connections carried")
    table.add_column("data")
    table.add_column("served")
    for heading in ("connections", "KiB sent", "KiB received", "SHA-256 checked", "seconds", "MiB/s"):
        table.add_column(heading, justify="right")
    for r in rounds:
        speed = (r.sent + r.received) / r.seconds / 2**20 if r.seconds else 0.0
        table.add_row(
            r.name,
            ", ".join(f"{n} {where}" for where, n in r.served.items()),
            str(r.connections),
            f"{r.sent / 1024:.0f}",
            f"{r.received / 1024:.0f}",
            f"{r.checked} of {2 * r.connections}",
            f"{r.seconds:.2f}",
            f"{speed:.1f}",
        )
    return table


def _operations(steps: list[Step]) -> Table:
    table = Table(title="What the chimney did")
    for heading, justify in (
        ("operation", "left"),
        ("requests", "right"),
        ("blocks", "right"),
        ("statuses", "left"),
        ("p50 ms", "right"),
        ("p99 ms", "right"),
        ("completions", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for s in steps:
        statuses = ", ".join(f"{n} {k.removeprefix('NDIS_STATUS_')}" for k, n in s.statuses.items())
        p50, p99 = s.percentile(0.5), s.percentile(0.99)
        complete = s.completions == s.requests
        table.add_row(
            s.name,
            str(s.requests),
            str(s.blocks),
            statuses,
            f"{p50:.2f}" if p50 is not None else "",
            f"{p99:.2f}" if p99 is not None else "",
            f"{s.completions} of {s.requests}",
            style=None if complete else "red",
        )
    return table
