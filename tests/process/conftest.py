"""Real processes for tests: a bus in a runtime directory of its own, and whatever is started beside it."""

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
from typing import Any

import psutil
import pytest

from ndisbus.errors import BusUnavailable
from ndisbus.runtime.control_client import ControlClient
from ndisbus.runtime.trace_link import TraceSubscriber

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0


def until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """Ask again and again until ``condition()`` holds; its value. Fails after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            pytest.fail(f"{what}: not within {deadline:g} s")
        time.sleep(0.01)


class Bus:
    """A bus process; more processes can be started beside it. All of them end with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.endpoint = f"ipc://{directory / 'bus.sock'}"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("NDISBUS_")}
        self.env |= {"NDISBUS_RUNTIME_DIR": str(directory), "PYTHONUNBUFFERED": "1"}
        self.children: list[subprocess.Popen[str]] = []
        self.process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def run(self, *args: str, timeout: float = DEADLINE) -> subprocess.CompletedProcess[str]:
        """``python -m ndisbus ARGS`` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "ndisbus", *args],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def spawn(self, *argv: str) -> subprocess.Popen[str]:
        """``python ARGV`` beside the bus; its output can be read."""
        child = subprocess.Popen(
            [sys.executable, *argv],
            cwd=ROOT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.children.append(child)
        return child

    def start(self, *options: str) -> None:
        """Start the bus and wait until it answers."""
        self.process = self.spawn("-m", "ndisbus", "serve", *options)
        until(self.answers, f"the bus {self.endpoint} answers")

    def answers(self) -> bool:
        """Whether the bus answers a control request."""
        assert self.process is not None
        if self.process.poll() is not None:
            assert self.process.stdout is not None
            pytest.fail(f"the bus ended with {self.process.returncode}: {self.process.stdout.read()}")
        try:
            self.ps()
        except BusUnavailable:
            return False
        return True

    def request(self, verb: str, arguments: dict[str, Any] | None = None) -> Any:
        """A control request."""
        with ControlClient(self.endpoint) as client:
            return client.request(verb, arguments or {}, DEADLINE)

    def ps(self) -> dict[str, Any]:
        """What ``ndisbus ps`` shows."""
        result: dict[str, Any] = self.request("ps")
        return result

    def driver(self, name: str) -> dict[str, Any] | None:
        """The line of a driver in ps, if it is there."""
        return next((p for p in self.ps()["Processes"] if p["Name"] == name), None)

    def owe_answer(self, trace: TraceSubscriber, child: subprocess.Popen[str]) -> None:
        """Stop a miniport's process; return when it owes the bus an answer to MiniportCheckForHangEx."""
        child.send_signal(signal.SIGSTOP)
        while not any(e.get("call") == "MiniportCheckForHangEx" for e in trace.read(DEADLINE) or ()):
            pass
        asked = 0
        while trace.read(0.2) is not None:
            asked += 1
            assert asked < 10

    @contextlib.contextmanager
    def paused(self, seconds: float) -> Iterator[None]:
        """Stop the bus, run the block, and let the bus go on after a time in which it answered nothing."""
        stopped = psutil.Process(self.pid)
        os.kill(self.pid, signal.SIGSTOP)
        until(lambda: stopped.status() == psutil.STATUS_STOPPED, "the bus is stopped")
        yield
        with pytest.raises(BusUnavailable), ControlClient(self.endpoint) as client:
            client.request("ps", {}, seconds)
        os.kill(self.pid, signal.SIGCONT)
        until(self.answers, "the bus goes on")

    def kill(self) -> None:
        """SIGKILL the bus and collect it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE)

    def stop(self) -> int:
        """SIGTERM the bus; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        """End everything, the bus last, by pid; what is left afterwards is a failure."""
        orderly = self.process is not None and self.process.poll() is None
        started = []
        for child in reversed(self.children):
            with contextlib.suppress(psutil.NoSuchProcess):
                started += psutil.Process(child.pid).children(recursive=True)
            if child.poll() is None:
                # A stalled one would not hear SIGTERM.
                child.send_signal(signal.SIGCONT)
                child.terminate()
                try:
                    child.wait(DEADLINE)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait(DEADLINE)
            if child.stdout is not None:
                child.stdout.close()
        _, alive = psutil.wait_procs(started, timeout=DEADLINE)
        for process in alive:
            process.kill()
        assert not alive, f"left behind: {alive}"
        if orderly:
            left = sorted(p.name for p in self.directory.iterdir() if p.suffix != ".pid")
            assert not left, f"the bus left {left} behind"


@pytest.fixture
def idle_bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """A bus that is not started yet."""
    # Not tmp_path: a socket's path is at most 107 bytes long.
    directory = Path(tempfile.mkdtemp(prefix="nd"))
    monkeypatch.setenv("NDISBUS_RUNTIME_DIR", str(directory))
    monkeypatch.delenv("NDISBUS_ENDPOINT", raising=False)
    monkeypatch.delenv("NDISBUS_CURVE_DIR", raising=False)
    bus = Bus(directory)
    try:
        yield bus
    finally:
        try:
            bus.close()
        finally:
            shutil.rmtree(directory)


@pytest.fixture
def bus(idle_bus: Bus) -> Bus:
    """A bus that answers."""
    idle_bus.start()
    return idle_bus
