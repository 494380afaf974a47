"""Data of offloaded connections, in both directions, and frames of the host beside them.

Must not know how objects are offloaded, changed or given back; the operations call in here.

Read in this order: ``frames`` (the ordinary path), ``completion`` (ends of requests), ``remote_end`` (FIN and
RST), ``sending``, ``delivery`` (received data into posted receive requests, or indicated),
``upload_heuristics``, ``flow`` (the TCP machine of one connection and what follows from its events),
``machines`` (which connections have a flow, and when it runs), ``requests`` (the host's I/O requests, the way
down).
"""
