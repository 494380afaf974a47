"""What goes wrong with a host itself. What goes wrong with a connection: :mod:`hoststack.net.errors`."""

from __future__ import annotations

from ndisbus.errors import ChimneyError

__all__ = ["HostClosed", "HostForked", "HostTimeout"]


class HostTimeout(ChimneyError, TimeoutError):
    """Something did not happen in time; it may still happen."""


class HostClosed(ChimneyError):
    """The host has left the bus; nothing can be done with it."""


class HostForked(ChimneyError):
    """The host belongs to the process that attached it, and this is a child of that process."""

    def __init__(self, name: str, owner: int, pid: int) -> None:
        super().__init__(
            f"host {name!r} belongs to process {owner}, and this is its child {pid}: "
            "a connection to the bus cannot be shared; attach a host of its own in the child"
        )
