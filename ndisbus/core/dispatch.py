"""From a driver's call to the handler that serves it. A broken rule becomes a bug check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import BugCheck
from ndisbus.core.outbound import clip
from ndisbus.ddi.call import (
    BLOCKS_MINIPORT,
    BLOCKS_PROTOCOL,
    HANDLE,
    NBL,
    STRUCT,
    TEXT,
    ULONG,
)
from ndisbus.ddi.call_rows import STATE_OPERATIONS
from ndisbus.ddi.calls import CALLS
from ndisbus.errors import DecodeError, RemoteProtocolError, value_text

if TYPE_CHECKING:
    from ndisbus.core.clock import Clock
    from ndisbus.core.model import Client, Handlers
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.removal import Removal
    from ndisbus.messages.codec import Message

__all__ = ["BugChecks", "Dispatcher"]

#: Requests and completions of block lists. Each takes a handle and a list.
_LISTS: Final = frozenset(n for o in STATE_OPERATIONS for n in (o.request, o.completion))
_LIST_PARAMS: Final = 2

#: The Python types that each kind of parameter may have, and the bound of a number.
_TYPES: Final[dict[str, tuple[frozenset[type], int]]] = {
    HANDLE: (frozenset((int, type(None))), 1 << 64),
    ULONG: (frozenset((int,)), 1 << 32),
    TEXT: (frozenset((str,)), 0),
    STRUCT: (frozenset((dict,)), 0),
    NBL: (frozenset((dict,)), 0),
    BLOCKS_PROTOCOL: (frozenset((dict,)), 0),
    BLOCKS_MINIPORT: (frozenset((dict,)), 0),
}
#: Generic indications carry no list, except NeighborReachabilityQuery (R-NUD-14).
_NULLABLE: Final = frozenset(("NdisMOffloadEventIndicate",))
#: Number of bug checks that are kept for ``ndisbus ps``.
_MAX_REPORTS: Final = 100


class BugChecks:
    """The latest bug checks. Making one removes the driver."""

    __slots__ = ("clock", "out", "removal", "reports")

    def __init__(self, clock: Clock, out: Outbound, removal: Removal) -> None:
        self.clock = clock
        self.out = out
        self.removal = removal
        self.reports: list[BugCheck] = []

    def report(self, client: Client, message: Message, error: RemoteProtocolError) -> None:
        """Report a registered driver that broke a rule, and close its epoch. Others are not affected."""
        name = message[0]
        call = CALLS.get(name)
        parameter = error.where if isinstance(error, DecodeError) else getattr(error, "parameter", "")
        parameter = parameter.removeprefix(f"{name}.")
        if not parameter and call is not None and call.params:
            parameter = call.params[0].name
        reason = clip(error.detail if isinstance(error, DecodeError) else error.reason)
        parameter = clip(parameter)
        report = BugCheck(
            client.name, client.pid, client.epoch, clip(name), parameter, error.rule, reason, self.clock.now
        )
        self.reports.append(report)
        del self.reports[:-_MAX_REPORTS]
        self.out.emit("bugcheck", **{k.lower(): v for k, v in report.to_wire().items()})
        self.removal.remove(client, str(report), bug_check=report)


class Dispatcher:
    """The handlers of all calls that drivers make. Each part registers the ones that it serves."""

    __slots__ = ("_shapes", "bug_checks", "handlers")

    def __init__(self, bug_checks: BugChecks) -> None:
        self.bug_checks = bug_checks
        self.handlers: Handlers = {}
        self._shapes: dict[str, tuple[tuple[frozenset[type], int], ...]] = {}

    def register(self, handlers: Handlers) -> None:
        """Add the handlers of a part. Raises ValueError for a call that another part serves."""
        for name, handler in handlers.items():
            if name in self.handlers:
                raise ValueError(f"two parts of the core serve {name}")
            self.handlers[name] = handler
            self._shapes[name] = tuple(_TYPES[p.carries] for p in CALLS[name].params)

    def missing(self) -> list[str]:
        """Return the calls of the call table that drivers may make and that no part serves."""
        return [c.name for c in CALLS.values() if c.from_driver and c.name not in self.handlers]

    def dispatch(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        """Run the handler of a driver's call."""
        name = message[0]
        try:
            # Handlers of lists check both of their parameters themselves.
            if name not in _LISTS or len(message[2]) != _LIST_PARAMS:
                self._check_params(name, message[2])
            self.handlers[name](client, message, frames)
        except RemoteProtocolError as e:
            self.bug_checks.report(client, message, e)

    def _check_params(self, name: str, args: list[Any]) -> None:
        """Check number, kind and range of a call's parameters. Its handler checks the contents of maps."""
        shapes = self._shapes[name]
        if len(args) != len(shapes):
            raise DecodeError(name, f"{len(shapes)} parameters expected, got {len(args)}")
        for value, (types, top) in zip(args, shapes):  # noqa: B905 - as long as one another, see above
            if type(value) not in types or (top and value is not None and not 0 <= value < top):
                self._check_each(name, args)
                return

    def _check_each(self, name: str, args: list[Any]) -> None:
        """Say which parameter is wrong. None is the only one that may be right nevertheless."""
        for i, (types, top) in enumerate(self._shapes[name]):
            value = args[i]
            if type(value) not in types:
                if value is None and name in _NULLABLE:
                    continue
                expected = CALLS[name].params[i]
                raise DecodeError(
                    f"{name}.{expected.name}", f"{expected.carries} expected, got {value_text(value)}"
                )
            if top and value is not None and not 0 <= value < top:
                raise DecodeError(f"{name}.{CALLS[name].params[i].name}", f"{value} is out of range")
