"""The examples that are hosts: what they say when they cannot attach."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", ["live_host", "asyncio_host", "custom_host"])
def test_an_example_tells_of_a_wrong_endpoint_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NDISBUS_ENDPOINT", "nowhere")
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    ended = example.main()
    assert (asyncio.run(ended) if asyncio.iscoroutine(ended) else ended) == 1
    assert capsys.readouterr().err == f"{name}: nowhere: use ipc://PATH or tcp://HOST:PORT\n"
