"""Packets and messages: bytes on one side, calls on the other.

A *packet* is the content of one ZeroMQ message. Frame 0 is a msgpack array of messages. The frames behind it
are payload, in the order in which the messages claim them. A *message* is

    [name, call id or nil, [parameter, ...]]            a call, parameters in documented order
    [name, call id or nil, [parameter, ...], frames]    the same, claiming that many payload frames
    ["return", call id, [value, out, ...]]              the answer to a call that returns something

Several messages may share a packet, so that a busy driver sends one packet for many messages.
docs/protocol.md is the normative text. This is the only place where bytes become an error: all bytes either
decode or raise :class:`DecodeError`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgpack
from msgpack.exceptions import ExtraData, FormatError, OutOfData, StackError, UnpackException

from ndisbus.ddi.call import BLOCKS_MINIPORT, BLOCKS_PROTOCOL, NBL
from ndisbus.ddi.calls import CALLS
from ndisbus.errors import DecodeError

__all__ = [
    "MAX_MESSAGES",
    "MAX_PACKET",
    "MAX_PARAMS",
    "PROGRESS",
    "PROTOCOL_VERSION",
    "RETURN",
    "ROOM",
    "Message",
    "Packer",
    "decode_packet",
    "encode_packet",
]

#: Version of the handshake and of all that follows it (docs/protocol.md).
PROTOCOL_VERSION: Final = 2
#: Largest packet that a driver makes, all frames together (bytes).
MAX_PACKET: Final = 64 * 1024 * 1024
#: How much larger a packet may become on its way: NDIS and intermediate drivers add a few members (bytes).
ROOM: Final = 1024 * 1024
#: Most messages in one packet.
MAX_MESSAGES: Final = 4096
#: Most parameters of one message. No call has more than five.
MAX_PARAMS: Final = 8
#: Longest string: names, texts of errors, paths.
MAX_STR: Final = 4096
#: Most entries of one map (the widest is a list of columns).
MAX_MAP: Final = 256
#: Most elements of one array (a column of the longest list).
MAX_ARRAY: Final = 1_000_000
#: Deepest nesting of arrays and maps that a message needs (an OID's buffer inside a request).
MAX_DEPTH: Final = 12

RETURN: Final = "return"
#: A driver's sign of life while it works: one counter that grows.
PROGRESS: Final = "progress"

_LIMITS: Final[dict[str, Any]] = {
    "raw": False,
    "strict_map_key": True,
    "max_str_len": MAX_STR,
    "max_bin_len": MAX_PACKET + ROOM,
    "max_array_len": MAX_ARRAY,
    "max_map_len": MAX_MAP,
    "max_ext_len": 0,
}
#: Everything that msgpack raises for bytes. Most are ValueErrors: FormatError, StackError, ExtraData,
#: UnicodeDecodeError and a plain one for a limit. The others may come from other versions or platforms.
_UNPACK_ERRORS: Final = (
    ValueError,
    UnpackException,
    TypeError,
    OverflowError,
    RecursionError,
    MemoryError,
)
#: The plain ValueErrors of msgpack. Only their texts distinguish them.
_OVER_LIMIT: Final = re.compile(r"(\d+) exceeds max_(str|bin|array|map|ext)_len\((\d+)\)")
_BAD_KEY: Final = re.compile(r"(\w+) is not allowed for map key")
_SIZED: Final = {
    "str": "a string of {} bytes, at most {} are accepted",
    "bin": "a bin of {} bytes, at most {} are accepted",
    "array": "an array of {} elements, at most {} are accepted",
    "map": "a map of {} entries, at most {} are accepted",
    "ext": "an extension type; none is accepted",
}

#: A decoded message: [name, call id, params] or [name, call id, params, frames].
Message = list[Any]


class Packer:
    """Encodes packets. It has one reusable msgpack packer, so two threads must not share it."""

    __slots__ = ("_pack", "_packer")

    def __init__(self) -> None:
        self._packer = msgpack.Packer(autoreset=True, use_bin_type=True)
        self._pack = self._packer.pack

    def __call__(self, messages: Sequence[Message]) -> bytes:
        data: bytes = self._pack(messages)
        return data


def encode_packet(messages: Sequence[Message]) -> bytes:
    """Return frame 0 of a packet with these messages."""
    data: bytes = msgpack.packb(messages, use_bin_type=True)
    return data


def decode_packet(frames: Sequence[bytes], room: int = 0) -> list[tuple[Message, Sequence[bytes]]]:
    """Return the messages of a packet, each with its payload frames.

    ``room``: how many bytes more than :data:`MAX_PACKET` the packet may have. Raises :class:`DecodeError` for
    anything that is not a packet. Only the number and the nesting of the parameters are checked here. The
    handler of a call checks the rest.
    """
    if not frames:
        raise DecodeError("packet", "no frames")
    head = frames[0]
    size = len(head) if len(frames) == 1 else sum(map(len, frames))
    if size > MAX_PACKET + room:
        raise DecodeError("packet", f"{size} bytes, at most {MAX_PACKET + room} are accepted")
    try:
        messages = msgpack.unpackb(head, **_LIMITS)
    except _UNPACK_ERRORS as e:
        raise DecodeError("packet", _why(head, e)) from e
    if type(messages) is not list or not messages:
        raise DecodeError("packet", "a non-empty array of messages expected")
    if len(messages) > MAX_MESSAGES:
        raise DecodeError("packet", f"{len(messages)} messages, at most {MAX_MESSAGES} are accepted")
    if len(messages) == 1 and len(frames) == 1:
        m = messages[0]
        _check(m, 0)
        if len(m) == 4 and m[3]:
            raise DecodeError("message 0", f"claims {m[3]} payload frames, 0 are there")
        return [(m, ())]
    out: list[tuple[Message, Sequence[bytes]]] = []
    at = 1
    for i, m in enumerate(messages):
        _check(m, i)
        claimed = m[3] if len(m) == 4 else 0
        if claimed:
            if at + claimed > len(frames):
                raise DecodeError(
                    f"message {i}", f"claims {claimed} payload frames, {len(frames) - at} are there"
                )
            out.append((m, frames[at : at + claimed]))
            at += claimed
        else:
            out.append((m, ()))
    if at != len(frames):
        raise DecodeError("packet", f"{len(frames) - at} payload frames that no message claims")
    return out


def _why(head: bytes, error: Exception) -> str:
    """Return what is wrong with bytes that msgpack did not accept, in the words of this protocol."""
    text = str(error)
    if not head:
        return "frame 0 is empty"
    if isinstance(error, ExtraData):
        extra = len(error.extra)
        return f"trailing data: one value ends at offset {len(head) - extra}, {extra} more bytes follow"
    if isinstance(error, StackError | RecursionError):
        return f"nested deeper than {MAX_DEPTH}"
    if isinstance(error, OutOfData) or "incomplete input" in text:
        return f"truncated: its {len(head)} bytes end within a value"
    if isinstance(error, UnicodeDecodeError):
        return (
            f"a string that is not UTF-8: byte {error.object[error.start]:#04x} at its offset {error.start}"
        )
    if isinstance(error, FormatError):
        at = _bad_byte(head)
        return (
            "not msgpack: an invalid byte"
            if at is None
            else f"not msgpack: byte {head[at]:#04x} at offset {at}"
        )
    if (m := _OVER_LIMIT.fullmatch(text)) is not None:
        return _SIZED[m[2]].format(m[1], m[3])
    if (m := _BAD_KEY.match(text)) is not None:
        return f"a map with a key of type {m[1]}, keys are strings"
    if isinstance(error, MemoryError):
        return "more than fits into memory"
    return f"not msgpack: {text or type(error).__name__}"


def _bad_byte(head: bytes) -> int | None:
    """Return the offset of the byte that msgpack did not accept, if reading as a stream finds it again."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(head), **_LIMITS)
    try:
        unpacker.feed(head)
        unpacker.unpack()
    except FormatError:
        at: int = unpacker.tell()
        return at if at < len(head) else None
    except _UNPACK_ERRORS:
        return None
    return None


