"""``python -m hoststack``."""

from __future__ import annotations

from hoststack.cli.main import main

if __name__ == "__main__":
    main(prog_name="hoststack")
