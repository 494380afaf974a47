"""``python -m imdriver``."""

from __future__ import annotations

from imdriver.cli import main

if __name__ == "__main__":
    main(prog_name="imdriver")
