"""The limit on challenge ACKs, RFC 5961 7 and R-BRA-03."""

from __future__ import annotations

from typing import Final

__all__ = ["ChallengeLimit"]

_LIMIT: Final = 10
_PERIOD_SECONDS: Final = 5
"""So many challenge ACKs in so much time."""


class ChallengeLimit:
    """How many ACKs answer useless segments. Made with the first of them; a successor starts counting anew.

    Counted per connection: a count that all connections share tells an attacker about the others.
    """

    __slots__ = ("_given", "_since", "_syn_at")

    _since: int
    """When the period began that ``_given`` counts in."""
    _given: int
    """Challenge ACKs of this period; never above the limit."""
    _syn_at: int | None
    """When a SYN was last answered; None if none was."""

    def __init__(self, now: int) -> None:
        self._since = now
        self._given = 0
        self._syn_at = None

    def allowed(self, ticks_per_second: int, now: int) -> bool:
        """Whether one more challenge ACK may be sent; it is counted."""
        if now - self._since >= _PERIOD_SECONDS * ticks_per_second:
            self._since = now
            self._given = 0
        if self._given >= _LIMIT:
            return False
        self._given += 1
        return True

    def syn_allowed(self, interval: int, now: int) -> bool:
        """Whether a SYN may be answered: one in ``interval`` ticks (R-BRA-03); it is noted down."""
        if self._syn_at is not None and now - self._syn_at < interval:
            return False
        self._syn_at = now
        return True
