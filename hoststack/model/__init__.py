"""What a host knows: neighbors, paths and connections, what happens to them, and what was asked for them.

Owns: the state objects with their offload state structures, the tables of their lives and moves, operations
and events.
Must not know: how an operation is carried out, and the network. It imports nothing else of hoststack.

Reading order:

- ``objects``: Neighbor, Path and Tcb, each with its three state structures
- ``life``: the states of an object, and what may happen in each, as a table
- ``move``: who owns which byte at each step of an offload or upload, as a table
- ``operation``: a request for objects, from the call to the last completion
- ``events``: the records of everything else that happens
- ``rss``: the hash of receive side scaling
- ``synthetic``: objects of connections that never had a wire, for scenarios and tests
"""
