"""Whether a block list fits into the messages that it will need, at every client on its way.

It is asked before a request is recorded, so a list that is too large fails as an ordinary refusal: the
driver above gets it back at once, and nothing has changed. A client that can join parts takes any list that
the limits of docs/protocol.md allow; a client that cannot takes only what fits into a packet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgpack

from ndisbus.core.lent import LENT
from ndisbus.lists.blocklist import Key
from ndisbus.messages.codec import MAX_PACKET, ROOM
from ndisbus.messages.parts import (
    FEW,
    HEAD_BYTES,
    INT_BYTES,
    JOINED_ROOM,
    MAX_JOINED,
    REST_BYTES,
    weight,
)
from ndisbus.state.images import state_size

if TYPE_CHECKING:
    from ndisbus.core.model import Client, Request

__all__ = ["fits_into_packet", "why_too_large"]

#: Operations whose completion brings state.
_WITH_STATE: Final = ("query", "terminate")


def why_too_large(request: Request, frames: Sequence[bytes]) -> str:
    """Return why a request or its completion does not fit into a message; "" if both do."""
    blocks = len(request.blocks)
    if blocks <= FEW and not frames:
        return ""
    below, above = request.binding.adapter.driver, request.binding.protocol
    size = weight(request.columns, frames) + 2 * INT_BYTES * blocks
    if size > MAX_JOINED + JOINED_ROOM // 2:
        return f"a message of up to {size} bytes; at most {MAX_JOINED} are passed on"
    if not fits_into_packet(below, request.columns, frames, 2 * INT_BYTES * blocks):
        return f"it does not fit into a packet, and {below.name} does not join parts"
    if not above.joins_parts and _completion_size(request) > MAX_PACKET:
        return f"its completion would not fit into a packet, and {above.name} does not join parts"
    return ""


def fits_into_packet(client: Client, columns: dict[str, Any], frames: Sequence[bytes], more: int = 0) -> bool:
    """Return whether a message with this list, and ``more`` bytes, can be sent to a client."""
    if client.joins_parts or weight(columns, frames) + more <= MAX_PACKET:
        return True
    exact = len(msgpack.packb(columns, use_bin_type=True)) + sum(map(len, frames)) + more
    return exact <= MAX_PACKET + ROOM - REST_BYTES


def _completion_size(request: Request) -> int:
    """Return an upper bound of the bytes of a completion, without net buffer lists."""
    each = 2 * INT_BYTES + HEAD_BYTES + INT_BYTES * sum(type(request.columns.get(k)) is list for k in LENT)
    if request.operation.op in _WITH_STATE:
        types = request.columns.get(Key.TYPE, 0)
        largest = max(map(_state_size, set(types) if type(types) is list else (types,)))
        each += largest + HEAD_BYTES + INT_BYTES
    return each * len(request.blocks)


def _state_size(state_type: int) -> int:
    try:
        return state_size(state_type)
    except ValueError:
        return 0  # a placeholder, whose Type is not used (R-TREE-01)
