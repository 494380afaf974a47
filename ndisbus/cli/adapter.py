"""``ndisbus adapter``: virtual adapters of the intermediate driver."""

from __future__ import annotations

import click

from ndisbus.cli.common import JsonOption, echo_json, errors, request
from ndisbus.cli.endpoint_option import EndpointOption

__all__ = ["adapter_group"]


@click.group("adapter")
def adapter_group() -> None:
    """Add and remove virtual adapters of an intermediate driver."""


@adapter_group.command("add")
@click.argument("name", required=False)
@click.option("--under", metavar="DRIVER", help="The intermediate driver that exposes the adapter.")
@EndpointOption
@JsonOption
def add_command(name: str | None, under: str | None, endpoint: str | None, as_json: bool) -> None:
    """Make an intermediate driver expose another adapter, called NAME or the next free name."""
    arguments = {k: v for k, v in (("Name", name), ("Under", under)) if v is not None}
    with errors(as_json=as_json):
        result = request(endpoint, "adapter.add", arguments)
    if as_json:
        echo_json(result)
    else:
        click.echo(f"{result['Name']} added to {result['Driver']}")


@adapter_group.command("remove")
@click.argument("name")
@EndpointOption
@JsonOption
def remove_command(name: str, endpoint: str | None, as_json: bool) -> None:
    """Remove a virtual adapter. Protocols that are bound to it are unbound first."""
    with errors(as_json=as_json):
        result = request(endpoint, "adapter.remove", {"Name": name}, 15.0)
    if as_json:
        echo_json(result)
    else:
        click.echo(f"{name} removed")
