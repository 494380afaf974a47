"""What a remote host serves: echo, discard, chargen, HTTP and an exchange of checked messages; sans-I/O.

A :class:`Service` serves one connection. Its owner passes input to :meth:`Service.receive` and takes output
from :meth:`Service.produce`. It stops reading from the connection while :attr:`Service.full` is true, so a
client that does not read its output cannot make a service keep more and more of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from struct import Struct
from typing import Final

import h11

from ndisbus import __version__

__all__ = [
    "SERVICES",
    "Chargen",
    "Discard",
    "Echo",
    "Exchange",
    "ExchangeError",
    "Http",
    "Service",
    "frame",
    "pattern",
]

#: Bytes of output from which on input is not taken.
BACKLOG: Final = 262_144
#: Bytes of the longest body that the HTTP server makes; of the longest body that it keeps to echo it, and of
#: the longest message of an exchange.
MAX_BODY: Final = 1 << 32
MAX_MESSAGE: Final = 1 << 26
#: Digits of the longest number that is parsed: int() refuses numbers of several thousand digits.
_DIGITS: Final = 20


class Service:
    """One connection's server. The base answers nothing and never ends of itself."""

    def __init__(self) -> None:
        self._out = bytearray()
        #: Nothing more will be produced: the connection is closed once everything has been taken.
        self.finished = False

    @property
    def full(self) -> bool:
        """Whether input has to wait until more of the output was taken."""
        return len(self._out) >= BACKLOG

    def receive(self, data: bytes) -> None:
        """Take input from the client."""

    def ended(self) -> None:
        """The client has closed its sending side: the rest of the output is still produced, then it ends."""
        self.finished = True

    def produce(self, room: int) -> bytes:
        """Return up to ``room`` bytes to send now; empty if there are none."""
        data = bytes(self._out[:room])
        del self._out[: len(data)]
        return data


class Echo(Service):
    """RFC 862: what comes in goes out."""

    def receive(self, data: bytes) -> None:
        self._out += data


class Discard(Service):
    """RFC 863: what comes in is thrown away."""


_RING: Final = bytes(range(32, 127))
_LINES: Final = b"".join((_RING + _RING)[i : i + 72] + b"\r\n" for i in range(len(_RING)))


class Chargen(Service):
    """RFC 864: lines of 72 characters, each line shifted by one, until the client closes."""

    def __init__(self) -> None:
        super().__init__()
        self._at = 0

    def produce(self, room: int) -> bytes:
        if self.finished:
            return b""
        size = min(room, len(_LINES))
        start = self._at
        self._at = (start + size) % len(_LINES)
        return (_LINES + _LINES)[start : start + size]


class ExchangeError(ValueError):
    """A message of an exchange does not match its frame; the text says how."""


_FRAME: Final = Struct("!4sQ32s")
_MAGIC: Final = b"XCHG"


def frame(data: bytes) -> bytes:
    """A message of the exchange: ``XCHG``, length (8 bytes, big endian), SHA-256, the data."""
    return _FRAME.pack(_MAGIC, len(data), hashlib.sha256(data).digest()) + data


class Exchange(Service):
    """Both ends check what they got: a message is answered by its bytes in reverse, framed alike.

    A message whose digest is wrong ends the connection with the reason in :attr:`error`. The client uses
    the same class to take the answers apart: :attr:`messages` are those that arrived whole.
    """

    def __init__(self, *, answer: bool = True) -> None:
        super().__init__()
        self._in = bytearray()
        self._answer = answer
        self.error = ""
        self.messages = 0
        self.last = b""

    def receive(self, data: bytes) -> None:
        self._in += data
        try:
            while (message := self._take()) is not None:
                self.messages += 1
                self.last = message
                if self._answer:
                    self._out += frame(message[::-1])
        except ExchangeError as e:
            self.error = str(e)
            self.finished = True

    def _take(self) -> bytes | None:
        if len(self._in) < _FRAME.size or self.error:
            return None
        magic, length, digest = _FRAME.unpack_from(self._in)
        if magic != _MAGIC:
            raise ExchangeError(f"a message begins with {magic.hex()}, not with {_MAGIC.hex()}")
        if length > MAX_MESSAGE:
            raise ExchangeError(f"a message of {length} bytes is longer than {MAX_MESSAGE}")
        end = _FRAME.size + length
        if len(self._in) < end:
            return None
        message = bytes(self._in[_FRAME.size : end])
        del self._in[:end]
        if hashlib.sha256(message).digest() != digest:
            raise ExchangeError(f"the SHA-256 of a message of {length} bytes is wrong")
        return message


_BLOCK: Final = bytes(range(256)) * 256


def pattern(start: int, size: int) -> bytes:
    """``size`` bytes of the endless pattern 0..255 from position ``start``: what /bytes/N is made of."""
    start %= 256
    out = bytearray()
    while len(out) < size:
        out += _BLOCK[start : start + size - len(out)]
        start = 0
    return bytes(out)


