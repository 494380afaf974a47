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

from ndisbus.core.base import Core
from ndisbus.core.model import BindingState, Pending
from ndisbus.ddi.calls import CALLS, IO_OPERATIONS, PACKET_SEND, STATE_OPERATIONS, Direction
from ndisbus.ddi.status import status_symbol
from ndisbus.lists.blocklist import Key

if TYPE_CHECKING:
    from ndisbus.core.fault_rules import Fault
    from ndisbus.core.model import Adapter, Binding, NblRequest, PacketSend, Peer, Request
    from ndisbus.messages.codec import Message

__all__ = ["FaultPart"]

_DIRECTIONS: Final = {Direction.DOWN: "down", Direction.UP: "up"}
_BLOCKS: Final = frozenset(o.handler for o in STATE_OPERATIONS)
_IO: Final = frozenset(o.handler for o in IO_OPERATIONS)
_IO_COMPLETIONS: Final = frozenset(o.completion for o in IO_OPERATIONS)
#: The calls of the ordinary data path.
_PACKETS: Final = frozenset(
    (
        PACKET_SEND.request,
        PACKET_SEND.handler,
        PACKET_SEND.completion,
        PACKET_SEND.completion_handler,
        "NdisMIndicateReceiveNetBufferLists",
        "ProtocolReceiveNetBufferLists",
        "NdisReturnNetBufferLists",
        "MiniportReturnNetBufferLists",
    )
)
#: A fault that drops one of these loses frames as a wire does; the lists themselves go back.
_FRAMES: Final = frozenset(("NdisMIndicateReceiveNetBufferLists", "ProtocolReceiveNetBufferLists"))


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
            self.emit(
                "fault", id=fault.id, action=fault.action, call=message[0], driver=driver, adapter=adapter
            )
        return fault

    def fault_inbound(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> bool:
        """Apply a fault to a driver's call. True if the call needs no further handling now."""
        fault = self._match(peer, message)
        if fault is None:
            return False
        if fault.action in ("drop", "delay"):
            self._waylay(peer, message)
        if fault.action == "drop":
            if message[0] in _FRAMES:
                self.drop_indication(message[0], peer, message[2])
            return True
        if fault.action == "delay":
            held = self.hold_packets(peer, message) if message[0] == PACKET_SEND.request else None
            self.schedule(self.now + fault.delay, lambda: self._late(peer, message, frames, held))
            return True
        if fault.action == "duplicate":
            twin = copy.deepcopy(message)
            self.dispatch(peer, message, frames)
            if not peer.closed:
                self.dispatch(peer, twin, frames)
            return True
        # A request that fails is not passed down; see the handlers for what becomes of it.
        self.injected_status = int(fault.status or 0)
        try:
            self.dispatch(peer, message, frames)
        finally:
            self.injected_status = None
        return True

    def _waylay(self, peer: Peer, message: Message) -> None:
        """The completion of these lists does not come, or late: no fault of the driver that made it."""
        args = message[2]
        if message[0] == PACKET_SEND.completion and len(args) > 1 and type(args[1]) is dict:
            for adapter in peer.adapters:
                _waylay_sends(adapter, args[1])
            return
        if message[0] not in _IO_COMPLETIONS or len(args) != 2 or type(args[1]) is not dict:
            return
        lists = args[1].get("NetBufferList")
        for adapter in peer.adapters:
            for a in lists if type(lists) is list else ():
                if type(a) is int and a in adapter.nbls:
                    adapter.nbls[a].waylaid = True

    def _late(
        self, peer: Peer, message: Message, frames: Sequence[bytes], held: tuple[Binding, int] | None = None
    ) -> None:
        if held is not None:
            held[0].outstanding -= held[1]
        if not peer.closed:
            self.late = True
            try:
                self.dispatch(peer, message, frames)
            finally:
                self.late = False
        if held is not None and held[0].state is not BindingState.OPEN:
            self.settle(held[0])

    #: Set while a request is dispatched that a fault makes fail before it is passed down.
    injected_status: int | None = None
    #: Set while a call is dispatched that a fault held back: what it names may be gone through no fault of
    #: the driver that made it.
    late: bool = False

    def fault_outbound(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> bool:
        """Apply a fault to a call of NDIS's. True if it must not be sent now."""
        fault = self._match(peer, message)
        if fault is None:
            return False
        if fault.action == "drop":
            if message[0] in _FRAMES:
                self.drop_indication(message[0], peer, message[2])
            elif message[0] == PACKET_SEND.handler:
                for adapter in peer.adapters:
                    _waylay_sends(adapter, message[2][1])
            return True
        if fault.action == "delay":
            self.schedule(self.now + fault.delay, lambda: self._send_late(peer, message, frames))
            return True
        if fault.action == "duplicate":
            twin = copy.deepcopy(message)
            if message[1] is not None:
                # The driver answers both; the second answer is awaited and means nothing.
                peer.next_call += 1
                peer.pending[peer.next_call] = Pending(message[0], lambda _: None, self.now)
                twin[1] = peer.next_call
            self.outbox.append((peer.key, message, frames))
            self.outbox.append((peer.key, twin, frames))
            return True
        return self._fail_outbound(peer, message, int(fault.status or 0))

    def _fail_outbound(self, peer: Peer, message: Message, status: int) -> bool:
        """Fail a request in place of the driver below, a moment after NDIS has passed it down."""
        name, call_id, args = message[0], message[1], message[2]
        adapters = [a for a in peer.adapters if a.context == args[0]]
        if name in _BLOCKS:
            adapter, request = next((a, r) for a in adapters if (r := a.requests.get(args[1][Key.BLOCK][0])))
            if request.operation.op == "terminate":
                # It fails for the driver above only: what is offloaded below must not be left behind.
                request.verdict = status
                return False
            self.schedule(self.now, lambda: self._fail_list(adapter, request, status))
        elif name in _IO:
            addresses = args[2]["NetBufferList"]
            holder = next(a for a in adapters if addresses[0] in a.nbls)
            lists = {a: holder.nbls[a] for a in addresses}
            self.schedule(self.now, lambda: self._fail_nbls(holder, lists, status))
        elif name == PACKET_SEND.handler:
            holder = next(a for a in adapters if args[1]["NetBufferList"][0] in a.sends)
            given = {a: holder.sends[a] for a in args[1]["NetBufferList"]}
            self.schedule(self.now, lambda: self._fail_packets(holder, given, status))
        else:  # MiniportOidRequest, which is answered
            self.schedule(self.now, lambda: self._fail_call(peer, call_id, status))
        return True

    def _fail_list(self, adapter: Adapter, request: Request, status: int) -> None:
        if adapter.requests.get(request.root) is request:
            self.fail_up(adapter, request, status)

    def _fail_nbls(self, adapter: Adapter, lists: dict[int, NblRequest], status: int) -> None:
        held = [a for a, r in lists.items() if adapter.nbls.get(a) is r]
        if held:
            self.return_nbls(adapter, held, status)

    def _fail_packets(self, adapter: Adapter, lists: dict[int, PacketSend], status: int) -> None:
        held = [a for a, r in lists.items() if adapter.sends.get(a) is r]
        if held:
            self.finish_packets(adapter, held, status)

    def _fail_call(self, peer: Peer, call_id: int | None, status: int) -> None:
        pending = peer.pending.pop(call_id or 0, None)
        if pending is not None:
            pending.then([status])

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
                    counts = (
                        Counter(map(_symbol, status))
                        if type(status) is list
                        else {_symbol(status): len(blocks)}
                    )
                    event["status"] = dict(counts)
        elif name in _PACKETS and type(message[2][1]) is dict:
            _note_lists(event, message[2][1])
        elif len(message[2]) > 1 and name.endswith("TcpOffloadEvent" if not inbound else "EventHandler"):
            event["list"] = message[2][0]
            event["information"] = list(message[2][1:])
        trace(event)


def _note_lists(event: dict[str, Any], columns: dict[str, Any]) -> None:
    """How many frames, or lists that go back, and the statuses of those that were sent."""
    lists, status = columns.get("NetBufferList"), columns.get("Status")
    if type(lists) is list:
        event["lists"] = len(lists)
        if type(status) is list:
            event["status"] = dict(Counter(map(_symbol, status)))


def _waylay_sends(adapter: Adapter, columns: dict[str, Any]) -> None:
    lists = columns.get("NetBufferList")
    for a in lists if type(lists) is list else ():
        request = adapter.sends.get(a) if type(a) is int else None
        if request is not None:
            request.waylaid = {a, *(request.waylaid or ())}


def _symbol(status: Any) -> str:
    """A status for the trace, which shows calls before anything of them is checked."""
    return status_symbol(status) if type(status) is int else repr(status)[:20]
