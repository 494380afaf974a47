"""How events leave the driver: callbacks for code that needs every event, a short queue for code that polls.

The live host, the tour and the scenarios subscribe. The queue is for users of the API, who may leave it
unread: it keeps the last :data:`MAX_EVENTS` events and counts the older ones that it dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from hoststack.model.events import HostEvent

__all__ = ["MAX_EVENTS", "EventChannel"]

#: Most unread events that are kept; a newer one displaces the oldest.
MAX_EVENTS: Final = 1024

E = TypeVar("E", bound=HostEvent)


class EventChannel:
    """Pass each event to its subscribers, and keep the last ones for :meth:`next_event`."""

    __slots__ = ("_queue", "_subscribers", "dropped")

    def __init__(self) -> None:
        self._queue: deque[HostEvent] = deque(maxlen=MAX_EVENTS)
        self._subscribers: dict[type[HostEvent], list[Callable[[Any], None]]] = {}
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
        if len(self._queue) == MAX_EVENTS:
            self.dropped += 1
        self._queue.append(event)
        for kind in (type(event), HostEvent):
            for callback in tuple(self._subscribers.get(kind, ())):
                callback(event)

    def next_event(self) -> HostEvent | None:
        """Take the oldest unread event; None if there is none."""
        try:
            return self._queue.popleft()
        except IndexError:  # asked for like this, threads may take events at the same time
            return None
