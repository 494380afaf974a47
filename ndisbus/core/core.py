"""NDIS as one object: it takes messages and returns messages.

One instance, one thread, no I/O. :meth:`NdisCore.receive` takes a message and the time.
:meth:`NdisCore.drain` returns the messages to send. Each conversation is a part of its own; this module
joins the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndisbus.core.adapters import Adapters
from ndisbus.core.admission import Admission
from ndisbus.core.bindings import Bindings
from ndisbus.core.clock import Clock
from ndisbus.core.completions import Completions
from ndisbus.core.control import Control
from ndisbus.core.dispatch import BugChecks, Dispatcher
from ndisbus.core.epochs import Epochs, heap_start
from ndisbus.core.fault_rules import FaultTable
from ndisbus.core.faults import Faults
from ndisbus.core.hangs import HangWatch
from ndisbus.core.indications import Indications
from ndisbus.core.io import Io
from ndisbus.core.joining import Joining
from ndisbus.core.model import Client, CoreConfig, Injected, Pending
from ndisbus.core.oids import Oids
from ndisbus.core.outbound import Outbound, Send, Trace
from ndisbus.core.packets import Packets
from ndisbus.core.registration import Registration
from ndisbus.core.registry import Registry
from ndisbus.core.removal import Removal
from ndisbus.core.request_books import RequestBooks
from ndisbus.core.requests import Requests
from ndisbus.core.survey import Survey
from ndisbus.core.terminator import Terminator
from ndisbus.core.violation import Violation
from ndisbus.ddi.calls import CALLS
from ndisbus.errors import DecodeError, RemoteProtocolError, value_text
from ndisbus.lists.heap import NDIS_SPACE, Heap
from ndisbus.messages.codec import PROGRESS, RETURN, ROOM
from ndisbus.messages.parts import PART

if TYPE_CHECKING:
    from ndisbus.messages.codec import Message
    from ndisbus.randomness import Randomness

__all__ = ["NdisCore"]


class NdisCore:
    """NDIS. ``trace``, if given, is called with an event map for each message that passes.

    Only faults with a probability draw from ``rng``; without ``rng`` they are refused. Epochs count from
    ``epoch_base`` + 1 (:mod:`ndisbus.core.epochs`).
    """

    def __init__(
        self,
        config: CoreConfig | None = None,
        trace: Trace | None = None,
        rng: Randomness | None = None,
        *,
        epoch_base: int = 0,
    ) -> None:
        # Each part may ask only the parts above it.
        self.config = config = config or CoreConfig()
        self.heap = heap = Heap(NDIS_SPACE, heap_start(epoch_base))
        self.clock = clock = Clock()
        self.registry = registry = Registry()
        self.table = table = FaultTable(rng)
        self.injected = injected = Injected()
        self.out = out = Outbound(clock, registry, table, trace)
        io = Io(out, registry, injected)
        packets = Packets(clock, out, registry, injected)
        oids = Oids(clock, out, registry, heap, injected)
        books = RequestBooks(out, io)
        terminator = Terminator(config, clock, heap, books)
        requests = Requests(clock, out, registry, injected, books, terminator)
        completions = Completions(clock, out, registry, io, books, terminator)
        self.bindings = bindings = Bindings(config, clock, out, registry, heap, io, packets, oids, terminator)
        indications = Indications(out, registry, injected, io)
        self.removal = Removal(out, registry, bindings, io, packets, oids, completions)
        self.hangs = HangWatch(config, clock, out, self.removal)
        epochs = Epochs(epoch_base)
        adapters = Adapters(out, registry, heap, epochs, bindings, self.hangs)
        registration = Registration(out, registry, heap, bindings, adapters)
        self.bug_checks = BugChecks(clock, out, self.removal)
        self.joining = Joining(config, clock, self.bug_checks, self.removal, self.hangs)
        self.dispatcher = Dispatcher(self.bug_checks)
        self.faults = Faults(clock, out, registry, table, injected, self.dispatcher, io, packets, completions)
        out.interceptor = self.faults
        self.admission = Admission(config, clock, out, registry, epochs)
        self.survey = Survey(config, clock, out, registry, heap, table, self.bug_checks, self.admission)
        self.control = Control(clock, out, registry, table, bindings, self.survey)
        for part in (requests, completions, io, packets, oids, indications, registration, adapters, bindings):
            self.dispatcher.register(part.handlers())
        missing = self.dispatcher.missing()
        if missing:
            raise AssertionError(f"calls that no part of the core serves: {missing}")
        # Both dicts live as long as the core. The hot path keeps direct references to them.
        self._clients = registry.clients
        self._handlers = self.dispatcher.handlers

    # -- in ------------------------------------------------------------------------------------

    def receive(self, key: Any, message: Message, frames: Sequence[bytes], now: float) -> None:
        """Handle one decoded message of the client ``key``."""
        self.clock.now = now
        name = message[0]
        client = self._clients.get(key)
        if client is None or client.closed:
            if not self.control.handle(key, message):
                self.admission.receive(key, client, message)
            return
        if name == PROGRESS:
            self._receive_progress(client, message)
            return
        client.heard_at = now
        if client.assembly is not None or name == PART:
            joined = self.joining.receive(client, message, frames)
            if joined is None:
                return
            message, frames = joined
            name = message[0]
        if name == RETURN:
            self._receive_answer(client, message)
        elif name in self._handlers:
            if self.out.trace is not None:
                self.out.note_call(client, message, inbound=True)
            if not (self.table.active and self.faults.receive(client, message, frames)):
                self.dispatcher.dispatch(client, message, frames)
        elif name == "goodbye":
            self.removal.remove(client, "left", idle=_is_idle(message[2]))
        elif name == "hello":
            self.out.refuse(key, message[1], name, "this connection has already said hello")
        elif not self.control.handle(key, message):
            error = RemoteProtocolError(f"{name} is not a function that NDIS offers")
            self.bug_checks.report(client, message, error)

    def _receive_progress(self, client: Client, message: Message) -> None:
        try:
            self.hangs.progress(client, message)
        except RemoteProtocolError as e:
            self.bug_checks.report(client, message, e)

    def _receive_answer(self, client: Client, message: Message) -> None:
        """Pass an answer to the part that waits for it."""
        pending = client.pending.pop(message[1], None)
        if pending is not None:
            client.ended.answered(message[1])
        if pending is None:
            error = RemoteProtocolError(f"answer to call {message[1]}, which is not open")
            self.bug_checks.report(client, message, error)
            return
        try:
            _check_answer(pending, message[2])
            pending.then(message[2])
        except RemoteProtocolError as e:
            self.bug_checks.report(client, [pending.name, None, []], e)

    def reject(self, key: Any, error: DecodeError, now: float) -> None:
        """Refuse bytes of ``key`` that are not a packet. Other clients are not affected."""
        self.clock.now = now
        self.out.refuse(key, None, "packet", str(error))

    def room_of(self, key: Any) -> int:
        """Return how many bytes above the limit a packet of ``key`` may have.

        An intermediate driver passes on what another driver made as large as the limit.
        """
        client = self._clients.get(key)
        return ROOM // 2 if client is not None and client.is_intermediate else 0

    # -- out -----------------------------------------------------------------------------------

    def drain(self) -> list[Send]:
        """Return the messages to send, in order, and forget them."""
        out = self.out
        sends, out.outbox = out.outbox, []
        return sends

    def joins_parts(self, key: Any) -> bool:
        """Return whether the client ``key`` can join parts of messages."""
        client = self._clients.get(key)
        return client is not None and client.joins_parts

    # -- time ----------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return the time at which :meth:`on_timer` is due; None if nothing is scheduled."""
        return self.clock.next_deadline()

    def resumed(self, now: float, paused: float) -> None:
        """Note that this process, and perhaps the whole machine, did not run for ``paused`` seconds."""
        self.clock.now = now
        self.hangs.resumed(paused)

    def on_timer(self, now: float) -> None:
        """Run the actions that are due at ``now``."""
        self.clock.advance(now)


def _is_idle(args: list[Any]) -> bool:
    """Return whether a goodbye says that the driver has begun no request that it has not completed."""
    return len(args) == 1 and type(args[0]) is dict and args[0].get("Idle") is True


def _check_answer(pending: Pending, values: list[Any]) -> None:
    """Check that an answer has the status that its call returns. Raises :class:`Violation` if it has not."""
    call = CALLS.get(pending.name)
    if values and (call is None or call.returns != "NDIS_STATUS" or type(values[0]) is int):
        return
    pending.then(None)
    reason = f"{value_text(values[0])} is not an NDIS_STATUS" if values else "an empty answer"
    raise Violation("return", reason)
