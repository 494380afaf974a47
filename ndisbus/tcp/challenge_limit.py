"""The limit on challenge ACKs, RFC 5961 7 and R-BRA-03."""

from __future__ import annotations

from typing import Final

__all__ = ["ChallengeLimit"]

_LIMIT: Final = 10
_PERIOD_SECONDS: Final = 5
"""The number of challenge ACKs, and the seconds in which they may be sent."""


class ChallengeLimit:
    """Limits the ACKs that answer useless segments. Made with the first one; a successor counts anew.

    Counted per connection: a count shared by all connections tells an attacker about the others.
    """

    __slots__ = ("_given", "_since", "_syn_at")

    _since: int
    """When the period of the count ``_given`` began."""
    _given: int
    """Challenge ACKs sent in this period. Never above the limit."""
    _syn_at: int | None
    """When a SYN was last answered; None if never."""

    def __init__(self, now: int) -> None:
        self._since = now
        self._given = 0
        self._syn_at = None

    def allowed(self, ticks_per_second: int, now: int) -> bool:
        """Return whether one more challenge ACK may be sent, and count it."""
        if now - self._since >= _PERIOD_SECONDS * ticks_per_second:
            self._since = now
            self._given = 0
        if self._given >= _LIMIT:
            return False
        self._given += 1
        return True

    def syn_allowed(self, interval: int, now: int) -> bool:
        """Return whether a SYN may be answered: one in ``interval`` ticks (R-BRA-03). Records the time."""
        if self._syn_at is not None and now - self._syn_at < interval:
            return False
        self._syn_at = now
        return True
