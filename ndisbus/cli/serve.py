"""``ndisbus serve``: the bus's own process."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from pathlib import Path

import click

from ndisbus.cli.common import errors
from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.core import CoreConfig, NdisCore
from ndisbus.core.epochs import epoch_base
from ndisbus.rundir import default_endpoint, write_pid
from ndisbus.runtime.broker import Broker
from ndisbus.runtime.collector import tune_gc
from ndisbus.runtime.curve import BusKeys, curve_dir, make_keys
from ndisbus.runtime.signals import SignalPipe

__all__ = ["serve_command"]

_DEFAULT = CoreConfig()
_SECONDS = click.FloatRange(min=0, min_open=True, max=86400)


@click.command("serve")
@EndpointOption
@click.option(
    "--check-interval",
    type=_SECONDS,
    default=_DEFAULT.check_interval,
    show_default=True,
    help="Seconds between two calls of MiniportCheckForHangEx.",
)
@click.option(
    "--hang-limit",
    type=_SECONDS,
    default=_DEFAULT.hang_limit,
    show_default=True,
    help="Seconds that a miniport has to answer it. After that its adapters count as dead.",
)
@click.option(
    "--request-limit",
    type=_SECONDS,
    default=_DEFAULT.request_limit,
    show_default=True,
    help="Seconds that a driver may hold a request.",
)
@click.option(
    "--unbind-limit",
    type=_SECONDS,
    default=_DEFAULT.unbind_limit,
    show_default=True,
    help="Seconds that a protocol has to close a binding.",
)
@click.option(
    "--seed", type=int, default=_DEFAULT.seed, show_default=True, help="Seed of all random numbers."
)
@click.option(
    "--curve-dir",
    is_eager=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of CURVE keys, made if missing. Needed for tcp beyond loopback. [NDISBUS_CURVE_DIR]",
)
@click.option("--json", "as_json", is_flag=True, help="Print endpoint, pid and seed as one line of JSON.")
def serve_command(
    endpoint: str | None,
    check_interval: float,
    hang_limit: float,
    request_limit: float,
    unbind_limit: float,
    seed: int,
    curve_dir: Path | None,
    as_json: bool,
) -> None:
    """Run the bus until SIGTERM or SIGINT; then the exit code is 0."""
    config = CoreConfig(
        check_interval=check_interval,
        hang_limit=hang_limit,
        request_limit=request_limit,
        unbind_limit=unbind_limit,
        seed=seed,
    )
    with errors(as_json=False):
        _serve(config, endpoint or default_endpoint(), curve_dir or _curve_dir(), as_json)


_curve_dir = curve_dir


def _serve(config: CoreConfig, endpoint: str, keys_at: Path | None, as_json: bool) -> None:
    keys = None
    if keys_at is not None:
        if make_keys(keys_at):
            click.echo(f"ndisbus: made new CURVE keys in {keys_at}", err=True)
        keys = BusKeys.load(keys_at)
    core = NdisCore(config, rng=random.Random(config.seed), epoch_base=epoch_base(time.time()))
    broker = Broker(core, endpoint, keys=keys)
    with SignalPipe() as signals, write_pid("bus"), contextlib.closing(broker):
        broker.open()
        broker.add_reader(signals.receiver.fileno(), lambda: broker.stop() if signals.arrived() else None)
        if as_json:
            said = {"Endpoint": endpoint, "Pid": os.getpid(), "Seed": config.seed, "Curve": keys is not None}
            click.echo(json.dumps(said))
        else:
            curve = ", CURVE" if keys else ""
            click.echo(f"ndisbus: {endpoint} (pid {os.getpid()}, seed {config.seed}{curve})")
        tune_gc()
        broker.run()
    if not as_json:
        click.echo("ndisbus: stopped")
