"""SIGTERM of a target and of an intermediate driver under load, and the end of a whole stack."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

import psutil
import pytest

from hoststack import Connection, LiveHost
from ndisbus.errors import ChimneyError
from tests.process.conftest import until
from tools.torture_stack import RealStack, leftovers, with_peer

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a death is noticed by a pidfd"),
]

REMOTE = "10.77.0.2"


class Stream:
    """Bytes to the echo service and back, without a pause. Each byte follows from its position."""

    def __init__(self, host: LiveHost, seed: int) -> None:
        self.connection: Connection = host.connect((REMOTE, 7))
        self.connection.settimeout(30)
        self._pattern = random.Random(seed).randbytes(65_536)
        self._stopping = False
        self.sent = self.got = 0
        self.problem = ""
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _bytes(self, position: int, size: int) -> bytes:
        at = position % len(self._pattern)
        return (self._pattern + self._pattern)[at : at + size]

    def _send(self) -> None:
        try:
            while not self._stopping:
                # At most this much is under way, so that the end is near when it is asked for.
                if self.sent - self.got > 60_000:
                    time.sleep(0.001)
                    continue
                self.connection.sendall(self._bytes(self.sent, 3_000))
                self.sent += 3_000
        except (ChimneyError, OSError) as e:
            self.problem = self.problem or f"sending at {self.sent}: {e}"

    def _receive(self) -> None:
        try:
            while not (self._stopping and self.got == self.sent):
                data = self.connection.recv(65_536)
                if data != self._bytes(self.got, len(data)) or not data:
                    self.problem = self.problem or f"wrong data at {self.got}"
                    return
                self.got += len(data)
        except (ChimneyError, OSError) as e:
            self.problem = self.problem or f"receiving at {self.got}: {e}"

    def finish(self) -> None:
        self._stopping = True
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), f"{self.got} of {self.sent} came back"


@contextmanager
def streams(host: LiveHost, count: int) -> Iterator[list[Stream]]:
    """Streams that go on meanwhile; in the end each byte has come back."""
    running = [Stream(host, i) for i in range(count)]
    try:
        yield running
    finally:
        for s in running:
            s.finish()
    assert [s.problem for s in running] == [""] * count
    assert all(s.got == s.sent > 0 for s in running)
    for s in running:
        s.connection.close()


@pytest.fixture(scope="module")
def stack() -> Iterator[RealStack]:
    with RealStack(with_peer()) as stack:
        yield stack


def _gone_on(marks: dict[Stream, int]) -> bool:
    return all(s.got > mark + 50_000 for s, mark in marks.items())


def offload(host: LiveHost, running: list[Stream]) -> None:
    host.wait_bound(20)
    operation = host.offload([s.connection for s in running], timeout=20)
    assert operation.succeeded, operation.counts()


@pytest.mark.parametrize("victims", [("target",) * 3, ("im",) * 3, ("target", "im", "target")], ids="-".join)
def test_an_orderly_restart_loses_no_byte(stack: RealStack, victims: tuple[str, ...]) -> None:
    with LiveHost.attach("live", stack.endpoint, timeout=20) as host:
        with streams(host, 4) as running:
            for victim in victims:
                offload(host, running)
                marks = {s: s.got for s in running}
                until(partial(_gone_on, marks), "each stream goes on")
                done = stack.run("-m", "ndisbus", "fault", "restart", victim, "--json")
                assert done.returncode == 0, done.stderr
                assert all(not s.problem for s in running), [s.problem for s in running]
                result = json.loads(done.stdout)
                assert result["Orderly"] is True and result["Pid"] != result["OldPid"]
            offload(host, running)
        host.wait_bound(20)
    stack.wait_for(lambda ps: not leftovers(ps), "something is left")


def test_what_has_not_ended_in_time_is_killed(stack: RealStack) -> None:
    """A stalled target hears no SIGTERM; its connections are lost, and it is back."""
    with LiveHost.attach("live", stack.endpoint, timeout=20) as host, closing(host.connect((REMOTE, 7))) as c:
        c.offload()
        stack.signal("target", signal.SIGSTOP)
        done = stack.run("-m", "ndisbus", "fault", "restart", "target", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["Orderly"] is False
        host.wait_bound(20)


def test_a_second_signal_ends_at_once_what_a_stalled_host_holds_up(stack: RealStack) -> None:
    code = (
        "import sys, time; from hoststack import LiveHost\n"
        f"host = LiveHost.attach('stalled', {stack.endpoint!r}, timeout=20)\n"
        "c = host.connect(('10.77.0.2', 7)); c.offload(); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env=stack.environment, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGSTOP)
        try:
            pid = stack.signal("target", signal.SIGTERM)
            assert pid is not None
            began = time.monotonic()
            until(lambda: time.monotonic() - began > 0.6, "a signal that is not the same request")
            os.kill(pid, signal.SIGTERM)
            until(lambda: _ended(pid), "the target has ended")
            assert time.monotonic() - began < 1.5
        finally:
            child.kill()
    stack.wait_for(lambda ps: not leftovers(ps), "something is left")


def _ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_whole_stack_ends_promptly_with_connections_offloaded() -> None:
    with RealStack(with_peer()) as stack, LiveHost.attach("live", stack.endpoint, timeout=20) as host:
        c = host.connect((REMOTE, 7))
        assert c.offload().succeeded
        began = time.monotonic()
        stack.stop()
        assert time.monotonic() - began < 2.0
