"""The command ``ndisbus bench tcp``."""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ndisbus.errors import ChimneyError

__all__ = ["tcp_command"]


@click.command("tcp")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option("--quick", is_flag=True, help="Fewer samples and fewer idle connections.")
def tcp_command(*, as_json: bool, quick: bool) -> None:
    """Measure our TCP: the machine alone, with headers, against Linux, and Linux against itself.

    The parts against Linux need root: they make network namespaces, a TAP device and a veth pair, and remove
    them. Without root these parts are left out, with the reason.
    """
    # Imported here: "bench" alone does not need them.
    from ndisbus.bench.tcp import measure_tcp  # noqa: PLC0415
    from ndisbus.bench.tcp_linux import sweep  # noqa: PLC0415

    # SIGTERM also removes namespaces and devices. A second SIGTERM does not interrupt that.
    signal.signal(signal.SIGTERM, _ended)
    console = Console(stderr=True)
    try:
        if as_json:
            result = measure_tcp(quick=quick)
        else:
            with console.status("starting") as status:
                result = measure_tcp(quick=quick, report=status.update)
    except ChimneyError as e:
        raise click.ClickException(str(e)) from e
    finally:
        sweep()
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        _print(result)


def _ended(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _print(result: dict[str, Any]) -> None:
    console = Console()
    table = Table(title="Goodput of one connection")
    for column in ("", "MB/s", "segments/s per core"):
        table.add_column(column, justify="right" if column else "left")
    for name, key in (("the machine alone, in memory", "machine"), ("with headers, in memory", "framed")):
        m = result[key]
        table.add_row(name, _rate(m["goodput_bytes_per_s"]), f"{m['segments_per_s']:,}")
    for name, key in (("our stack over TAP", "tap"), ("Linux itself over veth", "linux")):
        m = result[key]
        if "skipped" in m:
            table.add_row(name, "-", m["skipped"])
            continue
        per_core = f"{m['segments_per_s_per_core']:,}" if "segments_per_s_per_core" in m else ""
        table.add_row(f"{name}, sending", _rate(m["goodput_bytes_per_s"]["to_linux"]), per_core)
        table.add_row(f"{name}, receiving", _rate(m["goodput_bytes_per_s"]["from_linux"]), per_core)
    console.print(table)
    console.print("goodput ratios:")
    for name, value in result["ratio"].items():
        console.print(f"  {name.replace('_', ' ')}: {value}")
    idle = result["idle"]
    console.print(
        f"{idle['connections']:,} idle connections: {idle['allocated_bytes_each']:,} bytes each "
        f"(the machine {idle['machine_bytes_each']:,}), {idle['resident_bytes_each']:,} resident"
    )
    if "idle" in result["tap"]:
        held = result["tap"]["idle"]
        console.print(
            f"{held['connections']:,} that Linux keeps to our stack: {held['resident_bytes_each']:,} bytes "
            f"each resident, opened at {held['opened_per_s']:,} per second"
        )


def _rate(octets: int) -> str:
    return f"{octets / 1e6:,.1f}"
