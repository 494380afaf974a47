"""What a port records for its teardown when NDIS answers a call with success."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from ndisbus.driver.base import Answer

__all__ = ["NOTES", "Books"]


class Books(Protocol):
    """What a port knows about the driver's bindings and adapters."""

    #: Binding handle -> ProtocolBindingContext. ``opened`` also has bindings that are being closed.
    bindings: dict[int, int]
    opened: dict[int, int]
    #: Miniport handle -> MiniportAdapterContext. ``attributed``: of adapters that are being initialised.
    adapters: dict[int, int]
    attributed: dict[int, int]


def _opened(books: Books, args: tuple[Any, ...]) -> Callable[[Answer], None]:
    def opened(answer: Answer) -> None:
        books.bindings[answer[1]] = books.opened[answer[1]] = args[1]

    return opened


def _closed(books: Books, args: tuple[Any, ...]) -> Callable[[Answer], None]:
    return lambda _: _void(books.bindings.pop(args[0], None))


def _attributes(books: Books, args: tuple[Any, ...]) -> Callable[[Answer], None]:
    attributes = args[1] if isinstance(args[1], dict) else args[1].to_wire()
    return lambda _: books.attributed.__setitem__(args[0], attributes["MiniportAdapterContext"])


def _halted(books: Books, args: tuple[Any, ...]) -> Callable[[Answer], None]:
    return lambda _: _void(books.adapters.pop(args[0], None))


def _void(_: object) -> None:
    """Ignore a value."""


#: By the name of the call: makes the function to call with the answer.
NOTES: Final[dict[str, Callable[[Books, tuple[Any, ...]], Callable[[Answer], None]]]] = {
    "NdisOpenAdapterEx": _opened,
    "NdisCloseAdapterEx": _closed,
    "NdisMSetMiniportAttributes": _attributes,
    "NdisIMDeInitializeDeviceInstance": _halted,
}
