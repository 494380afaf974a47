"""Two TCP machines back to back in one thread: alone, and with headers over a segment in memory.

One core runs both ends. The clock is virtual: it advances when both ends are idle. So timers are measured and
no time is spent waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ndisbus.net.frames import FrameBuilder
from ndisbus.net.identification import IpIdentification
from ndisbus.net.peek import connection_key, peek
from ndisbus.net.tcp import parse_frame
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    PathOffloadStateCached,
    PathOffloadStateConst,
    TcpOffloadStateCached,
)
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.open import active_open, passive_open
from ndisbus.tcp.settings import TcpSettings
from ndisbus.wire.memory import MemoryLink, MemorySegment

__all__ = ["Pair", "Transfer", "bare_pair", "framed_pair", "transfer"]

ADDRESSES: Final = (bytes((10, 77, 0, 1)), bytes((10, 77, 0, 2)))
MACS: Final = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
#: Receive buffer of each end, and the most bytes that wait to be sent.
WINDOW: Final = 262_144
#: Bytes that the application sends or reads at a time.
CHUNK: Final = 65_536

#: Takes the owed segments and delivers them to the other end. Returns their number.
Carrier = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Transfer:
    """The bytes that were moved, and the seconds that both ends took."""

    octets: int
    segments: int
    seconds: float

    def summary(self) -> dict[str, int]:
        """Return the goodput, and the segments of both directions that one core handled, per second."""
        return {
            "goodput_bytes_per_s": round(self.octets / self.seconds),
            "segments_per_s": round(self.segments / self.seconds),
        }


class Pair:
    """Two ends of a connection, ESTABLISHED once made. ``now``: ticks."""

    def __init__(self, near: TcpMachine, far: TcpMachine, now: int, out: Carrier, back: Carrier) -> None:
        self.near, self.far, self.now = near, far, now
        self._out, self._back = out, back

    def carry(self) -> int:
        """Carry all segments that wait in either direction. Returns their number."""
        return self._out(self.now) + self._back(self.now)

    def settle(self) -> None:
        """Carry segments until neither end has any left to send, pending ACKs included."""
        while self.carry() or self.wait():
            pass

    def wait(self) -> bool:
        """Move the clock to the next timer of either end. Returns False if no timer runs."""
        due = [t for t in (self.near.next_deadline(), self.far.next_deadline()) if t is not None]
        if not due:
            return False
        self.now = max(self.now, min(due))
        self.near.on_timer(self.now)
        self.far.on_timer(self.now)
        return True


def _machines(settings: TcpSettings, now: int) -> tuple[TcpMachine, TcpMachine]:
    """Return two ends of an established connection."""
    near = active_open(
        _cached(),
        local_port=50_000,
        remote_port=80,
        iss=1,
        path_const=PathOffloadStateConst(*ADDRESSES),
        path_cached=PathOffloadStateCached(1500),
        settings=settings,
        now=now,
    )
    [syn] = near.transmit(now)
    syn.source_port, syn.destination_port = 50_000, 80
    far = passive_open(
        syn,
        _cached(),
        iss=1_000_000,
        path_const=PathOffloadStateConst(*ADDRESSES[::-1]),
        path_cached=PathOffloadStateCached(1500),
        settings=settings,
        now=now,
    )
    for sender, receiver in ((far, near), (near, far)):
        for segment in sender.transmit(now):
            receiver.receive(segment, now)
    return near, far


def _cached() -> TcpOffloadStateCached:
    return TcpOffloadStateCached(initial_rcv_wnd=WINDOW, ttl_or_hop_limit=64)


def bare_pair(settings: TcpSettings | None = None, now: int = 1000) -> Pair:
    """Return the machines alone: segments pass from one to the other unchanged."""
    near, far = _machines(settings or TcpSettings(), now)

    def carrier(sender: TcpMachine, receiver: TcpMachine) -> Carrier:
        def carry(now: int) -> int:
            segments = sender.transmit(now)
            for segment in segments:
                receiver.receive(segment, now)
            return len(segments)

        return carry

    return Pair(near, far, now, carrier(near, far), carrier(far, near))


def framed_pair(settings: TcpSettings | None = None, now: int = 1000) -> Pair:
    """Return machines with all headers, checksums and demultiplexing, over a segment in memory."""
    near, far = _machines(settings or TcpSettings(), now)
    lan = MemorySegment()
    here, there = lan.station("near"), lan.station("far")
    for link, mac in ((here, MACS[0]), (there, MACS[1])):
        link.send(b"\xff" * 6 + mac + b"\x88\xb5", 0.0)  # the segment learns the stations' addresses
    for link in (here, there):
        link.receive(0.0)

    def builder(machine: TcpMachine, ours: bytes, theirs: bytes) -> FrameBuilder:
        return FrameBuilder(
            machine.const,
            machine.cached,
            machine.path_const,
            machine.path_cached,
            NeighborOffloadStateConst(),
            NeighborOffloadStateCached(theirs),
            source_mac=ours,
            next_id=IpIdentification(upper=False).next_v4,
        )

    def carrier(
        sender: TcpMachine, frames: FrameBuilder, out: MemoryLink, into: MemoryLink, receiver: TcpMachine
    ) -> Carrier:
        def carry(now: int) -> int:
            count = 0
            for segment in sender.transmit(now):
                out.send(frames.frame(segment), 0.0)
                count += 1
            for frame in into.receive(0.0):
                info = peek(frame)
                table[info.key].receive(parse_frame(frame, info), now)
            return count

        const, path = receiver.const, receiver.path_const
        addresses = path.destination_address, path.source_address
        table = {connection_key(*addresses, const.remote_port, const.local_port): receiver}
        return carry

    return Pair(
        near,
        far,
        now,
        carrier(near, builder(near, MACS[0], MACS[1]), here, there, far),
        carrier(far, builder(far, MACS[1], MACS[0]), there, here, near),
    )


def transfer(pair: Pair, seconds: float) -> Transfer:
    """Send from the near to the far end for this time (of this thread), then let everything arrive."""
    near, far, data = pair.near, pair.far, bytes(CHUNK)
    octets = segments = 0
    begin = time.thread_time()
    end = begin + seconds
    while True:
        now = time.thread_time()
        if now >= end and not near.queued:
            return Transfer(octets, segments, now - begin)
        if now < end and near.queued < WINDOW:
            near.send(data)
        moved = pair.carry()
        octets += len(far.read())
        segments += moved
        near.events.clear()
        far.events.clear()
        if not moved:
            pair.wait()
