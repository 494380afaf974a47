"""Memory of idle connections: ``python -m ndisbus.bench.tcp_idle COUNT`` prints one line of JSON.

A connection here is one end: the TCP machine with its three structures, and its frame builder. Each
connection has moved data in both directions, so that all its objects exist. Then it has become idle: its
buffers are empty. Path and neighbor state is shared, as it is between all connections to one host.

The measurement has a process of its own, so that its resident size before and after can be compared. It is
repeated under tracemalloc, which counts exactly what Python allocates.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Final

from ndisbus.bench.tcp_memory import MACS, bare_pair
from ndisbus.net.frames import FrameBuilder
from ndisbus.net.identification import IpIdentification
from ndisbus.state.images import NeighborOffloadStateCached, NeighborOffloadStateConst
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.settings import TcpSettings

__all__ = ["measure_idle"]

_OCTETS: Final = 4096


def _machines(count: int) -> list[TcpMachine]:
    settings = TcpSettings()
    out: list[TcpMachine] = []
    for _ in range(count):
        pair = bare_pair(settings)
        for sender, receiver in ((pair.near, pair.far), (pair.far, pair.near)):
            sender.send(bytes(_OCTETS))
            pair.settle()
            receiver.read()
        pair.settle()
        machine = pair.near
        machine.events.clear()
        if out:
            machine.path_const, machine.path_cached = out[0].path_const, out[0].path_cached
        out.append(machine)
    return out


def _builders(machines: list[TcpMachine]) -> list[FrameBuilder]:
    neighbor = NeighborOffloadStateConst(), NeighborOffloadStateCached(MACS[1])
    ids = IpIdentification(upper=False)
    return [
        FrameBuilder(
            machine.const,
            machine.cached,
            machine.path_const,
            machine.path_cached,
            *neighbor,
            source_mac=MACS[0],
            next_id=ids.next_v4,
        )
        for machine in machines
    ]


def _resident() -> int:
    """Return the bytes of this process in memory; 0 if there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except FileNotFoundError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def measure_idle(count: int) -> dict[str, int]:
    """Return bytes per idle connection: by resident size (0: unknown), and by what Python allocated."""
    _builders(_machines(100))  # code, caches, the allocator's first arenas
    gc.collect()
    before = _resident()
    machines = _machines(count)
    builders = _builders(machines)
    gc.collect()
    resident = _resident() - before
    machines, builders = [], []
    tracemalloc.start()
    try:
        start = _traced()
        machines = _machines(count)
        bare = _traced()
        builders = _builders(machines)
        whole = _traced()
        assert len(builders) == count
    finally:
        tracemalloc.stop()
    return {
        "connections": count,
        "resident_bytes_each": round(resident / count),
        "allocated_bytes_each": round((whole - start) / count),
        "machine_bytes_each": round((bare - start) / count),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure_idle(int(sys.argv[1]))) + "\n")
