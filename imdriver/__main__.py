"""``python -m imdriver``: the same as the command ``imdriver``."""

from __future__ import annotations

from ndisbus.cli.entry import start

__all__ = ["main"]


def main() -> None:
    """Run the command."""
    start("imdriver.cli:main", "imdriver")


if __name__ == "__main__":
    main()
