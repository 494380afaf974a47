"""Uploads that the target merely suggests (R-EVT-06, R-EVT-12, R-EVT-13): what it counts to find out.

Each limit is off unless ``VoluntaryUploads`` sets it. A suggestion that the host declines
is made again when the connection has gone on like that for as long again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndisbus.ddi.enums import TcpUploadReason
from ndisbus.lists.nbl import iter_net_buffers
from target.model import events

if TYPE_CHECKING:
    from target.hardware.adapter import Adapter
    from target.model.contexts import Posted, TcpContext

__all__ = ["Habits"]


class Habits:
    """What one connection has been like since the last suggestion."""

    __slots__ = ("disorder", "fragments", "received", "resent", "sent", "small", "unposted")

    def __init__(self) -> None:
        self.sent = 0
        self.resent = 0
        self.received = 0
        self.disorder = 0
        self.fragments = 0
        #: Indications and small receive requests in a row.
        self.unposted = 0
        self.small = 0

    def segment_in(self, out_of_order: bool) -> None:
        """A segment with data has come."""
        self.received += 1
        if out_of_order:
            self.disorder += 1

    def segment_out(self, resent: bool) -> None:
        """A segment was sent."""
        self.sent += 1
        if resent:
            self.resent += 1

    def rates(self, adapter: Adapter, tcp: TcpContext) -> None:
        """HighDropRate and HighOutOfOrderPackets, once a sample is complete."""
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
        """A datagram of the connection came in fragments: HighFragmentation."""
        self.fragments += 1
        limit = adapter.config.voluntary.fragments
        if limit is not None and self.fragments >= limit:
            self.fragments = 0
            events.request_upload(adapter, tcp, TcpUploadReason.HighFragmentation)

    def indicated(self, adapter: Adapter, tcp: TcpContext) -> None:
        """Data was indicated because no request was posted: NoBufferPreposting."""
        self.unposted += 1
        limit = adapter.config.voluntary.no_preposting
        if limit is not None and self.unposted >= limit:
            self.unposted = 0
            events.request_upload(adapter, tcp, TcpUploadReason.NoBufferPreposting)

    def posted(self, adapter: Adapter, tcp: TcpContext, request: Posted) -> None:
        """A receive request was posted: SmallIO."""
        self.unposted = 0
        limits = adapter.config.voluntary
        if limits.small_io is None:
            return
        size = sum(nb.data_length for nb in iter_net_buffers(request.nbl))
        self.small = self.small + 1 if size < limits.small_io else 0
        if self.small >= limits.small_io_requests:
            self.small = 0
            events.request_upload(adapter, tcp, TcpUploadReason.SmallIO)
