"""What the subcommands share: options, errors, JSON, a control request."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Final

import click

from ndisbus.errors import BusUnavailable, ChimneyError
from ndisbus.runtime.control_client import ControlClient

__all__ = ["EX_UNAVAILABLE", "JsonOption", "echo_json", "errors", "request"]

#: Exit code when there is no bus (sysexits.h).
EX_UNAVAILABLE: Final = 69

JsonOption = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@contextlib.contextmanager
def errors(*, as_json: bool) -> Iterator[None]:
    """Turn a ChimneyError into a message on stderr and an exit code: 69 without a bus, else 1."""
    try:
        yield
    except ChimneyError as error:
        text = json.dumps({"Error": str(error)}) if as_json else f"ndisbus: {error}"
        click.echo(text, err=True)
        raise SystemExit(EX_UNAVAILABLE if isinstance(error, BusUnavailable) else 1) from error


def echo_json(value: Any) -> None:
    """Print one line of JSON on stdout."""
    click.echo(json.dumps(value, default=str))


def request(
    endpoint: str | None,
    verb: str,
    arguments: dict[str, Any],
    timeout: float = 5.0,
    *,
    command: str | None = None,
) -> Any:
    """Make one control request and return its result. Raises as :meth:`ControlClient.request` does."""
    with ControlClient(endpoint) as client:
        return client.request(verb, arguments, timeout, command=command)
