"""Addresses: 64-bit numbers that stand for pointers.

The bus gives every registered driver an *address space number*. The driver's pointers carry it in their upper
24 bits, so a pointer from a different address space is recognised. NULL is ``None`` (nil on the wire).
Address space 1 is NDIS itself.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ADDRESS_BITS", "NDIS_SPACE", "Heap", "NdisOffloadHandle", "space_of", "space_of_epoch"]

#: Low bits of a pointer: the address within one space. The bits above them are the number of the space.
ADDRESS_BITS: Final = 40
NDIS_SPACE: Final = 1
#: Number of address spaces for drivers: all but 0 and NDIS_SPACE.
_DRIVER_SPACES: Final = (1 << (64 - ADDRESS_BITS)) - NDIS_SPACE - 1
_STEP: Final = 0x10


def space_of(pointer: int) -> int:
    """Return the address space of a pointer."""
    return pointer >> ADDRESS_BITS


def space_of_epoch(epoch: int) -> int:
    """Return the address space of an epoch (1, 2, ...): each has its own, until the numbers wrap around."""
    return NDIS_SPACE + 1 + (epoch - 1) % _DRIVER_SPACES


class NdisOffloadHandle:
    """NDIS_OFFLOAD_HANDLE (DDI page ns-ndischimney-_ndis_offload_handle): a driver's anchor for one object.

    ``address`` travels as OffloadHandle. ``miniport_offload_context`` points to the cell in which the driver
    below stores its PVOID. ``context`` is the value of that cell, None until the object is offloaded.
    ``owner`` is the driver's own object that contains the handle. ``binding`` is set by the port: the
    NdisBindingHandle through which the object is offloaded.
    """

    __slots__ = ("address", "binding", "context", "owner")

    def __init__(self, address: int, owner: object = None) -> None:
        self.address = address
        self.context: int | None = None
        self.binding: int | None = None
        self.owner = owner

    @property
    def miniport_offload_context(self) -> int:
        """Address of the cell, directly behind the structure (size 0x10 on x64)."""
        return self.address + _STEP

    def __repr__(self) -> str:
        cell = "NULL" if self.context is None else f"{self.context:#x}"
        return f"<NDIS_OFFLOAD_HANDLE {self.address:#x} -> {cell}>"


class Heap:
    """One driver's address space: it allocates addresses and finds the objects at them.

    The first one lies behind ``start``. No address is used twice, so a stale pointer is recognised.
    ``objects`` has what is allocated now. It is empty again when everything borrowed has been freed.
    """

    __slots__ = ("_next", "_top", "objects", "space")

    def __init__(self, space: int, start: int = 0) -> None:
        self.space = space
        self._next = (space << ADDRESS_BITS) + start + _STEP
        self._top = (space + 1) << ADDRESS_BITS
        self.objects: dict[int, object] = {}

    def address(self, size: int = _STEP) -> int:
        """Return a new address with ``size`` bytes behind it. Nothing is stored there."""
        a = self._next
        self._next = a + (size + _STEP - 1) // _STEP * _STEP
        if self._next > self._top:
            raise MemoryError(f"address space {self.space} is used up")
        return a

    def addresses(self, count: int, size: int = _STEP) -> range:
        """Return ``count`` new addresses, ``size`` bytes apart, for the blocks of a long list."""
        step = (size + _STEP - 1) // _STEP * _STEP
        first = self.address(count * step)
        return range(first, first + count * step, step)

    def allocate(self, obj: object) -> int:
        """Store an object and return its address."""
        a = self.address()
        self.objects[a] = obj
        return a

    def handle(self, owner: object = None) -> NdisOffloadHandle:
        """Allocate an NDIS_OFFLOAD_HANDLE together with its cell."""
        h = NdisOffloadHandle(self.address(2 * _STEP), owner)
        self.objects[h.address] = h
        return h

    def free(self, address: int) -> None:
        """Free an address of :meth:`allocate` or :meth:`handle`. Raises KeyError if it is not allocated."""
        del self.objects[address]

    def owns(self, pointer: int) -> bool:
        """Return whether a pointer is in this address space."""
        return space_of(pointer) == self.space
