"""``python -m ndisbus``: the same as the command ``ndisbus``."""

from __future__ import annotations

from ndisbus.cli.entry import start

__all__ = ["main"]


def main() -> None:
    """Run the command."""
    start("ndisbus.cli.main:main", "ndisbus")


if __name__ == "__main__":
    main()
