"""The command line of the bus. Each subcommand is a module of its own, imported when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from ndisbus import __version__

__all__ = ["main"]

#: Name of the subcommand -> (module, attribute, one line for --help).
_COMMANDS: Final = {
    "serve": ("ndisbus.cli.serve", "serve_command", "Run the bus."),
    "ps": ("ndisbus.cli.ps", "ps_command", "Show processes, adapters, bindings and what is outstanding."),
    "trace": ("ndisbus.cli.trace", "trace_command", "Watch the calls as they cross the bus."),
    "fault": (
        "ndisbus.cli.fault",
        "fault_group",
        "Kill, stall or restart a layer; drop, delay or fail calls.",
    ),
    "adapter": ("ndisbus.cli.adapter", "adapter_group", "Add and remove virtual adapters."),
    "wait": ("ndisbus.cli.wait", "wait_command", "Wait until a driver or an adapter is there."),
    "supervise": (
        "ndisbus.runtime.supervise_run",
        "supervise_command",
        "Keep a command running.",
    ),
    "bench": ("ndisbus.bench.command", "bench_command", "Measure the chain beside a bare one, with ratios."),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported on use, so that ``--help`` and ``ps`` start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ndisbus")
def main() -> None:
    """NDIS for the emulated TCP chimney: the bus, and tools to watch it and to break it.

    The bus is found at NDISBUS_ENDPOINT, by default a socket in your runtime directory.
    """
