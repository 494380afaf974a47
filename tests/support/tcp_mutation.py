"""Segments as a broken remote end, an attacker or a broken wire would send them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.errors import DecodeError
from ndisbus.net.segment import ACK, FIN, PSH, RST, SYN, URG, Segment
from ndisbus.net.tcp import build, parse_segment
from tests.support.tcp_victim import Victim, theirs

__all__ = ["fill", "mutated", "step"]

_M: Final = 0xFFFFFFFF
_OFFSETS: Final = (0, 1, -1, 2, 100, -100, 536, 1459, 1460, 1461, 65_535, 1 << 16, 1 << 30, 1 << 31)
_FIN_OR_SYN_OUT: Final = (
    State.TcpConnectionSynSent,
    State.TcpConnectionSynRcvd,
    State.TcpConnectionFinWait1,
    State.TcpConnectionClosing,
    State.TcpConnectionLastAck,
)
"""An ACK of all leads out of these."""


def _number(rng: Random, near: tuple[int, ...]) -> int:
    """A 32-bit number: any, or close to one of those that matter."""
    choice = rng.random()
    if choice < 0.15:
        return rng.getrandbits(32)
    if choice < 0.5:
        return rng.choice(near) & _M
    if choice < 0.8:
        return (rng.choice(near) + rng.choice(_OFFSETS)) & _M
    return (rng.choice(near) + rng.randint(-3000, 3000)) & _M


def _base(victim: Victim, rng: Random) -> Segment:
    """Something that a remote end might well send."""
    d = victim.machine.delegated
    kind = rng.randrange(9)
    size = rng.choice([1, 10, 536, 1448, 1460, rng.randint(1, 3000)])
    segment = victim.answer()
    if kind < 3:
        segment.flags |= PSH * rng.getrandbits(1)
        segment.payload = bytes(size)
        if kind == 1:
            segment.seq = (segment.seq + rng.randint(0, 5000)) & _M
        elif kind == 2:
            segment.seq = (segment.seq - rng.randint(0, 2 * size)) & _M
    elif kind == 3:
        segment.ack = _number(rng, (d.snd_una, d.snd_nxt, d.snd_max))
    elif kind == 4:
        segment.flags |= rng.choice([FIN, FIN, URG, PSH])
        segment.urgent = rng.getrandbits(16)
    elif kind == 5:
        segment.flags = rng.choice([RST, RST | ACK, SYN, SYN | ACK])
        segment.mss = rng.choice([None, 0, 1, 536, 1460, 65_535])
        segment.window_scale = rng.choice([None, 0, 7, 14, 15, 255])
        segment.sack_permitted = bool(rng.getrandbits(1))
    elif kind == 6:
        segment.window = rng.choice([0, 0, 1, 100, 65_535])
    elif kind == 7:
        segment.seq = (segment.seq - 1) & _M
    else:
        segment.sack = _sack(victim, rng)
    return segment


def _sack(victim: Victim, rng: Random) -> tuple[tuple[int, int], ...]:
    d = victim.machine.delegated
    near = (d.snd_una, d.snd_nxt, d.snd_max)
    return tuple((_number(rng, near), _number(rng, near)) for _ in range(rng.choice([1, 2, 3, 4, 40])))


def _mutate(victim: Victim, rng: Random, segment: Segment) -> None:
    d = victim.machine.delegated
    what = rng.randrange(9)
    if what == 0:
        segment.seq = _number(rng, (d.rcv_nxt, d.rcv_nxt + d.rcv_wnd, victim.irs))
    elif what == 1:
        segment.ack = _number(rng, (d.snd_una, d.snd_nxt, d.snd_max, d.snd_una - d.max_snd_wnd))
    elif what == 2:
        segment.flags = rng.getrandbits(8)
    elif what == 3:
        segment.flags ^= 1 << rng.randrange(8)
    elif what == 4:
        segment.window = rng.choice([0, 1, rng.getrandbits(16), 65_535])
    elif what == 5:
        segment.payload = bytes(rng.choice([0, 1, rng.randint(0, 3000), 60_000]))
    elif what == 6:
        segment.ts_val = rng.choice([None, _number(rng, (d.ts_recent,))])
        segment.ts_ecr = _number(rng, (victim.now + victim.machine.timestamps.delta,))
    elif what == 7:
        segment.sack = _sack(victim, rng)
    else:
        segment.urgent = rng.getrandbits(16)


def _through_bytes(rng: Random, segment: Segment) -> Segment | None:
    """As it comes from a wire that flips bits; None if it is not a segment any more."""
    data = bytearray(build(segment, 0))
    for _ in range(rng.randint(1, 8)):
        # Ports and checksum are not looked at here; the offset of the payload is at 12.
        at = rng.randrange(4, min(len(data), 60))
        data[at] ^= 1 << rng.randrange(8)
    try:
        return parse_segment(bytes(data), None)
    except DecodeError:
        return None


def _moves_on(victim: Victim, segment: Segment) -> bool:
    """Whether the segment may by right end the connection, or lead to another state."""
    d = victim.machine.delegated
    state = victim.machine.state
    if segment.flags & (RST | SYN | FIN) and (segment.seq == d.rcv_nxt or segment.ack == d.snd_max):
        return True
    if state in (State.TcpConnectionSynSent, State.TcpConnectionSynRcvd) and segment.flags & SYN:
        return True
    return state in _FIN_OR_SYN_OUT and segment.ack == d.snd_max


def fill(victim: Victim, segment: Segment) -> None:
    """Give the segment the bytes of the remote end's stream that belong to its sequence number."""
    size = len(segment.payload)
    if victim.machine.state is State.TcpConnectionSynSent and segment.flags & SYN:
        victim.irs = segment.seq  # this SYN says where the stream begins
    # Data on a SYN begins one beyond its number.
    first = (segment.seq + (segment.flags >> 1 & 1) - victim.irs - 1) & _M
    before = (1 << 32) - first
    if 0 < before <= size:
        segment.payload = bytes(before) + theirs(0, size - before)
    else:
        segment.payload = theirs(first, size)


