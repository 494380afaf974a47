"""What leaves the core: calls, answers and refusals for clients, and events for the trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from ndisbus.core.model import Pending
from ndisbus.core.tracing import describe_call
from ndisbus.messages.codec import RETURN

if TYPE_CHECKING:
    from ndisbus.core.clock import Clock
    from ndisbus.core.fault_rules import FaultTable
    from ndisbus.core.model import Client
    from ndisbus.core.registry import Registry
    from ndisbus.messages.codec import Message

__all__ = ["Interceptor", "Outbound", "Send", "Trace", "clip"]

#: (key of the client, message, payload frames)
Send = tuple[Any, "Message", Sequence[bytes]]
Trace = Callable[[dict[str, Any]], None]

#: Longest text of a report or refusal. It quotes what a client wrote, and must fit into a message.
_MAX_TEXT: Final = 1000


def clip(text: str) -> str:
    """Return the text, shortened if it is too long for a message."""
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


class Interceptor(Protocol):
    """Decides about a call before it is sent. :class:`ndisbus.core.faults.Faults` implements it.

    It is a Protocol because the two need each other: each call that leaves may meet a fault, and a fault that
    fails a call completes its request, which sends. ``Outbound`` is made first, and ``Faults`` then sets
    itself here.
    """

    def intercept(self, client: Client, message: Message, frames: Sequence[bytes]) -> bool:
        """Return whether the call must not be sent now."""


class Outbound:
    """Collects what is to be sent, in order. ``trace``, if set, gets an event for each call that passes."""

    __slots__ = ("clock", "interceptor", "outbox", "refused", "registry", "table", "trace")

    def __init__(self, clock: Clock, registry: Registry, table: FaultTable, trace: Trace | None) -> None:
        self.clock = clock
        self.registry = registry
        self.table = table
        self.trace = trace
        self.interceptor: Interceptor | None = None
        self.outbox: list[Send] = []
        #: Number of refused messages.
        self.refused = 0

    def send(self, client: Client, message: Message, frames: Sequence[bytes] = ()) -> None:
        """Queue a message for a client. Messages for a closed client are dropped."""
        if client.closed:
            return
        if self.trace is not None:
            self.note_call(client, message, inbound=False)
        if (
            self.table.active
            and self.interceptor is not None
            and self.interceptor.intercept(client, message, frames)
        ):
            return
        self.outbox.append((client.key, message, frames))

    def post(self, key: Any, message: Message, frames: Sequence[bytes] = ()) -> None:
        """Queue a message without trace and faults: a control answer, or a call after its fault."""
        self.outbox.append((key, message, frames))

    def expect(self, client: Client, name: str, then: Callable[[list[Any] | None], None]) -> int:
        """Expect the answer to a call that is about to be sent. Returns the call's id."""
        client.next_call += 1
        client.pending[client.next_call] = Pending(name, then)
        return client.next_call

    def call(
        self, client: Client, name: str, args: list[Any], then: Callable[[list[Any] | None], None]
    ) -> None:
        """Call a handler that answers. ``then`` gets its values, or None if the client goes first."""
        if client.closed:
            then(None)
            return
        self.send(client, [name, self.expect(client, name, then), args])

    def answer(self, client: Client, message: Message, *values: Any) -> None:
        """Answer a driver's call."""
        if message[1] is not None:
            self.send(client, [RETURN, message[1], list(values)])

    def refuse(self, key: Any, call_id: int | None, what: str, reason: str) -> None:
        """Tell a sender that its message was refused, and why."""
        self.refused += 1
        what, reason = clip(what), clip(reason)
        self.emit("refused", call=what, reason=reason)
        self.outbox.append((key, ["refused", call_id, [{"Call": what, "Reason": reason}]], ()))

    def note_call(self, client: Client, message: Message, *, inbound: bool) -> None:
        """Trace a message that passes, if it is a call of the call table."""
        event = describe_call(self.registry, client, message, self.clock.now, inbound=inbound)
        if event is not None and self.trace is not None:
            self.trace(event)

    def emit(self, kind: str, **fields: Any) -> None:
        """Trace an event that is not a call."""
        if self.trace is not None:
            self.trace({"t": self.clock.now, "event": kind, **fields})
