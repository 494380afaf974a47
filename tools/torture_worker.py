"""A host in a process of its own, to be killed, and to compare other hosts with.

    python tools/torture_worker.py ENDPOINT NAME SEED [--bind ADAPTER] [--connections N]

Takes commands, one per line, from its input, and answers each with a line of JSON:

    hold             offload a tree, post data and buffers, and leave it all below
    operate          start queries and updates of what is held, and do not wait for them
    work SECONDS     offload, query, update, relink, terminate, again and again: for so long, and until one
                     tree came through whole
    work             the same until the next command, which is "enough"; a line for the first whole tree, and
                     for each that a death cuts short
    books            what was passed down and what came back
    quit             leave in order

It ends when its input does. A command that fails is answered with what was wrong, and exit code 1 follows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any, Final, Self

ROOT = FilePath(__file__).resolve().parent.parent
if __name__ == "__main__":  # as a script, only the folder of the script is on the path
    sys.path.insert(0, str(ROOT))

from hoststack.api.host import Host  # noqa: E402
from ndisbus.errors import ChimneyError  # noqa: E402
from tools.torture_host import (  # noqa: E402
    CountingHost,
    Tree,
    attach,
    check_statuses,
    offload_and_check,
    terminate_and_check,
)
from tools.torture_stack import RealStack, TortureError  # noqa: E402

__all__ = ["Worker", "cycle", "main"]

#: Seconds for whatever a worker waits for.
_PATIENCE: Final = 20.0


def cycle(host: Host, driver: CountingHost, tree: Tree) -> bool:
    """One life of a tree, with everything checked. False if the adapter was lost on the way.

    Raises :class:`TortureError` for what is wrong, and what the host raises.
    """
    if not host.pump(lambda: driver.can_offload, _PATIENCE):
        raise TortureError(
            f"no chimney within {_PATIENCE:g} s: {driver.chimney.state} {driver.chimney.reason}"
        )
    unbinds = driver.unbinds
    tree.write(host)
    try:
        offload_and_check(host, tree, _PATIENCE)
        tree.post(host)
        paths, near = tree.of(tree.near)
        steps = [host.update([*paths, *near]), host.offload([tree.spare])]
        steps += [host.relink(paths, tree.spare), host.query([*tree.paths, *near])]
        if not all(o.succeeded for o in steps):
            raise TortureError(f"not all succeeded: {[o.refused or o.counts() for o in steps]}")
        terminate_and_check(host, tree, _PATIENCE)
    except ChimneyError as error:
        # If the adapter was lost, failures are expected; they only have to be legal.
        if not host.pump(lambda: driver.unbinds > unbinds, _PATIENCE / 2):
            raise
        if not host.pump(lambda: not driver.held() and not driver.pending, _PATIENCE):
            raise TortureError("the host still holds something of a dead adapter") from error
        return False
    wrong = tree.check_data()
    if wrong:
        raise TortureError("; ".join(wrong))
    return True


class _Served:
    """The worker's side: the commands."""

    def __init__(self, host: Host, driver: CountingHost, seed: int, connections: int) -> None:
        self.host = host
        self.driver = driver
        self.rng = random.Random(seed)
        self.connections = connections
        self.held = Tree(self.rng, connections)

    def answer(self, words: Sequence[str]) -> dict[str, Any]:
        """Carry out one command."""
        match words:
            case ["hold"]:
                offload_and_check(self.host, self.held, _PATIENCE)
                self.held.post(self.host)
                return {"held": len(self.driver.held())}
            case ["operate"]:
                operations = [self.host.query(list(self.held.tcbs), "whole", wait=False)]
                operations += [self.host.query([t], wait=False) for t in self.held.tcbs]
                operations += [self.host.update(self.held.paths, wait=False)]
                self.wrong = check_statuses([o for o in operations if o.done])
                return {"started": len(operations)}
            case ["work", seconds]:
                until = time.monotonic() + float(seconds)
                whole = broken = 0
                while time.monotonic() < until or not whole:
                    done = self._cycle()
                    whole, broken = whole + done, broken + (not done)
                return {"whole": whole, "broken": broken}
            case ["work"]:
                whole = broken = 0
                while not select.select([0], [], [], 0)[0]:
                    done = self._cycle()
                    whole, broken = whole + done, broken + (not done)
                    if not done or whole == 1:
                        _say(whole=whole, broken=broken)
                return {"whole": whole, "broken": broken}
            case ["enough"]:
                return {}
            case ["books"]:
                b = self.driver.books
                return {
                    "requests": dict(b.requests),
                    "completions": dict(b.completions),
                    "outstanding": len(b.outstanding),
                    "wrong": b.wrong,
                }
        raise TortureError(f"no such command: {' '.join(words)}")

    def _cycle(self) -> bool:
        return cycle(self.host, self.driver, Tree(self.rng, self.connections))


