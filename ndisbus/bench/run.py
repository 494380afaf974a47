"""Starts both chains, measures them side by side, and computes the ratios.

The two are measured in turns, so that other work of the machine affects both alike. The benchmark writes
only to a temporary directory and ends every process that it starts.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from ndisbus.bench.bare import BareChain
from ndisbus.bench.host import CACHED, DELEGATED, WHOLE, BenchHost, Tree
from ndisbus.errors import ChimneyError
from ndisbus.lists.blocklist import BlockList, BlockListBuilder
from ndisbus.runtime.collector import tune_gc
from ndisbus.runtime.driver_process import DriverProcess

__all__ = ["SIZES", "measure"]

SIZES: Final = (100, 1_000, 10_000, 100_000)
_ROUNDS: Final = 5
#: Round trips of one chain before the other chain has its turn.
_TURN: Final = 20
_WINDOW: Final = 256
_DEADLINE: Final = 60.0

Report = Callable[[str], None]


@contextmanager
def _process(args: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-m", *args], env=env, stdout=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _peak_memory(pid: int) -> int:
    """Return the largest resident size so far, in bytes (Linux: VmHWM; elsewhere the current one)."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except FileNotFoundError:
        pass
    import psutil  # noqa: PLC0415 - only where /proc is missing

    return int(psutil.Process(pid).memory_info().rss)


class _Chain:
    """Our chain, with the benchmark's host at its upper end."""

    def __init__(self, endpoint: str) -> None:
        self.driver = BenchHost()
        self.process = DriverProcess(self.driver, name="bench", endpoint=endpoint)
        if not self.process.run_until(lambda: self.driver.enabled, timeout=_DEADLINE):
            raise ChimneyError("the chain did not come up: no adapter was offered to the benchmark's host")
        self.one = Tree(self.driver, 3)
        self.initiate(self.one)

    def _wait(self, completions: int, what: str) -> None:
        if not self.process.run_until(lambda: self.driver.completed >= completions, timeout=_DEADLINE):
            raise ChimneyError(f"{what}: {completions - self.driver.completed} completions are missing")
        if self.driver.failed:
            raise ChimneyError(f"{what}: a completion had a status other than SUCCESS")

    def timed(self, call: Callable[[int, BlockList], None], block_list: BlockList, what: str) -> float:
        """Make one request. Returns the seconds from the call to the end of its completion handler."""
        binding = self.driver.binding
        assert binding is not None
        due = self.driver.completed + 1
        t = time.perf_counter()
        call(binding, block_list)
        self._wait(due, what)
        return self.driver.finished_at - t

    def initiate(self, tree: Tree) -> float:
        """Offload a whole tree."""
        return self.timed(self.driver.ndis.initiate_offload, tree.build(WHOLE, state=True), "initiate")

    def query(self, tree: Tree) -> float:
        """Query the delegated state of a whole tree."""
        return self.timed(self.driver.ndis.query_offload_state, tree.build(DELEGATED, state=False), "query")

    def invalidate(self, tree: Tree) -> float:
        """Invalidate a whole tree."""
        return self.timed(self.driver.ndis.invalidate_offload, tree.build(CACHED, state=False), "invalidate")

    def terminate(self, tree: Tree) -> float:
        """Terminate a whole tree."""
        return self.timed(self.driver.ndis.terminate_offload, tree.build(DELEGATED, state=False), "terminate")

    def _single(self) -> BlockList:
        b = BlockListBuilder(self.driver.ndis.heap)
        b.add(DELEGATED[2], self.one.tcp[0][0].address)
        return b.build()

    def round_trips(self, count: int) -> list[float]:
        """Query one connection ``count`` times, one after the other. Returns the seconds of each query."""
        query = self.driver.ndis.query_offload_state
        return [self.timed(query, self._single(), "query") for _ in range(count)]

    def pipelined(self, count: int, window: int) -> float:
        """Query one connection with ``window`` queries in flight. Returns operations per second."""
        driver = self.driver
        binding, query = driver.binding, driver.ndis.query_offload_state
        start = driver.completed
        sent = 0
        t = time.perf_counter()

        def refill() -> bool:
            nonlocal sent
            done = driver.completed - start
            while sent < count and sent - done < window:
                query(binding, self._single())
                sent += 1
            return done >= count

        if not self.process.run_until(refill, timeout=_DEADLINE):
            raise ChimneyError(
                f"pipelined queries: {count - (driver.completed - start)} completions are missing"
            )
        return count / (time.perf_counter() - t)


def _percentiles(samples: list[float]) -> dict[str, float]:
    ordered = sorted(samples)
    return {
        "rtt_p50_us": round(statistics.median(ordered) * 1e6, 1),
        "rtt_p99_us": round(ordered[int(len(ordered) * 0.99)] * 1e6, 1),
    }


