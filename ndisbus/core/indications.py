"""Indications: from the driver below to the driver that owns the object, or to all bound protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import BindingState
from ndisbus.core.violation import Violation
from ndisbus.ddi.state_types import Layer
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.ddi.structures import NdisStatusIndication, NdisTcpConnectionOffload
from ndisbus.ddi.tcp_enums import TcpOffloadEventType, TcpUploadReason
from ndisbus.errors import RemoteProtocolError, value_text
from ndisbus.lists.blocklist import Key
from ndisbus.lists.heap import space_of
from ndisbus.lists.nbl_chain import check_nbl_columns
from ndisbus.lists.validate import EVENT_COLUMNS, check_columns
from ndisbus.messages.codec import RETURN

if TYPE_CHECKING:
    from ndisbus.core.io import Io
    from ndisbus.core.model import Adapter, Binding, Client, Handlers, Injected
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.registry import Registry
    from ndisbus.messages.codec import Message

__all__ = ["Indications"]

_BOUND: Final = (BindingState.OPEN, BindingState.UNBINDING)
_RETRIEVE: Final = int(TcpOffloadEventType.TcpIndicateRetrieve)
_BACKLOG: Final = int(TcpOffloadEventType.TcpIndicateSendBacklogChange)
_EVENTS: Final = frozenset(int(e) for e in TcpOffloadEventType)
_REASONS: Final = frozenset(int(r) for r in TcpUploadReason if r is not TcpUploadReason.MaxUploadReason)
_ANSWERS: Final = frozenset(int(s) for s in ALLOWED_STATUS["receive_indication_return"])
_NOT_ACCEPTED: Final = int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED)


class Indications:
    """Passes on TCP events, receive indications, generic events and status indications."""

    __slots__ = ("injected", "io", "out", "registry")

    def __init__(self, out: Outbound, registry: Registry, injected: Injected, io: Io) -> None:
        self.out = out
        self.registry = registry
        self.injected = injected
        self.io = io

    def handlers(self) -> Handlers:
        """Return the handlers by name of call."""
        return {
            "NdisTcpOffloadEventHandler": self._tcp_event,
            "NdisTcpOffloadReceiveHandler": self._receive_indicate,
            "NdisMOffloadEventIndicate": self._offload_event,
            "NdisMIndicateStatusEx": self._status,
        }

    def _owner(self, client: Client, handle: Any, parameter: str) -> Binding | None:
        """Return the binding that owns the NDIS_OFFLOAD_HANDLE a lower driver names; None if it has gone.

        Raises :class:`Violation` for a handle of an object that is not offloaded at this driver (R-HND-06).
        """
        if type(handle) is not int:
            raise Violation(parameter, f"a pointer expected, got {value_text(handle)}", "R-HND-06")
        owner = self.registry.by_space.get(space_of(handle))
        for binding in owner.bindings if owner is not None else ():
            known = binding.objects.get(handle) or binding.lost.get(handle)
            if (known is not None and known[0] == Layer.TCP) or handle in binding.offloading:
                if binding.adapter.driver is not client:
                    raise Violation(parameter, f"{handle:#x} is offloaded at another driver", "R-HND-06")
                return binding if binding.state in _BOUND else None
        if self.injected.late:
            return None  # a fault delayed this call, and the object has gone since
        if owner is not None and any(b.adapter.driver is client for b in owner.bindings):
            # The call crossed a terminate that NDIS made for a protocol that is closing its binding.
            if any(b.state not in _BOUND and b.adapter.driver is client for b in owner.bindings):
                return None
        elif owner is not None and owner.closed:
            return None
        raise Violation(
            parameter, f"{handle:#x} does not name a connection that is offloaded here", "R-HND-06"
        )

    def _tcp_event(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, event, information = message[2]
        if event not in _EVENTS:
            raise Violation("EventType", f"{value_text(event)} is not a TCP_OFFLOAD_EVENT_TYPE", "R-EVT-01")
        if event == _RETRIEVE and information not in _REASONS:
            raise Violation(
                "EventSpecificInformation", f"{information} is not a TCP_UPLOAD_REASON", "R-EVT-01"
            )
        if information and event not in (_RETRIEVE, _BACKLOG):
            raise Violation(
                "EventSpecificInformation", f"{information} is not 0, which this event requires", "R-EVT-01"
            )
        binding = self._owner(client, handle, "NdisOffloadHandle")
        if binding is not None:
            # R-HND-10: the upper driver gets the pointer to its own NDIS_OFFLOAD_HANDLE.
            self.out.send(binding.protocol, ["ProtocolTcpOffloadEvent", None, [handle, event, information]])

    def _receive_indicate(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, chain, status = message[2]
        columns = check_nbl_columns(chain, "NdisTcpOffloadReceiveHandler.NetBufferList")
        if len(columns["NetBufferList"]) != 1:
            raise Violation("NetBufferList", "an indication is one stand-alone list", "R-IND-01")
        if status != NdisStatus.SUCCESS:
            raise Violation("Status", "always NDIS_STATUS_SUCCESS", "R-IND-02")
        binding = self._owner(client, handle, "NdisOffloadHandle")
        refused = [_NOT_ACCEPTED, 0]
        if binding is None:
            self.out.answer(client, message, *refused)
            return
        (address,) = columns["NetBufferList"]
        binding.kept[address] = False
        self._ask_up(
            client,
            message,
            binding,
            ["ProtocolTcpOffloadReceiveIndicate", [handle, columns, status]],
            frames,
            refused,
            _check_consumed,
            lambda values: self._kept(binding, address, values),
        )

    def _kept(self, binding: Binding, address: int, values: list[Any]) -> None:
        """Handle the answer to a receive indication. A protocol that took all keeps the list (R-IND-03)."""
        if address not in binding.kept:
            return  # it has been returned already
        if values[0] != NdisStatus.SUCCESS:
            del binding.kept[address]
            return
        binding.kept[address] = True
        if binding.state not in _BOUND:
            self.io.take_back_received(binding)

    def _ask_up(
        self,
        client: Client,
        message: Message,
        binding: Binding,
        call: list[Any],
        frames: Sequence[bytes],
        otherwise: list[Any],
        check: Callable[[list[Any]], None],
        then: Callable[[list[Any]], None] = lambda _: None,
    ) -> None:
        """Pass up an indication that waits for the upper driver's answer (in NDIS the call is synchronous).

        ``check`` raises :class:`RemoteProtocolError` for an illegal answer. The driver below then gets
        ``otherwise``, as it does when the driver above has gone. ``then`` gets the same answer.
        """

        def answered(values: list[Any] | None) -> None:
            problem: RemoteProtocolError | None = None
            if values is not None:
                try:
                    check(values)
                except RemoteProtocolError as e:
                    problem, values = e, None
            answer = values if values is not None else otherwise
            if not client.closed:
                self.out.post(client.key, [RETURN, message[1], answer])
            then(answer)
            if problem is not None:
                raise problem

        upper = binding.protocol
        out: Message = [call[0], self.out.expect(upper, call[0], answered), call[1]]
        if frames:
            out.append(len(frames))
        self.out.send(upper, out, frames)

    def _offload_event(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, columns, code = message[2]
        adapter = self.registry.adapter_of(client, handle, "NdisMiniportHandle")
        if columns is not None:
            check_columns(columns, "NdisMOffloadEventIndicate.OffloadBlockList", EVENT_COLUMNS)
        binding = adapter.chimney_owner
        if binding is None or binding.state not in _BOUND:
            self.out.answer(client, message, None, columns)
            return
        self._ask_up(
            client,
            message,
            binding,
            ["ProtocolIndicateOffloadEvent", [binding.context, _protocol_form(columns), code]],
            frames,
            [None, columns],
            _check_event_answer,
        )

    def _status(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, wire = message[2]
        adapter = self.registry.adapter_of(client, handle, "MiniportAdapterHandle")
        indication = NdisStatusIndication.from_wire(wire, "NdisMIndicateStatusEx.StatusIndication")
        self._note(adapter, indication, wire)
        for binding in list(adapter.bindings):
            if binding.state in _BOUND:
                self.out.send(binding.protocol, ["ProtocolStatusEx", None, [binding.context, wire]])

    def _note(self, adapter: Adapter, indication: NdisStatusIndication, wire: dict[str, Any]) -> None:
        code = indication.status_code
        if code == NdisStatus.OFFLOAD_PAUSE:
            adapter.paused = True
        elif code == NdisStatus.OFFLOAD_RESUME:
            adapter.paused = False
            report = indication.status_buffer
            if isinstance(report, NdisTcpConnectionOffload):
                adapter.capabilities = wire["StatusBuffer"] if report.is_recognised() else None


def _check_consumed(values: list[Any]) -> None:
    """Check the answer of ProtocolTcpOffloadReceiveIndicate: (status, BytesConsumed)."""
    if len(values) != 2 or values[0] not in _ANSWERS:
        raise Violation("return", "a status of a receive indication and BytesConsumed expected")
    consumed = values[1]
    if type(consumed) is not int or not 0 <= consumed < 1 << 32:
        raise Violation("BytesConsumed", f"{value_text(consumed)} is not a number of bytes")
    if consumed and values[0] == _NOT_ACCEPTED:
        raise Violation("BytesConsumed", f"{consumed}, but a refused indication consumes 0 bytes", "R-IND-04")


def _check_event_answer(values: list[Any]) -> None:
    """Check the answer of ProtocolIndicateOffloadEvent: (nil, the list with what was written to it)."""
    if len(values) != 2 or values[0] is not None:
        raise Violation("return", "nil and OffloadBlockList expected")
    if values[1] is not None:
        check_columns(values[1], "ProtocolIndicateOffloadEvent.OffloadBlockList", EVENT_COLUMNS)


def _protocol_form(columns: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the list of a generic indication as the upper driver sees it, with its own handle (R-BLK-04)."""
    if columns is None or Key.NDIS_OFFLOAD_HANDLE not in columns:
        return columns
    upper = {k: v for k, v in columns.items() if k not in (Key.NDIS_OFFLOAD_HANDLE, Key.CELL, Key.CONTEXT)}
    upper[Key.OFFLOAD_HANDLE] = columns[Key.NDIS_OFFLOAD_HANDLE]
    return upper
