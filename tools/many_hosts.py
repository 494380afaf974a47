"""Many hosts on one intermediate driver, each on a virtual adapter of its own, on real processes.

    python -m tools.many_hosts                        # 100 hosts in 4 processes
    python -m tools.many_hosts --hosts 12 --processes 2 --rounds 2 --json

In each round every host offloads a tree, queries and updates it, lets the bytes of one connection wait below,
and uploads everything. Reported are the time until all hosts can offload, the times of the rounds, and the
peak memory of each process. Ends with 1 if something failed, or if anything is left that is not zero.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from hoststack.chimney.driver import HostDriver
from hoststack.model import synthetic
from hoststack.model.objects import Neighbor, Path, Tcb
from hoststack.model.operation import Operation
from ndisbus.errors import ChimneyError
from ndisbus.runtime.collector import tune_gc
from ndisbus.runtime.control_client import ControlClient
from ndisbus.runtime.driver_process import DriverProcess
from tools.scale import child, conclude, own_runtime_directory, peak_mib
from tools.torture_stack import leftovers

__all__ = ["measure"]

#: Seconds for anything.
_PATIENCE: Final = 120.0
#: What waits below on one connection of each host.
_DATA: Final = b"x" * 1000


class _Shared:
    """The descriptors of one host in a ``select.poll`` that all hosts of the process share."""

    def __init__(self, poll: select.poll, owners: dict[int, _Shared]) -> None:
        self._poll = poll
        self._owners = owners
        self.ready: list[tuple[int, int]] = []

    def register(self, fd: int, eventmask: int, /) -> None:
        self._poll.register(fd, eventmask)
        self._owners[fd] = self

    def unregister(self, fd: int, /) -> None:
        self._poll.unregister(fd)
        self._owners.pop(fd, None)

    def poll(self, timeout: float | None, /) -> list[tuple[int, int]]:
        ready, self.ready = self.ready, []
        return ready


class _Hosts:
    """Several hosts in one process, each with a connection of its own to the bus, and with stdin."""

    def __init__(self, names: list[str], stack: contextlib.ExitStack) -> None:
        self._poll = select.poll()
        self._owners: dict[int, _Shared] = {}
        self.drivers: list[HostDriver] = []
        self._processes: list[tuple[DriverProcess, _Shared]] = []
        #: Lines that were read from stdin.
        self._lines = 0
        self._poll.register(sys.stdin, select.POLLIN)
        for name in names:
            driver = HostDriver(name, bind=f"im0-{name}")
            shared = _Shared(self._poll, self._owners)
            process = stack.enter_context(DriverProcess(driver, name=name, poller=shared))
            self.drivers.append(driver)
            self._processes.append((process, shared))

    def _turn(self) -> None:
        """Wait until something can be done, and let each host do it."""
        idle = [process.idle_seconds() for process, _ in self._processes]
        least = min((s for s in idle if s is not None), default=1.0)
        for fd, events in self._poll.poll(min(least, 1.0) * 1000):
            if fd == sys.stdin.fileno():
                said = os.read(fd, 4096)
                if not said:
                    raise ChimneyError("the program that started this process has ended")
                self._lines += said.count(b"\n")
            elif (owner := self._owners.get(fd)) is not None:
                owner.ready.append((fd, events))
        for process, _ in self._processes:
            process.run_until(lambda: False, 0)

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Let the hosts work until a condition holds."""
        end = time.monotonic() + _PATIENCE
        while not done():
            if time.monotonic() > end:
                raise ChimneyError(f"{what}: not within {_PATIENCE:g} s")
            self._turn()

    def together(self, said: str) -> None:
        """Tell the program that started this process, and go on when it says so."""
        click.echo(said)
        before = self._lines
        self.until(lambda: self._lines > before, said)

    def all(self, begin: Callable[[HostDriver], Operation], what: str) -> None:
        """Begin an operation on each host, and wait for all of them."""
        operations = [begin(driver) for driver in self.drivers]
        self.until(lambda: all(o.done for o in operations), what)
        for driver, operation in zip(self.drivers, operations, strict=True):
            if not operation.succeeded:
                raise ChimneyError(f"{driver.name}: {operation}: {operation.counts()}")


def _tree(number: int, connections: int, seed: int) -> tuple[Neighbor, Path, list[Tcb]]:
    """Return a neighbor, a path over it and connections over that, with addresses of one host alone."""
    high, low = divmod(number, 256)
    neighbor = synthetic.neighbor(bytes((2, 0, 0, 1, high, low)))
    path = synthetic.path(neighbor, bytes((10, 1, high, low)), bytes((10, 2, high, low)))
    return neighbor, path, synthetic.connections(path, connections, rng=random.Random(seed))


