"""A remote host for a target on a wire in memory: what it sends and hears is whole frames.

:class:`Far` is a bare station that makes and reads frames of connections; :class:`FarEnd` is one end of a
connection with a TCP machine of its own, mirrored from what the target was given.
"""

from __future__ import annotations

from typing import Any

from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.errors import DecodeError
from ndisbus.net.frames import FrameBuilder
from ndisbus.net.identification import IpIdentification
from ndisbus.net.peek import FrameInfo, connection_key, peek
from ndisbus.net.segment import Segment
from ndisbus.net.tcp import parse_frame
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    PathOffloadStateCached,
    PathOffloadStateConst,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
)
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.owner import ticks_of
from ndisbus.tcp.settings import TcpSettings
from ndisbus.wire.memory import MemoryLink

__all__ = ["FAR_MAC", "NIC_MAC", "Far", "FarEnd", "builder", "play"]

NIC_MAC = b"\x02\x00\x00\x00\x00\x01"
FAR_MAC = b"\x02\x00\x00\x00\x00\x09"
LOCAL, REMOTE = b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02"


class Far:
    """A station that records what it hears: ``heard`` holds (frame, what peek says, segment or None)."""

    def __init__(self, link: MemoryLink) -> None:
        self.link = link
        self.heard: list[tuple[bytes, FrameInfo, Segment | None]] = []

    def listen(self, now: float = 0.0) -> list[tuple[bytes, FrameInfo, Segment | None]]:
        """What has arrived since; it is recorded as well."""
        new = []
        for frame in self.link.receive(now):
            try:
                info = peek(frame)
                segment = parse_frame(frame, info) if info.protocol == 6 and not info.fragment else None
            except DecodeError:
                continue  # the wire did that
            new.append((frame, info, segment))
        self.heard += new
        return new

    def segments(self) -> list[Segment]:
        """The TCP segments heard so far, which are then forgotten."""
        self.listen()
        out = [s for _, _, s in self.heard if s is not None]
        self.heard.clear()
        return out

    def frames(self) -> list[bytes]:
        """The frames heard so far, which are then forgotten."""
        self.listen()
        out = [f for f, _, _ in self.heard]
        self.heard.clear()
        return out

    def send(self, frame: bytes, now: float = 0.0) -> None:
        """Put a frame on the wire."""
        self.link.send(frame, now)


def builder(
    *,
    remote: int = 80,
    local: int = 5000,
    addresses: tuple[bytes, bytes] = (LOCAL, REMOTE),
    vlan: int = 0,
    priority: int = 0,
    to: bytes = NIC_MAC,
) -> FrameBuilder:
    """Builds frames that the remote end of a connection sends; arguments are as the target sees it."""
    here, there = addresses
    return FrameBuilder(
        TcpOffloadStateConst(remote_port=local, local_port=remote),
        TcpOffloadStateCached(ttl_or_hop_limit=64, user_priority=priority),
        PathOffloadStateConst(there, here),
        PathOffloadStateCached(1500),
        NeighborOffloadStateConst(FAR_MAC, vlan),
        NeighborOffloadStateCached(to),
        source_mac=FAR_MAC,
        next_id=IpIdentification(upper=False).next_v4,
    )


class FarEnd:
    """The remote end of a connection, alive: the mirror image of the target's structures."""

    def __init__(
        self,
        const: TcpOffloadStateConst,
        cached: TcpOffloadStateCached,
        delegated: TcpOffloadStateDelegated,
        *,
        addresses: tuple[bytes, bytes] = (LOCAL, REMOTE),
        window: int = 65535,
        mtu: int = 1500,
        parameters: NdisTcpConnectionOffloadParameters | None = None,
        to: bytes = NIC_MAC,
        seen: int = 0,
    ) -> None:
        """``seen``: bytes from SndUna on that have arrived here already, and whose ACK was lost."""
        self.settings = TcpSettings(parameters=parameters or NdisTcpConnectionOffloadParameters())
        here, there = addresses
        d = delegated
        flipped = TcpOffloadStateDelegated(
            state=d.state,
            rcv_nxt=(d.snd_una + seen) & 0xFFFFFFFF,
            rcv_wnd=window,
            snd_una=d.rcv_nxt,
            snd_nxt=d.rcv_nxt,
            snd_max=d.rcv_nxt,
            snd_wnd=d.rcv_wnd,
            max_snd_wnd=d.rcv_wnd,
            send_wl1=d.snd_una,
            c_wnd=20_000,
            ss_thresh=1 << 20,
            ts_recent=d.ts_time,
            ts_time=d.ts_recent,
        )
        self.machine = TcpMachine(
            TcpOffloadStateConst(
                flags=const.flags,
                remote_port=const.local_port,
                local_port=const.remote_port,
                snd_wind_scale=const.rcv_wind_scale,
                rcv_wind_scale=const.snd_wind_scale,
                remote_mss=const.remote_mss,
            ),
            TcpOffloadStateCached(initial_rcv_wnd=window, ttl_or_hop_limit=64),
            flipped,
            path_const=PathOffloadStateConst(there, here),
            path_cached=PathOffloadStateCached(mtu),
            settings=self.settings,
            now=0,
        )
        self.builder = builder(remote=const.remote_port, local=const.local_port, addresses=addresses, to=to)
        # What the target sends is from it, to here.
        self.key = connection_key(here, there, const.local_port, const.remote_port)
        self.received = bytearray()
        self.events: list[TcpEvent] = []

    def ticks(self, now: float) -> int:
        return ticks_of(now, self.settings.parameters.ticks_per_second)

    def hear(self, heard: list[tuple[bytes, FrameInfo, Segment | None]], now: float) -> None:
        """Take what is for this end."""
        for _, info, segment in heard:
            if segment is not None and info.key == self.key:
                self.machine.receive(segment, self.ticks(now))
                self.received += self.machine.read()

    def frames(self, now: float) -> list[bytes]:
        """Timers, and everything that is owed now."""
        self.machine.on_timer(self.ticks(now))
        out = [self.builder.frame(s) for s in self.machine.transmit(self.ticks(now))]
        self.events += self.machine.events
        self.machine.events.clear()
        return out

    def next_deadline(self) -> float | None:
        due = self.machine.next_deadline()
        return None if due is None else due / self.settings.parameters.ticks_per_second

    def kinds(self) -> list[EventKind]:
        """Events so far, by kind."""
        return [e.kind for e in self.events]


def play(h: Any, far: Far, ends: list[FarEnd], seconds: float = 0.0, *, until: Any = None) -> None:
    """Let the target of a harness and the far ends talk until nothing is due within ``seconds``."""
    end = h.now + seconds
    for _ in range(100_000):
        if until is not None and until():
            return
        busy = False
        h.port.on_timer(h.now)
        h.pump()
        heard = far.listen(h.now)
        for e in ends:
            e.hear(heard, h.now)
            for frame in e.frames(h.now):
                far.send(frame, h.now)
                busy = True
        if busy or heard:
            continue
        due = [d for d in (h.port.next_deadline(), *(e.next_deadline() for e in ends)) if d is not None]
        at = min(due, default=None)
        if at is None or at > end:
            h.now = end
            h.port.on_timer(h.now)
            h.pump()
            return
        h.now = max(h.now, at)
    raise AssertionError("they never stop talking")
