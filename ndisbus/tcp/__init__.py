"""TCP, sans-I/O, directly on the three offload state structures: one machine for host and target.

Owns what a connection does: which segments leave, what arriving ones change, when timers expire, what the
owner is told. Must not know sockets, listeners, demultiplexing, frames, requests of the offload interface, or
the clock of the process: segments and clock readings come in as arguments. All TCP state is in the three
structures, the buffers, the out-of-order data, and the parts below.

Files in reading order:

- owner: the loop around a machine. machine: all its methods. connection: what a connection consists of.
- The parts, each with its invariants beside its fields: timer (retransmission, persist, FIN_WAIT_2, two MSL),
  rtt (round trip and RTO), recovery (what is lost), ack_clock (delayed ACKs), keepalive, timestamps,
  challenge_limit.
- Conversations, functions on a connection: open and handshake; verdict (the checks of RFC 9293 3.10.7.4, in
  its order; it only reads), arrival, acks, text; output, windows; expiry (what an expired timer does, and
  when it gives up); challenge (RST and SYN against a connection), ending; update, handover.
- Modules without a connection: states, settings, events, sequence, buffers, reassembly, congestion, sack.
  statistics has the counters that host and target both keep. options derives values from the options of a
  connection.
"""

from __future__ import annotations
