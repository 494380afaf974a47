"""The trace event of a call: its drivers, its list, the number of blocks, the statuses."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from ndisbus.ddi.call_rows import PACKET_SEND
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.status import status_symbol
from ndisbus.lists.blocklist import Key

if TYPE_CHECKING:
    from ndisbus.core.model import Client
    from ndisbus.core.registry import Registry
    from ndisbus.messages.codec import Message

__all__ = ["describe_call"]

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


def describe_call(
    registry: Registry, client: Client, message: Message, now: float, *, inbound: bool
) -> dict[str, Any] | None:
    """Return the trace event of a call; None if the message is not a call of the table.

    Calls are traced before they are checked, so this function makes no assumption about their contents.
    """
    name, args = message[0], message[2]
    call = CALLS.get(name)
    if call is None:
        return None
    event: dict[str, Any] = {
        "t": now,
        "event": "call",
        "from": client.name if inbound else "ndis",
        "to": "ndis" if inbound else client.name,
        "call": name,
        "direction": call.direction.value,
        "epoch": client.epoch,
    }
    adapter = registry.adapter_named_in(client, message)
    if adapter is not None:
        event["adapter"] = adapter.name
    at = call.blocks_at
    if 0 <= at < len(args) and isinstance(args[at], dict):
        columns = args[at]
        blocks = columns.get(Key.BLOCK)
        if type(blocks) is list and blocks:
            event["list"], event["blocks"] = blocks[0], len(blocks)
            status = columns.get(Key.STATUS)
            if type(status) is list:
                event["status"] = dict(Counter(map(_symbol, status)))
            elif status is not None:
                event["status"] = {_symbol(status): len(blocks)}
    elif name in _PACKETS and len(args) > 1 and type(args[1]) is dict:
        _describe_lists(event, args[1])
    elif len(args) > 1 and name.endswith("EventHandler" if inbound else "TcpOffloadEvent"):
        event["list"] = args[0]
        event["information"] = list(args[1:])
    return event


def _describe_lists(event: dict[str, Any], columns: dict[str, Any]) -> None:
    """Add the number of frames, or of returned lists, and the statuses of completed sends."""
    lists, status = columns.get("NetBufferList"), columns.get("Status")
    if type(lists) is list:
        event["lists"] = len(lists)
        if type(status) is list:
            event["status"] = dict(Counter(map(_symbol, status)))


def _symbol(status: Any) -> str:
    return status_symbol(status) if type(status) is int else repr(status)[:20]
