"""MiniportInvalidateOffload: stop sending on the named objects (R-INV-03 to R-INV-06, R-DIS-11).

The objects are marked when the request arrives, so sending stops at once. They keep their resources until the
host terminates them. When the request has completed, the target requests uploads with reason InvalidState:
of each connection that was named, or that depends on a named path or neighbor.
"""

from __future__ import annotations

from functools import partial

from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.lists.blocklist import BlockList, Key
from target.hardware.adapter import Adapter
from target.hardware.events import request_upload
from target.model.contexts import Context, TcpContext
from target.model.life import Event, Life
from target.operations import hardware_failure
from target.operations.lists import FAILURE, resolve

__all__ = ["invalidate_offload"]


def invalidate_offload(adapter: Adapter, block_list: BlockList) -> None:
    """Begin an invalidate."""
    found, statuses = resolve(adapter, block_list, Event.INVALIDATE)
    for obj in found:
        if obj is not None:
            for tcp in hardware_failure.connections_of(obj):
                if tcp.flow is not None:
                    tcp.flow.silent = True
    adapter.pipeline.submit(partial(_finish, adapter, block_list, found, statuses), adapter.ndis.now())


def _finish(
    adapter: Adapter, block_list: BlockList, found: list[Context | None], statuses: list[int]
) -> None:
    lost = hardware_failure.find_lost(adapter, "invalidate", found)
    affected: dict[int, TcpContext] = {}
    for i, obj in enumerate(found):
        if obj is None:
            continue
        if obj.corrupt:
            statuses[i] = FAILURE
        else:
            for tcp in hardware_failure.connections_of(obj):
                affected[tcp.address] = tcp
    block_list.columns[Key.STATUS] = statuses
    adapter.ndis.m_invalidate_offload_complete(adapter.handle, block_list)
    hardware_failure.lose(adapter, lost)
    for tcp in affected.values():
        if tcp.life is not Life.LOST:
            request_upload(adapter, tcp, TcpUploadReason.InvalidState)
