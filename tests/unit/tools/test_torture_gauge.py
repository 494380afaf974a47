"""tools/torture_gauge.py: what grows is told, a new process starts anew."""

from __future__ import annotations

import os
from pathlib import Path

from tools.torture_gauge import Gauge, Size, files_in, sizes

START = Size(10, 40_000_000, 15, 3)


def grown(**changed: int) -> list[str]:
    gauge = Gauge()
    assert gauge.measure("start", {"im": START}, ["bus.sock"]) == []
    now = Size(**{"pid": 10, "memory": 40_000_000, "descriptors": 15, "objects": 3} | changed)
    return gauge.measure("later", {"im": now}, ["bus.sock"])


def test_growth_is_told() -> None:
    assert grown() == []
    assert grown(memory=45_000_000, descriptors=16, objects=5) == []
    assert grown(memory=70_000_000) == ["im (pid 10) has 70000000 bytes of memory, it had 40000000"]
    assert grown(descriptors=25) == ["im (pid 10) has 25 descriptors, it had 15"]
    assert grown(objects=40) == ["im (pid 10) has 40 objects, it had 3"]


def test_another_process_of_the_name_is_not_compared() -> None:
    assert grown(pid=11, memory=70_000_000, descriptors=25, objects=40) == []


def test_files_that_come_and_go_are_told() -> None:
    gauge = Gauge()
    gauge.measure("start", {}, ["bus.pid", "bus.sock"])
    assert gauge.measure("later", {}, ["bus.pid", "x"]) == ["files: x more, bus.sock less"]
    assert [row["files"] for row in gauge.rows] == [2, 2]


def test_sizes_are_those_of_the_processes(tmp_path: Path) -> None:
    survey = {"Processes": [{"Pid": os.getpid(), "Heap": 7}], "Bus": {"Pid": 1, "Heap": 2}}
    found = sizes({"me": os.getpid(), "gone": 1 << 30}, survey)
    assert set(found) == {"me"}
    assert found["me"].objects == 7
    assert found["me"].memory > 1 << 20
    (tmp_path / "cables").mkdir()
    (tmp_path / "cables" / "a.station").touch()
    assert files_in(tmp_path) == ["cables/a.station"]
