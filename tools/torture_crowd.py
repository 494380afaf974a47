"""Lets many connections send at the same moment through real processes, and counts what is lost.

    python tools/torture_crowd.py       20,000 connections in the host, then 20,000 offloaded ones
    python tools/torture_crowd.py offloaded --connections 2000
    python tools/torture_crowd.py host --rounds 3 --json

A bus, a target, an intermediate driver and a remote host on a cable are started under honcho. This process
is the host above them. In each round every connection sends a message at once; the remote host echoes it,
and each byte is checked. Exit code 0: none was lost. 1: some were, and what was seen.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":  # as a script, only the folder of the script is on the path
    sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from hoststack.api.live import LiveHost  # noqa: E402
from hoststack.live.nethost import NetHost  # noqa: E402
from hoststack.model.objects import ConnectionState  # noqa: E402
from hoststack.model.operation import Operation  # noqa: E402
from hoststack.net.socket import Socket  # noqa: E402
from hoststack.net.socket_events import SocketEvent  # noqa: E402
from ndisbus.errors import ChimneyError  # noqa: E402
from tools.torture_stack import RealStack, TortureError, with_peer  # noqa: E402

__all__ = ["Crowd", "gather"]

#: The echo service of the remote host, on each of its stations: an address has 16,384 ephemeral ports.
_REMOTE: Final = (("10.77.0.2", 7), ("10.77.0.3", 7))
#: Connections that are opened, or offloaded, at a time.
_WAVE: Final = 500
#: Longest time without any progress before the rest counts as lost (seconds): above the retransmission limit.
_PATIENCE: Final = 30.0


@dataclass
class Crowd:
    """What one crowd did. ``lost``: connections that ended or did not get their bytes, by reason."""

    where: str
    connections: int
    size: int
    seconds: list[float] = field(default_factory=list)
    #: Seconds from the first to the last connection, and to the end of the offload.
    opening: float = 0.0
    offloading: float = 0.0
    lost: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    retransmitted: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was lost."""
        return not self.lost and not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "where": self.where,
            "connections": self.connections,
            "bytes": self.size,
            "ok": self.ok,
            "opening_seconds": round(self.opening, 2),
            "offloading_seconds": round(self.offloading, 2),
            "round_seconds": [round(s, 2) for s in self.seconds],
            "lost": dict(self.lost),
            "problems": self.problems,
            "retransmitted": self.retransmitted,
            "dropped": self.dropped,
            "peak_mib": {name: round(mib, 1) for name, mib in self.peak.items()},
        }


class _Caller:
    """One connection: sends a message per round and checks its echo by position."""

    __slots__ = ("crowd", "expected", "socket", "wrong")

    def __init__(self, crowd: _Gathering) -> None:
        self.crowd = crowd
        self.expected = b""
        self.wrong = ""
        self.socket: Socket | None = None

    def say(self, message: bytes) -> None:
        """Send a message whose echo is expected."""
        assert self.socket is not None
        self.expected = message
        try:
            if self.socket.send(message) != len(message):
                self.wrong = "the send buffer was full"
        except ChimneyError as e:
            self.wrong = _reason(e)
        if self.wrong:
            self.crowd.answered(self)

    def happened(self, socket: Socket, event: SocketEvent) -> None:
        """What the stack tells."""
        if event is SocketEvent.CONNECTED:
            self.crowd.moved()
            self.crowd.connected += 1
        elif event is SocketEvent.READABLE:
            data = socket.recv() or b""
            if not self.expected.startswith(data):
                self.wrong = "wrong bytes"
            self.expected = self.expected[len(data) :]
            if not self.expected:
                self.crowd.answered(self)
        elif event in (SocketEvent.FAILED, SocketEvent.REMOTE_CLOSED, SocketEvent.CLOSED) and not self.wrong:
            self.wrong = _reason(socket.error) if socket.error else "closed"
            self.crowd.answered(self)


