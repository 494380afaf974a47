"""The heart of NDIS: who is there, what a message means, what goes out.

One instance, one thread, no I/O. :meth:`NdisCore.receive` takes a message and the time; what is to be
sent is collected in :attr:`NdisCore.outbox`. The conversations live in modules of their own, each a
class that this one is composed of.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any, Final

from ndisbus.core.base import Violation
from ndisbus.core.binding import BindingPart
from ndisbus.core.completions import CompletionPart
from ndisbus.core.control import ControlPart
from ndisbus.core.fault_rules import FaultTable
from ndisbus.core.faulting import FaultPart
from ndisbus.core.indications import IndicationPart
from ndisbus.core.io import IoPart
from ndisbus.core.model import BugCheck, CoreConfig, Peer, Pending
from ndisbus.core.oids import OidPart
from ndisbus.core.packets import PacketPart
from ndisbus.core.registration import RegistrationPart
from ndisbus.core.removal import RemovalPart
from ndisbus.core.requests import RequestPart
from ndisbus.ddi.calls import (
    BLOCKS_MINIPORT,
    BLOCKS_PROTOCOL,
    CALLS,
    HANDLE,
    IO_OPERATIONS,
    NBL,
    STATE_OPERATIONS,
    STRUCT,
    TEXT,
    ULONG,
)
from ndisbus.errors import DecodeError, RemoteProtocolError
from ndisbus.lists.heap import NDIS_SPACE, Heap
from ndisbus.messages.codec import RETURN, Message
from ndisbus.randomness import Randomness

__all__ = ["NdisCore", "Send"]

#: Requests and completions of block lists: a handle and a list each.
_LISTS: Final = frozenset(n for o in STATE_OPERATIONS for n in (o.request, o.completion))
_LIST_PARAMS: Final = 2

#: (peer key, message, payload frames)
Send = tuple[Any, Message, Sequence[bytes]]

Handler = Callable[[Peer, Message, Sequence[bytes]], None]

#: Longest text of a report or refusal: it quotes what a stranger wrote, and must travel itself.
_MAX_TEXT: Final = 1000
#: Python types of what a parameter carries, and the bound of a number.
_TYPES: Final[dict[str, tuple[frozenset[type], int]]] = {
    HANDLE: (frozenset((int, type(None))), 1 << 64),
    ULONG: (frozenset((int,)), 1 << 32),
    TEXT: (frozenset((str,)), 0),
    STRUCT: (frozenset((dict,)), 0),
    NBL: (frozenset((dict,)), 0),
    BLOCKS_PROTOCOL: (frozenset((dict,)), 0),
    BLOCKS_MINIPORT: (frozenset((dict,)), 0),
}
#: Generic indications other than NeighborReachabilityQuery carry no list (R-NUD-14).
_NULLABLE: Final = frozenset(("NdisMOffloadEventIndicate",))


def _clip(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


class NdisCore(
    RequestPart,
    CompletionPart,
    IoPart,
    PacketPart,
    OidPart,
    IndicationPart,
    RegistrationPart,
    BindingPart,
    RemovalPart,
    FaultPart,
    ControlPart,
):
    """NDIS. ``trace`` is called with an event map for everything that passes, if it is not None.

    ``rng`` is drawn from by faults with a probability, and by nothing else; without one there are none.
    Epochs count from ``epoch_base`` + 1; a bus that is to follow another takes a later base than that one.
    """

    def __init__(
        self,
        config: CoreConfig | None = None,
        trace: Callable[[dict[str, Any]], None] | None = None,
        rng: Randomness | None = None,
        *,
        epoch_base: int = 0,
    ) -> None:
        self.config = config or CoreConfig()
        self.trace = trace
        self.heap = Heap(NDIS_SPACE)
        self.now = 0.0
        self.outbox: list[Send] = []
        self.peers: dict[Any, Peer] = {}
        self.by_space: dict[int, Peer] = {}
        #: Hung drivers that were removed, by name, until they die or say hello; :attr:`Peer.closed`.
        self.cut_off: dict[str, Peer] = {}
        self.adapters: dict[int, Any] = {}
        self.bindings: dict[int, Any] = {}
        self.bug_checks: list[BugCheck] = []
        self.refused = 0
        self.stale = 0
        self.faults = FaultTable(rng)
        self._epochs = epoch_base
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_seq = 0
        self._handlers: dict[str, Handler] = {}
        for o in STATE_OPERATIONS:
            self._handlers[o.request] = self.state_down(o)
            self._handlers[o.completion] = self.state_up(o)
        for o in IO_OPERATIONS:
            self._handlers[o.request] = self.io_down(o)
            self._handlers[o.completion] = self.io_up(o)
        self._handlers |= self.io_handlers()
        self._handlers |= self.packet_handlers()
        self._handlers |= self.oid_handlers()
        self._handlers |= self.indication_handlers()
        self._handlers |= self.registration_handlers()
        self._shapes = {name: tuple(_TYPES[p.carries] for p in CALLS[name].params) for name in self._handlers}
        missing = [c.name for c in CALLS.values() if c.from_driver and c.name not in self._handlers]
        if missing:
            raise AssertionError(f"calls that NDIS does not answer: {missing}")

    # -- in ------------------------------------------------------------------------------------

    def receive(self, key: Any, message: Message, frames: Sequence[bytes], now: float) -> None:
        """Handle one decoded message from the peer behind ``key``."""
        self.now = now
        name = message[0]
        peer = self.peers.get(key)
        if peer is None or peer.closed:
            self._from_stranger(key, peer, message)
            return
        peer.heard_at = now
        if name == RETURN:
            pending = peer.pending.pop(message[1], None)
            if pending is None:
                self._violation(
                    peer, message, RemoteProtocolError(f"answer to call {message[1]}, which is not open")
                )
                return
            try:
                self._take_answer(pending, message[2])
            except RemoteProtocolError as e:
                self._violation(peer, [pending.name, None, []], e)
            return
        handler = self._handlers.get(name)
        if handler is not None and self.trace is None and not self.faults.active:
            # The hot path: nobody watches, nothing interferes.
            try:
                # The handlers of lists check both of their parameters themselves.
                if name not in _LISTS or len(message[2]) != _LIST_PARAMS:
                    self._check_params(name, message[2])
                handler(peer, message, frames)
            except RemoteProtocolError as e:
                self._violation(peer, message, e)
            return
        if handler is None:
            if name == "goodbye":
                self.remove_peer(peer, "left")
            elif name == "hello":
                self.refuse(key, message[1], name, "this connection has said hello already")
            elif not self.control(key, message):
                self._violation(peer, message, RemoteProtocolError(f"{name} is no function that NDIS offers"))
            return
        if self.trace is not None:
            self.note_call(peer, message, inbound=True)
        if self.faults.active and self.fault_inbound(peer, message, frames):
            return
        self.dispatch(peer, message, frames)

    def dispatch(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        """Run the handler of a driver's call; whatever rule it breaks becomes a bug check."""
        name = message[0]
        try:
            # As on the hot path: a report does not depend on whether somebody watches.
            if name not in _LISTS or len(message[2]) != _LIST_PARAMS:
                self._check_params(name, message[2])
            self._handlers[name](peer, message, frames)
        except RemoteProtocolError as e:
            self._violation(peer, message, e)

    def _check_params(self, name: str, args: list[Any]) -> None:
        """Number, kind and range of a call's parameters; what is in the maps is for its handler to check."""
        shapes = self._shapes[name]
        if len(args) != len(shapes):
            raise DecodeError(name, f"{len(shapes)} parameters expected, got {len(args)}")
        for i, (types, top) in enumerate(shapes):
            value = args[i]
            if type(value) not in types:
                if value is None and name in _NULLABLE:
                    continue
                expected = CALLS[name].params[i]
                raise DecodeError(
                    f"{name}.{expected.name}", f"{expected.carries} expected, got {type(value).__name__}"
                )
            if top and value is not None and not 0 <= value < top:
                raise DecodeError(f"{name}.{CALLS[name].params[i].name}", f"{value} is out of range")

    def _take_answer(self, pending: Pending, values: list[Any]) -> None:
        """Hand an answer to whoever waits for it. :class:`Violation` for one that says nothing."""
        call = CALLS.get(pending.name)
        if not values or (call is not None and call.returns == "NDIS_STATUS" and type(values[0]) is not int):
            pending.then(None)
            raise Violation("return", f"{values[0]!r} is no NDIS_STATUS" if values else "an empty answer")
        pending.then(values)

    def reject(self, key: Any, error: DecodeError, now: float) -> None:
        """Bytes that were no packet came from ``key``: tell the sender, disturb nobody else."""
        self.now = now
        self.refuse(key, None, "packet", str(error))

    def _from_stranger(self, key: Any, peer: Peer | None, message: Message) -> None:
        name, call_id = message[0], message[1]
        if name == "hello":
            try:
                self.hello(key, message)
            except RemoteProtocolError as e:
                self.refuse(key, call_id, name, str(e))
            return
        if self.control(key, message):
            return
        if peer is not None:
            self.stale += 1
            self.emit("stale", driver=peer.name, epoch=peer.epoch, call=name)
            self.refuse(key, call_id, name, f"epoch {peer.epoch} of {peer.name} is closed; say hello again")
            return
        self.refuse(key, call_id, name, "say hello first")

    def _violation(self, peer: Peer, message: Message, error: RemoteProtocolError) -> None:
        """A registered driver broke a rule: report it, cut it off, let the others go on."""
        name = message[0]
        call = CALLS.get(name)
        parameter = error.where if isinstance(error, DecodeError) else getattr(error, "parameter", "")
        parameter = parameter.removeprefix(f"{name}.")
        if not parameter and call is not None and call.params:
            parameter = call.params[0].name
        reason = _clip(error.detail if isinstance(error, DecodeError) else error.reason)
        parameter = _clip(parameter)
        report = BugCheck(
            peer.name, peer.pid, peer.epoch, _clip(name), parameter, error.rule, reason, self.now
        )
        self.bug_checks.append(report)
        del self.bug_checks[:-100]
        self.emit("bugcheck", **{k.lower(): v for k, v in report.to_wire().items()})
        self.remove_peer(peer, str(report), bug_check=report)

    # -- out -----------------------------------------------------------------------------------

    def send(self, peer: Peer, message: Message, frames: Sequence[bytes] = ()) -> None:
        """Queue a message for a peer; nothing goes to a closed one."""
        if peer.closed:
            return
        if self.trace is not None:
            self.note_call(peer, message, inbound=False)
        if self.faults.active and self.fault_outbound(peer, message, frames):
            return
        self.outbox.append((peer.key, message, frames))

    def call(self, peer: Peer, name: str, args: list[Any], then: Callable[[list[Any] | None], None]) -> None:
        """Call a handler that answers; ``then`` gets its values, or None if the peer is gone first."""
        if peer.closed:
            then(None)
            return
        peer.next_call += 1
        peer.pending[peer.next_call] = Pending(name, then, self.now)
        self.send(peer, [name, peer.next_call, args])

    def answer(self, peer: Peer, message: Message, *values: Any) -> None:
        """Answer a driver's call."""
        if message[1] is not None:
            self.send(peer, [RETURN, message[1], list(values)])

    def refuse(self, key: Any, call_id: int | None, what: str, reason: str) -> None:
        """Tell a sender that its message was not accepted, and why."""
        self.refused += 1
        what, reason = _clip(what), _clip(reason)
        self.emit("refused", call=what, reason=reason)
        self.outbox.append((key, ["refused", call_id, [{"Call": what, "Reason": reason}]], ()))

    def drain(self) -> list[Send]:
        """Take what is to be sent."""
        out, self.outbox = self.outbox, []
        return out

    # -- time ----------------------------------------------------------------------------------

    def schedule(self, at: float, action: Callable[[], None]) -> None:
        """Run ``action`` when the clock reaches ``at``."""
        self._timer_seq += 1
        heapq.heappush(self._timers, (at, self._timer_seq, action))

    def next_deadline(self) -> float | None:
        """When :meth:`on_timer` is due."""
        return self._timers[0][0] if self._timers else None

    def on_timer(self, now: float) -> None:
        """Run what is due."""
        self.now = now
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    # -- trace ---------------------------------------------------------------------------------

    def emit(self, kind: str, **fields: Any) -> None:
        """A trace event that is no call."""
        if self.trace is not None:
            self.trace({"t": self.now, "event": kind, **fields})
