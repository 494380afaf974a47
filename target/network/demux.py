"""Which connection a frame belongs to: by addresses to the paths, by ports to the connection.

A path's table of ports is made when the first frame for it comes, and kept up from then on: trees of
connections that never see a frame cost nothing here.

With a VlanId of zero a neighbor's connections take frames whatever their tag; with another one they take only
frames tagged with it (R-VLAN-06).
"""

from __future__ import annotations

from target.model.contexts import PathContext, TcpContext

__all__ = ["Demux"]


class Demux:
    """Paths by the addresses of a frame that comes in on them: source, then destination, concatenated."""

    __slots__ = ("_paths",)

    def __init__(self) -> None:
        # Paths through different neighbors may have the same ends.
        self._paths: dict[bytes, list[PathContext]] = {}

    def add_path(self, path: PathContext) -> None:
        """Enter a path."""
        self._paths.setdefault(path.destination + path.source, []).append(path)

    def remove_path(self, path: PathContext) -> None:
        """Take a path out again."""
        key = path.destination + path.source
        paths = self._paths[key]
        paths.remove(path)
        if not paths:
            del self._paths[key]

    def find(self, key: bytes, vlan: int | None) -> tuple[TcpContext | None, bool]:
        """The connection of a TCP packet that came in, and whether there is one only for another tag.

        ``key``: :attr:`ndisbus.net.peek.FrameInfo.key`, addresses and ports; ``vlan``: the identifier of its
        tag, None without one.
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
