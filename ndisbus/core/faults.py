"""Faults on calls, applied between the wire and the parts of the core.

The order inbound: the call is traced, the fault decides, the core sees it. The order outbound: the core acts,
the call is traced, the fault decides. So the trace shows the call that was sent, and an event of kind
``fault`` shows what happened to it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.ddi.call import Direction
from ndisbus.ddi.call_rows import IO_OPERATIONS, PACKET_SEND, STATE_OPERATIONS
from ndisbus.ddi.calls import CALLS
from ndisbus.lists.blocklist import Key

if TYPE_CHECKING:
    from ndisbus.core.clock import Clock
    from ndisbus.core.completions import Completions
    from ndisbus.core.dispatch import Dispatcher
    from ndisbus.core.fault_rules import Fault, FaultTable
    from ndisbus.core.io import Io
    from ndisbus.core.model import Adapter, Binding, Client, Injected, NblRequest, PacketSend, Request
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.packets import Packets
    from ndisbus.core.registry import Registry
    from ndisbus.messages.codec import Message

__all__ = ["Faults"]

_DIRECTIONS: Final = {Direction.DOWN: "down", Direction.UP: "up"}
_BLOCKS: Final = frozenset(o.handler for o in STATE_OPERATIONS)
_IO: Final = frozenset(o.handler for o in IO_OPERATIONS)
_IO_COMPLETIONS: Final = frozenset(o.completion for o in IO_OPERATIONS)
#: Frame indications: a dropped one loses its frames, as a wire does. Its lists go back to the driver.
_FRAMES: Final = frozenset(("NdisMIndicateReceiveNetBufferLists", "ProtocolReceiveNetBufferLists"))


class Faults:
    """Applies the table of rules to calls."""

    __slots__ = (
        "clock",
        "completions",
        "dispatcher",
        "injected",
        "io",
        "out",
        "packets",
        "registry",
        "table",
    )

    def __init__(
        self,
        clock: Clock,
        out: Outbound,
        registry: Registry,
        table: FaultTable,
        injected: Injected,
        dispatcher: Dispatcher,
        io: Io,
        packets: Packets,
        completions: Completions,
    ) -> None:
        self.clock = clock
        self.out = out
        self.registry = registry
        self.table = table
        self.injected = injected
        self.dispatcher = dispatcher
        self.io = io
        self.packets = packets
        self.completions = completions

    def _parties(self, client: Client, message: Message) -> tuple[str, str | None, str]:
        """Return the driver, the adapter and the direction of a call, for matching."""
        call = CALLS[message[0]]
        adapter = self.registry.adapter_named_in(client, message)
        return client.name, adapter.name if adapter is not None else None, _DIRECTIONS.get(call.direction, "")

    def _match(self, client: Client, message: Message) -> Fault | None:
        if message[0] not in CALLS:
            return None
        driver, adapter, direction = self._parties(client, message)
        fault = self.table.match(message[0], driver=driver, adapter=adapter, direction=direction)
        if fault is not None:
            self.out.emit(
                "fault", id=fault.id, action=fault.action, call=message[0], driver=driver, adapter=adapter
            )
        return fault

    def receive(self, client: Client, message: Message, frames: Sequence[bytes]) -> bool:
        """Apply a fault to a driver's call. Returns True if the core must not handle the call now."""
        fault = self._match(client, message)
        if fault is None:
            return False
        if fault.action in ("drop", "delay"):
            self._waylay(client, message)
        if fault.action == "drop":
            if message[0] in _FRAMES:
                self.packets.drop_indication(message[0], client, message[2])
            return True
        if fault.action == "delay":
            held = self.packets.hold(client, message) if message[0] == PACKET_SEND.request else None
            self.clock.schedule(
                self.clock.now + fault.delay, lambda: self._late(client, message, frames, held)
            )
            return True
        if fault.action == "duplicate":
            twin = copy.deepcopy(message)
            self.dispatcher.dispatch(client, message, frames)
            if not client.closed:
                self.dispatcher.dispatch(client, twin, frames)
            return True
        # A request that fails is not passed down. The handlers of requests do the rest.
        self.injected.status = int(fault.status or 0)
        try:
            self.dispatcher.dispatch(client, message, frames)
        finally:
            self.injected.status = None
        return True

    def _waylay(self, client: Client, message: Message) -> None:
        """Record that a fault drops or delays the completion of these lists."""
        args = message[2]
        if message[0] == PACKET_SEND.completion and len(args) > 1 and type(args[1]) is dict:
            for adapter in client.adapters:
                _waylay_sends(adapter, args[1])
            return
        if message[0] not in _IO_COMPLETIONS or len(args) != 2 or type(args[1]) is not dict:
            return
        lists = args[1].get("NetBufferList")
        for adapter in client.adapters:
            for a in lists if type(lists) is list else ():
                if type(a) is int and a in adapter.nbls:
                    adapter.nbls[a].waylaid = True

    def _late(
        self,
        client: Client,
        message: Message,
        frames: Sequence[bytes],
        held: tuple[Binding, int] | None = None,
    ) -> None:
        if held is not None:
            held[0].outstanding -= held[1]
        if not client.closed:
            self.injected.late = True
            try:
                self.dispatcher.dispatch(client, message, frames)
            finally:
                self.injected.late = False
        if held is not None:
            held[0].came_back()

    def intercept(self, client: Client, message: Message, frames: Sequence[bytes]) -> bool:
        """Apply a fault to a call that NDIS makes. Returns True if the call must not be sent now."""
        fault = self._match(client, message)
        if fault is None:
            return False
        if fault.action in ("drop", "delay"):
            client.ended.overtaken = True
        if fault.action == "drop":
            if message[0] in _FRAMES:
                self.packets.drop_indication(message[0], client, message[2])
            elif message[0] == PACKET_SEND.handler:
                for adapter in client.adapters:
                    _waylay_sends(adapter, message[2][1])
            return True
        if fault.action == "delay":
            self.clock.schedule(
                self.clock.now + fault.delay, lambda: self._send_late(client, message, frames)
            )
            return True
        if fault.action == "duplicate":
            twin = copy.deepcopy(message)
            if message[1] is not None:
                # The driver answers both copies. The second answer is expected and ignored.
                twin[1] = self.out.expect(client, message[0], lambda _: None)
            self.out.post(client.key, message, frames)
            self.out.post(client.key, twin, frames)
            return True
        return self._fail_outbound(client, message, int(fault.status or 0))

    def _fail_outbound(self, client: Client, message: Message, status: int) -> bool:
        """Fail a request in place of the driver below, one timer turn after NDIS has passed it down."""
        name, call_id, args = message[0], message[1], message[2]
        adapters = [a for a in client.adapters if a.context == args[0]]
        if name in _BLOCKS:
            adapter, request = next((a, r) for a in adapters if (r := a.requests.get(args[1][Key.BLOCK][0])))
            if request.operation.op == "terminate":
                # It fails only for the driver above. Objects offloaded below must still be terminated.
                request.verdict = status
                return False
            self.clock.schedule(self.clock.now, lambda: self._fail_list(adapter, request, status))
        elif name in _IO:
            addresses = args[2]["NetBufferList"]
            holder = next(a for a in adapters if addresses[0] in a.nbls)
            lists = {a: holder.nbls[a] for a in addresses}
            self.clock.schedule(self.clock.now, lambda: self._fail_nbls(holder, lists, status))
        elif name == PACKET_SEND.handler:
            holder = next(a for a in adapters if args[1]["NetBufferList"][0] in a.sends)
            given = {a: holder.sends[a] for a in args[1]["NetBufferList"]}
            self.clock.schedule(self.clock.now, lambda: self._fail_packets(holder, given, status))
        else:  # MiniportOidRequest, the only request that has an answer
            self.clock.schedule(self.clock.now, lambda: self._fail_call(client, call_id, status))
        return True

    def _fail_list(self, adapter: Adapter, request: Request, status: int) -> None:
        if adapter.requests.get(request.root) is request:
            self.completions.fail_up(adapter, request, status)

    def _fail_nbls(self, adapter: Adapter, lists: dict[int, NblRequest], status: int) -> None:
        held = [a for a, r in lists.items() if adapter.nbls.get(a) is r]
        if held:
            self.io.give_back(adapter, held, status)

    def _fail_packets(self, adapter: Adapter, lists: dict[int, PacketSend], status: int) -> None:
        held = [a for a, r in lists.items() if adapter.sends.get(a) is r]
        if held:
            self.packets.finish(adapter, held, status)

    def _fail_call(self, client: Client, call_id: int | None, status: int) -> None:
        pending = client.pending.pop(call_id or 0, None)
        if pending is not None:
            pending.then([status])

    def _send_late(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        if not client.closed:
            self.out.post(client.key, message, frames)


def _waylay_sends(adapter: Adapter, columns: dict[str, Any]) -> None:
    lists = columns.get("NetBufferList")
    for a in lists if type(lists) is list else ():
        request = adapter.sends.get(a) if type(a) is int else None
        if request is not None:
            request.waylaid = {a, *(request.waylaid or ())}
