"""Our stack against Linux over a TAP device, and Linux against itself over a veth pair.

This needs root, because it makes network namespaces. The socket program (:mod:`ndisbus.bench.tcp_socket`) is
the same in both. It talks to ``hoststack peer`` behind a TAP device, or to itself in another namespace.
Namespaces and processes are removed at the end. The next run removes those of a run that was killed.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

import psutil

from ndisbus.errors import ChimneyError

__all__ = ["Far", "Unavailable", "linux_far", "our_far", "sweep"]

#: Prefix of the namespaces' names. The process id and a name follow.
_PREFIX: Final = "ndisbus-bench-"
_NAMESPACES: Final = Path("/run/netns")
_PROGRAM: Final = "ndisbus.bench.tcp_socket"
_TAP: Final = "bench0"
_NEAR: Final = "10.78.0.1"
_FAR: Final = "10.78.0.2"
#: Seconds within which a process must be ready, or a client must finish.
_DEADLINE: Final = 120.0


class Unavailable(ChimneyError):
    """This part of the benchmark cannot run on this machine. The text says why."""


@dataclass
class Far:
    """The far end, and the namespace whose sockets reach it."""

    namespace: str
    address: str
    #: The process that serves, or that is our stack.
    server: subprocess.Popen[bytes]
    device: str

    def client(self, role: str, amount: float) -> dict[str, Any]:
        """Run one client to its end. Returns its line. Raises ChimneyError with its error output."""
        with self._client(role, amount) as (child, errors):
            return _line(child, errors, f"{role} {amount}")

    @contextmanager
    def holding(self, count: int) -> Iterator[dict[str, Any]]:
        """Hold this many idle connections while the block runs. Yields the line of the client."""
        with self._client("idle", count) as (child, errors):
            yield _line(child, errors, f"{count} connections")

    @contextmanager
    def _client(self, role: str, amount: float) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        with tempfile.TemporaryFile() as errors:
            command = [*_inside(self.namespace), *_python(_PROGRAM), role, self.address, str(amount)]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
            try:
                yield child, errors
            finally:
                _end(child)

    def cpu_seconds(self) -> float:
        """Return the processor time that the server has used, in seconds."""
        fields = Path(f"/proc/{self.server.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        """Return the bytes of the server in memory."""
        pages = Path(f"/proc/{self.server.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def packets(self) -> int:
        """Return the packets that have passed the near device, in both directions."""
        out = _run("ip", "-n", self.namespace, "-j", "-s", "link", "show", "dev", self.device)
        counters = json.loads(out)[0]["stats64"]
        return int(counters["rx"]["packets"]) + int(counters["tx"]["packets"])


@contextmanager
def our_far() -> Iterator[Far]:
    """Our stack behind a TAP device. Raises :class:`Unavailable`."""
    _check()
    if not Path("/dev/net/tun").exists():
        raise Unavailable("the kernel has no /dev/net/tun")
    if find_spec("hoststack") is None:
        raise Unavailable("the package hoststack, whose stack this measures, is not installed")
    with ExitStack() as stack:
        near = stack.enter_context(_namespace("tap"))
        _run("ip", "-n", near, "tuntap", "add", "dev", _TAP, "mode", "tap")
        _run("ip", "-n", near, "addr", "add", f"{_NEAR}/24", "dev", _TAP)
        _run("ip", "-n", near, "link", "set", _TAP, "up")
        arguments = ["peer", "--link", f"tap:{_TAP}?netns={near}", "--address", f"{_FAR}/24", "--json"]
        server = stack.enter_context(_server([*_python("hoststack"), *arguments]))
        yield Far(near, _FAR, server, _TAP)


@contextmanager
def linux_far() -> Iterator[Far]:
    """Linux behind a veth pair. Raises :class:`Unavailable`."""
    _check()
    with ExitStack() as stack:
        near = stack.enter_context(_namespace("near"))
        far = stack.enter_context(_namespace("far"))
        _run(
            "ip", "-n", near, "link", "add", "bench0", "type", "veth", "peer", "name", "bench1", "netns", far
        )
        for namespace, device, address in ((near, "bench0", _NEAR), (far, "bench1", _FAR)):
            _run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", device)
            _run("ip", "-n", namespace, "link", "set", device, "up")
        server = stack.enter_context(_server([*_inside(far), *_python(_PROGRAM), "serve", _FAR]))
        yield Far(near, _FAR, server, "bench0")


def _check() -> None:
    """Check that namespaces can be made. Raises Unavailable if not."""
    if not sys.platform.startswith("linux"):
        raise Unavailable(f"only Linux has network namespaces; this is {sys.platform}")
    if os.geteuid() != 0:
        raise Unavailable("network namespaces and TAP devices need root")
    if shutil.which("ip") is None:
        raise Unavailable("the command ip is missing; install iproute2")
    for left in _NAMESPACES.glob(f"{_PREFIX}*"):
        if not Path(f"/proc/{left.name.split('-')[2]}").exists():
            _run("ip", "netns", "del", left.name)


def sweep() -> None:
    """Remove what a ``with`` could not remove because a signal came while it was being made."""
    for child in psutil.Process().children():
        child.kill()
        child.wait()
    for left in _NAMESPACES.glob(f"{_PREFIX}{os.getpid()}-*"):
        _run("ip", "netns", "del", left.name)


@contextmanager
def _namespace(name: str) -> Iterator[str]:
    name = f"{_PREFIX}{os.getpid()}-{name}"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        if (_NAMESPACES / name).exists():
            _run("ip", "netns", "del", name)


@contextmanager
def _server(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that prints one line when it is ready."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        try:
            _line(child, errors, " ".join(command))
            yield child
        finally:
            _end(child)


def _line(child: subprocess.Popen[bytes], errors: IO[bytes], what: str) -> dict[str, Any]:
    """Return the next line that a process prints, as JSON. Raises ChimneyError if none comes."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], _DEADLINE)
    line = child.stdout.readline() if ready else b""
    if not line:
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip() or "nothing"
        raise ChimneyError(f"{what}: no answer within {_DEADLINE:.0f} s, or it ended; error output: {said}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process: our own program by closing its input, others by SIGTERM."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.close()
    try:
        child.wait(0.2)
    except subprocess.TimeoutExpired:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    child.stdout.close()


def _run(*command: str) -> str:
    """Run a command to its end. Raises Unavailable, with its error output, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _inside(namespace: str) -> list[str]:
    return ["ip", "netns", "exec", namespace]


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]
