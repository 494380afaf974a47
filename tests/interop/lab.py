"""A network namespace with a TAP device in it, our stack at the far end, and everything gone afterwards.

Linux has 10.77.0.1/24 and fd77::1/64 on ``tap0``; our side has 10.77.0.2 and fd77::2.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from hoststack.api.network import Network, PollingRunner
from hoststack.api.sockets import Connection
from hoststack.net.options import DEFAULT_OPTIONS, SocketOptions
from hoststack.peer.peer import Peer, station_mac
from ndisbus.wire.link import Link
from ndisbus.wire.open import open_link
from ndisbus.wire.tap import inside

ROOT: Final = Path(__file__).parents[2]
DEADLINE: Final = 30.0
LINUX4, LINUX6 = "10.77.0.1", "fd77::1"
OURS4, OURS6 = "10.77.0.2", "fd77::2"
#: Ours and Linux's address of a family.
OURS: Final = {socket.AF_INET: OURS4, socket.AF_INET6: OURS6}
LINUX: Final = {socket.AF_INET: LINUX4, socket.AF_INET6: LINUX6}
_PREFIX: Final = "chimney"
_SIOCGIFFLAGS: Final = 0x8913
_IFF_RUNNING: Final = 0x40
_numbers = itertools.count()


def until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """Ask again and again until ``condition()`` holds; its value. Fails after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            pytest.fail(f"{what}: not within {deadline:g} s")
        time.sleep(0.01)


def remove_leftovers() -> None:
    """Remove the namespaces and files of test runs that were killed: their names have the pid in them."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}-*-*"):
        pid = directory.name.split("-")[1]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(directory, ignore_errors=True)  # two runs may find it
    done = subprocess.run(
        ["ip", "netns", "list"], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    for line in done.stdout.splitlines():
        name = line.split()[0]
        prefix, _, rest = name.partition("-")
        pid = rest.partition("-")[0]
        if prefix == _PREFIX and pid.isdecimal() and not psutil.pid_exists(int(pid)):
            subprocess.run(["ip", "netns", "del", name], timeout=DEADLINE, check=False)


class Ours(PollingRunner):
    """Our stack in this process, for tests that look closely; ``peer`` moves its frames."""

    def __init__(self, link: str, *, addresses: tuple[str, ...], serve: bool, seed: int) -> None:
        opened = open_link(link, station="test")
        self.peer = Peer([(opened, station_mac(2), addresses)], seed=seed, serve=serve)
        self.network = Network(self.peer.stack, self, timeout=DEADLINE)

    def run_until(self, done: Callable[[], object], timeout: float) -> bool:
        """See hoststack.api.network.SocketRunner."""
        return self.peer.run_until(done, timeout)

    def now(self) -> float:
        """See hoststack.api.network.SocketRunner."""
        return time.monotonic()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Serve the stack until a condition holds, which may be on Linux's side and not wake this process."""
        end = time.monotonic() + DEADLINE
        while not self.network.wait(lambda: bool(condition()), 0.01):
            if time.monotonic() >= end:
                pytest.fail(f"{what}: not within {DEADLINE:g} s")

    def connect(self, host: str, port: int, options: SocketOptions = DEFAULT_OPTIONS) -> Connection:
        """Connect to Linux."""
        return self.network.connect((host, port), options=options)


