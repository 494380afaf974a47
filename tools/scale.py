"""What the measurements at scale share: the layers as child processes, and their peak memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ndisbus.errors import ChimneyError
from tools.torture_stack import ROOT

__all__ = ["child", "own_runtime_directory", "peak_mib"]

#: Seconds that a process has to end once it is told to.
_STOP = 30


def peak_mib(pid: int) -> int:
    """Return the largest resident size of a process so far, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise ChimneyError(f"/proc/{pid}/status has no VmHWM")


@contextlib.contextmanager
def own_runtime_directory() -> Iterator[None]:
    """Let this process and its children use a bus of their own, in a directory that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="scale") as directory:
        os.environ["NDISBUS_RUNTIME_DIR"] = directory
        os.environ["NDISBUS_ENDPOINT"] = f"ipc://{directory}/bus.sock"
        yield


@contextlib.contextmanager
def child(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``python -m COMMAND`` with pipes, and end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
