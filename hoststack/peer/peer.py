"""The loop of a remote host: poll the links until something is due, and give everything to the stack."""

from __future__ import annotations

import math
import random
import select
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from hoststack.net.errors import AddressConflict
from hoststack.net.options import SocketOptions
from hoststack.net.stack import NetStack
from hoststack.net.station import Station
from hoststack.peer.serving import Servants
from ndisbus.errors import LocalProtocolError
from ndisbus.runtime.signals import SignalPipe
from ndisbus.tcp.settings import TcpSettings
from ndisbus.wire.link import Link

if TYPE_CHECKING:
    from hoststack.net.detection import Conflict
    from hoststack.net.interface import Interface

__all__ = ["Peer", "station_mac"]

#: Longest single wait in seconds. A stop signal ends any wait, so this only bounds drift.
_LONGEST: Final = 60.0


def station_mac(number: int) -> bytes:
    """A locally administered MAC address for a station of this project: 02:77:00:00:00:NN."""
    if not 0 <= number <= 0xFFFF:
        raise LocalProtocolError(f"station number {number}: it must be 0..65535")
    return bytes((0x02, 0x77, 0, 0)) + number.to_bytes(2, "big")


class Peer:
    """A stack with one interface per link, in a process of its own.

    ``stations``: (link, MAC address, IP addresses) of each interface. ``seed``: of ports, sequence numbers
    and identifications. ``serve``: whether to run the services. ``announce``: whether to test and announce
    the addresses.
    """

    def __init__(
        self,
        stations: Sequence[tuple[Link, bytes, Sequence[str]]],
        *,
        seed: int = 0,
        settings: TcpSettings | None = None,
        options: SocketOptions | None = None,
        serve: bool = True,
        announce: bool = True,
    ) -> None:
        self.stack = NetStack(settings or TcpSettings(), random.Random(f"{seed}/peer"), now=time.monotonic())
        self.stations = [
            Station(self.stack, link, mac, addresses, name=f"eth{i}", announce=announce)
            for i, (link, mac, addresses) in enumerate(stations)
        ]
        #: Conflicts about addresses of the stations.
        self.conflicts: list[Conflict] = []
        self.stack.detection.on_conflict.append(self._conflict)
        self.servants = Servants(self.stack, options=options) if serve else None
        self._stopping = False
        self._poll = select.poll()
        for station in self.stations:
            fd = station.link.fileno()
            if fd is not None:
                self._poll.register(fd, select.POLLIN)

    def _conflict(self, interface: Interface, conflict: Conflict) -> None:
        if not ip_address(conflict.address).is_link_local:
            self.conflicts.append(conflict)

    @property
    def settled(self) -> bool:
        """Whether the test of every address is over."""
        return not any(station.interface.tentative for station in self.stations)

    def turn(self, now: float) -> None:
        """Take what the links have, let timers run, send what is due."""
        for station in self.stations:
            station.poll(now)

    def wait(self, until: float) -> None:
        """Sleep until a link has something or something is due, at most until ``until``."""
        for station in self.stations:
            due = station.next_deadline()
            if due is not None and due < until:
                until = due
        left = min(until - time.monotonic(), _LONGEST)
        self._poll.poll(math.ceil(left * 1000) if left > 0 else 0)

    def run_until(self, done: Callable[[], object], timeout: float) -> bool:
        """Serve until ``done()`` holds or for ``timeout`` seconds; whether it holds."""
        end = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            self.turn(now)
            if done():
                self.turn(now)
                return True
            if now >= end or self._stopping:
                return False
            self.wait(end)

    def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT, for the main thread.

        ``ready()`` is called when the signals are handled and the addresses are assigned. Raises
        :class:`AddressConflict` when another host on the wire has one of them.
        """
        announced = False
        with SignalPipe() as signals:
            self._poll.register(signals.receiver, select.POLLIN)
            while not signals.arrived():
                self.turn(time.monotonic())
                if self.conflicts:
                    what = "; ".join(map(str, self.conflicts))
                    raise AddressConflict(f"{what}: choose another --address, or stop that host")
                if not announced and self.settled:
                    announced = True
                    ready()
                self.wait(math.inf)
            self._poll.unregister(signals.receiver)

    def close(self) -> None:
        """Leave the links."""
        for station in self.stations:
            station.link.close()
