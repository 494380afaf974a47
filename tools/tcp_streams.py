"""Plays simulated TCP connections by the thousand: is every byte delivered once, and does every run end?

    python tools/tcp_streams.py --runs 10000 --seed 1
    python tools/tcp_streams.py --runs 1 --seed 4711 --trace    one run again, with every segment

Each seed is one run: two machines, both directions at once, with sizes, pacing, windows, options, loss up to
20 %, reordering and so on as the seed has it, and with machines torn out and replaced by others made from
their serialized state. Prints a table (with --json one object). Exit code 0: every run ended as it should.
1: one did not, and its seed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":  # as a script, only the folder of the script is on the path
    sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from tests.support.tcp_world import Result, run  # noqa: E402
from tools.seeds import attempt, report, show_failures  # noqa: E402

__all__ = ["Totals", "main", "play"]

_COUNTED: Final = (
    ("bytes_delivered", "bytes delivered"),
    ("segments", "segments"),
    ("lost", "segments lost or corrupted"),
    ("retransmitted", "segments retransmitted"),
    ("hand_overs", "machines torn out and replaced"),
    ("uploads", "uploads asked for"),
)


@dataclass
class Totals:
    """What came of many runs. ``failures``: (seed, what was wrong)."""

    outcomes: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    virtual_seconds: float = 0.0
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Take one run in."""
        outcome, _, reason = result.outcome.partition(" (")
        self.outcomes[outcome] += 1
        if reason:
            self.reasons[f"{outcome}: {reason.rstrip(')')}"] += 1
        self.virtual_seconds += result.virtual_seconds
        for name, _ in _COUNTED:
            self.counts[name] += getattr(result, name)

    def merge(self, other: Totals) -> None:
        """Take in what another process found."""
        self.outcomes += other.outcomes
        self.counts += other.counts
        self.reasons += other.reasons
        self.virtual_seconds += other.virtual_seconds
        self.failures += other.failures


def _run(totals: Totals, seed: int, largest: int) -> None:
    totals.add(run(seed, largest=largest))


def play(first: int, count: int, largest: int) -> Totals:
    """The runs of ``count`` seeds from ``first`` on."""
    totals = Totals()
    for seed in range(first, first + count):
        attempt(seed, partial(_run, totals, seed, largest), totals.failures)
    return totals


def _show(console: Console, totals: Totals, options: argparse.Namespace, seconds: float) -> None:
    table = Table(
        title=f"{options.runs} runs from seed {options.seed}, {seconds:.0f} s", title_justify="left"
    )
    table.add_column("what")
    table.add_column("number", justify="right")
    for outcome in ("delivered", "aborted", "error"):
        table.add_row(_OUTCOMES[outcome], f"{totals.outcomes[outcome]:,}")
    table.add_row("wrong", f"{len(totals.failures):,}")
    table.add_section()
    for name, text in _COUNTED:
        table.add_row(text, f"{totals.counts[name]:,}")
    table.add_row("virtual hours", f"{totals.virtual_seconds / 3600:,.1f}")
    console.print(table)
    for reason, count in totals.reasons.most_common(8):
        console.print(f"{count:6} {reason}", markup=False)
    show_failures(
        console,
        totals.failures,
        "every run ended as it should",
        lambda seed: f"python tools/tcp_streams.py --seed {seed} --trace",
    )


_OUTCOMES: Final = {
    "delivered": "delivered, every byte once and in order",
    "aborted": "aborted by an application, as planned",
    "error": "orderly error (time-out, reset) on a lossy network",
}


def _to_dict(totals: Totals, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "runs": options.runs,
        "seed": options.seed,
        "outcomes": dict(totals.outcomes),
        "virtual_hours": round(totals.virtual_seconds / 3600, 1),
        **totals.counts,
    }


def _trace(seed: int, largest: int) -> int:
    try:
        result = run(seed, largest=largest, trace=print)
    except Exception as error:
        print(f"WRONG: seed {seed}: {type(error).__name__}: {error}")  # noqa: T201
        return 1
    print(result)  # noqa: T201
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Play simulated TCP connections.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; each has the next one")
    parser.add_argument("--largest", type=int, default=500_000, help="bytes an end sends at most")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--trace", action="store_true", help="print every segment of the run of --seed")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(argv)
    if options.trace:
        return _trace(options.seed, options.largest)
    return report(
        options,
        Totals(),
        play,
        options.largest,
        seeds=range(options.seed, options.seed + options.runs),
        what="runs",
        show=_show,
        to_dict=_to_dict,
    )


if __name__ == "__main__":
    raise SystemExit(main())
