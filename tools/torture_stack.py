"""A real stack to be tortured: honcho, the bus and the drivers, in a runtime directory of its own.

What it is asked and what it leaves behind are looked at from outside: through control requests, pids and
the file system. When it is stopped, no process and no file of it may be left.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from ndisbus.cli.wait import is_ready
from ndisbus.errors import BusUnavailable, ChimneyError
from ndisbus.runtime.control_client import ControlClient

__all__ = ["ROOT", "RealStack", "TortureError", "leftovers", "supervised", "three_layers", "with_peer"]

ROOT: Final = Path(__file__).resolve().parent.parent
#: How long a stack has to come up, and to end once it is told to (seconds).
_START: Final = 60.0
_STOP: Final = 30.0
_INTERVAL: Final = 0.01
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
#: Counters of drivers that are not zero while a driver holds something or after a rule was broken.
_KEPT: Final = (
    "call_entries",
    "io_entries",
    "packet_entries",
    "packets_above",
    "sends",
    "offload_entries",
    "tcp",
    "path",
    "neighbor",
    "handles",
    "operations",
    "posted",
    "returns",
    "queued_initiates",
    "pending_operations",
    "nbls_outstanding",
    "violations",
    "stray_indications",
)


class TortureError(ChimneyError):
    """A check failed; the text says which, and what the stack looked like."""


def supervised(name: str, *command: str) -> str:
    """A Procfile's command for one layer under its supervisor, with short delays between restarts."""
    python = shlex.quote(sys.executable)
    arguments = " ".join(map(shlex.quote, command))
    return (
        f"exec {python} -m ndisbus supervise {name} --backoff-min 0.02 --backoff-max 0.2 --stable 0.5 "
        f"-- {python} -m {arguments}"
    )


def with_peer() -> dict[str, str]:
    """Everything of the Procfile but the host: three layers, and the remote host on their wire."""
    return {
        **three_layers(),
        "target": supervised("target", "target", "--wire", "cable:wire0"),
        "peer": supervised("peer", "hoststack", "peer"),
    }


def three_layers(*bus_options: str) -> dict[str, str]:
    """The Procfile's layers without the host; ``bus_options`` go to ``ndisbus serve``."""
    return {
        "bus": supervised("bus", "ndisbus", "serve", *bus_options),
        "target": supervised("target", "target"),
        "im": supervised("im", "imdriver"),
    }


