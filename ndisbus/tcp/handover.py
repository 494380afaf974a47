"""Taking a connection over and handing it over: between the structures and the running fields.

The rules: R-TMR-05, R-TMR-06, R-TMR-09, R-TMR-12, R-TMR-19, R-TMR-25, R-TS-04, R-TS-05. Each part says what
it takes from the structures and what a successor does not get.
"""

from __future__ import annotations

from ndisbus.net.segment import ACK, FIN, Segment
from ndisbus.tcp import options, output
from ndisbus.tcp.ack_clock import AckClock
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.keepalive import KeepAlive
from ndisbus.tcp.recovery import Recovery
from ndisbus.tcp.rtt import RoundTrip
from ndisbus.tcp.states import CLOSED, NEVER, SYN_SENT
from ndisbus.tcp.timer import SendTimer
from ndisbus.tcp.timestamps import TimestampClock

__all__ = ["Handover", "hand_over", "take_over", "write_back"]


class Handover:
    """What is handed over with the structures.

    ``last``: segments to transmit before anything else: the ACKs that were owed (R-TMR-06).
    ``send_data``: the bytes from SndUna on, in their pieces. ``received``: bytes received and not read.
    ``segments``: out-of-order data, for the successor's receive(). They may be dropped, because the remote
    end still has the data (R-TERM-16).
    """

    __slots__ = ("last", "received", "segments", "send_data")

    def __init__(
        self, send_data: list[bytes], received: list[bytes], segments: list[Segment], last: list[Segment]
    ) -> None:
        self.send_data = send_data
        self.received = received
        self.segments = segments
        self.last = last


def take_over(m: TcpConnection, now: int) -> None:
    """Make the parts of a new machine from the structures."""
    d = m.delegated
    options.refresh(m)
    parameters = m.settings.parameters
    if d.max_snd_wnd < d.snd_wnd:
        d.max_snd_wnd = d.snd_wnd
    m.rtt = RoundTrip(d, m.settings)
    m.recovery = Recovery(d, parameters.tcp_duplicate_ack_threshold, m.mss, sacking=m.sacking)
    m.timer = SendTimer(d, m.rtt, now, limited=m.settings.offloaded or not m.reading)
    m.keepalive = KeepAlive.taken_over(m.cached, d, m.settings, now)
    m.ack_clock = AckClock(parameters, d.rcv_nxt)
    m.timestamps = TimestampClock(d, now)


def write_back(m: TcpConnection, now: int) -> None:
    """Update the structures: see TcpMachine.write_back."""
    m.timer.write_back(now)
    if m.keepalive is not None:
        m.keepalive.write_back(now)
    m.timestamps.write_back(now)


def hand_over(m: TcpConnection, now: int) -> Handover:
    """Hand the connection over: see TcpMachine.hand_over."""
    last: list[Segment] = []
    d = m.delegated
    if m.replies is not None:
        last += m.replies
        m.replies = None
    if d.state is CLOSED:
        last += output.transmit(m, now)
    elif (m.ack_clock.owed or m.ack_clock.due != NEVER) and d.state is not SYN_SENT:
        output.acknowledge(m, now, last)
    write_back(m, now)
    segments = _out_of_order(m)
    result = Handover(m.sending.pieces(), m.received.pieces(), segments, last)
    m.stopped = True
    m.gaps = None
    m.stop_timers()
    return result


def _out_of_order(m: TcpConnection) -> list[Segment]:
    """Return the data behind a gap as segments that carry nothing else new."""
    gaps = m.gaps
    if gaps is None:
        return []
    d = m.delegated
    window = d.snd_wnd >> m.snd_scale
    result = []
    for seq, payload, fin in gaps.segments():
        flags = ACK | FIN if fin else ACK
        segment = Segment(seq, d.snd_una, flags, window, payload, 0, m.const.remote_port, m.const.local_port)
        if m.stamped:
            segment.ts_val = d.ts_recent
            segment.ts_ecr = d.ts_time
        result.append(segment)
    return result
