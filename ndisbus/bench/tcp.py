"""What ``ndisbus bench tcp`` measures: our TCP by itself, with headers, against Linux; Linux against itself.

All are measured in one run and in turns, so that other work of the machine affects all alike. Goodput is
application bytes per second. For the first two, "segments per second" are the segments of both directions per
second of the one core that runs both ends. Against Linux they are the packets on the device per processor
second of our process, which is one end. On a veth pair Linux's own segments have up to 64 KiB: the device
accepts them whole.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final

from ndisbus.bench.tcp_linux import Far, Unavailable, linux_far, our_far
from ndisbus.bench.tcp_memory import bare_pair, framed_pair, transfer
from ndisbus.errors import ChimneyError

__all__ = ["measure_tcp"]

Report = Callable[[str], None]

_ROUNDS: Final = 3
_SECONDS: Final = 2.0
_IDLE: Final = 10_000
_QUICK_SECONDS: Final = 0.3
_QUICK_IDLE: Final = 500
#: Bytes fetched to find out how many bytes a measurement needs.
_PROBE: Final = 4 << 20
#: The names of both directions, as our stack sees them, and what a client of Linux does for them.
_DIRECTIONS: Final = (("from_linux", "send"), ("to_linux", "fetch"))


class _End:
    """A far end, and the measurements with it."""

    def __init__(self, far: Far) -> None:
        self.far = far
        self.rates: dict[str, list[float]] = {name: [] for name, _ in _DIRECTIONS}
        self.per_core: list[float] = []
        self._fetch_rate = 0.0

    def measure(self, seconds: float) -> None:
        """Measure both directions, one after the other."""
        for name, role in _DIRECTIONS:
            amount = seconds if role == "send" else self._octets(seconds)
            packets, cpu = self.far.packets(), self.far.cpu_seconds()
            answer = self.far.client(role, amount)
            rate = answer["octets"] / answer["seconds"]
            self.rates[name].append(rate)
            cpu = self.far.cpu_seconds() - cpu
            if cpu > 0:
                self.per_core.append((self.far.packets() - packets) / cpu)
            if role == "fetch":
                self._fetch_rate = rate

    def _octets(self, seconds: float) -> int:
        """Return how many bytes to fetch so that the fetch takes about this long."""
        if not self._fetch_rate:
            answer = self.far.client("fetch", _PROBE)
            self._fetch_rate = answer["octets"] / answer["seconds"]
        return max(_PROBE, int(self._fetch_rate * seconds))

    def goodput(self) -> dict[str, int]:
        """Return the median of each direction, in bytes per second."""
        return {name: round(statistics.median(rates)) for name, rates in self.rates.items()}


def measure_tcp(*, quick: bool = False, report: Report = lambda _: None) -> dict[str, Any]:
    """Measure. Returns the map that ``ndisbus bench tcp --json`` prints.

    Parts that need root are left out if it is not permitted, with the reason under ``skipped``. ``quick``
    takes fewer samples (for tests of the benchmark itself). Raises :class:`ChimneyError` if something fails
    that must work.
    """
    seconds, idle, rounds = (_QUICK_SECONDS, _QUICK_IDLE, 1) if quick else (_SECONDS, _IDLE, _ROUNDS)
    result: dict[str, Any] = {}
    with _available(our_far, "tap", result) as ours, _available(linux_far, "linux", result) as linux:
        alone, framed = [], []
        for i in range(rounds):
            report(f"round {i + 1} of {rounds}: the machine alone, and with headers")
            alone.append(transfer(bare_pair(), seconds))
            framed.append(transfer(framed_pair(), seconds))
            for end, name in ((ours, "our stack and Linux"), (linux, "Linux and itself")):
                if end is not None:
                    report(f"round {i + 1} of {rounds}: {name}")
                    end.measure(seconds)
        for name, transfers in (("machine", alone), ("framed", framed)):
            summaries = [t.summary() for t in transfers]
            result[name] = {key: round(statistics.median(s[key] for s in summaries)) for key in summaries[0]}
        if ours is not None:
            result["tap"] = {
                "goodput_bytes_per_s": ours.goodput(),
                "segments_per_s_per_core": round(statistics.median(ours.per_core)),
            }
            report(f"{idle} idle connections of our stack")
            result["tap"]["idle"] = _idle_at(ours.far, idle)
        if linux is not None:
            result["linux"] = {"goodput_bytes_per_s": linux.goodput()}
    report(f"{idle} idle connections in memory")
    result["idle"] = _idle_in_memory(idle)
    result["ratio"] = _ratios(result)
    return result


@contextmanager
def _available(
    make: Callable[[], AbstractContextManager[Far]], name: str, result: dict[str, Any]
) -> Iterator[_End | None]:
    """Return the end, or None with the reason in the result."""
    with ExitStack() as stack:
        end = None
        try:
            end = _End(stack.enter_context(make()))
        except Unavailable as e:
            result[name] = {"skipped": str(e)}
        yield end


def _idle_at(far: Far, count: int) -> dict[str, Any]:
    """Measure the memory of connections that Linux holds open to our stack."""
    before = far.resident()
    with far.holding(count) as answer:
        grown = far.resident() - before
        held = int(answer["connections"])
        return {
            "connections": held,
            "opened_per_s": round(held / answer["seconds"]),
            "resident_bytes_each": round(grown / held),
        }


def _idle_in_memory(count: int) -> dict[str, int]:
    command = [sys.executable, "-m", "ndisbus.bench.tcp_idle", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChimneyError(f"{' '.join(command[1:])}: {done.stderr.strip()}")
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


def _ratios(result: dict[str, Any]) -> dict[str, float]:
    """Return the ratios of the goodputs."""
    framed = result["framed"]["goodput_bytes_per_s"]
    out = {"framed_to_machine": framed / result["machine"]["goodput_bytes_per_s"]}
    ours = result["tap"].get("goodput_bytes_per_s")
    linux = result["linux"].get("goodput_bytes_per_s")
    for name, _ in _DIRECTIONS:
        if ours:
            out[f"tap_{name}_to_framed"] = ours[name] / framed
        if ours and linux:
            out[f"tap_{name}_to_linux_itself"] = ours[name] / linux[name]
    return {name: round(value, 4) for name, value in out.items()}
