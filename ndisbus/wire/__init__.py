"""The wire: links that carry Ethernet frames, and what can be wrapped around them.

Owns how frames get from one station to another, and what may happen to them on the way. Must not know what is
in a frame, except to print it (tracing), and must not know TCP machines, drivers or the bus. Whatever takes
time is given it as an argument, and nothing here blocks.

Files in reading order:

- link: the interface that every link has, the base of wrappers, a link that is not plugged in.
- Media: memory (for the simulation), cable (processes of one machine), tap (the kernel's own network stack).
- Wrappers: impair (loss, delay and the like), capture (a pcapng file), tracing (a line for each frame).
- spec: a link as text. open: the link that a text names, with its wrappers.
"""
