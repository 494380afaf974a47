"""What the tests against Linux need; without it they are skipped, with the reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.interop.lab import DEADLINE, Lab, remove_leftovers


def _missing() -> str | None:
    """Why there can be no lab here, None if there can."""
    if not sys.platform.startswith("linux"):
        return "Linux's own TCP is wanted as the remote end"
    if os.geteuid():
        return "root is needed for network namespaces and TAP devices"
    for tool, package in (("ip", "iproute2"), ("ss", "iproute2"), ("setpriv", "util-linux")):
        if shutil.which(tool) is None:
            return f"there is no {tool} here ({package})"
    if not os.path.exists("/dev/net/tun"):  # noqa: PTH110 - as the kernel names it
        return "there is no /dev/net/tun here"
    name = f"chimney-{os.getpid()}-try"
    for argv in (
        ["ip", "netns", "add", name],
        ["ip", "-n", name, "tuntap", "add", "dev", "tap0", "mode", "tap"],
        ["ip", "netns", "del", name],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, check=False)
        if done.returncode:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=DEADLINE, check=False)
            return f"not permitted here: {' '.join(argv)}: {done.stderr.strip()}"
    return None


@pytest.fixture(scope="session")
def _permitted() -> None:
    reason = _missing()
    if reason:
        pytest.skip(reason)
    remove_leftovers()


@pytest.fixture
def labs(_permitted: None) -> Iterator[Callable[..., Lab]]:
    """Makes labs; all of them are gone when the test ends."""
    made: list[Lab] = []

    def make(**options: object) -> Lab:
        made.append(Lab(**options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    errors = []
    for lab in made:
        try:
            lab.close()
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)


@pytest.fixture
def lab(labs: Callable[..., Lab]) -> Lab:
    """A lab as most tests want it: MTU 1500, Linux's defaults."""
    return labs()


@pytest.fixture
def tool() -> Callable[[str], None]:
    """Skips a test if a program is not here."""

    def need(name: str) -> None:
        if shutil.which(name) is None:
            pytest.skip(f"there is no {name} here")

    return need
