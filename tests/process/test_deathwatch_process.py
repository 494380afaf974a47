"""Noticing the death of a process: by its pidfd, and without one."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from ndisbus.runtime.deathwatch import DeathWatch, host_id, process_info

pytestmark = pytest.mark.process

DEADLINE = 20.0


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait(DEADLINE)


def about(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    return {"Pid": child.pid, "CreateTime": psutil.Process(child.pid).create_time(), "Host": host_id()}


def watch() -> tuple[DeathWatch, set[int]]:
    fds: set[int] = set()
    return DeathWatch(fds.add, fds.remove), fds


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="pidfds are Linux's")
def test_pidfd_becomes_readable_at_death(child: subprocess.Popen[bytes]) -> None:
    w, fds = watch()
    assert w.watch("it", about(child))
    [fd] = fds
    assert not w.polled
    assert select.select([fd], [], [], 0) == ([], [], [])
    child.kill()
    # Not collected yet: a zombie is dead already.
    assert select.select([fd], [], [], DEADLINE)[0] == [fd]
    assert w.owns(fd)
    assert w.died(fd) == "it"
    assert not fds and not w.owns(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_without_pidfds_a_sweep_finds_the_dead(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    w, fds = watch()
    assert w.watch("it", about(child))
    assert w.watch("me", process_info())
    assert not fds and len(w.polled) == 2
    assert w.sweep() == []
    child.kill()
    until = time.monotonic() + DEADLINE
    found: list[Any] = []
    while not found and time.monotonic() < until:
        found = w.sweep()
    assert found == ["it"]
    assert [p.token for p in w.polled] == ["me"]


def test_dead_process_is_said_to_be_dead(child: subprocess.Popen[bytes]) -> None:
    info = about(child)
    child.kill()
    child.wait(DEADLINE)
    w, fds = watch()
    assert not w.watch("it", info)
    assert not fds and not w.polled


@pytest.mark.parametrize(
    "wrong",
    [
        {"Host": "another machine"},
        {"CreateTime": 12345.0},
        {"CreateTime": None},
        {"Pid": "1"},
        {"Pid": True},
        {"Host": None},
    ],
)
def test_process_that_is_not_what_it_says_is_not_watched(
    child: subprocess.Popen[bytes], wrong: dict[str, Any]
) -> None:
    """The watched death would be that of another process."""
    w, fds = watch()
    assert w.watch("it", about(child) | wrong)
    assert not fds and not w.polled


def test_forgotten_ones_are_not_watched(child: subprocess.Popen[bytes]) -> None:
    w, fds = watch()
    w.watch("it", about(child))
    w.watch("me", process_info())
    w.forget(lambda token: token == "it")
    assert len(fds) + len(w.polled) == 1
    w.close()
    assert not fds and not w.polled
