"""NDIS itself: the call table, the wire, the bus, the runtime that hosts a driver, and supervision.

:mod:`ndisbus.drivers` has everything for people who write a driver. Folders and files from the top; each
imports only what stands below it:

- cli: the command line of the bus; bench: our chain beside its alternatives
- drivers: the names for people who write a driver
- runtime: processes, sockets, signals, clocks; sim: the same on virtual time
- core: NDIS, sans-I/O; driver: a driver's side of NDIS, sans-I/O
- tcp: the TCP machine; wire: links that carry frames
- net: headers of packets
- messages: what travels on the bus; lists: block lists and net buffer lists; state: offload state structures
- ddi: the call table, structures and numbers of the interface
- hop, life, timer_queue: a hop of the simulation, tables of lives, and a queue of timers
- rundir, errors, randomness: the runtime directory, the family of errors, seeded random numbers
"""

from __future__ import annotations

__all__ = ["__version__"]

#: Equal to ``project.version`` in pyproject.toml; a test compares the two.
__version__ = "0.2.0"
