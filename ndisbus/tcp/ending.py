"""How a connection ends, and what its owner hears of it: closed, reset, given up, or to be uploaded.

Also the answers of RFC 9293 3.10.7.1 and 3.10.7.2 to segments for which there is no machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ndisbus.ddi.enums import TcpUploadReason
from ndisbus.net.segment import ACK, RST, SYN, Segment
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.states import (
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    NEVER,
    OFF,
    SYN_RCVD,
)

if TYPE_CHECKING:
    from ndisbus.tcp.machine import TcpMachine

__all__ = [
    "KEEP_ALIVE_PROBE",
    "NOTHING",
    "RESET",
    "WINDOW_PROBE",
    "abort",
    "answer_closed",
    "answer_listen",
    "close",
    "note",
    "progress",
    "stop_timers",
    "timed_out",
    "upload",
]

# What is owed to the peer beyond data and ACKs: TcpMachine.owed.
NOTHING: Final = 0
WINDOW_PROBE: Final = 1
KEEP_ALIVE_PROBE: Final = 2
RESET: Final = 3

_TELL: Final = (SYN_RCVD, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT)


def note(m: TcpMachine, kind: EventKind, value: int) -> None:
    """Count ``value`` bytes into an event of this kind that still waits, or add one."""
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


def progress(m: TcpMachine, now: int) -> None:
    """Something new came from the peer, or was acknowledged by it (R-NUD-04, RFC 4861 7.3.1)."""
    if m.progress_at != now:
        m.progress_at = now
        note(m, EventKind.PROGRESS, 0)


def stop_timers(m: TcpMachine) -> None:
    """No timer runs any more."""
    m.timer = m.keepalive = OFF
    m.ack_due = m.sws_due = m.window_due = NEVER


def close(m: TcpMachine, error: str | None = None, kind: EventKind | None = None) -> None:
    """CLOSED: nothing is sent or taken any more; what was received can still be read."""
    if m.delegated.state is CLOSED:
        return
    m.delegated.state = CLOSED
    stop_timers(m)
    m.ack_now = False
    m.owed = NOTHING
    if error is not None:
        m.error = error
    if kind is not None:
        m.events.append(TcpEvent(kind, 0, error or ""))
    m.events.append(TcpEvent(EventKind.CLOSED, 0, error or ""))


def abort(m: TcpMachine) -> None:
    """See TcpMachine.abort."""
    tell = m.delegated.state in _TELL and not m.stopped
    close(m, "aborted")
    if tell:
        m.owed = RESET


def timed_out(m: TcpMachine, why: str) -> None:
    """Nothing came back: a host gives the connection up, a target hands it to the host (R-EVT-10)."""
    if m.settings.offloaded:
        upload(m, TcpUploadReason.TimeoutExpiration, why)
    else:
        close(m, why, EventKind.TIMED_OUT)


def upload(m: TcpMachine, reason: TcpUploadReason, why: str, *, closed: bool = False) -> None:
    """Ask for the upload and stop processing (R-EVT-05); timers keep their values for the hand-over.

    ``closed``: the connection goes up in the CLOSED state.
    """
    m.stopped = True
    if closed:
        m.delegated.state = CLOSED
        m.ack_now = False
        m.ack_due = NEVER
    m.events.append(TcpEvent(EventKind.UPLOAD, int(reason), why))


def answer_closed(segment: Segment) -> Segment | None:
    """The RST for a segment that belongs to no connection, RFC 9293 3.10.7.1; None answers an RST."""
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
    """(whether to open a connection for it, the RST to send) in LISTEN, RFC 9293 3.10.7.2."""
    flags = segment.flags
    if flags & RST:
        return False, None
    if flags & ACK:
        return False, answer_closed(segment)
    return bool(flags & SYN), None
