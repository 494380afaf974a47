"""``hoststack run``: a scenario against the stack on the bus."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Final, NoReturn

import click

from hoststack.api.host import Host
from hoststack.scenario.check import ScenarioError, load
from hoststack.scenario.run import ScenarioRun, StepResult
from ndisbus.cli.endpoint_option import EndpointOption
from ndisbus.errors import BusUnavailable, ChimneyError

__all__ = ["run_command"]

#: Exit codes besides 0: an expectation failed; the command or file is wrong; there is no bus.
FAILED: Final = 1
USAGE: Final = 2
ABSENT: Final = 69


@click.command("run")
@click.argument(
    "scenario", type=click.Path(exists=True, dir_okay=False, path_type=FilePath), metavar="SCENARIO.yaml"
)
@click.option("--name", default="scenario", show_default=True, help="Name to register under.")
@click.option("--bind", default="auto", show_default=True, help="Adapter to bind to, or auto.")
@EndpointOption
@click.option("--seed", type=int, default=None, help="Use this seed instead of the scenario's own.")
@click.option("--check", is_flag=True, help="Read and check the file; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def run_command(
    scenario: FilePath,
    name: str,
    bind: str,
    endpoint: str | None,
    seed: int | None,
    check: bool,
    as_json: bool,
) -> None:
    """Run a scenario against the stack on the bus.

    Exits with 0 if every expectation held, 1 if one did not, 2 if the file has a mistake, and 69 if there is
    no bus.
    """
    try:
        found = load(scenario)
    except ScenarioError as e:
        _fail(str(e), USAGE)
    if seed is not None:
        found = replace(found, seed=seed)
    if check:
        click.echo(f"{scenario}: {len(found.steps)} steps, no mistakes found")
        return
    if not as_json:
        click.echo(f"{found.name} (seed {found.seed}): {found.description}".rstrip(": "))
    try:
        with Host.attach(
            name, endpoint, bind=bind, timeout=found.timeout, wait_bound=False, threaded=False
        ) as host:
            host.wait_attached()
            result = ScenarioRun(host, found, (lambda _: None) if as_json else _show).run()
    except BusUnavailable as e:
        _fail(str(e), ABSENT)
    except ChimneyError as e:
        _fail(str(e), FAILED)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        click.secho(
            "passed" if result.passed else "failed", fg="green" if result.passed else "red", bold=True
        )
    if not result.passed:
        sys.exit(FAILED)


def _show(result: StepResult) -> None:
    mark = click.style("ok  ", fg="green") if result.passed else click.style("FAIL", fg="red", bold=True)
    place = "" if result.passed else f"\n     at {result.where}"
    click.echo(f"{mark} {result.verb:<12} {result.text}  ({result.seconds * 1000:.1f} ms){place}")


def _fail(text: str, code: int) -> NoReturn:
    click.echo(f"hoststack: {text}", err=True)
    sys.exit(code)
