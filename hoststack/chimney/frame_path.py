"""The ordinary data path beside the chimney: frames out through the binding, frames in for the stack.

The net buffer lists of an indication are returned before its frames are handed on, which are copies. DDI
pages nf-ndis-ndissendnetbufferlists and nf-ndis-ndisreturnnetbufferlists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ndisbus.ddi.enums import NDIS_RECEIVE_FLAGS_RESOURCES
from ndisbus.ddi.status import NdisStatus, status_symbol
from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.lists.nbl_chain import NblChain

if TYPE_CHECKING:
    from hoststack.chimney.adapter import Binding
    from ndisbus.driver.base import ProtocolDriver

__all__ = ["MAX_BATCH", "MAX_SENDS", "ROOM", "FramePath"]

#: Most frames of one call.
MAX_BATCH: Final = 256
#: Most frames that may be on their way: the length of the interface's queue.
MAX_SENDS: Final = 16384
#: Frames on their way when senders that can wait are asked to: enough to keep the layers below busy.
ROOM: Final = 256


class FramePath:
    """Send and receive Ethernet frames for ``driver``; ``violation(rule, text)`` reports a broken rule.

    Without ``on_frames`` received frames are only counted.
    """

    __slots__ = ("_driver", "_violation", "dropped", "failed", "on_frames", "received", "sends", "sent")

    def __init__(self, driver: ProtocolDriver, violation: Callable[[str, str], None]) -> None:
        self._driver = driver
        self._violation = violation
        #: Called with the frames of each indication.
        self.on_frames: Callable[[list[bytes]], None] | None = None
        #: Addresses of the net buffer lists in the hands of the driver below.
        self.sends: dict[int, None] = {}
        #: Frames that were sent successfully.
        self.sent = 0
        self.received = 0
        #: Frames that never went down: without a binding, or with a full queue.
        self.dropped = 0
        #: Sends that were completed without success, by the symbol of the status.
        self.failed: Counter[str] = Counter()

    def takes(self, binding: Binding | None) -> bool:
        """Return whether a sender need not wait for completions. Without a binding, frames are dropped."""
        return len(self.sends) < ROOM or binding is None or binding.unbinding

    def transmit(self, binding: Binding | None, frames: list[bytes]) -> int:
        """Send whole Ethernet frames; returns how many went down.

        The others are dropped and counted, as on any interface that is down or has a full queue. Raises
        :class:`LocalProtocolError` for an empty frame.
        """
        if not all(frames):
            raise LocalProtocolError("a frame is empty: it must begin with an Ethernet header")
        room = MAX_SENDS - len(self.sends) if binding is not None and not binding.unbinding else 0
        if len(frames) > room:
            self.dropped += len(frames) - max(room, 0)
            frames = frames[: max(room, 0)]
        if binding is None:
            return 0
        ndis = self._driver.ndis
        for at in range(0, len(frames), MAX_BATCH):
            chain = NblChain.of_frames(ndis.heap, frames[at : at + MAX_BATCH], source_handle=binding.handle)
            self.sends.update(dict.fromkeys(chain.addresses))
            ndis.send_net_buffer_lists(binding.handle, chain, 0, 0)
        return len(frames)

    def completed(self, chain: NblChain) -> None:
        """ProtocolSendNetBufferListsComplete: each list must be outstanding."""
        sends = self.sends
        for address in chain.addresses:
            if address in sends:
                del sends[address]
            else:
                self._violation("", f"the send of {address:#x} was completed, but it is not outstanding")
        statuses = chain.statuses or [int(NdisStatus.SUCCESS)] * len(chain)
        good = statuses.count(NdisStatus.SUCCESS)
        self.sent += good
        if good < len(statuses):
            self.failed.update(status_symbol(s) for s in statuses if s != NdisStatus.SUCCESS)

    def drops(self) -> dict[str, int]:
        """Frames that were dropped, by reason, for ``netstat -s``."""
        found = {"ordinary path: no adapter, or its queue was full": self.dropped} if self.dropped else {}
        return found | {f"ordinary path: {reason}": count for reason, count in self.failed.items()}

    def unbound(self) -> None:
        """The binding is gone. NDIS has completed every send, except where an injected fault prevents it."""
        if self.sends:
            self.failed["not completed"] += len(self.sends)
            self.sends.clear()

    def indicated(self, protocol_binding_context: int, chain: NblChain, receive_flags: int) -> None:
        """ProtocolReceiveNetBufferLists: copy the frames, return the lists, hand the frames on."""
        self.received += len(chain)
        try:
            frames = chain.frames() if self.on_frames is not None else []
        except DecodeError as e:
            self._violation("", f"an indication of frames cannot be decoded: {e}")
            frames = []
        if not receive_flags & NDIS_RECEIVE_FLAGS_RESOURCES:
            self._driver.return_packets(protocol_binding_context, chain)
        if frames and self.on_frames is not None:
            self.on_frames(frames)
