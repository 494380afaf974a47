"""Bulk data, for minutes (``make interop-long``): 1 GiB each way, and 64 MiB each way at 5 % loss."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable

import pytest

from hoststack.peer.services import pattern
from tests.interop.lab import Lab, noise
from tests.interop.traffic import Background

pytestmark = [pytest.mark.interop, pytest.mark.long]

FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
MIB = 1 << 20
_BLOCK = noise(8 * MIB)

Report = Callable[[str, int, float], None]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Says how fast it was, whether or not output is captured."""

    def say(what: str, size: int, seconds: float) -> None:
        with capsys.disabled():
            print(f"\n  {what}: {size / MIB:.0f} MiB in {seconds:.1f} s, {size / MIB / seconds:.1f} MiB/s")  # noqa: T201

    return say


def get(client: socket.socket, size: int) -> str:
    """GET /bytes/size; the SHA-256 of the body."""
    client.sendall(f"GET /bytes/{size} HTTP/1.1\r\nHost: ours\r\nConnection: close\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        part = client.recv(1 << 16)
        assert part, head
        head += part
    head, _, body = head.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    digest, came = hashlib.sha256(body), len(body)
    buffer = memoryview(bytearray(1 << 18))
    while count := client.recv_into(buffer):
        digest.update(buffer[:count])
        came += count
    assert came == size
    return digest.hexdigest()


def put(client: socket.socket, size: int) -> tuple[str, str]:
    """PUT so many bytes; their SHA-256, and the one that our side found."""
    client.sendall(
        f"PUT /sha256 HTTP/1.1\r\nHost: ours\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n".encode()
    )
    digest = hashlib.sha256()
    left = size
    while left:
        part = memoryview(_BLOCK)[: min(left, len(_BLOCK))]
        client.sendall(part)
        digest.update(part)
        left -= len(part)
    answer = b""
    while more := client.recv(1 << 16):
        answer += more
    return digest.hexdigest(), answer.rpartition(b"\r\n\r\n")[2].decode().strip()


def expected(size: int) -> str:
    """SHA-256 of what /bytes/size is."""
    digest = hashlib.sha256()
    block = pattern(0, MIB)
    for _ in range(size // MIB):
        digest.update(block)
    return digest.hexdigest()


def both(
    lab: Lab, family: socket.AddressFamily, size: int, seconds: float, what: str, report: Report
) -> None:
    """Up, then down; the hashes are equal. ``seconds``: what the test may take."""
    limit = seconds / 10
    wanted = expected(size)

    def connect() -> socket.socket:
        client = lab.connect(80, family)
        client.settimeout(limit)
        return client

    began = time.monotonic()
    sent, found = put(connect(), size)
    report(f"{what}, Linux to ours", size, time.monotonic() - began)
    assert found == sent
    began = time.monotonic()
    assert get(connect(), size) == wanted
    report(f"{what}, ours to Linux", size, time.monotonic() - began)


@FAMILIES
@pytest.mark.timeout(1800)
def test_gibibyte_each_way(lab: Lab, family: socket.AddressFamily, report: Report) -> None:
    """1 GiB each way over TAP, hashes equal."""
    lab.peer("", "--window", str(1 << 20), capture=False)
    both(lab, family, 1024 * MIB, 1800, f"no loss, {family.name}", report)


@pytest.mark.timeout(3600)
def test_64_mebibytes_each_way_at_5_percent_loss(lab: Lab, report: Report) -> None:
    """5 % of the frames of each direction are lost; hashes equal."""
    lab.peer("loss=5%&seed=1", "--window", str(1 << 20), capture=False)
    both(lab, socket.AF_INET, 64 * MIB, 3600, "5 % loss", report)


@pytest.mark.timeout(1800)
def test_64_mebibytes_each_way_over_a_bad_wire(lab: Lab, report: Report) -> None:
    """Everything at once: loss in bursts, reordering, duplicates, corruption, delay."""
    lab.peer(
        "bursts=0.2%,40%&reorder=1%&duplicate=1%&corrupt=0.2%&delay=1ms&jitter=1ms&seed=1", capture=False
    )
    both(lab, socket.AF_INET6, 64 * MIB, 1800, "bad wire", report)


@pytest.mark.timeout(1800)
def test_gibibyte_both_ways_at_once(lab: Lab, report: Report) -> None:
    """Two connections, one up and one down, 512 MiB each."""
    lab.peer(capture=False)
    size = 512 * MIB
    clients = [lab.connect(80), lab.connect(80, socket.AF_INET6)]
    for client in clients:
        client.settimeout(180)
    began = time.monotonic()
    going_up = Background(lambda: put(clients[0], size))
    assert get(clients[1], size) == expected(size)
    sent, found = going_up.result(1800)
    assert sent == found
    report("both at once", 2 * size, time.monotonic() - began)
