"""What a run of live connections has shown, as tables and as one JSON object."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tools.torture_statistics import percentile

if TYPE_CHECKING:
    from tools.torture_blows import Blow

__all__ = ["LiveReport", "show_live"]


@dataclass
class LiveReport:
    """One run. ``term_kills``: a SIGTERM was judged as a kill."""

    seed: int
    hang_limit: float
    term_kills: bool
    rounds: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    #: (victim, kind) -> how often.
    blows: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: (victim, kind) -> seconds from a blow that fell alone until all hosts could offload.
    recoveries: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    #: (kind of connection, outcome) -> how many.
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: (error, what explains it) -> how many.
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: What connections asked of the chimney.
    asked: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    got: int = 0
    #: Seconds that each quiet phase took.
    quiet: list[float] = field(default_factory=list)
    sizes: list[dict[str, Any]] = field(default_factory=list)

    def ended(self, told: Mapping[str, Any], why: str | None) -> None:
        """A connection has ended; ``why``: what explains its error."""
        self.outcomes[told["kind"], told["outcome"]] += 1
        self.sent += told["sent"]
        self.got += told["got"]
        self.asked.update(told["counts"])
        if told["outcome"] in ("error", "not connected"):
            place = "while connecting" if told["outcome"] == "not connected" else _kind_of(told["text"])
            self.errors[f"{told['error']}, {place}", why or "not explained"] += 1

    def recovered(self, blow: Blow, seconds: float) -> None:
        """All hosts can offload again after a blow that fell alone."""
        self.recoveries[blow.victim, blow.kind].append(seconds)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "command": "live",
            "seed": self.seed,
            "ok": not self.problems,
            "problems": self.problems,
            "seconds": round(self.seconds, 1),
            "rounds": self.rounds,
            "term_kills": self.term_kills,
            "blows": {" ".join(key): n for key, n in sorted(self.blows.items())},
            "recovery_p50_p99_n": {
                " ".join(key): {
                    "p50": percentile(found, 0.5),
                    "p99": percentile(found, 0.99),
                    "n": len(found),
                }
                for key, found in sorted(self.recoveries.items())
            },
            "connections": {" ".join(key): n for key, n in sorted(self.outcomes.items())},
            "bytes_sent": self.sent,
            "bytes_checked": self.got,
            "errors": [
                {"error": e, "explained_by": w, "count": n} for (e, w), n in self.errors.most_common()
            ],
            "asked": dict(self.asked),
            "quiet_s": [round(s, 1) for s in self.quiet],
            "sizes": self.sizes,
        }


def _kind_of(text: str) -> str:
    """The part of an error's text that does not name the connection."""
    return text.partition(": ")[2] or text


def show_live(console: Console, report: LiveReport) -> None:
    """Print a run as tables."""
    title = f"live: {report.rounds} rounds, seed {report.seed}, {report.seconds:.0f} s"
    blows = Table(title=f"{title}: {report.blows.total()} blows", title_justify="left")
    for heading in ("victim", "blow"):
        blows.add_column(heading)
    for heading in ("count", "alone", "back p50", "p99 s"):
        blows.add_column(heading, justify="right")
    for key, count in sorted(report.blows.items()):
        found = report.recoveries.get(key, [])
        times = [percentile(found, q) for q in (0.5, 0.99)]
        blows.add_row(*key, str(count), str(len(found)), *("" if t is None else f"{t:.2f}" for t in times))
    console.print(blows)

    total = report.outcomes.total()
    title = f"{total} connections, {report.sent} bytes sent, {report.got} received and checked"
    outcomes = sorted({outcome for _, outcome in report.outcomes})
    table = Table(title=title, title_justify="left")
    table.add_column("kind")
    for outcome in outcomes:
        table.add_column(outcome, justify="right")
    for kind in sorted({kind for kind, _ in report.outcomes}):
        table.add_row(kind, *(str(report.outcomes[kind, outcome]) for outcome in outcomes))
    console.print(table)
    console.print("asked: " + ", ".join(f"{n} {what}" for what, n in sorted(report.asked.items())))

    errors = Table(title="errors, and the fault that explains each", title_justify="left")
    for heading in ("error", "explained by"):
        errors.add_column(heading)
    errors.add_column("count", justify="right")
    for (error, why), count in sorted(report.errors.items()):
        errors.add_row(error, why, str(count))
    console.print(errors)
    _show_sizes(console, report)
    for text in report.problems:
        console.print(f"WRONG: {text}", style="red", markup=False, highlight=False)
    if not report.problems:
        console.print("live: everything held", style="green")


def _show_sizes(console: Console, report: LiveReport) -> None:
    """The first and the last measurement; all of them are in ``--json``."""
    if not report.sizes:
        return
    first, last = report.sizes[0], report.sizes[-1]
    table = Table(
        title=f"sizes: {first['where']} and {last['where']}; files {first['files']} and {last['files']}",
        title_justify="left",
    )
    table.add_column("process")
    for heading in ("MB", "MB", "descriptors", "descriptors", "objects", "objects", "lives"):
        table.add_column(heading, justify="right")
    for name in sorted(first["sizes"].keys() & last["sizes"].keys()):
        one, two = first["sizes"][name], last["sizes"][name]
        lives = len({row["sizes"][name]["pid"] for row in report.sizes if name in row["sizes"]})
        pairs = [
            *(f"{s['memory'] / 1e6:.1f}" for s in (one, two)),
            *(str(s["descriptors"]) for s in (one, two)),
            *(str(s["objects"]) for s in (one, two)),
        ]
        table.add_row(name, *pairs, str(lives))
    console.print(table)
