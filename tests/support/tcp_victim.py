"""A TCP connection under attack: made in any state, and watched after each step.

The remote end's byte stream is a function of the position, so any segment can carry the bytes that belong to
its sequence number, and all bytes that the machine takes have to be right. Its own stream is checked, too.
"""

from __future__ import annotations

from random import Random
from typing import Final

from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.ddi.tcp_enums import (
    TCP_FLAG_KEEP_ALIVE_ENABLED,
    TCP_FLAG_NAGLING_ENABLED,
    TcpOffloadConnectionState,
)
from ndisbus.net.segment import ACK, FIN, RST, SYN, Segment
from ndisbus.state.path import PathOffloadStateCached, PathOffloadStateConst
from ndisbus.state.tcp import TcpOffloadStateCached, TcpOffloadStateConst, TcpOffloadStateDelegated
from ndisbus.tcp.ending import answer_closed, answer_listen
from ndisbus.tcp.events import EventKind
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.open import active_open, passive_open
from ndisbus.tcp.reassembly import MAX_PIECES
from ndisbus.tcp.sack import MAX_RANGES
from ndisbus.tcp.settings import TcpSettings

__all__ = ["STATES", "SYN_STATES", "TAKES_DATA", "Broken", "Victim", "ours", "theirs"]

State = TcpOffloadConnectionState
_PERIOD: Final = 65_521
_OURS: Final = Random(1).randbytes(_PERIOD) * 5
_THEIRS: Final = Random(2).randbytes(_PERIOD) * 5
_M: Final = 0xFFFFFFFF
_PATH: Final = PathOffloadStateConst(bytes((10, 77, 0, 1)), bytes((10, 77, 0, 2)))
_PORTS: Final = (49_152, 80)

STATES: Final = (
    State.TcpConnectionClosed,
    State.TcpConnectionSynSent,
    State.TcpConnectionSynRcvd,
    State.TcpConnectionEstablished,
    State.TcpConnectionFinWait1,
    State.TcpConnectionFinWait2,
    State.TcpConnectionCloseWait,
    State.TcpConnectionClosing,
    State.TcpConnectionLastAck,
    State.TcpConnectionTimeWait,
)
"""Those in which there is a machine."""

SYN_STATES: Final = (State.TcpConnectionSynSent, State.TcpConnectionSynRcvd)
TAKES_DATA: Final = (
    State.TcpConnectionEstablished,
    State.TcpConnectionFinWait1,
    State.TcpConnectionFinWait2,
)
# Where a segment may lead from a state, apart from CLOSED.
_NEXT: Final = {
    State.TcpConnectionClosed: (),
    State.TcpConnectionSynSent: (*SYN_STATES, *TAKES_DATA, State.TcpConnectionCloseWait),
    State.TcpConnectionSynRcvd: (
        *TAKES_DATA,
        State.TcpConnectionCloseWait,
        State.TcpConnectionClosing,
    ),
    State.TcpConnectionEstablished: (State.TcpConnectionCloseWait,),
    State.TcpConnectionFinWait1: (
        State.TcpConnectionFinWait2,
        State.TcpConnectionClosing,
        State.TcpConnectionTimeWait,
    ),
    State.TcpConnectionFinWait2: (State.TcpConnectionTimeWait,),
    State.TcpConnectionCloseWait: (),
    State.TcpConnectionClosing: (State.TcpConnectionTimeWait,),
    State.TcpConnectionLastAck: (),
    State.TcpConnectionTimeWait: (),
}


class Broken(AssertionError):
    """The machine did what it must not do, whatever arrives."""


def ours(position: int, size: int) -> bytes:
    """``size`` bytes (at most 64 KiB) of the stream that the machine sends."""
    start = position % _PERIOD
    return _OURS[start : start + size]


def theirs(position: int, size: int) -> bytes:
    """The same for the stream that the remote end sends."""
    start = position % _PERIOD
    return _THEIRS[start : start + size]


