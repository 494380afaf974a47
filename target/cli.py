"""``python -m target``: the offload target as a process on the bus."""

from __future__ import annotations

import contextlib
from typing import Final

import click

from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.errors import ChimneyError, LocalProtocolError
from ndisbus.net.ethernet import parse_mac
from target.driver import TargetDriver
from target.hardware.config import TargetConfig
from target.wires import open_wires

__all__ = ["main", "make_config"]

#: Exit code when a wire cannot be opened (EX_CONFIG of sysexits.h): the supervisor does not restart the
#: target.
_EX_CONFIG: Final = 78


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--name", default="target", show_default=True, help="Name of the driver on the bus.")
@EndpointOption
@click.option("--adapter", "adapters", multiple=True, help="Name of an adapter; repeat for more [nic0].")
@click.option("--tcp-entries", type=click.IntRange(0), help="Number of connections, per adapter.")
@click.option("--path-entries", type=click.IntRange(0), help="Number of paths, per adapter.")
@click.option("--neighbor-entries", type=click.IntRange(0), help="Number of neighbors, per adapter.")
@click.option(
    "--hw-address-entries", type=click.IntRange(0), help="Number of source MAC addresses besides its own."
)
@click.option("--ip-address-entries", type=click.IntRange(0), help="Number of source IP addresses.")
@click.option("--vlan-entries", type=click.IntRange(1), help="Number of VLAN identifiers in use.")
@click.option(
    "--vlan",
    "vlans",
    type=click.IntRange(1, 4095),
    multiple=True,
    help="A VLAN of the interface; repeat for more.",
)
@click.option("--max-rcv-window", type=click.IntRange(0), help="Largest InitialRcvWnd, bytes.")
@click.option("--max-path-mtu", type=click.IntRange(0), help="Largest path MTU, bytes.")
@click.option(
    "--xmit-buffer-bytes", type=click.IntRange(0), help="Transmit buffer of all connections together, bytes."
)
@click.option(
    "--rcv-buffer-bytes", type=click.IntRange(0), help="Receive buffer of all connections together, bytes."
)
@click.option(
    "--unwelcome-port",
    "ports",
    type=click.IntRange(0, 65535),
    multiple=True,
    help="Refuse connections with this port; repeat for more.",
)
@click.option("--ipv4/--no-ipv4", default=True, help="Whether to offload IPv4 connections.")
@click.option("--ipv6/--no-ipv6", default=True, help="Whether to offload IPv6 connections.")
@click.option("--sack/--no-sack", default=True, help="Whether to support SACK.")
@click.option("--latency", type=click.FloatRange(0), help="Seconds that each state operation takes.")
@click.option("--mac", callback=lambda _c, _p, value: _mac(value), help="MAC address of the first adapter.")
@click.option(
    "--wire",
    "wires",
    metavar="SPEC",
    multiple=True,
    help="The wire of an adapter: cable:NAME, tap:NAME or none, with options "
    "(cable:lan?loss=1%&capture=lan.pcapng). Repeat for each adapter, in the order of --adapter.",
)
@click.option("--drop-corrupt", is_flag=True, help="Drop corrupt frames and count them.")
def main(
    name: str,
    endpoint: str | None,
    adapters: tuple[str, ...],
    mac: bytes | None,
    wires: tuple[str, ...],
    drop_corrupt: bool,
    vlans: tuple[int, ...],
    ports: tuple[int, ...],
    ipv4: bool,
    ipv6: bool,
    sack: bool,
    **capacities: float | None,
) -> None:
    """Run an offload target until it is stopped (SIGTERM, SIGINT)."""
    try:
        config = make_config(
            name=name,
            adapters=adapters or None,
            interface_vlans=frozenset(vlans),
            unwelcome_ports=frozenset(ports),
            support_ipv4=ipv4,
            support_ipv6=ipv6,
            support_sack=sack,
            mac=mac,
            wires=wires,
            drop_corrupt=drop_corrupt,
            **capacities,
        )
    except ChimneyError as e:
        raise click.UsageError(str(e)) from e
    with contextlib.ExitStack() as stack:
        try:
            links = stack.enter_context(open_wires(config))
        except ChimneyError as e:
            click.echo(f"{name}: {e}", err=True)
            raise SystemExit(_EX_CONFIG) from e
        # Imported here because it needs sockets; nothing else in this module does.
        from ndisbus.runtime.run_driver import run_driver  # noqa: PLC0415

        driver = TargetDriver(config, links)
        code = run_driver(driver, name=name, endpoint=endpoint, readers=driver.readers())
    raise SystemExit(code)


def _mac(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return parse_mac(text)
    except LocalProtocolError as e:
        raise click.BadParameter(str(e)) from None


def make_config(**options: object) -> TargetConfig:
    """Return a configuration from the options that were given (not None)."""
    given = {key: value for key, value in options.items() if value is not None}
    return TargetConfig(**given)  # type: ignore[arg-type]
