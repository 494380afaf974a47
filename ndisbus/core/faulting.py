"""Faults on calls, applied between the wire and the core, and the notes for the trace.

The order is stated once: a call is traced as it arrives, then the fault decides about it, then the core
sees it; on the way out the core has acted, the call is traced, then the fault decides. So the trace
shows what was sent, and an event of kind ``fault`` what became of it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.blocklist import Key
from ndisbus.core.base import Core
from ndisbus.ddi import CALLS, STATE_OPERATIONS, Direction
from ndisbus.status import status_symbol

if TYPE_CHECKING:
    from ndisbus.codec import Message
    from ndisbus.core.model import Adapter, Peer
    from ndisbus.faults import Fault

__all__ = ["FaultPart"]

_DIRECTIONS: Final = {Direction.DOWN: "down", Direction.UP: "up"}
_REQUESTS: Final = {o.request for o in STATE_OPERATIONS}
_HANDLERS: Final = {o.handler for o in STATE_OPERATIONS}
_COMPLETIONS: Final = {o.completion for o in STATE_OPERATIONS}


class FaultPart(Core):
    """Where faults and traces meet the calls."""

    def _parties(self, peer: Peer, message: Message) -> tuple[str, str | None, str]:
        """Which driver, adapter and direction a call is about, for matching."""
        call = CALLS[message[0]]
        adapter = self._adapter_named(peer, message)
        return peer.name, adapter.name if adapter is not None else None, _DIRECTIONS.get(call.direction, "")

    def _adapter_named(self, peer: Peer, message: Message) -> Adapter | None:
        args = message[2]
        first = args[0] if args else None
        if type(first) is not int:
            return None
        if first in self.adapters:
            return self.adapters[first]
        binding = self.bindings.get(first)
        if binding is not None:
            return binding.adapter
        for adapter in peer.adapters:
            if adapter.context == first:
                return adapter
        for b in peer.bindings:
            if b.context == first:
                return b.adapter
        return None

    def _match(self, peer: Peer, message: Message) -> Fault | None:
        if message[0] not in CALLS:
            return None
        driver, adapter, direction = self._parties(peer, message)
        fault = self.faults.match(message[0], driver=driver, adapter=adapter, direction=direction)
        if fault is not None:
            self.emit("fault", id=fault.id, action=fault.action, call=message[0], driver=driver, adapter=adapter)
        return fault

    def fault_inbound(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> bool:
        """Apply a fault to a driver's call. True if the call needs no further handling now."""
        fault = self._match(peer, message)
        if fault is None:
            return False
        if fault.action == "drop":
            return True
        if fault.action == "delay":
            self.schedule(self.now + fault.delay, lambda: self._late(peer, message, frames))
            return True
        if fault.action == "duplicate":
            twin = copy.deepcopy(message)
            self.dispatch(peer, message, frames)
            if not peer.closed:
                self.dispatch(peer, twin, frames)
            return True
        return self._fail_inbound(peer, message, frames, int(fault.status or 0))

    def _late(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        if not peer.closed:
            self.dispatch(peer, message, frames)

    def _fail_inbound(self, peer: Peer, message: Message, frames: Sequence[bytes], status: int) -> bool:
        """Fail a request without passing it down, or a completion by rewriting its Status."""
        name = message[0]
        if name in _COMPLETIONS and len(message[2]) == 2 and type(message[2][1]) is dict:
            self._rewrite(peer, message, status)
            return False
        if name in _REQUESTS:
            self.injected_status = status
            try:
                self.dispatch(peer, message, frames)
            finally:
                self.injected_status = None
            return True
        return False

    def _rewrite(self, peer: Peer, message: Message, status: int) -> None:
        """A completion with another Status: what was offloaded stays offloaded below, as for a real liar."""
        columns = message[2][1]
        adapter = self.adapters.get(message[2][0])
        blocks = columns.get(Key.BLOCK)
        request = adapter.requests.get(blocks[0]) if adapter is not None and type(blocks) is list and blocks else None
        if request is None:
            return
        columns[Key.STATUS] = [0 if h is None else status for h in request.handles]
        if request.operation.op == "initiate":
            columns[Key.CONTEXT] = list(request.contexts)

    #: Set while a request is dispatched that a fault makes fail before it is passed down.
    injected_status: int | None = None

    def fault_outbound(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> bool:
        """Apply a fault to a call of NDIS's. True if it must not be sent now."""
        fault = self._match(peer, message)
        if fault is None:
            return False
        if fault.action == "drop":
            return True
        if fault.action == "delay":
            self.schedule(self.now + fault.delay, lambda: self._send_late(peer, message, frames))
            return True
        if fault.action == "duplicate":
            self.outbox.append((peer.key, copy.deepcopy(message), frames))
            return False
        if message[0] in _HANDLERS:
            adapter = next((a for a in peer.adapters if a.context == message[2][0]), None)
            request = adapter.requests.get(message[2][1][Key.BLOCK][0]) if adapter is not None else None
            if adapter is not None and request is not None:
                status = int(fault.status or 0)
                self.schedule(self.now, lambda: self._fail_late(adapter, request, status))
                return True
        return False

    def _fail_late(self, adapter: Adapter, request: Any, status: int) -> None:
        if adapter.requests.get(request.root) is request:
            self.fail_up(adapter, request, status)

    def _send_late(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        if not peer.closed:
            self.outbox.append((peer.key, message, frames))

    # -- trace ---------------------------------------------------------------------------------

    def note_call(self, peer: Peer, message: Message, *, inbound: bool) -> None:
        """A call passes: who, what, which list, how many blocks, which statuses."""
        trace = self.trace
        name = message[0]
        call = CALLS.get(name)
        if trace is None or call is None:
            return
        event: dict[str, Any] = {
            "t": self.now,
            "event": "call",
            "from": peer.name if inbound else "ndis",
            "to": "ndis" if inbound else peer.name,
            "call": name,
            "direction": call.direction.value,
            "epoch": peer.epoch,
        }
        adapter = self._adapter_named(peer, message)
        if adapter is not None:
            event["adapter"] = adapter.name
        at = call.blocks_at
        if 0 <= at < len(message[2]) and type(message[2][at]) is dict:
            columns = message[2][at]
            blocks = columns.get(Key.BLOCK)
            if type(blocks) is list and blocks:
                event["list"], event["blocks"] = blocks[0], len(blocks)
                status = columns.get(Key.STATUS)
                if status is not None:
                    counts = Counter(status) if type(status) is list else {status: len(blocks)}
                    event["status"] = {status_symbol(s) if type(s) is int else str(s): n for s, n in counts.items()}
        elif len(message[2]) > 1 and name.endswith("TcpOffloadEvent" if not inbound else "EventHandler"):
            event["list"] = message[2][0]
            event["information"] = list(message[2][1:])
        trace(event)
