"""Detecting that another host has an own address: RFC 5227 for IPv4, RFC 4862 section 5.4 for IPv6.

An address is *tentative* until its test is over. Until then the host does not answer for it and sends nothing
from it; frames wait in the neighbor cache. If another host shows that it has the address, or tests it at the
same moment, the address is given up. Once an address is assigned, it is announced and defended: one conflict
is answered, a second one within DEFEND_INTERVAL ends its use (RFC 5227 2.4 (b); IPv6 alike).

Hosts behind one adapter share its MAC address. Adapters loop frames to groups back to the hosts above them,
so a host hears its neighbors above the same adapter, and itself. :class:`LinkOutput` recognizes the echoes of
the host's own frames; what else bears the own MAC address is from such a neighbor. The last wait of a test
begins when all its probes have come back. The adapter gives frames to all hosts in one order, so of two hosts
that test an address at the same time at least one has heard the other by then, however slow the bus is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from hoststack.net.link_output import NO_IP, NO_MAC
from hoststack.net.timers import Timed
from ndisbus.net import arp
from ndisbus.net.ethernet import BROADCAST
from ndisbus.net.nd import ALL_NODES, UNSPECIFIED, NeighborAdvertisement, NeighborSolicitation, solicited_node

if TYPE_CHECKING:
    from hoststack.net.clock import Clock
    from hoststack.net.interface import Interface
    from hoststack.net.interfaces import Interfaces
    from hoststack.net.link_output import LinkOutput
    from hoststack.net.statistics import Statistics
    from hoststack.net.timers import StackTimers
    from ndisbus.randomness import Randomness

__all__ = ["EMULATED", "STANDARD", "AddressDetection", "Conflict", "DetectionTiming"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionTiming:
    """Seconds and counts, by their names in RFC 5227 section 1.1 and RFC 4862 section 5.1.

    ``probe_wait``: longest random delay before the first probe, for both versions. ``dad_transmits`` is
    DupAddrDetectTransmits, ``retrans_timer`` the time that each of them waits for an answer. Of our own:
    ``echo_wait``, how long the last wait is put off for echoes that do not arrive.
    """

    probe_wait: float = 1.0
    probe_num: int = 3
    probe_min: float = 1.0
    probe_max: float = 2.0
    announce_wait: float = 2.0
    announce_num: int = 2
    announce_interval: float = 2.0
    defend_interval: float = 10.0
    dad_transmits: int = 1
    retrans_timer: float = 1.0
    echo_wait: float = 2.0


#: What the RFCs prescribe: a test takes 4 to 7 seconds.
STANDARD: Final = DetectionTiming()
#: For an emulated wire, on which an answer takes milliseconds: RFC 5227 section 2.2 foresees shorter times
#: where a link is fast. A test takes 0.2 to 0.35 seconds.
EMULATED: Final = DetectionTiming(
    probe_wait=0.05, probe_min=0.05, probe_max=0.1, announce_wait=0.1, dad_transmits=2, retrans_timer=0.125
)


@dataclass(frozen=True, slots=True)
class Conflict:
    """An own address that another station has. ``shared``: it is a host behind the same adapter."""

    address: bytes
    mac: bytes
    shared: bool

    def __str__(self) -> str:
        mac = self.mac.hex(":")
        holder = f"another host behind the same adapter ({mac})" if self.shared else f"station {mac}"
        return f"{ip_address(self.address)} is already in use by {holder}"


class _Test(Timed):
    """The test of one address, and its announcements."""

    __slots__ = ("address", "detection", "due", "echoes", "interface", "sent")

    def __init__(self, detection: AddressDetection, interface: Interface, address: bytes, due: float) -> None:
        self.queued = None
        self.detection = detection
        self.interface = interface
        self.address = address
        self.due: float | None = due
        #: Probes, or announcements once the address is assigned.
        self.sent = 0
        #: Probes that have not come back.
        self.echoes = 0

    def deadline(self) -> float | None:
        return self.due

    def on_timer(self, now: float) -> None:
        self.due = self.detection.step(self, now)


class AddressDetection:
    """Tests, announces and defends the addresses of all interfaces.

    ``on_assigned(interface, address)`` and ``on_conflict(interface, conflict)``, each in turn.
    """

    __slots__ = (
        "_clock",
        "_defended",
        "_interfaces",
        "_link",
        "_rng",
        "_statistics",
        "_tests",
        "_timers",
        "on_assigned",
        "on_conflict",
        "timing",
    )

    def __init__(
        self,
        *,
        clock: Clock,
        statistics: Statistics,
        timers: StackTimers,
        interfaces: Interfaces,
        link: LinkOutput,
        rng: Randomness,
        timing: DetectionTiming,
    ) -> None:
        self._clock = clock
        self._statistics = statistics
        self._timers = timers
        self._interfaces = interfaces
        self._link = link
        self._rng = rng
        self.timing = timing
        self._tests: dict[bytes, _Test] = {}
        #: When an own address was last defended.
        self._defended: dict[bytes, float] = {}
        self.on_assigned: list[Callable[[Interface, bytes], object]] = []
        self.on_conflict: list[Callable[[Interface, Conflict], object]] = []

    # -- testing and announcing ----------------------------------------------------------------

    def start(self, interface: Interface, address: bytes) -> None:
        """Begin to test an address of an interface; without announcements it is assigned at once."""
        if not interface.announce:
            self._assign(interface, address)
            return
        due = self._clock.now + self._rng.random() * self.timing.probe_wait
        interface.tentative.add(address)
        test = self._tests[address] = _Test(self, interface, address, due)
        self._timers.refresh(test)

    def replugged(self, interface: Interface) -> None:
        """The interface is on a new link: announce what is assigned, test anew what is not."""
        if not interface.announce:
            return
        for address in interface.local:
            if address in interface.tentative:
                self._drop(address)
                self.start(interface, address)
            else:
                self.announce(interface, address)

    def announce(self, interface: Interface, address: bytes) -> None:
        """Tell the link that an address is ours: an ARP Announcement or an unsolicited advertisement."""
        if len(address) == 4:
            self._link.arp(
                interface, BROADCAST, arp.ArpPacket(arp.REQUEST, interface.mac, address, NO_MAC, address)
            )
        else:
            message = NeighborAdvertisement(address, interface.mac, solicited=False, override=True)
            self._link.icmpv6(interface, address, ALL_NODES, message)

    def withdraw(self, interface: Interface, address: bytes) -> None:
        """Stop using an address, tested or not."""
        self._drop(address)
        self._interfaces.withdraw(interface, address)

    def step(self, test: _Test, now: float) -> float | None:
        """Do what is due for one address; returns when the next step is due."""
        timing, interface, address = self.timing, test.interface, test.address
        four = len(address) == 4
        if address in interface.tentative:
            if test.sent < (timing.probe_num if four else timing.dad_transmits):
                test.sent += 1
                self._probe(interface, address)
                test.echoes += interface.loops
                if test.sent == (timing.probe_num if four else timing.dad_transmits):
                    return now + (timing.echo_wait if test.echoes else self._last_wait(address))
                if not four:
                    return now + timing.retrans_timer
                return now + timing.probe_min + self._rng.random() * (timing.probe_max - timing.probe_min)
            test.sent = 0
            self._assign(interface, address)
        test.sent += 1
        self.announce(interface, address)
        if test.sent < (timing.announce_num if four else 1):
            return now + timing.announce_interval
        self._tests.pop(address, None)
        return None

    def _last_wait(self, address: bytes) -> float:
        return self.timing.announce_wait if len(address) == 4 else self.timing.retrans_timer

    def echoed(self, interface: Interface, frame: bytes) -> None:
        """A frame of ours, without padding, has come back; if it is the last probe, the last wait begins."""
        size = 4 if frame[12:14] == b"\x08\x06" or frame[16:18] == b"\x08\x06" else 16
        # The address that is tested is the last member of an ARP probe and of a solicitation without options.
        test = self._tests.get(frame[-size:])
        if test is None or test.interface is not interface or not test.echoes:
            return
        test.echoes -= 1
        total = self.timing.probe_num if size == 4 else self.timing.dad_transmits
        if not test.echoes and test.sent == total and test.address in interface.tentative:
            test.due = self._clock.now + self._last_wait(test.address)
            self._timers.refresh(test)

    def _probe(self, interface: Interface, address: bytes) -> None:
        if len(address) == 4:
            self._link.arp(
                interface, BROADCAST, arp.ArpPacket(arp.REQUEST, interface.mac, NO_IP, NO_MAC, address)
            )
        else:
            group = solicited_node(address)
            self._link.icmpv6(interface, UNSPECIFIED, group, NeighborSolicitation(address))

    def _assign(self, interface: Interface, address: bytes) -> None:
        interface.tentative.discard(address)
        self._interfaces.assign(interface, address)
        for assigned in self.on_assigned:
            assigned(interface, address)

    def _drop(self, address: bytes) -> None:
        test = self._tests.pop(address, None)
        if test is not None:
            test.due = None
            self._timers.drop(test)

    # -- hearing -------------------------------------------------------------------------------

    def heard_arp(self, interface: Interface, message: arp.ArpPacket, now: float) -> bool:
        """Look for a conflict in an ARP packet of another host; whether there is one."""
        sender, target = message.sender_ip, message.target_ip
        if sender in interface.local:
            self._claimed(interface, sender, message.sender_mac, now)
            return True
        if sender == NO_IP and message.operation == arp.REQUEST and target in interface.tentative:
            self._lose(interface, target, message.sender_mac)
            return True
        return False

    def heard_probe(self, interface: Interface, address: bytes, mac: bytes) -> bool:
        """Another host tests an IPv6 address of ours; whether that ends our own test (RFC 4862 5.4.3)."""
        if address not in interface.tentative:
            return False
        self._lose(interface, address, mac)
        return True

    def heard_advertisement(self, interface: Interface, address: bytes, mac: bytes, now: float) -> None:
        """Another host advertises an IPv6 address of ours (RFC 4862 5.4.4)."""
        self._claimed(interface, address, mac, now)

    def _claimed(self, interface: Interface, address: bytes, mac: bytes, now: float) -> None:
        """Another host uses an address of ours: give up the test, or defend the address once."""
        last = self._defended.get(address)
        again = last is not None and now - last < self.timing.defend_interval
        if again or address in interface.tentative:
            self._lose(interface, address, mac)
        else:
            self._statistics.count("address conflict")
            self._defended[address] = now
            self.announce(interface, address)

    def _lose(self, interface: Interface, address: bytes, mac: bytes) -> None:
        self._statistics.count("address conflict")
        self._defended.pop(address, None)
        self.withdraw(interface, address)
        interface.refuted.add(address)
        conflict = Conflict(address, mac, mac == interface.mac)
        for lost in self.on_conflict:
            lost(interface, conflict)
