"""Addresses of hosts on one bus, as processes: defaults are all different, a taken one is refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from hoststack import AddressConflict, LiveHost
from tools.torture_stack import RealStack, with_peer

pytestmark = pytest.mark.process

HOSTS = 50


@pytest.fixture(scope="module")
def stack() -> Iterator[RealStack]:
    with RealStack(with_peer()) as stack:
        yield stack


def test_fifty_hosts_that_attach_at_once_have_different_addresses(stack: RealStack) -> None:
    with ExitStack() as opened, ThreadPoolExecutor(HOSTS) as pool:
        attached = [
            pool.submit(LiveHost.attach, f"host{i}", stack.endpoint, timeout=60) for i in range(HOSTS)
        ]
        hosts = [opened.enter_context(a.result(timeout=120)) for a in attached]
        addresses = [str(a.ip) for host in hosts for a in host.driver.addresses.wanted]
        assert len(addresses) == 2 * HOSTS
        assert len(set(addresses)) == len(addresses)
        assert hosts[-1].ping("10.77.0.2", timeout=20) < 20


def test_an_address_that_is_taken_is_refused_by_name(stack: RealStack) -> None:
    with LiveHost.attach("first", stack.endpoint, addresses=["10.77.0.5/24"], timeout=20):
        with pytest.raises(AddressConflict, match=r"10\.77\.0\.5 is already in use by another host"):
            LiveHost.attach("second", stack.endpoint, addresses=["10.77.0.5/24"], timeout=20)
        with pytest.raises(
            AddressConflict, match=r"10\.77\.0\.2 is already in use by station 02:77:00:00:00:02"
        ):
            LiveHost.attach("third", stack.endpoint, addresses=["10.77.0.2/24"], timeout=20)
