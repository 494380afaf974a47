"""One connection to the bus: a DEALER socket and its monitor, made anew for each attempt.

Each attempt has its own socket, and a driver's socket connects once only. So what a driver sends in one epoch
never reaches the next bus, and what it reads is always from the bus that admitted it.
"""

from __future__ import annotations

import contextlib
import enum
import struct
from collections.abc import Sequence
from typing import Any, Final

import zmq

from ndisbus.runtime.curve import ClientKeys

__all__ = ["ABSENT", "Connection", "Phase", "set_heartbeats"]

#: As plain numbers: computing with the flag type is slow.
_READABLE: Final = int(zmq.POLLIN)
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_LAST: Final = int(zmq.NOBLOCK)
_EVENTS: Final = (
    zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)

#: Heartbeats of tcp connections, in milliseconds: the interval, and how long an answer may be missing.
HEARTBEAT: Final = (500, 2000)


def set_heartbeats(sock: zmq.Socket[bytes]) -> None:
    """Make ZeroMQ detect that the host at the other end of a tcp connection is dead."""
    sock.heartbeat_ivl, sock.heartbeat_timeout = HEARTBEAT
    sock.heartbeat_ttl = HEARTBEAT[1]


class Phase(enum.Enum):
    """State of the connection: none, hello sent, admitted."""

    AWAY = "away"
    HELLO = "hello"
    READY = "ready"


#: Longest wait of a receive that may wait, in milliseconds (see DriverProcess and Broker).
HOT_MS: Final = 5


#: What :meth:`Connection.lost` returns if no bus listens.
ABSENT: Final = "no bus listens"


class Connection:
    """Connects to the bus at ``endpoint``. :attr:`monitor` is readable when the connection has broken.

    With ``again``, ZeroMQ connects again by itself. That is only for clients without an epoch.
    """

    def __init__(
        self, context: zmq.Context[Any], endpoint: str, keys: ClientKeys | None, *, again: bool = False
    ) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.sndhwm = self.socket.rcvhwm = 0
        self.socket.rcvtimeo = HOT_MS
        self.socket.reconnect_ivl = 20 if again else -1
        self.socket.reconnect_ivl_max = 200 if again else 0
        if endpoint.startswith("tcp://"):
            set_heartbeats(self.socket)
        if keys is not None:
            keys.apply(self.socket)
        self.monitor: zmq.Socket[bytes] = self.socket.get_monitor_socket(_EVENTS)
        self.socket.connect(endpoint)
        self.fd: int = self.socket.fd
        self.monitor_fd: int = self.monitor.fd
        self._get: Any = self.socket.get
        #: Why connecting has failed already; "" if it has not. The monitor does not report it again.
        # A ZeroMQ descriptor is edge-triggered: read ZMQ_EVENTS until it is 0 before polling.
        self.failure = self.lost()

    def send(self, frames: Sequence[Any]) -> None:
        """Send a packet. It is dropped if the connection has ended, which the monitor reports."""
        send, last = self.socket.send, len(frames) - 1
        # There is no limit to what may wait, so only an ended connection cannot take it.
        with contextlib.suppress(zmq.Again):
            for i, frame in enumerate(frames):
                send(frame, _LAST if i == last else _MORE)

    def readable(self) -> bool:
        """Return whether a message has arrived."""
        return bool(self._get(zmq.EVENTS) & _READABLE)

    def lost(self) -> str:
        """Return why the connection cannot be used any more; "" if it can."""
        get: Any = self.monitor.get
        while get(zmq.EVENTS) & _READABLE:
            event = struct.unpack("=hi", self.monitor.recv_multipart()[0])[0]
            if event == zmq.EVENT_CLOSED:
                return ABSENT  # connecting has failed; an established connection reports that it disconnected
            if event == zmq.EVENT_DISCONNECTED:
                return "the connection to the bus broke"
            if event in (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
                return "the bus does not accept this client's keys"
            if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                return "the bus did not complete the handshake of the connection"
        return ""

    def close(self) -> None:
        """Close the connection and drop what was not sent."""
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=0)
