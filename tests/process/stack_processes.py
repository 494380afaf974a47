"""Real stacks for the tests in this folder: under honcho, or as plain processes that nobody restarts.

Both live in a runtime directory of their own and check, when they end, that no process and no file is left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from tools.torture_rig import Rig, Round
from tools.torture_stack import RealStack, three_layers

from ndisbus.control_client import ControlClient
from ndisbus.errors import BusUnavailable

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 30.0


@contextlib.contextmanager
def tortured(*bus_options: str, seed: int, survivors: tuple[str, ...]) -> Iterator[Rig]:
    """A host that counts, on a stack under honcho; ``survivors`` are the processes that keep their pids."""
    with RealStack(three_layers(*bus_options)) as stack, Rig(stack, seed, survivors=survivors) as rig:
        yield rig


def expect_good(result: Round) -> None:
    """A round without problems, in which something was passed down, and each of it came back."""
    assert not result.problems, "\n".join(result.problems)
    assert 0 < result.requests == result.completions


class PlainStack:
    """The bus and drivers as plain processes, started one by one; a context manager."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="torture-"))
        self.run_dir = self.directory / "run"
        self.run_dir.mkdir(mode=0o700)
        self.endpoint = f"ipc://{self.run_dir / 'bus.sock'}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        # The bus last: the drivers leave it in order.
        for name in sorted(self._processes, key=lambda n: n == "bus"):
            self._end(self._processes[name])
        left = sorted(p.name for p in self.run_dir.iterdir())
        log = (self.directory / "log").read_text(encoding="utf-8", errors="replace")
        shutil.rmtree(self.directory)
        if error is not None:
            error.add_note(log)
        else:
            assert not left, f"left in the runtime directory: {left}\n{log}"

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            code = process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE)
            raise AssertionError(f"{process.args!r} did not end within {DEADLINE:g} s of SIGTERM") from None
        assert code in (0, -signal.SIGKILL), f"{process.args!r} ended with {code}"

    def start(self, name: str, *command: str) -> None:
        """``python -m COMMAND`` as ``name``; the caller waits for what it waits for."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NDISBUS_")}
        with (self.directory / "log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env={**environment, "NDISBUS_RUNTIME_DIR": str(self.run_dir), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stall(self, name: str) -> None:
        """SIGSTOP."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def kill(self, name: str) -> None:
        """SIGKILL, and the end of it."""
        self._processes[name].kill()
        self._processes[name].wait(DEADLINE)

    def wait_for(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first survey for which a condition holds. AssertionError if none does in time."""
        until = time.monotonic() + DEADLINE
        survey: dict[str, Any] = {}
        while time.monotonic() < until:
            with contextlib.suppress(BusUnavailable), ControlClient(self.endpoint) as client:
                survey = client.request("ps", {}, 2.0)
                if condition(survey):
                    return survey
            dead = [n for n, p in self._processes.items() if p.poll() is not None]
            assert not dead, f"{dead} ended"
            psutil.wait_procs([], timeout=0)
        raise AssertionError(f"not within {DEADLINE:g} s: {survey}")
