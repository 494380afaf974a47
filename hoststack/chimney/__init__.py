"""The host as a protocol driver of NDIS: what it asks of the driver below, and what comes back.

Owns: the binding to one adapter and its chimney, the NDIS_OFFLOAD_HANDLEs, every list in the hands of the
driver below, and the ordinary path for frames. Must not know: the network stack (:mod:`hoststack.net`),
which stands beside it, and the live host that joins the two.

No I/O, clock or randomness. No file imports another in a circle: a conversation takes the
:class:`~hoststack.chimney.engine.Engine` as its argument, and only ``driver`` knows all conversations.

Reading order:

- ``driver``: the handlers that NDIS calls and the methods for callers; each leads to one of the files below
- ``engine``: what all conversations share: operations, handles, events, and waiting
- ``adapter``, ``binding``: the records of binding and chimney; binding, unbinding, and losing the adapter
- ``switch``, ``power``: opening and closing the chimney by OIDs; sleep and wake
- ``trees``: writing offload state trees as block lists
- ``initiate``, ``query``, ``update``, ``invalidate``, ``terminate``: the five state operations, one file each
- ``failover``: the sequence of operations that moves paths to another neighbor
- ``upload``: uploads that the driver below asks for or causes
- ``data``, ``send_data``: data on offloaded connections; data that moves with a connection
- ``reachability``: the answer to NeighborReachabilityQuery
- ``frame_path``: Ethernet frames beside the chimney
- ``event_channel``: how events leave the driver
"""
