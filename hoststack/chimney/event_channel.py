"""How events leave the driver: callbacks for code that needs every event, a short queue for code that polls.

The live host, the tour and the scenarios subscribe. The queue is for users of the API, who may leave it
unread: it keeps the last :data:`MAX_EVENTS` events, or fewer if they keep more than :data:`MAX_BYTES` alive,
and counts the older ones that it dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from hoststack.model.events import HostEvent

__all__ = ["MAX_BYTES", "MAX_EVENTS", "EventChannel"]

#: Most unread events that are kept; a newer one displaces the oldest.
MAX_EVENTS: Final = 1024
#: Most bytes that unread events keep alive: connections that are forgotten, objects of operations. The newest
#: event is kept in any case.
MAX_BYTES: Final = 4 << 20
#: About how many bytes an event itself has.
_EVENT_BYTES: Final = 128

E = TypeVar("E", bound=HostEvent)


class EventChannel:
    """Pass each event to its subscribers, and keep the last ones for :meth:`next_event`."""

    __slots__ = ("_kept", "_objects", "_queue", "_subscribers", "dropped", "kept_bytes")

    def __init__(self) -> None:
        self._queue: deque[HostEvent] = deque()
        #: For each event in the queue, and perhaps for some that were taken meanwhile: what it keeps alive.
        self._kept: deque[int] = deque()
        #: Object that events keep alive -> how many events, and its bytes.
        self._objects: dict[int, tuple[int, int]] = {}
        self._subscribers: dict[type[HostEvent], list[Callable[[Any], None]]] = {}
        #: About how many bytes the unread events keep alive.
        self.kept_bytes = 0
        #: Events that were dropped from the queue unread.
        self.dropped = 0

    def __len__(self) -> int:
        """The number of unread events."""
        return len(self._queue)

    def subscribe(self, kind: type[E], callback: Callable[[E], None]) -> Callable[[], None]:
        """Call back with every event of one class; ``HostEvent`` stands for all of them.

        Subscribers of the class are called before those of all events, each group in the order of
        subscription. Returns a function that ends the subscription.
        """
        callbacks = self._subscribers.setdefault(kind, [])
        callbacks.append(callback)
        return lambda: callbacks.remove(callback)

    def emit(self, event: HostEvent) -> None:
        """Queue an event and tell the subscribers."""
        self._add(event)
        for kind in (type(event), HostEvent):
            for callback in tuple(self._subscribers.get(kind, ())):
                callback(event)

    def next_event(self) -> HostEvent | None:
        """Take the oldest unread event; None if there is none."""
        try:
            return self._queue.popleft()
        except IndexError:  # asked for like this, threads may take events at the same time
            return None

    def _add(self, event: HostEvent) -> None:
        """Append to the queue, and drop the oldest events that are too many. For the host's own thread."""
        self._forget_taken()
        obj, size = event.keeps()
        key = id(obj)
        events, size_before = self._objects.get(key, (0, 0))
        # A connection may have more data by now than when its last event was added.
        size = max(size, size_before)
        self._objects[key] = (events + 1, size)
        self.kept_bytes += size - size_before + _EVENT_BYTES
        self._kept.append(key)
        self._queue.append(event)
        while len(self._queue) > MAX_EVENTS or (self.kept_bytes > MAX_BYTES and len(self._queue) > 1):
            if self.next_event() is not None:
                self.dropped += 1
            self._forget_taken()

    def _forget_taken(self) -> None:
        """Stop counting events that have left the queue."""
        while len(self._kept) > len(self._queue):
            key = self._kept.popleft()
            events, size = self._objects.pop(key)
            self.kept_bytes -= _EVENT_BYTES
            if events > 1:
                self._objects[key] = (events - 1, size)
            else:
                self.kept_bytes -= size
