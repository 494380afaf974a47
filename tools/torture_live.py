"""Real processes in use: hosts with live connections over stacked drivers, and blows at random instants.

The stack of the Procfile, with a second intermediate driver on top of the first. Three hosts open connections
to the remote host on the cable, all the time, move them and check every byte. A round is a storm, in which
processes are killed, stalled and told to end, and a quiet phase: every connection comes to its end, ``ps`` is
all zero, and nothing has grown. What is wrong is told with seed, round and evidence.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ndisbus.core import CoreConfig
from ndisbus.errors import BusUnavailable, ChimneyError
from tools.torture_blows import HOSTS, LAYERS, Blame, Blow, gust
from tools.torture_gauge import Gauge, files_in, sizes
from tools.torture_hosts import stacked
from tools.torture_live_host import LiveWorker
from tools.torture_live_report import LiveReport
from tools.torture_stack import RealStack, TortureError, leftovers, supervised

__all__ = ["LiveTorture", "live_layers", "run_live"]

#: Seconds: of a storm, at ease before the first one, and in which a worker sees that it can offload again.
_STORM: Final = 45.0
_EASE: Final = 3.0
_RECOVERY: Final = 30.0
#: Seconds for the hosts to start, for all connections to end, and for the drivers to free what they held.
_START: Final = 60.0
_QUIET: Final = 150.0
_SETTLED: Final = 20.0
#: Seconds of work between two gusts, at most; one gust in so many does not wait for the one before.
_CALM: Final = 2.0
_AT_ONCE: Final = 4
#: Seconds before a host that was killed is started again, at most.
_PAUSE: Final = 0.5
#: In which a death is noticed by everyone, when a hang has to be waited for, too (seconds over the limit).
_NOTICED: Final = 0.5
#: A layer or a host is not killed for so many rounds in a row, so that its size can be compared.
_SPARED: Final = 4
_TICK: Final = 0.01
#: Findings after which going on tells nothing new.
_ENOUGH: Final = 30
#: What processes must not print.
_BAD: Final = re.compile(
    r"Traceback|bug check|exited with code [1-9]|killed by SIG(?!KILL|TERM)|command line is wrong"
)


def live_layers(hang_limit: float) -> dict[str, str]:
    """The commands of the stack."""
    return {
        **stacked("--hang-limit", str(hang_limit)),
        "target": supervised("target", "target", "--wire", "cable:wire0"),
        "peer": supervised("peer", "hoststack", "peer"),
    }


class LiveTorture:
    """One run on a stack of :func:`live_layers`. ``logs``: an empty directory for logs and findings."""

    def __init__(
        self, stack: RealStack, report: LiveReport, *, threads: int, logs: Path, tell: Callable[[str], None]
    ) -> None:
        self.stack = stack
        self.report = report
        self.rng = random.Random(report.seed)
        self.logs = logs
        self.tell = tell
        config = CoreConfig()
        self.blame = Blame(report.hang_limit, config.unbind_limit, report.term_kills)
        self.gauge = Gauge()
        self.hosts = [
            LiveWorker(stack, name, adapter, n, report.seed, threads, logs)
            for n, (name, adapter) in enumerate(HOSTS.items())
        ]
        self._thaw: list[tuple[float, Blow]] = []
        self._again: dict[LiveWorker, float] = {}
        self._log_at = 0

    # -- the run -------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Storms and quiet phases for so long, and one of each at least."""
        end = time.monotonic() + seconds
        try:
            for host in self.hosts:
                host.start()
            self._until(self._all_there, "the hosts did not start", _START)
            self._work(_EASE)
            self._quiet("start")
            while True:
                self.report.rounds += 1
                self._round(min(_STORM, end - time.monotonic()))
                if time.monotonic() >= end or len(self.report.problems) >= _ENOUGH:
                    break
        finally:
            self._go_on(float("inf"))
            self.report.sizes = self.gauge.rows
            for host in self.hosts:
                try:
                    host.close()
                except TortureError as error:
                    self._problem(str(error))

    def _round(self, seconds: float) -> None:
        number = self.report.rounds
        layer = LAYERS[number // _SPARED % len(LAYERS)]
        host = list(HOSTS)[number // _SPARED % len(HOSTS)]
        for worker in self.hosts:
            worker.idle = False
            worker.tell("work")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._gust((layer, host))
            self._work(self.rng.uniform(0.0, _CALM))
        self._quiet(f"round {number}")
        held = len(self.report.problems)
        self.tell(f"round {number}: {self.report.blows.total()} blows, {held} problems")

    def _gust(self, spared: tuple[str, ...]) -> None:
        """A few blows; then everybody comes back, or the next gust follows at once."""
        fallen, calm = [], self._all_there()
        for planned in gust(self.rng, self.report.hang_limit, spared):
            self._work(planned.pause)
            blow = self._strike(planned.victim, planned.kind, planned.seconds)
            if blow is not None:
                fallen.append(blow)
        if not fallen or self.rng.randrange(_AT_ONCE) == 0:
            return
        while self._thaw:
            self._tick()
        last = max(b.until for b in fallen)
        self._work(max(0.0, last + _NOTICED - time.monotonic()))
        if not self._until(self._all_there, "not all hosts can offload again", _RECOVERY):
            return
        if calm and len(fallen) == 1:
            back = max(h.since for h in self.hosts)
            self.report.recovered(fallen[0], max(0.0, back - fallen[0].at))

    # -- blows ---------------------------------------------------------------------------------

    def _strike(self, victim: str, kind: str, seconds: float) -> Blow | None:
        """Let a blow fall. None if there is no such process now."""
        host = next((h for h in self.hosts if h.name == victim), None)
        signum = {"kill": signal.SIGKILL, "term": signal.SIGTERM}.get(kind, signal.SIGSTOP)
        if victim == "bus" and signum != signal.SIGSTOP:
            self._bug_checks()  # a new bus does not know them
        if any(b.victim == victim for _, b in self._thaw):
            return None
        at = time.monotonic()
        pid = self.stack.signal(victim, signum) if host is None else host.signal(signum)
        if pid is None:
            return None
        blow = Blow(len(self.blame.blows) + 1, at, victim, kind, pid, at + seconds)
        self.blame.blows.append(blow)
        self.report.blows[victim, kind] += 1
        if signum == signal.SIGSTOP:
            self._thaw.append((at + seconds, blow))
        return blow

    def _go_on(self, now: float) -> None:
        """Let those go on whose stall is over."""
        for at, blow in [t for t in self._thaw if t[0] <= now]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(blow.pid, signal.SIGCONT)
            blow.until = time.monotonic()
            self._thaw.remove((at, blow))

    # -- what happens meanwhile ----------------------------------------------------------------

    def _work(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._tick()

    def _tick(self) -> None:
        time.sleep(_TICK)  # the processes work by themselves
        now = time.monotonic()
        self._go_on(now)
        for host in self.hosts:
            self._read(host)
            if host.pid is None and host not in self._again:
                self._dead(host, now)
            if self._again.get(host, now + 1) <= now:
                del self._again[host]
                host.start()

    def _read(self, host: LiveWorker) -> None:
        for told in host.read():
            match told["event"]:
                case "end":
                    self._ended(host, told)
                case "violation":
                    self._problem(f"host {host.name} saw a broken rule: {told['text']}", host=host)
                case "crash":
                    self._problem(f"host {host.name} cannot go on", told["text"], host)
                case "idle":
                    for text in told["problems"]:
                        self._problem(f"host {host.name}, idle: {text}", host=host)

    def _ended(self, host: LiveWorker, told: Mapping[str, Any]) -> None:
        why = None
        if told["outcome"] in ("error", "not connected"):
            why = self.blame.explain(host.name, told)
        self.report.ended(told, why)
        if told["outcome"] == "wrong":
            self._problem(f"{told['name']} ({told['kind']}): {told['text']}", json.dumps(told), host)
        elif told["outcome"] in ("error", "not connected") and why is None:
            text = (
                f"{told['name']} ({told['kind']}) ended with an error that no fault explains: {told['text']}"
            )
            self._problem(text, json.dumps(told), host)

    def _dead(self, host: LiveWorker, now: float) -> None:
        code = host.code
        self._read(host)
        if code is None or not (-code in host.expected or (code == 0 and signal.SIGTERM in host.expected)):
            self._problem(f"host {host.name} ended with {code}", host=host)
        self._again[host] = now + self.rng.uniform(0.0, _PAUSE)

    def _until(self, condition: Callable[[], bool], otherwise: str, seconds: float) -> bool:
        """Wait; whether it came true. If not, that is a problem."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                self._problem(f"{otherwise} within {seconds:g} s")
                return False
            self._tick()
        return True

    def _all_there(self) -> bool:
        return all(h.pid is not None and h.chimney for h in self.hosts)

    # -- quiet phases --------------------------------------------------------------------------

    def _quiet(self, where: str) -> None:
        """Let everything come to its end, and look whether it has."""
        started = time.monotonic()
        while self._thaw or self._again:
            self._tick()
        self._until(self._all_there, "not all hosts can offload again", _START)
        for host in self.hosts:
            host.tell("quiet")
        self._until(lambda: all(h.idle for h in self.hosts), "not all connections have ended", _QUIET)
        survey: dict[str, Any] = {}
        until = time.monotonic() + _SETTLED
        while (problems := self._settled(survey)) and time.monotonic() < until:
            self._work(0.05)
        problems += self.stack.check_honcho() + self._logged()
        if survey:
            pids = self.stack.pids() | {h.name: h.pid for h in self.hosts if h.pid is not None}
            found = sizes(pids, survey)
            problems += self.gauge.measure(where, found, files_in(self.stack.run_dir))
        for text in problems:
            self._problem(f"quiet phase: {text}")
        self.report.quiet.append(time.monotonic() - started)

    def _settled(self, survey: dict[str, Any]) -> list[str]:
        try:
            survey.clear()
            survey.update(self.stack.ps())
        except ChimneyError as error:
            return [f"no ps: {error}"]
        there = {p["Name"] for p in survey["Processes"]}
        missing = {*LAYERS, *HOSTS} - {"bus"} - there
        told = {f"{name}: violations" for name in HOSTS}  # each was told by its host when it happened
        left = {what: count for what, count in leftovers(survey).items() if what not in told}
        return [f"{what}: {count}" for what, count in left.items()] + [
            f"{name} is not on the bus" for name in sorted(missing)
        ]

    def _bug_checks(self) -> None:
        with contextlib.suppress(BusUnavailable, ChimneyError):
            for report in self.stack.ps(1.0)["BugChecks"]:
                self._problem(f"bug check before the bus ended: {json.dumps(report)}")

    def _logged(self) -> list[str]:
        """Lines that the processes of the stack should not have printed since the last time."""
        lines = self.stack.log_lines()
        new, self._log_at = lines[self._log_at :], len(lines)
        return [f"printed: {line}" for line in new if _BAD.search(line)]

    # -- findings ------------------------------------------------------------------------------

    def _problem(self, text: str, details: str = "", host: LiveWorker | None = None) -> None:
        """Note a finding, and keep what helps to look at it."""
        number = len(self.report.problems) + 1
        where = f"seed {self.report.seed}, round {self.report.rounds}"
        path = self.logs / f"finding-{number}.txt"
        self.report.problems.append(f"{where}: {text}; see {path}")
        self.tell(f"FOUND {where}: {text}")
        parts = [f"{where}, at {time.monotonic():.3f}: {text}", details]
        parts += ["--- blows ---", *map(str, self.blame.blows[-20:])]
        if host is not None:
            parts.append(host.tail())
        parts.append(self.stack.dump())
        path.write_text("\n".join(parts) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _evidence(report: LiveReport) -> Iterator[Path]:
    """A directory for logs, which stays if something was found."""
    logs = Path(tempfile.mkdtemp(prefix=f"torture-live-{report.seed}-"))
    try:
        yield logs
    finally:
        if not report.problems:
            shutil.rmtree(logs)


def run_live(
    *,
    seed: int,
    minutes: float,
    connections: int,
    hang_limit: float,
    term_kills: bool,
    tell: Callable[[str], None],
) -> LiveReport:
    """A run on a stack of its own. What was found is in the report."""
    report = LiveReport(seed, hang_limit, term_kills)
    started = time.monotonic()
    with _evidence(report) as logs:
        try:
            with RealStack(live_layers(hang_limit)) as stack:
                LiveTorture(stack, report, threads=connections, logs=logs, tell=tell).run(minutes * 60)
        except ChimneyError as error:
            report.problems.append(f"seed {seed}, round {report.rounds}: {error}")
    report.seconds = time.monotonic() - started
    return report
