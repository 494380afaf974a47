"""A live host in a process of its own, whose threads open connections to the remote host and check them.

    python tools/torture_live_worker.py ENDPOINT NAME SEED [--bind ADAPTER] [--address A/N]... [--threads N]

Takes commands, one per line, from its input: "work" (it begins with that), "quiet" (no new connections; those
that are open come to their end), "quit". SIGTERM means "quit", too: it leaves in order. Its output has a line
of JSON for each connection that ended, each change of the chimney, and "idle" once a "quiet" is carried out.
Exit code 1 if the host could not go on, with a line that says why.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":  # as a script, only the folder of the script is on the path
    sys.path.insert(0, str(ROOT))

from hoststack.api.errors import HostClosed, HostTimeout  # noqa: E402
from hoststack.api.live import LiveHost  # noqa: E402
from hoststack.model.events import Violation  # noqa: E402
from ndisbus.errors import BusUnavailable, ChimneyError, LocalProtocolError  # noqa: E402
from ndisbus.runtime.signals import SignalPipe  # noqa: E402
from tools.torture_streams import make_kind  # noqa: E402
from tools.torture_talk import Talk  # noqa: E402

__all__ = ["main"]

#: The addresses of ``hoststack peer``.
_REMOTE: Final = ("10.77.0.2", "10.77.0.3", "fd77::2", "fd77::3")
#: Seconds between two looks at the chimney; until everything is in the host again; to leave.
_TICK: Final = 0.02
_HOME: Final = 60.0
_FAREWELL: Final = 5.0
#: Seconds to wait after a connection that could not be opened.
_AGAIN: Final = 0.5
#: Keys of streams have 24 bits: so many connections of one host have different ones.
_KEYS: Final = 1 << 24


class _Worker:
    def __init__(self, host: LiveHost, name: str, seed: int, threads: int) -> None:
        self.host = host
        self.name = name
        self.seed = seed
        self.hurry = threading.Event()
        self.working = threading.Event()
        self.over = False
        #: What ended a thread that was not asked to end.
        self.crashed = ""
        self._lock = threading.Lock()
        self._talks: set[Talk] = set()
        self._count = 0
        self._chimney: bool | None = None
        self._operations: list[Any] = []
        host.act(lambda: host.driver.events.subscribe(Violation, _violated))
        self._threads = [threading.Thread(target=self._serve, args=(n,), daemon=True) for n in range(threads)]
        self.working.set()
        for thread in self._threads:
            thread.start()

    # -- in the threads ------------------------------------------------------------------------

    def _serve(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/{self.name}/{number}")
        try:
            while True:
                self.working.wait()
                if self.over:
                    return
                talk = self._begin(rng)
                if talk is not None:
                    talk.run(rng.choice(_REMOTE))
                    self._ended(talk)
        except HostClosed:
            if not self.over:
                self.crashed = traceback.format_exc()
        except BaseException:  # reported by the main thread, which ends the process
            self.crashed = traceback.format_exc()

    def _begin(self, rng: random.Random) -> Talk | None:
        with self._lock:
            if not self.working.is_set():
                return None
            self._count += 1
            number = self._count
            key = (random.Random(self.seed).randrange(_KEYS) + number) % _KEYS
            talk = Talk(self.host, f"{self.name}.{number}", make_kind(key, rng), rng, self.hurry)
            self._talks.add(talk)
            return talk

    def _ended(self, talk: Talk) -> None:
        if self.over:
            talk.abandon()
        say(**talk.to_dict())
        with self._lock:
            self._talks.discard(talk)
            self._operations = [o for o in self._operations + talk.operations if not o.done]
        if talk.outcome == "not connected":
            self.hurry.wait(_AGAIN)

    # -- in the main thread --------------------------------------------------------------------

    def quiet(self) -> None:
        """Have all connections come to their end."""
        with self._lock:
            self.working.clear()
            self.hurry.set()

    def work(self) -> None:
        """Go on."""
        with self._lock:
            self.hurry.clear()
            self.working.set()

    def leave(self) -> None:
        """Let the threads end."""
        self.over = True
        self.hurry.set()
        self.working.set()

    def look(self) -> None:
        """Tell whether the chimney can be used, when that has changed."""
        can = self.host.driver.can_offload
        if can is not self._chimney:
            self._chimney = can
            say(event="chimney", there=can, at=time.monotonic())

    def idle(self) -> bool:
        """Whether no connection is open any more."""
        with self._lock:
            return not self._talks

    def settle(self) -> None:
        """Take home what is idle below, and tell what should not be there."""
        problems = []
        try:
            operation = self.host.chimney.upload_everything(timeout=_HOME)
            if operation.refused:
                problems.append(f"the upload of everything was refused: {operation.refused}")
        except (HostTimeout, LocalProtocolError) as error:
            problems.append(f"upload of everything: {error}")
        problems += [f"{o!r} is not completed" for o in self._operations if not o.done]
        driver = self.host.driver
        left = self.host.act(lambda: (len(driver.offloaded_sockets), len(driver.posted)))
        if any(left):
            problems.append(f"offloaded sockets, posted lists: {left}")
        say(event="idle", at=time.monotonic(), problems=problems)


def _violated(event: Violation) -> None:
    say(event="violation", at=event.at, text=f"{event.rule}: {event.text}")


_saying = threading.Lock()


def say(**fields: Any) -> None:
    """Write one line."""
    text = json.dumps(fields) + "\n"
    with _saying:
        sys.stdout.write(text)
        sys.stdout.flush()


def _bound(host: LiveHost, signals: SignalPipe) -> bool:
    """Wait until the host is on the network, for as long as it takes; False if it is to leave before."""
    while True:
        try:
            host.wait_bound(1.0)
            return True
        except (BusUnavailable, HostTimeout):
            if signals.arrived():
                return False


def _run(worker: _Worker, signals: SignalPipe) -> int:
    os.set_blocking(0, False)
    text, quiet = b"", False
    while not worker.crashed:
        there, _, _ = select.select([0, signals.receiver.fileno()], [], [], _TICK)
        if signals.receiver.fileno() in there and signals.arrived():
            return 0
        if 0 in there:
            chunk = os.read(0, 4096)
            if not chunk:
                return 0
            text += chunk
            while b"\n" in text:
                line, _, text = text.partition(b"\n")
                command = line.decode()
                if command == "quit":
                    return 0
                quiet = command == "quiet"
                if quiet:
                    worker.quiet()
                else:
                    worker.work()
        worker.look()
        if quiet and worker.idle():
            quiet = False
            worker.settle()
    say(event="crash", at=time.monotonic(), text=worker.crashed)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="A live host that opens connections and checks them.")
    parser.add_argument("endpoint")
    parser.add_argument("name")
    parser.add_argument("seed", type=int)
    parser.add_argument("--bind", default="auto", help="adapter to bind to")
    parser.add_argument("--address", action="append", help="own address with prefix length")
    parser.add_argument("--threads", type=int, default=4, help="connections at a time")
    options = parser.parse_args(argv)
    try:
        with SignalPipe() as signals:
            host = LiveHost.attach(
                options.name,
                options.endpoint,
                addresses=options.address,
                bind=options.bind,
                timeout=_FAREWELL,
                wait_bound=False,
                seed=options.seed,
            )
            with host:
                if not _bound(host, signals):
                    return 0
                say(event="bound", at=time.monotonic(), pid=os.getpid())
                worker = _Worker(host, options.name, options.seed, options.threads)
                code = _run(worker, signals)
                worker.leave()
            say(event="left", at=time.monotonic())
            return code
    except ChimneyError:
        say(event="crash", at=time.monotonic(), text=traceback.format_exc())
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