def mutated(victim: Victim, rng: Random, *, foreign: bool) -> Segment | None:
    """The next segment of an attack. Unless ``foreign``, its payload is what belongs to its number."""
    segment = _base(victim, rng)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        _mutate(victim, rng, segment)
    if rng.random() < 0.2:
        changed = _through_bytes(rng, segment)
        if changed is None:
            return None
        segment = changed
    if _moves_on(victim, segment) and rng.random() < 0.995:
        # Now and then it may; else the attack goes on in this state.
        segment.ack = (segment.ack + rng.choice([1, -1, -1, 100, 1 << 31])) & _M
        if victim.machine.state is State.TcpConnectionSynRcvd and segment.flags & SYN:
            segment.flags ^= SYN  # anywhere in the window it would do
        elif victim.machine.state is State.TcpConnectionSynSent:
            segment.flags |= ACK  # of something not sent
        if segment.flags & (RST | SYN | FIN):
            segment.seq = (segment.seq + rng.choice([1, -1, 100, 1 << 31])) & _M
    if foreign:
        segment.payload = rng.randbytes(len(segment.payload))
    else:
        fill(victim, segment)
    if rng.getrandbits(1):
        segment.payload = memoryview(segment.payload)
    return segment


def _idle(victim: Victim, rng: Random) -> None:
    tps = victim.machine.settings.parameters.ticks_per_second
    victim.pass_time(rng.choice([0, 1, max(1, tps // 10), tps, 3 * tps]))


def _offload(victim: Victim, rng: Random) -> None:
    state = victim.machine.state
    if 4 <= state <= 9:  # ESTABLISHED to LAST_ACK
        victim.hand_over(offloaded=bool(rng.getrandbits(1)))


_OWNER: Final[tuple[Callable[[Victim, Random], None], ...]] = (
    _idle,
    _idle,
    lambda victim, rng: victim.send(rng.choice([1, 100, 3000, 20_000])),
    lambda victim, rng: victim.take(rng.choice([None, 1, 1000])),
    lambda victim, rng: victim.take(),
    _offload,
)


def step(victim: Victim, rng: Random, *, foreign: bool) -> int:
    """One step of an attack; the number of segments injected, 0 or 1."""
    if rng.random() < 0.12:
        rng.choice(_OWNER)(victim, rng)
        victim.settle()
        return 0
    segment = mutated(victim, rng, foreign=foreign)
    if segment is None:
        return 0
    victim.genuine = victim.genuine and not foreign
    victim.receive(segment)
    victim.settle()
    return 1
