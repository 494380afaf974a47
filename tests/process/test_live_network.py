"""A host on real processes: sockets through the stack, netstat from outside; and hoststack peer alone."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hoststack import ConnectionRefused, LiveHost
from hoststack.api.network import Network, PollingRunner
from hoststack.live.nethost import NetHost
from hoststack.peer.services import pattern
from ndisbus.runtime.driver_process import DriverProcess
from tools.torture_stack import RealStack, leftovers, with_peer

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]


class Loop(PollingRunner):
    """What the sockets need of a driver's process."""

    def __init__(self, process: DriverProcess) -> None:
        self.process = process

    def run_until(self, done: Callable[[], object], timeout: float) -> bool:
        return self.process.run_until(done, timeout)

    def now(self) -> float:
        return time.monotonic()


@pytest.fixture(scope="module")
def stack() -> Iterator[RealStack]:
    with RealStack(with_peer()) as stack:
        yield stack


@pytest.fixture
def host(stack: RealStack) -> Iterator[tuple[NetHost, DriverProcess, Network]]:
    driver = NetHost("host", addresses=["10.77.0.1/24", "fd77::1/64"], rng=random.Random("0/host"))
    with DriverProcess(driver, name="host", endpoint=stack.endpoint) as process:
        assert process.run_until(lambda: driver.can_offload and driver.interface is not None, 20)
        yield driver, process, Network(driver.stack, Loop(process), timeout=20)


