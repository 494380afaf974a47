"""What a supervisor decides; :mod:`ndisbus.runtime.supervise_run` carries it out.

A pure reducer: events and the time come in, actions go out. It keeps one child running, puts a growing delay
between crashes, and stops the child in order when it is asked to.

The phases, and the events that are legal in each::

    NEW --start--> STARTING --spawned--> RUNNING --exited--> SETTLING or WAITING --tick--> STARTING
                                            |
                                          stop --> STOPPING --exited--> DONE
"""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass

from ndisbus.errors import IllegalTransition, LocalProtocolError

__all__ = ["Action", "Exit", "Log", "Phase", "Policy", "Restart", "Signal", "Spawn", "Supervisor"]

#: Seconds within which a child's orderly end and our own stop signal count as one request. A program that
#: stops both may signal the child first. Then the child must not be started again.
SETTLE = 0.05

#: Seconds within which a repeated stop signal is the same request (timeout(1) always sends two).
REPEAT = 0.5

#: Exit code if the command cannot be started, as in a shell.
CANNOT_START = 127

#: Exit codes of a child with a wrong command line or configuration (EX_CONFIG of sysexits.h).
MISTAKEN = frozenset({2, 78})

_ASKED_TO_STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class Restart(enum.Enum):
    """When a child that ended by itself is started again."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Policy:
    """How a child is kept running. All times are in seconds.

    ``grace`` is the time from SIGTERM to SIGKILL; None never kills. honcho kills what is left after 5 s, so
    the default is less. A driver may take 2 s to give back what it holds, so the default is more than that.
    The delay before restart n in a row is ``backoff_min`` * 2**(n-1), at most ``backoff_max``. A child that
    ran for ``stable`` seconds starts a new row.
    Raises LocalProtocolError for values out of range.
    """

    restart: Restart = Restart.ALWAYS
    grace: float | None = 3.0
    backoff_min: float = 0.1
    backoff_max: float = 5.0
    stable: float = 2.0

    def __post_init__(self) -> None:
        if self.grace is not None and not 0 <= self.grace < float("inf"):
            raise LocalProtocolError(f"grace is {self.grace}; it must be 0 or more seconds, or never")
        if not 0 < self.backoff_min <= self.backoff_max < float("inf"):
            raise LocalProtocolError(
                f"back-off from {self.backoff_min} to {self.backoff_max} s; it must be above 0, and grow"
            )
        if not 0 <= self.stable < float("inf"):
            raise LocalProtocolError(f"stable is {self.stable}; it must be 0 or more seconds")


class Phase(enum.Enum):
    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    SETTLING = "settling"
    WAITING = "waiting"
    STOPPING = "stopping"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the child. The answer is spawned or spawn_failed."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Send ``signum`` to the child's process group."""

    signum: signal.Signals


@dataclass(frozen=True, slots=True)
class Exit:
    """The supervisor itself ends with ``code``. This is the last action."""

    code: int


@dataclass(frozen=True, slots=True)
class Log:
    """A line of text for people."""

    text: str


Action = Spawn | Signal | Exit | Log

_LEGAL: dict[str, frozenset[Phase]] = {
    "start": frozenset({Phase.NEW}),
    "spawned": frozenset({Phase.STARTING}),
    "spawn_failed": frozenset({Phase.STARTING}),
    "exited": frozenset({Phase.RUNNING, Phase.STOPPING}),
    # A signal may arrive, and time may pass, in every phase.
    "stop": frozenset(Phase),
    "tick": frozenset(Phase),
}


