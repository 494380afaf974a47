"""The option ``--endpoint``, the same for every program of the stack."""

from __future__ import annotations

import os
from typing import Final

import click
from click.core import ParameterSource

from ndisbus.errors import ChimneyError
from ndisbus.rundir import check_endpoint

__all__ = ["EndpointOption"]

_VARIABLE: Final = "NDISBUS_ENDPOINT"


def _checked(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Return the endpoint. Raises click.BadParameter, which names the option or the variable it came from."""
    if not value:
        return None  # the socket in the runtime directory
    # An option for the keys' directory must be eager, so that it is read before the endpoint.
    curve = bool(os.environ.get("NDISBUS_CURVE_DIR") or context.params.get("curve_dir"))
    try:
        return check_endpoint(value, curve)
    except ChimneyError as error:
        named = context.get_parameter_source(option.name or "") is ParameterSource.ENVIRONMENT
        hint = _VARIABLE if named else "--endpoint"
        raise click.BadParameter(str(error), ctx=context, param=option, param_hint=hint) from None


EndpointOption = click.option(
    "--endpoint",
    envvar=_VARIABLE,
    callback=_checked,
    help="Where the bus is: ipc://PATH or tcp://HOST:PORT; by default a socket in your runtime directory. "
    f"[{_VARIABLE}]",
)
