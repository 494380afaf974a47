"""The ordinary data path: frames down and their completions up, frames up and their lists back down.

For each adapter NDIS keeps two sets of lists: those that the driver was given to send and has not completed,
and those that it indicated and has not got back. NDIS reads addresses, SourceHandle and Status. It passes on
the contents of a list unread, and the frames without a copy. Each list that is sent is completed once. Each
list that is indicated without NDIS_RECEIVE_FLAGS_RESOURCES goes back once. Both hold whichever process dies:
a list that the driver below had is completed with SEND_ABORTED, one that it did not have with PAUSED.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import BindingState, PacketSend
from ndisbus.core.violation import Violation
from ndisbus.ddi.call_rows import PACKET_SEND
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.enums import NDIS_RECEIVE_FLAGS_RESOURCES
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.lists.frame_lists import check_packet_columns
from ndisbus.lists.heap import ADDRESS_BITS, space_of

if TYPE_CHECKING:
    from ndisbus.core.clock import Clock
    from ndisbus.core.model import Adapter, Binding, Client, Handlers, Injected
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.registry import Registry
    from ndisbus.messages.codec import Message

__all__ = ["Packets"]

_ABORTED: Final = int(NdisStatus.SEND_ABORTED)
_PAUSED: Final = int(NdisStatus.PAUSED)
_LEGAL: Final = frozenset(int(s) for s in ALLOWED_STATUS[PACKET_SEND.op])
_BOUND: Final = (BindingState.OPEN, BindingState.UNBINDING)
_RECEIVE: Final = "ProtocolReceiveNetBufferLists"
_RETURN: Final = "MiniportReturnNetBufferLists"


class Packets:
    """Passes on NdisSendNetBufferLists, NdisMIndicateReceiveNetBufferLists and what ends them."""

    __slots__ = ("clock", "injected", "out", "registry")

    def __init__(self, clock: Clock, out: Outbound, registry: Registry, injected: Injected) -> None:
        self.clock = clock
        self.out = out
        self.registry = registry
        self.injected = injected

    def handlers(self) -> Handlers:
        """Return the handlers by name of call."""
        return {
            PACKET_SEND.request: self._send_packets,
            PACKET_SEND.completion: self._complete_packets,
            "NdisMIndicateReceiveNetBufferLists": self._indicate_packets,
            "NdisReturnNetBufferLists": self._return_packets,
        }

    # -- sends ---------------------------------------------------------------------------------

    def _send_packets(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, wire, port, flags = message[2]
        where = "NdisSendNetBufferLists.NetBufferLists"
        columns, addresses = check_packet_columns(wire, where, frames, contents=True)
        if columns.get("SourceHandle") != handle:
            raise Violation("NetBufferLists.SourceHandle", "not the NdisBindingHandle of the call")
        closed = client.ended.crossed(handle)
        if closed is not None:
            self._complete_sends(client, closed, handle, addresses, _PAUSED, columns.get("Context"))
            return
        binding = self.registry.bindings.get(handle) if self.injected.late else None
        if binding is None or binding.protocol is not client:
            binding = self.registry.binding_of(client, handle)
        adapter = binding.adapter
        status = self.injected.status if binding.state in _BOUND else _PAUSED
        sends = adapter.sends
        twins = sends.keys() & addresses
        if twins:
            # The earlier sender is dead and the list is not back yet, or this driver sent it twice.
            twin = next((a for a in twins if sends[a].binding.protocol is client), None)
            if twin is not None:
                raise Violation("NetBufferLists", f"{twin:#x} is already outstanding on {adapter.name}")
            status = _ABORTED
        stray = self._stray(client, addresses, (own.sends for own in client.adapters))
        if stray is not None:
            raise Violation(
                "NetBufferLists",
                f"{stray:#x} neither lies in the address space of the driver nor was lent to it",
            )
        if not adapter.alive:
            status = _PAUSED
        if status is not None:
            self._complete_sends(client, binding.context, handle, addresses, status, columns.get("Context"))
            return
        sends.update(dict.fromkeys(addresses, PacketSend(binding, columns.get("Context"), self.clock.now)))
        binding.outstanding += len(addresses)
        lower = columns
        if "Status" in columns:
            lower = {k: v for k, v in columns.items() if k != "Status"}
        out: Message = [PACKET_SEND.handler, None, [adapter.context, lower, port, flags], len(frames)]
        self.out.send(adapter.driver, out, frames)

    def hold(self, client: Client, message: Message) -> tuple[Binding, int] | None:
        """Count a send that a fault delays, so that its binding stays open. Returns (binding, lists)."""
        args = message[2]
        binding = self.registry.bindings.get(args[0]) if args and type(args[0]) is int else None
        wire = args[1] if len(args) > 1 else None
        lists = wire.get("NetBufferList") if type(wire) is dict else None
        if binding is None or binding.protocol is not client or type(lists) is not list:
            return None
        binding.outstanding += len(lists)
        return binding, len(lists)

    @staticmethod
    def _stray(client: Client, addresses: list[int], lent: Iterable[dict[int, Any]]) -> int | None:
        """Return a list that is neither the driver's own nor lent to it from above or below, or None."""
        low = client.space << ADDRESS_BITS
        if low <= min(addresses) and max(addresses) < low + (1 << ADDRESS_BITS):
            return None
        held = list(lent)
        for a in addresses:
            if space_of(a) != client.space and not any(a in table for table in held):
                return a
        return None

    def _complete_sends(
        self, client: Client, context: int, handle: int, addresses: list[int], status: int, saved: int | None
    ) -> None:
        """Complete lists of one call in place of the driver below."""
        columns = {
            "NetBufferList": addresses,
            "SourceHandle": handle,
            "Status": [status] * len(addresses),
        }
        if saved is not None:
            columns["Context"] = saved
        self._note_back(client, addresses[0])
        self.out.send(client, [PACKET_SEND.completion_handler, None, [context, columns, 0]])

    def _note_back(self, client: Client, address: int) -> None:
        """Note that from now on only the intermediate driver has the lists of a call (see HangWatch)."""
        for own in client.adapters:
            request = own.sends.get(address)
            if request is not None:
                request.back_at = self.clock.now

    def _complete_packets(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, wire, flags = message[2]
        if self.injected.late and handle not in self.registry.adapters:
            return
        adapter = self.registry.adapter_of(client, handle, "MiniportAdapterHandle")
        where = "NdisMSendNetBufferListsComplete.NetBufferList"
        columns, addresses = check_packet_columns(wire, where, frames, contents=False)
        statuses: list[int] | None = columns.get("Status")
        if statuses is None:
            raise Violation("NetBufferList.Status", "not written")
        if not _LEGAL.issuperset(statuses):
            wrong = next(s for s in statuses if s not in _LEGAL)
            raise Violation("NetBufferList.Status", f"{wrong:#x} is not legal for a send")
        sends = adapter.sends
        requests: list[PacketSend | None] = list(map(sends.get, addresses))
        if None in requests:
            if not self.injected.late:
                a = addresses[requests.index(None)]
                raise Violation("NetBufferList", f"{a:#x} is not outstanding as a send on {adapter.name}")
            # A fault delayed this call, and some of its lists have been completed since.
            there = [i for i, r in enumerate(requests) if r is not None]
            if not there:
                return
            addresses = [addresses[i] for i in there]
            statuses = [statuses[i] for i in there]
            requests = [requests[i] for i in there]
        # One call may complete lists of several sends. NDIS sorts them by binding and by their SourceHandle.
        groups: dict[tuple[int, int | None], tuple[Binding, list[int], list[int]]] = {}
        if len(set(requests)) == 1 and (only := requests[0]) is not None:
            groups[only.binding.handle, only.context] = (only.binding, addresses, statuses)
        else:
            for a, s, r in zip(addresses, statuses, requests, strict=True):
                if r is not None:
                    key = r.binding.handle, r.context
                    _, mine, theirs = groups.setdefault(key, (r.binding, [], []))
                    mine.append(a)
                    theirs.append(s)
        given = columns.get("SourceHandle")
        bindings = {b.handle for b, _, _ in groups.values()}
        if not bindings >= {given} if given is not None else len(bindings) == 1:
            raise Violation("NetBufferList.SourceHandle", "not the value that was there")
        for a in addresses:
            del sends[a]
        for (source, context), (binding, mine, theirs) in groups.items():
            binding.outstanding -= len(mine)
            upper: dict[str, Any] = {"NetBufferList": mine, "SourceHandle": source, "Status": theirs}
            if context is not None:
                upper["Context"] = context
            self._note_back(binding.protocol, mine[0])
            up: Message = [PACKET_SEND.completion_handler, None, [binding.context, upper, flags]]
            self.out.send(binding.protocol, up)
            if binding.on_return is not None:
                binding.on_return()

    def abort(self, adapter: Adapter, binding: Binding | None = None) -> None:
        """Complete the sends that a dead adapter holds.

        With ``binding``: only its sends that a fault dropped, which no driver will complete.
        """
        mine = [
            a
            for a, r in adapter.sends.items()
            if binding is None or (r.binding is binding and (a in (r.waylaid or ()) or not adapter.alive))
        ]
        if mine:
            self.finish(adapter, mine, _ABORTED)

    def finish(self, adapter: Adapter, addresses: Sequence[int], status: int) -> None:
        """Complete sends in place of the driver below, in the order in which they were made."""
        groups: dict[tuple[int, int | None], tuple[Binding, list[int]]] = {}
        for a in addresses:
            r = adapter.sends.pop(a)
            r.binding.outstanding -= 1
            groups.setdefault((r.binding.handle, r.context), (r.binding, []))[1].append(a)
        for (handle, context), (binding, mine) in groups.items():
            self._complete_sends(binding.protocol, binding.context, handle, mine, status, context)
        for binding in {b.handle: b for b, _ in groups.values()}.values():
            binding.came_back()

    # -- indications ---------------------------------------------------------------------------

    def _indicate_packets(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, wire, port, count, flags = message[2]
        if self.injected.late and handle not in self.registry.adapters:
            return
        adapter = self.registry.adapter_of(client, handle, "MiniportAdapterHandle")
        where = "NdisMIndicateReceiveNetBufferLists.NetBufferLists"
        columns, addresses = check_packet_columns(wire, where, frames, contents=True)
        if columns.get("SourceHandle") != handle:
            raise Violation("NetBufferLists.SourceHandle", "not the MiniportAdapterHandle of the call")
        if count != len(addresses):
            raise Violation("NumberOfNetBufferLists", f"{count}, the chain has {len(addresses)}")
        indicated = adapter.indicated
        twins = indicated.keys() & addresses
        if twins:
            raise Violation("NetBufferLists", f"{min(twins):#x} is already with the layers above")
        bound = [b for b in adapter.bindings if b.state in _BOUND]
        if not flags & NDIS_RECEIVE_FLAGS_RESOURCES:
            stray = self._stray(client, addresses, (b.received for b in client.bindings))
            if stray is not None:
                if client.ended.unread:
                    return  # the call crossed the end of a binding, where NDIS returned the lists
                raise Violation(
                    "NetBufferLists",
                    f"{stray:#x} neither lies in the address space of the driver nor was lent to it",
                )
            if not bound:
                self._hand_back(adapter, addresses)
                return
            indicated.update(dict.fromkeys(addresses, len(bound)))
            for binding in bound:
                binding.received.update(dict.fromkeys(addresses))
        n = len(frames)
        for binding in bound:
            self.out.send(
                binding.protocol, [_RECEIVE, None, [binding.context, columns, port, count, flags], n], frames
            )

    def _hand_back(self, adapter: Adapter, addresses: list[int], flags: int = 0) -> None:
        """Return lists to the miniport."""
        columns = {"NetBufferList": addresses, "SourceHandle": adapter.handle}
        self.out.send(adapter.driver, [_RETURN, None, [adapter.context, columns, flags]])

    def _return_packets(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, wire, flags = message[2]
        where = "NdisReturnNetBufferLists.NetBufferLists"
        columns, addresses = check_packet_columns(wire, where, frames, contents=False)
        if handle in client.ended:
            return  # the call crossed the end of the binding, where NDIS returned the lists
        binding = self.registry.binding_of(client, handle)
        received = binding.received
        if not all(map(received.__contains__, addresses)):
            if not self.injected.late:
                stray = next(a for a in addresses if a not in received)
                raise Violation("NetBufferLists", f"{stray:#x} was not indicated through this binding")
            addresses = [a for a in addresses if a in received]
        if columns.get("SourceHandle") != binding.adapter.handle and binding.adapter.alive:
            raise Violation("NetBufferLists.SourceHandle", "not the value that was there")
        self._give_up(binding, addresses, flags)

    def _give_up(self, binding: Binding, addresses: list[int], flags: int = 0) -> None:
        """Take lists back from a protocol. They return to the miniport when no other protocol has them."""
        received, adapter = binding.received, binding.adapter
        for a in addresses:
            del received[a]
        indicated = adapter.indicated
        home = []
        for a in addresses:
            left = indicated[a] - 1
            if left:
                indicated[a] = left
            else:
                del indicated[a]
                home.append(a)
        if home and not adapter.driver.closed:
            self._hand_back(adapter, home, flags)

    def take_back(self, binding: Binding) -> None:
        """Return the lists that the protocol of a closing binding did not return."""
        if binding.received:
            self._give_up(binding, list(binding.received))

    def drop_indication(self, name: str, client: Client, args: list[Any]) -> None:
        """Drop an indication of frames, as if the wire had lost them. Its lists go back to the miniport."""
        # The driver's call is not checked yet. A malformed one is dropped as well.
        if len(args) < len(CALLS[name].params) or type(args[-1]) is not int:
            return
        wire = args[1]
        lists = wire.get("NetBufferList") if type(wire) is dict else None
        if type(lists) is not list:
            return
        if name == _RECEIVE:
            for binding in client.bindings:
                if binding.context == args[0]:
                    self.clock.schedule(self.clock.now, partial(self._give_up_late, binding, lists))
                    return
        for adapter in client.adapters:
            if adapter.handle == args[0] and not args[4] & NDIS_RECEIVE_FLAGS_RESOURCES:
                self._hand_back(adapter, lists)

    def _give_up_late(self, binding: Binding, addresses: list[int]) -> None:
        """As :meth:`_give_up`, for the lists that the binding still has."""
        mine = [a for a in addresses if a in binding.received]
        if mine:
            self._give_up(binding, mine)
