"""The connection that a frame belongs to: the addresses lead to paths, the ports to the connection.

A path's table of ports is made when the first frame for the path arrives, and is kept up to date after that.
Connections without frames cost nothing here.

If the VlanId of a neighbor is zero, its connections take frames with any tag or none. Otherwise they take
only frames tagged with that identifier (R-VLAN-06).
"""

from __future__ import annotations

from target.model.contexts import PathContext, TcpContext

__all__ = ["Demux"]


class Demux:
    """Paths by the addresses of the frames that arrive on them: source and destination, concatenated."""

    __slots__ = ("_paths",)

    def __init__(self) -> None:
        # Paths through different neighbors may have the same addresses.
        self._paths: dict[bytes, list[PathContext]] = {}

    def add_path(self, path: PathContext) -> None:
        """Enter a path."""
        self._paths.setdefault(path.destination + path.source, []).append(path)

    def remove_path(self, path: PathContext) -> None:
        """Remove a path."""
        key = path.destination + path.source
        paths = self._paths[key]
        paths.remove(path)
        if not paths:
            del self._paths[key]

    def find(self, key: bytes, vlan: int | None) -> tuple[TcpContext | None, bool]:
        """Return the connection of a received TCP segment, and whether one exists only for another VLAN tag.

        ``key``: :attr:`ndisbus.net.peek.FrameInfo.key`, addresses and ports. ``vlan``: the identifier in the
        tag of the frame, None if it is not tagged.
        """
        paths = self._paths.get(key[:-4])
        if paths is None:
            return None, False
        ports = int.from_bytes(key[-4:], "big")
        untagged = None
        elsewhere = False
        for path in paths:
            table = path.table
            if table is None:
                table = path.table = {tcp.ports: tcp for tcp in path.dependents.values()}
            tcp = table.get(ports)
            if tcp is None:
                continue
            wanted = path.neighbor.vlan
            if not wanted:
                untagged = tcp
            elif wanted == vlan:
                return tcp, False
            else:
                elsewhere = True
        return untagged, elsewhere and untagged is None