def netstat(stack: RealStack, process: DriverProcess, *arguments: str) -> Any:
    """What ``hoststack netstat --json`` prints, while this process goes on serving its driver."""
    command = subprocess.Popen(
        [sys.executable, "-m", "hoststack", "netstat", "--json", *arguments],
        cwd=ROOT,
        env=stack.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.run_until(lambda: command.poll() is not None, 20)
    out, _ = command.communicate(timeout=20)
    assert command.returncode == 0
    return json.loads(out)


def test_sockets_and_netstat_on_a_live_stack(
    stack: RealStack, host: tuple[NetHost, DriverProcess, Network]
) -> None:
    driver, process, network = host
    assert network.ping("fd77::2") < 20
    with pytest.raises(ConnectionRefused, match="refused"):
        network.connect(("10.77.0.2", 81))
    with network.connect(("10.77.0.3", 80)) as web:
        web.sendall(b"GET /bytes/300000 HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n")
        head, _, body = web.recv_all().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert hashlib.sha256(body).digest() == hashlib.sha256(pattern(0, 300_000)).digest()
    kept = network.connect(("10.77.0.2", 7))
    moved = network.connect(("fd77::2", 7))
    operation = driver.offload_sockets([moved.socket])
    assert process.run_until(lambda: operation.done, 20)
    # Without names it leaves out drivers that do not answer in half a second: this host may be slow itself.
    end = time.monotonic() + 60
    while "host" not in (shown := netstat(stack, process)):
        assert time.monotonic() < end
    rows = shown["host"]["Connections"]
    states = {(r["ForeignAddress"], r["ForeignPort"]): r["OffloadState"] for r in rows}
    assert states["10.77.0.2", 7] == "InHost"
    assert states["fd77::2", 7] == "Offloaded"
    assert all(r["State"] in ("ESTABLISHED", "TIME_WAIT") for r in rows)
    operation = driver.upload_sockets([moved.socket], idle=True)
    assert process.run_until(lambda: operation.done, 20)
    rows = netstat(stack, process, "host")["host"]["Connections"]
    assert {r["OffloadState"] for r in rows} == {"InHost"}
    for connection in (kept, moved):
        connection.sendall(b"still here")
        assert connection.recv_exactly(10) == b"still here"
        connection.close()
        connection.wait_closed()


def test_the_example_of_a_live_host_does_what_it_says(stack: RealStack) -> None:
    done = stack.run("examples/live_host.py")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^10\.77\.0\.\d+:\d+ -> 10\.77\.0\.2:80 is Offloaded$", done.stdout, re.MULTILINE)
    assert "500000 bytes, as they should be" in done.stdout
    stack.wait_for(lambda survey: not leftovers(survey), "the example left something")


@pytest.mark.parametrize("offloaded", [False, True])
def test_what_was_sent_arrives_although_the_host_leaves_at_once(stack: RealStack, offloaded: bool) -> None:
    """The network stack ends with its host, which therefore waits for what it still owes."""
    with LiveHost.attach("brief", stack.endpoint, timeout=20) as host:
        connection = host.connect(("10.77.0.2", 9), timeout=20)
        forgotten = host.connect(("10.77.0.2", 7), timeout=20)
        if offloaded:
            assert host.offload([connection, forgotten]).succeeded
        with connection:
            connection.sendall(bytes(1_000_000))
            assert connection.socket.unacknowledged
    for socket in (connection.socket, forgotten.socket):
        assert (socket.finished, socket.unacknowledged, socket.error) == (True, 0, None)
    stack.wait_for(lambda survey: not leftovers(survey), "the host left something")


def test_a_host_that_is_interrupted_leaves_without_waiting(stack: RealStack) -> None:
    drop = ("fault", "add", "NdisSendNetBufferLists", "--drop", "--driver", "hasty")
    left: list[int] = []

    def run() -> None:
        # One that waited would wait for longer than any test may take.
        with LiveHost.attach("hasty", stack.endpoint, timeout=600) as host:
            connection = host.connect(("10.77.0.2", 9), timeout=20)
            stack.run("-m", "ndisbus", *drop)  # nothing gets through from here on
            connection.sendall(bytes(100_000))
            left.append(connection.socket.unacknowledged)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert left != [0]


def test_a_peer_is_killed_and_comes_back_by_its_name(stack: RealStack) -> None:
    killed = stack.run("-m", "ndisbus", "fault", "restart", "peer", "--json")
    assert killed.returncode == 0, killed.stderr
    result = json.loads(killed.stdout)
    assert result["Pid"] != result["OldPid"]
    done = stack.run("examples/live_host.py")
    assert done.returncode == 0, done.stderr


def test_netstat_without_hosts_says_so_and_names_a_stranger(stack: RealStack) -> None:
    stack.wait_for(lambda ps: all(p["Kind"] != "protocol" for p in ps["Processes"]), "somebody is still here")
    assert json.loads(stack.run("-m", "hoststack", "netstat", "--json").stdout) == {}
    wrong = stack.run("-m", "hoststack", "netstat", "nobody")
    assert wrong.returncode == 1
    assert "nobody" in wrong.stderr


def test_a_peer_says_what_it_serves_and_ends_in_order(tmp_path: Path) -> None:
    environment = {**os.environ, "NDISBUS_RUNTIME_DIR": str(tmp_path / "run")}
    command = [sys.executable, "-m", "hoststack", "peer", "--json", "--link", "cable:lan"]
    peer = subprocess.Popen(
        [*command, "--address", "10.1.0.9/24", "--mac", "02:00:00:00:00:77"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert peer.stdout is not None
        said = json.loads(peer.stdout.readline())
        assert said["Stations"] == [
            {"Link": "cable:lan", "Mac": "02:00:00:00:00:77", "Mtu": 1500, "Addresses": ["10.1.0.9/24"]}
        ]
        assert 80 in said["Ports"]
        peer.send_signal(signal.SIGTERM)
        assert peer.wait(20) == 0
    finally:
        if peer.poll() is None:
            peer.kill()
        peer.communicate()
    assert [p for p in (tmp_path / "run").rglob("*") if not p.is_dir()] == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--link", "cable:"], "cable"),
        (["--link", "cable:x?los=1%"], "los"),
        (["--link", "none", "--address", "10.0.0.1/24@3"], "no link 3"),
        (["--link", "none", "--address", "ten"], "ten"),
        (["--link", "none", "--mac", "zz"], "six bytes"),
        (["--link", "none", "--gateway", "10.0.0.0/8"], "GATEWAY"),
    ],
)
def test_what_is_wrong_with_a_peer_s_options_is_named(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hoststack", "peer", *arguments],
        cwd=ROOT,
        env={**os.environ, "NDISBUS_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 78
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
