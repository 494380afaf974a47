"""iperf3's protocol on our stack: a server of ours for ``iperf3 -c``, and a client for ``iperf3 -s``.

A control connection carries states (one byte each) and JSON with a length before it (4 bytes, big endian).
The streams are connections of their own to the same port. All of them begin with the test's cookie.
As a program: ``iperf3.py LINK`` serves on port 5201 until SIGTERM.
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any, Final

from hoststack.api.network import Network
from hoststack.api.sockets import Connection
from hoststack.peer.peer import Peer, station_mac
from hoststack.peer.services import Service
from hoststack.peer.serving import Servants
from ndisbus.wire.open import open_link

PORT: Final = 5201
TEST_START, TEST_RUNNING, TEST_END, PARAM_EXCHANGE, CREATE_STREAMS = 1, 2, 4, 9, 10
EXCHANGE_RESULTS, DISPLAY_RESULTS, IPERF_DONE = 13, 14, 16
_COOKIE: Final = 37
_BLOCK: Final = random.Random(3).randbytes(1 << 17)


def message(content: dict[str, Any]) -> bytes:
    """A JSON message."""
    text = json.dumps(content).encode()
    return len(text).to_bytes(4, "big") + text


def results(moved: list[int], seconds: float, *, sender: bool) -> dict[str, Any]:
    """What either side tells the other at the end; streams are numbered 1, 3, 4, ..."""
    return {
        "cpu_util_total": 0,
        "cpu_util_user": 0,
        "cpu_util_system": 0,
        "sender_has_retransmits": 0 if sender else -1,
        "streams": [
            {
                "id": n + 1 if n == 0 else n + 2,
                "bytes": size,
                "retransmits": 0 if sender else -1,
                "jitter": 0,
                "errors": 0,
                "packets": 0,
                "start_time": 0,
                "end_time": seconds,
            }
            for n, size in enumerate(moved)
        ],
    }


class _Test:
    """One run: what its connections share."""

    def __init__(self) -> None:
        self.reverse = False
        self.over = False
        self.streams: list[_Iperf] = []
        self.began = time.monotonic()


class Iperf3Server:
    """Makes a service for each connection to the port."""

    def __init__(self) -> None:
        self.tests: dict[bytes, _Test] = {}

    def __call__(self) -> Service:
        return _Iperf(self)


class _Iperf(Service):
    """A connection: control if it is the first one with its cookie, otherwise a stream."""

    def __init__(self, server: Iperf3Server) -> None:
        super().__init__()
        self._server = server
        self._in = bytearray()
        self._test: _Test | None = None
        self._control = False
        self._said = 0
        self.moved = 0

    def receive(self, data: bytes) -> None:
        if self._test is not None and not self._control:
            self.moved += len(data)
            return
        self._in += data
        if self._test is None:
            if len(self._in) < _COOKIE:
                return
            cookie = bytes(self._in[:_COOKIE])
            del self._in[:_COOKIE]
            self._control = cookie not in self._server.tests
            self._test = self._server.tests.setdefault(cookie, _Test())
            if not self._control:
                self._test.streams.append(self)
                self.moved += len(self._in)
                return
            self._out.append(PARAM_EXCHANGE)
        self._converse(self._test)

    def _converse(self, test: _Test) -> None:
        """Parameters, the test's end, results, done: what the client says, in this order."""
        while True:
            if self._said in (0, 2):
                size = int.from_bytes(self._in[:4], "big")
                if len(self._in) < 4 or len(self._in) < 4 + size:
                    return
                said = json.loads(self._in[4 : 4 + size])
                del self._in[: 4 + size]
                if self._said == 0:
                    test.reverse = bool(said.get("reverse"))
                    # Handled one after the other: the streams are connected before the test starts.
                    self._out += bytes((CREATE_STREAMS, TEST_START, TEST_RUNNING))
                else:
                    moved = [stream.moved for stream in test.streams]
                    self._out += message(results(moved, time.monotonic() - test.began, sender=test.reverse))
                    self._out.append(DISPLAY_RESULTS)
            else:
                if not self._in:
                    return
                state = self._in.pop(0)
                if self._said == 1 and state == TEST_END:
                    test.over = True
                    self._out.append(EXCHANGE_RESULTS)
                else:
                    self.finished = True
                    return
            self._said += 1

    def produce(self, room: int) -> bytes:
        test = self._test
        if test is None or self._control or not test.reverse:
            return super().produce(room)
        if test.over:
            # A client reads a whole block once more: only the end of the stream ends that.
            self.finished = True
            return b""
        data = _BLOCK[:room]
        self.moved += len(data)
        return data


def run_client(
    network: Network, host: str, *, seconds: float, streams: int = 1, reverse: bool = False
) -> tuple[int, dict[str, Any]]:
    """Our side as the client of ``iperf3 -s``: bytes moved by our count, and what the server counted."""
    cookie = b"c" * (_COOKIE - 1) + b"\0"
    with network.connect((host, PORT)) as control:
        control.sendall(cookie)
        _expect(control, PARAM_EXCHANGE)
        parameters: dict[str, Any] = {"tcp": True, "omit": 0, "time": 60, "num": 0, "blockcount": 0}
        parameters |= {"parallel": streams, "len": len(_BLOCK), "pacing_timer": 1000}
        control.sendall(message(parameters | ({"reverse": True} if reverse else {})))
        _expect(control, CREATE_STREAMS)
        made = [network.connect((host, PORT)) for _ in range(streams)]
        for stream in made:
            stream.sendall(cookie)
        _expect(control, TEST_START)
        _expect(control, TEST_RUNNING)
        moved = [0] * streams
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            for n, stream in enumerate(made):
                if reverse:
                    moved[n] += len(stream.recv(1 << 20))
                else:
                    stream.sendall(_BLOCK)
                    moved[n] += len(_BLOCK)
        if not reverse:
            for stream in made:
                stream.drain()
        control.sendall(bytes((TEST_END,)))
        _expect(control, EXCHANGE_RESULTS)
        control.sendall(message(results(moved, time.monotonic() - began, sender=not reverse)))
        size = int.from_bytes(control.recv_exactly(4), "big")
        told: dict[str, Any] = json.loads(control.recv_exactly(size))
        _expect(control, DISPLAY_RESULTS)
        control.sendall(bytes((IPERF_DONE,)))
        for stream in made:
            stream.close()
    return sum(moved), told


def _expect(control: Connection, state: int) -> None:
    came = control.recv_exactly(1)[0]
    assert came == state, f"iperf3 said {came}, not {state}"


def main(link: str) -> None:
    peer = Peer(
        [(open_link(link, station="iperf3"), station_mac(2), ("10.77.0.2/24", "fd77::2/64"))], serve=False
    )
    Servants(peer.stack, {PORT: Iperf3Server()})
    print("ready", flush=True)  # noqa: T201 - for the test that started it
    try:
        peer.run()
    finally:
        peer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
