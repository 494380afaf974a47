"""This machine's own TCP connections, read from the kernel and turned into state to offload.

Owns: what psutil, netlink and socket options tell about connections, interfaces, routes and neighbors, and
how it becomes the three classes of offload state. Must not know: hosts, drivers, the bus. Linux tells most.
Where a system tells less, defaults are used, and notes say which.

Files in reading order:

- objects: the entry point: neighbors, paths and connections for a scenario
- loopback: real TCP connections with both ends in this process
- facts: records of what was read, and the tree that they form
- inventory: reads everything into one record
- tcp_info, kernel, machine: what the socket, netlink and the system tell
- facts_to_state: from a record to const, cached and delegated state
"""
