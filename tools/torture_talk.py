"""One connection of the torture: it is opened, written, read, moved, half-closed and closed, by chance.

Everything that arrives is checked by its position. What the connection did is told in a dict at its end.
Whether an error is explained is for :mod:`tools.torture_blows` to say.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from hoststack.api.errors import HostTimeout
from hoststack.api.sockets import SHUT_WR
from hoststack.net.errors import NotConnected, SocketError, SocketTimeout, WouldBlock
from hoststack.net.options import SocketOptions
from hoststack.net.socket_events import SocketEvent
from ndisbus.errors import LocalProtocolError
from tools.torture_streams import Kind, StreamWrong

if TYPE_CHECKING:
    from hoststack.api.live import LiveHost
    from hoststack.api.sockets import Connection
    from hoststack.model.operation import Operation
    from hoststack.net.socket import Socket

__all__ = ["Talk"]

#: A connection whose remote host has died has to find out while nothing is under way.
_OPTIONS: Final = SocketOptions(keepalive=True, keep_idle=4.0, keep_interval=2.0, keep_count=60)
#: Seconds for a connection to be set up; for an operation; without any progress until it counts as stuck.
_CONNECT: Final = 20.0
_OPERATION: Final = 40.0
STUCK: Final = 60.0
#: Bytes of the largest write and read.
_WRITE: Final = 20_000
_READ: Final = 65_536
#: Seconds between two steps, at most; how long a connection is worked on at ease, at most.
_PAUSES: Final = (0.0, 0.001, 0.01, 0.1, 0.1, 0.5, 2.0)
_LIFE: Final = 25.0
#: One connection in so many is left in the middle: closed or reset, whatever is under way.
_ROUGH: Final = 12
#: The latest moves and steps that are kept.
_MOVES: Final = 40
_STEPS: Final = 60
#: Bytes after which an endless stream has been looked at for long enough.
_ENOUGH: Final = 500_000


class Talk:
    """One connection. ``hurry``: set when it has to come to its end."""

    def __init__(
        self, host: LiveHost, name: str, kind: Kind, rng: random.Random, hurry: threading.Event
    ) -> None:
        self.host = host
        self.name = name
        self.kind = kind
        self.rng = rng
        self.hurry = hurry
        self.sent = 0
        self.outcome = "whole"
        self.text = ""
        self.counts: Counter[str] = Counter()
        self.operations: list[Operation] = []
        self.moves: list[tuple[float, str]] = []
        self.failures: list[float] = []
        #: (seconds since it was opened, what it did), for connections that are wrong.
        self.journal: deque[tuple[float, str]] = deque(maxlen=_STEPS)
        self.begun = self.opened = self.ended = 0.0
        self._connection: Connection
        self._shut = self._at_end = self._ending = self._closed = False
        self._error: BaseException | None = None
        self._progress = 0.0
        self._known: tuple[int, int, int] = (0, 0, 0)
        self._steps: tuple[tuple[Callable[[], None], int], ...] = (
            (self._write, 8),
            (self._read, 8),
            (self._pause, 4),
            (self._offload, 2),
            (self._offload_and_go_on, 3),
            (self._upload, 2),
            (self._upload_and_go_on, 1),
            (self._query, 1),
        )

    def to_dict(self) -> dict[str, Any]:
        """What it did, for the worker's log."""
        return {
            "event": "end",
            "at": self.ended,
            "name": self.name,
            "kind": self.kind.name,
            "outcome": self.outcome,
            "text": self.text,
            "error": "" if self._error is None else type(self._error).__name__,
            "sent": self.sent,
            "got": self.kind.expected.got,
            "begun": self.begun,
            "opened": self.opened,
            "failures": self.failures,
            "moves": self.moves,
            "counts": dict(self.counts),
            "journal": [] if self.outcome == "whole" else [f"{at:.4f} {what}" for at, what in self.journal],
        }

    def abandon(self) -> None:
        """The host has left under it: how it ended means nothing."""
        self.outcome, self.text, self._error = "left", "the host left", None

    @property
    def is_wrong(self) -> bool:
        """Whether something was found that no fault can explain."""
        return self.outcome == "wrong"

    def _did(self, what: str) -> None:
        self.journal.append((time.monotonic() - self.opened, what))

    # -- from its beginning to its end ---------------------------------------------------------

    def run(self, address: str) -> None:
        """Open it, use it, and note how it ended. Raises what a host raises that is closed or cut off."""
        self.begun = time.monotonic()
        try:
            self._connection = self.host.connect(
                (address, self.kind.port), options=_OPTIONS, timeout=_CONNECT
            )
        except SocketError as error:
            self.ended = time.monotonic()
            self.outcome, self.text, self._error = "not connected", str(error), error
            return
        self.opened = self._progress = time.monotonic()
        self._socket.on_event = self._event
        try:
            self._use()
        except (StreamWrong, HostTimeout) as wrong:
            self._wrong(str(wrong))
        except SocketError as error:
            self._failed(self._socket.error or error)
        finally:
            self.ended = time.monotonic()
            self._socket.on_event = None  # it refers to us
        if self.is_wrong or not self._socket.closed:
            self._connection.abort()

    @property
    def _socket(self) -> Socket:
        return self._connection.socket

    def _event(self, _: Socket, event: SocketEvent) -> None:
        if event is not SocketEvent.READABLE:
            self._did(f"told: {event.value}")
        if event is SocketEvent.FAILED:
            self.failures.append(time.monotonic())

    def _wrong(self, text: str) -> None:
        self.outcome = "wrong"
        self.text = f"{text}; {self._state()}"

    def _state(self) -> str:
        s = self._socket
        below = ""
        if s.machine is None:
            below = f", below {s.tcb.below}, unread below {s.tcb.unread_below}, object {s.tcb.state.value}"
        return (
            f"{s} {s.state_text}, {self._connection.served_by.value}, sent {self.sent}, "
            f"got {self.kind.expected.got}, unread {s.unread}, unacknowledged {s.unacknowledged}{below}, "
            f"error {s.error}"
        )

    def _failed(self, error: SocketError) -> None:
        """The connection ended with an error: what came before it must be right, and it must stay."""
        self._error, self.outcome, self.text = error, "error", str(error)
        if len(self.failures) > 1:
            self._wrong(f"{len(self.failures)} failures were told, at {self.failures}")
        if self._closed:
            return
        try:
            while data := self._connection.recv(_READ):
                self.kind.expected.take(data)
            self._at_end = True
        except StreamWrong as wrong:
            self._wrong(f"{wrong}; then {error}")
        except SocketError as again:
            if str(again) != str(error):
                self._wrong(f"the error was {error!r}, and then {again!r}")

    def _use(self) -> None:
        rng = self.rng
        until = time.monotonic() + rng.uniform(0.5, _LIFE)
        steps, weights = zip(*self._steps, strict=True)
        expected = self.kind.expected
        while not self.hurry.is_set() and time.monotonic() < until and not self._at_end:
            if expected.endless and expected.got > _ENOUGH:
                break
            rng.choices(steps, weights)[0]()
            self._look()
        if not self.hurry.is_set() and rng.randrange(_ROUGH) == 0:
            self.outcome = "left"
            rng.choice((self._connection.close, self._connection.abort))()
            self._did("left it")
            return
        self._ending = True
        while not (self._at_end and self._shut):
            self._write()
            self._read()
            self._look()
        self._close()

    def _close(self) -> None:
        self._closed = True
        self._connection.close()
        self._did("closed it")
        try:
            self._connection.settimeout(STUCK)
            self._connection.wait_closed()
        except SocketTimeout:
            self._stuck("it is not over")
        if self._socket.error is not None:
            raise self._socket.error

    # -- steps ---------------------------------------------------------------------------------

    def _look(self) -> None:
        """Note where the connection is served, and whether it comes forward."""
        socket = self._socket
        at = time.monotonic()
        if (home := socket.machine is not None) == (self._where != "home") and socket.error is None:
            self._move("home" if home else "away", at)
        known = (self.sent, self.kind.expected.got, socket.unacknowledged)
        if known != self._known:
            self._known, self._progress = known, at
        elif at - self._progress > STUCK:
            self._stuck(f"nothing moves for {STUCK:g} s")

    def _stuck(self, text: str) -> None:
        raise StreamWrong(f"stuck: {text}")

    @property
    def _where(self) -> str:
        return self.moves[-1][1] if self.moves else "home"

    def _move(self, where: str, at: float) -> None:
        self._did(f"is {where}")
        self.moves.append((at, where))
        del self.moves[:-_MOVES]

    def _write(self) -> None:
        out, rng = self.kind.out, self.rng
        if self.sent == out.size:
            if not self._shut and (
                self._ending or (not self.kind.expected.endless and rng.randrange(4) == 0)
            ):
                self._connection.shutdown(SHUT_WR)
                self._did("shut")
                self._shut = True
            return
        size = _WRITE if self.hurry.is_set() else rng.choice((1, 10, 100, 1000, _WRITE))
        self._connection.settimeout(0.05)
        try:
            sent = self._connection.send(out.piece(self.sent, rng.randint(1, size)))
        except SocketTimeout:
            self.counts["no room"] += 1
        else:
            self._did(f"wrote {sent}")
            self.sent += sent

    def _read(self) -> None:
        if self._at_end:
            return
        rng = self.rng
        self._connection.settimeout(rng.choice((0.0, 0.02, 0.2)))
        try:
            data = self._connection.recv(rng.choice((1, 100, 1000, _READ, _READ)))
        except (SocketTimeout, WouldBlock):
            return
        self._did(f"read {len(data)}")
        if data:
            self.kind.expected.take(data)
        else:
            self.kind.expected.end(self._shut)
            self._at_end = True

    def _pause(self) -> None:
        self.hurry.wait(self.rng.choice(_PAUSES) * self.rng.random())
        self._progress = time.monotonic()

    def _start(self, call: Callable[..., Operation], what: str, *, wait: bool) -> None:
        try:
            operation = call(wait=wait, timeout=_OPERATION)
        except (LocalProtocolError, NotConnected):
            self._did(f"{what} is not possible now")
            self.counts[f"{what}: not now"] += 1  # it moves or is over, or the chimney is not there
            return
        self.counts[what] += 1
        self._did(f"{what} {'waited for' if wait else 'begun'}: {operation.counts()}")
        if operation.done:
            self.counts.update({f"{what}: {status}": n for status, n in operation.counts().items()})
        else:
            self.operations.append(operation)

    def _down(self, *, wait: bool) -> None:
        if self._where == "home" and self._socket.error is None:
            self._move("away", time.monotonic())
        self._start(self._connection.offload, "offload", wait=wait)

    def _offload(self) -> None:
        self._down(wait=True)

    def _offload_and_go_on(self) -> None:
        self._down(wait=False)

    def _upload(self) -> None:
        self._start(self._connection.upload, "upload", wait=True)

    def _upload_and_go_on(self) -> None:
        self._start(self._connection.upload, "upload", wait=False)

    def _query(self) -> None:
        try:
            self._connection.query(self.rng.choice(("delegated", "whole")), timeout=_OPERATION)
        except (LocalProtocolError, NotConnected):
            self.counts["query: not now"] += 1
        else:
            self.counts["query"] += 1
