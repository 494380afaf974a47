"""The command line: ``python -m imdriver``."""

from __future__ import annotations

import click

from imdriver.config import ChimneyPolicy, ImConfig
from imdriver.driver import ImDriver
from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.errors import ChimneyError, LocalProtocolError
from ndisbus.net.ethernet import parse_mac

__all__ = ["main"]


def _mac(text: str) -> tuple[str, bytes]:
    """Return name and address of ``im0-a=02:00:00:00:00:07``. Raises :class:`LocalProtocolError`."""
    name, _, digits = text.partition("=")
    try:
        return name, parse_mac(digits)
    except LocalProtocolError:
        raise LocalProtocolError(f"--mac {text}: use ADAPTER=MAC, such as im0-a=02:00:00:00:00:01") from None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--name", default="im", show_default=True, help="Name of the driver on the bus.")
@click.option("--bind", default="nic0", show_default=True, help='Adapter to bind to below, or "auto".')
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    default=("im0-a", "im0-b"),
    show_default=True,
    help="Virtual adapter to expose above; repeat for more.",
)
@click.option("--block-chimney", is_flag=True, help="Hide the chimney of the adapter below.")
@click.option(
    "--no-chimney-handlers",
    is_flag=True,
    help="Register no chimney entry points. NDIS then passes no chimney call.",
)
@click.option("--vlan-id", type=click.IntRange(0, 4095), help="VlanId to set in neighbors that pass through.")
@click.option(
    "--user-priority", type=click.IntRange(0, 7), help="UserPriority to set in connections that pass through."
)
@click.option(
    "--mac",
    "macs",
    multiple=True,
    metavar="ADAPTER=MAC",
    help="Address of a virtual adapter; by default that of the adapter below.",
)
@EndpointOption
def main(
    name: str,
    bind: str,
    adapters: tuple[str, ...],
    block_chimney: bool,
    no_chimney_handlers: bool,
    vlan_id: int | None,
    user_priority: int | None,
    macs: tuple[str, ...],
    endpoint: str | None,
) -> None:
    """Run an intermediate driver between an adapter and the protocols above it."""
    from ndisbus.runtime.run_driver import run_driver  # noqa: PLC0415 - --help needs no runtime

    try:
        config = ImConfig(
            name=name,
            bind=bind,
            adapters=adapters,
            chimney=ChimneyPolicy.BLOCK if block_chimney else ChimneyPolicy.PASS,
            register_chimney=not no_chimney_handlers,
            vlan_id=vlan_id,
            user_priority=user_priority,
            macs=dict(map(_mac, macs)),
        )
    except ChimneyError as e:
        raise click.UsageError(str(e)) from e
    try:
        code = run_driver(ImDriver(config), name=name, endpoint=endpoint)
    except ChimneyError as e:
        raise click.ClickException(str(e)) from e
    raise SystemExit(code)