class RealStack:
    """A stack under honcho; a context manager.

    ``layers``: name -> command. ``procfile``: a Procfile to take instead, of which only the processes in
    ``only`` are started. Raises :class:`TortureError` when it does not start, or leaves something behind.
    """

    def __init__(
        self,
        layers: Mapping[str, str] | None = None,
        *,
        procfile: Path | None = None,
        only: Sequence[str] = (),
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="torture-"))
        self.run_dir = self.directory / "run"
        self.run_dir.mkdir(mode=0o700)
        self.endpoint = f"ipc://{self.run_dir / 'bus.sock'}"
        self._procfile = procfile or self.directory / "Procfile"
        if procfile is None:
            lines = [f"{name}: {command}\n" for name, command in (layers or {}).items()]
            self._procfile.write_text("".join(lines), encoding="utf-8")
        self._only = list(only)
        self._log = self.directory / "log"
        self._honcho: subprocess.Popen[bytes] | None = None
        self._supervisors: frozenset[int] = frozenset()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find this stack, and no other."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith("NDISBUS_")}
        binaries = str(Path(sys.executable).parent)
        return {
            **keep,
            "NDISBUS_RUNTIME_DIR": str(self.run_dir),
            "PATH": os.pathsep.join((binaries, keep.get("PATH", os.defpath))),
            "PYTHONUNBUFFERED": "1",
        }

    # -- life ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "honcho", "-f", str(self._procfile), "-d", str(ROOT), "--no-colour"]
        with self._log.open("wb") as log:
            self._honcho = subprocess.Popen(
                [*command, "start", *self._only],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_ends_with_us(),  # noqa: PLW1509 - one prctl, and no lock of ours in between
            )
        try:
            self.wait_for(lambda ps: _all_up(ps, self._expected()), "the stack did not come up", _START)
            self._supervisors = self._children()
        except BaseException:
            with contextlib.suppress(TortureError):
                self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except TortureError as found:
            if error is None:
                raise
            error.add_note(str(found))

    def _expected(self) -> set[str]:
        text = self._procfile.read_text(encoding="utf-8")
        names = {line.partition(":")[0] for line in text.splitlines() if ":" in line}
        return (set(self._only) or names) - {"bus", "peer"}  # the peer is on the wire, not on the bus

    def _children(self) -> frozenset[int]:
        assert self._honcho is not None
        return frozenset(p.pid for p in psutil.Process(self._honcho.pid).children())

    def check_honcho(self) -> list[str]:
        """Whether honcho and each of the supervisors are the ones that were started; problems as texts."""
        assert self._honcho is not None
        code = self._honcho.poll()
        if code is not None:
            return [f"honcho ended with {code}"]
        gone = self._supervisors - self._children()
        return [f"{len(gone)} of {len(self._supervisors)} supervisors are gone"] if gone else []

    def stop(self) -> None:
        """End the stack as its user would. :class:`TortureError` if a process or a file is left over."""
        honcho, self._honcho = self._honcho, None
        if honcho is None:
            return
        problems = []
        honcho.terminate()
        try:
            honcho.wait(_STOP)
        except subprocess.TimeoutExpired:
            problems.append(f"honcho did not end within {_STOP:g} s of SIGTERM")
        stray = self._strays()
        if stray:
            problems.append("left running: " + "; ".join(f"{p.pid} {_command(p)}" for p in stray))
            for p in stray:
                with contextlib.suppress(psutil.NoSuchProcess):
                    p.kill()
        if honcho.poll() is None:
            honcho.kill()
            honcho.wait(_STOP)
        files = sorted(p.name for p in self.run_dir.iterdir())
        if files:
            problems.append(f"left in the runtime directory: {', '.join(files)}")
        log = self.log()
        shutil.rmtree(self.directory)
        if problems:
            raise TortureError("; ".join(problems) + "\n" + log)

    def _strays(self) -> list[psutil.Process]:
        """Processes of this stack: those whose environment has its runtime directory."""
        found = []
        for p in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = p.environ().get("NDISBUS_RUNTIME_DIR") == str(self.run_dir)
                if mine and p.status() != psutil.STATUS_ZOMBIE:
                    found.append(p)
        return found

    # -- questions -----------------------------------------------------------------------------

    def log_lines(self) -> list[str]:
        """What honcho printed."""
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()

    def log(self, lines: int = 40) -> str:
        """The end of what honcho printed."""
        return "\n".join(self.log_lines()[-lines:])

    def ps(self, timeout: float = 20.0) -> dict[str, Any]:
        """What ``ndisbus ps --json`` shows."""
        with ControlClient(self.endpoint) as client:
            survey: dict[str, Any] = client.request("ps", {}, timeout)
        return survey

    def control(self, verb: str, arguments: dict[str, Any] | None = None, timeout: float = 20.0) -> Any:
        """A control request of the command line's kind."""
        with ControlClient(self.endpoint) as client:
            return client.request(verb, arguments or {}, timeout)

    def wait_for(
        self, condition: Callable[[dict[str, Any]], object], otherwise: str, timeout: float = 30.0
    ) -> dict[str, Any]:
        """The first survey for which ``condition`` holds. :class:`TortureError` if none does in time."""
        until = time.monotonic() + timeout
        while True:
            with contextlib.suppress(BusUnavailable):
                survey = self.ps(2.0)
                if condition(survey):
                    return survey
            if self._honcho is not None and self._honcho.poll() is not None:
                raise TortureError(f"{otherwise}: honcho ended with {self._honcho.returncode}\n{self.log()}")
            if time.monotonic() > until:
                raise TortureError(f"{otherwise} within {timeout:g} s\n{self.dump()}")
            time.sleep(_INTERVAL)

    def pid(self, name: str) -> int:
        """The pid of a driver that is on the bus, or of the bus."""
        if name == "bus":
            return int(json.loads((self.run_dir / "bus.pid").read_bytes())["pid"])
        for p in self.ps()["Processes"]:
            if p["Name"] == name:
                return int(p["Pid"])
        raise TortureError(f"{name} is not on the bus\n{self.dump()}")

    def signal(self, name: str, signum: signal.Signals) -> int | None:
        """Signal the process that has this name now; its pid, or None if there is none."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pid = int(json.loads((self.run_dir / f"{name}.pid").read_bytes())["pid"])
            os.kill(pid, signum)
            return pid
        return None

    def pids(self) -> dict[str, int]:
        """The processes that have pid files, supervisors among them."""
        return {p.stem: int(json.loads(p.read_bytes())["pid"]) for p in self.run_dir.glob("*.pid")}

    def run(self, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """``python ARGUMENTS`` as a user of this stack would run it."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def dump(self) -> str:
        """What helps to find out what went wrong: processes, survey, logs."""
        try:
            survey = json.dumps(self.ps(2.0), indent=1, default=str)
        except ChimneyError as e:
            survey = f"no ps: {e}"
        return f"--- ps ---\n{survey}\n--- honcho ---\n{self.log()}"


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return "?"


def _ends_with_us() -> Callable[[], None] | None:
    """Done in honcho's process before it starts: our own violent end stops it, and with it the stack."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def before_exec() -> None:
        if prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")

    return before_exec


def _all_up(survey: dict[str, Any], names: set[str]) -> bool:
    """Whether each of the processes is there and, unless it is a host, has an adapter up."""
    ready = {p["Name"] for p in survey["Processes"] if is_ready(survey, p)}
    return names <= ready


def leftovers(survey: dict[str, Any]) -> dict[str, int]:
    """What drivers still hold although nothing is offloaded and nothing is in flight; it should be empty."""
    left = {f"outstanding on {a['Name']}": a["Outstanding"] for a in survey["Adapters"]}
    left |= {f"frames of {a['Name']} above": a["Receives"] for a in survey["Adapters"]}
    left |= {f"dead adapter {a['Name']}": 1 for a in survey["Adapters"] if a["State"] != "up"}
    for b in survey["Bindings"]:
        left[f"objects of {b['Protocol']} on {b['Adapter']}"] = sum(b["Objects"].values())
        left[f"outstanding of {b['Protocol']} on {b['Adapter']}"] = b["Outstanding"]
        left[f"frames kept by {b['Protocol']} on {b['Adapter']}"] = b["Received"]
    for p in survey["Processes"]:
        left[f"{p['Name']}: no answer"] = int(p["State"] != "ready")
        left |= {f"{p['Name']}: {key}": p["Counters"].get(key, 0) for key in _KEPT}
        left[f"{p['Name']}: lists"] = p["Sent"] + p["Lent"]
    left["bug checks"] = len(survey["BugChecks"])
    return {what: count for what, count in left.items() if count}
