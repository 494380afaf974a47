"""The ordinary data path of the adapter: frames from the host to the wire, and from the wire to the host.

DDI pages MINIPORT_SEND_NET_BUFFER_LISTS and NdisMIndicateReceiveNetBufferLists.
"""

from __future__ import annotations

from typing import Final

from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import DecodeError
from ndisbus.lists.nbl import data_of, iter_net_buffers
from ndisbus.lists.nbl_chain import NblChain
from target.hardware.adapter import Adapter

__all__ = [
    "PATIENCE",
    "fail_waiting",
    "may_send_waiting",
    "receive",
    "send",
    "send_waiting",
    "take_back",
    "waits_until",
]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
_FAILURE: Final = int(NdisStatus.FAILURE)
_INVALID_LENGTH: Final = int(NdisStatus.INVALID_LENGTH)
_PAUSED: Final = int(NdisStatus.PAUSED)
_RESOURCES: Final = int(NdisStatus.RESOURCES)
_RESET: Final = int(NdisStatus.RESET_IN_PROGRESS)
#: Bytes of an Ethernet header, without and with an 802.1Q tag.
_HEADER: Final = 14
_TAGGED: Final = 18
#: Most lists that wait for the wire. Further ones are completed with NDIS_STATUS_RESOURCES.
_MAX_WAITING: Final = 16384
#: The longest time in seconds that lists wait. NDIS takes a driver that holds lists for 10 s for dead, so a
#: station that takes frames slowly must not delay them for as long. Frames then leave in any case, and the
#: link drops and counts what it cannot take.
PATIENCE: Final = 4.0
#: Most frames in one indication.
_PER_INDICATION: Final = 256


def send(adapter: Adapter, chain: NblChain, flags: int = 0) -> None:
    """Send the frames of a chain and complete its lists, in order, each with its own status.

    A chain waits, uncompleted, while the wire does not take its frames: the protocol above keeps the rest. It
    waits for at most :data:`PATIENCE` seconds.

    Frames to groups are looped back to the hosts above the adapter, which do not receive each other's frames
    from the wire. The hardware does this, so the adapter would not set NDIS_MAC_OPTION_NO_LOOPBACK (DDI page
    OID_GEN_MAC_OPTIONS).
    """
    status = _refusal(adapter)
    if not status:
        contents = _contents(chain)
        if contents is None:
            adapter.refuse("net buffer lists of a send are not well formed")
            status = _FAILURE
        elif adapter.outgoing or not _takes(adapter, contents):
            if adapter.outgoing_lists + len(chain) <= _MAX_WAITING:
                adapter.outgoing.append((chain, contents, adapter.ndis.now()))
                adapter.outgoing_lists += len(chain)
                return
            adapter.refuse("send while too many wait for the wire", len(chain))
            status = _RESOURCES
        else:
            _transmit(adapter, chain, contents)
            return
    _complete(adapter, chain, [status] * len(chain))


def may_send_waiting(adapter: Adapter) -> bool:
    """Return whether the first chain that waits may be sent: the wire takes it, or it waited enough."""
    if not adapter.outgoing or adapter.hung:
        return False
    _, contents, since = adapter.outgoing[0]
    return adapter.ndis.now() >= since + PATIENCE or _takes(adapter, contents)


def waits_until(adapter: Adapter) -> float | None:
    """Return when the first chain that waits is sent at the latest; None if none waits."""
    return adapter.outgoing[0][2] + PATIENCE if adapter.outgoing and not adapter.hung else None


def send_waiting(adapter: Adapter) -> None:
    """Send chains that waited, in order, as far as they may be sent."""
    while may_send_waiting(adapter):
        _transmit(adapter, *_next(adapter))


def fail_waiting(adapter: Adapter) -> None:
    """Complete chains that waited: the adapter is halted."""
    while adapter.outgoing:
        chain, _ = _next(adapter)
        _complete(adapter, chain, [_PAUSED] * len(chain))


def _next(adapter: Adapter) -> tuple[NblChain, list[list[bytes]]]:
    chain, contents, _ = adapter.outgoing.popleft()
    adapter.outgoing_lists -= len(chain)
    return chain, contents


def _complete(adapter: Adapter, chain: NblChain, statuses: list[int]) -> None:
    chain.statuses = statuses
    adapter.ndis.m_send_net_buffer_lists_complete(adapter.handle, chain, 0)


def _takes(adapter: Adapter, contents: list[list[bytes]]) -> bool:
    """Return whether the wire takes frames for the stations of a chain."""
    link = adapter.link
    assert link is not None
    return all(map(link.takes, {frame[:6] for frames in contents for frame in frames}))


def _contents(chain: NblChain) -> list[list[bytes]] | None:
    """Return the frames of each list; None if they cannot be read."""
    try:
        if chain.packets is not None:
            return [[frame] for frame in chain.packets.frames()]
        return [[data_of(nb) for nb in iter_net_buffers(nbl)] for nbl in chain.lists()]
    except DecodeError:
        return None


def _refusal(adapter: Adapter) -> int:
    """Return the status of all lists if nothing can be sent now, else 0."""
    if adapter.halting is not None:
        return _PAUSED
    if adapter.hung:
        return _RESET  # the hardware hangs, and MiniportResetEx will follow
    if adapter.link is None:
        adapter.refuse("send without a wire")
        return _FAILURE
    return _SUCCESS


def _transmit(adapter: Adapter, chain: NblChain, contents: list[list[bytes]]) -> None:
    """Send the frames of each list and complete the lists."""
    longest = adapter.config.mtu + _TAGGED
    link, now = adapter.link, adapter.ndis.now()
    assert link is not None
    to_groups: list[bytes] = []
    statuses = []
    for frames in contents:
        if any(not _HEADER <= len(frame) <= longest for frame in frames):
            adapter.refuse("send of a frame that is too long or too short")
            statuses.append(_INVALID_LENGTH)
            continue
        for frame in frames:
            link.send(frame, now)
            if frame[0] & 1:
                to_groups.append(frame)
        statuses.append(_SUCCESS)
    _complete(adapter, chain, statuses)
    if to_groups:
        receive(adapter, to_groups)


def receive(adapter: Adapter, frames: list[bytes]) -> None:
    """Indicate frames for the host in one call, in lists of the receive pool.

    Frames that are too short, and frames for which the pool has no list, are dropped and counted.
    """
    if adapter.halting is not None:
        return
    whole = [frame for frame in frames if len(frame) >= _HEADER]
    if len(whole) < len(frames):
        adapter.refuse("frame received that is too short", len(frames) - len(whole))
        frames = whole
    room = adapter.config.receive_buffers - len(adapter.receive_pool)
    if len(frames) > room:
        adapter.refuse("frame received without a buffer", len(frames) - max(room, 0))
        frames = frames[: max(room, 0)]
    for at in range(0, len(frames), _PER_INDICATION):
        chain = adapter.receive_pool.lend_frames(frames[at : at + _PER_INDICATION])
        chain.source_handle = adapter.handle
        adapter.ndis.m_indicate_receive_net_buffer_lists(adapter.handle, chain, 0, len(chain), 0)


def take_back(adapter: Adapter, chain: NblChain) -> None:
    """Take back lists that were indicated."""
    for address in chain.addresses:
        if not adapter.receive_pool.take_back(address):
            adapter.refuse("return of a list that was not indicated")
