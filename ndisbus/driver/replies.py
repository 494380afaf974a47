"""The answers that a driver waits for, and the handlers that wait for them.

All of them end with the epoch of the driver. So no handler that began in one epoch acts in the next one, and
a late answer of the bus finds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import Answer, Reply, Steps
from ndisbus.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Replies", "refusal"]


class Replies:
    """Calls of one driver that are answered by the bus; handlers that are suspended."""

    __slots__ = ("_expected", "_given_up", "_last_id", "_suspended")

    def __init__(self) -> None:
        self._last_id = 0
        #: Calls up to this id were given up with the connection. Their answers may still arrive.
        self._given_up = 0
        self._expected: dict[int, Reply] = {}
        #: Reply -> the suspended handler, and the call that its result answers.
        self._suspended: dict[Reply, tuple[Steps, int | None]] = {}

    def next_id(self) -> int:
        """Return the id of the next call."""
        self._last_id += 1
        return self._last_id

    def expect(self, name: str, note: Callable[[Answer], None] | None = None) -> tuple[int, Reply]:
        """Return the id of a call that will be answered, and its reply."""
        reply = Reply(name)
        reply.note = note
        call_id = self.next_id()
        self._expected[call_id] = reply
        return call_id, reply

    def answered(self, call_id: int | None) -> Reply | None:
        """Return the reply that an answer belongs to; None if it was given up.

        Raises :class:`RemoteProtocolError` if nothing waits for it.
        """
        reply = self._expected.pop(call_id or 0, None)
        if reply is None and not self.given_up(call_id):
            raise RemoteProtocolError(f"the bus answered call {call_id}, which is not waiting")
        return reply

    def refused(self, call_id: int | None) -> Reply | None:
        """Return the reply of a refused call; None if nothing waits for it."""
        return self._expected.pop(call_id or 0, None)

    def given_up(self, call_id: int | None) -> bool:
        """Return whether a call was made in an earlier epoch."""
        return 0 < (call_id or 0) <= self._given_up

    def pending(self) -> int:
        """Return the number of answers that are expected and of handlers that wait."""
        return len(self._expected) + len(self._suspended)

    def suspend(self, reply: Reply, steps: Steps, call_id: int | None) -> None:
        """Keep a handler that waits for a reply. Its result answers the bus's call ``call_id``."""
        self._suspended[reply] = steps, call_id

    def wake(self, reply: Reply) -> tuple[Steps, int | None] | None:
        """Return the handler that waits for a reply, if there is one."""
        return self._suspended.pop(reply, None)

    def give_up(self) -> None:
        """Forget the answers that the bus owes, and end the handlers that wait for them."""
        expected, self._expected = self._expected, {}
        self._given_up = self._last_id
        for reply in expected.values():
            waiting = self.wake(reply)
            if waiting is not None:
                waiting[0].close()

    def end(self) -> None:
        """End every handler that still waits, also those that wait for the driver itself."""
        self.give_up()
        suspended, self._suspended = self._suspended, {}
        for steps, _ in suspended.values():
            steps.close()


def refusal(name: str, reason: Any) -> Answer:
    """Return the answer to a refused call, in the form that the call's answers have."""
    call = CALLS.get(name)
    failure = int(NdisStatus.FAILURE)
    return (failure, reason) if call is None else (failure, *(None for _ in call.outs))
