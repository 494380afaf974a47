"""``python -m target``: the same as the command ``offload-target``."""

from __future__ import annotations

from ndisbus.cli.entry import start

__all__ = ["main"]


def main() -> None:
    """Run the command."""
    start("target.cli:main", "offload-target")


if __name__ == "__main__":
    main()
