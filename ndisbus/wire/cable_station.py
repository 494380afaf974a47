"""Another station of a cable: the socket that sends to it, and the frames that wait for it."""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import Final

__all__ = ["AWAY", "BACKLOG", "FULL", "GONE", "ROOM", "Station"]

#: Frames that wait for one station when senders are asked to wait, too.
ROOM: Final = 256
#: Most frames that wait for one station: room for those whose senders do not ask.
BACKLOG: Final = 4 * ROOM
#: Seconds without taking a frame after which no sender waits for a station any more.
AWAY: Final = 1.0
#: Errors of a station that has gone: its socket is not open, or its file is missing.
GONE: Final = frozenset({errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE})
#: Errors of a station, or a system, that has no room for more.
FULL: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})


class Station:
    """Another station. ``key`` is its name, ``socket`` is connected to it."""

    __slots__ = ("_away", "_moved_at", "key", "socket", "waiting")

    def __init__(self, key: bytes, connected: socket.socket) -> None:
        self.key = key
        self.socket = connected
        self.waiting: deque[bytes] = deque()
        #: When it last took a frame, or the first frame began to wait. Whether that is :data:`AWAY` ago.
        self._moved_at = 0.0
        self._away = False

    @property
    def takes(self) -> bool:
        """Return whether a sender need not wait."""
        return len(self.waiting) < ROOM or self._away

    @property
    def away_at(self) -> float | None:
        """Return when the station counts as away unless it takes a frame; None if it is away."""
        return None if self._away else self._moved_at + AWAY

    def look(self, now: float) -> None:
        """Note whether the station, for which frames wait, has not taken one for long."""
        self._away = now >= self._moved_at + AWAY

    def offer(self, datagram: bytes, now: float) -> int:
        """Send a datagram. Returns 0, or the number of the error. If the station is full, it has to wait."""
        error = _try_send(self.socket, datagram)
        if error in FULL:
            self._moved_at = now
        return error

    def flush(self, now: float) -> tuple[int, int]:
        """Send what waits, as much as the station takes.

        Returns the error that ended it, 0 if nothing waits any more, and how many the system refused.
        """
        waiting, refused = self.waiting, 0
        while waiting:
            error = _try_send(self.socket, waiting[0])
            if error in FULL or error in GONE:
                return error, refused
            self._moved_at, self._away = now, False
            refused += bool(error)
            waiting.popleft()
        return 0, refused


def _try_send(connected: socket.socket, datagram: bytes) -> int:
    """Send a datagram. Returns 0, or the number of the error."""
    try:
        connected.send(datagram)
    except OSError as error:
        return error.errno or errno.EIO
    return 0
