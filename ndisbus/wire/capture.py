"""Capture: write what passes a link to a pcapng file for Wireshark and tshark.

The module has its own writer of the four blocks that are needed (draft-ietf-opsawg-pcapng: section header,
interface description, enhanced packet; options for direction and comment). Little-endian, times in
nanoseconds.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, Final

from ndisbus.wire.impair import ImpairedLink
from ndisbus.wire.link import ETHERNET_OVERHEAD, Link, LinkError, LinkWrapper

__all__ = ["CaptureLink", "PcapngWriter"]

_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_PACKET: Final = 6
_ETHERNET: Final = 1
_OPT_COMMENT: Final = 1
_OPT_USER_APPLICATION: Final = 4
_IF_NAME: Final = 2
_IF_TIME_RESOLUTION: Final = 9
_PACKET_FLAGS: Final = 2
_PACKET_HEAD: Final = struct.Struct("<IIIIIII")
#: Options of a packet without a comment: its flags, and the end.
_FLAGS: Final = struct.Struct("<HHIHH")
#: The two bits of the flags that give the direction.
INBOUND: Final = 1
OUTBOUND: Final = 2


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


class PcapngWriter:
    """A section with one Ethernet interface. ``file`` is binary; the caller opens and closes it.

    ``origin`` is the time of day at which the caller's clock was 0, in nanoseconds since 1970. Each call
    writes whole blocks to ``file`` at once.
    """

    def __init__(self, file: BinaryIO, *, name: str, mtu: int, origin: int = 0) -> None:
        self._file = file
        self._origin = origin
        end = _option(0, b"")
        file.write(
            _block(
                _SECTION,
                struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
                + _option(_OPT_USER_APPLICATION, b"tcp-chimney")
                + end,
            )
            + _block(
                _INTERFACE,
                struct.pack("<HHI", _ETHERNET, 0, mtu + ETHERNET_OVERHEAD)
                + _option(_IF_NAME, name.encode())
                + _option(_IF_TIME_RESOLUTION, b"\x09")
                + end,
            )
        )

    def packet(self, frame: bytes, now: float, direction: int, comment: str = "") -> bytes:
        """Return the block of one frame. :meth:`write` takes any number of blocks."""
        size = len(frame)
        time = self._origin + int(now * 1e9)
        options = _FLAGS.pack(_PACKET_FLAGS, 4, direction, 0, 0)
        if comment:
            options = _option(_OPT_COMMENT, comment.encode()) + options
        padding = -size % 4
        total = 32 + size + padding + len(options)
        head = _PACKET_HEAD.pack(_PACKET, total, 0, time >> 32 & 0xFFFFFFFF, time & 0xFFFFFFFF, size, size)
        return b"".join((head, frame, bytes(padding), options, struct.pack("<I", total)))

    def write(self, blocks: bytes) -> None:
        """Write blocks to the file."""
        self._file.write(blocks)


class CaptureLink(LinkWrapper):
    """``inner``, with everything that passes written to ``path``: a new file that only its owner can read.

    Each frame is in the file once it was sent or handed on, even if the process is killed then. The comment
    of a frame says what impairments below did to it. A sent frame is shown as it was given, a received one as
    it is handed on. A frame that was lost on the way in is there too. ``origin``: see :class:`PcapngWriter`.
    If the file cannot be written any more, the link continues without it, and ``error`` says why. Raises
    LinkError if the file cannot be made.
    """

    __slots__ = ("_file", "_notes", "_writer", "error", "path")

    def __init__(self, inner: Link, path: str | Path, *, origin: int = 0) -> None:
        super().__init__(inner)
        self.path = Path(path)
        #: Why nothing is written any more; "" while frames are written.
        self.error: str | None = None
        #: Reports of the impairments since the last frame: direction, frame, text.
        self._notes: list[tuple[str, bytes, str]] = []
        try:
            # Unbuffered, so that the file is complete even if the process is killed.
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._file: BinaryIO | None = os.fdopen(handle, "wb", buffering=0)
            self._writer = PcapngWriter(self._file, name=inner.name, mtu=inner.mtu, origin=origin)
        except OSError as error:
            raise LinkError(f"capture {self.path}: {error.strerror}") from error
        below: Link | None = inner
        while below is not None:
            if isinstance(below, ImpairedLink):
                below.on_fault = self._note
            below = below.inner

    def send(self, frame: bytes, now: float) -> None:
        """Send a frame and write it: see :class:`ndisbus.wire.link.Link`."""
        self._inner.send(frame, now)
        if self._file is not None:
            what = [w for direction, _, w in self._notes if direction == "out"]
            self._write(self._writer.packet(frame, now, OUTBOUND, "; ".join(what)))

    def receive(self, now: float) -> list[bytes]:
        """Return arrived frames and write them: see :class:`ndisbus.wire.link.Link`."""
        frames = self._inner.receive(now)
        if self._file is not None and (frames or self._notes):
            notes = {id(frame): what for direction, frame, what in self._notes if direction == "in"}
            packet = self._writer.packet
            blocks = [packet(f, now, INBOUND, notes.pop(id(f), "") if notes else "") for f in frames]
            # The remaining reports are about frames that were lost on the way in.
            blocks += [packet(f, now, INBOUND, what) for _, f, what in self._notes if id(f) in notes]
            self._write(b"".join(blocks))
        return frames

    def close(self) -> None:
        """Close the file and the inner link: see :class:`ndisbus.wire.link.Link`."""
        self._inner.close()
        self._shut()

    def _note(self, direction: str, frame: bytes, what: str, now: float) -> None:
        if self._file is not None:
            self._notes.append((direction, frame, what))

    def _write(self, blocks: bytes) -> None:
        self._notes.clear()
        try:
            self._writer.write(blocks)
        except OSError as error:
            self.error = f"capture {self.path}: {error.strerror}; nothing more is written"
            self._shut()

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
