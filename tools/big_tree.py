"""A tree of very many blocks, down through intermediate driver and target and up again, on real processes.

    python tools/big_tree.py                 # 1,000,000 blocks: the documented limit
    python tools/big_tree.py --blocks 50000 --json

It offloads, queries and terminates one tree. Meanwhile a second host, on an adapter of its own, makes
requests of one block through the same drivers, and a control client asks the bus. Reported are the seconds of
each operation, the longest waits of the other two, and the peak memory of each process. Ends with 1 if
something failed or was left over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from ndisbus.bench.host import DELEGATED, WHOLE, BenchHost, Tree
from ndisbus.errors import ChimneyError
from ndisbus.lists.blocklist import BlockListBuilder
from ndisbus.runtime.collector import tune_gc
from ndisbus.runtime.control_client import ControlClient
from ndisbus.runtime.driver_process import DriverProcess
from tools.scale import child, conclude, own_runtime_directory, peak_mib
from tools.torture_stack import leftovers

__all__ = ["measure"]

#: Seconds for any operation, and for each 100,000 blocks of it.
_PATIENCE: Final = 60.0
#: Seconds in which nothing may be left over any more.
_SETTLE: Final = 10.0


class Side(DriverProcess):
    """A host on the bus that makes one request after the other."""

    def __init__(self, name: str, patience: float = _PATIENCE) -> None:
        self.host = BenchHost()
        self.patience = patience
        super().__init__(self.host, name=name)
        if not self.run_until(lambda: self.host.enabled, _PATIENCE):
            raise ChimneyError(f"{name}: no adapter was offered")

    def do(self, operation: str, block_list: Any) -> float:
        """Make one request. Returns its seconds."""
        due = self.host.completed + 1
        start = time.monotonic()
        getattr(self.host.ndis, operation)(self.host.binding, block_list)
        del block_list
        if not self.run_until(lambda: self.host.completed >= due, self.patience):
            raise ChimneyError(f"{self.name}: {operation} was not completed within {self.patience:g} s")
        self.host.last = None
        if self.host.failed:
            raise ChimneyError(f"{self.name}: {operation}: a status other than SUCCESS")
        return time.monotonic() - start


def small_host(patience: float) -> None:
    """Query one connection again and again until stdin ends. Print the waits as JSON."""
    tune_gc()
    with Side("small", patience) as side:
        tree = Tree(side.host, 3)
        side.do("initiate_offload", tree.build(WHOLE, state=True))
        click.echo("ready")
        ended = threading.Event()

        def read() -> None:
            sys.stdin.read()
            ended.set()

        threading.Thread(target=read, daemon=True).start()
        waits: list[float] = []
        while not ended.is_set():
            b = BlockListBuilder(side.host.ndis.heap)
            b.add(DELEGATED[2], tree.tcp[0][0].address)
            waits.append(side.do("query_offload_state", b.build()))
            side.run_until(lambda: False, 0.02)
        side.do("terminate_offload", tree.build(DELEGATED, state=False))
        tree.free()
        click.echo(json.dumps({"longest": max(waits), "median": sorted(waits)[len(waits) // 2]}))


class _Asker(threading.Thread):
    """Asks the bus for its list of faults again and again, and keeps the longest wait."""

    def __init__(self, patience: float) -> None:
        super().__init__(daemon=True)
        self.longest = 0.0
        self.patience = patience
        self.ended = threading.Event()

    def run(self) -> None:
        with ControlClient() as client:
            while not self.ended.wait(0.05):
                start = time.monotonic()
                client.request("fault.list", {}, self.patience)
                self.longest = max(self.longest, time.monotonic() - start)


def _survey(side: Side) -> dict[str, Any]:
    """Return what ``ndisbus ps`` is made of. The host in this process answers meanwhile."""
    found: list[dict[str, Any]] = []

    def ask() -> None:
        with ControlClient() as client:
            found.append(client.request("ps", {}, _PATIENCE))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    side.run_until(lambda: not asking.is_alive(), _PATIENCE)
    if not found:
        raise ChimneyError("the bus did not say what is left")
    return found[0]


def measure(
    blocks: int, report: Callable[[str], None] = lambda _: None, bus_options: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Offload, query and terminate a tree. Raises :class:`ChimneyError` if something fails or is left over.

    It sets the variables of the environment that say where the bus is.
    """
    patience = _PATIENCE * (1 + blocks / 100_000)
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_runtime_directory())
        children = {
            "bus": stack.enter_context(child("ndisbus", "serve", *bus_options)),
            "target": stack.enter_context(child("target", "--tcp-entries", str(blocks + 100))),
            "im": stack.enter_context(child("imdriver")),
        }
        big = stack.enter_context(Side("big", patience))
        small = stack.enter_context(child("tools.big_tree", "--small", str(patience)))
        assert small.stdin is not None
        assert small.stdout is not None
        if small.stdout.readline() != "ready\n":
            raise ChimneyError("the second host did not come up")
        asker = _Asker(patience)
        asker.start()
        report("building the tree")
        tree = Tree(big.host, blocks)
        seconds: dict[str, float] = {}
        for operation, kinds in (
            ("initiate_offload", WHOLE),
            ("query_offload_state", DELEGATED),
            ("terminate_offload", DELEGATED),
        ):
            block_list = tree.build(kinds, state=kinds is WHOLE)
            report(f"{operation}: {len(block_list):,} blocks")
            seconds[operation] = big.do(operation, block_list)
            del block_list
        tree.free()
        asker.ended.set()
        small.stdin.close()
        waits = json.loads(small.stdout.readline())
        asker.join(patience)
        end = time.monotonic() + _SETTLE
        while (left := leftovers(ps := _survey(big))) and time.monotonic() < end:
            continue  # the second host is leaving, and NDIS disables its chimney
        if left or ps["BugChecks"]:
            raise ChimneyError(f"left over: {left}, bug checks: {ps['BugChecks']}")
        return {
            "blocks": blocks,
            "seconds": {k: round(v, 2) for k, v in seconds.items()},
            "small_host_longest_s": round(waits["longest"], 3),
            "small_host_median_s": round(waits["median"], 4),
            "control_longest_s": round(asker.longest, 3),
            "peak_mib": {
                "host": peak_mib(os.getpid()),
                **{name: peak_mib(process.pid) for name, process in children.items()},
            },
        }


def _lines(result: dict[str, Any]) -> Iterator[str]:
    for name, value in result["seconds"].items():
        yield f"{name:22} {value:8.2f} s"
    median, longest = result["small_host_median_s"], result["small_host_longest_s"]
    yield f"second host: median {median:.4f} s, longest {longest:.3f} s"
    yield f"control request, longest: {result['control_longest_s']:.3f} s"


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--blocks", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--hang-limit", help="passed to 'ndisbus serve'")
    parser.add_argument("--request-limit", help="passed to 'ndisbus serve'")
    parser.add_argument("--small", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.small is not None:
        small_host(args.small)
        return 0
    options: list[str] = []
    for name in ("hang_limit", "request_limit"):
        if getattr(args, name) is not None:
            options += [f"--{name.replace('_', '-')}", getattr(args, name)]
    tune_gc()
    return conclude(
        "big_tree", lambda report: measure(args.blocks, report, tuple(options)), _lines, as_json=args.json
    )


if __name__ == "__main__":
    raise SystemExit(main())
