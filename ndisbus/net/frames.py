"""Frames of one connection, from its neighbor, path and TCP state: the hot path of sending."""

from __future__ import annotations

from collections.abc import Callable

from ndisbus.state_neighbor import NeighborOffloadStateCached, NeighborOffloadStateConst
from ndisbus.state_path import PathOffloadStateCached, PathOffloadStateConst
from ndisbus.state_tcp import TcpOffloadStateCached, TcpOffloadStateConst
from ndisbus.tcp.segment import Segment

__all__ = ["FrameBuilder"]


class FrameBuilder:
    """Segments of one connection to whole Ethernet frames.

    The tag follows R-VLAN-05, DF is set on every IPv4 packet (R-IP-01), ``next_id`` gives the IPv4 identification
    (:meth:`ndisbus.net.identification.IpIdentification.next_v4`, R-IP-02), TTL or hop limit, TOS or traffic class
    and flow label are those of the cached TCP state. Ports and addresses are those of the state, whatever the
    segment says.

    ``source_mac``: the interface's address, used when DlSourceAddress of the neighbor is empty.

    Changes of the structures' members take effect with the next frame; a structure that is replaced by another
    object (an update, a relink) is made known by :meth:`refresh`.
    """

    def __init__(
        self,
        tcp_const: TcpOffloadStateConst,
        tcp_cached: TcpOffloadStateCached,
        path_const: PathOffloadStateConst,
        path_cached: PathOffloadStateCached,
        neighbor_const: NeighborOffloadStateConst,
        neighbor_cached: NeighborOffloadStateCached,
        *,
        source_mac: bytes,
        next_id: Callable[[], int],
    ) -> None:
        raise NotImplementedError

    def refresh(
        self,
        *,
        tcp_cached: TcpOffloadStateCached | None = None,
        path_const: PathOffloadStateConst | None = None,
        path_cached: PathOffloadStateCached | None = None,
        neighbor_const: NeighborOffloadStateConst | None = None,
        neighbor_cached: NeighborOffloadStateCached | None = None,
    ) -> None:
        """Use other structures from now on; those that are not given stay."""
        raise NotImplementedError

    def frame(self, segment: Segment) -> bytes:
        """The whole frame."""
        raise NotImplementedError

    def frames(self, segments: list[Segment]) -> list[bytes]:
        """One frame per segment."""
        return [self.frame(s) for s in segments]
