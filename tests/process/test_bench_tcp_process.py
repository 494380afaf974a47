"""``ndisbus bench tcp`` as root: it measures everything, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.conftest import until

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="there is no ip (iproute2)"),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="the kernel has no TUN/TAP here"),
]


def namespaces(pid: int) -> list[str]:
    return [p.name for p in Path("/run/netns").glob(f"ndisbus-bench-{pid}-*")]


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "ndisbus", "bench", "tcp", *options]


def test_all_of_it() -> None:
    child = subprocess.Popen(
        command("--quick", "--json"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = child.communicate(timeout=100)
    assert child.returncode == 0, errors.decode()
    result = json.loads(out)
    if "skipped" in result["tap"]:
        pytest.skip(result["tap"]["skipped"])
    for part in ("tap", "linux"):
        goodput = result[part]["goodput_bytes_per_s"]
        assert set(goodput) == {"to_linux", "from_linux"}
        assert min(goodput.values()) > 0
    assert result["tap"]["idle"]["connections"] == 500
    assert result["tap"]["segments_per_s_per_core"] > 0
    assert set(result["ratio"]) >= {"tap_to_linux_to_linux_itself", "tap_from_linux_to_linux_itself"}
    assert namespaces(child.pid) == []


def test_nothing_is_left_when_it_is_ended() -> None:
    child = subprocess.Popen(command(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: namespaces(child.pid) or child.poll() is not None, "a namespace")
        if child.poll() is not None:
            pytest.skip("no namespaces here")
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 143
    finally:
        child.kill()
        child.wait()
    assert namespaces(child.pid) == []
