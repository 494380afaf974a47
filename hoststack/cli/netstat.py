"""``hoststack netstat``: the connections of the hosts on the bus."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.errors import BusUnavailable, ChimneyError
from ndisbus.runtime.control_client import ControlClient, Refused

__all__ = ["netstat_command", "table"]

_ABSENT: Final = 69
#: How long to wait for a target's counters (seconds). After that the counters read last are shown.
_PATIENCE: Final = 2.0
#: The width of the table without a terminal, in which two IPv6 addresses with ports fit.
_WIDTH: Final = 200


@click.command("netstat")
@click.argument("hosts", nargs=-1, metavar="[HOST]...")
@EndpointOption
@click.option(
    "-s",
    "--statistics",
    is_flag=True,
    help="Show also statistics, host and target together, and what was dropped.",
)
@click.option("-t", "offload", is_flag=True, help="Show the offload state, which is shown in any case.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def netstat_command(
    hosts: tuple[str, ...], *, endpoint: str | None, offload: bool, statistics: bool, as_json: bool
) -> None:
    """Show connections, and where each is served: InHost, Offloading, Offloaded or Uploading.

    HOST: names as 'ndisbus ps' shows them; the default is every host on the bus that has a network stack.
    Exits with 69 if there is no bus, and with 1 if one of the named hosts has no network stack.
    """
    try:
        with ControlClient(endpoint) as client:
            answers = _ask(client, hosts, fresh=statistics)
    except BusUnavailable as e:
        click.echo(f"hoststack: {e}", err=True)
        sys.exit(_ABSENT)
    except ChimneyError as e:
        click.echo(f"hoststack: {e}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(answers, indent=2))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)  # a file or a pipe has no width
    for name, answer in answers.items():
        console.print(f"[bold]{name}[/bold]: {len(answer['Connections'])} connections")
        console.print(table(answer["Connections"]))
        if statistics:
            for title, counters in answer["Statistics"].items():
                console.print(f"[bold]{title}[/bold]")
                for what, count in counters.items():
                    console.print(f"  {count:>12} {what}")
            for what, count in sorted(answer["Counters"].items()):
                console.print(f"  {count:>10} {what}")
    if not answers:
        console.print("no host on the bus has a network stack")


def _ask(client: ControlClient, hosts: tuple[str, ...], *, fresh: bool) -> dict[str, Any]:
    names = hosts
    if not hosts:
        ps = client.request("ps", {}, command="netstat")
        names = tuple(p["Name"] for p in ps["Processes"] if p["Kind"] == "protocol" and p["State"] == "ready")
    answers: dict[str, Any] = {}
    for name in names:
        try:
            answers[name] = _of_host(client, name, fresh=fresh)
        except Refused:
            if hosts:
                _require_stack(client, name)
                raise
            # Without names: a host that has no network stack, or that has left since.
    return answers


def _require_stack(client: ControlClient, name: str) -> None:
    """Raise :class:`Refused` if ``name`` is a process on the bus, but not a host."""
    kinds = {p["Name"]: p["Kind"] for p in client.request("ps", {}, command="netstat")["Processes"]}
    if kinds.get(name, "protocol") != "protocol":
        hosts = sorted(n for n, kind in kinds.items() if kind == "protocol")
        known = f"protocol drivers on the bus: {', '.join(hosts)}" if hosts else "no host is on the bus"
        raise Refused("netstat", f"{name!r} has no network stack; {known}")


def _of_host(client: ControlClient, name: str, *, fresh: bool) -> Any:
    """The answer of one host. ``fresh``: let it read its target's counters first, unless that takes long."""

    def ask(command: str) -> Any:
        request = {"Name": name, "Command": command, "Arguments": {}}
        return client.request("driver", request, command="netstat")

    begun = ask("refresh") if fresh else {"Asked": False}
    until = time.monotonic() + _PATIENCE
    while True:
        answer = ask("netstat")
        if not begun["Asked"] or answer["Read"] > begun["Read"] or time.monotonic() > until:
            return answer


def _end(address: str, port: int) -> str:
    shown = f"[{address}]" if ":" in address else address
    return f"{shown}:{port or '*'}"


def table(rows: list[dict[str, Any]]) -> Table:
    """Draw rows of :func:`hoststack.live.netstat.connections` as ``netstat -t`` does, with the queues."""
    found = Table(title=None, box=None, pad_edge=False, collapse_padding=True)
    for heading in ("Proto", "Local Address", "Foreign Address", "State", "Offload State"):
        found.add_column(heading, no_wrap=True)
    for heading in ("Recv-Q", "Send-Q"):
        found.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for r in rows:
        found.add_row(
            r["Proto"],
            escape(_end(r["LocalAddress"], r["LocalPort"])),  # brackets are markup to rich
            escape(_end(r["ForeignAddress"], r["ForeignPort"])),
            r["State"],
            r["OffloadState"],
            str(r["ReceiveQueue"]),
            str(r["SendQueue"]),
        )
    return found
