"""What ``ndisbus.drivers`` offers to people who write a driver."""

from __future__ import annotations

import imdriver
import ndisbus.drivers
import target
from ndisbus.drivers import Driver, MiniportDriver, ProtocolDriver
from ndisbus.runtime.run_driver import run_driver


def test_the_public_names_exist() -> None:
    names = ndisbus.drivers.__all__
    assert len(set(names)) == len(names)
    assert {n for n in names if not hasattr(ndisbus.drivers, n)} == set()
    assert ndisbus.drivers.run_driver is run_driver


def test_every_name_is_documented_where_they_are_imported_from() -> None:
    text = ndisbus.drivers.__doc__ or ""
    assert {n for n in ndisbus.drivers.__all__ if n not in text} - {"Driver"} == set()


def test_the_drivers_to_build_on_are_what_the_bases_say() -> None:
    assert issubclass(imdriver.ImDriver, MiniportDriver)
    assert issubclass(imdriver.ImDriver, ProtocolDriver)
    assert issubclass(target.TargetDriver, MiniportDriver)
    assert issubclass(MiniportDriver, Driver)
