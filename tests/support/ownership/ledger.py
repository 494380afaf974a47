"""The ledger of one direction of a connection: each byte that was written has exactly one owner.

The bytes of a direction have positions, from 0. What was written lies, in this order,

    delivered      the application at the receiving end has read it
    received       the layers of the receiving end have it, each byte in exactly one of them
    to be sent     the layers of the sending end have it, each byte in exactly one of them

A sending end keeps copies of what it has sent until that is acknowledged, so the last two may overlap; then
the receiving end is the owner. A gap between them is a loss: the sending end has given bytes away that the
receiving end does not have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Account", "Claim"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A layer says that it owns these bytes, the first of which has the position ``start``."""

    owner: str
    start: int
    data: bytes

    @property
    def end(self) -> int:
        """The position behind the last byte."""
        return self.start + len(self.data)


@dataclass(slots=True)
class Account:
    """One direction of one connection at one instant.

    ``written``: all bytes that were written, in order. ``delivered``: how many of them were read at the other
    end. ``acknowledged``: how many the receiving end has told the sending end that it has.
    """

    name: str
    written: bytes
    delivered: int
    acknowledged: int = 0
    received: list[Claim] = field(default_factory=list)
    to_send: list[Claim] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Return what is wrong: bytes with no owner or several, and owners with wrong bytes."""
        found = [text for c in (*self.received, *self.to_send) if (text := self._contents(c))]
        have = self._row(self.received, self.delivered, found)
        to_send = [c for c in self.to_send if c.data]
        start = min((c.start for c in to_send), default=len(self.written))
        end = self._row(to_send, start, found)
        if start > have:
            found.append(f"bytes {have}..{start} have no owner: the sending end does not keep them any more")
        if end < len(self.written) and to_send:
            found.append(f"bytes {end}..{len(self.written)} were written and have no owner")
        if self.acknowledged > have:
            found.append(
                f"bytes {have}..{self.acknowledged} were acknowledged, "
                "but the receiving end does not have them"
            )
        return [f"{self.name}: {text}" for text in found]

    def _row(self, claims: Iterable[Claim], at: int, found: list[str]) -> int:
        """Check that claims follow each other without gap or overlap from ``at`` on. Returns their end."""
        last = "the application" if at else "the beginning"
        for claim in sorted((c for c in claims if c.data), key=lambda c: (c.start, c.end)):
            if claim.start > at:
                found.append(f"bytes {at}..{claim.start} have no owner, between {last} and the {claim.owner}")
            elif claim.start < at:
                doubled = min(at, claim.end)
                found.append(f"bytes {claim.start}..{doubled} have two owners: {last} and the {claim.owner}")
            at = max(at, claim.end)
            last = f"the {claim.owner}"
        return at

    def _contents(self, claim: Claim) -> str:
        """Return what is wrong with the bytes of a claim, ``""`` if they are the right ones."""
        if self.written[claim.start : claim.end] == claim.data:
            return ""
        where = self.written.find(claim.data)
        what = "bytes that were not written" if where < 0 else f"bytes {where}..{where + len(claim.data)}"
        return f"the {claim.owner} has {what} in place of bytes {claim.start}..{claim.end}"