_NESTED: Final = frozenset((list, dict))
#: Messages with a map of columns, each as long as the list of blocks or of net buffer lists: calls and parts.
_COLUMNS: Final = frozenset(
    c.name
    for c in CALLS.values()
    if any(p.carries in (BLOCKS_PROTOCOL, BLOCKS_MINIPORT, NBL) for p in c.params)
) | {"part"}


def _check(m: Any, i: int) -> None:
    if type(m) is not list or not 3 <= len(m) <= 4:
        raise DecodeError(f"message {i}", "an array [name, call id, parameters, frames] expected")
    name = m[0]
    if type(name) is not str or not name:
        raise DecodeError(f"message {i}", "its name is not a string")
    if m[1] is not None and (type(m[1]) is not int or m[1] < 0):
        raise DecodeError(f"message {i} ({name})", "its call id is neither nil nor a number")
    params = m[2]
    if type(params) is not list or len(params) > MAX_PARAMS:
        raise DecodeError(f"message {i} ({name})", f"its parameters are not an array of at most {MAX_PARAMS}")
    if len(m) == 4 and (type(m[3]) is not int or m[3] < 0):
        raise DecodeError(f"message {i} ({name})", "its number of payload frames is not a number")
    for p in params:
        if type(p) is dict:
            if name not in _COLUMNS:
                _depth(p, f"message {i} ({name})")
                continue
            # Columns need no check here: their own check accepts only scalars. The descriptors of net buffer
            # lists are passed on unread, so this is the only check that NDIS makes of them.
            lists = p.get("NetBufferLists")
            if type(lists) is list:
                _depth(lists, f"message {i} ({name})")
        elif type(p) is list:
            _depth(p, f"message {i} ({name})")


def _depth(value: Any, where: str) -> None:
    """Limit the nesting, without recursion: deeper values cannot be encoded again."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [c for v in level for c in (v.values() if type(v) is dict else v) if type(c) in _NESTED]
        if not level:
            return
    raise DecodeError(where, f"nested deeper than {MAX_DEPTH}")