class Victim:
    """A machine with everything that its owner and its remote end know of it."""

    def __init__(self, rng: Random, state: State, *, offloaded: bool = False) -> None:
        """A connection in ``state``, reached by the ordinary exchange of segments."""
        self.rng = rng
        tps = rng.choice([10, 100, 1000])
        parameters = NdisTcpConnectionOffloadParameters(
            ticks_per_second=tps,
            tcp_delayed_ack_ticks=max(1, tps // 5),
            tcp_sws_prevention_ticks=max(1, tps // 2),
            tcp_maximum_retransmissions=15,
        )
        self.settings = tuple(TcpSettings(parameters=parameters, offloaded=o) for o in (False, True))
        self.now = rng.choice([rng.getrandbits(20), (1 << 32) - rng.randint(1, 5000)])
        self.iss = rng.choice([rng.getrandbits(32), (1 << 32) - rng.randint(1, 5000)])
        self.irs = rng.choice([rng.getrandbits(32), (1 << 32) - rng.randint(1, 5000)])
        self.genuine = True
        """Whether all that was injected carried the remote end's bytes."""
        self.pushed = 0
        self.read = 0
        self.shut = False
        # SYN_RCVD is reached either way: from LISTEN, or by a simultaneous open.
        self.passive = state is not State.TcpConnectionSynSent and rng.random() < 0.5
        self.window = rng.choice([1000, 8192, 65_535, 200_000])
        self.cached = TcpOffloadStateCached(
            flags=rng.choice([0, TCP_FLAG_NAGLING_ENABLED]) | rng.choice([0, TCP_FLAG_KEEP_ALIVE_ENABLED]),
            initial_rcv_wnd=self.window,
            ka_timeout=3600 * tps,
            ttl_or_hop_limit=64,
        )
        self.mtu = rng.choice([576, 1500])
        self.ts = rng.choice([None, 0, rng.getrandbits(32)])
        self.sack = rng.random() < 0.5
        self.scale = rng.choice([None, 0, 3])
        self.machine = self._opened()
        self.settle()
        if state is State.TcpConnectionSynRcvd:
            if not self.passive:
                self.receive(self._syn(SYN))
                self.settle()
        elif state is not State.TcpConnectionSynSent:
            self._walk_to(state)
        if self.machine.state is not state:
            raise Broken(f"did not get to {state.name}: {self.machine!r}")
        if offloaded and state not in (*SYN_STATES, State.TcpConnectionClosed):
            self.hand_over(offloaded=True)

    # -- making one

    def _syn(self, flags: int) -> Segment:
        return Segment(
            self.irs,
            (self.iss + 1) & _M if flags & ACK else 0,
            flags,
            8192,
            b"",
            0,
            _PORTS[1],
            _PORTS[0],
            self.ts,
            0,
            1460,
            self.scale,
            self.sack,
        )

    def _opened(self) -> TcpMachine:
        path_cached = PathOffloadStateCached(self.mtu)
        settings = self.settings[0]
        if self.passive:
            return passive_open(
                self._syn(SYN),
                self.cached,
                iss=self.iss,
                path_const=_PATH,
                path_cached=path_cached,
                settings=settings,
                now=self.now,
            )
        return active_open(
            self.cached,
            local_port=_PORTS[0],
            remote_port=_PORTS[1],
            iss=self.iss,
            path_const=_PATH,
            path_cached=path_cached,
            settings=settings,
            now=self.now,
        )

    def _walk_to(self, state: State) -> None:
        if self.passive:
            self.receive(self.answer())
        else:
            self.receive(self._syn(SYN | ACK))
        self.settle()
        if self.rng.random() < 0.5:
            self.send(self.rng.randint(1, 5000))
            self.settle()
            self.receive(self.answer())
            self.settle()
        if state in (State.TcpConnectionCloseWait, State.TcpConnectionLastAck):
            self.receive(self.answer(FIN))
            self.settle()
        if state is State.TcpConnectionClosed:
            self.machine.abort()
            self.settle()
        elif state not in (State.TcpConnectionEstablished, State.TcpConnectionCloseWait):
            while self.machine.queued:  # what is sent can be acknowledged up to, and without, the FIN
                self.receive(self.answer())
                self.settle()
            self.shutdown()
            self.settle()
        if state is State.TcpConnectionClosing:
            fin = self.answer(FIN)
            fin.ack = (fin.ack - 1) & _M
            self.receive(fin)
            self.settle()
        elif state in (State.TcpConnectionFinWait2, State.TcpConnectionTimeWait):
            self.receive(self.answer())
            self.settle()
            if state is State.TcpConnectionTimeWait:
                self.receive(self.answer(FIN))
                self.settle()

    # -- what its remote end and its owner do

    def answer(self, flags: int = 0, payload: bytes = b"", window: int = 8192) -> Segment:
        """What the true remote end would send now: in order, and acknowledging all."""
        m = self.machine
        d = m.delegated
        segment = Segment(d.rcv_nxt, d.snd_max, ACK | flags, window, payload, 0, _PORTS[1], _PORTS[0])
        if m.stamped:
            segment.ts_val = d.ts_recent
            segment.ts_ecr = (self.now + m.timestamps.delta) & _M
        return segment

    def send(self, size: int) -> None:
        """The owner sends the next bytes of its stream."""
        m = self.machine
        if not self.shut and m.state in (State.TcpConnectionEstablished, State.TcpConnectionCloseWait):
            m.send(ours(self.pushed, size))
            self.pushed += size

    def shutdown(self) -> None:
        """The owner closes its half."""
        if self.machine.state not in SYN_STATES:
            self.shut = True
            self.machine.shutdown()

    def take(self, size: int | None = None) -> None:
        """The owner reads."""
        data = self.machine.read(size)
        if self.genuine and data != theirs(self.read, len(data)):
            raise Broken(f"wrong bytes were received at {self.read}: {self.machine!r}")
        self.read = (self.read + len(data)) % _PERIOD

    def pass_time(self, ticks: int) -> None:
        """The clock goes on, and timers expire."""
        self.now += ticks
        deadline = self.machine.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.machine.on_timer(self.now)
        self.settle()

    def hand_over(self, *, offloaded: bool) -> None:
        """Replace the machine by one made from its packed structures."""
        old = self.machine
        given = old.hand_over(self.now)
        for segment in given.last:
            self._check_sent(segment)
        self.now += self.rng.getrandbits(16)
        self.machine = TcpMachine(
            TcpOffloadStateConst.unpack_from(old.const.pack()),
            TcpOffloadStateCached.unpack_from(old.cached.pack()),
            TcpOffloadStateDelegated.unpack_from(old.delegated.pack()),
            path_const=_PATH,
            path_cached=PathOffloadStateCached(old.path_cached.path_mtu),
            settings=self.settings[offloaded],
            now=self.now,
            send_data=given.send_data,
            received=given.received,
        )
        for segment in given.segments:
            self.machine.receive(segment, self.now)
        self.settle()

    # -- the attack

    def receive(self, segment: Segment) -> None:
        """A segment arrives. Raises Broken if it ends the connection, or moves it, without the right to."""
        m = self.machine
        d = m.delegated
        before = m.state
        rcv_nxt = d.rcv_nxt
        final_ack = (segment.ack - d.snd_una) & _M == (d.snd_max - d.snd_una) & _M
        m.receive(segment, self.now)
        after = m.state
        if segment.flags & RST and (answer_closed(segment), answer_listen(segment)) != (None, (False, None)):
            raise Broken(f"without a connection, an RST is answered: {segment!r}")
        if after is before:
            return
        if after is State.TcpConnectionClosed:
            if not self._may_close(before, segment, rcv_nxt, final_ack):
                raise Broken(f"{before.name} was closed by {segment!r}, RCV.NXT {rcv_nxt}")
        elif after not in _NEXT[before]:
            raise Broken(f"{segment!r} led from {before.name} to {after.name}")
        if before is State.TcpConnectionSynSent:
            self.irs = segment.seq  # the end that answers the SYN is the remote end

    def _may_close(self, before: State, segment: Segment, rcv_nxt: int, final_ack: bool) -> bool:
        flags = segment.flags
        in_order = segment.seq == rcv_nxt
        if flags & RST:
            if before is State.TcpConnectionSynSent:
                return bool(flags & ACK) and final_ack
            return in_order
        if flags & SYN:
            if before is State.TcpConnectionSynRcvd:
                return True
            return self.machine.settings.offloaded and in_order
        return before is State.TcpConnectionLastAck and bool(flags & ACK) and final_ack

    def settle(self) -> None:
        """Take what the machine sends and tells; check all that has to hold at any time."""
        m = self.machine
        empty = 0
        for _ in range(50):
            segments = m.transmit(self.now)
            for segment in segments:
                self._check_sent(segment)
                empty += not segment.length
            uploads = sum(event.kind is EventKind.UPLOAD for event in m.events)
            m.events.clear()
            if uploads and m.state is not State.TcpConnectionClosed:
                self.hand_over(offloaded=False)
                return
            if not segments:
                break
        else:
            raise Broken(f"sends without end: {m!r}")
        if empty > 8:
            raise Broken(f"{empty} empty segments at once: {m!r}")
        self._check_state()

    def _check_sent(self, segment: Segment) -> None:
        if segment.flags & RST:
            return
        payload = segment.payload
        position = (segment.seq - self.iss - 1) & _M
        if payload and payload != ours(position, len(payload)):
            raise Broken(f"wrong bytes were sent: {segment!r}")
        if segment.flags & FIN and not (self.shut and position + len(payload) == self.pushed):
            raise Broken(f"a FIN out of place: {segment!r}")
        if segment.flags & ACK and segment.ack != self.machine.delegated.rcv_nxt:
            raise Broken(f"not RCV.NXT acknowledged: {segment!r}")
        options = 12 * (segment.ts_val is not None) + (4 + 8 * len(segment.sack)) * bool(segment.sack)
        if len(payload) + options > max(self.mtu - 40, 48):
            raise Broken(f"too long: {segment!r}")

    def _check_state(self) -> None:
        m = self.machine
        d = m.delegated
        outstanding = (d.snd_max - d.snd_una) & _M
        if (d.snd_nxt - d.snd_una) & _M > outstanding:
            raise Broken(f"SND.NXT is not within SND.UNA..SND.MAX: {m!r}")
        if outstanding > len(m.sending) + 1 or len(m.received) > self.window or d.rcv_wnd > self.window:
            raise Broken(f"{outstanding} outstanding, {len(m.received)} unread, RcvWnd {d.rcv_wnd}: {m!r}")
        if m.gaps is not None and (len(m.gaps) > self.window or len(m.gaps.segments()) > MAX_PIECES + 1):
            raise Broken(f"{len(m.gaps)} bytes out of order: {m!r}")
        if m.recovery.board is not None and len(m.recovery.board.ranges()) > MAX_RANGES:
            raise Broken(f"{len(m.recovery.board.ranges())} ranges on the scoreboard: {m!r}")
        waiting = outstanding and not m.stopped and m.state is not State.TcpConnectionClosed
        if waiting and m.next_deadline() is None:
            raise Broken(f"waits for an ACK without a timer: {m!r}")
        m.write_back(self.now)
        d.pack()
