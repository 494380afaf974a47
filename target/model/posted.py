"""What is posted on one connection: the requests of the layers above, and the progress of their delivery."""

from __future__ import annotations

from collections import deque

from ndisbus.lists.nbl import NetBufferList
from ndisbus.lists.nbl_chain import Attachments

__all__ = ["Posted", "TcpIo"]


class Posted:
    """A net buffer list that was posted and has not been completed.

    :mod:`target.data.delivery` fills posted receive requests.

    ``call_context`` is the NET_BUFFER_LIST.Context that came with it. It goes back unchanged.
    """

    __slots__ = ("_attachments", "_nbl", "address", "call_context", "done", "flags", "size", "source_handle")

    def __init__(
        self,
        address: int,
        source_handle: int | None,
        *,
        attachments: Attachments | None = None,
        nbl: NetBufferList | None = None,
        call_context: int | None = None,
        flags: int = 0,
    ) -> None:
        self.address = address
        self.source_handle = source_handle
        self.call_context = call_context
        #: Flags of a disconnect (TcpDisconnectFlags).
        self.flags = flags
        #: Bytes transferred so far: sent and acknowledged, or placed.
        self.done = 0
        #: Bytes that the TCP machine has to send (:mod:`target.data.sending`).
        self.size = 0
        self._nbl = nbl
        self._attachments = attachments

    @property
    def has_descriptor(self) -> bool:
        """Whether the call carried the list itself, not only its address."""
        return self._nbl is not None or self._attachments is not None

    @property
    def nbl(self) -> NetBufferList:
        """The list, or an empty one if the call carried only its address. Raises DecodeError if malformed."""
        if self._nbl is None:
            found = self._attachments.read().get(self.address) if self._attachments is not None else None
            self._nbl = found or NetBufferList(self.address, source_handle=self.source_handle)
        return self._nbl


class TcpIo:
    """The requests posted on one connection, in order, and the state of delivery."""

    __slots__ = (
        "adopted",
        "backlog_at",
        "backlog_said",
        "backlog_wanted",
        "buffered",
        "deferred",
        "disconnects",
        "fin_pending",
        "fin_received",
        "forwards",
        "held",
        "held_bytes",
        "indicating",
        "push_at",
        "push_set",
        "pushed",
        "receives",
        "sends",
        "waiting",
        "window_due",
    )

    def __init__(self, send_backlog: int | None) -> None:
        self.sends: deque[Posted] = deque()
        self.receives: deque[Posted] = deque()
        self.disconnects: deque[Posted] = deque()
        self.forwards: deque[Posted] = deque()
        #: Bytes received and acknowledged but not delivered. Empty if there is a TCP machine: then its
        #: receive buffer holds them.
        self.buffered = bytearray()
        #: Undelivered bytes that came down with the connection and take room in the adapter (R-BRD-03).
        self.adopted = 0
        #: Whether nothing is indicated until the host posts a receive request: data came down with the
        #: connection, or the host refused an indication (R-BRD-05, R-IND-06).
        self.waiting = False
        #: Whether the newest data in sequence had PSH (R-OPEN-03).
        self.pushed = False
        #: Whether an indication waits until an initiate has completed.
        self.deferred = False
        #: Whether a FIN arrived. It is indicated when everything before it has been consumed (R-DISC-14).
        self.fin_pending = False
        #: Whether a FIN was indicated (R-RECV-11).
        self.fin_received = False
        #: Frames to indicate when the connection has been terminated (R-IP-08), and their bytes.
        self.held: list[bytes] = []
        self.held_bytes = 0
        #: Whether a receive indication has not returned yet (R-RECV-05, R-TERM-09).
        self.indicating = False
        #: When a partly filled push request completes, or None (R-RECV-15).
        self.push_at: float | None = None
        #: When the timer set for it fires. A later ``push_at`` does not move the timer.
        self.push_set: float | None = None
        #: Whether an update wants the new window to be advertised (R-STATE-18). The TCP machine does it.
        self.window_due = False
        self.backlog_said = send_backlog
        self.backlog_wanted = send_backlog
        self.backlog_at: float | None = None

    @property
    def idle(self) -> bool:
        """Return whether nothing is posted and nothing is buffered."""
        return not (self.sends or self.receives or self.disconnects or self.forwards or self.buffered)
