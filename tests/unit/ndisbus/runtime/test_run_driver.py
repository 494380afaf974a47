"""A driver as a whole process: exit codes before it has a connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndisbus.driver.base import ProtocolDriver
from ndisbus.runtime.run_driver import run_driver


def test_a_wrong_endpoint_is_a_wrong_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("NDISBUS_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("NDISBUS_ENDPOINT", "foo")
    assert run_driver(ProtocolDriver(), name="mine") == 2
    assert capsys.readouterr().err == "mine: foo: use ipc://PATH or tcp://HOST:PORT\n"
