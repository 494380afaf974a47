"""Callbacks from the stack to the chimney driver. The defaults do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoststack.model.objects import Neighbor, Path, Tcb

__all__ = ["StackHooks"]


class StackHooks:
    """Base class. The stack calls these methods while it works: they must not call back into it.

    They may mark work that the stack does later, such as :meth:`Socket.send`.
    """

    def segments(self, tcb: Tcb, segments: Sequence[bytes]) -> bool:
        """TCP segments (header and payload) arrived for a connection that the host does not serve.

        Returns False if they are not wanted; the stack drops them.
        """
        return False

    def send(self, tcb: Tcb, data: bytes) -> None:
        """The application writes on a connection that the host does not serve."""
        tcb.send_queue = [*(tcb.send_queue or ()), data]

    def read(self, tcb: Tcb) -> None:
        """The application has read from such a connection: there is room for more data."""

    def disconnect(self, tcb: Tcb, *, abortive: bool) -> None:
        """The application closes the sending side of such a connection, or resets the connection."""

    def path_mtu(self, path: Path) -> None:
        """PathMtu of an offloaded path has changed in its cached state (R-UPD-08)."""

    def neighbor_changed(self, neighbor: Neighbor) -> None:
        """The link address of an offloaded neighbor has changed in its cached state (R-UPD-07)."""

    def relink(self, paths: Sequence[Path], neighbor: Neighbor) -> None:
        """Offloaded paths have a new next hop: relink them, in the host's objects too (R-UPD-04)."""

    def neighbor_delayed(self, neighbor: Neighbor) -> None:
        """An offloaded neighbor's entry is in DELAY: ask whether the target saw progress (R-NUD-12).

        If it did, :meth:`hoststack.net.stack.NetStack.confirm` prevents the probe that is due in 5 s.
        """

    def neighbor_lost(self, neighbor: Neighbor) -> None:
        """An offloaded neighbor no longer answers (R-NUD-11)."""