class Lab:
    """The namespace, and what was started for a test. ``mtu``: the TAP device's; ``sysctls``: Linux's."""

    def __init__(self, *, mtu: int = 1500, sysctls: dict[str, object] | None = None) -> None:
        self.name = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{os.getpid()}-"))
        self.captures: list[Path] = []
        self._processes: list[tuple[subprocess.Popen[str], Path]] = []
        self._open = contextlib.ExitStack()
        try:
            self._ip("netns", "add", self.name)
            self._open.callback(self._ip, "netns", "del", self.name)
            lines = ["link set lo up", "tuntap add dev tap0 mode tap"]
            self._batch(*lines, f"link set tap0 mtu {mtu} address 02:77:00:00:00:01")
            if mtu >= 1280:
                # Addresses are used at once, without asking for duplicates for a second.
                self.sysctl("net/ipv6/conf/tap0/accept_dad", 0)
            for key, value in (sysctls or {}).items():
                self.sysctl(key, value)
            addresses = [f"addr add {LINUX4}/24 dev tap0"]
            if mtu >= 1280:
                addresses.append(f"addr add {LINUX6}/64 dev tap0 nodad")
            self._batch("link set tap0 up", *addresses)
        except BaseException:
            self._open.close()
            shutil.rmtree(self.directory)
            raise

    # -- Linux ---------------------------------------------------------------------------------

    def _ip(self, *args: str) -> None:
        subprocess.run(["ip", *args], timeout=DEADLINE, check=True)

    def _batch(self, *lines: str, netns: str | None = None) -> None:
        subprocess.run(
            ["ip", "-n", netns or self.name, "-batch", "-"],
            input="\n".join(lines),
            text=True,
            timeout=DEADLINE,
            check=True,
        )

    def ip(self, line: str, netns: str | None = None) -> None:
        """An ``ip`` command in the namespace, or in another one of this lab."""
        self._batch(line, netns=netns)

    def add_namespace(self, name: str) -> None:
        """Another namespace, which goes with the lab; its name begins with the lab's."""
        assert name.startswith(self.name)
        self._ip("netns", "add", name)
        self._open.callback(self._ip, "netns", "del", name)

    def sysctl(self, key: str, value: object) -> None:
        """Set a sysctl of the namespace; the key with slashes."""
        with self.inside():
            Path("/proc/sys", key).write_text(str(value))

    def inside(self, netns: str | None = None) -> contextlib.AbstractContextManager[None]:
        """This thread in the namespace: the sockets that it makes belong there for ever."""
        return inside(netns or self.name, "lab")

    def own(self, made: socket.socket) -> socket.socket:
        """Close a socket with the lab."""
        self._open.callback(made.close)
        return made

    def tcp(self, family: int = socket.AF_INET) -> socket.socket:
        """A TCP socket of Linux, closed with the lab; waits have deadlines."""
        with self.inside():
            made = socket.socket(family, socket.SOCK_STREAM)
        made.settimeout(DEADLINE)
        return self.own(made)

    def connect(self, port: int, family: int = socket.AF_INET) -> socket.socket:
        """A socket of Linux that is connected to our side."""
        made = self.tcp(family)
        made.connect((OURS[socket.AddressFamily(family)], port))
        return made

    def listen(self, family: int = socket.AF_INET, backlog: int = 128) -> tuple[socket.socket, int]:
        """A listening socket of Linux, and its port."""
        made = self.tcp(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((LINUX[socket.AddressFamily(family)], 0))
        made.listen(backlog)
        return made, made.getsockname()[1]

    def accept(self, listener: socket.socket) -> socket.socket:
        """The next connection of a listening socket, closed with the lab."""
        made, _ = listener.accept()
        made.settimeout(DEADLINE)
        return self.own(made)

    def run(self, *argv: str, timeout: float = DEADLINE, data: bytes | None = None) -> bytes:
        """A program of Linux in the namespace, to its end; its output. Fails if the program does."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *argv],
            input=data,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, (
            f"{argv}: {done.returncode}: {done.stderr.decode()}{done.stdout.decode()}"
        )
        return done.stdout

    def ss(self, *what: str) -> str:
        """What ``ss -tinH`` says of the connections that ``what`` selects; one line each."""
        text = self.run("ss", "-taionH", *what).decode()
        # A connection's second line is indented.
        return text.replace("\n\t", " ")

    def await_carrier(self) -> None:
        """Wait until Linux has noticed a station at the far end: until then it drops what it sends."""

        def running() -> bool:
            answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, struct.pack("16s24x", b"tap0"))
            return bool(struct.unpack("16xH22x", answer)[0] & _IFF_RUNNING)

        with self.inside():
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with asking:
            until(running, "tap0 is running")

    # -- our side ------------------------------------------------------------------------------

    def link(self, options: str = "", *, capture: bool = True) -> str:
        """The spec of our end of the TAP device; what is captured is judged when the lab is closed."""
        parts = [f"netns={self.name}"]
        if capture:
            self.captures.append(self.directory / f"{len(self.captures)}.pcapng")
            parts.append(f"capture={self.captures[-1]}")
        return "tap:tap0?" + "&".join(parts + ([options] if options else []))

    def peer(self, options: str = "", *args: str, capture: bool = True) -> dict[str, Any]:
        """Start ``hoststack peer``; what it says of itself once it serves. ``options`` are the link's."""
        said = self.python(
            "-m", "hoststack", "peer", "--json", "--link", self.link(options, capture=capture), *args
        )
        answer: dict[str, Any] = json.loads(said)
        return answer

    def python(self, *argv: str) -> str:
        """A Python process of ours that says one line once it has the TAP device; that line."""
        complaints = self.directory / f"stderr{len(self._processes)}"
        with complaints.open("w") as file:
            process = subprocess.Popen(
                # A killed test run takes its processes along (util-linux, as unshare and nsenter are).
                ["setpriv", "--pdeathsig", "KILL", sys.executable, *argv],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=os.environ
                | {"PYTHONPATH": str(ROOT), "NDISBUS_RUNTIME_DIR": str(self.directory / "run")},
            )
        self._processes.append((process, complaints))
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(f"{' '.join(argv)}: ended with {process.wait(DEADLINE)}: {complaints.read_text()}")
        self.await_carrier()
        return line

    def ours(
        self,
        options: str = "",
        *,
        addresses: tuple[str, ...] = (f"{OURS4}/24", f"{OURS6}/64"),
        serve: bool = False,
        seed: int = 0,
    ) -> Ours:
        """Our stack in this process."""
        made = Ours(self.link(options), addresses=addresses, serve=serve, seed=seed)
        self._open.callback(made.peer.close)
        self.await_carrier()
        return made

    def plug(self, options: str = "") -> Link:
        """Our end of the TAP device by itself, for raw frames."""
        made = open_link(self.link(options), station="test")
        self._open.callback(made.close)
        self.await_carrier()
        return made

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """End everything and remove everything; then say what was wrong."""
        wrong: list[str] = []
        try:
            for process, complaints in self._processes:
                wrong += _end(process, complaints)
        finally:
            self._open.close()
        try:
            for capture in self.captures:
                if capture.exists() and shutil.which("tshark"):
                    wrong += bad_frames(capture)
        finally:
            shutil.rmtree(self.directory)
        assert not wrong, "\n".join(wrong)


def _end(process: subprocess.Popen[str], complaints: Path) -> Iterator[str]:
    """End a process of ours; what is wrong with how it ended."""
    early = process.poll()
    if early is None:
        process.send_signal(signal.SIGTERM)
        try:
            early = process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE)
            yield f"pid {process.pid} did not end on SIGTERM"
    if process.stdout is not None:
        process.stdout.close()
    if early:
        yield f"pid {process.pid} ended with {early}"
    text = complaints.read_text()
    if text:
        yield f"pid {process.pid} said: {text}"


