"""A network interface: its addresses, what it listens to, and where its frames go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Final

from ndisbus.errors import LocalProtocolError
from ndisbus.net.ethernet import BROADCAST, EthernetHeader, multicast_mac
from ndisbus.net.nd import ALL_NODES, solicited_node

__all__ = ["ALL_SYSTEMS", "Interface", "link_local"]

ALL_SYSTEMS: Final = bytes((224, 0, 0, 1))
_LINK_LOCAL: Final = ip_address("fe80::").packed[:8]
_LIMITED_BROADCAST: Final = b"\xff" * 4
#: Smallest MTU for IPv4 (RFC 791 3.2); IPv6 is switched off below 1280 (RFC 8200 section 5).
_SMALLEST_MTU: Final = 68
#: Most frames that sockets queue before they are given to the link.
_UNSENT: Final = 64
IPV6_MINIMUM_MTU: Final = 1280


def link_local(mac: bytes) -> bytes:
    """The link-local IPv6 address that is made of a MAC address (RFC 4291 appendix A)."""
    return _LINK_LOCAL + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]


class Interface:
    """One end of an Ethernet link.

    ``mac``: 6 bytes. ``mtu``: most bytes behind the Ethernet header. ``addresses``: with their prefix
    lengths, as ``ip_interface`` reads them; an IPv6 interface has its link-local address as well.
    ``transmit(frames)`` is given whole Ethernet frames, many at a time. ``vlan_id``: the 802.1Q identifier
    of everything that is sent and received, 0 for none. ``announce``: test and announce the addresses when
    the interface is added (:mod:`hoststack.net.detection`); otherwise they are in use at once, and conflicts
    are noticed only when another host shows them. ``loops``: the adapter loops frames to groups back, so a
    test can wait for the echo of its probes. ``takes(mac)``: whether the link takes a frame for this station
    now (:meth:`ndisbus.wire.link.Link.takes`). Raises :class:`LocalProtocolError` for values out of range.
    """

    def __init__(
        self,
        name: str,
        mac: bytes,
        mtu: int,
        addresses: Iterable[IPv4Interface | IPv6Interface | str],
        transmit: Callable[[list[bytes]], object],
        *,
        vlan_id: int = 0,
        announce: bool = True,
        loops: bool = False,
        takes: Callable[[bytes], bool] = lambda _mac: True,
    ) -> None:
        if len(mac) != 6 or mac[0] & 1 or not any(mac):
            raise LocalProtocolError(f"interface {name}: {mac.hex(':')} is not the MAC address of a station")
        if not _SMALLEST_MTU <= mtu <= 0xFFFF:
            raise LocalProtocolError(f"interface {name}: MTU {mtu}: it must be {_SMALLEST_MTU}..65535 bytes")
        if not 0 <= vlan_id < 0xFFF:
            raise LocalProtocolError(f"interface {name}: VLAN {vlan_id}: identifiers are 0..4094")
        self.name = name
        self.mac = mac
        self.mtu = mtu
        self.vlan_id = vlan_id
        self.announce = announce
        self.loops = loops
        self.transmit = transmit
        self._takes = takes
        #: Frames to be sent at the end of the batch.
        self.out: list[bytes] = []
        #: Own addresses -> their network.
        self.local: dict[bytes, IPv4Interface | IPv6Interface] = {}
        #: Multicast and broadcast IP addresses that are ours to hear.
        self.groups: set[bytes] = set()
        #: Destination MAC addresses of frames that are for this station.
        self.accepts: set[bytes] = {mac, BROADCAST}
        #: Own addresses that are being tested: see :mod:`hoststack.net.detection`.
        self.tentative: set[bytes] = set()
        #: Addresses that were given up because another host has them.
        self.refuted: set[bytes] = set()
        #: The link-local address, if the interface made it itself.
        self.made = b""
        for address in addresses:
            self.add(ip_interface(address))
        if any(len(a) == 16 for a in self.local):
            own = link_local(mac)
            if own not in self.local:
                self.made = self.add(IPv6Interface((own, 64)))

    def add(self, address: IPv4Interface | IPv6Interface) -> bytes:
        """Add an own address; returns its bytes. Raises LocalProtocolError if a host cannot have it."""
        packed = address.ip.packed
        if address.ip.is_multicast or address.ip.is_unspecified:
            raise LocalProtocolError(f"interface {self.name}: {address.ip} is not the address of a host")
        if len(packed) == 16 and self.mtu < IPV6_MINIMUM_MTU:
            reason = f"interface {self.name}: IPv6 needs an MTU of {IPV6_MINIMUM_MTU} bytes (RFC 8200), not"
            raise LocalProtocolError(f"{reason} {self.mtu}")
        self.local[packed] = address
        if isinstance(address, IPv6Interface):
            self._hear(ALL_NODES)
            self._hear(solicited_node(packed))
        else:
            self._hear(ALL_SYSTEMS)
            self.groups.add(_LIMITED_BROADCAST)
            if address.network.prefixlen < 31:
                self.groups.add(address.network.broadcast_address.packed)
        return packed

    def _hear(self, group: bytes) -> None:
        self.groups.add(group)
        self.accepts.add(multicast_mac(group))

    def move(self, mac: bytes, mtu: int) -> None:
        """Take the MAC address and MTU of another adapter. IP addresses and connections stay."""
        self.accepts.discard(self.mac)
        self.accepts.add(mac)
        self.mac, self.mtu = mac, mtu

    def withdraw(self, address: bytes) -> None:
        """Stop using an address."""
        self.local.pop(address, None)
        self.tentative.discard(address)

    def silent(self, size: int) -> bool:
        """Whether frames must wait because an address of this length in bytes is being tested."""
        return any(len(a) == size for a in self.tentative)

    def source_for(self, destination: bytes) -> bytes | None:
        """The own address to talk to a next hop or destination from (RFC 6724, the parts that matter here).

        One of the same network, else the first of the same scope, else the first of the family.
        """
        family = [(a, i) for a, i in self.local.items() if len(a) == len(destination)]
        target = ip_address(destination)
        for address, own in family:
            if target in own.network:
                return address
        for address, own in family:
            if own.ip.is_link_local == target.is_link_local:
                return address
        return family[0][0] if family else None

    def header(self, mac: bytes, ethertype: int) -> bytes:
        """Build the Ethernet header of a frame that belongs to no connection."""
        return EthernetHeader(mac, self.mac, ethertype, self.vlan_id or None).build()

    def takes(self, mac: bytes) -> bool:
        """Return whether a socket may send to ``mac``. If not, it waits (:mod:`hoststack.net.turns`)."""
        if len(self.out) >= _UNSENT:
            self.flush()  # the link's answer has to take them into account
        return self._takes(mac)

    def flush(self) -> None:
        """Give the frames that wait to the link."""
        if self.out:
            frames, self.out = self.out, []
            self.transmit(frames)

    def __repr__(self) -> str:
        addresses = ", ".join(str(a) for a in self.local.values())
        return f"Interface({self.name} {self.mac.hex(':')} {addresses or 'no address'})"
