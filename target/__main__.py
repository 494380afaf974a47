"""``python -m target``."""

from __future__ import annotations

from target.cli import main

main()
