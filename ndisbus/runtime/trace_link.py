"""The trace from the bus to its listeners: a publishing socket beside the bus's own.

Without listeners nothing is recorded and tracing costs nothing. A listener that is too slow loses events and
does not delay the bus. Each message is ``[events lost so far, [event map, ...]]`` in msgpack.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack
import zmq

from ndisbus.rundir import trace_endpoint
from ndisbus.runtime.curve import BusKeys, ClientKeys
from ndisbus.runtime.endpoint import bind

__all__ = ["TracePublisher", "TraceSubscriber"]

#: Number of messages kept for a slow listener. Each has the events of one turn of the bus.
HIGH_WATER: Final = 20_000
#: Most events in one message.
_CHUNK: Final = 1000

#: As a plain number: computing with the flag type is slow.
_READABLE: Final = int(zmq.POLLIN)


class TracePublisher:
    """The bus's end. While there are listeners, :meth:`note` is the core's trace function."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, keys: BusKeys | None) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.XPUB)
        self.socket.sndhwm = HIGH_WATER
        # With NODROP a full pipe is reported and can be counted. The events are still dropped.
        self.socket.xpub_nodrop = True
        # The welcome tells a listener that from now on it misses nothing.
        self.socket.setsockopt(zmq.XPUB_WELCOME_MSG, msgpack.packb([0, []]))
        if keys is not None:
            keys.apply(self.socket)
        self.unbind = bind(self.socket, endpoint)
        self.lost = 0
        self._events: list[dict[str, Any]] = []
        self.note = self._events.append
        self._topics: set[bytes] = set()
        self._pack = msgpack.Packer(default=str).pack

    def subscriptions(self) -> bool:
        """Update the number of listeners. Returns whether there are any."""
        get: Any = self.socket.get
        while get(zmq.EVENTS) & _READABLE:
            said = self.socket.recv()
            if said[:1] == b"\x01":
                self._topics.add(said[1:])
            elif said[:1] == b"\x00":
                self._topics.discard(said[1:])
        return bool(self._topics)

    def flush(self) -> None:
        """Publish the events recorded since the last call."""
        events = self._events
        while events:
            chunk = events[:_CHUNK]
            del events[:_CHUNK]
            try:
                self.socket.send(self._pack([self.lost, chunk]), zmq.NOBLOCK)
            except zmq.Again:
                self.lost += len(chunk)


class TraceSubscriber:
    """A listener's end; a context manager. ``endpoint`` is the bus's."""

    def __init__(self, endpoint: str, keys: ClientKeys | None = None) -> None:
        self.lost = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.linger = 0
        self._socket.rcvhwm = HIGH_WATER
        self._socket.reconnect_ivl = 50
        if keys is not None:
            keys.apply(self._socket)
        self._socket.connect(trace_endpoint(endpoint))
        self._socket.subscribe(b"")

    def __enter__(self) -> TraceSubscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def read(self, timeout: float) -> list[dict[str, Any]] | None:
        """Return the next events; [] for a bus's welcome; None if nothing came in ``timeout`` seconds."""
        if not self._socket.poll(max(0, round(timeout * 1000))):
            return None
        lost, events = msgpack.unpackb(self._socket.recv(), strict_map_key=False)
        self.lost = max(self.lost, lost)
        return list(events)
