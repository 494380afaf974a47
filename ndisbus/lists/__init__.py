"""Lists that travel between drivers: offload block lists and net buffer lists, and their addresses.

The folder owns their form in memory and on the wire, and the checks when they arrive. It must not know calls,
bindings or drivers. NDIS (``core/``) and a driver's port (``driver/``) know which list belongs to which
request.

Files in reading order:

- ``heap``: addresses that stand for pointers.
- Block lists: ``blocklist`` (both forms, held as columns), ``validate`` (the checks).
- Net buffer lists: ``nbl_objects`` (NET_BUFFER_LIST, NET_BUFFER and MDL), ``nbl_wire`` (chains on the wire),
  ``nbl`` (exports both), ``nbl_chain`` (chains in transit, as NDIS sees them), ``frame_lists`` (many short
  lists with one frame each).
"""
