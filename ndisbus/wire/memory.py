"""A segment in memory, for the simulation: its stations receive frames at once.

Sans-I/O. A segment is a switch. It learns which station has an address. It floods frames for a group, and
frames for an address that has not been a source yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from ndisbus.errors import LocalProtocolError
from ndisbus.wire.link import Medium

__all__ = ["MemoryLink", "MemorySegment"]

#: Most frames that a station keeps until they are asked for.
QUEUE: Final = 65536
#: Most source addresses that a segment remembers.
_ADDRESSES: Final = 4096


class MemorySegment:
    """Stations in one process. ``queue`` is the most frames that each keeps until it is asked for them."""

    def __init__(self, name: str = "memory", *, mtu: int = 1500, queue: int = QUEUE) -> None:
        self.name = name
        self.mtu = mtu
        self.queue = queue
        self._stations: dict[str, MemoryLink] = {}
        #: Source address -> the station that last sent from it.
        self._behind: dict[bytes, MemoryLink] = {}

    def station(self, name: str) -> MemoryLink:
        """Return a new station. Raises LocalProtocolError if there is already one of that name."""
        if name in self._stations:
            raise LocalProtocolError(f"segment {self.name} already has a station {name}; choose another name")
        link = self._stations[name] = MemoryLink(self, name)
        return link

    def _carry(self, frame: bytes, sender: MemoryLink, now: float) -> None:
        destination, source = frame[:6], frame[6:12]
        if not source[0] & 1 and self._behind.get(source) is not sender:
            if len(self._behind) >= _ADDRESSES:
                # Forget the oldest address: frames to it are flooded again.
                del self._behind[next(iter(self._behind))]
            self._behind[source] = sender
        only = None if destination[0] & 1 else self._behind.get(destination)
        if only is None:
            for station in list(self._stations.values()):
                if station is not sender:
                    station._arrive(frame, now)
        elif only is not sender:
            only._arrive(frame, now)

    def _leave(self, link: MemoryLink) -> None:
        del self._stations[link.station]
        self._behind = {a: s for a, s in self._behind.items() if s is not link}


class MemoryLink(Medium):
    """A station of a :class:`MemorySegment`.

    ``on_frame(now)`` is called when a frame arrives and none was waiting. It must not call :meth:`receive`
    itself, because a frame is being sent. Without ``on_frame``, use :meth:`next_deadline`. Frames beyond the
    segment's queue are dropped as ``full``.
    """

    __slots__ = ("_open", "_segment", "_since", "_waiting", "on_frame", "station")

    def __init__(self, segment: MemorySegment, station: str) -> None:
        super().__init__(f"memory:{segment.name}", segment.mtu)
        self.station = station
        self.on_frame: Callable[[float], object] | None = None
        self._segment = segment
        self._waiting: deque[bytes] = deque()
        #: When the oldest waiting frame arrived.
        self._since = 0.0
        self._open = True

    @property
    def mtu(self) -> int:
        """Most bytes behind the Ethernet header, the same for the whole segment."""
        return self._segment.mtu

    @property
    def waiting(self) -> int:
        """Number of frames that have arrived and were not asked for yet."""
        return len(self._waiting)

    def send(self, frame: bytes, now: float) -> None:
        """Put the frame into the queues of its receivers. Raises LocalProtocolError once closed."""
        if not self._open:
            raise LocalProtocolError(f"station {self.station} has left {self.name}")
        size = len(frame)
        if not self.fits(size):
            return
        self._counters.sent += 1
        self._counters.sent_bytes += size
        self._segment._carry(frame, self, now)

    def receive(self, now: float) -> list[bytes]:
        """Return all frames that have arrived."""
        frames = list(self._waiting)
        self._waiting.clear()
        return frames

    def next_deadline(self) -> float | None:
        """Return when the oldest waiting frame arrived; None if no frame waits."""
        return self._since if self._waiting else None

    def fileno(self) -> int | None:
        """Return None: there is no descriptor."""
        return None

    def close(self) -> None:
        """Leave the segment. Waiting frames are lost."""
        if self._open:
            self._open = False
            self._waiting.clear()
            self._segment._leave(self)

    def _arrive(self, frame: bytes, now: float) -> None:
        waiting = self._waiting
        if len(waiting) >= self._segment.queue:
            self._counters.drop("full")
            return
        self._counters.received += 1
        self._counters.received_bytes += len(frame)
        waiting.append(frame)
        if len(waiting) == 1:
            self._since = now
            if self.on_frame is not None:
                self.on_frame(now)
