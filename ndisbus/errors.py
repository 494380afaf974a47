"""The one family of errors.

A *local* error means that the caller asked for something illegal. A *remote* error means that the other side
did. Bytes become a remote error in one place, :mod:`ndisbus.messages.codec`. A refused offload is not an
error: it is an ordinary outcome with a status and a reason.
"""

from __future__ import annotations

from typing import Any, final

__all__ = [
    "BusUnavailable",
    "ChimneyError",
    "DecodeError",
    "IllegalTransition",
    "LocalProtocolError",
    "RemoteProtocolError",
    "value_text",
]


class ChimneyError(Exception):
    """Base of all errors of this project."""


class LocalProtocolError(ChimneyError):
    """The caller broke a rule of the interface.

    ``rule`` is the id of the rule in docs/rules.md. It is ``""`` if no single rule says it.
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
        #: The reason, without ``where``.
        self.detail = reason


@final
class IllegalTransition(LocalProtocolError):
    """A pair of state and event that is not in the table. The state has not changed."""

    def __init__(self, what: str, state: object, event: object, *, rule: str = "") -> None:
        super().__init__(f"{what}: {event} is not legal in state {state}", rule=rule)
        self.state = state
        self.event = event


class BusUnavailable(ChimneyError):
    """No bus listens at the endpoint, or it did not answer before the deadline."""


def value_text(value: Any) -> str:
    """Return a value that a user or another process gave, as an error text shows it.

    Characters of a string that a terminal cannot show are replaced by their code point.
    """
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in value) + "'"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list | tuple):
        return f"an array of {len(value)}"
    return f"a value of type {type(value).__name__}"
