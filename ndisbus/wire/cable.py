"""A cable: a segment whose stations are processes of one machine.

A segment is a directory with one datagram socket for each station. A station sends directly to the others: to
the station that has the frame's destination address if that is known, otherwise to all. Stations come and go
in any order. No process serves the segment.

Each station has a separate socket for each other station. Linux charges an unread datagram to the socket that
sent it. With one socket for all, a stopped station would use up the space of the others. Frames that a
station does not take at once wait for it. From :data:`ROOM` frames on, senders that ask (:meth:`takes`) wait,
too. Frames of senders that do not ask are dropped and counted beyond :data:`BACKLOG`. A station that takes
nothing for :data:`AWAY` seconds makes no sender wait: it may be stopped. Nothing here blocks.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import stat
import time
from pathlib import Path
from typing import Final

from ndisbus.errors import LocalProtocolError
from ndisbus.rundir import IPC_PATH_MAX, locked
from ndisbus.wire.cable_station import BACKLOG, FULL, GONE, Station
from ndisbus.wire.link import ETHERNET_HEADER, ETHERNET_OVERHEAD, LinkError, Medium

__all__ = ["BATCH", "CableLink"]

#: Most frames of one :meth:`CableLink.receive`.
BATCH: Final = 256
#: Most source addresses that a station remembers.
_ADDRESSES: Final = 4096
#: Bytes that the kernel is asked to hold for one station.
_BUFFER: Final = 1 << 20
#: A directory that changed this recently (nanoseconds) may change again without a new change time.
_COARSE: Final = 50_000_000
#: How often to try to take a name while others remove the directory.
_ATTEMPTS: Final = 100
_SUFFIX: Final = ".station"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
#: Seconds between two attempts at a full station on systems where no descriptor tells.
_AGAIN: Final = 0.002


class CableLink(Medium):
    """Station ``name`` on the segment ``directory``. A missing directory is made, for this user only.

    ``segment`` is the name for people, by default the directory's name. A datagram is one byte with the
    length of the sender's name, the name, and the frame. Raises LinkError if a live station has the name, or
    if the directory cannot be used.

    A frame to several stations counts as sent once, and as dropped for each station that does not get it.
    Reasons: ``full`` (the station does not take frames), ``gone``, ``alone`` (there is no other station),
    ``refused`` (by the system), ``too long``, ``too short``, ``malformed`` (not a datagram of a station).
    """

    def __init__(
        self, directory: str | Path, name: str, *, mtu: int = 1500, segment: str | None = None
    ) -> None:
        if not _NAME.fullmatch(name):
            raise LinkError(
                f"'{name}' cannot be the name of a station: use up to 40 letters, digits, '.', '_' and '-', "
                "the first one a letter or a digit"
            )
        self._directory = Path(directory).absolute()
        self._path = self._directory / (name + _SUFFIX)
        size = len(os.fsencode(self._path))
        if size > IPC_PATH_MAX:
            raise LinkError(
                f"cable {self._directory}: a socket's path in it has {size} bytes, and this system allows "
                f"{IPC_PATH_MAX}; set NDISBUS_RUNTIME_DIR to a shorter directory"
            )
        self.station = name
        super().__init__(f"cable:{segment or self._directory.name}", mtu)
        self._prefix = bytes((len(name),)) + name.encode()
        #: The other stations by their names, as datagrams carry these.
        self._stations: dict[bytes, Station] = {}
        self._by_fd: dict[int, Station] = {}
        #: Source address -> the station that last sent from it.
        self._behind: dict[bytes, bytes] = {}
        #: Change time of the directory when it was last read; None: read it again.
        self._seen: int | None = None
        self._closed = False
        self._socket, self._made = self._enter()
        #: The stations for which frames wait.
        self._full: set[Station] = set()
        #: Linux only. Without it the stations are tried again periodically.
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._retry = 0.0
        if self._epoll is not None:
            self._epoll.register(self._socket, select.EPOLLIN)

    @property
    def stations(self) -> list[str]:
        """Return the names of the other stations, sorted.

        A killed one stays until something is sent to it.
        """
        self._look()
        return sorted(key.decode() for key in self._stations)

    def send(self, frame: bytes, now: float) -> None:
        """Send a frame: see Link. Raises LocalProtocolError once closed."""
        if self._closed:
            raise LocalProtocolError(f"station {self.station} has left {self.name}")
        size, c = len(frame), self._counters
        if not self.fits(size):
            return
        c.sent += 1
        c.sent_bytes += size
        datagram = self._prefix + frame
        if not frame[0] & 1:
            key = self._behind.get(frame[:6])
            if key is not None:
                if key not in self._stations:
                    self._look()
                if key in self._stations and self._send(self._stations[key], datagram, now):
                    return
        self._flood(datagram, now)

    def takes(self, mac: bytes) -> bool:
        """Return whether a frame to this address is taken now: see Link."""
        if not self._full:
            return True
        station = self._stations.get(self._behind.get(mac, b""))
        return station is None or station.takes

    def receive(self, now: float) -> list[bytes]:
        """Return arrived frames: see Link.

        Also sends frames that waited for a station that takes them again.
        """
        frames: list[bytes] = []
        if self._closed:
            return frames
        if self._epoll is None:
            self._retry = now + _AGAIN
            self._receive(frames)
            for station in list(self._full):
                self._flush(station, now)
                station.look(now)
            return frames
        for fd, _ in self._epoll.poll(0):
            if fd == self._socket.fileno():
                self._receive(frames)
            elif fd in self._by_fd:
                self._flush(self._by_fd[fd], now)
        for station in self._full:
            station.look(now)
        return frames

    def next_deadline(self) -> float | None:
        """Return when a full station counts as away; without epoll, when full stations are tried again."""
        if not self._full:
            return None
        if self._epoll is None:
            return self._retry
        return min((at for s in self._full if (at := s.away_at) is not None), default=None)

    def fileno(self) -> int | None:
        """Return a descriptor, readable when frames have arrived or a full station takes frames again."""
        if self._closed:
            return None
        return self._socket.fileno() if self._epoll is None else self._epoll.fileno()

    def close(self) -> None:
        """Leave: remove the socket's file. The last station also removes the directory."""
        if self._closed:
            return
        self._closed = True
        if self._epoll is not None:
            self._epoll.close()
        self._full.clear()
        for station in self._stations.values():
            station.socket.close()
        self._stations.clear()
        self._by_fd.clear()
        # Do not wait: a stopped process that holds the lock would stop us too. The next station that leaves
        # removes what dead stations have left.
        with contextlib.suppress(FileNotFoundError), locked(self._directory, wait=False) as held:
            # While our socket is open no other station has the name, but the directory may be a new one.
            if _identity(self._path) == self._made:
                self._path.unlink()
            if held:
                for path in filter(_is_stale, self._directory.glob("*" + _SUFFIX)):
                    path.unlink(missing_ok=True)
            # With or without the lock, since two may leave at once. It fails unless this is the last station.
            # A station that enters now makes the directory again.
            with contextlib.suppress(OSError):
                self._directory.rmdir()
        self._socket.close()

    # -- stations ------------------------------------------------------------------------------

    def _enter(self) -> tuple[socket.socket, tuple[int, int]]:
        """Take the name: make the directory, and remove what a dead station of this name left."""
        for _ in range(_ATTEMPTS):
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                with locked(self._directory):
                    self._clear_name()
                    own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                    try:
                        own.setblocking(False)
                        own.bind(str(self._path))
                        return own, _identity(self._path)
                    except BaseException:
                        own.close()
                        raise
            except FileNotFoundError:
                # The last station removed the directory between two of these steps.
                continue
            except OSError as error:
                raise LinkError(f"cable {self._directory}: {error.strerror}") from error
        raise LinkError(f"cable {self._directory}: the directory was removed {_ATTEMPTS} times; try again")

    def _clear_name(self) -> None:
        if _is_stale(self._path):
            self._path.unlink(missing_ok=True)
        elif self._path.is_socket():
            raise LinkError(
                f"{self._name} already has a station {self.station}; "
                "give this one another name (station=NAME)"
            )
        elif self._path.exists():
            raise LinkError(f"{self._path} exists and is not a socket; move it away")

    def _look(self) -> None:
        """Update the list of stations if the directory has changed."""
        try:
            changed = self._directory.stat().st_mtime_ns
            if changed == self._seen:
                return
            # Keep the change time only when no later change can have the same time.
            self._seen = changed if abs(time.time_ns() - changed) > _COARSE else None
            names = [p.name.removesuffix(_SUFFIX) for p in self._directory.glob("*" + _SUFFIX)]
        except FileNotFoundError:
            return
        found = {n.encode() for n in names if _NAME.fullmatch(n) and n != self.station}
        for key in sorted(found - self._stations.keys()):
            self._join(key)
        for key in self._stations.keys() - found:
            self._drop(self._stations[key])

    def _join(self, key: bytes) -> None:
        path = self._directory / (key.decode() + _SUFFIX)
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        connected.setblocking(False)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        try:
            connected.connect(str(path))
        except OSError as error:
            connected.close()
            if error.errno not in GONE:
                # Not a station of ours. Go on with the others.
                self._counters.drop("refused")
                return
            with contextlib.suppress(FileNotFoundError), locked(self._directory, wait=False) as held:
                if held and _is_stale(path):
                    path.unlink()
            return
        self._stations[key] = self._by_fd[connected.fileno()] = Station(key, connected)

    def _drop(self, station: Station) -> None:
        """Remove a station that has gone, and the frames for it.

        Frames to its addresses are flooded again.
        """
        for _ in station.waiting:
            self._counters.drop("gone")
        self._full.discard(station)
        del self._stations[station.key]
        del self._by_fd[station.socket.fileno()]
        # Closing also removes it from the epoll set.
        station.socket.close()
        self._behind = {a: k for a, k in self._behind.items() if k != station.key}
        self._seen = None

    # -- frames --------------------------------------------------------------------------------

    def _flood(self, datagram: bytes, now: float) -> None:
        self._look()
        if not self._stations:
            self._counters.drop("alone")
        gone = [s.key for s in list(self._stations.values()) if not self._send(s, datagram, now)]
        if gone:
            # A killed station may be back under its name, with another socket.
            self._look()
            for key in gone:
                if key not in self._stations or not self._send(self._stations[key], datagram, now):
                    self._counters.drop("gone")

    def _send(self, station: Station, datagram: bytes, now: float) -> bool:
        """Send, keep or drop a datagram. Returns False if the station has gone and was removed."""
        waiting = station.waiting
        if not waiting:
            error = station.offer(datagram, now)
            if error == 0:
                return True
            if error in GONE:
                self._drop(station)
                return False
            if error not in FULL:
                self._counters.drop("refused")
                return True
            self._full.add(station)
            if self._epoll is not None:
                self._epoll.register(station.socket, select.EPOLLOUT)
        if len(waiting) < BACKLOG:
            waiting.append(datagram)
        else:
            self._counters.drop("full")
        return True

    def _flush(self, station: Station, now: float) -> None:
        error, refused = station.flush(now)
        for _ in range(refused):
            self._counters.drop("refused")
        if error in GONE:
            self._drop(station)
        if error:
            return
        self._full.discard(station)
        if self._epoll is not None:
            self._epoll.unregister(station.socket)

    def _receive(self, frames: list[bytes]) -> None:
        recv, c, behind = self._socket.recv, self._counters, self._behind
        longest = self._mtu + ETHERNET_OVERHEAD
        # One byte more than fits, so that a datagram that is too long is recognised.
        room = 1 + 40 + longest + 1
        for _ in range(BATCH):
            try:
                datagram = recv(room)
            except BlockingIOError:
                return
            start = 1 + datagram[0] if datagram else 0
            frame = datagram[start:]
            if not 1 < start <= 41 or len(frame) < ETHERNET_HEADER:
                c.drop("malformed")
                continue
            if len(frame) > longest:
                c.drop("too long")
                continue
            key, source = datagram[1:start], frame[6:12]
            if behind.get(source) != key and not source[0] & 1:
                if len(behind) >= _ADDRESSES:
                    # Forget the oldest address: frames to it are flooded again.
                    del behind[next(iter(behind))]
                behind[source] = key
            c.received += 1
            c.received_bytes += len(frame)
            frames.append(frame)


def _identity(path: Path) -> tuple[int, int]:
    """Return device and inode of the file at a path."""
    about = path.lstat()
    return about.st_dev, about.st_ino


def _is_stale(path: Path) -> bool:
    """Return whether a path leads to a socket that no process has open. Other files do not count."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            # Tells whether a process has it open, without disturbing that process, even a stopped one.
            probe.connect(str(path))
    except ConnectionRefusedError:
        return True
    except OSError:
        # The file does not exist, or is a socket of another kind.
        pass
    return False
