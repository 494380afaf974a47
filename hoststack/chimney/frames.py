"""The ordinary data path of the host: frames out through the binding, frames in for its stack.

``host.on_frames`` is called with the frames of each indication, and the lists go back at once: the frames are
bytes of their own. Without it they are counted only. Pages "nf-ndis-ndissendnetbufferlists.md",
"nf-ndis-ndisreturnnetbufferlists.md".
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from ndisbus.ddi.enums import NDIS_RECEIVE_FLAGS_RESOURCES
from ndisbus.ddi.status import NdisStatus, status_symbol
from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.lists.nbl_chain import NblChain

if TYPE_CHECKING:
    from hoststack.chimney.driver import HostDriver

__all__ = ["MAX_BATCH", "MAX_SENDS", "PacketBooks", "completed", "received", "transmit", "unbound"]

#: Most frames of one call, and most that may be on their way; an interface's queue holds no more.
MAX_BATCH: Final = 256
MAX_SENDS: Final = 16384


class PacketBooks:
    """What is on its way, and what became of the rest."""

    __slots__ = ("dropped", "failed", "received", "sends", "sent")

    def __init__(self) -> None:
        #: Lists below, by address.
        self.sends: dict[int, None] = {}
        self.sent = 0
        self.received = 0
        #: Frames that never went down: no binding, or a full queue.
        self.dropped = 0
        #: Sends that were completed without success, by the symbol of the status.
        self.failed: Counter[str] = Counter()


def transmit(host: HostDriver, frames: list[bytes]) -> int:
    """Send whole Ethernet frames; returns how many went down.

    The others are dropped and counted, as by any interface that is down or whose queue is full: what they
    carried has its own retransmission. Raises :class:`LocalProtocolError` for an empty frame.
    """
    books, binding = host.packets, host.binding
    if not all(frames):
        raise LocalProtocolError("a frame without a single byte")
    room = MAX_SENDS - len(books.sends) if binding is not None and not binding.unbinding else 0
    if len(frames) > room:
        books.dropped += len(frames) - max(room, 0)
        frames = frames[: max(room, 0)]
    if binding is None:
        return 0
    for at in range(0, len(frames), MAX_BATCH):
        chain = NblChain.of_frames(host.ndis.heap, frames[at : at + MAX_BATCH], source_handle=binding.handle)
        books.sends.update(dict.fromkeys(chain.addresses))
        host.ndis.send_net_buffer_lists(binding.handle, chain, 0, 0)
    return len(frames)


def completed(host: HostDriver, chain: NblChain) -> None:
    """ProtocolSendNetBufferListsComplete: each list once, whatever became of its frame."""
    books = host.packets
    sends = books.sends
    for address in chain.addresses:
        if address in sends:
            del sends[address]
        else:
            host.violation("", f"completion of the send of {address:#x}, which is not outstanding")
    statuses = chain.statuses or [int(NdisStatus.SUCCESS)] * len(chain)
    good = statuses.count(NdisStatus.SUCCESS)
    books.sent += good
    if good < len(statuses):
        books.failed.update(status_symbol(s) for s in statuses if s != NdisStatus.SUCCESS)


def unbound(host: HostDriver) -> None:
    """The binding is gone. NDIS completed every send before, but for what an injected fault took away."""
    if host.packets.sends:
        host.packets.failed["not completed"] += len(host.packets.sends)
        host.packets.sends.clear()


def received(host: HostDriver, protocol_binding_context: int, chain: NblChain, receive_flags: int) -> None:
    """ProtocolReceiveNetBufferLists: take the frames out, give the lists back, pass the frames on."""
    host.packets.received += len(chain)
    try:
        frames = chain.frames() if host.on_frames is not None else []
    except DecodeError as e:
        host.violation("", f"an indication of frames is not well formed: {e}")
        frames = []
    if not receive_flags & NDIS_RECEIVE_FLAGS_RESOURCES:
        host.return_packets(protocol_binding_context, chain)
    if frames and host.on_frames is not None:
        host.on_frames(frames)
