"""``ndisbus supervise``: the processes, signals and clock around ``Supervisor``.

The child has its own process group. So a signal to our group (as honcho sends it to stop) reaches the child
once, through us, and the processes that the child started are stopped with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import click

from ndisbus.errors import ChimneyError
from ndisbus.rundir import write_pid
from ndisbus.runtime.signals import STOP, SignalPipe
from ndisbus.runtime.supervise import Action, Exit, Log, Policy, Restart, Signal, Spawn, Supervisor

__all__ = ["supervise", "supervise_command"]

_STOP_SIGNALS = (*STOP, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def supervise(name: str, command: Sequence[str], policy: Policy) -> int:
    """Run ``command`` by ``policy`` until it has ended for good. Returns the exit code for our process.

    Call it only in the main thread of a process of its own: it takes the signals and reaps every child.
    Raises AlreadyRunning if ``name`` is already supervised.
    """
    with write_pid(f"supervise-{name}"), SignalPipe(*_wanted()) as signals:
        return _Runner(name, command, policy).run(signals)


class _Runner:
    def __init__(self, name: str, command: Sequence[str], policy: Policy) -> None:
        self._command = list(command)
        self._core = Supervisor(name, policy)
        self._child: subprocess.Popen[bytes] | None = None
        self._code: int | None = None
        self._environ = {**os.environ, "NDISBUS_NAME": name, "PYTHONUNBUFFERED": "1"}

    def run(self, signals: SignalPipe) -> int:
        core = self._core
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(signals.receiver, selectors.EVENT_READ)
                self._apply(core.start(time.monotonic()))
                while self._code is None:
                    due = core.deadline
                    selector.select(None if due is None else max(0.0, due - time.monotonic()))
                    # Stops first: a child that ended because all were asked to stop is not restarted.
                    for signum in signals.arrived():
                        if signum in _STOP_SIGNALS:
                            self._apply(core.stop(signum, time.monotonic()))
                    self._reap()
                    self._apply(core.tick(time.monotonic()))
            return self._code
        finally:
            self._abandon()

    def _apply(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Spawn():
                    self._apply(self._spawn())
                case Signal(signum):
                    self._signal(signum)
                case Log(text):
                    click.echo(text, err=True)
                case Exit(code):
                    self._code = code

    def _spawn(self) -> list[Action]:
        try:
            self._child = subprocess.Popen(
                self._command,
                env=self._environ,
                # A background group must not read the terminal: it would be stopped. So it gets no input.
                stdin=subprocess.DEVNULL,
                process_group=0,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - safe: this process has no other thread
            )
        except OSError as error:
            return self._core.spawn_failed(f"{self._command[0]}: {error.strerror}", time.monotonic())
        except subprocess.SubprocessError as error:
            return self._core.spawn_failed(f"{self._command[0]}: {error}", time.monotonic())
        return self._core.spawned(self._child.pid, time.monotonic())

    def _signal(self, signum: signal.Signals) -> None:
        if self._child is not None:
            # Not reaped yet, so the pid still belongs to the child. The group may be empty anyway.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signum)

    def _reap(self) -> None:
        """Reap the processes that ended: our child, and orphans if we are a container's first process."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._child
            if child is not None and pid == child.pid:
                self._child = None
                child.returncode = os.waitstatus_to_exitcode(status)
                self._apply(self._core.exited(child.returncode, time.monotonic()))

    def _abandon(self) -> None:
        """Kill and reap the child, if there is one."""
        if self._child is not None:
            self._signal(signal.SIGKILL)
            self._child.wait()
            self._child = None


def _wanted() -> list[signal.Signals]:
    """Return SIGCHLD and the signals that ask for a stop; without SIGHUP if nohup made us ignore it."""
    hangup_counts = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [s for s in (*_STOP_SIGNALS, signal.SIGCHLD) if s is not signal.SIGHUP or hangup_counts]


def _die_with_parent() -> Callable[[], None] | None:
    """Return a function for the child to call before its program starts, so that it dies with us (Linux).

    Returns None on other systems: there the child survives if the supervisor is killed.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def before_exec() -> None:
        if prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        # The parent may have died before this call.
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


_DEFAULT = Policy()


def _grace(_ctx: click.Context, _param: click.Parameter, value: str) -> float | None:
    if value == "never":
        return None
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"'{value}' is neither a number of seconds nor 'never'") from None


@click.command("supervise")
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--restart",
    type=click.Choice([choice.value for choice in Restart]),
    default=Restart.ALWAYS.value,
    show_default=True,
    help="When to start the command again after it has ended by itself.",
)
@click.option(
    "--grace",
    callback=_grace,
    default=str(_DEFAULT.grace),
    metavar="SECONDS",
    show_default=True,
    help="Seconds from SIGTERM to SIGKILL; 0 for at once, 'never' for no SIGKILL.",
)
@click.option(
    "--backoff-min",
    type=float,
    default=_DEFAULT.backoff_min,
    show_default=True,
    help="First delay, in seconds.",
)
@click.option(
    "--backoff-max",
    type=float,
    default=_DEFAULT.backoff_max,
    show_default=True,
    help="Longest delay, in seconds.",
)
@click.option(
    "--stable",
    type=float,
    default=_DEFAULT.stable,
    show_default=True,
    help="After this many seconds of running, the delays start again at the first.",
)
def supervise_command(
    name: str,
    command: tuple[str, ...],
    restart: str,
    grace: float | None,
    backoff_min: float,
    backoff_max: float,
    stable: float,
) -> None:
    """Keep COMMAND running under NAME, and stop it when asked to.

    For example: ndisbus supervise target -- python -m target

    The command starts again after a crash: at once the first time, later with growing delays. SIGTERM, SIGINT
    or SIGHUP to the supervisor stops both, with exit code 0.
    """
    try:
        policy = Policy(Restart(restart), grace, backoff_min, backoff_max, stable)
    except ChimneyError as error:
        raise click.UsageError(str(error)) from None
    try:
        code = supervise(name, command, policy)
    except ChimneyError as error:
        click.echo(f"ndisbus: {error}", err=True)
        code = 1
    sys.exit(code)
