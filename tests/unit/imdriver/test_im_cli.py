"""The command line of the intermediate driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

import imdriver
from imdriver.cli import main
from imdriver.config import ChimneyPolicy, ImConfig
from ndisbus.errors import BusUnavailable

ROOT = Path(__file__).parents[3]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stands in for the runtime: what it was asked to run."""
    calls: list[Any] = []

    def run_driver(driver: Any, *, name: str, endpoint: str | None = None) -> int:
        calls.append((driver, name, endpoint))
        if endpoint == "ipc:///nowhere":
            raise BusUnavailable("no bus at nowhere; start one with 'ndisbus serve'")
        return 3

    runtime = ModuleType("ndisbus.runtime.run_driver")
    runtime.run_driver = run_driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ndisbus.runtime.run_driver", runtime)
    monkeypatch.delenv("NDISBUS_ENDPOINT", raising=False)
    return calls


def test_the_defaults(started: list[Any]) -> None:
    assert CliRunner().invoke(main, []).exit_code == 3
    ((driver, name, endpoint),) = started
    assert driver.config == ImConfig()
    assert (name, endpoint) == ("im", None)


def test_every_option_reaches_the_driver(started: list[Any]) -> None:
    options = (
        "--name im7 --bind nic3 --adapter x --adapter y --block-chimney --no-chimney-handlers "
        "--vlan-id 12 --user-priority 5 --mac x=02:00:00:00:00:07 --endpoint ipc:///tmp/x"
    )
    CliRunner().invoke(main, options.split())
    ((driver, name, endpoint),) = started
    assert driver.config == ImConfig(
        name="im7",
        bind="nic3",
        adapters=("x", "y"),
        chimney=ChimneyPolicy.BLOCK,
        register_chimney=False,
        vlan_id=12,
        user_priority=5,
        macs={"x": b"\x02\0\0\0\0\7"},
    )
    assert (name, endpoint) == ("im7", "ipc:///tmp/x")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--adapter", "x", "--adapter", "x"], "x, x need different names"),
        (["--endpoint", "ipc:///nowhere"], "ndisbus serve"),
        (["--endpoint", "nowhere"], "Invalid value for --endpoint: nowhere: use ipc://PATH"),
        (["--vlan-id", "4096"], "4096"),
    ],
)
def test_a_mistake_is_told_in_a_line(started: list[Any], options: list[str], says: str) -> None:
    result = CliRunner().invoke(main, options)
    assert result.exit_code not in (0, 3)
    assert says in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("module", "says"), [("imdriver", "Usage: imdriver"), ("imdriver.life", "stateDiagram-v2")]
)
def test_the_modules_run(module: str, says: str) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", module, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert says in result.stdout
    assert result.stderr == ""


def test_the_package_offers_its_parts() -> None:
    assert imdriver.ImConfig is ImConfig
    assert imdriver.ImDriver(ImConfig(name="x")).config.name == "x"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = imdriver.Nothing


@pytest.mark.parametrize("text", ["x", "x=zz:00", "x=02:00", "02:00:00:00:00:07"])
def test_a_wrong_address_is_a_usage_error(started: list[Any], text: str) -> None:
    result = CliRunner().invoke(main, ["--mac", text])
    assert result.exit_code == 2
    assert f"--mac {text}: use ADAPTER=MAC, such as im0-a=02:00:00:00:00:01" in result.stderr
    assert not started


def test_a_group_address_is_a_usage_error(started: list[Any]) -> None:
    result = CliRunner().invoke(main, ["--mac", "x=01:00:00:00:00:07"])
    assert result.exit_code == 2
    assert "unicast" in result.stderr
    assert not started
