"""What a connection consists of: the offload state structures, buffers, and the parts that own the rest.

The modules of the conversations (see the list in the package's docstring) are functions on this class.
:class:`ndisbus.tcp.machine.TcpMachine` joins them. This module makes no decisions.
"""

from __future__ import annotations

from collections.abc import Iterable

from ndisbus.net.segment import Segment
from ndisbus.state.path import PathOffloadStateCached, PathOffloadStateConst
from ndisbus.state.tcp import TcpOffloadStateCached, TcpOffloadStateConst, TcpOffloadStateDelegated
from ndisbus.tcp.ack_clock import AckClock
from ndisbus.tcp.buffers import ReceiveBuffer, SendBuffer
from ndisbus.tcp.challenge_limit import ChallengeLimit
from ndisbus.tcp.events import EventQueue
from ndisbus.tcp.keepalive import KeepAlive
from ndisbus.tcp.reassembly import OutOfOrder
from ndisbus.tcp.recovery import Recovery
from ndisbus.tcp.rtt import RoundTrip
from ndisbus.tcp.settings import TcpSettings
from ndisbus.tcp.states import State
from ndisbus.tcp.timer import SendTimer
from ndisbus.tcp.timestamps import TimestampClock

__all__ = ["Handshake", "TcpConnection"]


class Handshake:
    """What is kept until ESTABLISHED.

    ``mss``: the MSS to advertise. ``passive``: whether the remote end's SYN opened the connection. ``lost``:
    whether a SYN had to be sent again.
    """

    __slots__ = ("lost", "mss", "passive")

    def __init__(self, mss: int, passive: bool) -> None:
        self.mss = mss
        self.passive = passive
        self.lost = False


class TcpConnection:
    """The state of one connection.

    The structures are used in place; there is no second copy of their contents. Beside its fields each part
    says what is always true of them, and what a successor starts with. Only the module of a part assigns to
    the part's fields and to the members of the delegated structure that its ``OWNS`` names. A test checks
    that.
    """

    __slots__ = (
        "ack_clock",
        "cached",
        "challenges",
        "closing",
        "const",
        "delegated",
        "error",
        "events",
        "gaps",
        "handshake",
        "keepalive",
        "mss",
        "path_cached",
        "path_const",
        "progress_at",
        "rcv_scale",
        "rcv_up",
        "reading",
        "received",
        "recovery",
        "replies",
        "reset_owed",
        "rtt",
        "sacking",
        "sending",
        "settings",
        "snd_scale",
        "snd_up",
        "stamped",
        "stopped",
        "timer",
        "timestamps",
        "unscaled",
    )

    const: TcpOffloadStateConst
    cached: TcpOffloadStateCached
    delegated: TcpOffloadStateDelegated
    path_const: PathOffloadStateConst
    path_cached: PathOffloadStateCached
    settings: TcpSettings

    # The parts.
    rtt: RoundTrip
    timer: SendTimer
    keepalive: KeepAlive | None
    """None until it first runs: most connections do without."""
    ack_clock: AckClock
    recovery: Recovery
    timestamps: TimestampClock
    challenges: ChallengeLimit | None
    """None until a challenge ACK is needed."""

    # Data.
    sending: SendBuffer
    received: ReceiveBuffer
    gaps: OutOfOrder | None
    """Out-of-order data; None while there is none. It is handed over as segments, which the successor gets
    before all others."""
    events: EventQueue

    # Derived from the constant and the path structures (options.refresh).
    mss: int
    stamped: bool
    """Whether timestamps are used."""
    sacking: bool
    """Whether SACK is used."""
    snd_scale: int
    rcv_scale: int

    # Before ESTABLISHED, when nothing is offloaded (R-STATE-06).
    handshake: Handshake | None
    closing: bool
    """Whether the user has closed in SYN_RCVD: a FIN follows."""

    # Urgent data is not offloaded (R-SEND-04, R-IP-07): a successor knows nothing of it.
    snd_up: int | None
    """Sequence number behind the last urgent byte to send; None if there is none, or it is acknowledged."""
    rcv_up: int | None
    """Sequence number behind the last urgent byte that was announced. Always beyond RcvNxt: None once RcvNxt
    has passed it, and if there never was one."""

    # What the user has done.
    reading: bool
    """Whether the user still reads: it has not closed both halves. A successor is told by its owner."""
    unscaled: bool
    """Whether the user has read nothing since the handshake: what the window can grow by is what the field of
    a SYN could not tell, and not worth a segment. False on a successor, which may update once too often."""

    # Segments that are owed besides data and ACKs. A hand-over may lose them, as the network may.
    replies: list[Segment] | None
    """RSTs that answer unacceptable ACKs of the handshake."""
    reset_owed: bool
    """Whether an RST leaves with the next transmit(), because the connection was aborted."""

    error: str | None
    """Why the connection is CLOSED; None after an orderly close."""
    stopped: bool
    """Whether it was handed over or asks for an upload: segments, timers and transmit() then do nothing."""
    progress_at: int
    """When forward progress was last reported. A successor may report it once too often."""

    def __init__(
        self,
        const: TcpOffloadStateConst,
        cached: TcpOffloadStateCached,
        delegated: TcpOffloadStateDelegated,
        *,
        path_const: PathOffloadStateConst,
        path_cached: PathOffloadStateCached,
        settings: TcpSettings,
        send_data: Iterable[bytes],
        received: Iterable[bytes],
        reading: bool,
    ) -> None:
        self.const = const
        self.cached = cached
        self.delegated = delegated
        self.path_const = path_const
        self.path_cached = path_cached
        self.settings = settings
        delegated.state = State(delegated.state)
        # A plain int: testing a bit of an IntFlag costs half a microsecond.
        const.flags = int(const.flags)
        cached.flags = int(cached.flags)
        self.sending = SendBuffer(send_data)
        self.received = ReceiveBuffer(received)
        self.events = EventQueue()
        self.challenges = self.gaps = self.handshake = self.replies = None
        self.snd_up = self.rcv_up = self.error = None
        self.closing = self.reset_owed = self.stopped = self.unscaled = False
        self.reading = reading
        self.progress_at = -1

    def need_keepalive(self, now: int) -> KeepAlive:
        """The keepalive timer, which is made if there is none so far."""
        keepalive = self.keepalive
        if keepalive is None:
            keepalive = self.keepalive = KeepAlive(self.cached, self.delegated, self.settings, now)
        return keepalive

    def stop_timers(self) -> None:
        """Stop all timers, and owe no probe."""
        self.timer.stop()
        if self.keepalive is not None:
            self.keepalive.stop()
        self.ack_clock.stop()
