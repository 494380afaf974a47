"""A remote host: the program at the other end of the wire (``hoststack peer``).

Owns: the services that it offers, and how they are joined to connections of a network stack. Must not know:
the bus and the chimney; it has links of its own and offloads nothing.

Files in reading order:

- services: what is served (echo, discard, chargen, HTTP, checked messages), bytes in and bytes out
- serving: a service on a connection of the stack
- peer: the stack on its links, with sockets and signals
"""
