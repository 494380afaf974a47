"""Upload heuristics: when the target asks for a voluntary upload (R-EVT-06, R-EVT-12, R-EVT-13).

Each limit is off unless :class:`target.hardware.config.VoluntaryUploads` sets it. The host may decline. Then
counting starts again, and the next request comes when the limit is reached again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.lists.nbl import iter_net_buffers
from target.hardware import events

if TYPE_CHECKING:
    from target.hardware.adapter import Adapter
    from target.model.contexts import TcpContext
    from target.model.posted import Posted

__all__ = ["UploadHeuristics"]


class UploadHeuristics:
    """Counts of one connection since its last voluntary upload request."""

    __slots__ = ("disorder", "fragments", "received", "resent", "sent", "small", "unposted")

    def __init__(self) -> None:
        self.sent = 0
        self.resent = 0
        self.received = 0
        self.disorder = 0
        self.fragments = 0
        #: Indications in a row, and small receive requests in a row.
        self.unposted = 0
        self.small = 0

    def segment_in(self, out_of_order: bool) -> None:
        """Count a received segment with data."""
        self.received += 1
        if out_of_order:
            self.disorder += 1

    def segment_out(self, resent: bool) -> None:
        """Count a segment that was sent."""
        self.sent += 1
        if resent:
            self.resent += 1

    def rates(self, adapter: Adapter, tcp: TcpContext) -> None:
        """Check HighDropRate and HighOutOfOrderPackets when a sample is complete."""
        limits = adapter.config.voluntary
        if self.sent >= limits.sample:
            if limits.drop_rate is not None and 100 * self.resent >= limits.drop_rate * self.sent:
                events.request_upload(adapter, tcp, TcpUploadReason.HighDropRate)
            self.sent = self.resent = 0
        if self.received >= limits.sample:
            if limits.out_of_order is not None and 100 * self.disorder >= limits.out_of_order * self.received:
                events.request_upload(adapter, tcp, TcpUploadReason.HighOutOfOrderPackets)
            self.received = self.disorder = 0

    def fragment(self, adapter: Adapter, tcp: TcpContext) -> None:
        """Count a datagram that came in fragments: HighFragmentation."""
        self.fragments += 1
        limit = adapter.config.voluntary.fragments
        if limit is not None and self.fragments >= limit:
            self.fragments = 0
            events.request_upload(adapter, tcp, TcpUploadReason.HighFragmentation)

    def indicated(self, adapter: Adapter, tcp: TcpContext) -> None:
        """Count an indication made because no receive request was posted: NoBufferPreposting."""
        self.unposted += 1
        limit = adapter.config.voluntary.no_preposting
        if limit is not None and self.unposted >= limit:
            self.unposted = 0
            events.request_upload(adapter, tcp, TcpUploadReason.NoBufferPreposting)

    def posted(self, adapter: Adapter, tcp: TcpContext, request: Posted) -> None:
        """Count a posted receive request: SmallIO."""
        self.unposted = 0
        limits = adapter.config.voluntary
        if limits.small_io is None:
            return
        size = sum(nb.data_length for nb in iter_net_buffers(request.nbl))
        self.small = self.small + 1 if size < limits.small_io else 0
        if self.small >= limits.small_io_requests:
            self.small = 0
            events.request_upload(adapter, tcp, TcpUploadReason.SmallIO)