class _Gathering:
    """The host's side of a crowd."""

    def __init__(self, host: LiveHost, crowd: Crowd) -> None:
        self.host = host
        self.crowd = crowd
        self.callers: list[_Caller] = []
        self.connected = 0
        self.waiting: set[_Caller] = set()
        self._moved_at = time.monotonic()

    def moved(self) -> None:
        """Note progress."""
        self._moved_at = time.monotonic()

    def answered(self, caller: _Caller) -> None:
        """A connection has its echo, or has failed."""
        self.moved()
        self.waiting.discard(caller)

    def _wait(self, done: Any) -> bool:
        """Serve the host until ``done()``, or until nothing has moved for long."""
        self.moved()

        def over() -> bool:
            return bool(done()) or time.monotonic() - self._moved_at > _PATIENCE

        self.host.pump(over, 3600.0)
        return bool(done())

    def open(self) -> None:
        """Open the connections, in waves."""
        started = time.monotonic()
        stack = self.host.driver.stack
        for at in range(0, self.crowd.connections, _WAVE):
            wave = range(at, min(at + _WAVE, self.crowd.connections))

            def begin(wave: Iterable[int] = wave) -> None:
                for i in wave:
                    caller = _Caller(self)
                    self.callers.append(caller)
                    remote = _REMOTE[i % len(_REMOTE)]
                    caller.socket = stack.tcp_connect(remote, on_event=caller.happened)

            self.host.act(begin)
            target = wave.stop
            if not self._wait(lambda target=target: self.connected >= target):
                raise TortureError(f"{self.connected} of {target} connections were established")
        self.crowd.opening = time.monotonic() - started

    def offload(self) -> None:
        """Offload all connections, in trees of a wave each."""
        started = time.monotonic()
        sockets = [c.socket for c in self.callers if c.socket is not None]
        driver = self.host.driver
        for at in range(0, len(sockets), _WAVE):
            operation = self.host.act(partial(driver.offload_sockets, sockets[at : at + _WAVE]))
            if not self._wait(partial(_is_done, operation)):
                raise TortureError("an initiate was not completed")
        away = sum(s.tcb.connection_state is ConnectionState.OFFLOADED for s in sockets)
        if away != len(sockets):
            raise TortureError(f"{away} of {len(sockets)} connections were offloaded")
        self.crowd.offloading = time.monotonic() - started

    def leave(self) -> None:
        """End all connections."""
        for caller in self.callers:
            if caller.socket is not None:
                caller.socket.abort()

    def round(self, number: int) -> None:
        """Let every connection send at once, and wait for all echoes."""
        size = self.crowd.size
        self.waiting = {c for c in self.callers if not c.wrong}

        def speak() -> None:
            for i, caller in enumerate(self.callers):
                if not caller.wrong:
                    text = b"%d/%d." % (number, i)
                    caller.say((text * (size // len(text) + 1))[:size])

        started = time.monotonic()
        self.host.act(speak)
        self._wait(lambda: not self.waiting)
        self.crowd.seconds.append(time.monotonic() - started)
        for caller in self.waiting:
            caller.wrong = "no answer"


def _is_done(operation: Operation) -> bool:
    return operation.done


def _reason(error: BaseException) -> str:
    """An error without the addresses of its connection."""
    return str(error).rpartition(": ")[2] or type(error).__name__


def gather(stack: RealStack, where: str, *, connections: int, size: int, rounds: int) -> Crowd:
    """One crowd on a running stack; ``where``: "host" or "offloaded"."""
    crowd = Crowd(where, connections, size)
    host = LiveHost.attach(f"crowd-{where}", stack.endpoint, addresses=["10.77.0.20/24"], threaded=False)
    with host:
        gathering = _Gathering(host, crowd)
        gathering.open()
        if where == "offloaded":
            gathering.offload()
        for number in range(rounds):
            gathering.round(number)
        crowd.lost = Counter(c.wrong for c in gathering.callers if c.wrong)
        _look(stack, host, crowd)
        host.act(gathering.leave)
    return crowd


def _look(stack: RealStack, host: LiveHost, crowd: Crowd) -> None:
    """What the processes counted meanwhile."""
    driver = host.driver
    assert isinstance(driver, NetHost)
    host.act(driver.ask_statistics)
    survey = stack.ps()
    host.pump(lambda: False, 0.2)
    crowd.retransmitted = {
        f"retransmitted, {title}": count
        for title, counters in driver.statistics().items()
        for what, count in counters.items()
        if "etransmi" in what and count
    }
    crowd.dropped = {f"host: {what}": n for what, n in driver.stack.counters.items()}
    for p in survey["Processes"]:
        crowd.dropped |= {
            f"{p['Name']}: {what}": n
            for what, n in p["Counters"].items()
            if "drop" in what or "refused" in what
        }
    crowd.problems = [f"bug check: {b['Reason']}" for b in survey["BugChecks"]]
    pids = {p["Name"]: p["Pid"] for p in survey["Processes"]}
    pids |= {
        f.stem: int(json.loads(f.read_bytes())["pid"])
        for f in stack.run_dir.glob("*.pid")
        if not f.stem.startswith("supervise-")
    }
    for name, pid in pids.items():
        crowd.peak[name] = _peak(pid)


def _peak(pid: int) -> float:
    """The most memory that a process has had (MiB); 0 where the system does not tell."""
    path = Path(f"/proc/{pid}/status")
    if path.exists():
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _show(crowd: Crowd, console: Console) -> None:
    table = Table(title=f"{crowd.connections:,} connections, {crowd.where}, {crowd.size} bytes each at once")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row("opened in", f"{crowd.opening:.1f} s")
    if crowd.offloading:
        table.add_row("offloaded in", f"{crowd.offloading:.1f} s")
    for number, seconds in enumerate(crowd.seconds):
        table.add_row(f"round {number}: until the last echo", f"{seconds:.1f} s")
    table.add_row("lost", f"{sum(crowd.lost.values()):,}")
    for what, n in crowd.lost.items():
        table.add_row(f"  {what}", f"{n:,}")
    for what, n in (crowd.retransmitted | crowd.dropped).items():
        table.add_row(f"  {what}", f"{n:,}")
    for name, mib in sorted(crowd.peak.items()):
        table.add_row(f"peak memory of {name}", f"{mib:.0f} MiB")
    console.print(table)
    for text in crowd.problems:
        console.print(text, style="red")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("where", nargs="*", choices=("host", "offloaded", []), help="default: both")
    parser.add_argument("--connections", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=100, dest="size")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    console = Console()
    found = []
    for where in options.where or ("host", "offloaded"):
        with RealStack(with_peer()) as stack:
            try:
                crowd = gather(
                    stack, where, connections=options.connections, size=options.size, rounds=options.rounds
                )
            except ChimneyError as e:
                crowd = Crowd(where, options.connections, options.size, problems=[f"{e}\n{stack.log()}"])
        found.append(crowd)
        if not options.as_json:
            _show(crowd, console)
    if options.as_json:
        sys.stdout.write(json.dumps([c.to_dict() for c in found], indent=2) + "\n")
    return 0 if all(c.ok for c in found) else 1


if __name__ == "__main__":
    sys.exit(main())
