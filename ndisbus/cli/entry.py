"""Where a console script begins.

Importing a command takes a moment. An interrupt (Ctrl-C) in that moment ends as one does later, when click
takes care of it: with one word and without a traceback. So this module imports nothing that takes time.
"""

from __future__ import annotations

import sys
from importlib import import_module

__all__ = ["start"]


def start(command: str, prog_name: str) -> None:
    """Import ``module:attribute``, a click command, and run it; exits with 1 if it is interrupted."""
    module, _, attribute = command.partition(":")
    try:
        main = getattr(import_module(module), attribute)
    except KeyboardInterrupt:
        sys.stderr.write("\nAborted!\n")  # click's own words
        raise SystemExit(1) from None
    main(prog_name=prog_name)
