"""The one family of errors.

*Local* errors mean that the caller asked for something illegal; *remote* errors mean that the
other side did. Bytes become a remote error in exactly one place, :mod:`ndisbus.messages.codec`. A refused
offload is neither: it is an ordinary outcome that carries a status and a reason.
"""

from __future__ import annotations

from typing import final

__all__ = [
    "BusUnavailable",
    "ChimneyError",
    "DecodeError",
    "IllegalTransition",
    "LocalProtocolError",
    "RemoteProtocolError",
]


class ChimneyError(Exception):
    """Base of all errors of this project."""


class LocalProtocolError(ChimneyError):
    """The caller broke a rule of the interface.

    ``rule`` is the id of the rule in docs/rules.md, or ``""`` where no single rule says it.
    """

    def __init__(self, reason: str, *, rule: str = "") -> None:
        super().__init__(f"{reason} [{rule}]" if rule else reason)
        self.reason = reason
        self.rule = rule


class RemoteProtocolError(ChimneyError):
    """The other side broke a rule of the interface or of the wire protocol."""

    def __init__(self, reason: str, *, rule: str = "") -> None:
        super().__init__(f"{reason} [{rule}]" if rule else reason)
        self.reason = reason
        self.rule = rule


@final
class DecodeError(RemoteProtocolError):
    """Bytes that are not a legal message. ``where`` names the field and its place.

    For example ``where="NdisInitiateOffload.OffloadBlockList.NextBlock[17]"``.
    """

    def __init__(self, where: str, reason: str, *, rule: str = "") -> None:
        super().__init__(f"{where}: {reason}", rule=rule)
        self.where = where
        #: The reason without the place.
        self.detail = reason


@final
class IllegalTransition(LocalProtocolError):
    """A (state, event) pair that is not in its table. The state is left as it was."""

    def __init__(self, what: str, state: object, event: object, *, rule: str = "") -> None:
        super().__init__(f"{what}: {event} is not legal in state {state}", rule=rule)
        self.state = state
        self.event = event


class BusUnavailable(ChimneyError):
    """There is no bus, or it did not answer before the deadline."""