#: What tshark knows of the payload is nothing to us, and its guesses would be malformed by chance.
_PLAIN: Final = ("-d", "tcp.port==1-65535,data")
_CHECKS: Final = ("ip", "tcp", "udp")
#: An ICMP error quotes the beginning of a packet, whose checksum cannot be right, nor its length.
_QUOTES: Final = "icmp.type in {3, 4, 5, 11, 12} || icmpv6.type in {1, 2, 3, 4}"
#: Linux writes a checksum of 0 as 0xffff, which is as right in one's complement; tshark wonders about it.
_MINUS_ZERO: Final = "frame.packet_flags_direction == 1 && tcp.checksum == 0xffff"
_BAD_ICMP: Final = "icmp.checksum.status == 0 || icmpv6.checksum.status == 0"
_BAD: Final = " || ".join(
    (
        "_ws.malformed",
        "_ws.short",
        "ip.checksum.status == 0",
        "tcp.checksum.status == 0",
        "udp.checksum.status == 0",
        "_ws.expert.group == 0x01000000",
        "_ws.expert.group == 0x07000000",
    )
)


def tshark(capture: Path, condition: str, *fields: str) -> list[str]:
    """The frames of a capture that fulfil a condition: a line each, of the fields or a summary.

    Without tshark the test that asks is skipped.
    """
    if shutil.which("tshark") is None:
        pytest.skip("there is no tshark here")
    argv = ["tshark", "-n", "-r", str(capture), *_PLAIN]
    for protocol in _CHECKS:
        argv += ["-o", f"{protocol}.check_checksum:TRUE"]
    argv += ["-Y", condition]
    if fields:
        argv += ["-T", "fields", *itertools.chain.from_iterable(("-e", f) for f in fields)]
    attempts = 4
    while True:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        attempts -= 1
        # While it is written, half a block may be there.
        if not attempts or "cut short" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def bad_frames(capture: Path) -> list[str]:
    """What tshark calls malformed, or of a bad checksum, and what the impairments have not put there."""
    bad = f"{_BAD_ICMP} || ({_BAD}) && !({_QUOTES}) && !({_MINUS_ZERO})"
    return tshark(capture, f'({bad}) && !(frame.comment contains "corrupted")')[:20]


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat."""
    return random.Random(seed).randbytes(size)
