"""What connections of the torture carry: streams in which each byte tells its position, and their checks.

A lost, doubled or moved byte shows where it is, and what came instead: the words of a coded stream have the
number of their stream and their own number in them.
"""

from __future__ import annotations

import hashlib
import math
import random
import struct
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hoststack.peer.services import Chargen, frame, pattern

__all__ = ["KINDS", "Expected", "Kind", "Outgoing", "Page", "Stream", "StreamWrong", "coded", "make_kind"]

#: Bits of a word's own number; the number of the stream is above them.
_INDEX: Final = 40
_WORD: Final = 8
#: Bytes of the largest stream, and of the largest message of an exchange.
_LARGEST: Final = 300_000
_MESSAGE: Final = 40_000
#: The longest head of an HTTP answer.
_HEAD: Final = 2000
#: The lines of chargen repeat after so many bytes.
_LINES: Final = Chargen().produce(1 << 20)


class StreamWrong(Exception):
    """What arrived is not what was sent; the text says where and how."""


def coded(key: int, start: int, size: int) -> bytes:
    """``size`` bytes of the coded stream number ``key`` from position ``start``."""
    first, skip = divmod(start, _WORD)
    base = key << _INDEX | first
    words = array("Q", range(base, base + (skip + size) // _WORD + 1))
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes()[skip : skip + size]


def _found(key: int, data: bytes) -> tuple[int, int] | None:
    """(offset, position) of the first two words of the stream ``key`` in ``data``."""
    for at in range(min(len(data) - 2 * _WORD + 1, 4096)):
        one, two = struct.unpack_from(">QQ", data, at)
        if one >> _INDEX == key and two == one + 1:
            return at, (one & ((1 << _INDEX) - 1)) * _WORD
    return None


class Outgoing:
    """What is to be sent: a head, and ``size`` bytes of a coded stream behind it."""

    def __init__(self, key: int, size: int, head: bytes = b"") -> None:
        self.key = key
        self.head = head
        self.size = len(head) + size

    def piece(self, start: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``start``."""
        size = min(size, self.size - start)
        head = self.head[start : start + size]
        if len(head) == size:
            return head
        return head + coded(self.key, start + len(head) - len(self.head), size - len(head))


class Expected:
    """Checks what arrives. ``got`` counts bytes that were right; ``size`` is how many there will be."""

    #: The remote end sends until this side closes its stream.
    endless = False

    def __init__(self, size: float) -> None:
        self.got = 0
        self.size = size

    @property
    def complete(self) -> bool:
        """Whether nothing but the end of the stream may follow."""
        return self.got >= self.size

    def take(self, data: bytes) -> None:
        """Check what has arrived next. Raises :class:`StreamWrong`."""
        raise NotImplementedError

    def end(self, shut: bool) -> None:
        """The stream has ended; ``shut``: this side had closed its own one. Raises :class:`StreamWrong`."""
        if not self.complete:
            raise StreamWrong(f"the stream ended after {self.got} of {self.size:g} bytes, without an error")


class Stream(Expected):
    """A stream that is known. ``key``: that of the coded stream in it, by which bytes are found."""

    def __init__(
        self, piece: Callable[[int, int], bytes], size: float, key: int = -1, *, endless: bool = False
    ) -> None:
        super().__init__(size)
        self._piece = piece
        self._key = key
        self.endless = endless

    def take(self, data: bytes) -> None:
        over = self.got + len(data) - self.size
        if over > 0:
            raise StreamWrong(f"{over:g} bytes more than the {self.size:g} that were to come")
        right = self._piece(self.got, len(data))
        if data != right:
            raise StreamWrong(self._compare(data, right))
        self.got += len(data)

    def _compare(self, data: bytes, right: bytes) -> str:
        at = next(i for i, (a, b) in enumerate(zip(data, right, strict=True)) if a != b)
        text = f"byte {self.got + at} is {data[at]:#04x} instead of {right[at]:#04x}"
        found = _found(self._key, data[at:])
        if found is None:
            return f"{text}: {data[at : at + 24].hex()} instead of {right[at : at + 24].hex()}"
        offset, position = found
        expected = self.got + at + offset
        how = "lost" if position > expected else "came again"
        return f"{text}: {abs(position - expected)} bytes {how}: at {expected} came the byte of {position}"

    def end(self, shut: bool) -> None:
        if not self.endless:
            super().end(shut)
        elif not shut:
            raise StreamWrong(f"the endless stream ended after {self.got} bytes, without an error")


class Page(Expected):
    """An HTTP answer: a head that says 200, and a body that is known."""

    def __init__(self, body: Callable[[int, int], bytes], size: int) -> None:
        super().__init__(math.inf)
        self._body = Stream(body, size)
        self._head = b""

    def take(self, data: bytes) -> None:
        if self.size == math.inf:
            self._head += data
            head, mark, data = self._head.partition(b"\r\n\r\n")
            if not mark:
                if len(self._head) > _HEAD:
                    raise StreamWrong(f"{len(self._head)} bytes without a head: {self._head[:80]!r}")
                self.got = len(self._head)
                return
            if not head.startswith(b"HTTP/1.1 200 "):
                raise StreamWrong(f"the answer begins with {head[:80]!r}")
            self.got = len(head) + len(mark)
            self.size = self.got + self._body.size
        self._body.take(data)
        self.got += len(data)


@dataclass
class Kind:
    """What one connection does. ``port``: the service of the remote host."""

    name: str
    port: int
    out: Outgoing
    expected: Expected
    #: The remote end closes by itself once it has answered.
    remote_closes: bool = False


def _size(rng: random.Random, largest: int = _LARGEST) -> int:
    """Small ones are as likely as large ones."""
    return round(math.exp(rng.uniform(0.0, math.log(largest))))


def _echo(key: int, rng: random.Random) -> Kind:
    out = Outgoing(key, _size(rng))
    return Kind("echo", 7, out, Stream(out.piece, out.size, key))


def _discard(key: int, rng: random.Random) -> Kind:
    out = Outgoing(key, _size(rng))
    return Kind("discard", 9, out, Stream(out.piece, 0))


def _lines(start: int, size: int) -> bytes:
    start %= len(_LINES)
    return (_LINES * (2 + size // len(_LINES)))[start : start + size]


def _chargen(key: int, rng: random.Random) -> Kind:
    return Kind("chargen", 19, Outgoing(key, 0), Stream(_lines, math.inf, endless=True))


def _page(key: int, rng: random.Random) -> Kind:
    size = _size(rng)
    head = f"GET /bytes/{size} HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n".encode()
    return Kind("page", 80, Outgoing(key, 0, head), Page(pattern, size), remote_closes=True)


def _digest(key: int, rng: random.Random) -> Kind:
    size = _size(rng)
    head = f"POST /sha256 HTTP/1.1\r\nHost: peer\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    answer = hashlib.sha256(coded(key, 0, size)).hexdigest().encode() + b"\n"
    page = Page(lambda start, size: answer[start : start + size], len(answer))
    return Kind("digest", 80, Outgoing(key, size, head.encode()), page, remote_closes=True)


def _exchange(key: int, rng: random.Random) -> Kind:
    out, back, at = b"", b"", 0
    for _ in range(rng.randint(1, 4)):
        message = coded(key, at, _size(rng, _MESSAGE))
        at += len(message)
        out += frame(message)
        back += frame(message[::-1])
    answer = Stream(lambda start, size: back[start : start + size], len(back))
    return Kind("exchange", 5007, Outgoing(key, 0, out), answer)


#: How each kind is made, and how often it is chosen.
KINDS: Final = {_echo: 6, _digest: 3, _page: 3, _exchange: 2, _chargen: 2, _discard: 1}


def make_kind(key: int, rng: random.Random) -> Kind:
    """A kind of connection by chance. ``key``: a number of 24 bits that no other connection has."""
    return rng.choices(list(KINDS), list(KINDS.values()))[0](key, rng)
