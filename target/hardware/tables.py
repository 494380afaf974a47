"""The tables of one adapter's hardware: which entries, addresses, identifiers and buffers are in use.

An object gives back everything that it took when it is removed. Without objects :meth:`Hardware.in_use` is
all zeros.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, TypeVar

from target.hardware.config import TargetConfig
from target.hardware.demux import Demux
from target.model.contexts import Context, NeighborContext, PathContext, TcpContext

__all__ = ["Hardware"]

K = TypeVar("K", bound=Hashable)


class Hardware:
    """Entries in use, by layer and by table. Sizes are bytes."""

    def __init__(self, config: TargetConfig) -> None:
        self.config = config
        #: Every context of the adapter by its address, which is the OffloadContext of the layers above.
        self.objects: dict[int, Context] = {}
        #: Returns the context of an OffloadContext (R-HND-02), or None. All lookups go through this.
        self.find: Final = self.objects.get
        #: The connections by addresses and ports.
        self.demux = Demux()
        self.neighbors = 0
        self.paths = 0
        self.connections = 0
        self.vlans: dict[int, int] = {}
        self.macs: dict[bytes, int] = {}
        self.sources: dict[bytes, int] = {}
        self.xmit_bytes = 0
        self.rcv_bytes = 0
        self.buffered_bytes = 0

    # -- room ----------------------------------------------------------------------------------

    @property
    def memory_left(self) -> bool:
        """Return whether the host's memory has room for another context."""
        limit = self.config.host_memory_objects
        return limit is None or len(self.objects) < limit

    def vlan_room(self, vlan: int) -> bool:
        """Return whether a VLAN identifier has or can get an entry. 0 needs no entry."""
        return not vlan or vlan in self.vlans or len(self.vlans) < self.config.vlan_entries

    def mac_room(self, mac: bytes) -> bool:
        """Return whether a source MAC address has or can get an entry. An empty one needs no entry."""
        return not mac or mac in self.macs or len(self.macs) < self.config.hw_address_entries

    def source_room(self, address: bytes) -> bool:
        """Return whether a source IP address has or can get an entry."""
        return address in self.sources or len(self.sources) < self.config.ip_address_entries

    def rcv_room(self, size: int) -> bool:
        """Return whether ``size`` more bytes of receive buffer are free."""
        limit = self.config.rcv_buffer_bytes
        return limit is None or self.rcv_bytes + size <= limit

    # -- taking and giving back ----------------------------------------------------------------

    def add_neighbor(self, neighbor: NeighborContext) -> None:
        """Enter a neighbor, its VLAN identifier and its source MAC address."""
        self.objects[neighbor.address] = neighbor
        self.neighbors += 1
        if neighbor.vlan:
            _take(self.vlans, neighbor.vlan)
        if neighbor.mac:
            _take(self.macs, neighbor.mac)

    def add_path(self, path: PathContext) -> None:
        """Enter a path and its source IP address."""
        self.objects[path.address] = path
        self.paths += 1
        _take(self.sources, path.source)
        self.demux.add_path(path)

    def add_tcp(self, tcp: TcpContext) -> None:
        """Enter a connection and its buffers."""
        self.objects[tcp.address] = tcp
        self.connections += 1
        self.xmit_bytes += self.config.xmit_reserve
        self.rcv_bytes += tcp.rcv_reserved
        if tcp.path.table is not None:
            tcp.path.table[tcp.ports] = tcp

    def remove(self, obj: Context) -> None:
        """Give back everything that an object holds, and unlink it from the object that it depends on."""
        del self.objects[obj.address]
        if isinstance(obj, TcpContext):
            self.connections -= 1
            self.xmit_bytes -= self.config.xmit_reserve
            self.rcv_bytes -= obj.rcv_reserved
            if obj.io is not None:
                self.buffered_bytes -= obj.io.adopted
            table = obj.path.table
            if table is not None and table.get(obj.ports) is obj:
                del table[obj.ports]
            del obj.path.dependents[obj.address]
        elif isinstance(obj, PathContext):
            self.paths -= 1
            _give(self.sources, obj.source)
            self.demux.remove_path(obj)
            del obj.neighbor.dependents[obj.address]
        else:
            self.neighbors -= 1
            if obj.vlan:
                _give(self.vlans, obj.vlan)
            if obj.mac:
                _give(self.macs, obj.mac)

    def reserve_rcv(self, tcp: TcpContext, size: int) -> None:
        """Set the receive buffer that a connection holds to ``size`` bytes (R-UPD-09)."""
        self.rcv_bytes += size - tcp.rcv_reserved
        tcp.rcv_reserved = size

    def in_use(self) -> dict[str, int]:
        """Return how much of each table is in use. All values are 0 without objects."""
        return {
            "neighbor": self.neighbors,
            "path": self.paths,
            "tcp": self.connections,
            "vlans": len(self.vlans),
            "hw_addresses": len(self.macs),
            "ip_addresses": len(self.sources),
            "xmit_bytes": self.xmit_bytes,
            "rcv_bytes": self.rcv_bytes,
            "buffered_bytes": self.buffered_bytes,
        }


def _take(table: dict[K, int], key: K) -> None:
    table[key] = table.get(key, 0) + 1


def _give(table: dict[K, int], key: K) -> None:
    left = table[key] - 1
    if left:
        table[key] = left
    else:
        del table[key]
