"""What a driver calls NDIS through: the functions, its heap, the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndisbus.driver.base import Answer, Reply, Steps
from ndisbus.driver.calls import NdisCalls
from ndisbus.driver.sizes import list_bytes
from ndisbus.lists.blocklist import BlockList
from ndisbus.lists.heap import Heap
from ndisbus.messages.codec import MAX_PACKET
from ndisbus.messages.parts import FEW, MAX_JOINED

if TYPE_CHECKING:
    from ndisbus.driver.port import DriverPort

__all__ = ["Ndis"]


class Ndis(NdisCalls):
    """A driver's access to NDIS: the functions that it may call, its heap and the clock."""

    def __init__(self, port: DriverPort) -> None:
        self._port = port
        self.call = port.call  # type: ignore[method-assign]
        self.heap = Heap(0)

    def now(self) -> float:
        """Return the time of the event in hand, in seconds. It does not change while a handler runs."""
        return self._port.now

    def working(self) -> None:
        """Tell NDIS that a long handler advances. Call it in loops over many objects."""
        self._port.working()

    @property
    def attached(self) -> bool:
        """Whether the bus has admitted this driver."""
        return self._port.attached

    @property
    def largest_list(self) -> int:
        """The most bytes of a message with a block list. It is more if the bus can join parts of messages."""
        return MAX_JOINED if self._port.divides else MAX_PACKET

    def takes(self, block_list: BlockList) -> bool:
        """Return whether a list, and its completion with state, certainly fits into a message."""
        attached = block_list.attachments
        if attached is None and len(block_list) <= FEW:
            return True
        pieces = [len(f) for f in attached.frames] if attached is not None else ()
        return list_bytes(len(block_list), pieces) <= self.largest_list

    def binding_handle(self, protocol_binding_context: int) -> int | None:
        """Return the NdisBindingHandle of the binding with this context; None once it is closed."""
        for handle, context in self._port.bindings.items():
            if context == protocol_binding_context:
                return handle
        return None

    def resume(self, reply: Reply, answer: Answer) -> None:
        """Resume a handler that waits for a :class:`Reply` which the driver made itself."""
        self._port.resume(reply, answer)

    def run(self, steps: Steps) -> None:
        """Run steps that wait for NDIS and that no handler returns, because a timer or a frame began them."""
        self._port.step(steps)