def _say(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="A host that does what it is told, line by line.")
    parser.add_argument("endpoint")
    parser.add_argument("name")
    parser.add_argument("seed", type=int)
    parser.add_argument("--bind", default="auto", help="adapter to bind to (default: auto)")
    parser.add_argument("--connections", type=int, default=4, help="connections per path")
    options = parser.parse_args(argv)
    try:
        host, driver = attach(options.name, options.endpoint, bind=options.bind, timeout=_PATIENCE)
        with host:
            adapter = driver.binding.adapter if driver.binding else None
            _say(adapter=adapter, chimney=driver.chimney.state, reason=driver.chimney.reason)
            served = _Served(host, driver, options.seed, options.connections)
            os.set_blocking(0, False)
            text = b""
            while True:
                host.pump(timeout=0.005)
                if not select.select([0], [], [], 0)[0]:
                    continue
                chunk = os.read(0, 4096)
                text += chunk
                while b"\n" in text:
                    line, _, text = text.partition(b"\n")
                    words = line.decode().split()
                    if words == ["quit"]:
                        return 0
                    _say(**served.answer(words))
                if not chunk:
                    return 0
    except ChimneyError as error:
        _say(error=str(error))
        return 1


class Worker:
    """The other side: starts a worker on a stack and talks to it; a context manager.

    Raises :class:`TortureError` for an answer that does not come in time, or that is an error.
    """

    def __init__(
        self, stack: RealStack, name: str, seed: int, *, bind: str = "auto", connections: int = 4
    ) -> None:
        self.name = name
        script = str(ROOT / "tools" / "torture_worker.py")
        command = [sys.executable, script, stack.endpoint, name, str(seed), "--bind", bind]
        self.process = subprocess.Popen(
            [*command, "--connections", str(connections)],
            cwd=ROOT,
            env=stack.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._text = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.process.pid

    def attached(self) -> dict[str, Any]:
        """What it says once it is bound."""
        return self.read()

    def tell(self, command: str) -> None:
        """Give a command, and do not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, command: str, timeout: float = _PATIENCE) -> dict[str, Any]:
        """Give a command, and wait for its answer."""
        self.tell(command)
        return self.read(timeout)

    def answered(self) -> bool:
        """Whether an answer is there to be read."""
        assert self.process.stdout is not None
        return b"\n" in self._text or bool(select.select([self.process.stdout], [], [], 0)[0])

    def read(self, timeout: float = _PATIENCE) -> dict[str, Any]:
        """The next answer."""
        assert self.process.stdout is not None
        until = time.monotonic() + timeout
        while b"\n" not in self._text:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise TortureError(f"{self.name}: no answer within {timeout:g} s")
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                raise TortureError(f"{self.name} ended with {self.process.wait(timeout)}")
            self._text += chunk
        line, _, self._text = self._text.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise TortureError(f"{self.name}: {answer['error']}")
        return answer

    def kill(self) -> None:
        """kill -9, and the pipes closed. Harmless for one that is gone."""
        self.process.kill()
        self.process.wait(_PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def quit(self) -> None:
        """Have it leave in order. :class:`TortureError` unless it ends with 0."""
        self.tell("quit")
        try:
            code = self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            raise TortureError(f"{self.name} did not end within {_PATIENCE:g} s of being told") from None
        if code:
            raise TortureError(f"{self.name} ended with {code}")


if __name__ == "__main__":
    raise SystemExit(main())
