"""What a port does when the bus has gone: take the place of NDIS until nothing is in flight.

Every request in flight is completed with NDIS_STATUS_FAILURE (I/O: NDIS_STATUS_REQUEST_ABORTED) through the
ordinary handler, and before that, connections on offer are reported as lost. Then every binding is unbound
and every adapter halted, as NDIS does it for a surprise removal. New requests that a driver makes meanwhile
fail in the same way. What it passes up is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ndisbus.ddi.call import Call, Kind, python_name
from ndisbus.ddi.call_rows import PACKET_SEND
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import LOSS_EVENTS
from ndisbus.driver.base import Reply
from ndisbus.driver.replies import refusal
from ndisbus.lists.blocklist import BlockList, Key, values
from ndisbus.lists.heap import NdisOffloadHandle
from ndisbus.lists.nbl_chain import NblChain

if TYPE_CHECKING:
    from ndisbus.driver.port import DriverPort

__all__ = ["local_call", "tear_down"]

_SURPRISE = 1  # HaltAction NdisHaltDeviceSurpriseRemoved


class _Local:
    """The queue of what is still to be done. A driver's calls are added to it and do not nest."""

    def __init__(self) -> None:
        self.todo: deque[Callable[[], None]] = deque()

    def run(self) -> None:
        while self.todo:
            self.todo.popleft()()


_active: dict[int, _Local] = {}


def tear_down(port: DriverPort, reason: str) -> None:
    """Fail, unbind, halt; then tell the driver that it is detached."""
    local = _Local()
    _active[id(port)] = local
    try:
        port.replies.give_up()
        lists = list(port.sent.values())
        port.sent.clear()
        port.sent_along.clear()  # it stays with its connections, which belong to the driver again
        nbls: dict[tuple[str, int | None, int | None], list[int]] = {}
        for address, (call, through, context) in port.sent_nbls.items():
            nbls.setdefault((call.name, through, context), []).append(address)
        port.sent_nbls.clear()
        for (name, through, context), addresses in nbls.items():
            chain = NblChain(addresses, source_handle=through)
            chain.context = context
            _abort_nbls(port, local, CALLS[name], through, chain)
        for block_list, call, binding in lists:
            if call.op == "initiate":
                _tell_of_loss(port, local, block_list)
            _fail_list(port, local, block_list, call, binding)
        for binding, request in port.sent_oids:
            _fail_oid(port, local, binding, request)
        port.sent_oids.clear()
        local.run()
        for handle, context in list(port.bindings.items()):
            _handle(port, local, "ProtocolUnbindAdapterEx", handle, context)
            local.run()
            if port.bindings.pop(handle, None) is not None:
                # The driver left it open, because it waits for an event that will not come. Close it.
                _handle(port, local, "ProtocolCloseAdapterCompleteEx", context)
                local.run()
        for handle, context in list(port.adapters.items()):
            port.adapters.pop(handle)
            _handle(port, local, "MiniportHaltEx", context, _SURPRISE)
            local.run()
        port.lent.clear()
        port.opened.clear()
        port.driver.detached(reason)
        local.run()
        port.replies.end()
    finally:
        del _active[id(port)]


def local_call(port: DriverPort, call: Call, args: tuple[Any, ...]) -> Reply | None:
    """Serve a driver's call while the bus is away."""
    local = _active.get(id(port))
    own = local is None
    if local is None:
        local = _Local()
    reply = Reply(call.name) if call.answered else None
    if call.kind is Kind.REQUEST:
        if call.blocks_at >= 0:
            _fail_list(port, local, args[1], call, args[0])
        elif call.op == "oid":
            _fail_oid(port, local, args[0], args[1] if isinstance(args[1], dict) else args[1].to_wire())
        elif call.op == PACKET_SEND.op:
            _abort_nbls(port, local, call, args[0], args[1])
        elif call.completed_by:
            anchor = port.ndis.heap.objects.get(args[0])
            through = anchor.binding if isinstance(anchor, NdisOffloadHandle) else None
            _abort_nbls(port, local, call, through, args[1])
    elif call.kind is Kind.COMPLETION and call.blocks_at >= 0:
        port.lent.pop(args[1].address, None)
        args[1].release()
    elif reply is not None:
        reply.answer = _answer(port, local, call, args)
    if own:
        local.run()
    return reply


def _answer(port: DriverPort, local: _Local, call: Call, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if call.name == "NdisCloseAdapterEx":
        context = port.bindings.pop(args[0], None)
        if context is not None:
            _handle(port, local, "ProtocolCloseAdapterCompleteEx", context)
        return (int(NdisStatus.SUCCESS),)
    if call.name == "NdisIMDeInitializeDeviceInstance":
        context = port.adapters.pop(args[0], None)
        if context is not None:
            _handle(port, local, "MiniportHaltEx", context, _SURPRISE)
        return (int(NdisStatus.SUCCESS),)
    if call.name == "NdisTcpOffloadReceiveHandler":
        return (int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED), 0)
    if call.kind is Kind.INDICATION:
        return (None, None)
    return refusal(call.name, "the bus is gone")


def _fail_oid(port: DriverPort, local: _Local, binding: int, request: dict[str, Any]) -> None:
    context, status = port.bindings.get(binding, 0), int(NdisStatus.FAILURE)
    _handle(port, local, "ProtocolOidRequestComplete", context, request, status, "the bus is gone")


def _handle(port: DriverPort, local: _Local, name: str, *args: Any) -> None:
    """Queue a call of one of the driver's handlers."""
    handler = getattr(port.driver, python_name(name), None)
    if handler is None:
        return

    def run() -> None:
        result = handler(*args)
        if hasattr(result, "send"):
            port.step(result)

    local.todo.append(run)


def _tell_of_loss(port: DriverPort, local: _Local, block_list: BlockList) -> None:
    """Indicate that connections on offer were lost with their hardware, as NDIS does for a removed adapter.

    The driver below may have served them, so the FAILURE that follows is not a refusal (R-CONC-03).
    """
    n = len(block_list)
    handles = values(block_list.columns.get(Key.OFFLOAD_HANDLE), n)
    for handle, kind in zip(handles, values(block_list.columns[Key.TYPE], n), strict=True):
        if handle is not None and kind == OffloadStateType.TcpOffloadState:
            for event in LOSS_EVENTS:
                _handle(port, local, "ProtocolTcpOffloadEvent", handle, *event)


def _fail_list(port: DriverPort, local: _Local, block_list: BlockList, call: Call, binding: int) -> None:
    context = port.bindings.get(binding, 0)

    def fail() -> None:
        failure = int(NdisStatus.FAILURE)
        handles = block_list.columns.get(Key.OFFLOAD_HANDLE)
        if type(handles) is list and None in handles:
            # A placeholder always succeeds (R-TREE-02).
            block_list.columns[Key.STATUS] = [0 if h is None else failure for h in handles]
        else:
            block_list.columns[Key.STATUS] = failure

    local.todo.append(fail)
    _handle(port, local, call.completion_seen_as, context, block_list)


def _abort_nbls(port: DriverPort, local: _Local, call: Call, through: int | None, chain: NblChain) -> None:
    context = port.bindings.get(through or 0) or next(iter(port.bindings.values()), 0)
    if call.op == PACKET_SEND.op:
        chain.statuses = [int(NdisStatus.SEND_ABORTED)] * len(chain)
        _handle(port, local, call.completion_seen_as, context, chain, 0)
        return
    chain.statuses = [int(NdisStatus.REQUEST_ABORTED)] * len(chain)
    _handle(port, local, call.completion_seen_as, context, chain)
