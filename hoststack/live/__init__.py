"""A host on the network: the chimney driver and the network stack, joined on one adapter.

Owns: which connections are served by the stack and which are below, what applications do with the latter, and
what the stack learned that must be passed down. Must not know: processes, sockets of the operating system,
clocks, or how results are shown. It stands above :mod:`hoststack.chimney` and :mod:`hoststack.net`, and is
the only folder that knows both.

Only ``nethost`` knows the other files; each of these takes the driver and the stack as its arguments.

Reading order:

- ``nethost``: the host, its methods for callers, and how driver and stack are connected
- ``addresses``: the addresses that the host asks for, and whether it has them
- ``offloaded_sockets``: sockets whose connection is below: down, up, and everything in between
- ``pending_updates``: cached state that changed while it was offloaded, and must be passed down
- ``reachability``: what follows after a NeighborReachabilityQuery for a stale neighbor
- ``statistics``: the host's counters and those of the target, added
- ``netstat``: the rows of ``hoststack netstat``
"""
