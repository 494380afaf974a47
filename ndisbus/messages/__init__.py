"""Messages: what travels between a client and the bus, as bytes and as values.

The folder owns the form of packets and messages, their limits, and the form of trace events. It must not know
what a call does, and must not know sockets: it is sans-I/O. docs/protocol.md is the normative text.

Files in reading order:

- ``codec``: turns a packet's first frame into messages and back. Only here do bytes become an error.
- ``parts``: a long block list in several messages, and joined again.
- ``packet``: how many messages go into one packet.
- ``trace_events``: the form of a trace event, and which events are wanted.
"""