class Http(Service):
    """A small HTTP/1.1 server (RFC 9112, parsed by h11).

    GET / says what there is; GET /bytes/N gives N bytes of :func:`pattern`; POST or PUT /sha256 answers
    the hex digest of the body; POST /echo answers the body. HEAD works as well; connections persist.
    """

    def __init__(self) -> None:
        super().__init__()
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._digest = hashlib.sha256()
        self._body = bytearray()
        #: What is left of a body that is made as it is sent: position, end.
        self._pattern: tuple[int, int] | None = None
        self._closed = False

    @property
    def full(self) -> bool:
        return self._pattern is not None or super().full

    def receive(self, data: bytes) -> None:
        if not self._closed:
            self._http.receive_data(data)
            self._run()

    def ended(self) -> None:
        if not self._closed and self._http.their_state is not h11.CLOSED:
            self._http.receive_data(b"")
            self._run()
        self._closed = True
        self.finished = self._pattern is None

    def produce(self, room: int) -> bytes:
        data = super().produce(room)
        while self._pattern is not None and len(data) < room:
            at, end = self._pattern
            size = min(end - at, room - len(data), 65536)
            data += self._send(h11.Data(data=pattern(at, size)))
            self._pattern = (at + size, end) if at + size < end else None
            if self._pattern is None:
                data += self._end()
                self._run()
        return data

    def _run(self) -> None:
        """Handle what is complete; a request is answered before the next one is read."""
        try:
            while self._pattern is None:
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                if isinstance(event, h11.Request):
                    self._begin(event)
                elif isinstance(event, h11.Data):
                    if not self._take(bytes(event.data)):
                        return
                elif isinstance(event, h11.EndOfMessage):
                    self._respond()
                else:
                    self.finished = self._closed = True
                    return
        except h11.RemoteProtocolError as e:
            self._closed = self.finished = True
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self._answer(e.error_status_hint, f"{e}\n".encode(), close=True)

    def _begin(self, request: h11.Request) -> None:
        self._request = request
        self._digest = hashlib.sha256()
        self._body.clear()
        if (b"expect", b"100-continue") in [(k, v.lower()) for k, v in request.headers]:
            self._out += self._send(h11.InformationalResponse(status_code=100, headers=[]))

    def _take(self, data: bytes) -> bool:
        """Whether the rest of the body is wanted."""
        self._digest.update(data)
        if self._request is None or self._request.target.partition(b"?")[0] != b"/echo":
            return True
        if len(self._body) + len(data) > MAX_MESSAGE:
            self._closed = True
            self._body.clear()
            self._answer(413, f"that is more than {MAX_MESSAGE} bytes\n".encode(), close=True)
            return False
        self._body += data
        return True

    def _respond(self) -> None:
        request = self._request
        assert request is not None
        target = request.target.partition(b"?")[0].decode("latin-1")
        method = request.method.decode()
        if target.startswith("/bytes/") and method in ("GET", "HEAD"):
            number = target.removeprefix("/bytes/")
            if not number.isdecimal() or len(number) > _DIGITS or int(number) > MAX_BODY:
                self._answer(400, f"{number[:_DIGITS]}: not a number of bytes up to {MAX_BODY}\n".encode())
            else:
                self._give(int(number), method == "HEAD")
        elif target == "/sha256" and method in ("POST", "PUT"):
            self._answer(200, f"{self._digest.hexdigest()}\n".encode())
        elif target == "/echo" and method in ("POST", "PUT"):
            self._answer(200, bytes(self._body))
        elif target == "/" and method in ("GET", "HEAD"):
            self._answer(200, _INDEX)
        elif target in ("/", "/sha256", "/echo") or target.startswith("/bytes/"):
            self._answer(405, f"{method} is not for {target}\n".encode())
        else:
            self._answer(404, f"{target}: not found; GET / lists what there is\n".encode())

    def _give(self, size: int, head: bool) -> None:
        headers = [("content-type", "application/octet-stream"), ("content-length", str(size))]
        self._out += self._send(h11.Response(status_code=200, headers=headers))
        if head or not size:
            self._out += self._end()
        else:
            self._pattern = (0, size)

    def _answer(self, status: int, body: bytes, *, close: bool = False) -> None:
        headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(body))),
            ("server", f"tcp-chimney/{__version__}"),
        ]
        if close:
            headers.append(("connection", "close"))
        self._out += self._send(h11.Response(status_code=status, headers=headers))
        if self._request is None or self._request.method != b"HEAD":
            self._out += self._send(h11.Data(data=body))
        self._out += self._end()

    def _send(self, event: h11.Event) -> bytes:
        return self._http.send(event) or b""

    def _end(self) -> bytes:
        """The answer is complete: read the next request, or close if either side wants that."""
        tail = self._send(h11.EndOfMessage())
        if self._http.our_state is h11.MUST_CLOSE or self._closed:
            self.finished = True
        elif self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._request = None
        return tail


_INDEX: Final = b"""A host at the other end of the wire.
GET  /bytes/N   N bytes, 0 1 2 ... 255 over and over
POST /sha256    the SHA-256 of what you send
POST /echo      what you send
Other ports: 7 echo, 9 discard, 19 chargen, 5007 exchange
"""

#: Port -> what serves a connection to it.
SERVICES: Final[dict[int, Callable[[], Service]]] = {
    7: Echo,
    9: Discard,
    19: Chargen,
    80: Http,
    5007: Exchange,
}
