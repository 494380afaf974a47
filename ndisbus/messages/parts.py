"""Messages in parts: a block list that is too long for one packet (docs/protocol.md, "Messages in parts").

A *part* is a message ``["part", nil, [name, index, count, handle, columns], frames]``. The parts of one
message follow one another on a connection with nothing between them. Each has a piece of every column that is
an array. The last ones may have only pieces of NetBufferLists and of the payload. The receiver joins them to
the message ``[name, nil, [handle, columns], frames]``. Only calls with a block list that are not answered may
be divided. Both sides work in pieces of about :data:`PART_BYTES`, so neither is busy for long at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

import msgpack

from ndisbus.ddi.call_rows import STATE_OPERATIONS
from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.messages.codec import MAX_PACKET, Message

__all__ = [
    "DIVISIBLE",
    "FEW",
    "HEAD_BYTES",
    "INT_BYTES",
    "JOINED_ROOM",
    "MAX_FRAME",
    "MAX_JOINED",
    "MAX_PARTS",
    "PART",
    "PARTS_KEY",
    "PART_BYTES",
    "REST_BYTES",
    "Assembly",
    "divide",
    "weight",
]

PART: Final = "part"
#: Key of the identity map and of the ready map: this side can join parts.
PARTS_KEY: Final = "Parts"
#: A message above this size (bytes) is divided if the receiver can join it; the usual size of a part.
PART_BYTES: Final = 4 * 1024 * 1024
#: Most parts of one message.
MAX_PARTS: Final = 1024
#: Largest message that is sent in parts (bytes), in the sense of :func:`weight`.
MAX_JOINED: Final = 1024 * 1024 * 1024
#: How much larger it may become on its way.
JOINED_ROOM: Final = 64 * 1024 * 1024
#: Largest payload frame of a message (bytes): it must fit into a packet together with a part.
MAX_FRAME: Final = MAX_PACKET - 1024 * 1024
#: Blocks that one part has at most.
_ROWS: Final = 8192

#: Calls that may be divided.
DIVISIBLE: Final = frozenset(
    name for o in STATE_OPERATIONS for name in (o.request, o.handler, o.completion, o.completion_handler)
)

_BLOCK: Final = "Block"
_STATE: Final = "State"
_LISTS: Final = "NetBufferLists"
#: Most bytes of an integer, and of the head of a bin, in msgpack.
INT_BYTES: Final = 9
HEAD_BYTES: Final = 5
#: Most bytes of a message besides its columns and frames: names, numbers, columns with one value.
REST_BYTES: Final = 1024
#: A list with at most this many blocks, and a chain with as many lists, is small if its payload is.
FEW: Final = 1024


def weight(columns: dict[str, Any], frames: Sequence[Any]) -> int:
    """Return an upper bound of the bytes of a message with this list or chain, payload frames included."""
    total = REST_BYTES + sum(map(len, frames))
    for key, column in columns.items():
        if type(column) is bytes:
            total += len(column) + HEAD_BYTES
        elif type(column) is not list:
            continue
        elif key == _STATE:
            total += sum([len(s) for s in column if s is not None]) + HEAD_BYTES * len(column)
        elif key == _LISTS:
            total += _packed(column)
        else:
            total += INT_BYTES * len(column)
    return total


def _packed(value: Any) -> int:
    return len(msgpack.packb(value, use_bin_type=True))


def divide(message: Message, frames: Sequence[Any]) -> Iterator[tuple[Message, Sequence[Any]]]:
    """Iterate over the parts of a message whose call is in :data:`DIVISIBLE`, each with its payload frames.

    Each part is made when it is asked for. The columns must not change meanwhile. Raises
    :class:`LocalProtocolError`, before the first part, for a message that needs too many of them.
    """
    name, _, (handle, columns) = message[:3]
    rows = len(columns[_BLOCK])
    size = _rows_of_a_part(columns)
    lists = _runs([_packed(chain) for chain in columns.get(_LISTS) or ()])
    payload = _runs(list(map(len, frames)))
    cuts = [(at, min(at + size, rows)) for at in range(0, rows, size)]
    count = len(cuts) + len(lists) + len(payload)
    if count > MAX_PARTS:
        raise LocalProtocolError(f"{name}: a message of {count} parts; at most {MAX_PARTS} are accepted")
    plain = {k: c for k, c in columns.items() if k != _LISTS}

    def part(index: int, piece: dict[str, Any], own: Sequence[Any] = ()) -> tuple[Message, Sequence[Any]]:
        made: Message = [PART, None, [name, index, count, handle, piece]]
        if own:
            made.append(len(own))
        return made, own

    def parts() -> Iterator[tuple[Message, Sequence[Any]]]:
        index = 0
        for index, (a, b) in enumerate(cuts):
            yield part(index, {k: c[a:b] if type(c) is list else c for k, c in plain.items()})
        for a, b in lists:
            index += 1
            yield part(index, {_BLOCK: [], _LISTS: columns[_LISTS][a:b]})
        for a, b in payload:
            index += 1
            yield part(index, {_BLOCK: []}, frames[a:b])

    return parts()


def _rows_of_a_part(columns: dict[str, Any]) -> int:
    """Return how many blocks a part has, so that it stays at about PART_BYTES with its state."""
    states = columns.get(_STATE)
    largest = max(map(len, filter(None, states)), default=0) if type(states) is list else 0
    return max(1, min(_ROWS, PART_BYTES // (largest + HEAD_BYTES + INT_BYTES * len(columns))))


def _runs(sizes: list[int]) -> list[tuple[int, int]]:
    """Return the bounds of runs of elements that have at most PART_BYTES together, or one larger element."""
    runs: list[tuple[int, int]] = []
    start = below = 0
    for i, total in enumerate(accumulate(sizes)):
        if total - below > PART_BYTES and i > start:
            runs.append((start, i))
            start, below = i, total - sizes[i]
    if sizes:
        runs.append((start, len(sizes)))
    return runs


class Assembly:
    """Joins the parts of the message that a connection is receiving. At most one is open at a time.

    ``rows`` is the most blocks of a list, ``room`` how many bytes more than :data:`MAX_JOINED` are accepted.
    """

    __slots__ = ("_columns", "_count", "_frames", "_handle", "_name", "_size", "index", "room", "rows")

    def __init__(self, rows: int, room: int = JOINED_ROOM) -> None:
        self.rows = rows
        self.room = room
        self.clear()

    def clear(self) -> None:
        """Forget what has arrived."""
        self._name = ""
        self._count = self._size = 0
        self._handle: Any = None
        self._columns: dict[str, Any] = {}
        self._frames: list[bytes] = []
        #: Number of parts that have arrived; 0: no message is open.
        self.index = 0

    def __bool__(self) -> bool:
        return self.index > 0

    @property
    def name(self) -> str:
        """The call that is being joined; ``""`` if no message is open."""
        return self._name

    def interrupted(self, name: str) -> DecodeError:
        """Return the error for another message between two parts."""
        at = self.index
        return DecodeError(PART, f"{name} between part {at - 1} and part {at} of {self._name}")

    def add(self, message: Message, frames: Sequence[bytes]) -> tuple[Message, Sequence[bytes]] | None:
        """Take the next part. Returns the joined message and its frames with the last part, else None.

        Raises :class:`DecodeError` for a part that is not the next one, or for too much.
        """
        args = message[2]
        if len(args) != 5 or type(args[0]) is not str or type(args[4]) is not dict:
            raise DecodeError(PART, "[name, index, count, handle, columns] expected")
        name, index, count, handle, columns = args
        if name not in DIVISIBLE:
            raise DecodeError(PART, f"{name} is not a call that may be divided")
        if type(count) is not int or not 1 <= count <= MAX_PARTS:
            raise DecodeError(PART, f"{name}: 1 to {MAX_PARTS} parts are accepted")
        if type(index) is not int or index != self.index:
            raise DecodeError(PART, f"{name}: part {self.index} expected")
        if not index:
            self._name, self._count, self._handle = name, count, handle
        elif (name, count, handle) != (self._name, self._count, self._handle):
            raise DecodeError(PART, f"{name}: name, count and handle differ from those of the first part")
        self._join(columns, frames)
        self.index += 1
        if self.index < count:
            return None
        joined: Message = [name, None, [handle, self._columns]]
        all_frames = self._frames
        if all_frames:
            joined.append(len(all_frames))
        self.clear()
        return joined, all_frames

    def _join(self, columns: dict[str, Any], frames: Sequence[bytes]) -> None:
        self._size += weight(columns, frames)
        if self._size > MAX_JOINED + self.room:
            raise DecodeError(PART, f"{self._name}: more than {MAX_JOINED + self.room} bytes")
        blocks = columns.get(_BLOCK)
        if type(blocks) is not list:
            raise DecodeError(f"{PART}.Block", "an array of pointers expected")
        known = self._columns
        if not blocks and not columns.keys() <= {_BLOCK, _LISTS}:
            raise DecodeError(PART, f"{self._name}: a part without blocks has only {_LISTS} and frames")
        if self.index and len(known[_BLOCK]) + len(blocks) > self.rows:
            raise DecodeError(f"{PART}.Block", f"at most {self.rows} blocks are accepted")
        if not self.index:
            known.update(columns)
        else:
            for key, column in columns.items():
                before = known.get(key)
                if type(column) is not list:
                    if key not in known or before != column:
                        raise DecodeError(f"{PART}.{key}", "one value for all blocks, but not in every part")
                elif type(before) is list:
                    before += column
                elif key == _LISTS and before is None:
                    known[key] = column
                else:
                    raise DecodeError(f"{PART}.{key}", "an array, but not in every part")
        self._frames += frames
