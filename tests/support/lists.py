"""Parts of net buffer lists that a test knows to be there."""

from __future__ import annotations

from ndisbus.lists.nbl import NetBuffer, NetBufferList


def first_of(nbl: NetBufferList) -> NetBuffer:
    """The first NET_BUFFER of a list that has one."""
    nb = nbl.first_net_buffer
    assert nb is not None
    return nb
