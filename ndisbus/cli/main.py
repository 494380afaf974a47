"""The command ``ndisbus``. Each subcommand is a module of its own."""

from __future__ import annotations

import click

from ndisbus import __version__
from ndisbus.cli.lazy import LazyGroup

__all__ = ["main"]


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    lazy_subcommands={
        "serve": ("ndisbus.cli.serve:serve_command", "Run the bus."),
        "ps": ("ndisbus.cli.ps:ps_command", "Show processes, adapters, bindings and outstanding requests."),
        "trace": ("ndisbus.cli.trace:trace_command", "Watch the calls as they cross the bus."),
        "fault": (
            "ndisbus.cli.fault:fault_group",
            "Kill, stall or restart a layer; drop, delay or fail calls.",
        ),
        "adapter": ("ndisbus.cli.adapter:adapter_group", "Add and remove virtual adapters."),
        "wait": ("ndisbus.cli.wait:wait_command", "Wait until a driver or an adapter is there."),
        "supervise": ("ndisbus.runtime.supervise_run:supervise_command", "Keep a command running."),
        "bench": ("ndisbus.bench.command:bench_command", "Measure the chain beside a bare one, with ratios."),
    },
)
@click.version_option(__version__, prog_name="ndisbus")
def main() -> None:
    """NDIS for the emulated TCP chimney: the bus, and tools to watch it and to inject faults.

    The address of the bus is NDISBUS_ENDPOINT, by default a socket in your runtime directory.
    """
