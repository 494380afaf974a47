"""A cable between processes that are killed, stopped and started again while frames pass."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ndisbus.wire.cable import CableLink
from ndisbus.wire.cable_station import BACKLOG
from tests.process.conftest import DEADLINE, ROOT, until

pytestmark = pytest.mark.process

OWN = bytes.fromhex("020000000000")
ALL = b"\xff" * 6


def address(number: int) -> bytes:
    return b"\x02\0\0\0\0" + bytes((number,))


class Segment:
    """Our own station, and processes that answer: station ``sN`` has address N."""

    def __init__(self) -> None:
        # Not tmp_path: a socket's path is at most 107 bytes long.
        self.above = Path(tempfile.mkdtemp(prefix="nd"))
        self.directory = self.above / "lan"
        self.link = CableLink(self.directory, "test")
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, number: int) -> subprocess.Popen[bytes]:
        """Start a station; it need not be there yet."""
        program = ROOT / "tests" / "support" / "cable_station.py"
        process = subprocess.Popen(
            [sys.executable, str(program), str(self.directory), f"s{number}", address(number).hex()],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self.processes.append(process)
        return process

    def take(self, *expected: bytes) -> None:
        """Wait until every one of these frames has arrived, in any order; others may come."""
        missing = list(expected)
        end = time.monotonic() + DEADLINE
        fd = self.link.fileno()
        assert fd is not None
        while missing:
            left = end - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                pytest.fail(f"{len(missing)} of {len(expected)} frames not within {DEADLINE:g} s")
            for frame in self.link.receive(0.0):
                if frame in missing:
                    missing.remove(frame)

    def here(self, number: int) -> bytes:
        """What a station says when it comes."""
        return ALL + address(number) + b"\x88\xb5here"

    def ask(self, *numbers: int, payload: bytes = b"?") -> None:
        """Ask stations, and wait for all of their answers."""
        for n in numbers:
            self.link.send(address(n) + OWN + b"\x88\xb5" + payload, 0.0)
        self.take(*(OWN + address(n) + b"\x88\xb5" + payload for n in numbers))

    def close(self) -> None:
        """End every process, by its id; nothing is left of the segment then."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        try:
            for process in self.processes:
                process.wait(DEADLINE)
            self.link.close()
            assert not self.directory.exists()
        finally:
            shutil.rmtree(self.above)


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment()
    try:
        yield made
    finally:
        made.close()


def test_killed_station_is_noticed_and_its_successor_heard(segment: Segment) -> None:
    victim = segment.start(1)
    segment.take(segment.here(1))
    segment.ask(1)
    victim.kill()
    victim.wait(DEADLINE)
    path = segment.directory / "s1.station"
    assert path.exists(), "it had no time to tidy up"
    segment.link.send(address(1) + OWN + b"\x88\xb5?", 0.0)
    assert not path.exists()
    assert segment.link.counters.dropped == {"alone": 1}
    segment.start(1)
    segment.take(segment.here(1))
    segment.ask(1)


def test_stopped_station_stops_no_other_and_goes_on_when_it_may(segment: Segment) -> None:
    stopped = segment.start(1)
    segment.start(2)
    segment.take(segment.here(1), segment.here(2))
    segment.ask(1, 2)
    stopped.send_signal(signal.SIGSTOP)
    until(lambda: psutil.Process(stopped.pid).status() == psutil.STATUS_STOPPED, "the station stops")
    frame = address(1) + OWN + b"\x88\xb5" + bytes(1400)
    for n in range(BACKLOG + 500):
        # One that waited for the station would wait forever.
        segment.link.send(frame, 0.0)
        if n % 100 == 0:
            segment.ask(2, payload=n.to_bytes(4, "big"))
    assert segment.link.counters.dropped["full"] > 0
    stopped.send_signal(signal.SIGCONT)
    # Everything that waited is answered, then what is asked anew.
    segment.take(*[OWN + address(1) + frame[12:]] * BACKLOG)
    segment.ask(1)


def test_dozens_of_stations_in_any_order_half_of_them_killed(segment: Segment) -> None:
    numbers = range(1, 25)
    processes = {n: segment.start(n) for n in numbers}
    segment.take(*(segment.here(n) for n in numbers))
    segment.ask(*numbers)
    for n in numbers:
        if n % 2:
            processes[n].kill()
    # While some of them die.
    segment.ask(*(n for n in numbers if not n % 2), payload=b"others")
    for n in numbers:
        if n % 2:
            processes[n].wait(DEADLINE)
            segment.start(n)
    segment.take(*(segment.here(n) for n in numbers if n % 2))
    segment.ask(*numbers, payload=b"again")
