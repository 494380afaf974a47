"""The option --endpoint of the commands of ``hoststack``."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hoststack.cli.main import main

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    "command", [["run", str(ROOT / "scenarios" / "basic.yaml")], ["tour"], ["netstat"]], ids=lambda c: c[0]
)
def test_a_wrong_endpoint_is_a_wrong_command_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = CliRunner().invoke(main, [*command, "--endpoint", "foo"])
    assert result.exit_code == 2
    assert "Invalid value for --endpoint: foo: use ipc://PATH or tcp://HOST:PORT" in result.output
    monkeypatch.setenv("NDISBUS_ENDPOINT", "foo")
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "Invalid value for NDISBUS_ENDPOINT: foo" in result.output
