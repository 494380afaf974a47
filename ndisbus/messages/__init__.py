"""Messages: what travels between a client and the bus, as bytes and as values.

The folder owns the form of packets and messages, their limits, and the form of trace events. It must not know
what a call does, nor of sockets: it is sans-I/O. docs/protocol.md is the normative text.

Files in reading order:

- ``codec``: a packet's first frame to messages and back; bytes become an error only here.
- ``packet``: how many messages go into one packet.
- ``trace_events``: what a trace event is, and which are wanted.
"""
