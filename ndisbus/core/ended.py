"""The bindings of one client that have ended, as long as its calls may cross their ends.

NDIS ends things that a driver still names, because the driver has not read of the end: two messages cross.
What a driver could not know yet is not its fault. So NDIS remembers each ended binding until the driver has
read of the end. A client reads its messages in order, and an answer carries the number of its call. So an
answer to a call that NDIS made after a message shows that the message was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_ENDED", "EndedBindings"]

#: How many ended bindings of a client are remembered. Each needs an answer of the client to an offer in
#: between, so a client that does not read cannot have as many as this.
MAX_ENDED: Final = 64


@dataclass(slots=True, eq=False)
class _Ended:
    """One of them.

    ``forced``: NDIS closed it because its time was over. ``closable``: the driver did not close it itself and
    may still do so. ``told``: the number of the latest call when the driver was told of the end; None before.
    """

    context: int
    forced: bool
    closable: bool
    told: int | None = None


class EndedBindings:
    """Which bindings have ended, how, and whether their protocol knows of it."""

    __slots__ = ("_all", "_unread", "overtaken")

    def __init__(self) -> None:
        self._all: dict[int, _Ended] = {}
        #: The ones whose end the client may not have read of. Mostly empty.
        self._unread: list[_Ended] = []
        #: A fault dropped or delayed a message for this client. So an answer shows nothing any more.
        self.overtaken = False

    def __contains__(self, handle: object) -> bool:
        return handle in self._all

    def begin(self, handle: int, context: int, *, forced: bool, closable: bool) -> None:
        """Note that a binding begins to close."""
        ended = self._all[handle] = _Ended(context, forced, closable)
        self._unread.append(ended)
        while len(self._all) > MAX_ENDED:
            oldest = self._all.pop(next(iter(self._all)))
            if oldest in self._unread:
                self._unread.remove(oldest)

    def told(self, handle: int, call: int) -> None:
        """Note that the driver is told of the end now, after NDIS's call number ``call``."""
        ended = self._all.get(handle)
        if ended is not None:
            ended.told = call

    def answered(self, call: int) -> None:
        """Note an answer to a call of NDIS: what was sent before that call has been read."""
        if self._unread and not self.overtaken:
            self._unread = [e for e in self._unread if e.told is None or e.told >= call]

    @property
    def unread(self) -> bool:
        """Return whether calls of this client may cross the end of a binding."""
        return bool(self._unread)

    def closable(self, handle: int | None) -> bool:
        """Return whether NDIS has closed this binding, so that closing it again is not an error."""
        ended = self._all.get(handle) if self._all and handle is not None else None
        return ended is not None and ended.closable

    def forced(self, handle: int | None) -> bool:
        """Return whether NDIS has closed this binding by force."""
        ended = self._all.get(handle) if self._all and handle is not None else None
        return ended is not None and ended.forced

    def crossed(self, handle: int | None) -> int | None:
        """Return the ProtocolBindingContext of a binding closed by force whose end may be unread, or None."""
        ended = self._all.get(handle) if self._unread and handle is not None else None
        return ended.context if ended is not None and ended.forced and ended in self._unread else None

    def crossed_any(self) -> int | None:
        """Return the context of any such binding, for a call that names no binding; or None."""
        return next((e.context for e in self._unread if e.forced), None)