class Supervisor:
    """Keeps the child called ``name`` running by ``policy``.

    Each method is an event. It returns the actions to carry out, in order. An event that is not legal in the
    phase raises IllegalTransition and changes nothing. ``now`` is monotonic, in seconds.
    """

    def __init__(self, name: str, policy: Policy | None = None) -> None:
        self.name = name
        self.policy = policy or Policy()
        self.phase = Phase.NEW
        #: When tick is due, or None.
        self.deadline: float | None = None
        self._pid = 0
        self._started = 0.0
        self._spawned_once = False
        self._returncode = 0
        self._crashes = 0
        #: Whether a child has run long enough to show that its command is right.
        self._proved = False
        self._asked: float | None = None

    def start(self, now: float) -> list[Action]:
        self._require("start")
        return self._spawn()

    def spawned(self, pid: int, now: float) -> list[Action]:
        self._require("spawned")
        self._pid, self._started, self._spawned_once = pid, now, True
        actions: list[Action] = [self._log(f"{self.name} started (pid {pid})")]
        self.phase = Phase.RUNNING
        if self._asked is not None:
            actions += self._begin_stop(now)
        return actions

    def spawn_failed(self, reason: str, now: float) -> list[Action]:
        """Handle a command that cannot be started. The first time this is final: a restart would not help."""
        self._require("spawn_failed")
        if self._asked is not None:
            return self._done(0)
        why = f"{self.name} cannot be started: {reason}"
        if not self._spawned_once:
            return [self._log(why), *self._done(CANNOT_START)]
        return self._after_end(why, CANNOT_START, uptime=0.0, now=now)

    def exited(self, returncode: int, now: float) -> list[Action]:
        """Handle the end of the child. ``returncode`` is that of subprocess: -N if signal N killed it."""
        self._require("exited")
        self._returncode = returncode
        if self.phase is Phase.STOPPING:
            return [self._log(f"{self._child()} {_how(returncode)}, as asked"), *self._done(0)]
        if _is_orderly(returncode):
            self.phase, self.deadline = Phase.SETTLING, now + SETTLE
            return []
        return self._judge(now)

    def stop(self, signum: signal.Signals, now: float) -> list[Action]:
        """Handle a request to end. If it is repeated later, kill the child without waiting for the grace."""
        self._require("stop")
        if self.phase is Phase.DONE:
            return []
        if self.phase is Phase.STOPPING:
            assert self._asked is not None
            if now - self._asked < REPEAT:
                return []
            return self._kill(f"{signum.name} again")
        self._asked = now
        if self.phase is Phase.RUNNING:
            return self._begin_stop(now)
        if self.phase is Phase.STARTING:
            # The answer to Spawn is still to come. It decides.
            return []
        return self._done(0)

    def tick(self, now: float) -> list[Action]:
        """Do what is due at ``now``, if anything is."""
        self._require("tick")
        if self.deadline is None or now < self.deadline:
            return []
        self.deadline = None
        if self.phase is Phase.SETTLING:
            return self._judge(now)
        if self.phase is Phase.WAITING:
            return self._spawn()
        return self._kill(f"still running {self.policy.grace:g} s after the stop signal")

    # --- decisions ---------------------------------------------------------------------------

    def _judge(self, now: float) -> list[Action]:
        """Decide what follows a child that ended without a stop request: start it again, or end."""
        code = self._returncode
        what = f"{self._child()} {_how(code)}"
        return self._after_end(what, code if code >= 0 else 128 - code, uptime=now - self._started, now=now)

    def _after_end(self, what: str, code: int, *, uptime: float, now: float) -> list[Action]:
        policy = self.policy
        self._proved = self._proved or uptime >= policy.stable
        if code in MISTAKEN and not self._proved:
            return [
                self._log(f"{what}; its command line is wrong, so it is not restarted"),
                *self._done(code),
            ]
        again = policy.restart is Restart.ALWAYS or (
            policy.restart is Restart.ON_FAILURE and not _is_orderly(self._returncode)
        )
        if not again:
            return [self._log(what), *self._done(code)]
        self._crashes = 1 if uptime >= policy.stable else self._crashes + 1
        # The exponent is limited because 2.0**n overflows.
        delay = min(policy.backoff_max, policy.backoff_min * 2.0 ** min(self._crashes - 1, 64))
        self.phase, self.deadline = Phase.WAITING, now + delay
        return [self._log(f"{what}; restarting in {delay:.3g} s")]

    def _spawn(self) -> list[Action]:
        self.phase, self.deadline = Phase.STARTING, None
        return [Spawn()]

    def _begin_stop(self, now: float) -> list[Action]:
        self.phase = Phase.STOPPING
        self.deadline = None if self.policy.grace is None else now + self.policy.grace
        return [Signal(signal.SIGTERM)]

    def _kill(self, why: str) -> list[Action]:
        self.deadline = None
        return [self._log(f"{self._child()}: {why}; killing it"), Signal(signal.SIGKILL)]

    def _done(self, code: int) -> list[Action]:
        self.phase, self.deadline = Phase.DONE, None
        return [Exit(code)]

    def _child(self) -> str:
        return f"{self.name} (pid {self._pid})"

    def _log(self, text: str) -> Log:
        return Log(f"supervise: {text}")

    def _require(self, event: str) -> None:
        if self.phase not in _LEGAL[event]:
            raise IllegalTransition(f"supervisor of {self.name}", self.phase.value, event)


def _is_orderly(returncode: int) -> bool:
    """Return whether a child ended with exit code 0, or because it was asked to stop."""
    return returncode == 0 or any(returncode in (-s, 128 + s) for s in _ASKED_TO_STOP)


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"exited with code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        # A real-time signal has no name.
        return f"killed by signal {-returncode}"
