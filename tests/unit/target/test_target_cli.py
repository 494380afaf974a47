"""The command line of the target."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from click.testing import CliRunner

from target import TargetConfig, TargetDriver
from target.cli import main, make_config


def test_options_make_a_configuration() -> None:
    assert make_config(name="t", tcp_entries=None, latency=0.5) == TargetConfig(name="t", latency=0.5)


def test_the_command_line_runs_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[TargetDriver, dict[str, Any]]] = []

    def run_driver(driver: TargetDriver, **options: Any) -> int:
        started.append((driver, options))
        return 3

    module = types.ModuleType("ndisbus.runtime.run_driver")
    module.run_driver = run_driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ndisbus.runtime.run_driver", module)
    arguments = [
        "--name",
        "t2",
        "--adapter",
        "x",
        "--adapter",
        "y",
        "--tcp-entries",
        "9",
        "--vlan",
        "5",
        "--no-ipv6",
        "--latency",
        "0.25",
        "--endpoint",
        "ipc://e",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 3
    [(driver, options)] = started
    assert options == {"name": "t2", "endpoint": "ipc://e", "readers": {}}
    config = driver.config
    assert (config.adapters, config.tcp_entries, config.interface_vlans) == (("x", "y"), 9, frozenset({5}))
    assert (config.support_ipv6, config.latency, config.path_entries) == (
        False,
        0.25,
        TargetConfig().path_entries,
    )


def test_a_wrong_endpoint_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["--endpoint", "foo"])
    assert result.exit_code == 2
    assert "Invalid value for --endpoint: foo" in result.output


def test_an_impossible_configuration_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["--no-ipv4", "--no-ipv6"])
    assert result.exit_code == 2
    assert "R-OID-10" in result.output
