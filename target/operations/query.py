"""MiniportQueryOffload: write the current state behind the blocks (R-QRY-02, R-QRY-03)."""

from __future__ import annotations

from functools import partial
from struct import Struct
from typing import Final

from ndisbus.ddi.tcp_enums import BACKLOG_NOT_SUPPORTED
from ndisbus.driver.pace import paced
from ndisbus.lists.blocklist import BlockList, Key, values
from target.data.machines import current_image
from target.hardware.adapter import Adapter
from target.model.contexts import Context, TcpContext
from target.model.life import Event
from target.operations import hardware_failure
from target.operations.lists import FAILURE, fits, resolve, slice_of

__all__ = ["query_offload"]

# SendBacklogSize, SendDataTail, ReceiveBacklogSize: in a query the backlogs use the storage of
# SendDataHead and BufferedData (R-STATE-12).
_TAIL: Final = Struct("<QQQ")
_DELEGATED_TYPES: Final = frozenset((15, 17))


def query_offload(adapter: Adapter, block_list: BlockList) -> None:
    """Begin a query. The values are those at its completion."""
    if not fits(adapter, block_list, adapter.ndis.m_query_offload_state_complete):
        return
    found, statuses = resolve(adapter, block_list, Event.QUERY)
    adapter.pipeline.submit(partial(_finish, adapter, block_list, found, statuses), adapter.ndis.now())


def _finish(
    adapter: Adapter, block_list: BlockList, found: list[Context | None], statuses: list[int]
) -> None:
    lost = hardware_failure.find_lost(adapter, "query", found)
    n = len(found)
    types = values(block_list.columns.get(Key.TYPE, 0), n)
    states = list(values(block_list.columns.get(Key.STATE), n))
    common = _TAIL.pack(*_backlogs(adapter, None))
    for i, obj in paced(enumerate(found), adapter.ndis.working):
        if obj is None:
            continue
        if obj.corrupt:
            statuses[i] = FAILURE
            continue
        part = slice_of(obj, types[i])
        if part is None:
            adapter.refuse("block type asks for another IP version")
            statuses[i] = FAILURE
            continue
        image = current_image(adapter, obj)[part]
        if types[i] in _DELEGATED_TYPES and isinstance(obj, TcpContext):
            tail = common if obj.io is None else _TAIL.pack(*_backlogs(adapter, obj))
            image = image[:-24] + tail
        states[i] = image
    block_list.columns[Key.STATE] = states
    block_list.columns[Key.STATUS] = statuses
    adapter.ndis.m_query_offload_state_complete(adapter.handle, block_list)
    hardware_failure.lose(adapter, lost)


def _backlogs(adapter: Adapter, tcp: TcpContext | None) -> tuple[int, int, int]:
    """Return SendBacklogSize, NULL, ReceiveBacklogSize. Posted requests do not change them (R-STATE-15)."""
    io = tcp.io if tcp is not None else None
    send = adapter.config.send_backlog if io is None else io.backlog_wanted
    if adapter.config.send_backlog is None or send is None:
        send = BACKLOG_NOT_SUPPORTED
    if not adapter.config.receive_backlog:
        return send, 0, BACKLOG_NOT_SUPPORTED
    if io is None or tcp is None:
        return send, 0, 0
    return send, 0, len(io.buffered) if tcp.flow is None else tcp.flow.machine.available
