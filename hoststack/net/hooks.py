"""What a stack asks of whoever offloads its connections. A stack by itself has nobody, and nothing to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoststack.model.objects import Neighbor, Path, Tcb

__all__ = ["StackHooks"]


class StackHooks:
    """Base class: does nothing. Every method is called from within the stack and must not call back into it,
    except for marking work (``send``, ``attach``, ...) that the stack does later."""

    def segments(self, tcb: Tcb, segments: Sequence[bytes]) -> bool:
        """TCP segments (header and payload) for a connection that the host does not serve.

        False: nobody wants them, they are dropped.
        """
        return False

    def send(self, tcb: Tcb, data: bytes) -> None:
        """The application writes on a connection that the host does not serve."""
        tcb.send_queue = [*(tcb.send_queue or ()), data]

    def read(self, tcb: Tcb) -> None:
        """The application has read from such a connection: there is room for more."""

    def disconnect(self, tcb: Tcb, *, abortive: bool) -> None:
        """The application closes the sending side of such a connection, or resets it."""

    def path_mtu(self, path: Path) -> None:
        """PathMtu of an offloaded path has changed in its cached state (R-UPD-08)."""

    def neighbor_changed(self, neighbor: Neighbor) -> None:
        """The link address of an offloaded neighbor has changed in its cached state (R-UPD-07)."""

    def relink(self, paths: Sequence[Path], neighbor: Neighbor) -> None:
        """Offloaded paths have another next hop: move them there, in the host's objects too (R-UPD-04)."""

    def neighbor_delayed(self, neighbor: Neighbor) -> None:
        """An offloaded neighbor's entry is in DELAY: has the target seen progress (R-NUD-12)?

        If so, :meth:`hoststack.net.stack.NetStack.confirm` spares the probe that is due in 5 s.
        """

    def neighbor_lost(self, neighbor: Neighbor) -> None:
        """An offloaded neighbor does not answer any more (R-NUD-11)."""
