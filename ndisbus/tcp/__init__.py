"""The TCP machine, sans-I/O, on TCP_OFFLOAD_STATE_CONST, _CACHED and _DELEGATED, for both ends.

The pure parts (sequence, segment, buffers, reassembly, rtt, congestion, sack, timestamps) know no connection;
the machine puts them together. There is no other TCP state than structures, buffers and out-of-order data.
"""

from __future__ import annotations
