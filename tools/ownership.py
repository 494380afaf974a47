"""Plays moves of live connections by the thousand: does each byte have exactly one owner at every instant?

    python tools/ownership.py --seeds 20000 --seed 0
    python tools/ownership.py --seed 4711 --trace       one seed again, with everything that happens in it

Each seed is one run of a whole simulated stack (:mod:`tests.support.ownership`): a host, no, one or two
intermediate drivers, a target and a remote host. Every hop has its own random delays. Applications write,
read, close, offload and upload at any instant, and drivers and the bus die, stall, leave and come back
between any two packets. Prints a table (with --json one object). Exit code 0: all was well. 1: the seeds that
were not.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":  # as a script, only the folder of the script is on the path
    sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from tests.support.ownership.play import Play  # noqa: E402
from tools.seeds import attempt, report, show_failures  # noqa: E402

__all__ = ["Totals", "main", "play"]

#: What the table shows, in this order; all else that a run counts is a fault.
_COUNTED: Final = {
    "connections": "connections",
    "delivered": "delivered whole, both ways",
    "aborted": "aborted by an application",
    "lost": "lost by a fault, and reported",
    "bytes": "bytes read",
    "offload": "offloads",
    "upload": "uploads",
    "looks": "looks at all owners",
    "steps": "steps",
}


@dataclass
class Totals:
    """What came of many seeds. ``failures``: (seed, what was wrong)."""

    seeds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def merge(self, other: Totals) -> None:
        """Take in what another process found."""
        self.seeds += other.seeds
        self.counts += other.counts
        self.faults += other.faults
        self.failures += other.failures


def play(first: int, count: int) -> Totals:
    """The runs of ``count`` seeds from ``first`` on."""
    totals = Totals()
    for seed in range(first, first + count):
        totals.seeds += 1
        run = Play(seed)
        attempt(seed, run.run, totals.failures)
        totals.counts += run.count
        totals.counts["steps"] += run.steps
        totals.faults += run.faults.count
    return totals


def _show(console: Console, totals: Totals, options: argparse.Namespace, seconds: float) -> None:
    table = Table(title=f"{options.seeds} seeds from {options.seed}, {seconds:.0f} s", title_justify="left")
    table.add_column("what")
    table.add_column("number", justify="right")
    for name, text in _COUNTED.items():
        table.add_row(text, f"{totals.counts[name]:,}")
    table.add_section()
    for name, count in sorted(totals.faults.items()):
        table.add_row(name, f"{count:,}")
    table.add_section()
    table.add_row("seeds that failed", f"{len(totals.failures):,}")
    console.print(table)
    show_failures(
        console,
        totals.failures,
        "every byte had exactly one owner, and no fault was silent",
        lambda seed: f"python tools/ownership.py --seed {seed} --trace",
    )


def _to_dict(totals: Totals, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "seeds": options.seeds,
        "seed": options.seed,
        "faults": dict(totals.faults),
        **{name: totals.counts[name] for name in _COUNTED},
    }


def _trace(seed: int) -> int:
    try:
        Play(seed, print).run()
    except Exception as error:
        print(f"WRONG: seed {seed}: {type(error).__name__}: {error}")  # noqa: T201
        return 1
    print(f"seed {seed}: all was well")  # noqa: T201
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Play moves of live connections, and look at who owns each byte.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--trace", action="store_true", help="print what happens in the run of --seed")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(argv)
    if options.trace:
        return _trace(options.seed)
    return report(
        options,
        Totals(),
        play,
        seeds=range(options.seed, options.seed + options.seeds),
        what="seeds",
        show=_show,
        to_dict=_to_dict,
    )


if __name__ == "__main__":
    raise SystemExit(main())
