"""What the stack counts of each IP version: the MIB counters (RFC 4293, RFC 4022) that a target has as well.

The structures are those in which a target reports its own (IP_OFFLOAD_STATS, TCP_OFFLOAD_STATS), so that
they can be added (R-STAT-09). Connections that are offloaded are not counted here: their target does that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from ndisbus.enums import TcpOffloadConnectionState as State
from ndisbus.struct_base import members_of
from ndisbus.structures import IpOffloadStats, Struct, TcpOffloadStats
from ndisbus.tcp.segment import RST
from ndisbus.tcp.sequence import lt, seq_add, seq_diff

if TYPE_CHECKING:
    from hoststack.net.socket import Socket
    from ndisbus.tcp.segment import Segment

__all__ = ["Tally", "added", "segments_out"]

_ESTABLISHED = frozenset((State.TcpConnectionEstablished, State.TcpConnectionCloseWait))

S = TypeVar("S", bound=Struct)


class Tally:
    """The counters of one IP version."""

    __slots__ = ("ip", "tcp")

    def __init__(self) -> None:
        self.ip = IpOffloadStats()
        self.tcp = TcpOffloadStats()

    def established(self, sockets: Iterable[Socket]) -> TcpOffloadStats:
        """The TCP counters, with CurrentlyEstablished counted over the sockets that the host serves."""
        mine = [s for s in sockets if s.machine is not None and s.way.tally is self]
        self.tcp.currently_established = sum(s.state in _ESTABLISHED for s in mine)
        return self.tcp


def segments_out(tally: Tally, segments: list[Segment], frames: list[bytes], header: int, high: int) -> int:
    """Count segments that are sent, as whole frames with ``header`` bytes of Ethernet each.

    ``high``: one beyond the highest sequence number that was sent before; returns what it is now. OutSegments
    leaves out what is nothing but a retransmission (R-STAT-05).
    """
    ip, tcp = tally.ip, tally.tcp
    ip.out_requests += len(frames)
    ip.out_octets += sum(map(len, frames)) - header * len(frames)
    for segment in segments:
        length = segment.length
        if length and lt(segment.seq, high):
            tcp.retransmitted_segments += 1
            if seq_diff(high, segment.seq) >= length:
                continue
        tcp.out_segments += 1
        if length:
            high = seq_add(segment.seq, length)
        if segment.flags & RST:
            tcp.out_resets += 1
    return high


def added(own: S, theirs: S) -> S:
    """The sums of the counters of two structures, wrapped to the width of each (R-STAT-03, R-STAT-09)."""
    counters = {
        name: (getattr(own, name) + getattr(theirs, name)) & (1 << (64 if m.c_type == "ULONG64" else 32)) - 1
        for name, m in members_of(type(own))
    }
    return type(own)(**counters)
