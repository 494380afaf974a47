"""What ``target`` exports, and that a target of one's own needs nothing else."""

from __future__ import annotations

from typing import Any

import target
from ndisbus.driver.port import DriverPort
from ndisbus.wire.memory import MemorySegment
from target import TargetConfig, TargetDriver, VoluntaryUploads, open_wires


def test_every_public_name_is_documented() -> None:
    assert target.__doc__ is not None
    for name in target.__all__:
        assert f"``{name}``" in target.__doc__
        assert getattr(target, name).__doc__


class Hesitant(TargetDriver):
    """A target that always says that its hardware hangs."""

    def miniport_check_for_hang_ex(self, miniport_adapter_context: int) -> bool:
        return True


def test_a_subclass_takes_a_configuration_and_a_link_of_ones_own() -> None:
    config = TargetConfig(adapters=("a", "b"), voluntary=VoluntaryUploads(fragments=3))
    link = MemorySegment(mtu=9000).station("a")
    driver = Hesitant(config, [link, None])
    assert driver.wires == {"a": link}
    assert driver.readers() == {}, "a link in memory does not have a descriptor"
    assert DriverPort(driver, {"Name": config.name}).driver is driver
    assert driver.miniport_check_for_hang_ex(0)


def test_readers_lead_to_the_station_of_the_wire(monkeypatch: Any) -> None:
    segment = MemorySegment()
    link = segment.station("a")
    monkeypatch.setattr(type(link), "fileno", lambda self: 7)
    driver = TargetDriver(TargetConfig(), [link])
    segment.station("far").send(b"\xff" * 6 + bytes(54), 0.0)
    assert link.next_deadline() is not None
    driver.readers()[7](0.0)
    assert link.receive(0.0) == [], "without an adapter the frame is lost"


def test_open_wires_opens_one_link_for_each_spec(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("NDISBUS_RUNTIME_DIR", str(tmp_path))
    config = TargetConfig(adapters=("a", "b", "c"), wires=("cable:lan", "none"))
    with open_wires(config) as links:
        assert [link is not None for link in links] == [True, False]
        assert (tmp_path / "cable-lan").is_dir()
    assert not (tmp_path / "cable-lan").exists(), "the last station takes the cable with it"