def measure(*, quick: bool = False, report: Report = lambda _: None) -> dict[str, Any]:
    """Measure both chains. Returns the map that ``ndisbus bench --json`` prints.

    ``quick`` takes fewer samples (for tests of the benchmark itself). Raises :class:`ChimneyError` when a
    chain does not start or loses a completion.
    """
    trips, operations = (200, 1_000) if quick else (1_500, 10_000)
    sizes = SIZES[:2] if quick else SIZES
    with ExitStack() as stack:
        run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ndisbus-bench-")))
        run.chmod(0o700)
        ours, bare = f"ipc://{run}/bus.sock", f"ipc://{run}/bare.sock"
        env = {**os.environ, "NDISBUS_RUNTIME_DIR": str(run), "NDISBUS_ENDPOINT": ours}
        report("starting a bare ZeroMQ chain and our own")
        for role in ("bus", "im", "target"):
            stack.enter_context(_process(["ndisbus.bench.bare", role, bare], env))
        floor = BareChain(bare)
        stack.callback(floor.close)
        floor.wait_ready()
        layers = {
            "bus": ["ndisbus", "serve"],
            "im": ["imdriver"],
            "target": ["target", "--tcp-entries", "200000"],
        }
        children = {name: stack.enter_context(_process(args, env)) for name, args in layers.items()}
        tune_gc()  # as every process of the chain does
        chain = _Chain(ours)
        stack.callback(chain.process.close)
        result = _compare(floor, chain, trips, operations, report)
        result["trees"] = {str(n): _tree(chain, n, report) for n in sizes}
        result["blocks_per_s"] = {n: t["blocks_per_s"] for n, t in result["trees"].items()}
        result["peak_memory_bytes"] = {name: _peak_memory(child.pid) for name, child in children.items()}
        result["peak_memory_bytes"]["host"] = _peak_memory(os.getpid())
        if not quick:
            result["ratio"]["blocks_per_s_100000_to_1000"] = round(
                result["blocks_per_s"]["100000"] / result["blocks_per_s"]["1000"], 3
            )
    return result


def _compare(floor: BareChain, chain: _Chain, trips: int, operations: int, report: Report) -> dict[str, Any]:
    """Measure round trips and pipelined operations of both chains, in turns.

    Round trips are measured in short turns, so that neither chain has the caches and a core to itself: a
    driver in a stack does not have them either. "steady" is the figure of a chain that runs alone for a long
    time. A bare chain then sometimes stays on one core and is twice as fast.
    """
    floor.round_trips(trips // 5)
    chain.round_trips(trips // 5)
    bare_trips: list[float] = []
    our_trips: list[float] = []
    report("round trips, in turns")
    for _ in range(max(trips // _TURN, 1)):
        bare_trips += floor.round_trips(_TURN)
        our_trips += chain.round_trips(_TURN)
    report("round trips, each chain for itself")
    bare_steady, our_steady = floor.round_trips(trips), chain.round_trips(trips)
    bare_ops, our_ops = [], []
    for i in range(_ROUNDS):
        report(f"pipelined operations, round {i + 1} of {_ROUNDS}")
        bare_ops.append(floor.pipelined(operations, _WINDOW))
        our_ops.append(chain.pipelined(operations, _WINDOW))
    bare = _summary(bare_trips, bare_steady, bare_ops)
    ours = _summary(our_trips, our_steady, our_ops)
    ratio = {
        "rtt_p50": round(ours["rtt_p50_us"] / bare["rtt_p50_us"], 3),
        "rtt_p99": round(ours["rtt_p99_us"] / bare["rtt_p99_us"], 3),
        "rtt_p50_steady": round(ours["rtt_p50_steady_us"] / bare["rtt_p50_steady_us"], 3),
        "ops_per_s": round(ours["ops_per_s"] / bare["ops_per_s"], 3),
    }
    return {"bare": bare, "chain": ours, "ratio": ratio}


def _summary(turns: list[float], steady: list[float], operations: list[float]) -> dict[str, float]:
    return {
        **_percentiles(turns),
        "rtt_p50_steady_us": round(statistics.median(steady) * 1e6, 1),
        "ops_per_s": round(statistics.median(operations)),
    }


def _tree(chain: _Chain, blocks: int, report: Report) -> dict[str, Any]:
    """Run the four operations on trees of this size. Returns blocks per second of each and of all."""
    repeats = max(3, min(20, 20_000 // blocks))
    report(f"trees of {blocks} blocks, {repeats} times each operation")
    seconds = dict.fromkeys(("initiate", "query", "terminate"), 0.0)
    size = 0
    for _ in range(repeats):
        tree = Tree(chain.driver, blocks)
        size = tree.blocks
        seconds["initiate"] += chain.initiate(tree)
        seconds["query"] += chain.query(tree)
        seconds["terminate"] += chain.terminate(tree)
        tree.free()
    total = size * repeats
    out: dict[str, Any] = {"blocks": size, "blocks_per_s": round(3 * total / sum(seconds.values()))}
    for op, t in seconds.items():
        out[f"{op}_blocks_per_s"] = round(total / t)
    return out
