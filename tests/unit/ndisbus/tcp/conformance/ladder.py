"""A connection's end and the clock it is given, to be driven like the ladder diagrams of the RFCs.

    end = Endpoint.established()
    end.send(1000)
    end.expect("A", seq=1, length=1000)        # the end sends
    end.gets("A", ack=1001)                    # the end receives
    end.wait(200)
    end.expect_nothing()

Sequence numbers are relative, as tcpdump prints them: each side's SYN is 0, its first byte is 1. The
absolute numbers lie just below 2**32, and so does the clock, so that every test wraps all of them around.
What the end sends and what it is to receive are two known streams; :meth:`Endpoint.expect` compares every
byte sent with the first of them.

A test may run three ways (conftest.py): the end is a host's machine, or a target's, or it is torn out of one
and put into the other, packed and unpacked, after everything that happens to it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, ClassVar, Final

from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.ddi.tcp_enums import (
    TCP_FLAG_KEEP_ALIVE_ENABLED,
    TCP_FLAG_NAGLING_ENABLED,
    TCP_FLAG_SACK_ENABLED,
    TCP_FLAG_TIMESTAMP_ENABLED,
    TCP_FLAG_WINDOW_SCALING_ENABLED,
    TcpOffloadConnectionState,
)
from ndisbus.net.segment import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, Segment
from ndisbus.state.images import (
    PathOffloadStateCached,
    PathOffloadStateConst,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
)
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.open import active_open, passive_open
from ndisbus.tcp.settings import TcpSettings

__all__ = [
    "CLOSED",
    "CLOSE_WAIT",
    "CLOSING",
    "ESTABLISHED",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "IRS",
    "ISS",
    "LAST_ACK",
    "START",
    "SYNCHRONIZED",
    "SYN_RCVD",
    "SYN_SENT",
    "TIME_WAIT",
    "V4",
    "V6",
    "Endpoint",
    "Sent",
    "Way",
    "incoming",
    "outgoing",
]

CLOSED: Final = TcpOffloadConnectionState.TcpConnectionClosed
SYN_SENT: Final = TcpOffloadConnectionState.TcpConnectionSynSent
SYN_RCVD: Final = TcpOffloadConnectionState.TcpConnectionSynRcvd
ESTABLISHED: Final = TcpOffloadConnectionState.TcpConnectionEstablished
FIN_WAIT_1: Final = TcpOffloadConnectionState.TcpConnectionFinWait1
FIN_WAIT_2: Final = TcpOffloadConnectionState.TcpConnectionFinWait2
CLOSE_WAIT: Final = TcpOffloadConnectionState.TcpConnectionCloseWait
CLOSING: Final = TcpOffloadConnectionState.TcpConnectionClosing
LAST_ACK: Final = TcpOffloadConnectionState.TcpConnectionLastAck
TIME_WAIT: Final = TcpOffloadConnectionState.TcpConnectionTimeWait

SYNCHRONIZED: Final = (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT)

ISS: Final = 0xFFFF_FE0C
"""Our SYN's number: the stream passes 2**32 within its first 500 bytes."""
IRS: Final = 0xFFFF_FED4
"""The remote end's SYN's number: likewise within 300 bytes."""
START: Final = 0x1_0000_0000 - 700
"""Ticks at which an endpoint is made: the lower half of the clock is 0 again after 700 ticks."""

V4: Final = (bytes([10, 77, 0, 1]), bytes([10, 77, 0, 2]))
V6: Final = (bytes([0xFD, 0x77, *[0] * 13, 1]), bytes([0xFD, 0x77, *[0] * 13, 2]))


class Way(Enum):
    """Where the connection lives, see the module."""

    HOST = "host"
    TARGET = "target"
    CHIMNEY = "chimney"


_FLAGS: Final = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "A": ACK, "U": URG, "E": ECE, "C": CWR}
_M32: Final = 0xFFFF_FFFF
_OUT: Final = bytes(range(251)) * 4096
_IN: Final = bytes(range(252, -1, -1)) * 4096


def outgoing(offset: int, size: int) -> bytes:
    """``size`` bytes from ``offset`` of the stream that the endpoint sends."""
    return _OUT[offset : offset + size]


