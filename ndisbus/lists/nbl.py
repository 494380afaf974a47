"""NET_BUFFER_LIST, NET_BUFFER and MDL as objects (:mod:`ndisbus.lists.nbl_objects`) and on the wire
(:mod:`ndisbus.lists.nbl_wire`). Import them from here."""

from __future__ import annotations

from ndisbus.lists.nbl_objects import (
    MAX_CHAIN,
    Data,
    Mdl,
    NetBuffer,
    NetBufferList,
    advance,
    chain,
    data_of,
    iter_chain,
    iter_mdls,
    iter_net_buffers,
    locate,
    locate_in_chain,
    make_net_buffer_list,
    sequence_offset,
)
from ndisbus.lists.nbl_wire import chain_from_wire, chain_to_wire

__all__ = [
    "MAX_CHAIN",
    "Data",
    "Mdl",
    "NetBuffer",
    "NetBufferList",
    "advance",
    "chain",
    "chain_from_wire",
    "chain_to_wire",
    "data_of",
    "iter_chain",
    "iter_mdls",
    "iter_net_buffers",
    "locate",
    "locate_in_chain",
    "make_net_buffer_list",
    "sequence_offset",
]
