"""The other side of ``torture_live_worker.py``: starts it again after each blow, and reads what it tells."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tools.torture_stack import ROOT, RealStack, TortureError

__all__ = ["LiveWorker"]

#: Seconds in which it has to end once it is told to.
_FAREWELL: Final = 30.0


class LiveWorker:
    """A live host on a stack, in one process after the other. ``logs``: the directory of their output."""

    def __init__(
        self, stack: RealStack, name: str, adapter: str, number: int, seed: int, threads: int, logs: Path
    ) -> None:
        self.name = name
        self.life = 0
        #: Whether its chimney can be used, and since when; None until it is bound.
        self.chimney: bool | None = None
        self.since = 0.0
        self.idle = False
        #: Signals that were sent to the process: how it may end.
        self.expected: set[int] = set()
        self._stack = stack
        self._seed = seed
        self._logs = logs
        self._arguments = [
            *("--bind", adapter, "--threads", str(threads)),
            *("--address", f"10.77.0.{20 + number}/24", "--address", f"fd77::{20 + number}/64"),
        ]
        self._at = 0
        self._text = b""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a process: the first, or one after another's end."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self.life += 1
        self.chimney, self.idle, self._at, self._text = None, False, 0, b""
        self.expected = set()
        script = str(ROOT / "tools" / "torture_live_worker.py")
        seed = str(self._seed * 1000 + self.life)
        with self.log.open("wb") as out, self.errors.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, script, self._stack.endpoint, self.name, seed, *self._arguments],
                cwd=ROOT,
                env=self._stack.environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
            )

    @property
    def log(self) -> Path:
        """What the present process has told."""
        return self._logs / f"{self.name}-{self.life}.jsonl"

    @property
    def errors(self) -> Path:
        """What it has printed besides."""
        return self._logs / f"{self.name}-{self.life}.err"

    @property
    def pid(self) -> int | None:
        """Its pid; None when it has ended."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code of a process that has ended, as subprocess gives it."""
        return None if self._process is None else self._process.poll()

    def signal(self, signum: signal.Signals) -> int | None:
        """Signal it; its pid, or None if it has ended."""
        pid = self.pid
        if pid is not None:
            self.expected.add(signum)
            os.kill(pid, signum)
        return pid

    def tell(self, command: str) -> None:
        """Give a command. One that has just died does not hear it."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(command.encode() + b"\n")
                self._process.stdin.flush()

    def read(self) -> Iterator[dict[str, Any]]:
        """What it has told since the last call."""
        if not self.life:
            return
        with self.log.open("rb") as file:
            file.seek(self._at)
            self._text += file.read()
            self._at = file.tell()
        while b"\n" in self._text:
            line, _, self._text = self._text.partition(b"\n")
            told: dict[str, Any] = json.loads(line)
            if told["event"] == "chimney":
                self.chimney, self.since = told["there"], told["at"]
            elif told["event"] == "idle":
                self.idle = True
            yield told

    def tail(self, lines: int = 40) -> str:
        """The end of what it told and printed."""
        parts = []
        for path in (self.log, self.errors):
            text = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"--- {path.name} ---", *text]))
        return "\n".join(parts)

    def close(self) -> None:
        """Have it leave. Raises :class:`TortureError` if it does not."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        try:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(_FAREWELL)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_FAREWELL)
                raise TortureError(f"{self.name} did not leave within {_FAREWELL:g} s") from None
        finally:
            process.stdin.close()
