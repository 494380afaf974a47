"""Control requests to the bus, as the command line makes them. They need no hello."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Any, Self

import zmq

from ndisbus.errors import BusUnavailable, ChimneyError
from ndisbus.messages.codec import RETURN, Message, decode_packet, encode_packet
from ndisbus.rundir import check_endpoint, default_endpoint
from ndisbus.runtime.connection import Connection
from ndisbus.runtime.curve import ClientKeys
from ndisbus.runtime.endpoint import is_deserted

__all__ = ["ControlClient", "Refused"]


class Refused(ChimneyError):
    """The bus refused a control request. ``reason`` is the bus's text."""

    def __init__(self, verb: str, reason: str) -> None:
        super().__init__(f"{verb}: {reason}")
        self.reason = reason


class ControlClient:
    """A connection for control requests to the bus at ``endpoint``; a context manager."""

    def __init__(self, endpoint: str | None = None) -> None:
        endpoint = endpoint or default_endpoint()
        keys = ClientKeys.from_environment(endpoint)
        self.endpoint = check_endpoint(endpoint, keys is not None)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._connection = Connection(self._context, self.endpoint, keys, again=True)
        self._call_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._connection.close()
        self._context.destroy(linger=0)

    def request(
        self, verb: str, arguments: dict[str, Any], timeout: float = 5.0, *, command: str | None = None
    ) -> Any:
        """Return the result of a control request. Waits for at most ``timeout`` seconds.

        Raises :class:`BusUnavailable` if there is no answer in time, and :class:`Refused` if the bus refuses.
        The text of BusUnavailable begins with ``command``, which the user typed, or else with the verb.
        """
        if is_deserted(self.endpoint):
            raise self._unavailable(command or verb, "is listening")
        self._call_id += 1
        until = time.monotonic() + timeout
        self._connection.socket.send(encode_packet([["control", self._call_id, [verb, arguments]]]))
        while True:
            left = until - time.monotonic()
            if left <= 0 or not self._connection.socket.poll(math.ceil(left * 1000)):
                raise self._unavailable(command or verb, f"answered within {timeout:g} s")
            for message, _ in decode_packet(self._connection.socket.recv_multipart()):
                if message[1] == self._call_id:
                    return _result(verb, message)

    def _unavailable(self, command: str, what: str) -> BusUnavailable:
        return BusUnavailable(
            f"{command}: no bus {what} at {self.endpoint}; "
            "start one with 'ndisbus serve', or name another with NDISBUS_ENDPOINT"
        )


def _result(verb: str, message: Message) -> Any:
    name, _, values = message
    if name == RETURN:
        return values[1]
    raise Refused(verb, str(values[0].get("Reason")))
