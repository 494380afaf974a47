"""What a TCP machine tells its owner, besides the segments that it sends."""

from __future__ import annotations

from enum import Enum

__all__ = ["EventKind", "EventQueue", "TcpEvent"]


class EventKind(Enum):
    """The kinds of event. ``value`` and ``text`` are those of :class:`TcpEvent`."""

    CONNECTED = "connected"
    """The handshake is complete: ESTABLISHED is reached."""
    DATA = "data"
    """``value`` more bytes can be read."""
    SENT = "sent"
    """``value`` more bytes given to send() were acknowledged by the remote end."""
    FIN = "fin"
    """The remote end has sent its FIN. Data before the FIN may still be unread."""
    RESET = "reset"
    """An acceptable RST ended the connection."""
    REFUSED = "refused"
    """The SYN was answered by an RST."""
    TIMED_OUT = "timed-out"
    """Retransmissions, window probes or keepalive probes were not answered; ``text`` says which."""
    CLOSED = "closed"
    """The machine has nothing left to do and may be dropped."""
    URGENT = "urgent"
    """Urgent data is announced. ``value`` is the number of bytes up to and including the last urgent one."""
    PROGRESS = "progress"
    """Forward progress was confirmed: the remote end acknowledged something new (R-NUD-04)."""
    DOUBT = "doubt"
    """One segment was sent TcpDoubtReachabilityRetransmissions times: the neighbor may be unreachable."""
    UPLOAD = "upload"
    """The machine wants to be uploaded; ``value`` is a TcpUploadReason. Offloaded machines only."""


class TcpEvent:
    """One event. :class:`EventKind` says what ``value`` and ``text`` mean; other kinds do not use them."""

    __slots__ = ("kind", "text", "value")

    def __init__(self, kind: EventKind, value: int = 0, text: str = "") -> None:
        self.kind = kind
        self.value = value
        self.text = text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TcpEvent):
            return NotImplemented
        return self.kind is other.kind and self.value == other.value and self.text == other.text

    def __hash__(self) -> int:
        return hash((self.kind, self.value, self.text))

    def __repr__(self) -> str:
        detail = f" {self.value}" if self.value else ""
        return f"<{self.kind.value}{detail}{': ' if self.text else ''}{self.text}>"


class EventQueue(list[TcpEvent]):
    """Events, oldest first. A list: a deque would cost an idle connection 700 bytes more."""

    __slots__ = ()

    def popleft(self) -> TcpEvent:
        """Remove and return the oldest event. Raises IndexError if there is none."""
        return self.pop(0)
