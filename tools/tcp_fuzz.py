"""Fires mutated segments at TCP connections in every state, and looks at what becomes of them.

    python tools/tcp_fuzz.py --segments 1000000 --seed 1
    python tools/tcp_fuzz.py --attack 4711        one attack again, with its traceback

An attack is a connection made in one of the states and some hundred segments that a peer gone mad, an
attacker or a broken wire might send, with time, the owner's calls and hand-overs between them; then the real
peer goes on. After each step all that must hold whatever arrives is checked, and at the end that the stream
is intact. Prints a table (with --json one object). Exit code 0: nothing was wrong. 1: something was, and the
attack's seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":  # as a script, only the folder of the script is on the path
    sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from tests.support.tcp_attack import Findings, attack  # noqa: E402
from tests.support.tcp_victim import STATES  # noqa: E402

__all__ = ["main", "play"]

_BATCH: Final = 200
_APART: Final = 1 << 32
"""Attacks of one seed have numbers of their own."""
_SHOWN: Final = 20
_MOST_FAILURES: Final = 500
"""Stop after this many."""
_MOST_GROWTH: Final = 32 << 20
"""Bytes by which a process may grow after its first batch."""


@dataclass
class Batch:
    """What a process found in one batch, and its size (bytes) afterwards."""

    findings: Findings = field(default_factory=Findings)
    pid_size: tuple[int, int] = (0, 0)


def play(first: int, count: int) -> Batch:
    """The attacks ``first`` to ``first + count - 1``."""
    batch = Batch()
    for seed in range(first, first + count):
        try:
            attack(seed, batch.findings)
        except Exception as error:  # whatever it is, it is a finding, and the other attacks go on
            batch.findings.failures.append(f"attack {seed}: {type(error).__name__}: {error}")
    # Not the greatest size so far: that begins with what the parent had.
    process = psutil.Process()
    batch.pid_size = (process.pid, process.memory_info().rss)
    return batch


def _play_all(options: argparse.Namespace, console: Console) -> tuple[Findings, dict[int, list[int]]]:
    findings = Findings()
    sizes: dict[int, list[int]] = {}
    following = options.seed * _APART
    pending: set[Future[Batch]] = set()
    with (
        console.status("starting") as status,
        ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool,
    ):
        while True:
            enough = findings.segments.total() >= options.segments or len(findings.failures) > _MOST_FAILURES
            if enough and not pending:
                break
            while len(pending) < options.jobs and not enough:
                pending.add(pool.submit(play, following, _BATCH))
                following += _BATCH
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                batch = future.result()
                findings.merge(batch.findings)
                pid, size = batch.pid_size
                sizes.setdefault(pid, []).append(size)
            status.update(f"{findings.segments.total():,} segments, {len(findings.failures)} failures")
    for found in sizes.values():
        if found[-1] - found[0] > _MOST_GROWTH:
            findings.failures.append(f"a process grew from {found[0] >> 20} to {found[-1] >> 20} MiB")
    return findings, sizes


def _show(console: Console, findings: Findings, growth: int, seconds: float) -> None:
    table = Table(title=f"{findings.segments.total():,} segments, {seconds:.0f} s", title_justify="left")
    table.add_column("arrived in state")
    table.add_column("segments", justify="right")
    for state in STATES:
        table.add_row(state.name.removeprefix("TcpConnection"), f"{findings.segments[state]:,}")
    table.add_section()
    table.add_row("connections attacked", f"{findings.attacks:,}")
    table.add_row("went on, stream intact", f"{findings.healed:,}")
    table.add_row("ended as they may", f"{findings.closed:,}")
    table.add_row("growth of a process, MiB", f"{growth / (1 << 20):.1f}")
    console.print(table)
    for text in findings.failures[:_SHOWN]:
        console.print(f"WRONG: {text}", style="red", markup=False)
    if len(findings.failures) > _SHOWN:
        console.print(f"... and {len(findings.failures) - _SHOWN} more", style="red")
    if not findings.failures:
        console.print("nothing was wrong", style="green")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Fuzz TCP connections.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--segments", type=int, default=100_000, help="how many, at least")
    parser.add_argument("--seed", type=int, default=1, help="of all attacks")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--attack", type=int, help="play this one again, and nothing else")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(argv)
    if options.attack is not None:
        attack(options.attack, Findings())
        return 0
    console = Console(stderr=options.json, highlight=False)
    started = time.monotonic()
    findings, sizes = _play_all(options, console)
    seconds = time.monotonic() - started
    growth = max((found[-1] - found[0] for found in sizes.values()), default=0)
    if options.json:
        told = {
            "seed": options.seed,
            "ok": not findings.failures,
            "seconds": round(seconds, 1),
            "segments": findings.segments.total(),
            "by_state": {state.name: findings.segments[state] for state in STATES},
            "attacks": findings.attacks,
            "healed": findings.healed,
            "closed": findings.closed,
            "growth_bytes": growth,
            "failures": findings.failures,
        }
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
    else:
        _show(console, findings, growth, seconds)
    return 1 if findings.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
