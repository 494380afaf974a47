"""Indications: from the driver below to the driver that owns the object, or to everybody bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ndisbus.codec import RETURN, Message
from ndisbus.core.base import Core, Violation
from ndisbus.core.model import Adapter, Binding, BindingState, Peer, Pending
from ndisbus.enums import Layer, TcpOffloadEventType
from ndisbus.heap import space_of
from ndisbus.nblchain import check_nbl_columns
from ndisbus.status import NdisStatus
from ndisbus.structures import NdisStatusIndication, NdisTcpConnectionOffload

__all__ = ["IndicationPart"]

_BOUND: Final = (BindingState.OPEN, BindingState.UNBINDING)
_EVENTS: Final = frozenset(int(e) for e in TcpOffloadEventType)


class IndicationPart(Core):
    """TCP events, receive indications, generic events, status indications."""

    def indication_handlers(self) -> dict[str, Callable[[Peer, Message, Sequence[bytes]], None]]:
        """Handlers by name of call."""
        return {
            "NdisTcpOffloadEventHandler": self._tcp_event,
            "NdisTcpOffloadReceiveHandler": self._receive_indicate,
            "NdisMOffloadEventIndicate": self._offload_event,
            "NdisMIndicateStatusEx": self._status,
            "NdisMIndicateReceiveNetBufferLists": self._receive_frames,
        }

    def _owner(self, peer: Peer, handle: Any, parameter: str) -> Binding | None:
        """Whose NDIS_OFFLOAD_HANDLE a lower driver gives back; None if its owner is gone.

        Raises :class:`Violation` for a handle of an object that is not offloaded at this driver (R-HND-06).
        """
        if type(handle) is not int:
            raise Violation(parameter, f"a pointer expected, got {type(handle).__name__}", "R-HND-06")
        owner = self.by_space.get(space_of(handle))
        for binding in owner.bindings if owner is not None else ():
            known = binding.objects.get(handle)
            if (known is not None and known[0] == Layer.TCP) or handle in binding.offloading:
                if binding.adapter.driver is not peer:
                    raise Violation(parameter, f"{handle:#x} is offloaded at another driver", "R-HND-06")
                return binding if not binding.protocol.closed else None
        if owner is not None and any(b.adapter.driver is peer for b in owner.bindings):
            # It crossed the terminate of its object, which NDIS did for a protocol on its way out.
            if any(b.state not in _BOUND and b.adapter.driver is peer for b in owner.bindings):
                return None
        elif owner is not None and owner.closed:
            return None
        raise Violation(parameter, f"{handle:#x} names no connection that is offloaded here", "R-HND-06")

    def _tcp_event(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        handle, event, information = message[2]
        if event not in _EVENTS:
            raise Violation("EventType", f"{event!r} is no TCP_OFFLOAD_EVENT_TYPE", "R-EVT-01")
        if type(information) is not int or not 0 <= information < 1 << 32:
            raise Violation("EventSpecificInformation", "a ULONG expected", "R-EVT-01")
        binding = self._owner(peer, handle, "NdisOffloadHandle")
        if binding is not None:
            # R-HND-10: the upper driver gets the pointer to its own NDIS_OFFLOAD_HANDLE.
            self.send(binding.protocol, ["ProtocolTcpOffloadEvent", None, [handle, event, information]])

    def _receive_indicate(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        handle, chain, status = message[2]
        columns = check_nbl_columns(chain, "NdisTcpOffloadReceiveHandler.NetBufferList")
        if len(columns["NetBufferList"]) != 1:
            raise Violation("NetBufferList", "an indication is one stand-alone list", "R-IND-01")
        if status != NdisStatus.SUCCESS:
            raise Violation("Status", "always NDIS_STATUS_SUCCESS", "R-IND-02")
        binding = self._owner(peer, handle, "NdisOffloadHandle")
        refused = [int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED), 0]
        if binding is None:
            self.answer(peer, message, *refused)
            return
        self._ask_up(
            peer, message, binding, ["ProtocolTcpOffloadReceiveIndicate", [handle, columns, status]], frames, refused
        )

    def _ask_up(
        self,
        peer: Peer,
        message: Message,
        binding: Binding,
        call: list[Any],
        frames: Sequence[bytes],
        otherwise: list[Any],
    ) -> None:
        """An indication that waits for the upper driver's answer (the call is synchronous in NDIS)."""

        def answered(values: list[Any] | None) -> None:
            if not peer.closed:
                self.outbox.append((peer.key, [RETURN, message[1], values if values is not None else otherwise], ()))

        upper = binding.protocol
        upper.next_call += 1
        upper.pending[upper.next_call] = Pending(call[0], answered, self.now)
        out: Message = [call[0], upper.next_call, call[1]]
        if frames:
            out.append(len(frames))
        self.send(upper, out, frames)

    def _offload_event(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        handle, columns, code = message[2]
        adapter = self.adapter_of(peer, handle, "NdisMiniportHandle")
        if columns is not None and (type(columns) is not dict or type(columns.get("Block")) is not list):
            raise Violation("OffloadBlockList", "a block list or nil expected", "R-NUD-14")
        binding = adapter.chimney_owner
        if binding is None or binding.state not in _BOUND:
            self.answer(peer, message, None, columns)
            return
        self._ask_up(
            peer,
            message,
            binding,
            ["ProtocolIndicateOffloadEvent", [binding.context, columns, code]],
            frames,
            [None, columns],
        )

    def _status(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        handle, wire = message[2]
        adapter = self.adapter_of(peer, handle, "MiniportAdapterHandle")
        indication = NdisStatusIndication.from_wire(wire, "NdisMIndicateStatusEx.StatusIndication")
        self._note(adapter, indication, wire)
        for binding in list(adapter.bindings):
            if binding.state in _BOUND:
                self.send(binding.protocol, ["ProtocolStatusEx", None, [binding.context, wire]])

    def _note(self, adapter: Adapter, indication: NdisStatusIndication, wire: dict[str, Any]) -> None:
        code = indication.status_code
        if code == NdisStatus.OFFLOAD_PAUSE:
            adapter.paused = True
        elif code == NdisStatus.OFFLOAD_RESUME:
            adapter.paused = False
            if isinstance(indication.status_buffer, NdisTcpConnectionOffload):
                adapter.capabilities = wire["StatusBuffer"]

    def _receive_frames(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        handle, chain, *rest = message[2]
        adapter = self.adapter_of(peer, handle, "MiniportAdapterHandle")
        columns = check_nbl_columns(chain, "NdisMIndicateReceiveNetBufferLists.NetBufferLists")
        for binding in list(adapter.bindings):
            if binding.state in _BOUND:
                out: Message = ["ProtocolReceiveNetBufferLists", None, [binding.context, columns, *rest]]
                if frames:
                    out.append(len(frames))
                self.send(binding.protocol, out, frames)
