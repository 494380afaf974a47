"""``hoststack peer``: a remote host on a plain link."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import ip_interface
from typing import Final

import click

from hoststack.peer.peer import Peer, station_mac
from hoststack.peer.services import SERVICES
from hoststack.peer.serving import SERVING
from ndisbus.errors import ChimneyError, LocalProtocolError
from ndisbus.net.ethernet import parse_mac
from ndisbus.rundir import AlreadyRunning, write_pid
from ndisbus.wire.open import open_link

__all__ = ["DEFAULT_WIRE", "peer_command"]

#: The cable between the target and the remote host of ``make start``.
DEFAULT_WIRE: Final = "cable:wire0"
#: Two stations of one host on it, so that a path has a second next hop to move to.
_STATIONS: Final = (
    (f"{DEFAULT_WIRE}?station=peer", 2, ("10.77.0.2/24", "fd77::2/64")),
    (f"{DEFAULT_WIRE}?station=peer2", 3, ("10.77.0.3/24", "fd77::3/64")),
)
#: Exit code when a link or an address is wrong (sysexits.h calls it EX_CONFIG).
_EX_CONFIG: Final = 78


@click.command("peer")
@click.option(
    "--link",
    "links",
    multiple=True,
    metavar="SPEC",
    help="cable:NAME, tap:NAME or none, followed by ?KEY=VALUE&... May be given several times. "
    f"Default: two stations on {DEFAULT_WIRE}.",
)
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="ADDRESS/LENGTH[@LINK]",
    help="An address of this host; LINK counts the --link options from 0. May be given several times.",
)
@click.option(
    "--mac",
    "macs",
    multiple=True,
    metavar="MAC",
    help="Station address of a link, in the order of the links.",
)
@click.option(
    "--gateway",
    "gateways",
    multiple=True,
    metavar="NETWORK=GATEWAY",
    help="A route, such as 0.0.0.0/0=10.77.0.9.",
)
@click.option(
    "--window",
    type=click.IntRange(1024, 1 << 30),
    default=262_144,
    show_default=True,
    help="Receive and send buffer of each connection, bytes.",
)
@click.option("--name", default="peer", show_default=True, help="What 'ndisbus fault kill' calls it.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random numbers.")
@click.option("--json", "as_json", is_flag=True, help="Print what is served as one line of JSON.")
def peer_command(
    *,
    links: tuple[str, ...],
    addresses: tuple[str, ...],
    macs: tuple[str, ...],
    gateways: tuple[str, ...],
    window: int,
    name: str,
    seed: int,
    as_json: bool,
) -> None:
    """Be a remote host: echo (7), discard (9), chargen (19), HTTP (80) and checked messages (5007).

    A connection whose client has vanished is ended after some minutes.

    Runs until SIGINT or SIGTERM. Exits with 78 if a link cannot be opened, or if an address is not valid or
    another host has it.
    """
    try:
        with ExitStack() as opened:
            plan = _plan(links, addresses, macs)
            stations = []
            for number, (spec, mac, own) in enumerate(plan):
                link = open_link(spec, station=f"peer{number or ''}")
                opened.callback(link.close)
                stations.append((link, mac, own))
            # A second process may have the same name; 'ndisbus fault kill' then finds it by its pid only.
            with suppress(AlreadyRunning):
                opened.enter_context(write_pid(name))
            options = replace(SERVING, rcvbuf=window, sndbuf=window)
            peer = Peer(stations, seed=seed, options=options)
            for text in gateways:
                network, mark, gateway = text.partition("=")
                if not mark:
                    raise ValueError(f"--gateway {text}: use NETWORK=GATEWAY, such as 0.0.0.0/0=10.77.0.9")
                peer.stack.add_route(network, peer.stations[0].interface, gateway)
            peer.run(lambda: _announce(peer, seed, as_json))
    except (ChimneyError, ValueError) as e:
        click.echo(f"peer: {e}", err=True)
        sys.exit(_EX_CONFIG)


def _plan(
    links: tuple[str, ...], addresses: tuple[str, ...], macs: tuple[str, ...]
) -> list[tuple[str, bytes, list[str]]]:
    """(link, MAC, addresses) of each station."""
    plan: list[tuple[str, bytes, list[str]]]
    if links:
        plan = [(spec, station_mac(2 + i), []) for i, spec in enumerate(links)]
    else:
        plan = [(spec, station_mac(n), [] if addresses else list(own)) for spec, n, own in _STATIONS]
    if links and not addresses:
        addresses = ("10.77.0.2/24", "fd77::2/64")
    for text in addresses:
        address, _, number = text.partition("@")
        if number and not (number.isdecimal() and int(number) < len(plan)):
            raise ValueError(f"--address {text}: there is no link {number}; links are 0..{len(plan) - 1}")
        try:
            ip_interface(address)
        except ValueError:
            raise ValueError(f"--address {text}: use ADDRESS/LENGTH, such as 10.77.0.2/24") from None
        plan[int(number or 0)][2].append(address)
    if len(macs) > len(plan):
        raise ValueError(f"--mac: {len(macs)} addresses were given for {len(plan)} links")
    for i, text in enumerate(macs):
        spec, _, own = plan[i]
        try:
            plan[i] = (spec, parse_mac(text), own)
        except LocalProtocolError as e:
            raise ValueError(f"--mac: {e}") from e
    return plan


def _announce(peer: Peer, seed: int, as_json: bool) -> None:
    if as_json:
        stations = [
            {
                "Link": s.link.name,
                "Mac": s.interface.mac.hex(":"),
                "Mtu": s.interface.mtu,
                "Addresses": [str(a) for a in s.interface.local.values()],
            }
            for s in peer.stations
        ]
        click.echo(json.dumps({"Stations": stations, "Ports": sorted(SERVICES), "Seed": seed}))
    else:
        for s in peer.stations:
            click.echo(f"peer: {s.interface!r} on {s.link.name}, MTU {s.interface.mtu}")
        ports = ", ".join(str(p) for p in sorted(SERVICES))
        click.echo(f"peer: serving TCP ports {ports} (seed {seed})")
    sys.stdout.flush()
