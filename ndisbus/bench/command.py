"""The command ``ndisbus bench``."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ndisbus.bench.run import measure
from ndisbus.bench.tcp_command import tcp_command
from ndisbus.errors import ChimneyError

__all__ = ["bench_command"]


@click.group("bench", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option("--quick", is_flag=True, help="Fewer samples and small trees only.")
@click.pass_context
def bench_command(context: click.Context, *, as_json: bool, quick: bool) -> None:
    """Measure our chain beside a bare ZeroMQ chain of the same hops, and print the ratios.

    Both run at the same time in processes of their own, in a temporary directory. A stack that runs elsewhere
    on this machine is not affected.
    """
    if context.invoked_subcommand is not None:
        if as_json or quick:
            raise click.UsageError(f"write the options after '{context.invoked_subcommand}'")
        return
    console = Console(stderr=True)
    try:
        if as_json:
            result = measure(quick=quick)
        else:
            with console.status("starting") as status:
                result = measure(quick=quick, report=status.update)
    except ChimneyError as e:
        raise click.ClickException(str(e)) from e
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    _print(result)


bench_command.add_command(tcp_command)


def _print(result: dict[str, Any]) -> None:
    console = Console()
    table = Table(title="One-block requests through bus, intermediate driver and target, and back")
    for column in ("", "round trip p50", "round trip p99", "p50, steady", "pipelined"):
        table.add_column(column, justify="right" if column else "left")
    for name, key in (("bare ZeroMQ", "bare"), ("our chain", "chain")):
        m = result[key]
        table.add_row(
            name, f"{m['rtt_p50_us']:.0f} µs", f"{m['rtt_p99_us']:.0f} µs", f"{m['ops_per_s']:,} op/s"
        )
    r = result["ratio"]
    table.add_row("ratio", *(f"{r[k]:.2f}" for k in ("rtt_p50", "rtt_p99", "rtt_p50_steady", "ops_per_s")))
    console.print(table)
    trees = Table(title="Trees: blocks per second, call to completion")
    for column in ("blocks", "initiate", "query", "terminate", "all"):
        trees.add_column(column, justify="right")
    for m in result["trees"].values():
        trees.add_row(
            f"{m['blocks']:,}",
            *(f"{m[f'{op}_blocks_per_s']:,}" for op in ("initiate", "query", "terminate")),
            f"{m['blocks_per_s']:,}",
        )
    console.print(trees)
    memory = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in result["peak_memory_bytes"].items())
    console.print(f"peak memory: {memory}")
