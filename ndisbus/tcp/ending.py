"""How a connection ends, and what its owner is told: closed, reset, timed out, or to be uploaded.

Also the answers to segments without a machine (RFC 9293 3.10.7.1 and 3.10.7.2).
"""

from __future__ import annotations

from typing import Final

from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.net.segment import ACK, RST, SYN, Segment
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.states import (
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    SYN_RCVD,
    TIME_WAIT,
)

__all__ = [
    "abort",
    "answer_closed",
    "answer_listen",
    "close",
    "fin_wait_2",
    "note",
    "progress",
    "time_wait",
    "timed_out",
    "upload",
]

_TELL: Final = (SYN_RCVD, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT)
"""States in which the remote end must be told of an abort (RFC 9293 3.10.5)."""


def note(m: TcpConnection, kind: EventKind, value: int) -> None:
    """Add ``value`` bytes to a waiting event of this kind, or queue a new event."""
    events = m.events
    if events:
        last = events[-1]
        if last.kind is kind:
            last.value += value
            return
        if len(events) > 1:
            last = events[-2]
            if last.kind is kind:
                last.value += value
                return
    events.append(TcpEvent(kind, value))


def progress(m: TcpConnection, now: int) -> None:
    """Report progress: the remote end sent or acknowledged something new (R-NUD-04, RFC 4861 7.3.1)."""
    if m.progress_at != now:
        m.progress_at = now
        note(m, EventKind.PROGRESS, 0)


def close(m: TcpConnection, error: str | None = None, kind: EventKind | None = None) -> None:
    """Enter CLOSED: nothing is sent or received any more. Received data can still be read."""
    if m.delegated.state is CLOSED:
        return
    m.delegated.state = CLOSED
    m.stop_timers()
    m.ack_clock.cancel()
    if error is not None:
        m.error = error
    if kind is not None:
        m.events.append(TcpEvent(kind, 0, error or ""))
    m.events.append(TcpEvent(EventKind.CLOSED, 0, error or ""))


def abort(m: TcpConnection) -> None:
    """Abort the connection: see TcpMachine.abort."""
    tell = m.delegated.state in _TELL and not m.stopped
    close(m, "aborted")
    if tell:
        m.reset_owed = True


def fin_wait_2(m: TcpConnection, now: int) -> None:
    """Limit FIN_WAIT_2, counted from now: on a target, and on a host whose user has closed both halves.

    RFC 9293 3.6: the remote end of a half-closed connection may be silent for as long as it likes. A target
    always runs the timer (R-TMR-07).
    """
    if m.settings.offloaded or not m.reading:
        m.timer.fin_wait_2(now)
    else:
        m.timer.off()


def time_wait(m: TcpConnection, now: int) -> None:
    """Enter TIME_WAIT, or restart its two MSL. A target offers the connection for upload (R-TMR-04)."""
    m.timer.time_wait(now)
    if m.delegated.state is TIME_WAIT:
        return
    m.delegated.state = TIME_WAIT
    if m.keepalive is not None:
        m.keepalive.off()
    if m.settings.offloaded:
        # It continues until the upload: the remote end may repeat its FIN.
        m.events.append(TcpEvent(EventKind.UPLOAD, int(TcpUploadReason.UploadRequested), "TIME_WAIT"))


def timed_out(m: TcpConnection, why: str) -> None:
    """Act on a remote end that does not answer: a host closes, a target asks for upload (R-EVT-10)."""
    if m.settings.offloaded:
        upload(m, TcpUploadReason.TimeoutExpiration, why)
    else:
        close(m, why, EventKind.TIMED_OUT)


def upload(m: TcpConnection, reason: TcpUploadReason, why: str, *, closed: bool = False) -> None:
    """Ask for the upload and stop processing (R-EVT-05). Timers keep their values for the hand-over.

    ``closed``: the connection is uploaded in the CLOSED state.
    """
    m.stopped = True
    if closed:
        m.delegated.state = CLOSED
        m.ack_clock.cancel()
    m.events.append(TcpEvent(EventKind.UPLOAD, int(reason), why))


def answer_closed(segment: Segment) -> Segment | None:
    """Return the RST for a segment without a connection (RFC 9293 3.10.7.1); None if it is an RST itself."""
    flags = segment.flags
    if flags & RST:
        return None
    if flags & ACK:
        answer = Segment(segment.ack, 0, RST, 0)
    else:
        answer = Segment(0, (segment.seq + segment.length) & 0xFFFFFFFF, RST | ACK, 0)
    answer.source_port = segment.destination_port
    answer.destination_port = segment.source_port
    return answer


def answer_listen(segment: Segment) -> tuple[bool, Segment | None]:
    """Answer a segment in LISTEN (RFC 9293 3.10.7.2). Returns (whether to open a connection, RST to send)."""
    flags = segment.flags
    if flags & RST:
        return False, None
    if flags & ACK:
        return False, answer_closed(segment)
    return bool(flags & SYN), None
