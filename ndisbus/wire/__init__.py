"""The wire: links that carry Ethernet frames, and what can be wrapped around them.

Owns how frames get from one station to another, and what may happen to them on the way. Must not know the
contents of a frame, except to print them (tracing). Must not know TCP machines, drivers or the bus. The time
is always an argument, and nothing here blocks.

Files in reading order:

- link: the interface of every link, the base of wrappers, a link that is not plugged in.
- waiting: senders that wait until a link takes frames.
- Media: memory (for the simulation), cable_station and cable (processes of one machine), tap (the kernel's
  own network stack).
- Wrappers: impair (loss, delay and the like), capture (a pcapng file), tracing (one line for each frame).
- spec: a link as text. open: opens the link that a text describes, with its wrappers.
"""
