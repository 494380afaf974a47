"""The interface of what runs a connection, for the connection's context and the folders below data/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ndisbus.net.segment import Segment
    from ndisbus.state.images import TcpOffloadStateCached
    from ndisbus.tcp.machine import TcpMachine
    from target.model.posted import Posted

__all__ = ["Flow"]


class Flow(Protocol):
    """The TCP machine of one connection with its surroundings: :class:`target.data.flow.TcpFlow`.

    ``machine`` works on the structures of the connection's context. ``silent``: not even a pending ACK is
    sent when the connection is uploaded. Times are seconds of the driver's clock.
    """

    machine: TcpMachine
    silent: bool

    def arrive(self, segment: Segment, now: float) -> bool:
        """Process a segment from the wire. Returns whether it must wait for the upload that it caused."""
        ...

    def feed(self, segment: Segment, now: float) -> None:
        """Process a segment that the host forwarded."""
        ...

    def pump(self, now: float) -> None:
        """Send the owed segments, and report to the layers above what has happened."""
        ...

    def expire(self, now: float) -> None:
        """Run the timers that have expired."""
        ...

    def write_back(self, now: float) -> None:
        """Write clocks and running timers into the delegated structure."""
        ...

    def update(self, new: TcpOffloadStateCached, now: float) -> None:
        """Take new cached variables."""
        ...

    def path_changed(self, now: float) -> None:
        """Take a new path MTU, or a new neighbor below the path."""
        ...

    def reset(self) -> None:
        """Send an RST. Nothing is sent after it."""
        ...

    def hand_over(self, now: float) -> None:
        """Hand the connection over: pending ACKs are sent, undelivered data returns to the context."""
        ...

    def receive_posted(self, request: Posted) -> None:
        """Count a receive request for the upload heuristics."""
        ...

    def data_indicated(self) -> None:
        """Count a receive indication for the upload heuristics."""
        ...

    def fragment_arrived(self) -> None:
        """Count a fragmented datagram for the upload heuristics."""
        ...
