"""``ndisbus supervise`` with real children: what is killed comes back, what is stopped is gone."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ndisbus import rundir
from tests.process.conftest import until

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="pidfd and parent-death signals are Linux's"
    ),
]

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0
# Under nohup SIGHUP would be ignored from the start, which a supervisor respects.
COMMAND = (
    "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "from ndisbus.runtime.supervise_run import supervise_command; supervise_command()"
)

# The child says who it is through a plain print: unbuffered output is the supervisor's doing.
SLEEPER = "import os, time; print('child', os.getpid(), os.environ['NDISBUS_NAME']); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER


class Supervised:
    """A supervisor under test, its output read with a deadline."""

    def __init__(self, options: list[str], program: str) -> None:
        argv = [sys.executable, "-c", COMMAND, "unit", *options, "--", sys.executable, "-c", program]
        self.process = subprocess.Popen(
            argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        assert self.process.stdout is not None
        self._out = self.process.stdout
        os.set_blocking(self._out.fileno(), False)
        self._text = b""

    def line(self, pattern: str) -> re.Match[str]:
        """The next line that matches; the lines before it are dropped."""
        end = time.monotonic() + DEADLINE
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while True:
                while b"\n" in self._text:
                    line, self._text = self._text.split(b"\n", 1)
                    if found := re.search(pattern, line.decode()):
                        return found
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise AssertionError(f"no line like {pattern!r} within {DEADLINE} s")
                chunk = self._out.read()
                if chunk == b"":
                    raise AssertionError(f"the output ended without {pattern!r}; left: {self._text!r}")
                self._text += chunk or b""

    def child(self) -> int:
        """The pid of the next child."""
        return int(self.line(r"^child (\d+) unit$")[1])

    def close(self) -> None:
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
        self.process.wait(DEADLINE)
        self._out.close()


Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setenv("NDISBUS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PYTHONUNBUFFERED", "")
    with contextlib.ExitStack() as stack:

        def begin(*options: str, program: str = SLEEPER) -> Supervised:
            supervised = Supervised(list(options), program)
            stack.callback(supervised.close)
            return supervised

        yield begin


@contextlib.contextmanager
def gone_at_the_end(pid: int) -> Iterator[None]:
    """The process must have ended by the deadline; a zombie has."""
    handle = os.pidfd_open(pid)
    try:
        yield
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            assert selector.select(DEADLINE), f"pid {pid} is still there"
    finally:
        # A failing test leaves nothing behind either.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)


def test_killed_child_comes_back_and_the_supervisor_stays(start: Start) -> None:
    supervised = start()
    first = supervised.child()
    os.kill(first, signal.SIGKILL)
    supervised.line(rf"unit \(pid {first}\) killed by SIGKILL; restarting in 0\.1 s$")
    second = supervised.child()
    assert second != first
    assert supervised.process.poll() is None
    assert psutil.Process(second).ppid() == supervised.process.pid


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_ends_both_with_exit_code_zero_and_no_file_left(
    start: Start, tmp_path: Path, signum: signal.Signals
) -> None:
    supervised = start()
    with gone_at_the_end(supervised.child()):
        supervised.process.send_signal(signum)
        assert supervised.process.wait(DEADLINE) == 0
    assert list((tmp_path / "run").iterdir()) == []


def test_stop_of_the_whole_group_as_honcho_does_it_restarts_nothing(start: Start) -> None:
    supervised = start()
    with gone_at_the_end(supervised.child()):
        os.killpg(supervised.process.pid, signal.SIGTERM)
        assert supervised.process.wait(DEADLINE) == 0
    with pytest.raises(AssertionError, match="the output ended"):
        supervised.line("restarting")


def test_stop_seen_after_the_childs_own_end_restarts_nothing(start: Start) -> None:
    supervised = start("--restart", "always")
    child = supervised.child()
    # Stopped, the supervisor cannot but see the child's end and its own signal at once.
    supervised.process.send_signal(signal.SIGSTOP)
    with gone_at_the_end(child):
        os.kill(child, signal.SIGTERM)
    supervised.process.send_signal(signal.SIGTERM)
    supervised.process.send_signal(signal.SIGCONT)
    assert supervised.process.wait(DEADLINE) == 0
    with pytest.raises(AssertionError, match="the output ended"):
        supervised.line("restarting")


def test_child_that_ignores_term_is_killed_after_the_grace(start: Start) -> None:
    supervised = start("--grace", "0.2", program=DEAF)
    with gone_at_the_end(supervised.child()):
        supervised.process.terminate()
        supervised.line(r"still running 0\.2 s after the stop signal; killing it")
        assert supervised.process.wait(DEADLINE) == 0


def test_stalled_child_is_left_alone_until_it_is_stopped(start: Start) -> None:
    supervised = start("--grace", "0.2")
    child = supervised.child()
    os.kill(child, signal.SIGSTOP)
    # Only once it has stopped: of two pending signals the kernel delivers SIGTERM, the lower number, first.
    until(lambda: psutil.Process(child).status() == psutil.STATUS_STOPPED, "the child stops")
    # SIGCHLD for the stall comes before that for the end; both are seen, only the end counts.
    with gone_at_the_end(child):
        supervised.process.terminate()
        supervised.line("killing it")
        assert supervised.process.wait(DEADLINE) == 0


def test_killed_supervisor_takes_its_child_along(start: Start) -> None:
    supervised = start(program=DEAF)
    with gone_at_the_end(supervised.child()):
        supervised.process.kill()
        supervised.process.wait(DEADLINE)


def test_what_the_child_started_is_stopped_with_it(start: Start) -> None:
    nested = f"import subprocess, sys, os; subprocess.run([sys.executable, '-c', {SLEEPER!r}])"
    supervised = start(program=nested)
    grandchild = supervised.child()
    with gone_at_the_end(grandchild):
        supervised.process.terminate()
        assert supervised.process.wait(DEADLINE) == 0


def test_supervisor_is_found_by_name_and_a_second_is_refused(start: Start) -> None:
    first = start()
    first.child()
    record = rundir.read_pid("supervise-unit")
    assert record is not None and record.pid == first.process.pid
    second = start()
    second.line(rf"supervise-unit is already running \(pid {first.process.pid}\)")
    assert second.process.wait(DEADLINE) == 1
    assert first.process.poll() is None


@pytest.mark.parametrize(("program", "code"), [("raise SystemExit(7)", 7), ("import os; os.abort()", 134)])
def test_never_hands_on_the_exit_code(start: Start, program: str, code: int) -> None:
    assert start("--restart", "never", program=program).process.wait(DEADLINE) == code


def test_command_that_is_not_there_is_named(start: Start, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", COMMAND, "unit", "--", str(tmp_path / "nosuch")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 127
    assert f"{tmp_path / 'nosuch'}: No such file or directory" in done.stderr


@pytest.mark.parametrize("options", [["--grace", "soon"], ["--grace", "-1"], ["--backoff-min", "9"]])
def test_options_that_make_no_sense_are_refused(start: Start, options: list[str]) -> None:
    assert start(*options).process.wait(DEADLINE) == 2
