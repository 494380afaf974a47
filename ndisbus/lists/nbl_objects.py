"""NET_BUFFER_LIST, NET_BUFFER and MDL: the structures with the bytes of sends, receives and forwards.

A list has net buffers, a net buffer is a window on a chain of MDLs, an MDL describes a range of memory. The
members are those that the chimney uses. Pointers to other objects are references here and addresses on the
wire (:mod:`ndisbus.lists.nbl_wire`). :mod:`ndisbus.lists.nbl` exports both. DDI page
mapping-snduna--sndnxt--and-sndmax-to-the-mdls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from ndisbus.errors import LocalProtocolError

__all__ = [
    "MAX_CHAIN",
    "Data",
    "Mdl",
    "NetBuffer",
    "NetBufferList",
    "advance",
    "chain",
    "data_of",
    "iter_chain",
    "iter_mdls",
    "iter_net_buffers",
    "locate",
    "locate_in_chain",
    "make_net_buffer_list",
    "sequence_offset",
]

MAX_CHAIN: Final = 65536
"""Most objects of one kind in one chain. A longer chain is treated as a cycle."""

Data = bytes | bytearray | memoryview


class Mdl:
    """MDL: ``byte_count`` bytes of memory at ``byte_offset`` of their first page.

    ``data`` is the content. It is None if this side does not have it (a posted receive buffer, a completion
    without payload). It may be shorter than ``byte_count``: the rest was not written.
    """

    __slots__ = ("address", "byte_count", "byte_offset", "data", "next")

    def __init__(
        self,
        address: int,
        *,
        next: Mdl | None = None,  # noqa: A002 - the DDI name
        byte_count: int | None = None,
        byte_offset: int = 0,
        data: Data | None = None,
    ) -> None:
        self.address = address
        self.next = next
        self.byte_count = len(data or b"") if byte_count is None else byte_count
        self.byte_offset = byte_offset
        self.data = data

    def __repr__(self) -> str:
        return f"Mdl({self.address:#x}, ByteCount={self.byte_count})"


class NetBuffer:
    """NET_BUFFER: ``data_length`` bytes of used data, ``data_offset`` bytes into the chain of MDLs.

    ``current_mdl`` and ``current_mdl_offset`` give the same position as ``data_offset``, from the MDL in
    which the used data begins.
    """

    __slots__ = (
        "address",
        "current_mdl",
        "current_mdl_offset",
        "data_length",
        "data_offset",
        "mdl_chain",
        "next",
    )

    def __init__(
        self,
        address: int,
        *,
        next: NetBuffer | None = None,  # noqa: A002 - the DDI name
        current_mdl: Mdl | None = None,
        current_mdl_offset: int = 0,
        data_length: int = 0,
        mdl_chain: Mdl | None = None,
        data_offset: int = 0,
    ) -> None:
        self.address = address
        self.next = next
        self.current_mdl = current_mdl
        self.current_mdl_offset = current_mdl_offset
        self.data_length = data_length
        self.mdl_chain = mdl_chain
        self.data_offset = data_offset

    def __repr__(self) -> str:
        return f"NetBuffer({self.address:#x}, DataLength={self.data_length})"


class NetBufferList:
    """NET_BUFFER_LIST.

    ``miniport_reserved`` (2), ``protocol_reserved`` (4) and ``scratch`` hold pointer values.
    ``net_buffer_list_info`` maps a slot number (:class:`ndisbus.ddi.enums.NetBufferListInfo`) to its value.
    """

    __slots__ = (
        "address",
        "first_net_buffer",
        "flags",
        "miniport_reserved",
        "net_buffer_list_info",
        "next",
        "protocol_reserved",
        "scratch",
        "source_handle",
        "status",
    )

    def __init__(
        self,
        address: int,
        *,
        next: NetBufferList | None = None,  # noqa: A002 - the DDI name
        first_net_buffer: NetBuffer | None = None,
        status: int = 0,
        source_handle: int | None = None,
        scratch: int | None = None,
        flags: int = 0,
    ) -> None:
        self.address = address
        self.next = next
        self.first_net_buffer = first_net_buffer
        self.status = status
        self.source_handle = source_handle
        self.miniport_reserved: list[int | None] = [None, None]
        self.protocol_reserved: list[int | None] = [None, None, None, None]
        self.scratch = scratch
        self.flags = flags
        self.net_buffer_list_info: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"NetBufferList({self.address:#x}, Status={self.status:#x})"


def _endless(what: str, first: NetBufferList | NetBuffer | Mdl | None) -> LocalProtocolError:
    at = "NULL" if first is None else f"{first.address:#x}"
    return LocalProtocolError(f"the chain of {what} that begins with {at} is longer than {MAX_CHAIN}")


def iter_chain(first: NetBufferList | None) -> Iterator[NetBufferList]:
    """Iterate over the lists of a chain. Each is read before it is yielded, so the loop may unlink it.

    Raises LocalProtocolError after more than MAX_CHAIN lists: the chain is a cycle.
    """
    at = first
    for _ in range(MAX_CHAIN):
        if at is None:
            return
        following = at.next
        yield at
        at = following
    if at is not None:
        raise _endless("NET_BUFFER_LISTs", first)


def iter_net_buffers(nbl: NetBufferList) -> Iterator[NetBuffer]:
    """Iterate over the net buffers of a list. Raises LocalProtocolError as :func:`iter_chain` does."""
    at = nbl.first_net_buffer
    for _ in range(MAX_CHAIN):
        if at is None:
            return
        yield at
        at = at.next
    if at is not None:
        raise _endless("NET_BUFFERs", nbl)


def iter_mdls(first: Mdl | None) -> Iterator[Mdl]:
    """Iterate over the MDLs of a chain. Raises LocalProtocolError as :func:`iter_chain` does."""
    at = first
    for _ in range(MAX_CHAIN):
        if at is None:
            return
        yield at
        at = at.next
    if at is not None:
        raise _endless("MDLs", first)


def make_net_buffer_list(alloc: Callable[[], int], data: Sequence[Data]) -> NetBufferList:
    """Return a list with one net buffer whose MDLs hold the pieces of ``data``, in order and uncopied.

    ``alloc`` gives a fresh address for each object. Without pieces DataLength is 0, and there are no MDLs.
    """
    nbl = NetBufferList(alloc())
    nb = nbl.first_net_buffer = NetBuffer(alloc())
    last: Mdl | None = None
    for piece in data:
        mdl = Mdl(alloc(), data=piece)
        nb.data_length += mdl.byte_count
        if last is None:
            nb.mdl_chain = nb.current_mdl = mdl
        else:
            last.next = mdl
        last = mdl
    _settle(nb)
    return nbl


def chain(lists: Iterable[NetBufferList]) -> NetBufferList | None:
    """Link the lists through Next and return the first one; None if there is no list."""
    first: NetBufferList | None = None
    last: NetBufferList | None = None
    for nbl in lists:
        if last is None:
            first = nbl
        else:
            last.next = nbl
        last = nbl
    if last is not None:
        last.next = None
    return first


def _settle(nb: NetBuffer) -> None:
    """Move CurrentMdl past MDLs that are used up. At the end of the chain it stays in the last one."""
    mdl, offset = nb.current_mdl, nb.current_mdl_offset
    for _ in range(MAX_CHAIN):
        if mdl is None or offset < mdl.byte_count or mdl.next is None:
            nb.current_mdl, nb.current_mdl_offset = mdl, offset
            return
        offset -= mdl.byte_count
        mdl = mdl.next
    raise _endless("MDLs", nb.current_mdl)


def advance(nb: NetBuffer, n: int) -> None:
    """Remove ``n`` bytes from the front of the used data, as NdisAdvanceNetBufferDataStart does.

    No MDL is freed. Raises LocalProtocolError, and changes nothing, if there are fewer than ``n`` bytes.
    """
    if not 0 <= n <= nb.data_length:
        raise LocalProtocolError(f"NET_BUFFER {nb.address:#x} cannot be advanced by {n} bytes")
    nb.data_offset += n
    nb.data_length -= n
    nb.current_mdl_offset += n
    _settle(nb)


def locate(nb: NetBuffer, offset: int) -> tuple[Mdl, int]:
    """Return the MDL, and the offset in it, of the ``offset``-th byte of used data.

    Offset 0 is the byte that CurrentMdl and CurrentMdlOffset name (R-OSD-04). Raises LocalProtocolError
    if there is no such byte.
    """
    if 0 <= offset < nb.data_length:
        offset += nb.current_mdl_offset
        for mdl in iter_mdls(nb.current_mdl):
            if offset < mdl.byte_count:
                return mdl, offset
            offset -= mdl.byte_count
        raise LocalProtocolError(f"the MDLs of NET_BUFFER {nb.address:#x} end before its used data does")
    raise LocalProtocolError(
        f"byte {offset} is not one of the {nb.data_length} bytes of NET_BUFFER {nb.address:#x}"
    )


def locate_in_chain(first: NetBufferList, offset: int) -> tuple[NetBufferList, Mdl, int]:
    """Do as :func:`locate`, counting through all net buffers of all lists of a chain (R-OSD-05)."""
    left = offset
    if left >= 0:
        for nbl in iter_chain(first):
            for nb in iter_net_buffers(nbl):
                if left < nb.data_length:
                    mdl, at = locate(nb, left)
                    return nbl, mdl, at
                left -= nb.data_length
    raise LocalProtocolError(
        f"byte {offset} lies outside the chain that begins with NET_BUFFER_LIST {first.address:#x}"
    )


def sequence_offset(snd_una: int, sequence: int) -> int:
    """Return how many data bytes SndNxt or SndMax lies behind SndUna: modulo 2**32 (R-OSD-05)."""
    return (sequence - snd_una) & 0xFFFFFFFF


def data_of(nb: NetBuffer) -> bytes:
    """Return a copy of the used data. Raises LocalProtocolError if an MDL does not have its part of it."""
    left, offset = nb.data_length, nb.current_mdl_offset
    pieces: list[Data] = []
    mdl = nb.current_mdl
    for _ in range(MAX_CHAIN):
        if not left:
            return pieces[0] if len(pieces) == 1 and type(pieces[0]) is bytes else b"".join(pieces)
        if mdl is None:
            raise LocalProtocolError(
                f"the MDLs of NET_BUFFER {nb.address:#x} end {left} bytes before its used data does"
            )
        take = min(mdl.byte_count - offset, left)
        if take > 0:
            if mdl.data is None or len(mdl.data) < offset + take:
                raise LocalProtocolError(
                    f"MDL {mdl.address:#x} does not hold the {take} bytes at {offset} of its NET_BUFFER"
                )
            piece = mdl.data if take == len(mdl.data) else memoryview(mdl.data)[offset : offset + take]
            pieces.append(piece)
            left -= take
        offset = max(offset - mdl.byte_count, 0)
        mdl = mdl.next
    raise _endless("MDLs", nb.current_mdl)
