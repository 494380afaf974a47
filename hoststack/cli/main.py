"""The command ``hoststack``. Each subcommand is a module of its own."""

from __future__ import annotations

import click

from ndisbus import __version__
from ndisbus.cli.lazy import LazyGroup

__all__ = ["main"]


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    lazy_subcommands={
        "run": ("hoststack.cli.run:run_command", "Run a scenario against the stack on the bus."),
        "tour": (
            "hoststack.cli.tour:tour_command",
            "Take live connections to the remote host through everything the chimney does.",
        ),
        "peer": ("hoststack.cli.peer:peer_command", "Be a remote host on a cable or a TAP device."),
        "netstat": (
            "hoststack.cli.netstat:netstat_command",
            "Show the connections of hosts on the bus, and where each is served.",
        ),
    },
)
@click.version_option(__version__, prog_name="hoststack")
def main() -> None:
    """The host stack: offloads TCP connections through the chimney and takes them back."""
