"""A segment that is dropped, or answered by a challenge ACK, changes nothing in the connection."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.net.segment import ACK, FIN, RST, SYN, URG, Segment
from ndisbus.tcp.ack_clock import AckClock
from ndisbus.tcp.challenge_limit import ChallengeLimit
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.keepalive import KeepAlive
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.reassembly import OutOfOrder
from ndisbus.tcp.recovery import Recovery
from ndisbus.tcp.rtt import RoundTrip
from ndisbus.tcp.sack import Scoreboard
from ndisbus.tcp.timer import SendTimer
from ndisbus.tcp.timestamps import TimestampClock
from tests.support.tcp_victim import STATES, Victim

_M: Final = 0xFFFFFFFF
_PARTS: Final = (
    AckClock,
    ChallengeLimit,
    KeepAlive,
    OutOfOrder,
    Recovery,
    RoundTrip,
    Scoreboard,
    SendTimer,
    TimestampClock,
)
_MAY_CHANGE: Final = {("AckClock", "owed"), ("TcpConnection", "replies"), ("TcpConnection", "challenges")}
"""What says that an answer is owed, and how many challenge ACKs were sent."""
_CHECK: Final = {("TcpConnection", "keepalive")}
"""The check that a suspicious RST or SYN starts on a target (R-BRA-02, R-BRA-03)."""


def _fields(value: Any, prefix: str, found: dict[tuple[str, str], Any]) -> None:
    """Enter all that an object of the machine consists of into ``found``."""
    for name in type(value).__slots__ or TcpConnection.__slots__:
        member = getattr(value, name)
        key = (prefix, name)
        if isinstance(member, _PARTS):
            found[key] = type(member).__name__
            _fields(member, type(member).__name__, found)
        elif hasattr(member, "pieces"):
            found[key] = member.pieces()
        else:
            found[key] = repr(member)


def everything(m: TcpMachine, *, leave_out: set[tuple[str, str]]) -> dict[tuple[str, str], Any]:
    """The structures, the buffers, the events and each field of each part of a machine."""
    found: dict[tuple[str, str], Any] = {}
    _fields(m, "TcpConnection", found)
    classes = {"ChallengeLimit"} | {"KeepAlive" for where, name in leave_out if name == "keepalive"}
    return {key: v for key, v in found.items() if key not in leave_out and key[0] not in classes}


def is_dropped(m: TcpMachine, segment: Segment, now: int) -> bool:
    """Whether a segment is dropped: RFC 9293 3.10.7.3 and 3.10.7.4, RFC 5961, RFC 7323 5, R-BRA, R-IP-07."""
    d = m.delegated
    flags, state, offloaded = segment.flags, d.state, m.settings.offloaded
    if m.stopped or state is State.TcpConnectionClosed:
        return True
    acks_our_syn = segment.ack == (d.snd_una + 1) & _M and d.snd_max != d.snd_una
    if state is State.TcpConnectionSynSent:
        if flags & ACK and not acks_our_syn:
            return True
        return not flags & ACK if flags & RST else not flags & SYN
    rel = ((segment.seq - d.rcv_nxt + (1 << 31)) & _M) - (1 << 31)
    if m.stamped and not flags & (RST | SYN):
        if segment.ts_val is None:
            return True
        old = (segment.ts_val - d.ts_recent) & _M >= 1 << 31
        if old and now - m.timestamps.at <= 24 * 86_400 * m.settings.parameters.ticks_per_second:
            return True
    ack_counts = (segment.ack - d.snd_una + d.max_snd_wnd) & _M <= (
        d.snd_max - d.snd_una + d.max_snd_wnd
    ) & _M
    opening = flags & SYN and state is State.TcpConnectionSynRcvd and rel == -1 and not flags & RST
    if opening and not flags & ACK:
        return False  # the SYN,ACK is sent again
    if not opening:
        length, window = segment.length, d.rcv_wnd
        if not length or not window:
            inside = rel == 0 or (not length and (0 < rel < window or (rel == window and not flags & RST)))
        else:
            inside = rel < window and rel + length > 0
        if not inside:
            repeated_fin = flags & (FIN | ACK | SYN | RST) == FIN | ACK and rel + length == 0
            return not (repeated_fin and ack_counts and state is State.TcpConnectionTimeWait)
        if flags & RST:
            return rel != 0
        if flags & SYN:
            if offloaded:
                return rel != 0 or state is State.TcpConnectionTimeWait
            passive = m.handshake is not None and m.handshake.passive
            return not (state is State.TcpConnectionSynRcvd and passive)
    if not flags & ACK:
        return True
    return not (acks_our_syn if state is State.TcpConnectionSynRcvd else ack_counts)


near = st.integers(-3, 3) | st.integers(-70_000, 70_000)
anywhere = st.integers(0, _M)
flags = st.sampled_from([ACK, ACK, ACK, ACK | FIN, ACK | URG, 0, FIN, RST, RST | ACK, SYN, SYN | ACK])
forged = st.fixed_dictionaries(
    {"flags": flags},
    optional={
        "seq": near | anywhere,
        "ack": near | anywhere,
        "window": st.integers(0, 65_535),
        "size": st.integers(0, 3000),
        "urgent": st.integers(0, 65_535),
        "ts_val": near | st.integers(0, (1 << 31) - 1) | st.none(),
        "ts_ecr": near,
        "sack": st.lists(st.tuples(near, near), max_size=3),
    },
)


def forge(victim: Victim, fields: dict[str, Any]) -> Segment:
    """A segment in order, apart from what ``fields`` says; numbers count from what is expected."""
    d = victim.machine.delegated
    segment = victim.answer()
    for name, value in fields.items():
        if name == "size":
            segment.payload = bytes(value)
        elif name == "sack":
            segment.sack = tuple(((d.snd_una + a) & _M, (d.snd_una + b) & _M) for a, b in value)
        elif name in ("seq", "ack", "ts_val", "ts_ecr") and value is not None:
            setattr(segment, name, (getattr(segment, name) or 0) + value & _M)
        else:
            setattr(segment, name, value)
    return segment


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(STATES),
    st.integers(0, 2**16),
    st.booleans(),
    st.integers(0, 9000),
    st.booleans(),
    st.lists(forged, min_size=1, max_size=4),
)
def test_a_dropped_segment_changes_nothing(
    state: State, seed: int, offloaded: bool, outgoing: int, gap: bool, attack: list[dict[str, Any]]
) -> None:
    """In any state, on a host and on a target, with data outstanding and data behind a gap.

    R-BRA-02, R-BRA-03: only a suspicious RST or SYN starts the check of a target.
    """
    victim = Victim(Random(seed), state, offloaded=offloaded)
    if outgoing:
        victim.send(outgoing)
        victim.settle()
    if gap:
        ahead = victim.answer(payload=b"behind a gap")
        ahead.seq = (ahead.seq + 10) & _M
        victim.machine.receive(ahead, victim.now)
        victim.settle()
    for fields in attack:
        machine = victim.machine
        segment = forge(victim, fields)
        if not is_dropped(machine, segment, victim.now):
            continue
        suspicious = machine.settings.offloaded and segment.flags & (RST | SYN)
        leave_out = _MAY_CHANGE | (_CHECK if suspicious else set())
        before = everything(machine, leave_out=leave_out)
        machine.receive(segment, victim.now)
        assert everything(machine, leave_out=leave_out) == before
        victim.settle()