def incoming(offset: int, size: int) -> bytes:
    """``size`` bytes from ``offset`` of the stream that the remote end sends."""
    return _IN[offset : offset + size]


def _letters(flags: int) -> str:
    return "".join(letter for letter, bit in _FLAGS.items() if flags & bit)


@dataclass(slots=True)
class Sent:
    """A segment that the endpoint sent, and when (ticks after the start)."""

    at: int
    segment: Segment


class Endpoint:
    """A machine under test with everything a remote end could see of it. See the module's docstring."""

    way: ClassVar[Way] = Way.HOST

    def __init__(self, machine: TcpMachine, *, now: int = START, iss: int = ISS, irs: int = IRS) -> None:
        self.machine = machine
        self.start = now
        self.now = now
        self.iss = iss
        self.irs = irs
        self.sent: deque[Sent] = deque()
        self.heard: list[TcpEvent] = []
        self.queued_out = 0
        """Bytes of the outgoing stream that were given to the machine."""
        self.remote_next = 1
        """The next sequence number of the remote end, relative."""
        self.seen = 1
        """One past the highest sequence number that was sent, relative: what the remote end acknowledges."""
        self.window = 60_000
        """The window field of segments from the remote end."""
        self.timestamps = False
        """Whether segments from the remote end carry timestamps."""
        self.remote_clock = 7_000_000
        """What the remote end's timestamp clock shows now."""
        self.echo = 0
        """The last timestamp the machine sent."""
        self.reading = True
        """Whether the user still reads."""

    # -- making one

    @classmethod
    def established(
        cls,
        *,
        mss: int = 1000,
        mtu: int = 1500,
        receive_window: int = 20_000,
        send_window: int = 60_000,
        c_wnd: int = 10_000,
        ss_thresh: int = 0x3FFF_FFFF,
        s_rtt: int = 0,
        rtt_var: int = 0,
        nagle: bool = False,
        keepalive: bool = False,
        timestamps: bool = False,
        sack: bool = False,
        scales: tuple[int, int] | None = None,
        addresses: tuple[bytes, bytes] = V4,
        parameters: dict[str, Any] | None = None,
        cached: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Endpoint:
        """An established, idle connection, made from its structures.

        ``s_rtt``, ``rtt_var``: as the delegated structure holds them (times 8, times 4), 0 for no
        sample yet. ``scales``: shift counts of the windows we get and of those we offer.
        """
        flags = TCP_FLAG_TIMESTAMP_ENABLED * timestamps | TCP_FLAG_SACK_ENABLED * sack
        flags |= TCP_FLAG_WINDOW_SCALING_ENABLED * (scales is not None)
        snd_scale, rcv_scale = scales or (0, 0)
        const = TcpOffloadStateConst(
            flags=flags,
            remote_port=80,
            local_port=49_152,
            snd_wind_scale=snd_scale,
            rcv_wind_scale=rcv_scale,
            remote_mss=mss,
        )
        cached_state = TcpOffloadStateCached(
            flags=TCP_FLAG_NAGLING_ENABLED * nagle | TCP_FLAG_KEEP_ALIVE_ENABLED * keepalive,
            initial_rcv_wnd=receive_window,
            ttl_or_hop_limit=128,
            ka_timeout=7_200_000,
            ka_interval=1000,
            ka_probe_count=10,
        )
        for name, value in (cached or {}).items():
            assert hasattr(cached_state, name)
            setattr(cached_state, name, value)
        delegated = TcpOffloadStateDelegated(
            state=ESTABLISHED,
            rcv_nxt=(IRS + 1) & _M32,
            rcv_wnd=receive_window,
            snd_una=(ISS + 1) & _M32,
            snd_nxt=(ISS + 1) & _M32,
            snd_max=(ISS + 1) & _M32,
            snd_wnd=send_window,
            max_snd_wnd=send_window,
            send_wl1=IRS,
            c_wnd=c_wnd,
            ss_thresh=ss_thresh,
            s_rtt=s_rtt,
            rtt_var=rtt_var,
            ts_recent=7_000_000 if timestamps else 0,
            ts_time=START & _M32 if timestamps else 0,
        )
        machine = TcpMachine(
            const,
            cached_state,
            delegated,
            path_const=PathOffloadStateConst(*addresses),
            path_cached=PathOffloadStateCached(mtu),
            settings=make_settings(parameters, **settings),
            now=START,
        )
        end = cls(machine)
        end.timestamps = timestamps
        end.window = send_window >> snd_scale
        end.collect()
        return end

    @classmethod
    def in_state(cls, state: TcpOffloadConnectionState, **options: Any) -> Endpoint:
        """A connection that has come from ESTABLISHED to ``state`` by the exchange of FINs."""
        end = cls.established(**options)
        if state in (CLOSE_WAIT, LAST_ACK):
            end.gets("FA")
            end.expect("A", ack=end.remote_next)
        if state in (FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK, TIME_WAIT):
            end.shutdown()
            end.expect("FA")
        if state is CLOSING:
            end.gets("FA", ack=end.seen - 1)
            end.expect("A", ack=end.remote_next)
        if state in (FIN_WAIT_2, TIME_WAIT):
            end.gets("A")
        if state is TIME_WAIT:
            end.gets("FA")
            end.expect("A", ack=end.remote_next)
        end.expect_nothing()
        end.heard.clear()
        end.expect_state(state)
        return end

    @classmethod
    def opening(
        cls,
        *,
        syn: Segment | None = None,
        mtu: int = 1500,
        receive_window: int = 20_000,
        nagle: bool = False,
        keepalive: bool = False,
        addresses: tuple[bytes, bytes] = V4,
        parameters: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Endpoint:
        """A connection that begins: SYN_SENT, or SYN_RCVD if a listener has got ``syn``.

        ``options``: what the end offers (timestamps, sack, scaling; none of them by default) and its mss.
        """
        cached = TcpOffloadStateCached(
            flags=TCP_FLAG_NAGLING_ENABLED * nagle | TCP_FLAG_KEEP_ALIVE_ENABLED * keepalive,
            initial_rcv_wnd=receive_window,
            ttl_or_hop_limit=128,
        )
        common: dict[str, Any] = {
            "iss": ISS,
            "path_const": PathOffloadStateConst(*addresses),
            "path_cached": PathOffloadStateCached(mtu),
            "settings": make_settings(parameters, **settings),
            "now": START,
            "ts_time": START & _M32,
            "timestamps": False,
            "sack": False,
            "scaling": False,
            **(options or {}),
        }
        if syn is None:
            machine = active_open(cached, local_port=49_152, remote_port=80, **common)
        else:
            machine = passive_open(syn, cached, **common)
        end = cls(machine)
        end.seen = 0
        end.remote_next = 0 if syn is None else syn.length
        end.collect()
        return end

    @classmethod
    def accepting(cls, *, remote: dict[str, Any] | None = None, size: int = 0, **options: Any) -> Endpoint:
        """A connection in SYN_RCVD: a listener has got the remote end's SYN with the options ``remote``."""
        syn = Segment(IRS, 0, SYN, 60_000, incoming(0, size), **{"mss": 1000, **(remote or {})})
        return cls.opening(syn=syn, **options)

    # -- what the tests read

    @property
    def state(self) -> TcpOffloadConnectionState:
        return self.machine.state

    @property
    def delegated(self) -> TcpOffloadStateDelegated:
        return self.machine.delegated

    @property
    def elapsed(self) -> int:
        """Ticks since the start."""
        return self.now - self.start

    @property
    def rcv_nxt(self) -> int:
        return self.relative_in(self.delegated.rcv_nxt)

    @property
    def snd_una(self) -> int:
        return self.relative_out(self.delegated.snd_una)

    @property
    def in_flight(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return (self.delegated.snd_max - self.delegated.snd_una) & _M32

    def relative_out(self, number: int) -> int:
        return _signed(number - self.iss)

    def relative_in(self, number: int) -> int:
        return _signed(number - self.irs)

    # -- time

    def at(self, ticks: int) -> None:
        """Let the clock run to ``ticks`` after the start; every deadline on the way is kept."""
        target = self.start + ticks
        assert target >= self.now, "the clock does not run backwards"
        for _ in range(10_000):
            deadline = self.machine.next_deadline()
            if deadline is None or deadline > target:
                self.now = target
                return
            self.now = max(self.now, deadline)
            self.machine.on_timer(self.now)
            self.collect()
        raise AssertionError("the machine sets deadlines without end")

    def wait(self, ticks: int) -> None:
        """Let ``ticks`` pass."""
        self.at(self.elapsed + ticks)

    def until_sent(self, limit: int = 300_000) -> None:
        """Let time pass until something is sent, at most ``limit`` ticks."""
        end = self.now + limit
        while not self.sent:
            deadline = self.machine.next_deadline()
            assert deadline is not None and deadline <= end, "nothing is going to be sent"
            self.at(max(deadline, self.now) - self.start)

    # -- user calls

    def send(self, size: int) -> None:
        """Queue the next ``size`` bytes of the outgoing stream."""
        self.queue(size)
        self.collect()

    def queue(self, size: int) -> None:
        """The same, but nothing is transmitted yet."""
        self.machine.send(outgoing(self.queued_out, size))
        self.queued_out += size

    def read(self, size: int | None = None) -> bytes:
        data = self.machine.read(size)
        self.collect()
        return data

    def shutdown(self) -> None:
        self.machine.shutdown()
        self.collect()

    def close(self) -> None:
        """Close both halves."""
        self.reading = False
        self.machine.close(self.now)
        self.collect()

    def abort(self) -> None:
        self.machine.abort()
        self.collect()

    # -- segments

    def segment(
        self,
        flags: str,
        *,
        seq: int | None = None,
        ack: int | None = None,
        size: int = 0,
        data: bytes | None = None,
        window: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> Segment:
        """A segment of the remote end. The default of ``seq`` is the next in order, that of ``ack`` all."""
        bits = 0
        for letter in flags:
            bits |= _FLAGS[letter]
        if seq is None:
            seq = self.remote_next
        if data is None:
            data = incoming(seq - 1 + bool(bits & SYN), size) if size else b""
        if ack is None:
            ack = self.seen
        fields: dict[str, Any] = {}
        if self.timestamps:
            fields = {"ts_val": self.remote_clock & _M32, "ts_ecr": self.echo if bits & ACK else 0}
        fields |= options or {}
        segment = Segment(
            (seq + self.irs) & _M32,
            (ack + self.iss) & _M32 if bits & ACK else 0,
            bits,
            self.window if window is None else window,
            data,
            **fields,
        )
        if not bits & RST:
            self.remote_next = max(self.remote_next, seq + segment.length)
        return segment

    def gets(self, flags: str = "A", **fields: Any) -> None:
        """A segment arrives; everything the machine owes for it goes out."""
        self.gets_all([self.segment(flags, **fields)])

    def gets_all(self, segments: list[Segment]) -> None:
        """Several segments arrive together: the machine may transmit only after the last."""
        for segment in segments:
            self.machine.receive(segment, self.now)
        self.collect()

    def collect(self) -> None:
        """Take what the machine transmits and the events it raised."""
        for segment in self.machine.transmit(self.now):
            self.sent.append(Sent(self.elapsed, segment))
            if not segment.flags & RST:
                self.seen = max(self.seen, self.relative_out(segment.seq) + segment.length)
            if segment.ts_val is not None:
                self.echo = segment.ts_val
        self.heard += self.machine.events
        self.machine.events.clear()
        if self.way is Way.CHIMNEY and self.state in SYNCHRONIZED:
            self._move()

    def _move(self) -> None:
        """Offload the connection, or upload it: another machine goes on from the images of the structures."""
        old = self.machine
        handover = old.hand_over(self.now)
        settings = replace(old.settings, offloaded=not old.settings.offloaded)
        self.machine = new = TcpMachine(
            TcpOffloadStateConst.unpack_from(old.const.pack()),
            TcpOffloadStateCached.unpack_from(old.cached.pack()),
            TcpOffloadStateDelegated.unpack_from(old.delegated.pack()),
            path_const=old.path_const,
            path_cached=old.path_cached,
            settings=settings,
            now=self.now,
            send_data=handover.send_data,
            received=handover.received,
            reading=self.reading,
        )
        for segment in handover.segments:
            new.receive(segment, self.now)
        self.sent += [Sent(self.elapsed, segment) for segment in (*handover.last, *new.transmit(self.now))]
        self.heard += new.events
        new.events.clear()

    def expect(
        self,
        flags: str = "A",
        *,
        seq: int | None = None,
        ack: int | None = None,
        length: int | None = None,
        window: int | None = None,
        at: int | None = None,
        psh: bool | None = None,
    ) -> Segment:
        """The next segment that was sent: exactly these flags (PSH only as ``psh`` says), these numbers.

        ``length`` counts payload bytes. The payload has to be that of the stream.
        """
        assert self.sent, f"expected {flags} seq={seq} ack={ack} length={length}, nothing was sent"
        sent = self.sent.popleft()
        segment = sent.segment
        told = (
            f"{_letters(segment.flags)} seq={self.relative_out(segment.seq)} "
            f"ack={self.relative_in(segment.ack)} length={len(segment.payload)} win={segment.window} "
            f"at={sent.at}"
        )
        letters = _letters(segment.flags & ~PSH)
        assert set(letters) == set(flags.replace("P", "")), f"expected {flags}, sent {told}"
        if seq is not None:
            assert self.relative_out(segment.seq) == seq, f"expected seq={seq}, sent {told}"
        if ack is not None:
            assert self.relative_in(segment.ack) == ack, f"expected ack={ack}, sent {told}"
        if length is not None:
            assert len(segment.payload) == length, f"expected length={length}, sent {told}"
        if window is not None:
            assert segment.window == window, f"expected window={window}, sent {told}"
        if at is not None:
            assert sent.at == at, f"expected at={at}, sent {told}"
        if psh is not None:
            assert bool(segment.flags & PSH) is psh, f"expected psh={psh}, sent {told}"
        if segment.payload:
            offset = self.relative_out(segment.seq) - (not segment.flags & SYN)
            assert bytes(segment.payload) == outgoing(offset, len(segment.payload)), f"wrong bytes: {told}"
        return segment

    def expect_ack(self, ack: int, **fields: Any) -> Segment:
        """An empty ACK of everything before ``ack``."""
        return self.expect("A", ack=ack, length=0, **fields)

    def expect_reset(self) -> Segment:
        """An RST, with or without ACK, and without data."""
        assert self.sent, "expected an RST, nothing was sent"
        segment = self.sent.popleft().segment
        assert segment.flags & RST, f"expected an RST, sent {segment}"
        assert not segment.payload
        return segment

    def expect_data(self, *sequence_numbers: int, length: int = 1000) -> None:
        """Full segments with these numbers, in this order."""
        for number in sequence_numbers:
            self.expect("A", seq=number, length=length)

    def expect_state(self, state: TcpOffloadConnectionState) -> None:
        """The connection is in this state."""
        assert self.state is state, f"expected {state.name}, is {self.state.name}"

    def expect_nothing(self) -> None:
        """Nothing more was sent."""
        told = [
            f"{_letters(s.segment.flags)} seq={self.relative_out(s.segment.seq)} "
            f"ack={self.relative_in(s.segment.ack)} length={len(s.segment.payload)} at={s.at}"
            for s in self.sent
        ]
        assert not told

    def drop_sent(self) -> list[Sent]:
        """Forget (as a lossy path does) what was sent; returns it."""
        dropped = list(self.sent)
        self.sent.clear()
        return dropped

    # -- events

    def events(self, *kinds: EventKind) -> list[TcpEvent]:
        """The events of these kinds so far; they are then forgotten."""
        found = [event for event in self.heard if event.kind in kinds]
        self.heard = [event for event in self.heard if event.kind not in kinds]
        return found

    def heard_of(self, kind: EventKind) -> bool:
        """Whether an event of the kind was raised; it is then forgotten."""
        return bool(self.events(kind))


def make_settings(parameters: dict[str, Any] | None = None, **settings: Any) -> TcpSettings:
    """Settings with the named members of the offload parameters, and of the settings, changed.

    The RTO is never below a second here, as RFC 6298 (2.4) has it: before and after the first sample alike.
    """
    settings = {"rto_min_ms": 1000, "offloaded": Endpoint.way is Way.TARGET, **settings}
    return TcpSettings(parameters=NdisTcpConnectionOffloadParameters(**(parameters or {})), **settings)


def _signed(number: int) -> int:
    """A difference of sequence numbers as -2**31 .. 2**31 - 1."""
    number &= _M32
    return number - (1 << 32) if number >> 31 else number
