"""What tools share that play many runs, each from a seed of its own: processes, progress, the report."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, Final, Protocol, Self, TypeVar

from rich.console import Console

__all__ = ["Failures", "attempt", "report", "show_failures"]

#: Runs that a process plays before it reports.
_BATCH: Final = 50
#: Failures that are shown.
_SHOWN: Final = 20

#: (seed, what was wrong).
Failures = list[tuple[int, str]]


class _Totals(Protocol):
    failures: Failures

    def merge(self, other: Self, /) -> None: ...


T = TypeVar("T", bound=_Totals)


def attempt(seed: int, run: Callable[[], object], failures: Failures) -> None:
    """Play one run. Whatever it raises is a finding, and the other seeds go on."""
    try:
        run()
    except Exception as error:
        failures.append((seed, f"{type(error).__name__}: {error}"))


def _play_all(
    console: Console,
    totals: T,
    play: Callable[..., T],
    seeds: range,
    jobs: int,
    what: str,
    rest: tuple[Any, ...],
) -> None:
    batches = [(first, min(_BATCH, seeds.stop - first)) for first in seeds[::_BATCH]]
    done = 0
    with (
        console.status("starting") as status,
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool,
    ):
        sizes = {pool.submit(play, *batch, *rest): batch[1] for batch in batches}
        for future in as_completed(sizes):
            totals.merge(future.result())
            done += sizes[future]
            status.update(f"{done} of {len(seeds)} {what}, {len(totals.failures)} failed")
    totals.failures.sort()


def report(
    options: argparse.Namespace,
    totals: T,
    play: Callable[..., T],
    *rest: object,
    seeds: range,
    what: str,
    show: Callable[[Console, T, argparse.Namespace, float], None],
    to_dict: Callable[[T, argparse.Namespace], dict[str, Any]],
) -> int:
    """Play all ``seeds`` in ``options.jobs`` processes and show what came of them. Returns the exit code.

    ``play(first, count, *rest)`` plays a batch; ``totals`` takes in what it returns. With ``options.json``
    one object is printed, else what ``show`` prints.
    """
    console = Console(stderr=options.json, highlight=False)
    started = time.monotonic()
    _play_all(console, totals, play, seeds, options.jobs, what, rest)
    seconds = time.monotonic() - started
    if options.json:
        found = {
            "ok": not totals.failures,
            "seconds": round(seconds, 1),
            "failures": [{"seed": seed, "what": text} for seed, text in totals.failures],
        }
        sys.stdout.write(json.dumps(to_dict(totals, options) | found, indent=1) + "\n")
    else:
        show(console, totals, options, seconds)
    return 1 if totals.failures else 0


def show_failures(console: Console, failures: Failures, fine: str, again: Callable[[int], str]) -> None:
    """Print the first failures, each with the command that plays it ``again``, or that all was ``fine``."""
    for seed, text in failures[:_SHOWN]:
        console.print(f"WRONG: seed {seed}: {text}", style="red", markup=False)
        console.print(f"       again: {again(seed)}", markup=False)
    if len(failures) > _SHOWN:
        console.print(f"... and {len(failures) - _SHOWN} more", style="red")
    if not failures:
        console.print(fine, style="green")
