"""What the measurements at scale share: the layers as child processes, their peak memory, what is printed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from ndisbus.errors import ChimneyError
from tools.torture_stack import ROOT

__all__ = ["child", "conclude", "own_runtime_directory", "peak_mib"]

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


def conclude(
    name: str,
    measure: Callable[[Callable[[str], None]], dict[str, Any]],
    lines: Callable[[dict[str, Any]], Iterable[str]],
    *,
    as_json: bool,
) -> int:
    """Measure, and print the result: JSON, or ``lines`` and the peak memory. Returns the exit code.

    ``measure(report)`` says with ``report(text)`` how far it is.
    """
    try:
        result = measure(lambda text: click.echo(text, err=True))
    except ChimneyError as e:
        click.echo(f"{name}: {e}", err=True)
        return 1
    if as_json:
        click.echo(json.dumps(result))
        return 0
    for line in lines(result):
        click.echo(line)
    for process, size in result["peak_mib"].items():
        click.echo(f"{process:20} {size:6} MiB at most")
    return 0