def _round(hosts: _Hosts, first: int, connections: int, number: int) -> None:
    """Let each host offload, query, update, send and upload."""
    trees = {d: _tree(first + i, connections, number) for i, d in enumerate(hosts.drivers)}
    hosts.all(lambda d: d.offload(trees[d][2]), "offload")
    hosts.all(lambda d: d.query(trees[d][2], "whole"), "query")
    hosts.all(lambda d: d.update([*trees[d][:2], *trees[d][2]]), "update")
    for driver, (_, _, tcbs) in trees.items():
        driver.send(tcbs[0], _DATA)
    hosts.all(lambda d: d.terminate(trees[d][2], idle=True), "terminate")
    for driver, (_, _, tcbs) in trees.items():
        if b"".join(tcbs[0].send_queue or ()) != _DATA:
            raise ChimneyError(f"{driver.name}: the bytes that waited below did not come back")
        for tcb in tcbs:
            driver.forget(tcb)


def hosts_of_one_process(first: int, count: int, rounds: int, connections: int) -> None:
    """Run the hosts with these numbers, in step with the other processes."""
    tune_gc()
    with contextlib.ExitStack() as stack:
        hosts = _Hosts([f"host{i}" for i in range(first, first + count)], stack)
        hosts.until(lambda: all(d.can_offload for d in hosts.drivers), "not all hosts can offload")
        hosts.together("ready")
        for number in range(rounds):
            _round(hosts, first, connections, number)
            hosts.together(f"round {number}")


def measure(
    hosts: int = 100,
    processes: int = 4,
    rounds: int = 5,
    connections: int = 20,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the hosts. Raises :class:`ChimneyError` if something fails or is left over.

    It sets the variables of the environment that say where the bus is.
    """
    bounds = [round(hosts * i / processes) for i in range(processes + 1)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_runtime_directory())
        begun = time.monotonic()
        adapters = [x for i in range(hosts) for x in ("--adapter", f"im0-host{i}")]
        layers = {
            "bus": stack.enter_context(child("ndisbus", "serve")),
            "target": stack.enter_context(child("target", "--ip-address-entries", str(hosts + 8))),
            "im": stack.enter_context(child("imdriver", *adapters)),
        }
        workers = []
        for first, last in itertools.pairwise(bounds):
            arguments = (first, last - first, rounds, connections)
            workers.append(stack.enter_context(child("tools.many_hosts", "--worker", *map(str, arguments))))

        def together(said: str) -> float:
            for w in workers:
                assert w.stdout is not None
                if (line := w.stdout.readline()) != f"{said}\n":
                    raise ChimneyError(f"a process with hosts said {line.strip()!r} where {said!r} was due")
            return time.monotonic()

        def go_on() -> None:
            for w in workers:
                assert w.stdin is not None
                w.stdin.write("\n")
                w.stdin.flush()

        ready = together("ready")
        report(f"{hosts} hosts can offload after {ready - begun:.1f} s")
        seconds: list[float] = []
        for number in range(rounds):
            start = time.monotonic()
            go_on()
            seconds.append(together(f"round {number}") - start)
            report(f"round {number}: {seconds[-1]:.2f} s")
        with ControlClient() as client:
            start = time.monotonic()
            ps = client.request("ps", {}, _PATIENCE)
            asked = time.monotonic() - start
        shown = subprocess.run(
            [sys.executable, "-m", "ndisbus", "ps"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        left = leftovers(ps)
        there = sum(p["Kind"] == "protocol" for p in ps["Processes"])
        if left or ps["BugChecks"] or there != hosts:
            raise ChimneyError(f"{there} hosts, left over: {left}, bug checks: {ps['BugChecks']}")
        memory = {name: peak_mib(process.pid) for name, process in layers.items()}
        memory["hosts, each process"] = max(peak_mib(w.pid) for w in workers)
        go_on()
        return {
            "hosts": hosts,
            "start_s": round(ready - begun, 2),
            "round_s": [round(s, 2) for s in seconds],
            "blocks_per_round": hosts * (connections + 2),
            "ps_s": round(asked, 3),
            "ps_lines": len(shown),
            "peak_mib": memory,
        }


def _lines(result: dict[str, Any]) -> Iterator[str]:
    yield f"{result['hosts']} hosts ready after {result['start_s']} s"
    blocks = result["blocks_per_round"]
    yield f"rounds of {blocks} blocks, four times through the stack: {result['round_s']} s"
    yield f"ps: {result['ps_s']} s, {result['ps_lines']} lines; everything zero"


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--processes", type=int, default=4, help="processes for the hosts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=20, help="connections of each host")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--worker", type=int, nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        hosts_of_one_process(*args.worker)
        return 0
    return conclude(
        "many_hosts",
        lambda report: measure(args.hosts, args.processes, args.rounds, args.connections, report),
        _lines,
        as_json=args.json,
    )


if __name__ == "__main__":
    raise SystemExit(main())
