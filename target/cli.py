"""``python -m target``: the offload target as a process on the bus."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from ndisbus.errors import ChimneyError, LocalProtocolError
from ndisbus.net.ethernet import parse_mac
from target.driver import TargetDriver
from target.hardware.config import TargetConfig

if TYPE_CHECKING:
    from ndisbus.wire.link import Link

__all__ = ["main", "plug_in"]

#: Exit code when a wire cannot be opened (sysexits.h): its supervisor then knows that it never will be.
_EX_CONFIG: Final = 78


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--name", default="target", show_default=True, help="Name of the driver on the bus.")
@click.option("--endpoint", default=None, help="Where the bus listens; NDISBUS_ENDPOINT unless given.")
@click.option("--adapter", "adapters", multiple=True, help="An adapter (several times for several) [nic0].")
@click.option("--tcp-entries", type=click.IntRange(0), help="Connections there is room for, per adapter.")
@click.option("--path-entries", type=click.IntRange(0), help="Paths there is room for.")
@click.option("--neighbor-entries", type=click.IntRange(0), help="Neighbors there is room for.")
@click.option("--hw-address-entries", type=click.IntRange(0), help="Source MAC addresses; 0: fixed address.")
@click.option("--ip-address-entries", type=click.IntRange(0), help="Source IP addresses.")
@click.option("--vlan-entries", type=click.IntRange(1), help="VLAN identifiers in use.")
@click.option(
    "--vlan", "vlans", type=click.IntRange(1, 4095), multiple=True, help="An identifier of the interface."
)
@click.option("--max-rcv-window", type=click.IntRange(0), help="Largest InitialRcvWnd, bytes.")
@click.option("--max-path-mtu", type=click.IntRange(0), help="Largest path MTU, bytes.")
@click.option("--xmit-buffer-bytes", type=click.IntRange(0), help="Transmit buffers of all connections.")
@click.option("--rcv-buffer-bytes", type=click.IntRange(0), help="Receive buffers of all connections.")
@click.option(
    "--unwelcome-port", "ports", type=click.IntRange(0, 65535), multiple=True, help="Not worth offloading."
)
@click.option("--ipv4/--no-ipv4", default=True, help="Whether IPv4 can be offloaded.")
@click.option("--ipv6/--no-ipv6", default=True, help="Whether IPv6 can be offloaded.")
@click.option("--sack/--no-sack", default=True, help="Whether SACK is supported.")
@click.option("--latency", type=click.FloatRange(0), help="Seconds that each state operation takes.")
@click.option("--mac", callback=lambda _c, _p, value: _mac(value), help="Address of the first adapter.")
@click.option(
    "--wire",
    "wires",
    metavar="SPEC",
    multiple=True,
    help="What an adapter is plugged into: cable:NAME, tap:NAME or none, with options "
    "(cable:lan?loss=1%&capture=lan.pcapng). Once for each adapter, in their order.",
)
@click.option("--drop-corrupt", is_flag=True, help="Drop and count corrupt packets, the host gets none.")
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
    """Run an offload target until the bus is gone for good or somebody stops it."""
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
            driver, readers = plug_in(config, stack)
        except ChimneyError as e:
            click.echo(f"{name}: {e}", err=True)
            raise SystemExit(_EX_CONFIG) from e
        # The runtime brings sockets with it; nothing else here needs them.
        from ndisbus.runtime.driver_process import run_driver  # noqa: PLC0415

        code = run_driver(driver, name=name, endpoint=endpoint, readers=readers)
    raise SystemExit(code)


def plug_in(
    config: TargetConfig, stack: contextlib.ExitStack
) -> tuple[TargetDriver, dict[int, Callable[[float], object]]]:
    """The driver on its wires, which ``stack`` closes, and what is to be called when they are readable.

    Raises :class:`ndisbus.wire.link.LinkError` for a wire that cannot be opened.
    """
    from ndisbus.wire.open import open_link  # noqa: PLC0415 - sockets and devices come with it

    links: list[Link | None] = []
    for adapter, spec in zip(config.adapters, config.wires, strict=False):
        if spec == "none":
            links.append(None)
            continue
        # Several adapters may be on one cable: each is a station of its own.
        link = open_link(spec, station=f"{config.name}-{adapter}")
        stack.callback(link.close)
        links.append(link)
    driver = TargetDriver(config, links)
    readers: dict[int, Callable[[float], object]] = {}
    for adapter, wire in driver.wires.items():
        descriptor = wire.fileno()
        if descriptor is not None:
            readers[descriptor] = partial(driver.wire_readable, adapter)
    return driver, readers


def _mac(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return parse_mac(text)
    except LocalProtocolError as e:
        raise click.BadParameter(str(e)) from None


def make_config(**options: object) -> TargetConfig:
    """A configuration from options, leaving out those that were not given (None)."""
    given = {key: value for key, value in options.items() if value is not None}
    return TargetConfig(**given)  # type: ignore[arg-type]
