"""``hoststack netstat``: the connections of the hosts on the bus."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click

from hoststack.live.netstat import STATES
from hoststack.model.objects import ConnectionState
from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.errors import BusUnavailable, ChimneyError
from ndisbus.runtime.control_client import ControlClient, Refused

__all__ = ["lines", "netstat_command", "summary"]

_ABSENT: Final = 69
#: How long to wait for a target's counters (seconds). After that the counters read last are shown.
_PATIENCE: Final = 2.0
#: Connections of a host that are shown without ``--all``.
SHOWN: Final = 40


@click.command("netstat")
@click.argument("hosts", nargs=-1, metavar="[HOST]...")
@EndpointOption
@click.option("--all", "everything", is_flag=True, help=f"Show every connection, not only the first {SHOWN}.")
@click.option(
    "--state",
    type=click.Choice(sorted(STATES.values()), case_sensitive=False),
    help="Show only connections in this TCP state.",
)
@click.option(
    "--offload-state",
    type=click.Choice([s.value for s in ConnectionState], case_sensitive=False),
    help="Show only connections that are served there.",
)
@click.option(
    "-s",
    "--statistics",
    is_flag=True,
    help="Show also statistics, host and target together, and what was dropped.",
)
@click.option("-t", "offload", is_flag=True, help="Show the offload state, which is shown in any case.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every connection that matches.")
def netstat_command(
    hosts: tuple[str, ...],
    *,
    endpoint: str | None,
    everything: bool,
    state: str | None,
    offload_state: str | None,
    offload: bool,
    statistics: bool,
    as_json: bool,
) -> None:
    """Show connections, and where each is served: InHost, Offloading, Offloaded or Uploading.

    HOST: names as 'ndisbus ps' shows them; the default is every host on the bus that has a network stack.
    Exits with 69 if there is no bus, and with 1 if one of the named hosts has no network stack.
    """
    wanted = {k: v for k, v in (("State", state), ("OffloadState", offload_state)) if v is not None}
    limit = None if everything or as_json else SHOWN
    try:
        with ControlClient(endpoint) as client:
            answers = _ask(client, hosts, wanted, limit, fresh=statistics)
    except BusUnavailable as e:
        click.echo(f"hoststack: {e}", err=True)
        sys.exit(_ABSENT)
    except ChimneyError as e:
        click.echo(f"hoststack: {e}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(answers, indent=2))
        return
    for name, answer in answers.items():
        click.echo(summary(name, answer))
        for line in lines(answer["Connections"]):
            click.echo(line)
        left = answer.get("Matching", 0) - len(answer["Connections"])
        if left > 0:
            click.echo(f"… {left:,} more; --all shows them, --state and --offload-state choose")
        if statistics:
            for line in _statistics(answer):
                click.echo(line)
    if not answers:
        click.echo("no host on the bus has a network stack")


def _statistics(answer: dict[str, Any]) -> Iterator[str]:
    for title, counters in answer["Statistics"].items():
        yield title
        for what, count in counters.items():
            yield f"  {count:>12} {what}"
    for what, count in sorted(answer["Counters"].items()):
        yield f"  {count:>10} {what}"


def _ask(
    client: ControlClient, hosts: tuple[str, ...], wanted: dict[str, Any], limit: int | None, *, fresh: bool
) -> dict[str, Any]:
    names = hosts
    if not hosts:
        ps = client.request("ps", {}, command="netstat")
        names = tuple(p["Name"] for p in ps["Processes"] if p["Kind"] == "protocol" and p["State"] == "ready")
    answers: dict[str, Any] = {}
    for name in names:
        try:
            answers[name] = _of_host(client, name, wanted, limit, fresh=fresh)
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


def _of_host(
    client: ControlClient, name: str, wanted: dict[str, Any], limit: int | None, *, fresh: bool
) -> Any:
    """Return the answer of one host, joined from slices. ``limit``: the most connections; None: all.

    ``fresh``: let it read its target's counters first, unless that takes long.
    """

    def ask(command: str, arguments: dict[str, Any] | None = None) -> Any:
        request = {"Name": name, "Command": command, "Arguments": arguments or {}}
        return client.request("driver", request, command="netstat")

    begun = ask("refresh") if fresh else {"Asked": False}
    until = time.monotonic() + _PATIENCE
    first = dict(wanted) if limit is None else {**wanted, "Limit": limit}
    while True:
        answer = ask("netstat", first)
        if not begun["Asked"] or answer["Read"] > begun["Read"] or time.monotonic() > until:
            break
    following = answer.pop("Next", None)
    while limit is None and following is not None:
        more = ask("netstat", {**wanted, "After": following})
        answer["Connections"] += more["Connections"]
        following = more["Next"]
    return answer


def _end(address: str, port: int) -> str:
    shown = f"[{address}]" if ":" in address else address
    return f"{shown}:{port or '*'}"


def summary(name: str, answer: dict[str, Any]) -> str:
    """Return the line above the connections of a host: how many there are, and where."""
    total = answer.get("Total", len(answer["Connections"]))
    counts = [
        ", ".join(f"{n:,} {what}" for what, n in sorted(answer.get(key, {}).items()))
        for key in ("States", "OffloadStates")
    ]
    return f"{name}: {total:,} connections" + "".join(f"\n  {c}" for c in counts if c)


_HEADINGS: Final = (
    "Proto",
    "Local Address",
    "Foreign Address",
    "State",
    "Offload State",
    "Recv-Q",
    "Send-Q",
)
#: Index of the first column of numbers.
_NUMBERS: Final = 5


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows of :func:`hoststack.live.netstat.connections` as ``netstat -t`` shows them."""
    cells = [_HEADINGS] + [
        (
            r["Proto"],
            _end(r["LocalAddress"], r["LocalPort"]),
            _end(r["ForeignAddress"], r["ForeignPort"]),
            r["State"],
            r["OffloadState"],
            str(r["ReceiveQueue"]),
            str(r["SendQueue"]),
        )
        for r in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    form = " ".join(f"{{:{'>' if i >= _NUMBERS else '<'}{w}}}" for i, w in enumerate(widths))
    return [form.format(*row) for row in cells]
