"""Tortures a real stack and counts: is each request completed exactly once, whatever dies or stalls?

    python tools/torture.py kill --rounds 200 --seed 1     kill -9 of the target around every operation
    python tools/torture.py stall                          SIGSTOP, shorter and longer than the hang limit
    python tools/torture.py neighbours                     kill -9 of the intermediate driver, a host, the bus
    python tools/torture.py hosts                          several hosts, stacked drivers, a refused host
    python tools/torture.py storm                          several layers at once, again and again
    python tools/torture.py live --minutes 60 --seed 1     hosts with live connections, all kinds of blows
    python tools/torture.py all                            one after the other

"live" runs by the clock: storms of kills, stalls, SIGTERMs and bus restarts, with quiet phases in between.
Each byte of each connection is checked by its position (:mod:`tools.torture_live`).

Each starts stacks of its own under honcho, in runtime directories of their own, and prints a table (with
--json one object). Exit code 0: everything held. 1: something did not, and what. A run follows from its seed,
but for what the scheduler adds to it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":  # as a script, only the folder of the script is on the path
    sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from ndisbus.core import CoreConfig  # noqa: E402
from ndisbus.errors import ChimneyError  # noqa: E402
from tools.torture_hosts import host_rounds, stacked  # noqa: E402
from tools.torture_kill import kill_rounds  # noqa: E402
from tools.torture_live import run_live  # noqa: E402
from tools.torture_live_report import LiveReport, show_live  # noqa: E402
from tools.torture_neighbours import neighbour_rounds  # noqa: E402
from tools.torture_rig import Round  # noqa: E402
from tools.torture_stack import RealStack, three_layers  # noqa: E402
from tools.torture_stall import stall_rounds  # noqa: E402
from tools.torture_statistics import percentile  # noqa: E402
from tools.torture_storm import storm_rounds  # noqa: E402

__all__ = ["Report", "main"]

#: How soon a local death has to show at the host (seconds), for 99 of 100 kills.
NOTICE_LIMIT: Final = 0.05
#: Minutes of live connections by default, and rounds. For hosts it is the number of rounds of each play.
_MINUTES: Final = 3.0
_ROUNDS: Final = {"kill": 200, "stall": 36, "neighbours": 60, "hosts": 2, "storm": 60}


@dataclass
class Report:
    """All rounds of one command."""

    command: str
    seed: int
    rounds: list[Round] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, result: Round) -> None:
        """Take a round in."""
        self.rounds.append(result)
        where = f"round {result.number} ({result.victim}, {result.op}, {result.moment})"
        self.problems += [f"{where}: {text}" for text in result.problems]

    def check(self) -> None:
        """What only all rounds together can say."""
        notice = self.percentile(0.99, lambda r: r.notice)
        if self.command == "kill" and notice is not None and notice > NOTICE_LIMIT:
            text = f"{notice * 1e3:.1f} ms; {NOTICE_LIMIT * 1e3:g} ms are allowed"
            self.problems.append(f"the 99th percentile of the time to notice a death is {text}")

    def percentile(self, q: float, of: Callable[[Round], float | None]) -> float | None:
        """The statistics of what was measured; None without a measurement."""
        return percentile([v for r in self.rounds if (v := of(r)) is not None], q)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "command": self.command,
            "seed": self.seed,
            "ok": not self.problems,
            "problems": self.problems,
            "seconds": round(self.seconds, 1),
            "requests": sum(r.requests for r in self.rounds),
            "completions": sum(r.completions for r in self.rounds),
            "notice_p50_ms": _ms(self.percentile(0.5, lambda r: r.notice)),
            "notice_p99_ms": _ms(self.percentile(0.99, lambda r: r.notice)),
            "recovery_p50_ms": _ms(self.percentile(0.5, lambda r: r.recovery)),
            "recovery_p99_ms": _ms(self.percentile(0.99, lambda r: r.recovery)),
            "rounds": [r.to_dict() for r in self.rounds],
        }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 2)


# --- the commands --------------------------------------------------------------------------------


def _rounds_of(command: str, options: argparse.Namespace) -> Iterator[Round]:
    rounds = _ROUNDS[command] if options.rounds is None else options.rounds
    seed, connections = options.seed, options.connections
    if command == "hosts":
        yield from host_rounds(rounds=rounds, seed=seed, connections=connections)
        return
    if command == "storm":
        layers = stacked("--hang-limit", str(options.hang_limit))
        with RealStack(layers) as stack:
            yield from storm_rounds(
                stack, rounds=rounds, seed=seed, layers=list(layers), bind="im1-a", connections=connections
            )
        return
    if options.procfile is not None:
        stack = RealStack(procfile=options.procfile, only=("bus", "target", "im"))
    else:
        stack = RealStack(three_layers("--hang-limit", str(options.hang_limit)))
    with stack:
        if command == "kill":
            yield from kill_rounds(stack, rounds=rounds, seed=seed, connections=connections)
        elif command == "stall":
            limit = options.hang_limit
            yield from stall_rounds(
                stack, rounds=rounds, seed=seed, hang_limit=limit, connections=connections
            )
        else:
            yield from neighbour_rounds(stack, rounds=rounds, seed=seed, connections=connections)


def _run(command: str, options: argparse.Namespace, console: Console) -> Report:
    report = Report(command, options.seed)
    started = time.monotonic()
    with console.status(f"{command}: starting a stack") as status:
        try:
            for result in _rounds_of(command, options):
                report.add(result)
                status.update(f"{command}: {len(report.rounds)} rounds, {len(report.problems)} problems")
        except ChimneyError as error:
            report.problems.append(str(error))
    report.seconds = time.monotonic() - started
    report.check()
    return report


def _run_live(options: argparse.Namespace, console: Console) -> LiveReport:
    with console.status("live: starting a stack"):
        return run_live(
            seed=options.seed,
            minutes=options.minutes,
            connections=options.connections,
            hang_limit=options.hang_limit,
            term_kills=options.term_kills,
            tell=lambda text: console.print(f"live: {text}", markup=False),
        )


# --- what is shown -------------------------------------------------------------------------------


def _show(console: Console, report: Report) -> None:
    title = f"{report.command}: {len(report.rounds)} rounds, seed {report.seed}, {report.seconds:.0f} s"
    table = Table(title=title, title_justify="left")
    for heading in ("victim", "operation", "moment", "rounds", "completions", "statuses"):
        table.add_column(heading, justify="right" if heading in ("rounds", "completions") else "left")
    for heading in ("noticed p50", "p99 ms", "back p50", "p99 ms"):
        table.add_column(heading, justify="right")
    groups: dict[tuple[str, str, str], list[Round]] = {}
    for r in report.rounds:
        groups.setdefault((r.victim, r.op, r.moment), []).append(r)
    for key in sorted(groups):
        table.add_row(*key, *_row(groups[key]))
    table.add_section()
    table.add_row("all", "", "", *_row(report.rounds))
    console.print(table)
    for text in report.problems:
        console.print(f"WRONG: {text}", style="red", markup=False, highlight=False)
    if not report.problems:
        console.print(f"{report.command}: everything held", style="green")


def _row(rounds: list[Round]) -> list[str]:
    statuses: Counter[str] = Counter()
    for r in rounds:
        statuses.update(r.statuses)
    requests, completions = sum(r.requests for r in rounds), sum(r.completions for r in rounds)
    row = [
        str(len(rounds)),
        f"{completions} of {requests}",
        ", ".join(f"{n} {s.removeprefix('NDIS_STATUS_')}" for s, n in statuses.most_common() if n),
    ]
    for times in ([r.notice for r in rounds], [r.recovery for r in rounds]):
        found = [t for t in times if t is not None]
        for q in (0.5, 0.99):
            value = percentile(found, q)
            row.append("" if value is None else f"{value * 1e3:.1f}")
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Torture a real stack.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("command", choices=[*_ROUNDS, "live", "all"])
    parser.add_argument("--rounds", type=int, help=f"rounds; unless given {_ROUNDS}")
    parser.add_argument("--seed", type=int, default=1, help="seed of all random choices")
    parser.add_argument("--connections", type=int, default=4, help="most connections per path")
    parser.add_argument(
        "--hang-limit", type=float, default=CoreConfig().hang_limit, help="of the bus, in seconds"
    )
    parser.add_argument(
        "--procfile",
        type=Path,
        help="take bus, target and im from this Procfile, with its delays",
    )
    parser.add_argument("--minutes", type=float, default=_MINUTES, help="how long live connections are used")
    parser.add_argument(
        "--term-kills", action="store_true", help="live: a SIGTERM of a driver may cost its connections"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(argv)
    console = Console(stderr=options.json, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=options.json, highlight=False, width=150)
    commands = [*_ROUNDS, "live"] if options.command == "all" else [options.command]
    reports: list[Report | LiveReport] = []
    for command in commands:
        report = _run_live(options, console) if command == "live" else _run(command, options, console)
        reports.append(report)
        if options.json:
            continue
        if isinstance(report, LiveReport):
            show_live(console, report)
        else:
            _show(console, report)
    if options.json:
        found = [r.to_dict() for r in reports]
        sys.stdout.write(json.dumps(found if options.command == "all" else found[0], indent=1) + "\n")
    return 1 if any(r.problems for r in reports) else 0


if __name__ == "__main__":
    raise SystemExit(main())
