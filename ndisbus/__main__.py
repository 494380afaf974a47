"""``python -m ndisbus``: the same as the command ``ndisbus``."""

from __future__ import annotations

from ndisbus.cli import main

if __name__ == "__main__":
    main(prog_name="ndisbus")
