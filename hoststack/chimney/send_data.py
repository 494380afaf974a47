"""The data that moves with a connection: outstanding send data and buffered receive data.

Lending makes net buffer lists of the connection's own bytes, one list with one net buffer per piece
(R-BLK-14), and points the delegated state at them. The host keeps the bytes until the driver below reports
them as sent, so that it still has them if the offload is refused, the connection is uploaded, or that
driver dies. Received data is the driver's below from the initiate on; the copy here is for a refusal.
DDI page mapping-snduna--sndnxt--and-sndmax-to-the-mdls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndisbus.lists.nbl import chain, data_of, iter_chain, iter_net_buffers, make_net_buffer_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hoststack.model.objects import Tcb
    from ndisbus.lists.heap import Heap
    from ndisbus.lists.nbl import NetBufferList
    from ndisbus.state.images import TcpOffloadStateDelegated

__all__ = [
    "Problem",
    "bytes_of",
    "check_sequence",
    "keep",
    "lend",
    "pieces_of",
    "reclaim",
    "settle_loss",
    "size_of",
    "unlend",
    "why_not_sendable",
]

_MASK = 0xFFFFFFFF

#: The id of a rule that the driver below broke, and how it broke it.
Problem = tuple[str, str]


def size_of(nbl: NetBufferList) -> int:
    """Data bytes in one list."""
    return sum(nb.data_length for nb in iter_net_buffers(nbl))


def check_sequence(d: TcpOffloadStateDelegated, in_flight: int, queued: int) -> str:
    """What is wrong with SndUna, SndNxt and SndMax for a queue of that many bytes; ``""`` if nothing.

    ``in_flight``: data bytes between SndUna and SndMax.
    """
    if ((d.snd_nxt - d.snd_una) & _MASK) > ((d.snd_max - d.snd_una) & _MASK):
        return f"SndNxt {d.snd_nxt} lies outside SndUna {d.snd_una} .. SndMax {d.snd_max}"
    if in_flight > queued:
        return f"{in_flight} bytes lie between SndUna and SndMax, the send data has {queued}"
    return ""


def why_not_sendable(tcb: Tcb) -> str:
    """Why the send queue does not fit the sequence numbers (R-OSD-05), ``""`` if it does."""
    d = tcb.delegated
    if d.snd_una == d.snd_max == d.snd_nxt:
        return ""
    return check_sequence(d, tcb.in_flight, tcb.queued)


def pieces_of(tcbs: Iterable[Tcb]) -> list[int]:
    """Return the sizes of the pieces of data that would go down with these connections."""
    return [len(p) for t in tcbs for p in (*(t.send_queue or ()), t.receive_buffer or b"") if p]


def lend(heap: Heap, tcb: Tcb) -> list[NetBufferList]:
    """Make net buffer lists of the connection's bytes for an initiate; returns the first of each chain.

    SendDataHead, SendDataTail (R-OSD-02) and BufferedData (R-BRD-01) of the delegated state point to
    them until :func:`unlend` is called.
    """
    chains: list[NetBufferList] = []
    d = tcb.delegated
    pieces = [p for p in tcb.send_queue or () if p]
    if pieces:
        lists = [make_net_buffer_list(heap.address, [piece]) for piece in pieces]
        first = chain(lists)
        assert first is not None
        chains.append(first)
        tcb.lent = {nbl.address: nbl for nbl in lists}
        tcb.below = sum(map(len, pieces))
        d.send_data_head, d.send_data_tail = lists[0].address, lists[-1].address
        tcb.send_queue = None
    if tcb.receive_buffer:
        tcb.buffered, tcb.receive_buffer = bytes(tcb.receive_buffer), None
        tcb.unread_below = len(tcb.buffered)
        buffered = make_net_buffer_list(heap.address, [tcb.buffered])
        chains.append(buffered)
        d.buffered_data = buffered.address
    return chains


def keep(tcb: Tcb) -> list[int]:
    """Take everything back that :func:`lend` lent: the connection stays in the host.

    Returns the addresses of the lists of send data.
    """
    home, _ = reclaim(tcb, None)
    _keep_received(tcb)
    return home


def _keep_received(tcb: Tcb) -> None:
    if tcb.buffered is not None:
        tcb.receive_buffer = bytearray(tcb.buffered) + (tcb.receive_buffer or b"")
        tcb.buffered, tcb.unread_below = None, 0
    tcb.refused = False


def unlend(tcb: Tcb) -> None:
    """Clear the pointers in the delegated state, which only an initiate or a terminate uses (R-STATE-12)."""
    d = tcb.delegated
    d.send_data_head = d.send_data_tail = d.buffered_data = None


def bytes_of(nbl: NetBufferList) -> bytes:
    """The data of one list."""
    return b"".join([data_of(nb) for nb in iter_net_buffers(nbl)])


def reclaim(tcb: Tcb, handed_back: NetBufferList | None) -> tuple[list[int], Problem | None]:
    """Take send data back after an upload. Returns the addresses of its lists, and what was wrong or None.

    ``handed_back`` is the chain from NetBufferListChain. DataLength of each list says how many bytes are
    still to be sent: the driver below takes acknowledged bytes off the front. The host has all its data back
    whether or not something was wrong.
    """
    lent = tcb.lent or {}
    parts = tcb.returned or []
    problem: Problem | None = None
    home: list[int] = []
    for nbl in iter_chain(handed_back):
        own = lent.pop(nbl.address, None)
        if own is None:
            text = f"list {nbl.address:#x} was handed back, but it does not belong to this connection"
            problem = problem or ("R-OSD-12", text)
            continue
        if home and nbl.address < home[-1]:
            problem = problem or (
                "R-OSD-12",
                "send data was not handed back in the order in which it was lent",
            )
        home.append(nbl.address)
        data, left = bytes_of(own), size_of(nbl)
        if left > len(data):
            text = f"list {nbl.address:#x} was lent with {len(data)} bytes and came back with {left}"
            problem = problem or ("R-OSD-12", text)
        parts.append((nbl.address, data[len(data) - left :] if left <= len(data) else data))
    for address, own in lent.items():
        problem = problem or ("R-TERM-08", f"list {address:#x} was neither completed nor handed back")
        home.append(address)
        parts.append((address, bytes_of(own)))
    # Addresses grow, so their order is the order in which the lists went down.
    back = [data for _, data in sorted(parts) if data]
    tcb.send_queue = (back + (tcb.send_queue or [])) or None
    tcb.lent = tcb.returned = tcb.aborted = None
    tcb.acknowledged = tcb.below = 0
    return home, problem


def settle_loss(tcb: Tcb) -> list[int]:
    """Take back what the host has, after the driver below lost the delegated state.

    The lists that it reported as sent are acknowledged, so SndUna moves behind them. All others are the
    host's again, also those that NDIS aborted for it. Of received data the host has what was on offer: a
    target does not hand it up before the initiate completes. ``unread_below`` stays what was lost. Segments
    that were held are dropped. Returns the addresses of the lists that the driver below still had.
    """
    _keep_received(tcb)
    tcb.held = None
    acknowledged = tcb.acknowledged
    home = list(tcb.lent or ())
    lent, tcb.lent = tcb.lent, None
    parts = [(a, bytes_of(nbl)) for a, nbl in (lent or {}).items()]
    parts += tcb.returned or []
    parts += tcb.aborted or []
    back = [data for _, data in sorted(parts) if data]
    tcb.send_queue = (back + (tcb.send_queue or [])) or None
    tcb.returned = tcb.aborted = None
    tcb.acknowledged = tcb.below = 0
    if acknowledged:
        d = tcb.delegated
        ahead = max(((d.snd_max - d.snd_una) & _MASK) - acknowledged, 0)
        d.snd_una = (d.snd_una + acknowledged) & _MASK
        d.snd_max = d.snd_nxt = (d.snd_una + ahead) & _MASK
    unlend(tcb)
    return home
