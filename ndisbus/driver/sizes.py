"""How large a driver's message may become: known before a call is recorded, so a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.errors import LocalProtocolError
from ndisbus.lists.blocklist import Key
from ndisbus.lists.validate import MAX_BLOCKS
from ndisbus.messages.codec import MAX_PACKET, ROOM
from ndisbus.messages.parts import DIVISIBLE, FEW, JOINED_ROOM, MAX_FRAME, MAX_JOINED, weight
from ndisbus.state.images import state_size

__all__ = ["BLOCK_BYTES", "PIECE_BYTES", "STATE_BYTES", "check_chain", "check_list", "list_bytes"]

#: The most bytes of a block on the wire: its members, and the state behind it.
BLOCK_BYTES: Final = 160
STATE_BYTES: Final = max(
    map(
        state_size,
        (
            OffloadStateType.NeighborOffloadState,
            OffloadStateType.Ip4OffloadState,
            OffloadStateType.Ip6OffloadState,
            OffloadStateType.TcpOffloadState,
        ),
    )
)
#: The most bytes that describe one piece of data that goes along.
PIECE_BYTES: Final = 512

#: Most bytes of payload that a short list or chain may have without being weighed.
_SMALL: Final = 1024 * 1024


def list_bytes(blocks: int, pieces: Sequence[int] = (), *, state: bool = True) -> int:
    """Return an upper bound of the bytes of a message: a list, and pieces of data of these sizes."""
    each = BLOCK_BYTES + STATE_BYTES if state else BLOCK_BYTES
    return blocks * each + sum(pieces) + PIECE_BYTES * len(pieces)


def check_list(
    name: str, columns: dict[str, Any], frames: Sequence[Any], *, divisible: bool, passing_on: bool = False
) -> None:
    """Raise :class:`LocalProtocolError` for a block list that does not fit into a message.

    ``divisible``: the message may leave in parts. ``passing_on``: another driver made the list, so the
    message may have the room for what is added on the way.
    """
    blocks = len(columns[Key.BLOCK])
    if blocks <= FEW and not frames:
        states = columns.get(Key.STATE)
        if type(states) is not list or sum([len(s) for s in states if s is not None]) <= _SMALL:
            return
    if blocks > MAX_BLOCKS:
        raise LocalProtocolError(
            f"{name}: a list of {blocks} blocks; at most {MAX_BLOCKS} fit into a message"
        )
    parts = divisible and name in DIVISIBLE
    most, room = (MAX_JOINED, JOINED_ROOM // 2) if parts else (MAX_PACKET, ROOM // 2)
    _check(name, weight(columns, frames), most + room if passing_on else most)
    if parts and frames:
        largest = max(map(len, frames))
        if largest > MAX_FRAME:
            raise LocalProtocolError(
                f"{name}: {largest} bytes of data in one piece; at most {MAX_FRAME} fit into a packet"
            )


def check_chain(
    name: str, columns: dict[str, Any], frames: Sequence[Any], *, passing_on: bool = False
) -> None:
    """Raise :class:`LocalProtocolError` for a chain of net buffer lists that does not fit into a packet."""
    lists = len(columns["NetBufferList"])
    if lists <= FEW and len(frames) <= FEW and sum(map(len, frames)) <= _SMALL:
        return
    _check(name, weight(columns, frames), MAX_PACKET + (ROOM // 2 if passing_on else 0))


def _check(name: str, size: int, most: int) -> None:
    if size > most:
        raise LocalProtocolError(f"{name}: a message of up to {size} bytes; at most {most} can be sent")
