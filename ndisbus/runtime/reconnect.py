"""When a driver reconnects to the bus, and when it says that it waits. Sans-I/O: time is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ndisbus.randomness import Randomness

__all__ = ["Reconnect"]

#: Seconds that a bus has from our hello to its ready.
HELLO_LIMIT: Final = 5.0
#: Delay before the first attempt to reconnect, and the longest delay (seconds).
BACKOFF: Final = (0.05, 1.0)
#: The longest delay while nothing listens at all: looking again costs little then.
ABSENT_LIMIT: Final = 0.2
#: A connection that lasted for this time (seconds) resets the delays.
STABLE: Final = 2.0
#: Seconds for which the bus may still hold our name after we lost the connection.
NAME_LIMIT: Final = 10.0
#: After this time without a bus (seconds) a driver says what it waits for.
PATIENCE: Final = 2.0


class Reconnect:
    """The attempts of one driver. All times are seconds of one monotonic clock.

    ``rng`` spreads the attempts: several drivers lose the bus at the same time and must not all reconnect at
    the same time.
    """

    __slots__ = ("_attempts", "_rng", "_since", "_told", "_why", "due")

    def __init__(self, rng: Randomness, now: float) -> None:
        self._rng = rng
        #: When the next attempt is due; while hello waits for its answer, when that is overdue.
        self.due = 0.0
        #: Failed attempts in a row. Sets the next delay.
        self._attempts = 0
        #: When the driver was admitted, or lost the bus.
        self._since = now
        #: Whether :meth:`overdue` has reported this wait.
        self._told = False
        #: Why the last attempt failed; "" if nothing has answered.
        self._why = ""

    def said_hello(self, now: float) -> None:
        """Note that a hello was sent. Its answer is overdue at :attr:`due`."""
        self.due = now + HELLO_LIMIT

    def admitted(self, now: float) -> None:
        """Note that the bus has admitted the driver."""
        self._since, self._told, self._why = now, False, ""

    def lost(self, now: float) -> None:
        """Note that an admitted driver lost the bus. A stable connection resets the delays."""
        if now - self._since >= STABLE:
            self._attempts = 0
        self._since = now

    def failed(self, reason: str) -> None:
        """Note why an attempt failed before the driver was admitted."""
        self._why = reason

    def retry(self, now: float, *, absent: bool = False) -> None:
        """Set the time of the next attempt: the delay doubles with each attempt.

        ``absent``: nothing listens. A bus that comes up is found soon.
        """
        delay = min(ABSENT_LIMIT if absent else BACKOFF[1], BACKOFF[0] * 2.0 ** min(self._attempts, 10))
        self._attempts += 1
        self.due = now + delay * (0.8 + 0.2 * self._rng.random())

    def name_may_be_held(self, now: float) -> bool:
        """Return whether the bus may not have noticed yet that our last connection broke."""
        return now - self._since < NAME_LIMIT

    def deadline(self) -> float:
        """Return the time at which the next attempt or the report of :meth:`overdue` is due."""
        return self.due if self._told else min(self.due, self._since + PATIENCE)

    def overdue(self, now: float) -> str:
        """Return why the driver still waits, once for each wait; "" otherwise."""
        if self._told or now - self._since < PATIENCE:
            return ""
        self._told = True
        return self._why or "no bus answers; is 'ndisbus serve' running?"
