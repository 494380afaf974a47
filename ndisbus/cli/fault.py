"""``ndisbus fault``: inject faults into processes and calls."""

from __future__ import annotations

import json
from typing import Any

import click

from ndisbus.cli.common import JsonOption, echo_json, errors, request
from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.cli.fault_process import kill_command, restart_command, resume_command, stall_command

__all__ = ["fault_group"]


@click.group("fault")
def fault_group() -> None:
    """Kill, stall or restart a layer; drop, delay, double or fail calls; turn a driver's knobs."""


for _command in (kill_command, stall_command, resume_command, restart_command):
    fault_group.add_command(_command)


@fault_group.command("add")
@click.argument("call")
@click.option("--drop", is_flag=True, help="The call never arrives.")
@click.option("--delay", type=float, metavar="SECONDS", help="The call arrives this much later.")
@click.option("--duplicate", is_flag=True, help="The call arrives twice.")
@click.option("--fail", metavar="STATUS", help="The request ends with this NDIS_STATUS.")
@click.option("--driver", metavar="NAME", help="Only calls that this driver makes or receives.")
@click.option("--adapter", metavar="NAME", help="Only calls about this adapter.")
@click.option("--direction", type=click.Choice(["down", "up"]))
@click.option("--nth", type=int, help="Only the Nth such call.")
@click.option("--skip", type=int, help="Let this many such calls through first.")
@click.option(
    "--times", type=int, help="Hit this many calls; without it, all calls until the fault is removed."
)
@click.option(
    "--probability", type=float, help="Hit each call with this probability (drawn from the bus's seed)."
)
@EndpointOption
@JsonOption
def add_command(
    call: str,
    drop: bool,
    delay: float | None,
    duplicate: bool,
    fail: str | None,
    endpoint: str | None,
    as_json: bool,
    **rest: Any,
) -> None:
    """Arm a fault on CALL, a DDI name or a pattern of such names.

    For example: ndisbus fault add NdisMInitiateOffloadComplete --delay 0.5 --times 1
    """
    chosen = {"drop": drop, "delay": delay is not None, "duplicate": duplicate, "fail": fail is not None}
    actions = [action for action, given in chosen.items() if given]
    if len(actions) != 1:
        only = "only " if actions else ""
        raise click.UsageError(f"give {only}one of --drop, --delay, --duplicate and --fail")
    spec = {"Action": actions[0], "Call": call, "Delay": delay, "Status": fail}
    spec |= {k.capitalize(): v for k, v in rest.items()}
    spec = {k: v for k, v in spec.items() if v is not None}
    with errors(as_json=as_json):
        result = request(endpoint, "fault.add", spec)
    if as_json:
        echo_json(result)
    else:
        click.echo(f"fault {result['Id']} is armed")


@fault_group.command("list")
@EndpointOption
@JsonOption
def list_command(endpoint: str | None, as_json: bool) -> None:
    """Show the faults on calls, and how many calls each has hit."""
    with errors(as_json=as_json):
        result = request(endpoint, "fault.list", {})
    if as_json:
        echo_json(result)
    elif not result["Faults"]:
        click.echo("No fault is armed.")
    else:
        from ndisbus.cli.ps_view import console, fault_table  # noqa: PLC0415 - rich is slow to load

        console().print(fault_table(result["Faults"]))


@fault_group.command("remove")
@click.argument("fault_id", type=int, metavar="ID")
@EndpointOption
@JsonOption
def remove_command(fault_id: int, endpoint: str | None, as_json: bool) -> None:
    """Remove one fault."""
    with errors(as_json=as_json):
        result = request(endpoint, "fault.remove", {"Id": fault_id})
    if as_json:
        echo_json(result)
    else:
        click.echo(f"fault {fault_id} removed")


@fault_group.command("reset")
@EndpointOption
@JsonOption
def reset_command(endpoint: str | None, as_json: bool) -> None:
    """Remove all faults."""
    with errors(as_json=as_json):
        result = request(endpoint, "fault.reset", {})
    if as_json:
        echo_json(result)
    else:
        click.echo("all faults removed")


@fault_group.command("knob")
@click.argument("name")
@click.argument("command")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@EndpointOption
@JsonOption
def knob_command(
    name: str, command: str, arguments: tuple[str, ...], endpoint: str | None, as_json: bool
) -> None:
    """Send COMMAND to the driver NAME. Each driver has commands of its own.

    A VALUE that is JSON is read as JSON, any other as text. For an unknown COMMAND the driver lists the
    commands that it knows.
    """
    pairs = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key:
            raise click.UsageError(f"'{argument}' is not KEY=VALUE")
        pairs[key] = _value(value)
    with errors(as_json=as_json):
        asked = {"Name": name, "Command": command, "Arguments": pairs}
        result = request(endpoint, "driver", asked, command="fault knob")
    if as_json:
        echo_json(result)
    else:
        for key, value in result.items():
            click.echo(f"{key}: {value if isinstance(value, str) else json.dumps(value, default=str)}")
        if not result:
            click.echo("done")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
