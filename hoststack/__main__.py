"""``python -m hoststack``: the same as the command ``hoststack``."""

from __future__ import annotations

from ndisbus.cli.entry import start

__all__ = ["main"]


def main() -> None:
    """Run the command."""
    start("hoststack.cli.main:main", "hoststack")


if __name__ == "__main__":
    main()
